//! `ply builder`: builds as a group, and their cache.

use std::process::ExitCode;

use clap::Args as ClapArgs;
use clap::Subcommand;
use runtime::Engine;
use runtime::build::CachePrune;

use super::build;
use super::container_options::parse_bytes;
use crate::command_error::CommandError;
use crate::context::Context;
use crate::output::outln;

/// Manage builds
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Build(Box<build::Args>),
    Prune(PruneArgs),
}

/// Remove the build cache
#[derive(Debug, ClapArgs)]
struct PruneArgs {
    /// Remove all of it, not just what no image has
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only what fits (`until=<time>`)
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// How much to keep
    #[arg(long, visible_alias = "reserved-space", value_name = "BYTES", value_parser = parse_bytes)]
    keep_storage: Option<u64>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    match args.verb {
        Verb::Build(args) => build::run(*args, context),
        Verb::Prune(args) => prune(&args, context),
    }
}

fn prune(args: &PruneArgs, context: &Context) -> Result<ExitCode, CommandError> {
    let mut prune = CachePrune {
        all: args.all,
        keep_storage: args.keep_storage,
        ..CachePrune::default()
    };
    for filter in &args.filter {
        if !prune.add(filter) {
            return Err(CommandError::failed(format_args!(
                "invalid filter '{filter}'"
            )));
        }
    }
    if !args.force {
        let what = match args.all {
            true => "all build cache",
            false => "all dangling build cache",
        };
        if !crate::terminal::confirm(&format!("WARNING! This will remove {what}.")) {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let freed = prune_cache(&context.engine()?, &prune)?;
    outln!(
        "Total reclaimed space: {}",
        crate::human_size::precise_size(freed)
    );
    Ok(ExitCode::SUCCESS)
}

/// Removes what fits of the cache and says what; returns the bytes that are free.
pub(super) fn prune_cache(engine: &Engine, prune: &CachePrune) -> Result<u64, CommandError> {
    let (pruned, freed) = engine
        .prune_build_cache(prune)
        .map_err(CommandError::failed)?;
    engine.emit_prune("builder", freed);
    if !pruned.is_empty() {
        outln!("Deleted build cache objects:");
        for one in &pruned {
            outln!("{}", one.id);
        }
        outln!();
    }
    Ok(freed)
}
