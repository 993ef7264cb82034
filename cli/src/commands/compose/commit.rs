//! `ply compose commit`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::Access;
use crate::command_error::CommandError;
use crate::commands::commit;

/// Make an image of a service's container and what it has changed
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Who made it
    #[arg(short, long, value_name = "NAME", default_value = "")]
    author: String,
    /// Apply a Dockerfile instruction to the image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// The number of the container
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// A remark for the image's history
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    message: String,
    /// Freeze the container meanwhile
    #[arg(short, long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pause: bool,
    /// The service
    #[arg(value_name = "SERVICE")]
    service: String,
    /// A name for the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let engine = access.engine()?;
    let member = access.member(&engine, &args.service, args.index)?;
    let one = commit::Args {
        author: args.author,
        change: args.change,
        message: args.message,
        pause: args.pause,
        container: member.id().to_owned(),
        name: args.name,
    };
    commit::run(one, access.context)
}
