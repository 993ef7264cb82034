//! `ply compose ls`

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use serde_json::Value;
use serde_json::json;

use super::Access;
use crate::command_error::CommandError;
use crate::compose::labels;
use crate::compose::members;
use crate::compose::members::Member;
use crate::format::Listing;
use crate::output::out;
use crate::output::outln;

/// List projects
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Also those of which nothing runs
    #[arg(short, long)]
    all: bool,
    /// Only projects that fit (`name`)
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// `table` or `json`
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    format: String,
    /// Show only names
    #[arg(short, long)]
    quiet: bool,
}

const LISTING: Listing<'_> = Listing {
    row: "project",
    table: "{{.Name}}\t{{.Status}}\t{{.ConfigFiles}}",
    headings: &[
        ("Name", "NAME"),
        ("Status", "STATUS"),
        ("ConfigFiles", "CONFIG FILES"),
    ],
};

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let engine = access.engine()?;
    let mut rows = Vec::new();
    for (name, mut members) in members::of_all(&engine)? {
        members.retain(|member| args.all || member.container.state.status.is_alive());
        if !members.is_empty() && fits(&name, &args.filter)? {
            rows.push(row(&name, &members));
        }
    }
    if args.quiet {
        rows.iter()
            .filter_map(|row| row["Name"].as_str())
            .for_each(|name| outln!("{name}"));
        return Ok(ExitCode::SUCCESS);
    }
    match args.format.as_str() {
        "json" => outln!("{}", Value::Array(rows)),
        _ => out!(
            "{}",
            LISTING.write(None, &rows).map_err(CommandError::failed)?
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn fits(name: &str, filters: &[String]) -> Result<bool, CommandError> {
    for filter in filters {
        match filter.split_once('=') {
            Some(("name", part)) if name.contains(part) => {}
            Some(("name", _)) => return Ok(false),
            _ => {
                return Err(CommandError::failed(format_args!(
                    "invalid filter '{filter}'"
                )));
            }
        }
    }
    Ok(true)
}

fn row(name: &str, members: &[Member]) -> Value {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for member in members {
        *counts
            .entry(member.container.state.status.as_str())
            .or_default() += 1;
    }
    let status: Vec<String> = counts
        .iter()
        .map(|(status, count)| format!("{status}({count})"))
        .collect();
    let mut files: Vec<&str> = Vec::new();
    for member in members {
        for file in member.label(labels::CONFIG_FILES).split(',') {
            if !file.is_empty() && !files.contains(&file) {
                files.push(file);
            }
        }
    }
    json!({"Name": name, "Status": status.join(", "), "ConfigFiles": files.join(",")})
}
