//! What a build's step is shown: trees of layers, secrets.

use std::io;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Uid;
use rustix::mount::MountAttrFlags;

use super::super::Secret;
use super::super::TreeMount;
use super::super::root;
use super::super::root::Make;
use super::super::root::Root;
use super::RDONLY;
use crate::sys;

/// Mounts what a path of a tree leads to, links followed within the tree.
pub(super) fn tree(root: &Root, mount: &TreeMount) -> io::Result<()> {
    let source = Root::open(&mount.root)?.find(&mount.tree.path)?;
    let shown = sys::mount::clone_tree(source.as_fd(), false)?;
    let read_only = match mount.tree.writable {
        true => MountAttrFlags::empty(),
        false => RDONLY,
    };
    sys::mount::set_attributes(shown.as_fd(), c"", read_only, libc::MS_PRIVATE, true)?;
    let make = match sys::fds::is_directory(&source)? {
        true => Make::Directory,
        false => Make::File,
    };
    let target = root.find_or_make(&mount.tree.target, make)?;
    sys::mount::attach(shown.as_fd(), target.as_fd())
}

/// The name a secret has in /dev, a tmpfs, until it is mounted: a file can be mounted from a mount that is attached.
const PASSING: &str = ".secret";

/// Mounts a file in memory.
pub(super) fn secret(root: &Root, dev: &OwnedFd, secret: &Secret) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dev, PASSING, flags, Mode::RUSR)?;
    let mounted = fill(dev, file, secret).and_then(|shown| {
        let target = root.find_or_make(&secret.target, Make::File)?;
        sys::mount::attach(shown.as_fd(), target.as_fd())
    });
    // Only what has a name can be mounted.
    rustix::fs::unlinkat(dev, PASSING, AtFlags::empty())?;
    mounted
}

fn fill(dev: &OwnedFd, file: OwnedFd, secret: &Secret) -> io::Result<OwnedFd> {
    let (uid, gid) = (Uid::from_raw(secret.uid), Gid::from_raw(secret.gid));
    rustix::fs::fchown(&file, Some(uid), Some(gid))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(secret.mode & 0o777))?;
    std::fs::File::from(file).write_all(&secret.content)?;
    let file = root::beneath(dev, Path::new(PASSING))?;
    let shown = sys::mount::clone_tree(file.as_fd(), false)?;
    sys::mount::set_attributes(shown.as_fd(), c"", RDONLY, libc::MS_PRIVATE, true)?;
    Ok(shown)
}
