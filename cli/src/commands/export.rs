//! `ply export`

use std::fs;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::terminal;
use crate::words;

/// Write a container's files as a tar (on standard output by default)
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub(super) container: String,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    let Some(path) = &args.output else {
        if terminal::stdout_is_terminal() {
            return Err(CommandError::failed(
                "cowardly refusing to save to a terminal. Use the -o flag or redirect",
            ));
        }
        let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
        engine
            .export_container(&args.container, &mut out)
            .map_err(CommandError::failed)?;
        return Ok(ExitCode::SUCCESS);
    };
    // Asked for first: a name that is not there makes no file.
    engine
        .container(&args.container)
        .map_err(CommandError::failed)?;
    let failed = |error: io::Error| {
        CommandError::failed(format_args!(
            "open {}: {}",
            path.display(),
            words::of(&error)
        ))
    };
    // What a container holds is not for everybody.
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    if let Err(error) = engine.export_container(&args.container, &mut out) {
        drop(out);
        let _ = fs::remove_file(path);
        return Err(CommandError::failed(error));
    }
    Ok(ExitCode::SUCCESS)
}
