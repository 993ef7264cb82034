//! Attaching the filesystem to a directory, and taking just that mount away again.
//!
//! A mount is known by its id, never by its path alone: by the time a server ends, another one may have been mounted on
//! the same directory.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::MoveMountFlags;
use rustix::mount::UnmountFlags;

use super::MountOptions;

/// A mount of ours on a directory.
#[derive(Debug)]
pub(super) struct MountPoint {
    pub(super) path: PathBuf,
    pub(super) id: u64,
}

impl MountPoint {
    /// Makes a FUSE filesystem that `device` serves and attaches it to the directory; the kernel's first request is
    /// then waiting.
    pub(super) fn attach(
        device: &File,
        path: &Path,
        options: &MountOptions,
        read_only: bool,
    ) -> io::Result<MountPoint> {
        let context = rustix::mount::fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let context = context.as_fd();
        for (key, value) in [
            ("source", options.source.clone()),
            ("subtype", options.subtype.to_owned()),
            ("fd", device.as_raw_fd().to_string()),
            ("rootmode", format!("{:o}", libc::S_IFDIR)),
            ("user_id", rustix::process::geteuid().as_raw().to_string()),
            ("group_id", rustix::process::getegid().as_raw().to_string()),
        ] {
            rustix::mount::fsconfig_set_string(context, key, value.as_str())?;
        }
        if let Some(label) = &options.context {
            rustix::mount::fsconfig_set_string(context, "context", label.as_str())?;
        }
        for key in ["default_permissions", "allow_other"] {
            rustix::mount::fsconfig_set_flag(context, key)?;
        }
        rustix::mount::fsconfig_create(context)?;
        let mut attributes = MountAttrFlags::empty();
        for (is_wanted, attribute) in [
            (!options.setuid, MountAttrFlags::MOUNT_ATTR_NOSUID),
            (!options.devices, MountAttrFlags::MOUNT_ATTR_NODEV),
            (options.noexec, MountAttrFlags::MOUNT_ATTR_NOEXEC),
            (
                read_only || options.read_only,
                MountAttrFlags::MOUNT_ATTR_RDONLY,
            ),
        ] {
            attributes.set(attribute, is_wanted);
        }
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let mount = rustix::mount::fsmount(context, flags, attributes)?;
        let id = mount_id(mount.as_fd())?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(mount.as_fd(), c"", CWD, path, flags)?;
        Ok(MountPoint {
            path: std::path::absolute(path)?,
            id,
        })
    }

    /// Unmounts, if the mount is still there.
    pub(super) fn detach(&self, flags: UnmountFlags) -> io::Result<()> {
        match self.is_there()? {
            true => {
                let flags = flags | UnmountFlags::NOFOLLOW;
                Ok(rustix::mount::unmount(&self.path, flags)?)
            }
            false => Ok(()),
        }
    }

    /// Returns whether the path still leads to the mount; asks nothing of its server.
    pub(super) fn is_there(&self) -> io::Result<bool> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&self.path, flags, Mode::empty())?;
        Ok(mount_id(directory.as_fd())? == self.id)
    }
}

/// Returns the id of the mount that a descriptor is in, without a request to its filesystem (`proc(5)`, "fdinfo").
pub(super) fn mount_id(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    info.lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}
