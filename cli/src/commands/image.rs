//! `ply image`: the verbs on images as a group, and those that have no place outside it.

use std::process::ExitCode;

use clap::Args as ClapArgs;
use clap::Subcommand;
use runtime::image::ImageFilter;
use runtime::image::Pruned;
use runtime::image::Removal;

use super::build;
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
use crate::output::outln;

/// Manage images
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Build(Box<build::Args>),
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
    /// Format the output: `json` or a Go template
    #[arg(short, long, value_name = "FORMAT")]
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
    /// Only images that fit (`until=<time>`, `label=<key>[=<value>]`, `label!=<key>[=<value>]`)
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    match args.verb {
        Verb::Build(args) => build::run(*args, context),
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
    let engine = context.engine()?;
    super::inspect::show(&args.images, args.format.as_deref(), |name| {
        match engine.inspect_image(name) {
            Ok(image) => Ok(Some(image)),
            Err(error) => Err(format!("Error: {error}")),
        }
    })
}

fn prune(args: &PruneArgs, context: &Context) -> Result<ExitCode, CommandError> {
    let mut filter = ImageFilter::default();
    for one in &args.filter {
        filter.add_of_prune(one).map_err(CommandError::failed)?;
    }
    if !args.force {
        let what = match args.all {
            true => "all images without at least one container associated to them",
            false => "all dangling images",
        };
        if !crate::terminal::confirm(&format!("WARNING! This will remove {what}.")) {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let pruned = context
        .engine()?
        .prune_images(args.all, &filter)
        .map_err(CommandError::failed)?;
    show_removals(&pruned);
    outln!(
        "Total reclaimed space: {}",
        crate::human_size::precise_size(pruned.freed)
    );
    Ok(ExitCode::SUCCESS)
}

/// Says which images a prune has removed.
pub(super) fn show_removals(pruned: &Pruned) {
    if pruned.removals.is_empty() {
        return;
    }
    outln!("Deleted Images:");
    for removal in &pruned.removals {
        match removal {
            Removal::Untagged(name) => outln!("untagged: {name}"),
            Removal::Deleted(digest) => outln!("deleted: {digest}"),
        }
    }
    outln!();
}
