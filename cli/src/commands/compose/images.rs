//! `ply compose images`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use serde_json::Value;
use serde_json::json;

use super::Access;
use crate::age;
use crate::command_error::CommandError;
use crate::format::Listing;
use crate::human_size::human_size;
use crate::output::out;
use crate::output::outln;

/// List the images of a project's containers
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// `table` or `json`
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    format: String,
    /// Print only ids
    #[arg(short, long)]
    quiet: bool,
    /// The services; all if there are none
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

const LISTING: Listing<'_> = Listing {
    row: "image",
    table: "{{.ContainerName}}\t{{.Repository}}\t{{.Tag}}\t{{.ShortID}}\t{{.Size}}\t{{.Created}}",
    headings: &[
        ("ContainerName", "CONTAINER"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ShortID", "IMAGE ID"),
        ("Size", "SIZE"),
        ("Created", "CREATED"),
    ],
};

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let engine = access.engine()?;
    let (_, members) = access.members(&engine, &args.services)?;
    let mut rows: Vec<Value> = Vec::new();
    for member in &members {
        let config = &member.container.config;
        let image = engine
            .image(&config.image_id)
            .map_err(CommandError::failed)?;
        let named = image
            .tags
            .first()
            .map(|tag| tag.familiar())
            .unwrap_or_default();
        let (repository, tag) = named.rsplit_once(':').unwrap_or(("<none>", "<none>"));
        rows.push(json!({
            "ID": config.image_id, "ShortID": image.id.short(), "ContainerName": member.name(),
            "Repository": repository, "Tag": tag, "Created": age::age(image.created_at()),
            "Size": human_size(image.size),
        }));
    }
    if args.quiet {
        let mut ids: Vec<&str> = rows.iter().filter_map(|row| row["ID"].as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.iter()
            .for_each(|id| outln!("{}", id.trim_start_matches("sha256:")));
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
