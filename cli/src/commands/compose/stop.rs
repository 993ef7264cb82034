//! `ply compose stop` and `restart`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::container::StartOptions;

use super::Access;
use crate::command_error::CommandError;
use crate::compose::composition::shown;
use crate::compose::down;
use crate::compose::hooks;
use crate::compose::hooks::Moment;
use crate::compose::labelled;
use crate::compose::members;
use crate::compose::order;

/// Stop containers
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Seconds until a container is killed
    #[arg(short, long, value_name = "SECONDS", allow_hyphen_values = true)]
    timeout: Option<i64>,
    /// The services; all if there are none
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    access.backwards(&args.services, |remains, member| {
        match member.container.state.status.is_alive() {
            true => remains.stop(member, args.timeout),
            false => Ok(()),
        }
    })
}

/// Restart containers
#[derive(Debug, ClapArgs)]
pub(super) struct RestartArgs {
    /// Leave alone those that depend on them
    #[arg(long)]
    no_deps: bool,
    /// Seconds until a container is killed
    #[arg(short, long, value_name = "SECONDS", allow_hyphen_values = true)]
    timeout: Option<i64>,
    /// The services; all if there are none
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) fn restart(args: RestartArgs, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let engine = access.engine()?;
    let (name, project) = access.name()?;
    let project = match project {
        Some(project) => project,
        None => labelled::project(&name, &members::of_project(&engine, &name)?),
    };
    let mut services = args.services.clone();
    if !args.no_deps && !services.is_empty() {
        let restarts = |name: &&String| {
            let needs = &project.services[*name].depends_on;
            needs
                .iter()
                .any(|(other, need)| need.restart && args.services.contains(other))
        };
        services.extend(project.services.keys().filter(restarts).cloned());
    }
    let members = super::members_of(&engine, &name, Some(&project), &services)?;
    let report = access.report();
    order::in_order(&down::needs(&members), |name| {
        let own: Vec<_> = members
            .iter()
            .filter(|member| member.service == name)
            .collect();
        order::side_by_side(&own, |member| {
            let id = shown(member.name());
            report.begin(&id, "Restarting");
            if access.is_dry_run {
                report.done(&id, "Started");
                return Ok(());
            }
            let run_hooks = |moment| hooks::run(&engine, &project, member, moment, &report);
            let restart = || {
                run_hooks(Moment::Stopping)?;
                engine
                    .stop_container(member.id(), None, args.timeout)
                    .and_then(|()| engine.start_container(member.id(), &StartOptions::default()))
                    .map_err(CommandError::failed)?;
                report.done(&id, "Started");
                run_hooks(Moment::Started)
            };
            restart().inspect_err(|_| report.failed(&id, "Error"))
        })
    })?;
    Ok(ExitCode::SUCCESS)
}
