//! `ply compose start`

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use clap::Args as ClapArgs;

use super::Access;
use crate::command_error::CommandError;
use crate::compose::composition::Composition;
use crate::compose::labelled;
use crate::compose::members;

/// Start containers that were made, those that they depend on first
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Wait until all run, and are healthy where that is checked
    #[arg(long)]
    wait: bool,
    /// The longest such wait, in seconds
    #[arg(long, value_name = "SECONDS")]
    wait_timeout: Option<u64>,
    /// The services; all if there are none
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let engine = access.engine()?;
    let (name, project) = access.named_project(&args.services)?;
    let mut members = members::of_project(&engine, &name)?;
    members.retain(|member| !member.is_one_off);
    if members.is_empty() && project.is_none() {
        return Err(CommandError::failed(format_args!(
            "no container found for project {name:?}: not found"
        )));
    }
    let project = project.unwrap_or_else(|| labelled::project(&name, &members));
    let named = project
        .selected(&args.services)
        .map_err(CommandError::failed)?;
    for service in &named {
        let is_asked_for = members.is_empty() || !args.services.is_empty();
        if is_asked_for && !members.iter().any(|member| &member.service == service) {
            return Err(CommandError::failed(format_args!(
                "service {service:?} has no container to start"
            )));
        }
    }
    let services = project.with_dependencies(&named);
    let report = access.report();
    let composition = Composition {
        engine: &engine,
        project: &project,
        report: &report,
    };
    composition.start_while(&services, args.wait_timeout, &AtomicBool::new(true))?;
    if args.wait && !access.is_dry_run {
        composition.wait_until_up(&services, args.wait_timeout)?;
    }
    Ok(ExitCode::SUCCESS)
}
