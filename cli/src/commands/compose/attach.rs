//! `ply compose attach`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::Access;
use crate::command_error::CommandError;
use crate::commands::attach;
use crate::compose::members;

/// Attach to the streams of a service's container
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Keys that leave the container running
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// The number of the container
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// Do not attach to the input
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the container
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// The service
    #[arg(value_name = "SERVICE")]
    service: String,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let engine = access.engine()?;
    let (_, members) = access.members(&engine, std::slice::from_ref(&args.service))?;
    let member = members::one(&members, &args.service, args.index)?;
    let one = attach::Args {
        detach_keys: args.detach_keys,
        no_stdin: args.no_stdin,
        sig_proxy: args.sig_proxy,
        container: member.id().to_owned(),
    };
    attach::run(one, access.context)
}
