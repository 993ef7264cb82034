//! `ply history`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use jiff::Timestamp;
use runtime::image::HistoryEntry;
use runtime::image::printable;
use serde_json::Value;
use serde_json::json;

use crate::age::age;
use crate::command_error::CommandError;
use crate::context::Context;
use crate::format::Listing;
use crate::human_size::human_size;
use crate::output::out;
use crate::output::outln;

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
    if args.quiet {
        entries
            .iter()
            .for_each(|entry| outln!("{}", id(entry, &args)));
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Value> = entries.iter().map(|entry| fields(entry, &args)).collect();
    let text = LISTING
        .write(args.format.as_deref(), &rows)
        .map_err(CommandError::failed)?;
    out!("{text}");
    Ok(ExitCode::SUCCESS)
}

const LISTING: Listing<'_> = Listing {
    row: "history",
    table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    headings: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
};

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
