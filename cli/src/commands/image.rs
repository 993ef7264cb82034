//! `ply image`: the verbs on images as a group, and those that have no place outside it.

use std::io;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use clap::Subcommand;
use runtime::image::ImageFilter;

use super::history;
use super::images;
use super::import;
use super::load;
use super::pull;
use super::push;
use super::rmi;
use super::save;
use super::tag;
use crate::command_error::CommandError;
use crate::context::Context;

/// Manage images
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    History(history::Args),
    Import(import::Args),
    Inspect(InspectArgs),
    Load(load::Args),
    #[command(alias = "list")]
    Ls(images::Args),
    Prune(PruneArgs),
    Pull(pull::Args),
    Push(push::Args),
    #[command(alias = "remove")]
    Rm(rmi::Args),
    Save(save::Args),
    Tag(tag::Args),
}

/// Show all that is known of images
#[derive(Debug, ClapArgs)]
struct InspectArgs {
    /// Format the output with a Go template
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// Remove unused images
#[derive(Debug, ClapArgs)]
struct PruneArgs {
    /// Remove all unused images, not just those without a name
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only images that fit (`until=<time>`, `label=<key>[=<value>]`)
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    match args.verb {
        Verb::History(args) => history::run(args, context),
        Verb::Import(args) => import::run(args, context),
        Verb::Inspect(args) => inspect(&args, context),
        Verb::Load(args) => load::run(args, context),
        Verb::Ls(args) => images::run(args, context),
        Verb::Prune(args) => prune(&args, context),
        Verb::Pull(args) => pull::run(args, context),
        Verb::Push(args) => push::run(args, context),
        Verb::Rm(args) => rmi::run(args, context),
        Verb::Save(args) => save::run(args, context),
        Verb::Tag(args) => tag::run(args, context),
    }
}

fn inspect(args: &InspectArgs, context: &Context) -> Result<ExitCode, CommandError> {
    if args
        .format
        .as_deref()
        .is_some_and(|format| format != "json" && format != "{{json .}}")
    {
        return Err(CommandError::failed("only --format json is supported here"));
    }
    let engine = context.engine()?;
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for image in &args.images {
        match engine.inspect_image(image) {
            Ok(shown) => found.push(shown),
            Err(error) => failures.push(error.to_string()),
        }
    }
    match args.format {
        Some(_) => found.iter().for_each(|one| println!("{one}")),
        None => println!("{}", pretty(&found)),
    }
    match failures.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(CommandError::failed(failures.join("\n"))),
    }
}

/// Writes JSON with Docker's indent of four.
fn pretty(found: &[serde_json::Value]) -> String {
    use serde::Serialize as _;
    let mut out = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, indent);
    // Values always serialize, and a Vec takes all.
    let _ = found.serialize(&mut serializer);
    String::from_utf8_lossy(&out).into_owned()
}

fn prune(args: &PruneArgs, context: &Context) -> Result<ExitCode, CommandError> {
    let mut filter = ImageFilter::default();
    for one in &args.filter {
        filter.add(one).map_err(CommandError::failed)?;
    }
    if !args.force {
        let what = match args.all {
            true => "all images without at least one container associated to them",
            false => "all dangling images",
        };
        print!("WARNING! This will remove {what}.\nAre you sure you want to continue? [y/N] ");
        let _ = io::stdout().flush();
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer);
        if read.is_err() || !matches!(answer.trim(), "y" | "Y") {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let pruned = context
        .engine()?
        .prune_images(args.all, &filter)
        .map_err(CommandError::failed)?;
    if !pruned.removals.is_empty() {
        println!("Deleted Images:");
        pruned.removals.iter().for_each(|removal| match removal {
            runtime::image::Removal::Untagged(name) => println!("untagged: {name}"),
            runtime::image::Removal::Deleted(digest) => println!("deleted: {digest}"),
        });
        println!();
    }
    println!(
        "Total reclaimed space: {}",
        crate::image_columns::human_size(pruned.freed)
    );
    Ok(ExitCode::SUCCESS)
}
