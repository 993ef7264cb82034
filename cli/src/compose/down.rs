//! Taking away what a project has on the engine, from the engine's knowledge alone.

use std::collections::BTreeSet;

use runtime::Engine;
use runtime::image::ImageError;

use super::composition::shown;
use super::container;
use super::hooks;
use super::hooks::Moment;
use super::members;
use super::members::Member;
use super::order;
use super::order::Needs;
use super::project::Project;
use super::report::Report;
use crate::command_error::CommandError;

/// A project of which the name is enough; its files may be gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remains<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) name: &'a str,
    pub(crate) project: Option<&'a Project>,
    pub(crate) report: &'a Report,
}

/// What goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Down {
    /// Only these services' containers; all if there are none.
    pub(crate) services: Vec<String>,
    pub(crate) volumes: bool,
    pub(crate) orphans: bool,
    /// `all` or `local`.
    pub(crate) images: Option<String>,
    pub(crate) timeout: Option<i64>,
}

/// Returns what the services of containers wait for, by their labels.
pub(crate) fn needs(members: &[Member]) -> Needs {
    let mut needs = Needs::new();
    for member in members {
        let needed = needs.entry(member.service.clone()).or_default();
        needed.extend(member.dependencies().into_iter().map(|(name, _)| name));
    }
    // What was changed by hand may lead in a circle, in which everybody would wait.
    let mut sorted: BTreeSet<String> = BTreeSet::new();
    while let Some(name) = needs.iter().find_map(|(name, needed)| {
        let is_ready = |other: &String| sorted.contains(other) || !needs.contains_key(other);
        (!sorted.contains(name) && needed.iter().all(is_ready)).then(|| name.clone())
    }) {
        sorted.insert(name);
    }
    for (_, needed) in needs.iter_mut().filter(|(name, _)| !sorted.contains(*name)) {
        needed.clear();
    }
    needs
}

impl Remains<'_> {
    /// Does something to containers, those that need others first.
    pub(crate) fn backwards(
        &self,
        members: &[Member],
        work: impl Fn(&Member) -> Result<(), CommandError> + Sync,
    ) -> Result<(), CommandError> {
        order::in_order(&order::reversed(&needs(members)), |name| {
            let own: Vec<&Member> = members.iter().filter(|it| it.service == name).collect();
            order::side_by_side(&own, |member| work(member))
        })
    }

    /// Stops a container, unless it is stopped.
    pub(crate) fn stop(&self, member: &Member, timeout: Option<i64>) -> Result<(), CommandError> {
        let id = shown(member.name());
        self.report.begin(&id, "Stopping");
        if self.report.is_dry_run() {
            self.report.done(&id, "Stopped");
            return Ok(());
        }
        if let Some(project) = self.project {
            hooks::run(self.engine, project, member, Moment::Stopping, self.report)
                .inspect_err(|_| self.report.failed(&id, "Error"))?;
        }
        match self.engine.stop_container(member.id(), None, timeout) {
            Ok(()) | Err(runtime::container::ContainerError::NoSuchContainer(_)) => {
                self.report.done(&id, "Stopped");
                Ok(())
            }
            Err(error) => {
                self.report.failed(&id, "Error");
                Err(CommandError::failed(error))
            }
        }
    }

    /// Removes a container.
    pub(crate) fn remove(&self, member: &Member, with_volumes: bool) -> Result<(), CommandError> {
        let id = shown(member.name());
        self.report.begin(&id, "Removing");
        if self.report.is_dry_run() {
            self.report.done(&id, "Removed");
            return Ok(());
        }
        let removed = self
            .engine
            .remove_container(member.id(), true, with_volumes);
        match removed {
            Ok(()) | Err(runtime::container::ContainerError::NoSuchContainer(_)) => {
                self.report.done(&id, "Removed");
                Ok(())
            }
            Err(error) => {
                self.report.failed(&id, "Error");
                Err(CommandError::failed(error))
            }
        }
    }

    /// Removes the containers of services that the files no longer have.
    pub(crate) fn remove_orphans(&self) -> Result<(), CommandError> {
        let Some(project) = self.project else {
            return Ok(());
        };
        let mut members = members::of_project(self.engine, self.name)?;
        members.retain(|member| {
            !project.services.contains_key(&member.service)
                && !project.disabled.contains_key(&member.service)
        });
        self.backwards(&members, |member| {
            self.stop(member, None)?;
            self.remove(member, false)
        })
    }

    /// Takes a project down.
    pub(crate) fn down(&self, wish: &Down) -> Result<(), CommandError> {
        let mut members = members::of_project(self.engine, self.name)?;
        let all = members.len();
        members.retain(|member| match &self.project {
            _ if !wish.services.is_empty() => wish.services.contains(&member.service),
            Some(project) if !wish.orphans && !member.is_one_off => {
                project.services.contains_key(&member.service)
                    || project.disabled.contains_key(&member.service)
            }
            _ => true,
        });
        self.backwards(&members, |member| {
            self.stop(member, wish.timeout)?;
            self.remove(member, wish.volumes)
        })?;
        let is_whole = wish.services.is_empty();
        let mut found = !members.is_empty();
        if is_whole {
            found |= self.remove_networks()?;
        }
        if is_whole && wish.volumes {
            found |= self.remove_volumes()?;
        }
        if let Some(kind) = &wish.images {
            found |= self.remove_images(kind, &members)?;
        }
        if !found && all == 0 && is_whole {
            super::warn(format_args!(
                "No resource found to remove for project {:?}.",
                self.name
            ));
        }
        Ok(())
    }

    /// Removes the services' images: all, or those that have no name of their own.
    fn remove_images(&self, kind: &str, members: &[Member]) -> Result<bool, CommandError> {
        let mut names: BTreeSet<String> = BTreeSet::new();
        if let Some(project) = self.project {
            let services = project.services.iter();
            let services = services.filter(|(_, service)| kind == "all" || service.image.is_none());
            names.extend(services.map(|(name, it)| container::image_of(project, name, it)));
        }
        if self.project.is_none() {
            let images = members
                .iter()
                .map(|member| member.container.config.image.clone());
            names.extend(images.filter(|image| kind == "all" || image.starts_with(self.name)));
        }
        let mut found = false;
        for name in &names {
            let id = format!("Image {name}");
            if self.report.is_dry_run() {
                let is_here = self.engine.image(name).is_ok();
                if is_here {
                    self.report.done(&id, "Removed");
                    found = true;
                }
                continue;
            }
            match self.engine.remove_image(name, false) {
                Ok(_) => {
                    self.report.done(&id, "Removed");
                    found = true;
                }
                Err(ImageError::NoSuchImage(_)) => {}
                Err(error) => super::warn(format_args!("{id}: {error}")),
            }
        }
        Ok(found)
    }
}
