//! `ply pull`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::image::Platform;
use runtime::image::PullOptions;
use runtime::progress::Progress;
use runtime::progress::Silent;
use runtime::reference::Reference;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::output::outln;
use crate::progress::Shown;
use crate::progress::Stream;

/// Download an image from a registry
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Choose this platform where the image has several
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env = true
    )]
    platform: Option<String>,
    /// Print only the image's name
    #[arg(short, long)]
    quiet: bool,
    /// The image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let reference: Reference = args.name.parse().map_err(CommandError::failed)?;
    let stated = reference.tag().is_some() || reference.is_pinned();
    if args.all_tags && stated {
        return Err(CommandError::failed("tag can't be used with --all-tags/-a"));
    }
    let platform = args
        .platform
        .as_deref()
        .map(str::parse::<Platform>)
        .transpose()
        .map_err(CommandError::failed)?;
    let options = PullOptions {
        platform,
        ..PullOptions::default()
    };
    if !stated && !args.all_tags && !args.quiet {
        outln!("Using default tag: {}", runtime::reference::DEFAULT_TAG);
    }
    let engine = context.engine()?;
    let shown = Shown::new(Stream::Stdout);
    let progress: &dyn Progress = if args.quiet { &Silent } else { &shown };
    let pulled = match args.all_tags {
        true => engine
            .pull_all_tags(&reference, &options, progress)
            .map(|_| reference.clone()),
        false => engine
            .pull(&reference, &options, progress)
            .map(|outcome| outcome.reference),
    };
    drop(shown);
    outln!("{}", pulled.map_err(CommandError::failed)?);
    Ok(ExitCode::SUCCESS)
}
