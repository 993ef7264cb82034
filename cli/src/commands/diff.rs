//! `ply diff`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::container;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::output::outln;

/// Show what differs between a container and its image (A added, C changed, D deleted)
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let changes = context
        .engine()?
        .diff(&args.container)
        .map_err(CommandError::failed)?;
    for change in changes {
        let path = String::from_utf8_lossy(&change.path);
        outln!(
            "{} {}",
            container::letter(change.kind),
            crate::terminal::escaped(&path)
        );
    }
    Ok(ExitCode::SUCCESS)
}
