//! `ply compose port`

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::Access;
use crate::command_error::CommandError;
use crate::compose::members;
use crate::output::outln;

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
    let mut published = member.container.state.published.clone();
    published.sort_by_key(|it| (it.address.is_ipv6(), it.address, it.host));
    let mut published = published.into_iter();
    // The first one: what is published on all addresses of both families is still one port to a script.
    let found = published
        .find(|it| it.port.number == args.port && it.port.protocol.as_str() == args.protocol)
        .ok_or_else(|| {
            CommandError::failed(format_args!(
                "no port {}/{} for container {}",
                args.port,
                args.protocol,
                member.name()
            ))
        })?;
    outln!("{}", SocketAddr::new(found.address, found.host));
    Ok(ExitCode::SUCCESS)
}
