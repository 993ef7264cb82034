//! After a reboot: what should run is started.

use super::ContainerError;
use super::ContainerFilter;
use super::RestartPolicy;
use super::StartOptions;
use crate::Engine;

impl Engine {
    /// Starts every container that its restart policy wants to run after a reboot; returns the names of those that run
    /// now, and why the others do not.
    pub fn boot(&self) -> Result<Vec<Result<String, ContainerError>>, ContainerError> {
        // Those that ran when the machine went down are started by this already.
        let before = self.run_at_last()?;
        let mut containers = self.containers(true, &ContainerFilter::default())?;
        containers.reverse();
        let mut booted = Vec::new();
        for container in containers {
            let has_run = container.state.started.is_some() || container.state.finished.is_some();
            let wanted = match container.config.restart {
                RestartPolicy::Always => has_run,
                RestartPolicy::UnlessStopped => has_run && !container.state.stopped,
                RestartPolicy::No | RestartPolicy::OnFailure(_) => false,
            };
            if container.state.status.is_alive() {
                if before.contains(&container.id) {
                    booted.push(Ok(container.name));
                }
            } else if wanted {
                let started = self.start_container(container.id.as_str(), &StartOptions::default());
                booted.push(started.map(|_| container.name));
            }
        }
        Ok(booted)
    }
}
