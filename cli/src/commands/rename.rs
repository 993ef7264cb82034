//! `ply rename`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use crate::command_error::CommandError;
use crate::context::Context;

/// Give a container another name
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Its new name
    #[arg(value_name = "NEW_NAME")]
    name: String,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let renamed = context
        .engine()?
        .rename_container(&args.container, &args.name);
    renamed.map_err(|error| {
        CommandError::failed(format_args!(
            "{error}\nError: failed to rename container named {}",
            args.container
        ))
    })?;
    Ok(ExitCode::SUCCESS)
}
