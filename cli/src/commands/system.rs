//! `ply system`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use clap::Subcommand;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::output::outln;

/// Look after the store
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: System,
}

#[derive(Debug, Subcommand)]
enum System {
    /// Verify every digest and reference of the store, and name what is wrong
    Check,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    match args.command {
        System::Check => check(context),
    }
}

fn check(context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    let faults = engine.check().map_err(CommandError::failed)?;
    for fault in &faults {
        outln!("{fault}");
    }
    match faults.len() {
        0 => Ok(ExitCode::SUCCESS),
        count => Err(CommandError::failed(format_args!("{count} faults found"))),
    }
}
