//! `ply tag`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::reference::InvalidReference;
use runtime::reference::Reference;

use crate::command_error::CommandError;
use crate::context::Context;

/// Give an image another name
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The image
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    /// Its new name
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let target: Reference = args.target.parse().map_err(|error: InvalidReference| {
        CommandError::failed(format_args!(
            "Error parsing reference: {:?} is not a valid repository/tag: {error}",
            args.target
        ))
    })?;
    context
        .engine()?
        .tag(&args.source, &target)
        .map_err(CommandError::failed)?;
    Ok(ExitCode::SUCCESS)
}
