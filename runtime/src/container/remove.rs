//! `rm`: a container's end for good.

pub(crate) use layerfs::store::remove_tree;

use super::ContainerError;
use super::ContainerFilter;
use super::ContainerId;
use super::liveness::Busy;
use super::rows;
use super::rows::Durability;
use crate::Engine;
use crate::frame::Request;

impl Engine {
    /// Removes a container, and with `volumes` those of its volumes that nobody has named; one that runs is killed first
    /// if `force` says so.
    pub fn remove_container(
        &self,
        name: &str,
        force: bool,
        volumes: bool,
    ) -> Result<(), ContainerError> {
        let container = self.container(name)?;
        let id = container.id;
        if container.state.status.is_alive() {
            if !force {
                return Err(ContainerError::RemoveRunning(id));
            }
            // A container that ended meanwhile is as good as killed.
            let _ = self.request_done(&id, &Request::Stop(libc::SIGKILL));
        }
        let busy = self.keep_busy(&id)?;
        if force {
            // Started again in between: killed again.
            let _ = self.request_done(&id, &Request::Stop(libc::SIGKILL));
            busy.wait_for_death()
                .map_err(ContainerError::io(self.run_dir()))?;
        } else if self.is_alive(&id) {
            return Err(ContainerError::RemoveRunning(id));
        }
        self.bury_kept(&id, &busy)?;
        if rows::by_id(&self.db(), &id)?.is_none() {
            busy.sweep();
            return Ok(());
        }
        self.erase(&id, &busy, volumes)
    }

    /// Removes the containers that fit and do not run; returns them and the bytes that their changes took.
    pub fn prune_containers(
        &self,
        filter: &ContainerFilter,
    ) -> Result<(Vec<ContainerId>, u64), ContainerError> {
        let (mut removed, mut freed) = (Vec::new(), 0);
        for container in self.containers(true, filter)? {
            if container.state.status.is_alive() {
                continue;
            }
            let size = self.container_size(&container);
            // One that was started since is refused, and stays.
            if self
                .remove_container(container.id.as_str(), false, false)
                .is_ok()
            {
                freed += size;
                removed.push(container.id);
            }
        }
        self.emit_prune("container", freed);
        Ok((removed, freed))
    }

    /// Takes away everything of a dead container that is kept busy; its anonymous volumes if `volumes` says so.
    pub(crate) fn erase(
        &self,
        id: &ContainerId,
        busy: &Busy,
        volumes: bool,
    ) -> Result<(), ContainerError> {
        self.erase_files_and_row(id, Durability::Machine, volumes)?;
        busy.sweep();
        let orphans = crate::image::rows::removed_images(&self.db())?;
        if !orphans.is_empty() {
            self.sweep()?;
        }
        Ok(())
    }

    pub(super) fn erase_files_and_row(
        &self,
        id: &ContainerId,
        durability: Durability,
        volumes: bool,
    ) -> Result<(), ContainerError> {
        rows::set_removing(&self.db(), id, volumes)?;
        self.leave_networks(id)?;
        let directory = self.container_dir(id);
        remove_tree(&directory).map_err(ContainerError::io(&directory))?;
        let container = rows::by_id(&self.db(), id)?;
        rows::delete(&self.db(), durability, id)?;
        self.sweep_doomed_volumes()?;
        if let Some(container) = container {
            self.emit_of(&container, "destroy", &[]);
        }
        Ok(())
    }
}
