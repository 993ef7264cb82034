//! What a container's mounts show, opened by the monitor as long as it is among the host's mounts.
//!
//! The stage attaches them; it may be in a user namespace and unable to reach what they show. A volume of a container
//! with a user namespace holds the container's own numbers, as its upper does: the mount translates.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use layerfs::Union;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;

use super::Failure;
use super::Spec;
use super::failed;
use crate::container::Config;
use crate::sandbox;
use crate::sandbox::Mount;
use crate::sandbox::MountSource;
use crate::sandbox::VolumeMount;
use crate::sys;
use crate::volume;

/// Opens what the mounts show, in their order; a tmpfs is the stage's to make.
pub(super) fn open(spec: &Spec, union: &Arc<Union>) -> Result<Vec<Option<OwnedFd>>, Failure> {
    let one = |mount: &Mount| match &mount.source {
        MountSource::Tmpfs(_) => Ok(None),
        MountSource::Bind(bind) => sandbox::open_source(bind, mount.read_only)
            .map(Some)
            .map_err(failed(format!("mount {}", mount.target.display()))),
        MountSource::Volume(volume) => open_volume(spec, union, mount, volume).map(Some),
    };
    spec.config.mounts.iter().map(one).collect()
}

fn open_volume(
    spec: &Spec,
    union: &Arc<Union>,
    mount: &Mount,
    volume: &VolumeMount,
) -> Result<OwnedFd, Failure> {
    let words = |error: volume::VolumeError| Failure {
        code: 125,
        words: error.to_string(),
    };
    let none = Default::default();
    let options = spec.volumes.get(&volume.name).unwrap_or(&none);
    let whole = volume::open(&spec.root, &volume.name, options).map_err(words)?;
    if volume::is_tmpfs(options) && !volume.no_copy && volume.subpath.is_none() {
        volume::fill_mounted(union, &mount.target, volume, &whole).map_err(words)?;
    }
    let failed = || failed(format!("mount {}", mount.target.display()));
    let tree = match &volume.subpath {
        None => whole,
        Some(subpath) => part(&whole, subpath).map_err(failed())?,
    };
    let attributes = match mount.read_only {
        true => rustix::mount::MountAttrFlags::MOUNT_ATTR_RDONLY,
        false => rustix::mount::MountAttrFlags::empty(),
    };
    sys::mount::set_attributes(tree.as_fd(), c"", attributes, libc::MS_PRIVATE, true)
        .map_err(failed())?;
    Ok(tree)
}

/// Returns a mount of a part of a volume: links in it lead no further than the volume.
fn part(whole: &OwnedFd, subpath: &Path) -> io::Result<OwnedFd> {
    let relative = subpath.strip_prefix("/").unwrap_or(subpath);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = sys::fds::open_resolved(whole, relative, flags, resolve)?;
    sys::mount::clone_tree(found.as_fd(), false)
}

/// Returns descriptors of the mounts that show a user namespace's numbers, to be kept until it is there.
pub(super) fn to_shift(config: &Config, sources: &[Option<OwnedFd>]) -> io::Result<Vec<OwnedFd>> {
    if config.first_user.is_none() {
        return Ok(Vec::new());
    }
    let volumes = config
        .mounts
        .iter()
        .zip(sources)
        .filter_map(|(mount, source)| {
            matches!(mount.source, MountSource::Volume(_)).then_some(source.as_ref())?
        });
    volumes.map(OwnedFd::try_clone).collect()
}

/// Has mounts show the numbers of the user namespace that a process is in. A filesystem that cannot do that shows its
/// own: they are nobody's in the container.
pub(super) fn shift(pid: i32, mounts: Vec<OwnedFd>) -> Result<(), Failure> {
    if mounts.is_empty() {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::open(format!("/proc/{pid}/ns/user"), flags, Mode::empty())
        .map_err(failed("open the user namespace"))?;
    for mount in mounts {
        match sys::mount::map_owners(mount.as_fd(), namespace.as_fd()) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                log::warn!("a volume's filesystem cannot translate owners");
            }
            mapped => mapped.map_err(failed("translate a volume's owners"))?,
        }
    }
    Ok(())
}
