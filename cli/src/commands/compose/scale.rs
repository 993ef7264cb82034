//! `ply compose scale`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::Access;
use super::up::Made;
use super::up::service_and_number;
use crate::command_error::CommandError;
use crate::compose::composition::Composition;

/// Run so many containers of services
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Leave out the dependencies
    #[arg(long)]
    no_deps: bool,
    /// The services, and how many containers each is to have
    #[arg(value_name = "SERVICE=NUMBER", required = true)]
    services: Vec<String>,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let parse = |text: &String| {
        let wrong = || CommandError::failed(format_args!("invalid scale specifier: {text}"));
        service_and_number(text).ok_or_else(wrong)
    };
    let wanted = args
        .services
        .iter()
        .map(parse)
        .collect::<Result<Vec<_>, _>>()?;
    let names: Vec<String> = wanted.iter().map(|(name, _)| name.clone()).collect();
    let mut project = access.project(&names)?;
    let named = project.selected(&names).map_err(CommandError::failed)?;
    let services = match args.no_deps {
        true => named.clone(),
        false => project.with_dependencies(&named),
    };
    project
        .read_env_files(&services)
        .map_err(CommandError::failed)?;
    let engine = access.engine()?;
    let report = access.report();
    let composition = Composition {
        engine: &engine,
        project: &project,
        report: &report,
    };
    let made = Made::scaled(wanted);
    made.make(&composition, &named, &services)?;
    composition.start(&services)?;
    Ok(ExitCode::SUCCESS)
}
