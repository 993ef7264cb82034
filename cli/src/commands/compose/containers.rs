//! `ply compose kill`, `pause` and `unpause`: one act on each container.

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::container::Status;

use super::Access;
use crate::command_error::CommandError;
use crate::compose::composition::shown;
use crate::compose::down::Remains;

/// Send a signal to containers
#[derive(Debug, ClapArgs)]
pub(super) struct KillArgs {
    /// Remove the containers of services that are no longer there
    #[arg(long)]
    remove_orphans: bool,
    /// The signal
    #[arg(short, long, value_name = "SIGNAL", default_value = "SIGKILL")]
    signal: String,
    /// The services; all if there are none
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) fn kill(args: KillArgs, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    if args.remove_orphans {
        let (name, project) = access.name()?;
        let engine = access.engine()?;
        let report = access.report();
        let remains = Remains {
            engine: &engine,
            name: &name,
            project: project.as_ref(),
            report: &report,
        };
        remains.remove_orphans()?;
    }
    access.backwards(&args.services, |remains, member| {
        if !member.container.state.status.is_alive() {
            return Ok(());
        }
        let id = shown(member.name());
        remains.report.begin(&id, "Killing");
        if !remains.report.is_dry_run() {
            let killed = remains.engine.kill_container(member.id(), &args.signal);
            killed.map_err(CommandError::failed)?;
        }
        remains.report.done(&id, "Killed");
        Ok(())
    })
}

/// Freeze containers
#[derive(Debug, ClapArgs)]
pub(super) struct PauseArgs {
    /// The services; all if there are none
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) fn pause(args: PauseArgs, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    access.backwards(&args.services, |remains, member| {
        if member.container.state.status != Status::Running {
            return Ok(());
        }
        if !remains.report.is_dry_run() {
            let paused = remains.engine.pause_container(member.id());
            paused.map_err(CommandError::failed)?;
        }
        remains.report.done(&shown(member.name()), "Paused");
        Ok(())
    })
}

/// Thaw containers
#[derive(Debug, ClapArgs)]
pub(super) struct UnpauseArgs {
    /// The services; all if there are none
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) fn unpause(args: UnpauseArgs, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    access.backwards(&args.services, |remains, member| {
        if member.container.state.status != Status::Paused {
            return Ok(());
        }
        if !remains.report.is_dry_run() {
            let thawed = remains.engine.unpause_container(member.id());
            thawed.map_err(CommandError::failed)?;
        }
        remains.report.done(&shown(member.name()), "Unpaused");
        Ok(())
    })
}
