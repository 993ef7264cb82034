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
use std::os::unix::fs::DirBuilderExt;
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

use super::umask::ClearedUmask;
use crate::errno::Errno;
use crate::index::Kind;
use crate::index::NodeId;
use crate::marks;
use crate::marks::Namespace;
use crate::marks::Redirect;
use crate::stack::Stack;

/// How an upper is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpperOptions {
    /// Where the marks are that can move or complete what is below.
    pub namespace: Namespace,
    /// A change of a file's metadata leaves its data below (`overlayfs.rst`, "Metadata only copy up").
    pub metacopy: bool,
    /// Directories that layers below have too can be renamed (`overlayfs.rst`, "redirect_dir").
    pub redirects: bool,
    /// Other programs may have written it: their marks are looked for, and lower parts are found by name.
    pub foreign: bool,
}

impl UpperOptions {
    /// Those of an upper that only unions over the store's layers write.
    pub const OWN: UpperOptions = UpperOptions {
        namespace: Namespace::Engine,
        metacopy: true,
        redirects: true,
        foreign: false,
    };
}

/// The writable top layer on the host.
#[derive(Debug)]
pub struct Upper {
    root: Arc<OwnedFd>,
    tmp: OwnedFd,
    index: OwnedFd,
    options: UpperOptions,
    /// Held as long as others may come for the same directories.
    _locks: Vec<OwnedFd>,
    next_tmp: AtomicU64,
    /// The name in `work/tmp` of the whiteout that the others are links to.
    whiteout: Mutex<Option<Vec<u8>>>,
    _umask: ClearedUmask,
}

/// What a copied-up file or directory remembers of where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) node: NodeId,
    pub(super) metacopy: bool,
}

impl Upper {
    /// Opens the directories `upper` and `work`, making them first if they are not there. They must be on one
    /// filesystem and open to nobody else. The process's umask is empty as long as an upper is open: modes are the
    /// callers' business.
    pub fn open(upper: &Path, work: &Path) -> io::Result<Upper> {
        fs::create_dir_all(upper)?;
        Upper::open_with(upper, work, UpperOptions::OWN)
    }

    /// Opens an upper that is there, and its work directory, which is made if it is not.
    ///
    /// Fails with `EWOULDBLOCK` if another one has been opened on a directory that others may come for, and with
    /// `EOPNOTSUPP` if that cannot keep the extended attributes in which a union notes what it must.
    pub fn open_with(upper: &Path, work: &Path, options: UpperOptions) -> io::Result<Upper> {
        let umask = ClearedUmask::new();
        make_closed(work)?;
        let locks = match options.foreign {
            true => vec![lock(upper)?, lock(work)?],
            false => Vec::new(),
        };
        if options.foreign {
            keeps_attributes(work, options.namespace).inspect_err(|_| {
                let _ = fs::remove_dir(work);
            })?;
        }
        make_closed(&work.join("tmp"))?;
        make_closed(&work.join("index"))?;
        for entry in fs::read_dir(work.join("tmp"))? {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() {
                crate::store::remove_tree(&path)?;
            } else {
                fs::remove_file(&path)?;
            }
        }
        let open = |path: &Path| -> io::Result<OwnedFd> {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(rustix::fs::open(path, flags, Mode::empty())?)
        };
        Ok(Upper {
            root: Arc::new(open(upper)?),
            tmp: open(&work.join("tmp"))?,
            index: open(&work.join("index"))?,
            options,
            _locks: locks,
            next_tmp: AtomicU64::new(0),
            whiteout: Mutex::new(None),
            _umask: umask,
        })
    }

    pub(super) fn options(&self) -> UpperOptions {
        self.options
    }

    fn namespace(&self) -> Namespace {
        self.options.namespace
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
    pub(super) fn copied_links(&self, stack: &Stack) -> io::Result<HashSet<NodeId>> {
        let names = list(self.index.as_fd())?;
        let numbers = names
            .iter()
            .filter_map(|found| node_of_index_name(stack, &found.name));
        Ok(numbers.collect())
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

/// Makes a directory and its parents, closed to other users.
fn make_closed(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

/// Tries to note something about a directory.
fn keeps_attributes(directory: &Path, namespace: Namespace) -> io::Result<()> {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(directory, namespace.origin(), b"", flags)?;
    Ok(rustix::fs::removexattr(directory, namespace.origin())?)
}

/// Keeps a directory for this process and its children, as long as the descriptor is open.
fn lock(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory, flags, Mode::empty())?;
    let how = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(&opened, how)?;
    Ok(opened)
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

    /// Returns whether a directory has a name.
    fn has_inside(&self, inside: &[u8]) -> bool {
        let Ok(mut path) = self.path().map(CString::into_bytes) else {
            return false;
        };
        path.push(b'/');
        path.extend_from_slice(inside);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::statat(rustix::fs::CWD, path, flags).is_ok()
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
}

impl Upper {
    /// Returns what a file was copied up from.
    pub(super) fn origin(&self, stack: &Stack, place: &Place) -> Option<Origin> {
        let value = place.xattr(self.namespace().origin()).ok()?;
        let (flag, key) = value.split_last()?;
        Some(Origin {
            node: stack.node_of_key(key)?,
            metacopy: *flag == 1,
        })
    }

    /// Notes what a file was copied up from.
    pub(super) fn set_origin(
        &self,
        stack: &Stack,
        place: &Place,
        origin: Origin,
    ) -> Result<(), Errno> {
        let marks = self.namespace();
        let mut value = stack.key(origin.node);
        value.push(u8::from(origin.metacopy));
        let flags = rustix::fs::XattrFlags::empty();
        if origin.metacopy {
            place.set_xattr(marks.metacopy(), b"", flags)?;
        }
        match place.set_xattr(marks.origin(), &value, flags) {
            // Only regular files and directories can have attributes of users.
            Err(Errno::EPERM) if marks == Namespace::User => {}
            set => set?,
        }
        if !origin.metacopy {
            match place.remove_xattr(marks.metacopy()) {
                // A renamed file's data had to be found below.
                Ok(()) => match place.remove_xattr(marks.redirect()) {
                    Ok(()) | Err(Errno::ENODATA) => {}
                    Err(error) => return Err(error),
                },
                Err(Errno::ENODATA) => {}
                Err(Errno::EPERM) if marks == Namespace::User => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Hides what layers below have in a directory.
    pub(super) fn set_opaque(&self, place: &Place) -> Result<(), Errno> {
        let flags = rustix::fs::XattrFlags::empty();
        place.set_xattr(self.namespace().opaque(), b"y", flags)
    }

    /// Returns whether what layers below have in a directory is hidden.
    pub(super) fn is_opaque(&self, place: &Place) -> bool {
        let is_marked = |name: &str| place.xattr(name).is_ok_and(|value| value == b"y");
        match self.options.foreign {
            false => is_marked(self.namespace().opaque()),
            true => {
                marks::OPAQUE_ATTRIBUTES.iter().any(|name| is_marked(name))
                    || place.has_inside(marks::OPAQUE_MARKER)
            }
        }
    }

    /// Returns where the lower part of a directory or a metacopy is, if not under its own name.
    pub(super) fn redirect(&self, place: &Place) -> Option<Redirect> {
        Redirect::parse(&place.xattr(self.namespace().redirect()).ok()?)
    }

    /// Notes the path of the lower part of a directory or a metacopy.
    pub(super) fn set_redirect(&self, place: &Place, path: &[u8]) -> Result<(), Errno> {
        let flags = rustix::fs::XattrFlags::empty();
        place.set_xattr(self.namespace().redirect(), path, flags)
    }

    /// Returns whether the data of a file are below.
    pub(super) fn is_metacopy(&self, place: &Place) -> bool {
        place.xattr(self.namespace().metacopy()).is_ok()
    }

    /// Returns how many lower names of a file in the link index are still seen.
    pub(super) fn lower_links(&self, place: &Place) -> u32 {
        let value = place.xattr(self.namespace().lower_links());
        value
            .unwrap_or_default()
            .first_chunk::<4>()
            .map_or(0, |count| u32::from_le_bytes(*count))
    }

    /// Notes how many lower names of a file in the link index are still seen.
    pub(super) fn set_lower_links(&self, place: &Place, count: u32) -> Result<(), Errno> {
        let flags = rustix::fs::XattrFlags::empty();
        match place.set_xattr(self.namespace().lower_links(), &count.to_le_bytes(), flags) {
            Err(Errno::EPERM) if self.namespace() == Namespace::User => Ok(()),
            set => set,
        }
    }

    /// Returns whether a file beside hides a name in layers below, as fuse-overlayfs does where it may make no devices.
    pub(super) fn is_hidden_by_name(&self, directory: &OwnedFd, name: &[u8]) -> bool {
        self.options.foreign && {
            let marker = [marks::WHITEOUT_PREFIX, name].concat();
            rustix::fs::statat(directory, &marker[..], AtFlags::SYMLINK_NOFOLLOW).is_ok()
        }
    }

    /// Returns whether a name is one that hides others, and so never seen.
    pub(super) fn is_marker(&self, name: &[u8]) -> bool {
        self.options.foreign && name.starts_with(marks::WHITEOUT_PREFIX)
    }
}

/// Returns a node's name in the link index.
pub(super) fn index_name(stack: &Stack, node: NodeId) -> String {
    match stack.is_of_directories() {
        false => node.0.to_string(),
        true => {
            let key = u128::from_le_bytes(stack.key(node).try_into().unwrap_or_default());
            format!("{key:032x}")
        }
    }
}

fn node_of_index_name(stack: &Stack, name: &[u8]) -> Option<NodeId> {
    let name = std::str::from_utf8(name).ok()?;
    match stack.is_of_directories() {
        false => name.parse().ok().map(NodeId),
        true => stack.node_of_key(&u128::from_str_radix(name, 16).ok()?.to_le_bytes()),
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
    marks::is_whiteout(stat.st_mode, stat.st_rdev)
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
