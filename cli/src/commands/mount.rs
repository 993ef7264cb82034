//! `ply mount`

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use nix::unistd::ForkResult;
use runtime::Engine;
use runtime::image::ImageError;
use runtime::mount::MountError;
use runtime::mount::ServedMount;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::output::out;
use crate::table;
use crate::terminal;

/// Mount an image, one of its layers or a container's tree, to browse it; without arguments, list what is mounted
///
/// `ply umount DIR` ends it. An image or layer is read-only; a container's tree can be changed, and a container that
/// does not run cannot be started while it is mounted.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The image or container
    #[arg(value_name = "IMAGE|CONTAINER", requires = "mountpoint")]
    name: Option<String>,
    /// The directory to mount it on
    #[arg(value_name = "DIR")]
    mountpoint: Option<PathBuf>,
    /// Mean a container, even if an image has that name too
    #[arg(long, conflicts_with = "layer")]
    container: bool,
    /// Serve the mount from this process until it is unmounted
    #[arg(long)]
    foreground: bool,
    /// Mount only this layer: its number, the lowest being 1, or its diff ID
    #[arg(long, value_name = "LAYER")]
    layer: Option<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let (Some(name), Some(mountpoint)) = (&args.name, &args.mountpoint) else {
        return list(context);
    };
    let engine = context.engine()?;
    let mounted = mount(&engine, &args, name, mountpoint).map_err(CommandError::failed)?;
    let Some(served) = mounted else {
        return Ok(ExitCode::SUCCESS);
    };
    if !args.foreground {
        // SAFETY: the process has one thread: neither the engine nor the mount has started any.
        match unsafe { nix::unistd::fork() } {
            Err(error) => {
                let _ = rustix::mount::unmount(mountpoint, rustix::mount::UnmountFlags::DETACH);
                return Err(CommandError::failed(error));
            }
            Ok(ForkResult::Parent { .. }) => {
                // The child serves the mount from here on; this process must not unmount it.
                std::mem::forget::<ServedMount>(served);
                return Ok(ExitCode::SUCCESS);
            }
            // What is mounted is served in any case.
            Ok(ForkResult::Child) => drop(leave_terminal()),
        }
    }
    served.run().map_err(CommandError::failed)?;
    Ok(ExitCode::SUCCESS)
}

fn mount(
    engine: &Engine,
    args: &Args,
    name: &str,
    mountpoint: &Path,
) -> Result<Option<ServedMount>, MountError> {
    if !args.container {
        match engine.mount_image(name, args.layer.as_deref(), mountpoint) {
            Ok(mounted) => return Ok(Some(mounted)),
            // A container's, perhaps.
            Err(MountError::Image(ImageError::NoSuchImage(_) | ImageError::Reference(_)))
                if args.layer.is_none() && engine.container(name).is_ok() => {}
            Err(error) => return Err(error),
        }
    }
    engine.mount_container(name, mountpoint)
}

fn list(context: &Context) -> Result<ExitCode, CommandError> {
    let mut text = "SOURCE\tMOUNTED ON\n".to_owned();
    for (source, mountpoint) in context.engine()?.mounts() {
        let mountpoint = mountpoint.to_string_lossy();
        text.push_str(&format!("{source}\t{}\n", terminal::escaped(&mountpoint)));
    }
    out!("{}", table::align(&text));
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
