//! A project on the engine: what there is, and what both `up` and its relatives do to it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use runtime::Engine;

use super::down::Remains;
use super::members;
use super::members::Member;
use super::order::Needs;
use super::project::Project;
use super::report::Report;
use crate::command_error::CommandError;

/// A project, the engine, and who hears of the steps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Composition<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) project: &'a Project,
    pub(crate) report: &'a Report,
}

/// When a container that is there already is made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recreate {
    /// When its configuration or image is another one.
    Diverged,
    /// Always.
    Force,
    /// Never.
    Never,
}

/// What is to be there after [`Composition::converge`].
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// The services that were asked for.
    pub(crate) recreate: Recreate,
    /// The same for those they depend on.
    pub(crate) recreate_dependencies: Recreate,
    /// The services that were named; the others are dependencies.
    pub(crate) named: Vec<String>,
    /// Numbers of containers, over what the files say.
    pub(crate) scale: BTreeMap<String, i64>,
    /// Whether containers of services that are no longer there go.
    pub(crate) remove_orphans: bool,
    /// Whether anonymous volumes start anew.
    pub(crate) renew_volumes: bool,
    /// Seconds to wait for a container to stop.
    pub(crate) timeout: Option<i64>,
}

/// Returns how a container is called in what is told of steps.
pub(crate) fn shown(name: &str) -> String {
    format!("Container {name}")
}

impl Composition<'_> {
    /// Returns what the services wait for, among themselves.
    pub(crate) fn needs(&self, services: &[String]) -> Needs {
        let chosen: BTreeSet<&String> = services.iter().collect();
        let needs = |name: &String| -> BTreeSet<String> {
            let service = self.project.services.get(name);
            let needed = service.into_iter().flat_map(|it| it.depends_on.keys());
            needed
                .filter(|other| chosen.contains(other))
                .cloned()
                .collect()
        };
        services
            .iter()
            .map(|name| (name.clone(), needs(name)))
            .collect()
    }

    /// Returns the project's containers.
    pub(crate) fn members(&self) -> Result<Vec<Member>, CommandError> {
        members::of_project(self.engine, &self.project.name)
    }

    /// Ends what an `up` that was killed has left half done: of a container and its replacement one stays.
    pub(crate) fn repair(&self) -> Result<(), CommandError> {
        if self.report.is_dry_run() {
            return Ok(());
        }
        let members = self.members()?;
        for member in &members {
            let Some(replaced) = replaced_by(member) else {
                continue;
            };
            let old = members.iter().find(|other| other.id() == replaced.id);
            let repaired = match old {
                // With the volumes that are its alone: it has never run.
                Some(_) => self.engine.remove_container(member.id(), true, true),
                None => self.engine.rename_container(member.id(), replaced.name),
            };
            repaired.map_err(CommandError::failed)?;
        }
        Ok(())
    }

    /// Removes the containers of services that the files no longer have, or tells of them.
    pub(crate) fn sort_out_orphans(&self, wish: &Wish) -> Result<(), CommandError> {
        let members = self.members()?;
        let is_known = |member: &Member| {
            self.project.services.contains_key(&member.service)
                || self.project.disabled.contains_key(&member.service)
        };
        let orphans: Vec<Member> = members
            .into_iter()
            .filter(|member| !is_known(member) && !member.is_one_off)
            .collect();
        if orphans.is_empty() {
            return Ok(());
        }
        if wish.remove_orphans {
            return super::order::side_by_side(&orphans, |orphan| {
                self.stop(orphan, wish.timeout)?;
                self.remove(orphan, false)
            });
        }
        if !self.project.environment.is_true("COMPOSE_IGNORE_ORPHANS") {
            let names: Vec<&str> = orphans.iter().map(Member::name).collect();
            super::warn(format_args!(
                "Found orphan containers ([{}]) for this project. If you removed or renamed this service in your \
                 compose file, you can run this command with the --remove-orphans flag to clean it up.",
                names.join(" ")
            ));
        }
        Ok(())
    }

    /// Stops a container, unless it is stopped.
    pub(crate) fn stop(&self, member: &Member, timeout: Option<i64>) -> Result<(), CommandError> {
        if !member.container.state.status.is_alive() {
            return Ok(());
        }
        self.remains().stop(member, timeout)
    }

    /// Removes a container, running or not, with its anonymous volumes if they are to go.
    pub(crate) fn remove(&self, member: &Member, with_volumes: bool) -> Result<(), CommandError> {
        self.remains().remove(member, with_volumes)
    }

    fn remains(&self) -> Remains<'_> {
        Remains {
            engine: self.engine,
            name: &self.project.name,
            project: Some(self.project),
            report: self.report,
        }
    }

    /// Tells of a failure and returns it.
    pub(crate) fn failed(&self, id: &str, error: &dyn std::fmt::Display) -> CommandError {
        self.report.failed(id, "Error");
        CommandError::failed(error)
    }
}

/// What a container that replaces another one stands for.
struct Replaced<'a> {
    id: &'a str,
    name: &'a str,
}

/// Returns what a container is to replace, if it has not done so.
fn replaced_by(member: &Member) -> Option<Replaced<'_>> {
    let id = Some(member.label(super::labels::REPLACE)).filter(|id| !id.is_empty())?;
    let (prefix, name) = member.name().split_once('_')?;
    id.starts_with(prefix).then_some(Replaced { id, name })
}
