//! `ply compose stats`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::Access;
use crate::command_error::CommandError;
use crate::commands::stats;

/// Show what a project's containers use
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Also stopped ones
    #[arg(short, long)]
    all: bool,
    /// Format the output: `table`, `table TEMPLATE`, `json` or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show it once and end
    #[arg(long)]
    no_stream: bool,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    /// The services; all if there are none
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let engine = access.engine()?;
    let (name, mut members) = access.members(&engine, &args.services)?;
    members.retain(|member| args.all || member.container.state.status.is_alive());
    if members.is_empty() {
        return Err(CommandError::failed(format_args!(
            "no containers for project {name:?}"
        )));
    }
    let all = stats::Args {
        all: args.all,
        format: args.format,
        no_stream: args.no_stream,
        no_trunc: args.no_trunc,
        containers: members
            .iter()
            .map(|member| member.id().to_owned())
            .collect(),
    };
    stats::run(all, access.context)
}
