//! Containers of services, followed as they come and go: what they say, and that they have ended.
//!
//! The engine's events tell of what is made, started and removed; a thread for each container that runs shows its log to
//! its end and tells of it then, so that a container's end is told after its last line.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use runtime::Engine;
use runtime::container::LogOptions;
use runtime::container::Status;
use runtime::events::Event;
use runtime::events::EventFilter;

use super::labels;
use super::members;
use super::members::Member;
use super::view::View;
use crate::command_error::CommandError;

/// How long a container that a person has stopped may take to run again, when none but it is left: a restart is a stop
/// and a start.
const RESTART: Duration = Duration::from_secs(1);

/// How long a container's end may take to be recorded.
const RECORD: Duration = Duration::from_secs(1);

/// What has happened to a container.
#[derive(Debug)]
pub(crate) enum Notice {
    Created(String),
    Started(String),
    /// With this exit code, to run again by itself.
    Restarting(String, i32),
    /// With this exit code, for good.
    Died(String, i32),
    Removed(String),
    /// All that it has said is shown, and it runs no longer.
    Ended(Box<Member>),
    /// There is nothing more to be seen of it.
    Left(String),
}

/// An end of a container that is to be told.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) member: Member,
    pub(crate) code: i32,
    pub(crate) is_restarting: bool,
}

/// Services, by name.
#[derive(Debug, Clone)]
pub(crate) enum Services {
    All,
    These(Vec<String>),
}

/// What is followed, and how.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) engine: Engine,
    pub(crate) project: String,
    /// Those whose containers are waited for.
    pub(crate) watched: Services,
    /// Those whose containers' output is shown.
    pub(crate) shown: Services,
    /// Only the container with this number.
    pub(crate) number: Option<u32>,
    pub(crate) view: View,
    /// How logs are shown; from when on, above all.
    pub(crate) options: LogOptions,
}

/// A container that is followed.
#[derive(Debug)]
struct Followed {
    member: Member,
    /// How many threads follow it, one after the other: all but the last are about to end.
    watchers: u32,
    /// How it has ended, as far as that is known.
    code: Option<i32>,
}

/// The state of it.
#[derive(Debug)]
pub(crate) struct Following<T> {
    plan: Arc<Plan>,
    heard: Sender<T>,
    /// The containers that are waited for.
    open: BTreeSet<String>,
    followed: BTreeMap<String, Followed>,
    /// The threads that follow one; the next one goes on where the last one has ended.
    watchers: BTreeMap<String, JoinHandle<LogOptions>>,
    /// The ends that were told, by when they were.
    told: BTreeMap<String, Option<Timestamp>>,
    /// Those that were gone before it was known how they have ended.
    lost: BTreeMap<String, Member>,
    /// Whether the last one to end may be about to run again.
    may_return: bool,
}

impl Services {
    pub(crate) fn has(&self, service: &str) -> bool {
        match self {
            Services::All => true,
            Services::These(names) => names.iter().any(|name| name == service),
        }
    }
}

impl Plan {
    fn is_followed(&self, member: &Member) -> bool {
        (self.watched.has(&member.service) || self.shown.has(&member.service))
            && !member.is_one_off
            && self.number.is_none_or(|number| number == member.number)
    }

    /// Passes on what the engine tells of the project's containers, for good.
    fn listen(&self) -> Result<impl Iterator<Item = Notice> + use<>, CommandError> {
        let mut filter = EventFilter::default();
        for one in [
            "type=container".to_owned(),
            format!("label={}={}", labels::PROJECT, self.project),
        ] {
            filter.add(&one).map_err(CommandError::failed)?;
        }
        let events = self.engine.events(None, None, filter);
        let mut events = events.map_err(CommandError::failed)?;
        let events = std::iter::from_fn(move || events.next_event().ok().flatten());
        let engine = self.engine.clone();
        Ok(events.filter_map(move |event| {
            let code = event.attributes.get("exitCode");
            let code = code.and_then(|code| code.parse().ok()).unwrap_or(137);
            Some(match event.action.as_str() {
                "create" => Notice::Created(event.id),
                "start" => Notice::Started(event.id),
                "die" if is_restarting(&engine, &event) => Notice::Restarting(event.id, code),
                "die" => Notice::Died(event.id, code),
                "destroy" => Notice::Removed(event.id),
                _ => return None,
            })
        }))
    }

    /// Returns a container of a service that is followed.
    fn member(&self, id: &str) -> Option<Member> {
        let member = Member::of(self.engine.container(id).ok()?)?;
        self.is_followed(&member).then_some(member)
    }

    /// Shows a container's log to its end, over restarts; returns how its next run's is to be shown.
    fn watch(&self, member: &Member, mut options: LogOptions) -> (LogOptions, Notice) {
        let is_shown = self.shown.has(&member.service);
        loop {
            let shown = is_shown.then(|| self.view.show_log(&self.engine, member, &options));
            match shown {
                Some(Ok(last)) => {
                    options.tail = None;
                    options.since = last.map(after).or(options.since);
                }
                // What cannot be read can still be waited for.
                Some(Err(_)) | None => drop(self.engine.wait_container(member.id())),
            }
            let is_over = options.until.is_some_and(|it| Timestamp::now() >= it);
            match self.engine.container(member.id()) {
                Ok(now) if now.state.status.is_alive() && !is_over => {}
                Ok(now) if !now.state.status.is_alive() => {
                    let mut member = member.clone();
                    member.container = now;
                    return (options, Notice::Ended(Box::new(member)));
                }
                _ => return (options, Notice::Left(member.id().to_owned())),
            }
        }
    }
}

/// Returns whether a container that has died runs again by itself, or does so already.
fn is_restarting(engine: &Engine, death: &Event) -> bool {
    let deadline = Instant::now() + RECORD;
    loop {
        let Ok(now) = engine.container(&death.id) else {
            return false;
        };
        let has_started = now.state.started.is_some_and(|it| it > death.time);
        match now.state.status {
            Status::Restarting => return true,
            Status::Running | Status::Paused if has_started => return true,
            // The end is told before it is recorded.
            Status::Running | Status::Paused if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(2));
            }
            _ => return false,
        }
    }
}

/// Returns the moment after one.
fn after(time: Timestamp) -> Timestamp {
    time.checked_add(jiff::SignedDuration::from_nanos(1))
        .unwrap_or(time)
}

impl<T: From<Notice> + Send + 'static> Following<T> {
    /// Begins to follow what runs and what comes; notices go to `heard` and are to be given to [`Self::take`].
    pub(crate) fn begin(plan: Plan, heard: Sender<T>) -> Result<Following<T>, CommandError> {
        let mut following = Following {
            plan: Arc::new(plan),
            heard,
            open: BTreeSet::new(),
            followed: BTreeMap::new(),
            watchers: BTreeMap::new(),
            told: BTreeMap::new(),
            lost: BTreeMap::new(),
            may_return: false,
        };
        // Before anything is looked at, so that nothing is missed.
        let notices = following.plan.listen()?;
        let heard = following.heard.clone();
        thread::spawn(move || {
            for notice in notices {
                if heard.send(notice.into()).is_err() {
                    return;
                }
            }
        });
        let plan = Arc::clone(&following.plan);
        let mut members = members::of_project(&plan.engine, &plan.project)?;
        members.retain(|member| plan.is_followed(member));
        for member in members.iter().filter(|it| plan.shown.has(&it.service)) {
            plan.view.add(&member.short_name());
        }
        for member in members {
            match member.container.state.status.is_alive() {
                true => following.follow(member, plan.options),
                false => {
                    let finished = member.container.state.finished;
                    following.told.insert(member.id().to_owned(), finished);
                }
            }
        }
        Ok(following)
    }

    /// Waits for the containers of watched services among these, which may not run yet.
    pub(crate) fn expect(&mut self, members: &[Member]) {
        let is_watched =
            |it: &&Member| self.plan.is_followed(it) && self.plan.watched.has(&it.service);
        let watched = members.iter().filter(is_watched);
        self.open.extend(watched.map(|it| it.id().to_owned()));
    }

    /// Follows those of these that run and were not noticed, or shows the logs of those that have ended.
    pub(crate) fn add(&mut self, members: &[Member], and_past: bool) {
        for member in members {
            let is_wanted = and_past || member.container.state.status.is_alive();
            let is_new = !self.watchers.contains_key(member.id());
            if is_new && is_wanted && self.plan.is_followed(member) {
                self.watch(member.clone(), self.plan.options);
            }
        }
    }

    /// Follows a container that was started.
    fn follow(&mut self, member: Member, options: LogOptions) {
        if self.plan.watched.has(&member.service) {
            self.open.insert(member.id().to_owned());
        }
        if self.plan.shown.has(&member.service) {
            self.plan.view.add(&member.short_name());
        }
        self.may_return = false;
        self.watch(member, options);
    }

    fn watch(&mut self, member: Member, options: LogOptions) {
        let id = member.id().to_owned();
        let followed = self.followed.entry(id.clone()).or_insert(Followed {
            member: member.clone(),
            watchers: 0,
            code: None,
        });
        followed.watchers += 1;
        let earlier = self.watchers.remove(&id);
        let (plan, heard) = (Arc::clone(&self.plan), self.heard.clone());
        let watcher = thread::spawn(move || {
            let earlier = earlier.and_then(|earlier| earlier.join().ok());
            let (options, notice) = plan.watch(&member, earlier.unwrap_or(options));
            let _ = heard.send(notice.into());
            options
        });
        self.watchers.insert(id, watcher);
    }

    /// Takes notice of something; returns an end that is to be told.
    pub(crate) fn take(&mut self, notice: Notice) -> Option<Exit> {
        match notice {
            Notice::Created(id) => {
                let member = self.plan.member(&id)?;
                self.expect(std::slice::from_ref(&member));
            }
            Notice::Started(id) => {
                let member = self.plan.member(&id)?;
                let options = LogOptions {
                    tail: None,
                    ..self.plan.options
                };
                self.follow(member, options);
            }
            Notice::Restarting(id, code) => {
                return Some(Exit {
                    member: self.plan.member(&id)?,
                    code,
                    is_restarting: true,
                });
            }
            Notice::Died(id, code) => {
                // The end of the log tells of it, unless it has come to one with the container.
                let Some(followed) = self.followed.get_mut(&id) else {
                    return self.lost.remove(&id).map(|member| Exit {
                        member,
                        code,
                        is_restarting: false,
                    });
                };
                followed.code = Some(code);
            }
            Notice::Removed(id) if !self.followed.contains_key(&id) => {
                self.open.remove(&id);
            }
            Notice::Removed(_) => {}
            Notice::Left(id) => {
                let Followed { member, code, .. } = self.leave(&id)?;
                let Some(code) = code else {
                    self.lost.insert(id, member);
                    return None;
                };
                return Some(Exit {
                    member,
                    code,
                    is_restarting: false,
                });
            }
            Notice::Ended(member) => {
                let state = &member.container.state;
                self.may_return = state.stopped;
                self.leave(member.id());
                let told = self.told.insert(member.id().to_owned(), state.finished);
                return (told != Some(state.finished)).then_some(Exit {
                    code: state.exit_code,
                    member: *member,
                    is_restarting: false,
                });
            }
        }
        None
    }

    /// Tells of an end.
    pub(crate) fn tell(&self, exit: &Exit) {
        let restarting = if exit.is_restarting {
            " (restarting)"
        } else {
            ""
        };
        let words = format!("exited with code {}{restarting}", exit.code);
        self.plan.view.tell(&exit.member.short_name(), &words);
    }

    /// Whether an end is one of a watched service's containers.
    pub(crate) fn is_watched(&self, exit: &Exit) -> bool {
        self.plan.watched.has(&exit.member.service)
    }

    /// Forgets a container that no thread follows any more.
    fn leave(&mut self, id: &str) -> Option<Followed> {
        let followed = self.followed.get_mut(id)?;
        followed.watchers -= 1;
        if followed.watchers > 0 {
            return None;
        }
        self.open.remove(id);
        self.followed.remove(id)
    }

    /// Returns how long something may still come when nothing is waited for, else `None`.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let mut followed = self.followed.values();
        let is_watched = |it: &Followed| self.plan.watched.has(&it.member.service);
        let is_over = self.open.is_empty() && !followed.any(is_watched);
        is_over.then_some(match self.may_return {
            true => RESTART,
            false => Duration::ZERO,
        })
    }

    /// Returns whether a container of one of these services runs.
    pub(crate) fn has_running(&self, services: &[String]) -> bool {
        let mut followed = self.followed.values();
        followed.any(|it| services.contains(&it.member.service))
    }
}
