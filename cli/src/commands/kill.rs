//! `ply kill`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::each::each_at_once;
use crate::command_error::CommandError;
use crate::context::Context;

/// Send a signal to running containers
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The signal
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    each_at_once(&args.containers, |name| {
        engine.kill_container(name, &args.signal)
    })
}
