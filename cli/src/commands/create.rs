//! `ply create`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::container_options::ContainerOptions;
use super::container_options::tell_warnings;
use crate::command_error::CommandError;
use crate::context::Context;
use crate::output::outln;

/// Make a container without starting it
#[derive(Debug, ClapArgs)]
#[command(disable_help_flag = true, next_display_order = None, override_usage = "ply create [OPTIONS] IMAGE [COMMAND] [ARG...]")]
pub(crate) struct Args {
    #[command(flatten)]
    container: ContainerOptions,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let options = args.container.create_options(false)?;
    tell_warnings(&options);
    let engine = context.engine()?;
    // Docker's `create` fails with 1 where `run` fails with 125.
    let id = args
        .container
        .create(&engine, || engine.create_container(&options))
        .map_err(CommandError::plain)?;
    args.container
        .write_cidfile(id.as_str())
        .map_err(CommandError::plain)?;
    outln!("{id}");
    Ok(ExitCode::SUCCESS)
}
