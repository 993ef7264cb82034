//! `ply rm`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::container::ContainerError;

use super::each::each;
use crate::command_error::CommandError;
use crate::context::Context;

/// Remove containers
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Kill and remove running ones too; one that is not there is no error
    #[arg(short, long)]
    force: bool,
    /// Remove anonymous volumes too
    #[arg(short, long)]
    volumes: bool,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    each(&args.containers, |name| {
        match engine.remove_container(name, args.force, args.volumes) {
            Err(ContainerError::NoSuchContainer(_)) if args.force => Ok(()),
            removed => removed,
        }
    })
}
