//! `mount.fuse.layerfs`, or `ply -o ...`: a union of plain directories for mount(8), and for Podman instead of
//! fuse-overlayfs.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use runtime::mount::UnionOptions;
use runtime::mount::mount_directories;

use super::mount;
use crate::command_error::CommandError;

/// What the program is called where it is to do this.
const NAMES: [&str; 2] = ["mount.fuse.layerfs", "mount.layerfs"];

/// Mount a union of directories
#[derive(Debug, Parser)]
#[command(name = "mount.fuse.layerfs", version, disable_version_flag = true)]
struct Args {
    /// lowerdir=A:B, upperdir=U, workdir=W and others
    #[arg(short = 'o', value_name = "LIST")]
    options: Vec<OsString>,
    /// Serve the mount from this process until it is unmounted
    #[arg(short, long)]
    foreground: bool,
    /// The kind of filesystem, as mount(8) says it
    #[arg(short = 't', value_name = "TYPE", hide = true)]
    kind: Option<String>,
    /// What mount(8) and FUSE's own helpers give, and nothing is to be done for
    #[arg(short = 's', hide = true)]
    sloppy: bool,
    #[arg(short = 'n', hide = true)]
    no_table: bool,
    #[arg(short = 'v', hide = true)]
    verbose: bool,
    /// Print the version
    #[arg(short = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// The directory to mount on, after what the mount table is to show
    #[arg(value_name = "[SOURCE] DIR", num_args = 0..=2)]
    operands: Vec<PathBuf>,
}

/// Returns whether the command line asks for a mount of this kind and not for a verb.
pub(crate) fn is_meant(mut arguments: impl Iterator<Item = OsString>) -> bool {
    let name = arguments.next().map(PathBuf::from);
    let name = name.as_deref().and_then(|path| path.file_name());
    let first = arguments.next();
    name.is_some_and(|name| NAMES.iter().any(|known| OsStr::new(known) == name))
        || first.is_some_and(|first| first.as_encoded_bytes().starts_with(b"-o"))
}

pub(crate) fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    match run(&args) {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}

/// Says what is wrong with the command line in one line; help and version go to standard output.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let words = error.to_string();
    let first = words.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    CommandError::failed(format_args!("mount.fuse.layerfs: {first}")).report()
}

fn run(args: &Args) -> Result<ExitCode, CommandError> {
    let failed = |error: &dyn std::fmt::Display| {
        CommandError::failed(format_args!("mount.fuse.layerfs: {error}"))
    };
    let lists = args.options.iter().map(OsString::as_os_str);
    let mut options = UnionOptions::parse(lists).map_err(|error| failed(&error))?;
    let (source, mountpoint) = match &args.operands[..] {
        [source, mountpoint] => (Some(source), mountpoint),
        [mountpoint] => (None, mountpoint),
        _ => return Err(failed(&"one directory to mount on is needed")),
    };
    if let Some(source) = source {
        options.mount.source = source.to_string_lossy().into_owned();
    }
    let served = mount_directories(&options, mountpoint).map_err(|error| failed(&error))?;
    mount::serve(served, mountpoint, args.foreground)
}
