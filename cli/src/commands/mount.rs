//! `ply mount`

use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use nix::unistd::ForkResult;
use runtime::Engine;
use runtime::image::ImageError;
use runtime::mount::MountError;
use runtime::mount::ServedMount;
use runtime::mount::UnionOptions;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::output::out;
use crate::table;
use crate::terminal;

/// Mount an image, one of its layers, a container's tree or a union of directories; without arguments, list what is mounted
///
/// `ply umount DIR` ends it. An image or layer is read-only; a container's tree can be changed, and a container that
/// does not run cannot be started while it is mounted.
///
/// With `-o lowerdir=...` it is a union of plain directories, as `mount -t overlay` and `fuse-overlayfs` make it. The same
/// program under the name `mount.fuse.layerfs` is a helper of mount(8) and a mount program for Podman.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The image or container
    #[arg(value_name = "IMAGE|CONTAINER")]
    name: Option<OsString>,
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
    /// Mount a union of directories: lowerdir=A:B, upperdir=U, workdir=W and others
    #[arg(short = 'o', long, value_name = "LIST", conflicts_with_all = ["container", "layer"])]
    options: Vec<OsString>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let (name, mountpoint) = match (&args.name, &args.mountpoint, args.options.is_empty()) {
        (None, None, true) => return list(context),
        (Some(name), Some(mountpoint), true) => (name, mountpoint),
        (_, Some(mountpoint), false) => return mount_union(&args, mountpoint, context),
        (Some(mountpoint), None, false) => {
            return mount_union(&args, Path::new(mountpoint), context);
        }
        _ => {
            let words = "\"ply mount\" requires a directory to mount on.";
            return Err(CommandError::failed(words));
        }
    };
    let name = name.to_string_lossy();
    let engine = context.engine()?;
    let mounted = mount(&engine, &args, &name, mountpoint).map_err(CommandError::failed)?;
    match mounted {
        Some(served) => serve(served, mountpoint, args.foreground),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn mount_union(
    args: &Args,
    mountpoint: &Path,
    context: &Context,
) -> Result<ExitCode, CommandError> {
    let lists = args.options.iter().map(OsString::as_os_str);
    let options = UnionOptions::parse(lists).map_err(CommandError::failed)?;
    let config = &context.config;
    let mounted = match is_writable(&config.root) && is_writable(&config.run) {
        true => context.engine()?.mount_directories(&options, mountpoint),
        // Nobody could take the mount away for us later.
        false => runtime::mount::mount_directories(&options, mountpoint),
    };
    let served = mounted.map_err(CommandError::failed)?;
    serve(served, mountpoint, args.foreground)
}

/// Returns whether the directory, or the nearest one there is above it, can be written.
fn is_writable(directory: &Path) -> bool {
    let there = directory.ancestors().find(|path| path.exists());
    there.is_some_and(|path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok())
}

/// Answers the mount's requests, in this process or in one that stays behind.
pub(crate) fn serve(
    served: ServedMount,
    mountpoint: &Path,
    foreground: bool,
) -> Result<ExitCode, CommandError> {
    if !foreground {
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
