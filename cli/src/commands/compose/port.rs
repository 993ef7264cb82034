//! `ply compose port`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::Access;
use crate::command_error::CommandError;
use crate::commands::port;
use crate::compose::members;

/// Show where a service's port is published
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The number of the container
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// `tcp` or `udp`
    #[arg(long, value_name = "PROTOCOL", default_value = "tcp")]
    protocol: String,
    /// The service
    #[arg(value_name = "SERVICE")]
    service: String,
    /// The container's port
    #[arg(value_name = "PORT")]
    port: u16,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let engine = access.engine()?;
    let (_, members) = access.members(&engine, std::slice::from_ref(&args.service))?;
    let member = members::one(&members, &args.service, args.index)?;
    let one = port::Args {
        container: member.id().to_owned(),
        port: Some(format!("{}/{}", args.port, args.protocol)),
    };
    port::run(one, access.context)
}
