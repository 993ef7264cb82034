//! `ply compose start`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::Access;
use crate::command_error::CommandError;
use crate::compose::composition::Composition;
use crate::compose::members;

/// Start containers that were made
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The services; all if there are none
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
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
