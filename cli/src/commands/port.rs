//! `ply port`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use crate::command_error::CommandError;
use crate::context::Context;

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
    // No network of ours publishes ports yet, so no container has any.
    let Some(port) = args.port else {
        return Ok(ExitCode::SUCCESS);
    };
    let (number, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
    match number.parse::<u16>() {
        Ok(number) => Err(CommandError::failed(format_args!(
            "no public port '{number}/{protocol}' published for {}",
            container.name
        ))),
        Err(_) => Err(CommandError::failed(format_args!(
            "invalid port '{number}': invalid syntax"
        ))),
    }
}
