//! `ply compose wait`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::Access;
use crate::command_error::CommandError;
use crate::compose::down::Down;
use crate::compose::down::Remains;
use crate::output::outln;

/// Wait until the first container of services ends; its exit code is ours
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Take the project down then
    #[arg(long)]
    down_project: bool,
    /// The services
    #[arg(value_name = "SERVICE", required = true)]
    services: Vec<String>,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let engine = access.engine()?;
    let (name, members) = access.members(&engine, &args.services)?;
    if members.is_empty() {
        return Err(CommandError::failed(format_args!(
            "no containers for project {name:?}"
        )));
    }
    let (sender, ended) = std::sync::mpsc::channel();
    for member in members {
        let (engine, sender) = (engine.clone(), sender.clone());
        std::thread::spawn(move || {
            let code = engine.wait_container(member.id());
            let _ = sender.send((member, code));
        });
    }
    let (member, code) = ended.recv().map_err(CommandError::failed)?;
    let code = code.map_err(CommandError::failed)?;
    outln!(
        "container {:?} exited with status code {code}",
        member.container.id.as_str()
    );
    if args.down_project {
        let report = access.report();
        let remains = Remains {
            engine: &engine,
            name: &name,
            project: None,
            report: &report,
        };
        remains.down(&Down::default())?;
    }
    Ok(ExitCode::from(code as u8))
}
