//! `ply compose version`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use serde_json::json;

use crate::command_error::CommandError;
use crate::compose::labels::OUR_VERSION;
use crate::output::outln;

/// Show the version
#[derive(Debug, Default, ClapArgs)]
pub(super) struct Args {
    /// `pretty` or `json`
    #[arg(short, long, value_name = "FORMAT", default_value = "pretty", value_parser = ["pretty", "json"])]
    format: String,
    /// Only the number
    #[arg(long)]
    short: bool,
}

pub(super) fn run(args: Args) -> Result<ExitCode, CommandError> {
    match (args.short, args.format.as_str()) {
        (true, _) => outln!("{OUR_VERSION}"),
        (_, "json") => outln!("{}", json!({"version": format!("v{OUR_VERSION}")})),
        _ => outln!(
            "Docker Compose version v{OUR_VERSION} (ply {})",
            env!("CARGO_PKG_VERSION")
        ),
    }
    Ok(ExitCode::SUCCESS)
}
