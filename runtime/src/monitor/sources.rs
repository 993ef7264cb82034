//! What a container's mounts show, opened by the monitor as long as it is among the host's mounts.
//!
//! The stage attaches them; it may be in a user namespace and unable to reach what they show. A volume of a container
//! with a user namespace holds the container's own numbers, as its upper does: the mount translates.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::IntoRawFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use layerfs::Union;
use rustix::fs::Mode;
use rustix::fs::OFlags;

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

/// Goes to the host's mounts if the container shares some of its own with them, and remembers the way: a monitor that
/// begins anew is among its own, which the host does not hear of.
pub(super) fn go_to_host(spec: &mut Spec) -> io::Result<()> {
    let is_shared = |mount: &Mount| {
        let source = &mount.source;
        matches!(source, MountSource::Bind(bind) if bind.propagation.is_shared())
    };
    if !spec.config.mounts.iter().any(is_shared) {
        return Ok(());
    }
    let host = match spec.again.host_mounts {
        Some(fd) => {
            // SAFETY: the monitor before this one has left it open for us, and nobody else knows of it.
            let host = unsafe { sys::fds::adopt(fd) }?;
            let kind = rustix::thread::LinkNameSpaceType::Mount;
            rustix::thread::move_into_link_name_space(host.as_fd(), Some(kind))?;
            host
        }
        None => {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            rustix::fs::open("/proc/self/ns/mnt", flags, Mode::empty())?
        }
    };
    sys::fds::inherit(host.as_fd())?;
    spec.again.host_mounts = Some(host.into_raw_fd());
    Ok(())
}

/// Opens what the mounts show, in their order; a tmpfs is the stage's to make.
pub(super) fn open(spec: &Spec, union: &Arc<Union>) -> Result<Vec<Option<OwnedFd>>, Failure> {
    let one = |mount: &Mount| match &mount.source {
        MountSource::Tmpfs(_) => Ok(None),
        MountSource::Bind(bind) => sandbox::open_source(bind, mount.read_only)
            .map(Some)
            .map_err(cannot_mount(mount)),
        MountSource::Volume(volume) => open_volume(spec, union, mount, volume).map(Some),
    };
    spec.config.mounts.iter().map(one).collect()
}

fn cannot_mount(mount: &Mount) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure {
        code: 125,
        words: format!(
            "mount {}: {}",
            mount.target.display(),
            crate::image::words(&error)
        ),
    }
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
    let tree = match &volume.subpath {
        None => whole,
        Some(subpath) => volume::part(&whole, subpath).map_err(|error| Failure {
            code: 125,
            words: format!(
                "cannot access path {}: {}",
                volume::data_path(&spec.root, &volume.name)
                    .join(subpath)
                    .display(),
                crate::image::words(&error)
            ),
        })?,
    };
    let attributes = match mount.read_only {
        true => rustix::mount::MountAttrFlags::MOUNT_ATTR_RDONLY,
        false => rustix::mount::MountAttrFlags::empty(),
    };
    sys::mount::set_attributes(tree.as_fd(), c"", attributes, libc::MS_PRIVATE, true)
        .map_err(cannot_mount(mount))?;
    Ok(tree)
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
