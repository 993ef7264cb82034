//! Starting services in order, each when what it depends on is as good as it asks for.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use runtime::container::Container;
use runtime::container::HealthStatus;
use runtime::container::StartOptions;
use runtime::container::Status;

use super::composition::Composition;
use super::composition::shown;
use super::hooks;
use super::hooks::Moment;
use super::members::Member;
use super::model::Condition;
use super::order;
use crate::command_error::CommandError;

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// Whether a container's health is checked, even if nothing is known of it yet.
fn is_checked(container: &Container) -> bool {
    let test = container
        .config
        .healthcheck
        .as_ref()
        .and_then(|check| check.test.first());
    test.is_some_and(|form| form != "NONE")
}

impl Composition<'_> {
    /// Starts what does not run of the services.
    pub(crate) fn start(&self, services: &[String]) -> Result<(), CommandError> {
        self.start_while(services, &AtomicBool::new(true))
    }

    /// As [`Composition::start`], of which no more is begun once it is no longer wanted.
    pub(crate) fn start_while(
        &self,
        services: &[String],
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
            self.wait_for_dependencies(name, services)?;
            let members = self.members()?;
            let stopped: Vec<&Member> = members
                .iter()
                .filter(|it| it.service == name && !it.is_one_off)
                .filter(|it| !it.container.state.status.is_alive())
                .collect();
            order::side_by_side(&stopped, |member| match is_wanted() {
                true => self.start_one(member),
                false => Ok(()),
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
                hooks::run(self.engine, self.project, member, Moment::Started)
                    .inspect_err(|_| self.report.failed(&id, "Error"))
            }
            Err(error) => Err(self.failed(&id, &error)),
        }
    }

    /// Waits until all that a service depends on is as its conditions say.
    pub(crate) fn wait_for_dependencies(
        &self,
        name: &str,
        services: &[String],
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
                    Condition::Completed => self.wait_for_completion(member),
                    _ => self.wait_for_health(member, None),
                };
                match met {
                    Err(error) if dependency.required => return Err(error),
                    Err(_) => super::warn(format_args!(
                        "optional dependency {other:?} is not running or is unhealthy"
                    )),
                    Ok(()) => {}
                }
            }
        }
        Ok(())
    }

    /// Waits until a container is healthy.
    pub(crate) fn wait_for_health(
        &self,
        member: &Member,
        deadline: Option<Instant>,
    ) -> Result<(), CommandError> {
        let id = shown(member.name());
        let name = member.name();
        self.report.begin(&id, "Waiting");
        let failed =
            |words: String| self.failed(&id, &format_args!("dependency failed to start: {words}"));
        loop {
            let now = self
                .engine
                .container(member.id())
                .map_err(CommandError::failed)?;
            match (now.state.status, now.state.health) {
                (_, Some(HealthStatus::Healthy)) => {
                    self.report.done(&id, "Healthy");
                    return Ok(());
                }
                (_, Some(HealthStatus::Unhealthy)) => {
                    return Err(failed(format!("container {name} is unhealthy")));
                }
                (Status::Exited, _) => {
                    let code = now.state.exit_code;
                    return Err(failed(format!("container {name} exited ({code})")));
                }
                (Status::Running, None) if !is_checked(&now) => {
                    return Err(failed(format!(
                        "container {name} has no healthcheck configured"
                    )));
                }
                _ => {}
            }
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return Err(failed(format!(
                    "application not healthy after timeout: {name}"
                )));
            }
            thread::sleep(PAUSE);
        }
    }

    fn wait_for_completion(&self, member: &Member) -> Result<(), CommandError> {
        let id = shown(member.name());
        self.report.begin(&id, "Waiting");
        let code = self
            .engine
            .wait_container(member.id())
            .map_err(CommandError::failed)?;
        match code {
            0 => {
                self.report.done(&id, "Exited");
                Ok(())
            }
            code => Err(self.failed(
                &id,
                &format_args!(
                    "service {:?} didn't complete successfully: exit {code}",
                    member.service
                ),
            )),
        }
    }

    /// Waits until the containers of services run, and are healthy where health is checked.
    pub(crate) fn wait_until_up(
        &self,
        services: &[String],
        timeout: Option<u64>,
    ) -> Result<(), CommandError> {
        let deadline = timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let members = self.members()?;
        let own: Vec<&Member> = members
            .iter()
            .filter(|it| services.contains(&it.service) && !it.is_one_off)
            .collect();
        order::all_at_once(&own, |member| {
            let container = self
                .engine
                .container(member.id())
                .map_err(CommandError::failed)?;
            if is_checked(&container) {
                return self.wait_for_health(member, deadline);
            }
            match container.state.status {
                status if status.is_alive() => {
                    self.report.done(&shown(member.name()), "Healthy");
                    Ok(())
                }
                _ => Err(CommandError::failed(format_args!(
                    "container {} exited ({})",
                    member.name(),
                    container.state.exit_code
                ))),
            }
        })
    }
}
