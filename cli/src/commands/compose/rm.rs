//! `ply compose rm`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::Access;
use crate::command_error::CommandError;
use crate::compose::down::Remains;
use crate::compose::members::Member;
use crate::terminal;

/// Remove stopped containers
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// For Compose's sake: those that `run` has made stay
    #[arg(short, long, hide = true)]
    all: bool,
    /// Ask nothing
    #[arg(short, long)]
    force: bool,
    /// Stop them first
    #[arg(short, long)]
    stop: bool,
    /// Remove anonymous volumes too
    #[arg(short, long)]
    volumes: bool,
    /// The services; all if there are none
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let engine = access.engine()?;
    let (name, project) = access.name()?;
    let mut members = super::members_of(&engine, &name, project.as_ref(), &args.services)?;
    let report = access.report();
    let remains = Remains {
        engine: &engine,
        name: &name,
        project: project.as_ref(),
        report: &report,
    };
    match args.stop {
        true => remains.backwards(&members, |member| remains.stop(member, None))?,
        false => members.retain(|member| !member.container.state.status.is_alive()),
    }
    if members.is_empty() {
        eprintln!("No stopped containers");
        return Ok(ExitCode::SUCCESS);
    }
    if !args.force {
        let names: Vec<&str> = members.iter().map(Member::name).collect();
        if !terminal::confirm(&format!("Going to remove {}", names.join(", "))) {
            return Ok(ExitCode::SUCCESS);
        }
    }
    remains.backwards(&members, |member| remains.remove(member, args.volumes))?;
    Ok(ExitCode::SUCCESS)
}
