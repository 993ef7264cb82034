//! `up` in the foreground: starts the services and shows what the containers say, until they have ended or a person has
//! had enough.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use nix::sys::signal::SigSet;
use nix::sys::signal::Signal;

use super::composition::Composition;
use super::follow::Exit;
use super::follow::Following;
use super::follow::Notice;
use super::follow::Plan;
use super::members::Member;
use super::model::Condition;
use super::model::Service;
use super::order;
use super::start::PAUSE;
use crate::command_error::CommandError;

/// The exit code of what a person has interrupted.
const INTERRUPTED: u8 = 130;

/// The exit codes of what was stopped.
const STOPPED: [i32; 2] = [137, 143];

/// How long the last words of what was stopped may take to be shown.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// When the foreground ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Until {
    /// With the first container that ends.
    pub(crate) first_exit: bool,
    /// With the first container that fails.
    pub(crate) first_failure: bool,
    /// The service whose exit code is ours.
    pub(crate) code_from: Option<String>,
    /// Seconds to wait for a container to stop.
    pub(crate) timeout: Option<i64>,
}

#[derive(Debug)]
enum Heard {
    Noticed(Notice),
    Started(Result<(), CommandError>),
    Interrupted,
    Stopped(Result<(), CommandError>),
}

impl From<Notice> for Heard {
    fn from(notice: Notice) -> Heard {
        Heard::Noticed(notice)
    }
}

/// What is known of the end.
#[derive(Debug, Default)]
struct Ending {
    /// Whether all that was to be started is.
    has_started: bool,
    /// The services of which something was started.
    begun: BTreeSet<String>,
    is_stopping: bool,
    was_interrupted: bool,
    /// The code of the container that has ended all.
    first: Option<i32>,
    /// The code of the service that is asked for.
    of_service: Option<i32>,
    /// Why the services did not start.
    failure: Option<CommandError>,
}

/// Keeps interrupts for [`Composition::run_attached`].
pub(crate) fn hold_interrupts() {
    let _ = interrupts().thread_block();
}

fn interrupts() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    set
}

/// An `up` in the foreground.
struct Foreground<'a> {
    composition: &'a Composition<'a>,
    services: &'a [String],
    /// Those that are stopped in the end.
    asked_for: &'a [String],
    until: &'a Until,
    since: Option<Timestamp>,
    /// The containers of all these services.
    own: Vec<Member>,
    following: Following<Heard>,
    heard: Receiver<Heard>,
    ending: Ending,
}

impl Composition<'_> {
    /// Starts the services and follows their containers; returns our exit code. The services that were asked for are
    /// stopped by an interrupt, killed by a second one.
    pub(crate) fn run_attached(
        &self,
        services: &[String],
        asked_for: &[String],
        plan: Plan,
        until: &Until,
    ) -> Result<u8, CommandError> {
        self.report.go_on_in_lines();
        let (sender, heard) = mpsc::channel();
        let interrupting = sender.clone();
        thread::spawn(move || {
            while interrupts().wait().is_ok() && interrupting.send(Heard::Interrupted).is_ok() {}
        });
        let mut foreground = Foreground {
            composition: self,
            services,
            asked_for,
            until,
            since: plan.options.since,
            own: self.members_of(services)?,
            following: Following::begin(plan, sender.clone())?,
            heard,
            ending: Ending::default(),
        };
        foreground.following.expect(&foreground.own);
        let (is_wanted, is_started) = (&AtomicBool::new(true), &AtomicBool::new(false));
        thread::scope(|scope| {
            let starting = sender.clone();
            scope.spawn(move || {
                let started = self.start_while(services, None, is_wanted);
                is_started.store(true, Ordering::SeqCst);
                let _ = starting.send(Heard::Started(started));
            });
            let mut is_stopping = false;
            while let Some(heard) = foreground.next() {
                if let Heard::Stopped(stopped) = heard {
                    stopped?;
                    break;
                }
                foreground.take(heard)?;
                if foreground.ending.is_stopping && !is_stopping {
                    is_stopping = true;
                    is_wanted.store(false, Ordering::SeqCst);
                    let stopping = sender.clone();
                    scope.spawn(move || {
                        let stop = || self.stop_all(&self.members_of(asked_for)?, until.timeout);
                        let stopped = stop();
                        // What was being started meanwhile is stopped once it runs.
                        while !is_started.load(Ordering::SeqCst) {
                            thread::sleep(PAUSE);
                        }
                        let _ = stopping.send(Heard::Stopped(stopped.and(stop())));
                    });
                }
            }
            foreground.hear_last_words();
            foreground.code()
        })
    }

    /// Returns the containers that serve of some services.
    fn members_of(&self, services: &[String]) -> Result<Vec<Member>, CommandError> {
        let mut members = self.members()?;
        members.retain(|member| services.contains(&member.service) && !member.is_one_off);
        Ok(members)
    }

    /// Stops containers, those that need others first.
    pub(crate) fn stop_all(
        &self,
        own: &[Member],
        timeout: Option<i64>,
    ) -> Result<(), CommandError> {
        let services: Vec<String> = self.project.services.keys().cloned().collect();
        order::in_order(&order::reversed(&self.needs(&services)), |name| {
            let members: Vec<&Member> = own.iter().filter(|it| it.service == name).collect();
            order::side_by_side(&members, |member| {
                match self.engine.container(member.id()) {
                    Ok(container) if container.state.status.is_alive() => {
                        let member = Member {
                            container,
                            ..(*member).clone()
                        };
                        self.stop(&member, timeout)
                    }
                    _ => Ok(()),
                }
            })
        })
    }
}

impl Foreground<'_> {
    /// Waits for what comes next; `None` when there is nothing left to wait for.
    fn next(&self) -> Option<Heard> {
        // That all have ended may be because they could not start, which is told next.
        let is_settled = self.ending.has_started && !self.ending.is_stopping;
        match self.following.patience().filter(|_| is_settled) {
            Some(patience) => self.heard.recv_timeout(patience).ok(),
            None => self.heard.recv().ok(),
        }
    }

    fn take(&mut self, heard: Heard) -> Result<(), CommandError> {
        match heard {
            Heard::Noticed(notice) => self.take_notice(notice),
            Heard::Started(Ok(())) if !self.ending.is_stopping => {
                (self.ending.has_started, self.ending.failure) = (true, None);
                let own = self.composition.members_of(self.services)?;
                self.following.add(&own, false);
            }
            Heard::Started(Ok(())) | Heard::Stopped(_) => {}
            Heard::Started(Err(error)) if !self.ending.is_stopping => return Err(error),
            Heard::Started(Err(error)) => {
                self.ending.failure.get_or_insert(error);
            }
            Heard::Interrupted if self.ending.is_stopping => {
                for member in self.composition.members_of(self.asked_for)? {
                    let engine = self.composition.engine;
                    let _ = engine.kill_container(member.id(), "SIGKILL");
                }
            }
            Heard::Interrupted => {
                eprintln!("Gracefully Stopping... press Ctrl+C again to force");
                (self.ending.is_stopping, self.ending.was_interrupted) = (true, true);
            }
        }
        Ok(())
    }

    fn take_notice(&mut self, notice: Notice) {
        if let Notice::Started(id) = &notice {
            let started = self.own.iter().find(|member| member.id() == id);
            let started = started.map(|member| member.service.clone());
            self.ending.begun.extend(started);
        }
        if let Some(exit) = self.following.take(notice) {
            self.following.tell(&exit);
            let failure = self.failure_by(&exit);
            self.ending.failure = self.ending.failure.take().or(failure);
            let ends_others = self.following.is_watched(&exit) && !self.is_step(&exit);
            self.ending.take_exit(&exit, ends_others, self.until);
        }
    }

    /// Shows what the containers that were stopped have said last.
    fn hear_last_words(&mut self) {
        let deadline = Instant::now() + LAST_WORDS;
        while self.ending.is_stopping {
            let patience = match self.following.has_running(self.asked_for) {
                true => deadline.saturating_duration_since(Instant::now()),
                false => PAUSE,
            };
            match self.heard.recv_timeout(patience) {
                Ok(Heard::Noticed(notice)) => self.take_notice(notice),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// Returns our exit code, or why the services did not start.
    fn code(self) -> Result<u8, CommandError> {
        let ending = &self.ending;
        let of_service = match &self.until.code_from {
            Some(service) if ending.is_stopping => {
                let members = self.composition.members_of(std::slice::from_ref(service))?;
                let mut states = members.iter().map(|member| &member.container.state);
                let ended = states.find(|it| !it.status.is_alive() && it.started >= self.since);
                ended.map(|state| state.exit_code)
            }
            _ => None,
        };
        if ending.was_interrupted {
            return Ok(INTERRUPTED);
        }
        let code = ending.of_service.or(of_service).or(ending.first);
        match self.ending.failure {
            Some(error) => Err(error),
            None => Ok(u8::try_from(code.unwrap_or(0)).unwrap_or(1)),
        }
    }

    /// Returns why a container's end keeps others from being started, if it does.
    fn failure_by(&self, exit: &Exit) -> Option<CommandError> {
        if self.ending.has_started {
            return None;
        }
        let own = &exit.member.service;
        let waiting = self.services.iter();
        let waiting = waiting.filter(|name| !self.ending.begun.contains(*name));
        let mut conditions = waiting
            .filter_map(|name| self.service(name)?.depends_on.get(own))
            .filter(|needed| needed.required)
            .map(|needed| needed.condition);
        conditions.find_map(|condition| match condition {
            Condition::Completed if exit.code != 0 => Some(not_completed(own, exit.code)),
            // What we have stopped has not failed.
            Condition::Healthy if self.ending.is_stopping && STOPPED.contains(&exit.code) => None,
            Condition::Healthy => Some(CommandError::failed(format_args!(
                "dependency failed to start: container {} exited ({})",
                exit.member.name(),
                exit.code
            ))),
            _ => None,
        })
    }

    /// Whether others go on now that a service has completed.
    fn is_step(&self, exit: &Exit) -> bool {
        let mut others = self.services.iter().filter_map(|name| self.service(name));
        let is_completed = |other: &Service| {
            let needed = other.depends_on.get(&exit.member.service);
            needed.is_some_and(|needed| needed.condition == Condition::Completed)
        };
        exit.code == 0 && others.any(is_completed)
    }

    fn service(&self, name: &str) -> Option<&Service> {
        self.composition.project.services.get(name)
    }
}

/// Returns the error of a service that was to complete and has failed.
pub(super) fn not_completed(service: &str, code: i32) -> CommandError {
    CommandError::failed(format_args!(
        "service {service:?} didn't complete successfully: exit {code}"
    ))
}

impl Ending {
    /// Takes notice of a container's end, which may end the others.
    fn take_exit(&mut self, exit: &Exit, ends_others: bool, until: &Until) {
        let is_asked_for = until.code_from.as_ref() == Some(&exit.member.service);
        if is_asked_for {
            self.of_service.get_or_insert(exit.code);
        }
        let is_last = until.first_exit || (until.first_failure && exit.code != 0);
        if is_last && (ends_others || is_asked_for) && !self.is_stopping {
            self.first = Some(exit.code);
            self.is_stopping = true;
            eprintln!("Aborting on container exit...");
        }
    }
}
