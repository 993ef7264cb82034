//! `ply mount`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use nix::unistd::ForkResult;

use crate::command_error::CommandError;
use crate::context::Context;

/// Mount an image read-only, to browse it; `umount` ends it
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The image
    image: String,
    /// The directory to mount it on
    #[arg(value_name = "DIR")]
    mountpoint: PathBuf,
    /// Serve the mount from this process until it is unmounted
    #[arg(long)]
    foreground: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let mounted = context
        .engine()?
        .mount_image(&args.image, &args.mountpoint)
        .map_err(CommandError::failed)?;
    if !args.foreground {
        // SAFETY: the process has one thread: neither the engine nor the mount has started any.
        match unsafe { nix::unistd::fork() }.map_err(CommandError::failed)? {
            ForkResult::Parent { .. } => {
                // The child serves the mount from here on; this process must not unmount it.
                std::mem::forget(mounted);
                return Ok(ExitCode::SUCCESS);
            }
            ForkResult::Child => leave_terminal().map_err(CommandError::failed)?,
        }
    }
    mounted.run().map_err(CommandError::failed)?;
    Ok(ExitCode::SUCCESS)
}

/// Leaves the caller's session, its standard streams and its working directory.
fn leave_terminal() -> std::io::Result<()> {
    nix::unistd::setsid()?;
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    std::env::set_current_dir("/")
}
