//! `ply port`

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::network::port::Published;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::output::outln;

/// Show which ports of a container are published
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub(super) container: String,
    /// Only this port of the container's
    #[arg(value_name = "PORT[/PROTOCOL]")]
    pub(super) port: Option<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let container = context
        .engine()?
        .container(&args.container)
        .map_err(CommandError::failed)?;
    let mut published = container.state.published;
    published.sort_by_key(|it| (it.port, it.address.is_ipv6(), it.address));
    let Some(port) = args.port else {
        for it in &published {
            outln!("{} -> {}", it.port, place(it));
        }
        return Ok(ExitCode::SUCCESS);
    };
    let (number, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
    let Ok(number) = number.parse::<u16>() else {
        return Err(CommandError::failed(format_args!(
            "invalid port '{number}': invalid syntax"
        )));
    };
    published.retain(|it| it.port.number == number && it.port.protocol.as_str() == protocol);
    if published.is_empty() {
        return Err(CommandError::failed(format_args!(
            "no public port '{number}/{protocol}' published for {}",
            args.container
        )));
    }
    for it in &published {
        outln!("{}", place(it));
    }
    Ok(ExitCode::SUCCESS)
}

fn place(published: &Published) -> SocketAddr {
    SocketAddr::new(published.address, published.host)
}
