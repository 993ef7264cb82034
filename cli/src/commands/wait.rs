//! `ply wait`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::each::each_printing;
use crate::command_error::CommandError;
use crate::context::Context;

/// Wait until containers end, and print their exit codes
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    each_printing(&args.containers, |name| {
        engine.wait_container(name).map(|code| code.to_string())
    })
}
