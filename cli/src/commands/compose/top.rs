//! `ply compose top`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::Access;
use crate::command_error::CommandError;
use crate::output::out;
use crate::table;
use crate::terminal;

/// Show the processes of services
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The services; all if there are none
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let engine = access.engine()?;
    let (_, members) = access.members(&engine, &args.services)?;
    let mut lines = Vec::new();
    for member in members
        .iter()
        .filter(|it| it.container.state.status.is_alive())
    {
        let top = engine
            .top_container(member.id(), &[])
            .map_err(CommandError::failed)?;
        if lines.is_empty() {
            lines.push(format!("SERVICE\t#\t{}", top.titles.join("\t")));
        }
        for row in &top.rows {
            let row: Vec<_> = row.iter().map(|field| terminal::escaped(field)).collect();
            lines.push(format!(
                "{}\t{}\t{}",
                member.service,
                member.number,
                row.join("\t")
            ));
        }
    }
    if !lines.is_empty() {
        out!("{}", table::align(&(lines.join("\n") + "\n")));
    }
    Ok(ExitCode::SUCCESS)
}
