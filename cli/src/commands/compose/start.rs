//! `ply compose start`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::container::StartOptions;

use super::Access;
use crate::command_error::CommandError;
use crate::compose::composition::Composition;
use crate::compose::composition::shown;
use crate::compose::down;
use crate::compose::members;
use crate::compose::order;

/// Start containers that were made
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The services; all if there are none
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    if let (name, None) = access.name()? {
        return start_by_labels(&name, &args.services, access);
    }
    let project = access.project(&args.services)?;
    let services = project
        .selected(&args.services)
        .map_err(CommandError::failed)?;
    let engine = access.engine()?;
    let members = members::of_project(&engine, &project.name)?;
    for service in &services {
        if !members.iter().any(|member| &member.service == service) {
            return Err(CommandError::failed(format_args!(
                "service {service:?} has no container to start"
            )));
        }
    }
    let report = access.report();
    let composition = Composition {
        engine: &engine,
        project: &project,
        report: &report,
    };
    composition.start(&services)?;
    Ok(ExitCode::SUCCESS)
}

/// Starts what a project has on the engine whose files are not here.
fn start_by_labels(
    name: &str,
    services: &[String],
    access: &Access<'_>,
) -> Result<ExitCode, CommandError> {
    let engine = access.engine()?;
    let members = super::members_of(&engine, name, None, services)?;
    let report = access.report();
    order::in_order(&down::needs(&members), |name| {
        let own: Vec<_> = members
            .iter()
            .filter(|it| it.service == name && !it.container.state.status.is_alive())
            .collect();
        order::side_by_side(&own, |member| {
            let id = shown(member.name());
            report.begin(&id, "Starting");
            if !access.is_dry_run {
                engine
                    .start_container(member.id(), &StartOptions::default())
                    .inspect_err(|_| report.failed(&id, "Error"))
                    .map_err(CommandError::failed)?;
            }
            report.done(&id, "Started");
            Ok(())
        })
    })?;
    Ok(ExitCode::SUCCESS)
}
