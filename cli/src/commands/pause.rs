//! `ply pause` and `ply unpause`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::each::each_at_once;
use crate::command_error::CommandError;
use crate::context::Context;

/// Freeze all processes of running containers
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Let the processes of frozen containers go on
#[derive(Debug, ClapArgs)]
pub(crate) struct UnpauseArgs {
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    each_at_once(&args.containers, |name| engine.pause_container(name))
}

pub(crate) fn unpause(args: UnpauseArgs, context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    each_at_once(&args.containers, |name| engine.unpause_container(name))
}
