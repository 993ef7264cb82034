//! `ply load`

use std::fs::File;
use std::io;
use std::io::IsTerminal as _;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::progress::Progress;
use runtime::progress::Silent;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::output::outln;
use crate::progress::Shown;
use crate::progress::Stream;

/// Load images from a tar archive or standard input
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Read from this file instead of standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let mut reader: Box<dyn Read> = match &args.input {
        Some(path) => Box::new(File::open(path).map_err(|error| {
            CommandError::failed(format_args!(
                "open {}: {}",
                path.display(),
                crate::words::of(&error)
            ))
        })?),
        None if io::stdin().is_terminal() => {
            return Err(CommandError::failed(
                "requested load from stdin, but stdin is empty",
            ));
        }
        None => Box::new(io::stdin().lock()),
    };
    let engine = context.engine()?;
    let shown = Shown::new(Stream::Stdout);
    let progress: &dyn Progress = if args.quiet { &Silent } else { &shown };
    let loaded = engine.load(&mut *reader, progress);
    drop(shown);
    for image in loaded.map_err(CommandError::failed)? {
        if image.tags.is_empty() {
            outln!("Loaded image ID: {}", image.image);
        }
        for tag in &image.tags {
            outln!("Loaded image: {}", tag.familiar());
        }
    }
    Ok(ExitCode::SUCCESS)
}
