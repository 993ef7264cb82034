//! `ply umount`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use rustix::mount::UnmountFlags;

use crate::command_error::CommandError;
use crate::context::Context;

/// Unmount what `ply mount` has mounted
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Unmount now, even while files are open; they stay readable until they are closed
    #[arg(short, long)]
    lazy: bool,
    /// The directories
    #[arg(value_name = "DIR", required = true)]
    mountpoints: Vec<PathBuf>,
}

pub(crate) fn run(args: Args, _: &Context) -> Result<ExitCode, CommandError> {
    let flags = match args.lazy {
        true => UnmountFlags::DETACH | UnmountFlags::NOFOLLOW,
        false => UnmountFlags::NOFOLLOW,
    };
    let failures: Vec<String> = args
        .mountpoints
        .iter()
        .filter_map(|path| {
            let error = rustix::mount::unmount(path, flags).err()?;
            let words = match error {
                rustix::io::Errno::INVAL => "not mounted".to_owned(),
                error => crate::words::of(&error.into()),
            };
            Some(format!("{}: {words}", path.display()))
        })
        .collect();
    match failures.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(CommandError::failed(failures.join("\n"))),
    }
}
