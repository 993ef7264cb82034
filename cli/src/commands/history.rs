//! `ply history`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use jiff::Timestamp;
use runtime::image::HistoryEntry;
use runtime::image::printable;
use serde_json::Value;
use serde_json::json;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::image_columns::age;
use crate::image_columns::columns;
use crate::image_columns::human_size;

/// Show the steps an image was made by
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Format the output: `table`, `json` or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Sizes and dates for people (`--human=false`: bytes and timestamps)
    #[arg(short = 'H', long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    human: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Print only ids
    #[arg(short, long)]
    quiet: bool,
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let entries = context
        .engine()?
        .history(&args.image)
        .map_err(CommandError::failed)?;
    match args.format.as_deref() {
        _ if args.quiet => entries
            .iter()
            .for_each(|entry| println!("{}", id(entry, &args))),
        None | Some("table") => {
            let heading = ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"];
            let mut table = vec![heading.map(str::to_owned).to_vec()];
            table.extend(entries.iter().map(|entry| {
                vec![
                    id(entry, &args),
                    created(entry, &args),
                    created_by(entry, &args),
                    size(entry, &args),
                    printable(&entry.comment),
                ]
            }));
            print!("{}", columns(&table));
        }
        Some("json" | "{{json .}}") => {
            entries
                .iter()
                .for_each(|entry| println!("{}", fields(entry, &args)));
        }
        Some(_) => {
            return Err(CommandError::failed(
                "only --format json and table are supported here",
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn id(entry: &HistoryEntry, args: &Args) -> String {
    match &entry.image {
        None => "<missing>".to_owned(),
        Some(id) if args.no_trunc => id.to_string(),
        Some(id) => id.short(),
    }
}

fn created(entry: &HistoryEntry, args: &Args) -> String {
    let at: Option<Timestamp> = entry.created.as_deref().and_then(|text| text.parse().ok());
    match args.human {
        true => age(at),
        false => at.map_or_else(String::new, |at| at.to_string()),
    }
}

fn created_by(entry: &HistoryEntry, args: &Args) -> String {
    const LONGEST: usize = 45;
    let text = printable(&entry.created_by.replace('\t', " "));
    match args.no_trunc || text.chars().count() <= LONGEST {
        true => text,
        false => text.chars().take(LONGEST - 1).chain(['…']).collect(),
    }
}

fn size(entry: &HistoryEntry, args: &Args) -> String {
    match args.human {
        true => human_size(entry.size),
        false => entry.size.to_string(),
    }
}

/// Returns the fields that a template or `json` shows.
fn fields(entry: &HistoryEntry, args: &Args) -> Value {
    json!({
        "Comment": printable(&entry.comment),
        "CreatedAt": entry.created.clone().unwrap_or_default(),
        "CreatedBy": created_by(entry, args),
        "CreatedSince": created(entry, args),
        "ID": id(entry, args),
        "Size": size(entry, args),
    })
}
