//! `ply images`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::image::Image;
use runtime::image::ImageFilter;
use serde_json::Value;
use serde_json::json;

use crate::age::age;
use crate::command_error::CommandError;
use crate::context::Context;
use crate::format::Listing;
use crate::human_size::human_size;
use crate::output::out;
use crate::output::outln;

/// List images
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Show all images (there are no intermediate ones to hide)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Only images that fit (`dangling`, `reference`, `before`, `since`, `label`, `until`)
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Format the output: `table`, `json` or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    /// Print only ids
    #[arg(short, long)]
    quiet: bool,
    /// Only this repository's
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

const NONE: &str = "<none>";

const HEADINGS: &[(&str, &str)] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

/// One line of the list: an image under one of its names.
struct Row<'a> {
    image: &'a Image,
    repository: String,
    tag: String,
    digest: String,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let _ = args.all;
    let mut filter = ImageFilter::default();
    for one in &args.filter {
        filter.add(one).map_err(CommandError::failed)?;
    }
    filter.references.extend(args.name.clone());
    let images = context
        .engine()?
        .images(&filter)
        .map_err(CommandError::failed)?;
    let rows: Vec<Row<'_>> = images.iter().flat_map(rows).collect();
    let id = |row: &Row<'_>| match args.no_trunc {
        true => row.image.id.to_string(),
        false => row.image.id.short(),
    };
    if args.quiet {
        rows.iter().for_each(|row| outln!("{}", id(row)));
        return Ok(ExitCode::SUCCESS);
    }
    let listing = Listing {
        row: "image",
        table: match args.digests {
            true => "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
            false => "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
        },
        headings: HEADINGS,
    };
    let rows: Vec<Value> = rows.iter().map(|row| fields(row, &id(row))).collect();
    let text = listing
        .write(args.format.as_deref(), &rows)
        .map_err(CommandError::failed)?;
    out!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// Returns an image's lines: one for each tag, else one for each repository that has it by digest, else one.
fn rows(image: &Image) -> Vec<Row<'_>> {
    let digest_of = |repository: &str| {
        image
            .repo_digests
            .iter()
            .find_map(|digest| {
                digest
                    .split_once('@')
                    .filter(|(name, _)| *name == repository)
            })
            .map_or(NONE, |(_, digest)| digest)
            .to_owned()
    };
    let mut rows: Vec<Row<'_>> = image
        .tags
        .iter()
        .map(|tag| {
            let repository = tag.familiar_name();
            Row {
                image,
                digest: digest_of(&repository),
                tag: tag.tag().unwrap_or(NONE).to_owned(),
                repository,
            }
        })
        .collect();
    if rows.is_empty() {
        rows.extend(image.repo_digests.iter().filter_map(|name| {
            let (repository, digest) = name.split_once('@')?;
            Some(Row {
                image,
                repository: repository.to_owned(),
                tag: NONE.to_owned(),
                digest: digest.to_owned(),
            })
        }));
    }
    if rows.is_empty() {
        rows.push(Row {
            image,
            repository: NONE.to_owned(),
            tag: NONE.to_owned(),
            digest: NONE.to_owned(),
        });
    }
    rows
}

/// Returns the fields that a template or `json` shows.
fn fields(row: &Row<'_>, id: &str) -> Value {
    json!({
        "Containers": "N/A",
        "CreatedAt": row.image.created_at().map_or_else(|| "N/A".to_owned(), |at| {
            crate::age::written_out(at)
        }),
        "CreatedSince": age(row.image.created_at()),
        "Digest": row.digest,
        "ID": id,
        "Repository": row.repository,
        "SharedSize": "N/A",
        "Size": human_size(row.image.size),
        "Tag": row.tag,
        "UniqueSize": "N/A",
        "VirtualSize": human_size(row.image.size),
    })
}
