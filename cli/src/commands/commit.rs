//! `ply commit`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::container::CommitOptions;
use runtime::reference::Reference;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::output::outln;

/// Make an image of a container and what it has changed
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Who made it
    #[arg(short, long, value_name = "NAME", default_value = "")]
    pub(super) author: String,
    /// Apply a Dockerfile instruction to the image
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(super) change: Vec<String>,
    /// A remark for the image's history
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    pub(super) message: String,
    /// Freeze the container meanwhile
    #[arg(short, long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(super) pause: bool,
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub(super) container: String,
    /// A name for the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(super) name: Option<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let parse_name = |name: &String| name.parse::<Reference>().map_err(CommandError::failed);
    let options = CommitOptions {
        config: serde_json::Map::new(),
        reference: args.name.as_ref().map(parse_name).transpose()?,
        author: args.author,
        message: args.message,
        changes: args.change,
        pause: args.pause,
    };
    let image = context
        .engine()?
        .commit_container(&args.container, &options)
        .map_err(CommandError::failed)?;
    outln!("{image}");
    Ok(ExitCode::SUCCESS)
}
