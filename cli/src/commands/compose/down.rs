//! `ply compose down`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::Access;
use crate::command_error::CommandError;
use crate::compose::down::Down;
use crate::compose::down::Remains;

/// Stop and remove what `up` has made
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Remove the containers of services that are no longer there
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    remove_orphans: Option<bool>,
    /// Remove images: `all`, or those without a name of their own (`local`)
    #[arg(long, value_name = "KIND", value_parser = ["all", "local"])]
    rmi: Option<String>,
    /// Seconds until a container is killed
    #[arg(short, long, value_name = "SECONDS", allow_hyphen_values = true)]
    timeout: Option<i64>,
    /// Remove the project's volumes, and anonymous ones
    #[arg(short, long, alias = "volume")]
    volumes: bool,
    /// Only these services' containers
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let (name, project) = access.name()?;
    let engine = access.engine()?;
    // Without files, one that is not there may have been taken down before.
    if project.is_some() {
        super::members_of(&engine, &name, project.as_ref(), &args.services)?;
    }
    let report = access.report();
    let remains = Remains {
        engine: &engine,
        name: &name,
        project: project.as_ref(),
        report: &report,
    };
    remains.down(&Down {
        services: args.services,
        volumes: args.volumes,
        orphans: args
            .remove_orphans
            .unwrap_or_else(|| access.environment.is_true("COMPOSE_REMOVE_ORPHANS")),
        images: args.rmi,
        timeout: args.timeout,
    })?;
    Ok(ExitCode::SUCCESS)
}
