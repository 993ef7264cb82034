//! `ply compose export`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::Access;
use crate::command_error::CommandError;
use crate::commands::export;

/// Write the files of a service's container as a tar (on standard output by default)
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The number of the container
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The service
    #[arg(value_name = "SERVICE")]
    service: String,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let engine = access.engine()?;
    let member = access.member(&engine, &args.service, args.index)?;
    let one = export::Args {
        output: args.output,
        container: member.id().to_owned(),
    };
    export::run(one, access.context)
}
