//! `ply top`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::output::out;
use crate::table;
use crate::terminal;

/// Show a container's processes
#[derive(Debug, ClapArgs)]
#[command(override_usage = "ply top CONTAINER [PS OPTIONS]")]
pub(crate) struct Args {
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Options of the host's ps(1)
    #[arg(
        value_name = "PS OPTIONS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    options: Vec<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let top = context
        .engine()?
        .top_container(&args.container, &args.options)
        .map_err(CommandError::failed)?;
    let mut lines = vec![top.titles.join("\t")];
    for row in &top.rows {
        let row: Vec<String> = row
            .iter()
            .map(|field| terminal::escaped(field).into_owned())
            .collect();
        lines.push(row.join("\t"));
    }
    out!("{}", table::align_wide(&(lines.join("\n") + "\n")));
    Ok(ExitCode::SUCCESS)
}
