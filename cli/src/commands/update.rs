//! `ply update`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::container::RestartPolicy;

use super::each::each;
use super::limits::Limits;
use crate::command_error::CommandError;
use crate::context::Context;

/// Change the limits and the restart policy of containers
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    limits: Limits,
    /// When to start the container again (`no`, `on-failure[:N]`, `always`, `unless-stopped`)
    #[arg(long, value_name = "POLICY")]
    restart: Option<RestartPolicy>,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let resources = args.limits.resources();
    if resources == Default::default() && args.restart.is_none() {
        return Err(CommandError::failed(
            "you must provide one or more flags when using this command",
        ));
    }
    let engine = context.engine()?;
    each(&args.containers, |name| {
        engine.update_container(name, &resources, args.restart)
    })
}
