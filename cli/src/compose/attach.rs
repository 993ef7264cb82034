//! `up` in the foreground: starts the services and shows what the containers say, until they have ended or a person has
//! had enough.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::SigSet;
use nix::sys::signal::Signal;
use runtime::Engine;

use super::composition::Composition;
use super::members::Member;
use super::order;
use super::view::View;
use crate::command_error::CommandError;
use crate::output::outln;

/// The exit code of what a person has interrupted.
const INTERRUPTED: u8 = 130;

/// How often a container is asked whether it runs by now.
const PAUSE: Duration = Duration::from_millis(20);

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
    Started(Result<(), CommandError>),
    Exited(Box<Member>, i32),
    Interrupted,
    Stopped(Result<(), CommandError>),
}

/// What is known of the end.
#[derive(Debug, Default)]
struct Ending {
    is_stopping: bool,
    was_interrupted: bool,
    code: Option<u8>,
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

impl Composition<'_> {
    /// Starts the services and follows their containers; returns our exit code. All that runs is stopped by an
    /// interrupt, killed by a second one.
    pub(crate) fn run_attached(
        &self,
        services: &[String],
        shown: &[String],
        view: View,
        since: Timestamp,
        until: &Until,
    ) -> Result<u8, CommandError> {
        let mut own = self.members()?;
        own.retain(|member| services.contains(&member.service) && !member.is_one_off);
        let (sender, heard) = mpsc::channel();
        let interrupting = sender.clone();
        thread::spawn(move || {
            while interrupts().wait().is_ok() && interrupting.send(Heard::Interrupted).is_ok() {}
        });
        let is_started = Arc::new(AtomicBool::new(false));
        let view = Arc::new(view);
        for member in own.iter().filter(|member| shown.contains(&member.service)) {
            view.add(&member.short_name());
        }
        for member in &own {
            let (sender, is_started) = (sender.clone(), Arc::clone(&is_started));
            let view = shown.contains(&member.service).then(|| Arc::clone(&view));
            let (engine, member) = (self.engine.clone(), member.clone());
            thread::spawn(move || {
                wait_for_start(&engine, &member, &is_started);
                let code = match view {
                    Some(view) => view.follow(&engine, &member, since),
                    None => engine.wait_container(member.id()).ok(),
                };
                let _ = sender.send(Heard::Exited(Box::new(member), code.unwrap_or(137)));
            });
        }
        let is_wanted = &AtomicBool::new(true);
        thread::scope(|scope| {
            let starting = sender.clone();
            scope.spawn(move || {
                let started = self.start_while(services, is_wanted);
                let _ = starting.send(Heard::Started(started));
            });
            let mut ending = Ending::default();
            let mut left = own.len();
            while let Ok(heard) = heard.recv() {
                let was_stopping = ending.is_stopping;
                match heard {
                    Heard::Started(started) => {
                        is_started.store(true, Ordering::Relaxed);
                        match started {
                            Err(error) if !ending.is_stopping => return Err(error),
                            _ => {}
                        }
                    }
                    Heard::Exited(member, code) => {
                        left -= 1;
                        ending.take_exit(&member, code, until);
                    }
                    Heard::Interrupted if ending.is_stopping => {
                        for member in &own {
                            let _ = self.engine.kill_container(member.id(), "SIGKILL");
                        }
                    }
                    Heard::Interrupted => {
                        eprintln!("Gracefully Stopping... press Ctrl+C again to force");
                        (ending.is_stopping, ending.was_interrupted) = (true, true);
                        ending.code = Some(INTERRUPTED);
                    }
                    Heard::Stopped(stopped) => {
                        stopped?;
                        break;
                    }
                }
                if ending.is_stopping && !was_stopping {
                    is_wanted.store(false, Ordering::SeqCst);
                    let (own, stopping) = (&own, sender.clone());
                    let is_started = Arc::clone(&is_started);
                    scope.spawn(move || {
                        let stopped = self.stop_all(own, until.timeout);
                        // What was being started meanwhile is stopped once it runs.
                        while !is_started.load(Ordering::Relaxed) {
                            thread::sleep(PAUSE);
                        }
                        let stopped = stopped.and(self.stop_all(own, until.timeout));
                        let _ = stopping.send(Heard::Stopped(stopped));
                    });
                }
                // That all have ended may be because they could not start, which is told next.
                let has_started = is_started.load(Ordering::Relaxed);
                if left == 0 && has_started && !ending.is_stopping {
                    break;
                }
            }
            Ok(ending.code.unwrap_or(0))
        })
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

impl Ending {
    /// Takes notice of a container's end.
    fn take_exit(&mut self, member: &Member, code: i32, until: &Until) {
        outln!("{} exited with code {code}", member.short_name());
        let ends = until.first_exit || (until.first_failure && code != 0);
        let is_ours = match &until.code_from {
            Some(service) => *service == member.service,
            None => self.code.is_none() && !self.is_stopping,
        };
        if ends && is_ours && !self.was_interrupted {
            self.code = Some(u8::try_from(code).unwrap_or(1));
        }
        self.is_stopping |= ends;
    }
}

/// Waits until a container runs, or nobody will start it any more.
fn wait_for_start(engine: &Engine, member: &Member, is_started: &AtomicBool) {
    let before = member.container.state.started;
    loop {
        let is_last = is_started.load(Ordering::Relaxed);
        match engine.container(member.id()) {
            Ok(now) if !now.state.status.is_alive() && now.state.started == before && !is_last => {
                thread::sleep(PAUSE);
            }
            _ => return,
        }
    }
}
