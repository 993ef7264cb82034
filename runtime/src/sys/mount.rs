//! The mount API over descriptors: nothing here follows a path that a container made.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::fs::CWD;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::MoveMountFlags;
use rustix::mount::OpenTreeFlags;

/// Makes a filesystem of `kind` with `options` and returns it as a mount that is attached nowhere yet.
pub(crate) fn filesystem(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        match value.is_empty() {
            true => rustix::mount::fsconfig_set_flag(context.as_fd(), *key)?,
            false => rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value)?,
        }
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    Ok(mount)
}

/// Returns a detached copy of the mount tree that `at` is in, rooted at `at`.
pub(crate) fn clone_tree(at: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(rustix::mount::open_tree(at, c"", flags)?)
}

/// Attaches a detached mount on what `target` is.
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, c"", target, c"", flags)?)
}

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Sets attributes (`MOUNT_ATTR_*`) and the propagation (`MS_PRIVATE` and its like, 0 leaves it) of a mount.
pub(crate) fn set_attributes(
    mount: BorrowedFd<'_>,
    path: &CStr,
    set: MountAttrFlags,
    propagation: u64,
    recursive: bool,
) -> io::Result<()> {
    let attributes = MountAttr {
        set: u64::from(set.bits()),
        propagation,
        ..MountAttr::default()
    };
    change(mount, path, &attributes, recursive)
}

/// Has a mount that is attached nowhere yet show owners as a user namespace numbers them.
pub(crate) fn map_owners(mount: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = MountAttr {
        set: libc::MOUNT_ATTR_IDMAP,
        userns_fd: namespace.as_raw_fd() as u64,
        ..MountAttr::default()
    };
    change(mount, c"", &attributes, false)
}

fn change(
    mount: BorrowedFd<'_>,
    path: &CStr,
    attributes: &MountAttr,
    recursive: bool,
) -> io::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: `attributes` has the layout of `mount_attr` and its size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    };
    super::check(result)?;
    Ok(())
}

/// Makes the calling process's mount namespace one that hears of the host's unmounts and tells the host nothing.
pub(crate) fn make_root_slave() -> io::Result<()> {
    set_attributes(CWD, c"/", MountAttrFlags::empty(), libc::MS_SLAVE, true)
}

/// Makes every mount of the calling process's mount namespace private.
pub(crate) fn make_root_private() -> io::Result<()> {
    set_attributes(CWD, c"/", MountAttrFlags::empty(), libc::MS_PRIVATE, true)
}
