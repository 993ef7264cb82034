//! `ply save`

use std::fs;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use clap::ValueEnum;
use runtime::Engine;
use runtime::image::ArchiveFormat;
use runtime::image::ImageError;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::words;

/// Save images to a tar archive (on standard output by default)
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Form of the archive; a docker-archive is an OCI layout too
    #[arg(long, value_name = "FORMAT", default_value = "docker-archive")]
    format: Format,
    /// The images; a repository without tag stands for all its tags
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    DockerArchive,
    OciArchive,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let format = match args.format {
        Format::DockerArchive => ArchiveFormat::DockerArchive,
        Format::OciArchive => ArchiveFormat::OciArchive,
    };
    match &args.output {
        Some(path) => to_file(&context.engine()?, &args.images, format, path)?,
        None if io::stdout().is_terminal() => {
            return Err(CommandError::failed(
                "cowardly refusing to save to a terminal. Use the -o flag or redirect",
            ));
        }
        None => {
            let mut writer = BufWriter::with_capacity(256 << 10, io::stdout().lock());
            context
                .engine()?
                .save(&args.images, format, &mut writer)
                .map_err(CommandError::failed)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes beside `path` and renames, so that a failure leaves no half archive.
fn to_file(
    engine: &Engine,
    images: &[String],
    format: ArchiveFormat,
    path: &Path,
) -> Result<(), CommandError> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    if !parent.is_dir() {
        return Err(CommandError::failed(format_args!(
            "failed to save image: invalid output path: directory \"{}\" does not exist",
            parent.display()
        )));
    }
    let failed = |error: io::Error| {
        CommandError::failed(format_args!(
            "failed to save image: {}: {}",
            path.display(),
            words::of(&error)
        ))
    };
    // A pipe or device is written to as it is.
    let is_special = fs::metadata(path).is_ok_and(|meta| !meta.is_file());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let target = match is_special {
        true => path.to_owned(),
        false => parent.join(format!(".{name}.{}.tmp", std::process::id())),
    };
    let file = File::options()
        .write(true)
        .create(!is_special)
        .truncate(!is_special)
        .mode(0o600)
        .open(&target)
        .map_err(failed)?;
    let mut writer = BufWriter::with_capacity(256 << 10, file);
    let saved = engine
        .save(images, format, &mut writer)
        .and_then(|()| writer.flush().map_err(ImageError::Stream));
    if is_special {
        return saved.map_err(CommandError::failed);
    }
    let renamed = saved
        .map_err(CommandError::failed)
        .and_then(|()| fs::rename(&target, path).map_err(failed));
    if renamed.is_err() {
        let _ = fs::remove_file(&target);
    }
    renamed
}
