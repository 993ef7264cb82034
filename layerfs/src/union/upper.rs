//! The upper on disk: a directory of real files, and a work directory on the same filesystem.
//!
//! ```text
//! upper/...          what was made or changed, in overlayfs's conventions
//! work/tmp/          what is being made, before its rename into place; swept when the upper is opened
//! work/index/<node>  files with several lower names, copied up once; their names in upper/ are links to it
//! ```

use std::collections::HashSet;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Stat;

use crate::errno::Errno;
use crate::index::Kind;
use crate::index::NodeId;

pub(super) const ORIGIN: &str = "trusted.ply.origin";
pub(super) const LOWER_LINKS: &str = "trusted.ply.lower_links";
pub(super) const OPAQUE: &str = "trusted.overlay.opaque";
pub(super) const REDIRECT: &str = "trusted.overlay.redirect";
pub(super) const METACOPY: &str = "trusted.overlay.metacopy";

/// The writable top layer on the host.
#[derive(Debug)]
pub struct Upper {
    root: Arc<OwnedFd>,
    tmp: OwnedFd,
    index: OwnedFd,
    next_tmp: AtomicU64,
    /// The name in `work/tmp` of the whiteout that the others are links to.
    whiteout: Mutex<Option<Vec<u8>>>,
}

/// What a copied-up file or directory remembers of where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) node: NodeId,
    pub(super) metacopy: bool,
}

impl Upper {
    /// Opens the directories `upper` and `work`, making them first if they are not there. They must be on one
    /// filesystem and open to nobody else. Clears the process's umask: modes are the callers' business.
    pub fn open(upper: &Path, work: &Path) -> io::Result<Upper> {
        rustix::process::umask(Mode::empty());
        fs::create_dir_all(upper)?;
        fs::create_dir_all(work.join("tmp"))?;
        fs::create_dir_all(work.join("index"))?;
        for entry in fs::read_dir(work.join("tmp"))? {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() {
                fs::remove_dir_all(&path)?;
            } else {
                fs::remove_file(&path)?;
            }
        }
        let open = |path: &Path| -> io::Result<OwnedFd> {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(rustix::fs::open(path, flags, Mode::empty())?)
        };
        Ok(Upper {
            root: Arc::new(open(upper)?),
            tmp: open(&work.join("tmp"))?,
            index: open(&work.join("index"))?,
            next_tmp: AtomicU64::new(0),
            whiteout: Mutex::new(None),
        })
    }

    pub(super) fn root(&self) -> Arc<OwnedFd> {
        self.root.clone()
    }

    pub(super) fn tmp(&self) -> BorrowedFd<'_> {
        self.tmp.as_fd()
    }

    pub(super) fn index(&self) -> BorrowedFd<'_> {
        self.index.as_fd()
    }

    /// Returns a name that nothing in `work/tmp` has.
    pub(super) fn tmp_name(&self) -> Vec<u8> {
        self.next_tmp
            .fetch_add(1, Ordering::Relaxed)
            .to_string()
            .into_bytes()
    }

    /// Returns the nodes that are in the link index.
    pub(super) fn copied_links(&self) -> io::Result<HashSet<NodeId>> {
        let names = list(self.index.as_fd())?;
        let numbers = names
            .iter()
            .filter_map(|found| std::str::from_utf8(&found.name).ok());
        Ok(numbers
            .filter_map(|name| name.parse().ok())
            .map(NodeId)
            .collect())
    }

    /// Makes a whiteout in `work/tmp` and returns its name.
    pub(super) fn make_whiteout(&self) -> Result<Vec<u8>, Errno> {
        let name = self.tmp_name();
        self.whiteout_at(self.tmp.as_fd(), &name)?;
        Ok(name)
    }

    /// Makes a whiteout of a free name: another name of one that is kept for that, as long as the host lets it have
    /// more.
    pub(super) fn whiteout_at(&self, directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        let mut kept = self.whiteout.lock();
        if let Some(whiteout) = &*kept {
            let flags = AtFlags::empty();
            match rustix::fs::linkat(&self.tmp, &whiteout[..], directory, name, flags) {
                Err(rustix::io::Errno::MLINK | rustix::io::Errno::PERM) => {}
                linked => return Ok(linked?),
            }
            let _ = rustix::fs::unlinkat(&self.tmp, &whiteout[..], AtFlags::empty());
        }
        let whiteout = self.tmp_name();
        let (kind, mode) = (FileType::CharacterDevice, Mode::empty());
        rustix::fs::mknodat(&self.tmp, &whiteout[..], kind, mode, 0)?;
        let linked =
            rustix::fs::linkat(&self.tmp, &whiteout[..], directory, name, AtFlags::empty());
        *kept = Some(whiteout);
        Ok(linked?)
    }
}

/// A file of the upper: a directory and a name in it, or a descriptor of what has no name.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Named(Arc<OwnedFd>, Box<[u8]>),
    Held(Arc<OwnedFd>),
}

impl Place {
    /// Returns a path that leads to the file without following it, for calls that know only paths.
    fn path(&self) -> Result<CString, Errno> {
        let mut path = Vec::new();
        match self {
            Place::Named(directory, name) => {
                path.extend(format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes());
                path.extend_from_slice(if name.is_empty() { b"." } else { name });
            }
            Place::Held(file) => {
                path.extend(format!("/proc/self/fd/{}", file.as_raw_fd()).into_bytes())
            }
        }
        CString::new(path).map_err(|_| Errno::EINVAL)
    }

    pub(super) fn stat(&self) -> Result<Stat, Errno> {
        Ok(match self {
            Place::Named(directory, name) if !name.is_empty() => {
                rustix::fs::statat(directory, &name[..], AtFlags::SYMLINK_NOFOLLOW)?
            }
            Place::Named(file, _) | Place::Held(file) => rustix::fs::fstat(file)?,
        })
    }

    pub(super) fn open(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        Ok(match self {
            Place::Named(directory, name) if !name.is_empty() => {
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                let flags = flags | OFlags::CLOEXEC;
                rustix::fs::openat2(directory, &name[..], flags, Mode::empty(), resolve)?
            }
            _ => {
                let path = self.path()?;
                rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?
            }
        })
    }

    pub(super) fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        use rustix::fs::Gid;
        use rustix::fs::Uid;
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        match self {
            Place::Named(directory, name) if !name.is_empty() => {
                rustix::fs::chownat(directory, &name[..], uid, gid, AtFlags::SYMLINK_NOFOLLOW)?
            }
            Place::Named(file, _) | Place::Held(file) => {
                rustix::fs::chownat(file, c"", uid, gid, AtFlags::EMPTY_PATH)?
            }
        }
        Ok(())
    }

    /// Changes the mode; never called for symbolic links, whose mode is fixed.
    pub(super) fn chmod(&self, mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        match self {
            Place::Named(directory, name) if !name.is_empty() => {
                rustix::fs::chmodat(directory, &name[..], mode, AtFlags::empty())?;
            }
            _ => rustix::fs::chmod(self.path()?, mode)?,
        }
        Ok(())
    }

    pub(super) fn set_times(&self, times: &rustix::fs::Timestamps) -> Result<(), Errno> {
        let follow = match self {
            Place::Named(..) => AtFlags::SYMLINK_NOFOLLOW,
            Place::Held(_) => AtFlags::empty(),
        };
        Ok(rustix::fs::utimensat(
            rustix::fs::CWD,
            self.path()?,
            times,
            follow,
        )?)
    }

    pub(super) fn xattr(&self, name: impl rustix::path::Arg) -> Result<Vec<u8>, Errno> {
        let path = self.path()?;
        let name = name.into_c_str()?;
        let mut buffer = vec![0; 256];
        loop {
            let got = match self {
                Place::Named(..) => rustix::fs::lgetxattr(&path, &*name, &mut buffer[..]),
                Place::Held(_) => rustix::fs::getxattr(&path, &*name, &mut buffer[..]),
            };
            match got {
                Ok(length) => {
                    buffer.truncate(length);
                    return Ok(buffer);
                }
                Err(rustix::io::Errno::RANGE) if buffer.len() < 65536 => buffer.resize(65536, 0),
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) fn set_xattr(
        &self,
        name: impl rustix::path::Arg,
        value: &[u8],
        flags: rustix::fs::XattrFlags,
    ) -> Result<(), Errno> {
        let path = self.path()?;
        match self {
            Place::Named(..) => rustix::fs::lsetxattr(&path, name, value, flags)?,
            Place::Held(_) => rustix::fs::setxattr(&path, name, value, flags)?,
        }
        Ok(())
    }

    pub(super) fn remove_xattr(&self, name: impl rustix::path::Arg) -> Result<(), Errno> {
        let path = self.path()?;
        match self {
            Place::Named(..) => rustix::fs::lremovexattr(&path, name)?,
            Place::Held(_) => rustix::fs::removexattr(&path, name)?,
        }
        Ok(())
    }

    /// Returns the names of the attributes.
    pub(super) fn list_xattrs(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let path = self.path()?;
        let mut buffer = vec![0; 65536];
        let length = match self {
            Place::Named(..) => rustix::fs::llistxattr(&path, &mut buffer[..])?,
            Place::Held(_) => rustix::fs::listxattr(&path, &mut buffer[..])?,
        };
        let names = buffer[..length].split(|&byte| byte == 0);
        Ok(names
            .filter(|name| !name.is_empty())
            .map(<[u8]>::to_vec)
            .collect())
    }

    /// Returns what the file was copied up from.
    pub(super) fn origin(&self) -> Option<Origin> {
        let value = self.xattr(ORIGIN).ok()?;
        let (node, rest) = value.split_first_chunk::<4>()?;
        let node = NodeId(u32::from_le_bytes(*node));
        Some(Origin {
            node,
            metacopy: rest.first() == Some(&1),
        })
    }

    pub(super) fn set_origin(&self, origin: Origin) -> Result<(), Errno> {
        let mut value = origin.node.0.to_le_bytes().to_vec();
        value.push(u8::from(origin.metacopy));
        let flags = rustix::fs::XattrFlags::empty();
        if origin.metacopy {
            self.set_xattr(METACOPY, b"", flags)?;
        }
        self.set_xattr(ORIGIN, &value, flags)?;
        if !origin.metacopy {
            match self.remove_xattr(METACOPY) {
                // A renamed file's data had to be found below.
                Ok(()) => match self.remove_xattr(REDIRECT) {
                    Ok(()) | Err(Errno::ENODATA) => {}
                    Err(error) => return Err(error),
                },
                Err(Errno::ENODATA) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn is_opaque(&self) -> bool {
        self.xattr(OPAQUE).is_ok_and(|value| value == b"y")
    }
}

/// A name in a directory of the upper.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: Vec<u8>,
    pub(super) kind: FileType,
    pub(super) ino: u64,
}

/// Lists a directory, without `.` and `..`.
pub(super) fn list(directory: BorrowedFd<'_>) -> io::Result<Vec<Found>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(directory, c".", flags, Mode::empty())?;
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::new(opened)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            found.push(Found {
                name: name.to_vec(),
                kind: entry.file_type(),
                ino: entry.ino(),
            });
        }
    }
    Ok(found)
}

/// What the upper has for a character device 0/0 that somebody made, the real one being a whiteout: the highest number
/// there can be, which no driver has.
const ZERO_DEVICE: u64 = libc::makedev(0xfff, 0xf_ffff);

/// Returns the number that the upper has for a device.
pub(super) fn host_device(kind: Kind, rdev: u64) -> Result<u64, Errno> {
    match (kind, rdev) {
        (Kind::CharDevice, 0) => Ok(ZERO_DEVICE),
        (Kind::CharDevice, ZERO_DEVICE) => Err(Errno::EPERM),
        _ => Ok(rdev),
    }
}

/// Returns the number of a device that the upper has.
pub(super) fn shown_device(stat: &Stat) -> u64 {
    match stat.st_rdev {
        ZERO_DEVICE => 0,
        rdev => rdev,
    }
}

pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
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

pub(super) fn file_type_of(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
    }
}

/// Renames with flags between two directories of the upper's filesystem.
pub(super) fn rename(
    from: BorrowedFd<'_>,
    name: &[u8],
    to: BorrowedFd<'_>,
    new_name: &[u8],
    flags: RenameFlags,
) -> Result<(), Errno> {
    Ok(rustix::fs::renameat_with(from, name, to, new_name, flags)?)
}
