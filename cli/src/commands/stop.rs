//! `ply stop`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::each::each_at_once;
use crate::command_error::CommandError;
use crate::context::Context;

/// Stop running containers
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Signal to send instead of the container's own
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Seconds until the container is killed; -1 is never
    #[arg(
        short,
        long,
        visible_alias = "timeout",
        value_name = "SECONDS",
        allow_hyphen_values = true
    )]
    time: Option<i64>,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    each_at_once(&args.containers, |name| {
        engine.stop_container(name, args.signal.as_deref(), args.time)
    })
}
