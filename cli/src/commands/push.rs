//! `ply push`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::image::PushOptions;
use runtime::progress::Progress;
use runtime::progress::Silent;
use runtime::reference::Reference;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::output::outln;
use crate::progress::Shown;
use crate::progress::Stream;

/// Upload an image to a registry
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Push all tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Print only the image's name
    #[arg(short, long)]
    quiet: bool,
    /// The image
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let reference: Reference = args.name.parse().map_err(CommandError::failed)?;
    if args.all_tags && reference.tag().is_some() {
        return Err(CommandError::failed("tag can't be used with --all-tags/-a"));
    }
    if reference.is_pinned() {
        return Err(CommandError::failed("cannot push a digest reference"));
    }
    if reference.tag().is_none() && !args.all_tags && !args.quiet {
        outln!("Using default tag: {}", runtime::reference::DEFAULT_TAG);
    }
    let engine = context.engine()?;
    let options = PushOptions::default();
    let shown = Shown::new(Stream::Stdout);
    let progress: &dyn Progress = if args.quiet { &Silent } else { &shown };
    let pushed = match args.all_tags {
        true => engine
            .push_all_tags(&reference, &options, progress)
            .map(|_| reference.clone()),
        false => engine
            .push(&reference, &options, progress)
            .map(|outcome| outcome.reference),
    };
    drop(shown);
    let pushed = pushed.map_err(CommandError::failed)?;
    if args.quiet {
        outln!("{pushed}");
    }
    Ok(ExitCode::SUCCESS)
}
