//! A container's root as a directory that paths are resolved beneath, wherever its links point.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::io::Errno;

use crate::sys;

/// What is made at a mount's target if nothing is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Make {
    Directory,
    File,
}

/// How many links are followed that lead nowhere, as the kernel's own bound.
const MOST_LINKS: usize = 40;

/// The root, held open.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    pub(super) fn open(path: &Path) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Root(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Takes a detached mount as the root, attached over the calling process's own.
    pub(super) fn attach(mount: &OwnedFd) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let below = rustix::fs::open("/", flags, Mode::empty())?;
        sys::mount::attach(mount.as_fd(), below.as_fd())?;
        Ok(Root(mount.try_clone()?))
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Opens what `path` is (`O_PATH`), its links followed as the container would follow them.
    pub(super) fn find(&self, path: &Path) -> io::Result<OwnedFd> {
        sys::fds::open_resolved(
            &self.0,
            relative(path),
            OFlags::PATH | OFlags::CLOEXEC,
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    }

    /// Opens what `path` is, having made it and the directories above it if they are not there. A link that leads
    /// nowhere leads to what is made for it, within the root.
    pub(super) fn find_or_make(&self, path: &Path, make: Make) -> io::Result<OwnedFd> {
        self.find_or_make_by(path, make, MOST_LINKS)
    }

    fn find_or_make_by(&self, path: &Path, make: Make, links: usize) -> io::Result<OwnedFd> {
        match self.find(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let mut so_far = PathBuf::from("/");
        let mut parent = self.find(&so_far)?;
        let mut components = path.components();
        while let Some(component) = components.next() {
            let Component::Normal(name) = component else {
                if component == Component::ParentDir {
                    so_far.push("..");
                    parent = self.find(&so_far)?;
                }
                continue;
            };
            let above = so_far.clone();
            so_far.push(name);
            parent = match self.find(&so_far) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if let Ok(target) = rustix::fs::readlinkat(&parent, name, Vec::new()) {
                        if links == 0 {
                            return Err(io::Error::from_raw_os_error(libc::ELOOP));
                        }
                        let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                        let meant = above.join(target).join(components.as_path());
                        return self.find_or_make_by(&meant, make, links - 1);
                    }
                    let last = components.as_path().as_os_str().is_empty();
                    match make {
                        Make::File if last => {
                            let flags =
                                OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                            rustix::fs::openat(&parent, name, flags, Mode::from(0o755))?;
                        }
                        _ => rustix::fs::mkdirat(&parent, name, Mode::from(0o755))?,
                    }
                    self.find(&so_far)?
                }
                found => found?,
            };
        }
        Ok(parent)
    }

    /// Opens a directory directly beneath the root that must not be a link, having made it if it is not there.
    pub(super) fn real_directory(&self, name: &str) -> io::Result<OwnedFd> {
        match rustix::fs::mkdirat(&self.0, name, Mode::from(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.0, name, flags, Mode::empty())?)
    }
}

/// Opens `path` beneath a directory of ours (/proc, /sys, /dev) without following any link.
pub(super) fn beneath(directory: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    sys::fds::open_resolved(
        directory,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
}

fn relative(path: &Path) -> &Path {
    let path = path.strip_prefix("/").unwrap_or(path);
    match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_no_further_than_the_root() {
        let directory = tempfile::tempdir().expect("a directory");
        let outside = directory.path().join("outside");
        let inside = directory.path().join("root");
        std::fs::create_dir_all(&inside).expect("a root");
        std::fs::create_dir_all(&outside).expect("a neighbour");
        std::os::unix::fs::symlink("../../outside", inside.join("link")).expect("a link");
        let root = Root::open(&inside).expect("the root");
        root.find_or_make(Path::new("/link/deep/target"), Make::File)
            .expect("the target is made inside");
        assert!(inside.join("outside/deep/target").is_file());
        for (target, name) in [("/abs/file", "one"), ("../up", "two"), ("one", "three")] {
            std::os::unix::fs::symlink(target, inside.join(name)).expect("a link");
            root.find_or_make(&Path::new("/").join(name), Make::File)
                .expect("what the link means is made");
        }
        assert!(inside.join("abs/file").is_file() && inside.join("up").is_file());
        std::os::unix::fs::symlink("round", inside.join("round")).expect("a link");
        root.find_or_make(Path::new("/round"), Make::File)
            .expect_err("a circle");
        assert!(!outside.join("deep").exists());
    }
}
