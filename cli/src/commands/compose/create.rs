//! `ply compose create`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::Access;
use super::up::Made;
use crate::command_error::CommandError;
use crate::compose::composition::Composition;

/// Make the containers of services without starting them
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(flatten)]
    made: Made,
    /// The services; all if there are none
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) fn run(mut args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let mut project = access.project(&args.services)?;
    let named = project
        .selected(&args.services)
        .map_err(CommandError::failed)?;
    let services = project.with_dependencies(&named);
    project
        .read_env_files(&services)
        .map_err(CommandError::failed)?;
    args.made.settle(access);
    let engine = access.engine()?;
    let report = access.report();
    let composition = Composition {
        engine: &engine,
        project: &project,
        report: &report,
    };
    args.made.make(&composition, &named, &services)?;
    Ok(ExitCode::SUCCESS)
}
