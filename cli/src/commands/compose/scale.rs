//! `ply compose scale`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::Access;
use super::up::Made;
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

fn parse(text: &String) -> Result<(String, i64), CommandError> {
    let wrong = || CommandError::failed(format_args!("invalid scale specifier: {text}"));
    let (name, number) = text.split_once('=').ok_or_else(wrong)?;
    match number.parse() {
        Ok(number) if number >= 0 => Ok((name.to_owned(), number)),
        _ => Err(wrong()),
    }
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let wanted: Result<Vec<(String, i64)>, CommandError> =
        args.services.iter().map(parse).collect();
    let wanted = wanted?;
    let names: Vec<String> = wanted.iter().map(|(name, _)| name.clone()).collect();
    let project = access.project(&names)?;
    let named = project.selected(&names).map_err(CommandError::failed)?;
    let services = match args.no_deps {
        true => named.clone(),
        false => project.with_dependencies(&named),
    };
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
