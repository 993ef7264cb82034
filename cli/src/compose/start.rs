//! Starting services in order, each when what it depends on is as good as it asks for.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use jiff::SignedDuration;
use jiff::Timestamp;
use runtime::container::Container;
use runtime::container::HealthStatus;
use runtime::container::StartOptions;
use runtime::container::Status;

use super::attach::not_completed;
use super::composition::Composition;
use super::composition::shown;
use super::hooks;
use super::hooks::Moment;
use super::members::Member;
use super::model::Condition;
use super::order;
use super::shape::go_duration;
use crate::command_error::CommandError;

/// How long a container is to have run before it counts as one that does, as Compose looks at it.
const MOMENT: SignedDuration = SignedDuration::from_millis(500);

/// How often a condition is looked at.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// Whether a container's health is checked, even if nothing is known of it yet.
fn is_checked(container: &Container) -> bool {
    let test = container
        .config
        .healthcheck
        .as_ref()
        .and_then(|check| check.test.first());
    test.is_some_and(|form| form != "NONE")
}

/// Returns when a wait of so many seconds is over.
fn deadline(timeout: Option<u64>) -> Option<Instant> {
    let seconds = timeout.filter(|seconds| *seconds > 0)?;
    Instant::now().checked_add(Duration::from_secs(seconds))
}

fn is_past(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() > deadline)
}

impl Composition<'_> {
    /// Starts what does not run of the services.
    pub(crate) fn start(&self, services: &[String]) -> Result<(), CommandError> {
        self.start_while(services, None, &AtomicBool::new(true))
    }

    /// As [`Composition::start`], where no service's dependencies are waited for longer than so many seconds, and no
    /// more is begun once it is no longer wanted: what keeps a service from being started is no failure then.
    pub(crate) fn start_while(
        &self,
        services: &[String],
        timeout: Option<u64>,
        is_wanted: &AtomicBool,
    ) -> Result<(), CommandError> {
        order::in_order(&self.needs(services), |name| {
            if self.report.is_dry_run() {
                self.pretend_start(name)?;
                return Ok(());
            }
            let is_wanted = || is_wanted.load(Ordering::SeqCst);
            if !is_wanted() {
                return Ok(());
            }
            match self.wait_for_dependencies(name, services, deadline(timeout)) {
                Err(error) if is_wanted() => return Err(error),
                _ => {}
            }
            let members = self.members()?;
            let stopped: Vec<&Member> = members
                .iter()
                .filter(|it| it.service == name && !it.is_one_off)
                .filter(|it| !it.container.state.status.is_alive())
                .collect();
            order::side_by_side(&stopped, |member| {
                if !is_wanted() {
                    return Ok(());
                }
                self.start_one(member)?;
                match self.run_hooks(member) {
                    Err(error) if is_wanted() => Err(error),
                    _ => Ok(()),
                }
            })
        })
    }

    /// Tells of what a start of a service would do.
    fn pretend_start(&self, name: &str) -> Result<(), CommandError> {
        let mut names = self.report.pretended(name);
        let members = self.members()?;
        let own = members
            .iter()
            .filter(|it| it.service == name && !it.is_one_off);
        names.extend(
            own.filter(|it| !it.container.state.status.is_alive())
                .map(|it| it.name().to_owned()),
        );
        names.sort();
        names.dedup();
        for name in names {
            let id = shown(&name);
            self.report.begin(&id, "Starting");
            self.report.done(&id, "Started");
        }
        Ok(())
    }

    fn start_one(&self, member: &Member) -> Result<(), CommandError> {
        let id = shown(member.name());
        self.report.begin(&id, "Starting");
        self.put_files(member)
            .inspect_err(|_| self.report.failed(&id, "Error"))?;
        match self
            .engine
            .start_container(member.id(), &StartOptions::default())
        {
            Ok(_) => {
                self.report.done(&id, "Started");
                Ok(())
            }
            Err(error) => Err(self.failed(&id, &error)),
        }
    }

    fn run_hooks(&self, member: &Member) -> Result<(), CommandError> {
        hooks::run(
            self.engine,
            self.project,
            member,
            Moment::Started,
            self.report,
        )
        .inspect_err(|_| self.report.failed(&shown(member.name()), "Error"))
    }

    /// Waits until all that a service depends on is as its conditions say.
    pub(crate) fn wait_for_dependencies(
        &self,
        name: &str,
        services: &[String],
        deadline: Option<Instant>,
    ) -> Result<(), CommandError> {
        let Some(service) = self.project.services.get(name) else {
            return Ok(());
        };
        for (other, dependency) in &service.depends_on {
            if dependency.condition == Condition::Started || !services.contains(other) {
                continue;
            }
            let members = self.members()?;
            let own = members
                .iter()
                .filter(|it| &it.service == other && !it.is_one_off);
            for member in own {
                let met = match dependency.condition {
                    Condition::Completed => self.wait_for_completion(member, deadline),
                    _ => self.wait_for_health(member, deadline).map_err(|error| {
                        match is_past(deadline) {
                            true => error,
                            false => CommandError::failed(format_args!(
                                "dependency failed to start: {error}"
                            )),
                        }
                    }),
                };
                match met {
                    Err(error) if dependency.required => return Err(error),
                    Err(_) => self.report.say(format_args!(
                        "WARN[0000] optional dependency {other:?} is not running or is unhealthy"
                    )),
                    Ok(()) => {}
                }
            }
        }
        Ok(())
    }

    /// Waits until a container is healthy, or runs for a moment where health is not checked.
    fn wait_for_one(&self, member: &Member, deadline: Option<Instant>) -> Result<(), CommandError> {
        let now = self.look_at(member)?;
        if is_checked(&now) {
            return self.wait_for_health(member, deadline);
        }
        let id = shown(member.name());
        self.report.begin(&id, "Waiting");
        loop {
            let now = self.look_at(member)?;
            let state = &now.state;
            if !state.status.is_alive() || state.status == Status::Restarting {
                return Err(self.failed(&id, &exited(&now)));
            }
            let age = state.started.map(|it| Timestamp::now().duration_since(it));
            let is_up = matches!(state.status, Status::Running | Status::Paused);
            if is_up && age.is_some_and(|age| age >= MOMENT) {
                self.report.done(&id, "Healthy");
                return Ok(());
            }
            self.pause(&id, deadline)?;
        }
    }

    /// Waits until a container is healthy.
    fn wait_for_health(
        &self,
        member: &Member,
        deadline: Option<Instant>,
    ) -> Result<(), CommandError> {
        let id = shown(member.name());
        let name = member.name();
        self.report.begin(&id, "Waiting");
        loop {
            let now = self.look_at(member)?;
            match (now.state.status, now.state.health) {
                (_, Some(HealthStatus::Healthy)) => {
                    self.report.done(&id, "Healthy");
                    return Ok(());
                }
                (_, Some(HealthStatus::Unhealthy)) => {
                    return Err(self.failed(&id, &format_args!("container {name} is unhealthy")));
                }
                (Status::Exited, _) => return Err(self.failed(&id, &exited(&now))),
                (Status::Running, None) if !is_checked(&now) => {
                    let words = format_args!("container {name} has no healthcheck configured");
                    return Err(self.failed(&id, &words));
                }
                _ => {}
            }
            self.pause(&id, deadline)?;
        }
    }

    fn look_at(&self, member: &Member) -> Result<Container, CommandError> {
        let container = self.engine.container(member.id());
        container.map_err(CommandError::failed)
    }

    /// Sleeps until a condition is to be looked at again.
    fn pause(&self, id: &str, deadline: Option<Instant>) -> Result<(), CommandError> {
        if is_past(deadline) {
            return Err(self.failed(id, &"timeout waiting for dependencies"));
        }
        thread::sleep(PAUSE);
        Ok(())
    }

    fn wait_for_completion(
        &self,
        member: &Member,
        deadline: Option<Instant>,
    ) -> Result<(), CommandError> {
        let id = shown(member.name());
        self.report.begin(&id, "Waiting");
        loop {
            let now = self.look_at(member)?;
            match (now.state.status.is_alive(), now.state.exit_code) {
                (true, _) => self.pause(&id, deadline)?,
                (false, 0) => {
                    self.report.done(&id, "Exited");
                    return Ok(());
                }
                (false, code) => {
                    return Err(self.failed(&id, &not_completed(&member.service, code)));
                }
            }
        }
    }

    /// Waits until the containers of services run, and are healthy where health is checked; those of services that
    /// others wait for to complete, until they have.
    pub(crate) fn wait_until_up(
        &self,
        services: &[String],
        timeout: Option<u64>,
    ) -> Result<(), CommandError> {
        let deadline = deadline(timeout);
        let members = self.members()?;
        let own: Vec<&Member> = members
            .iter()
            .filter(|it| services.contains(&it.service) && !it.is_one_off)
            .collect();
        let completes = |member: &Member| {
            let others = services
                .iter()
                .filter_map(|it| self.project.services.get(it));
            let mut needs = others.filter_map(|other| other.depends_on.get(&member.service));
            needs.any(|needed| needed.condition == Condition::Completed)
        };
        let waited = order::all_at_once(&own, |member| match completes(member) {
            true => self.wait_for_completion(member, deadline),
            false => self.wait_for_one(member, deadline),
        });
        if waited.is_err()
            && let Some(seconds) = timeout
            && is_past(deadline)
        {
            return Err(CommandError::failed(format_args!(
                "application not healthy after {}",
                go_duration(seconds * 1_000_000_000)
            )));
        }
        waited?;
        // Some have failed while others were waited for.
        for member in own {
            let now = self.look_at(member)?;
            if now.state.status == Status::Restarting
                || (!now.state.status.is_alive() && now.state.exit_code != 0)
            {
                return Err(self.failed(&shown(member.name()), &exited(&now)));
            }
        }
        Ok(())
    }
}

/// Returns how a container's end is told where it was to run.
fn exited(container: &Container) -> String {
    let code = container.state.exit_code;
    format!("container {} exited ({code})", container.name)
}
