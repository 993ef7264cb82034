//! A tree of the kernel's, by an open root directory.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use layerfs::Kind;
use layerfs::Timespec;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Uid;
use rustix::fs::XattrFlags;

use super::Last;
use super::Metadata;
use super::New;
use super::Stat;
use super::Tree;
use crate::sandbox::USERS;

/// The largest value of an attribute, `xattr(7)`.
const LARGEST_XATTR: usize = 64 << 10;

/// The filesystems whose files have no size before they are read, `<linux/magic.h>`.
const GENERATED: [rustix::fs::FsWord; 4] = [
    rustix::fs::PROC_SUPER_MAGIC,
    libc::SYSFS_MAGIC,
    libc::CGROUP_SUPER_MAGIC,
    libc::CGROUP2_SUPER_MAGIC,
];

/// A directory of the host's, or a container's root, and all below.
#[derive(Debug)]
pub(crate) struct HostTree {
    root: OwnedFd,
    /// How paths are resolved in it.
    flags: ResolveFlags,
    /// The host's first user of a container with a user namespace.
    first_user: Option<u32>,
    /// Whether only attributes count that mean the same on another machine.
    portable: bool,
    /// Directories that are shown without what is in them.
    closed: Vec<(u64, u64)>,
}

impl HostTree {
    /// Returns the tree below a directory that files are only taken from: nothing leads out of it, and of attributes
    /// only capabilities and `user.` are seen.
    pub(crate) fn of_sources(root: OwnedFd) -> HostTree {
        HostTree {
            portable: true,
            ..HostTree::of_container(root, None)
        }
    }

    /// Returns the tree below a container's root: nothing leads out of it.
    pub(crate) fn of_container(root: OwnedFd, first_user: Option<u32>) -> HostTree {
        HostTree {
            root,
            flags: ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            first_user,
            portable: false,
            closed: Vec::new(),
        }
    }

    /// Returns the tree below a running container's root. What the kernel and we show in it is not the container's: its
    /// directories are seen without their names, as the image has them; a file in them can be named.
    pub(crate) fn of_running(root: OwnedFd, first_user: Option<u32>) -> HostTree {
        let mut tree = HostTree::of_container(root, first_user);
        let closed = [&b"/proc"[..], b"/sys", b"/dev"]
            .into_iter()
            .filter_map(|path| {
                let node = tree.resolve(path, Last::Keep).ok()?;
                Some(tree.stat(&node).ok()?.identity)
            });
        tree.closed = closed.collect();
        tree
    }

    /// Returns the container's number of a user or group of the host's.
    fn inside(&self, id: u32) -> u32 {
        const NOBODY: u32 = 65534;
        match self.first_user {
            None => id,
            Some(first) => match id.checked_sub(first) {
                Some(inside) if inside < USERS => inside,
                _ => NOBODY,
            },
        }
    }

    /// Returns the host's number of a user or group of the container's.
    fn outside(&self, id: u32) -> io::Result<u32> {
        match self.first_user {
            None => Ok(id),
            Some(first) if id < USERS => Ok(first + id),
            Some(_) => Err(io::Error::from_raw_os_error(libc::EOVERFLOW)),
        }
    }

    /// Returns the tree the calling process is in.
    pub(crate) fn of_process() -> io::Result<HostTree> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(HostTree {
            root: rustix::fs::open("/", flags, Mode::empty())?,
            flags: ResolveFlags::empty(),
            first_user: None,
            portable: false,
            closed: Vec::new(),
        })
    }
}

/// Returns the path by which the kernel leads to what an open descriptor is.
fn proc_path(node: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", node.as_raw_fd()))
}

fn is_portable(xattr: &[u8]) -> bool {
    xattr == b"security.capability" || xattr.starts_with(b"user.")
}

fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

pub(super) fn kind_of(mode: u32) -> Kind {
    match FileType::from_raw_mode(mode) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        _ => Kind::File,
    }
}

impl Tree for HostTree {
    type Node = OwnedFd;

    fn resolve(&self, path: &[u8], last: Last) -> io::Result<OwnedFd> {
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        if last == Last::Keep {
            flags |= OFlags::NOFOLLOW;
        }
        let start = path
            .iter()
            .position(|byte| *byte != b'/')
            .unwrap_or(path.len());
        let relative = match &path[start..] {
            b"" => b".",
            relative => relative,
        };
        crate::sys::fds::open_resolved(&self.root, os(relative), flags, self.flags)
    }

    fn child(&self, directory: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(
            directory,
            os(name),
            flags,
            Mode::empty(),
        )?)
    }

    fn stat(&self, node: &OwnedFd) -> io::Result<Stat> {
        let stat = rustix::fs::fstat(node)?;
        Ok(Stat {
            kind: kind_of(stat.st_mode),
            mode: stat.st_mode & 0o7777,
            uid: self.inside(stat.st_uid),
            gid: self.inside(stat.st_gid),
            size: stat.st_size as u64,
            mtime: Timespec {
                secs: stat.st_mtime as i64,
                nanos: stat.st_mtime_nsec as u32,
            },
            ctime: Some(Timespec {
                secs: stat.st_ctime as i64,
                nanos: stat.st_ctime_nsec as u32,
            }),
            rdev: stat.st_rdev,
            nlink: stat.st_nlink as u64,
            identity: (stat.st_dev, stat.st_ino),
        })
    }

    fn names(&self, directory: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut names = Vec::new();
        if !self.closed.is_empty() && self.closed.contains(&self.stat(directory)?.identity) {
            return Ok(names);
        }
        let opened = rustix::fs::openat(directory, ".", flags, Mode::empty())?;
        for entry in rustix::fs::Dir::new(opened)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn link_target(&self, link: &OwnedFd) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(link, "", Vec::new())?.into_bytes())
    }

    fn xattrs(&self, node: &OwnedFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if self.stat(node)?.kind == Kind::Symlink {
            return Ok(Vec::new());
        }
        let path = proc_path(node);
        let mut names = vec![0; LARGEST_XATTR];
        let length = match rustix::fs::listxattr(&path, &mut names) {
            Err(rustix::io::Errno::OPNOTSUPP) => 0,
            length => length?,
        };
        let mut xattrs = Vec::new();
        for name in names[..length]
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .filter(|name| !self.portable || is_portable(name))
        {
            let mut value = vec![0; LARGEST_XATTR];
            match rustix::fs::getxattr(&path, os(name), &mut value) {
                Ok(length) => {
                    value.truncate(length);
                    xattrs.push((name.to_vec(), value));
                }
                // Gone since, or not to be read (`trusted` for a user who is not root).
                Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(xattrs)
    }

    fn is_generated(&self, node: &OwnedFd) -> io::Result<bool> {
        let kind = rustix::fs::fstatfs(node)?.f_type;
        // A directory of the image's is beneath those that are closed.
        Ok(GENERATED.contains(&kind) && !self.closed.contains(&self.stat(node)?.identity))
    }

    fn read(&self, file: &OwnedFd) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(File::open(proc_path(file))?))
    }

    fn make(&self, directory: &OwnedFd, name: &[u8], new: New<'_>) -> io::Result<OwnedFd> {
        let mode = Mode::RUSR | Mode::WUSR;
        match new {
            New::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::openat(directory, os(name), flags, mode)?;
            }
            New::Directory => rustix::fs::mkdirat(directory, os(name), Mode::RWXU)?,
            New::Symlink(target) => rustix::fs::symlinkat(os(target), directory, os(name))?,
            New::Special(kind, rdev) => {
                let kind = match kind {
                    Kind::CharDevice => FileType::CharacterDevice,
                    Kind::BlockDevice => FileType::BlockDevice,
                    Kind::Socket => FileType::Socket,
                    _ => FileType::Fifo,
                };
                rustix::fs::mknodat(directory, os(name), kind, mode, rdev)?;
            }
        }
        self.child(directory, name)
    }

    fn write(&self, file: &OwnedFd, content: &mut dyn Read) -> io::Result<u64> {
        let out = File::options()
            .write(true)
            .truncate(true)
            .open(proc_path(file))?;
        let length = super::write_sparsely(content, |piece, at| out.write_all_at(piece, at))?;
        out.set_len(length)?;
        Ok(length)
    }

    fn link(&self, file: &OwnedFd, directory: &OwnedFd, name: &[u8]) -> io::Result<()> {
        let flags = AtFlags::SYMLINK_FOLLOW;
        Ok(rustix::fs::linkat(
            rustix::fs::CWD,
            proc_path(file),
            directory,
            os(name),
            flags,
        )?)
    }

    fn set_metadata(&self, node: &OwnedFd, metadata: &Metadata) -> io::Result<()> {
        let is_link = self.stat(node)?.kind == Kind::Symlink;
        let uid = Uid::from_raw(self.outside(metadata.uid)?);
        let gid = Gid::from_raw(self.outside(metadata.gid)?);
        rustix::fs::chownat(node, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
        if !is_link {
            let path = proc_path(node);
            rustix::fs::chmod(&path, Mode::from_raw_mode(metadata.mode))?;
            set_xattrs(&path, &metadata.xattrs)?;
        }
        let time = rustix::fs::Timespec {
            tv_sec: metadata.mtime.secs,
            tv_nsec: i64::from(metadata.mtime.nanos),
        };
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        Ok(rustix::fs::utimensat(
            node,
            "",
            &times,
            AtFlags::EMPTY_PATH,
        )?)
    }

    fn unlink(&self, directory: &OwnedFd, name: &[u8]) -> io::Result<bool> {
        match rustix::fs::unlinkat(directory, os(name), AtFlags::empty()) {
            Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => Ok(false),
            removed => Ok(removed.map(|()| true)?),
        }
    }

    fn remove_directory(&self, directory: &OwnedFd, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(
            directory,
            os(name),
            AtFlags::REMOVEDIR,
        )?)
    }
}

/// Sets attributes; those that the filesystem has no room for are left out, as `tar` does with a warning.
fn set_xattrs(path: &Path, xattrs: &[(Vec<u8>, Vec<u8>)]) -> io::Result<()> {
    for (name, value) in xattrs {
        match rustix::fs::setxattr(path, os(name), value, XattrFlags::empty()) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::PERM) => {
                log::warn!("attribute {} cannot be set", String::from_utf8_lossy(name));
            }
            set => set?,
        }
    }
    Ok(())
}
