//! `ply rmi`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::image::Removal;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::output::outln;

/// Remove images
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Remove even if a stopped container uses it
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents (there are none here)
    #[arg(long)]
    no_prune: bool,
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let _ = args.no_prune;
    let engine = context.engine()?;
    let mut failures = Vec::new();
    for image in &args.images {
        match engine.remove_image(image, args.force) {
            Ok(removals) => removals.iter().for_each(print),
            Err(error) => failures.push(error.to_string()),
        }
    }
    match failures.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(CommandError::failed(failures.join("\n"))),
    }
}

/// Prints one step of a removal.
pub(crate) fn print(removal: &Removal) {
    match removal {
        Removal::Untagged(name) => outln!("Untagged: {name}"),
        Removal::Deleted(digest) => outln!("Deleted: {digest}"),
    }
}
