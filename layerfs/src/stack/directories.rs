//! Plain directories of the host as the layers of a stack: which file is where, and opening it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::mount::OpenTreeFlags;

use super::scan;
use crate::digest::Digest;
use crate::errno::Errno;
use crate::index::ContentAt;
use crate::index::Index;
use crate::index::IndexError;
use crate::index::NodeId;
use crate::index::Timespec;
use crate::index::TooLarge;
use crate::index::TreeBuilder;
use crate::index::TreeExtras;
use crate::marks::Namespace;

/// How many files are kept open for reading.
const OPEN_FILES: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// Paths up to this length are opened in one call (`limits.h`, `PATH_MAX`).
const PATH_AT_ONCE: usize = 4000;

/// Why directories cannot be made a stack.
#[derive(Debug, thiserror::Error)]
pub enum DirectoriesError {
    /// One could not be read.
    #[error("{path}: {}", words(source))]
    Io {
        /// The directory, or what of it could not be read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// They have more entries than an index can hold, or redirects that show them many times.
    #[error("the directories have too many entries")]
    TooLarge,
    /// The index could not be kept.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Returns the system's words for an error without Rust's number.
fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => Errno(number).to_string().to_lowercase(),
        None => error.to_string(),
    }
}

impl From<TooLarge> for DirectoriesError {
    fn from(_: TooLarge) -> DirectoriesError {
        DirectoriesError::TooLarge
    }
}

/// What makes a file of the host the same one: the hash of its filesystem's id, its inode number, when it was made and
/// its path in the layer.
pub(super) type Identity = [u8; 16];

/// Times and space of a file as the host had them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostTimes {
    pub(crate) atime: Timespec,
    pub(crate) ctime: Timespec,
    pub(crate) blocks: u64,
}

/// A file of the host.
#[derive(Debug)]
pub(super) struct HostFile {
    pub(super) layer: u32,
    /// The directory it is in; none of a layer's root.
    pub(super) parent: Option<u32>,
    /// Where in the names its name is.
    pub(super) name: u32,
    pub(super) name_length: u16,
    /// The file that has its data; none if a metacopy's could not be found.
    pub(super) data: Option<u32>,
    pub(super) identity: Identity,
    pub(super) times: HostTimes,
}

/// The host's files that the nodes of a stack are.
#[derive(Debug)]
pub(super) struct Directories {
    /// The layers' roots, lowest first.
    roots: Vec<OwnedFd>,
    files: Vec<HostFile>,
    names: Vec<u8>,
    nodes: HashMap<Identity, NodeId>,
    open: Mutex<LruCache<u32, Arc<File>>>,
}

/// The files that are being gathered.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) files: Vec<HostFile>,
    pub(super) names: Vec<u8>,
}

/// Reads directories, highest first.
pub(super) fn read(
    directories: &[PathBuf],
    namespace: Namespace,
) -> Result<(Index, Directories), DirectoriesError> {
    let lowest_first = || directories.iter().rev();
    let roots: Vec<OwnedFd> = lowest_first()
        .map(|path| root(path))
        .collect::<Result<_, _>>()?;
    let mut tree = TreeBuilder::new();
    let mut gathered = Gathered::default();
    let layers = lowest_first().map(PathBuf::as_path).zip(&roots).collect();
    scan::read(layers, namespace, &mut tree, &mut gathered)?;
    let io = |source| DirectoriesError::Io {
        path: PathBuf::from("index in memory"),
        source,
    };
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let memory = rustix::fs::memfd_create("ply-index", flags).map_err(|errno| io(errno.into()))?;
    let memory = File::from(memory);
    let mut writer = io::BufWriter::with_capacity(1 << 20, &memory);
    tree.write(&mut writer, Digest([0; 32]), &TreeExtras::default())
        .map_err(io)?;
    writer.flush().map_err(io)?;
    drop(writer);
    let index = Index::in_memory(&memory)?;
    let mut nodes = HashMap::with_capacity(index.nodes().len());
    for (number, node) in index.nodes().iter().enumerate() {
        if let ContentAt::Host(file) = index.content(node) {
            nodes.insert(
                gathered.files[file as usize].identity,
                NodeId(number as u32),
            );
        }
    }
    let contents = Directories {
        roots,
        files: gathered.files,
        names: gathered.names,
        nodes,
        open: Mutex::new(LruCache::new(OPEN_FILES)),
    };
    Ok((index, contents))
}

/// Opens a layer's root as its filesystem has it: without what is mounted below it, now or later, where that can be had.
fn root(path: &Path) -> Result<OwnedFd, DirectoriesError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let opened = rustix::mount::open_tree(CWD, path, flags).or_else(|_| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
    });
    let checked = opened.and_then(|root| {
        let stat = rustix::fs::fstat(&root)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(root),
            _ => Err(rustix::io::Errno::NOTDIR),
        }
    });
    checked.map_err(|errno| DirectoriesError::Io {
        path: path.to_owned(),
        source: errno.into(),
    })
}

impl Gathered {
    fn name(&self, file: &HostFile) -> &[u8] {
        name_in(&self.names, file)
    }

    /// Opens a directory for reading.
    pub(super) fn open_directory(&self, root: BorrowedFd<'_>, file: u32) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        open_below(root, &self.path(file), flags)
    }

    /// Returns the names that lead to a file from its layer's root.
    pub(super) fn path(&self, file: u32) -> Vec<&[u8]> {
        path_in(&self.files, file, |file| self.name(file))
    }
}

fn name_in<'a>(names: &'a [u8], file: &HostFile) -> &'a [u8] {
    let start = file.name as usize;
    &names[start..start + usize::from(file.name_length)]
}

fn path_in<'a>(
    files: &'a [HostFile],
    file: u32,
    name: impl Fn(&'a HostFile) -> &'a [u8],
) -> Vec<&'a [u8]> {
    let mut path = Vec::new();
    let mut at = &files[file as usize];
    while let Some(parent) = at.parent {
        path.push(name(at));
        at = &files[parent as usize];
    }
    path.reverse();
    path
}

/// Opens a file below a directory by its names, none of which is followed.
fn open_below(root: BorrowedFd<'_>, names: &[&[u8]], flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let mut from: Option<OwnedFd> = None;
    let mut path = Vec::new();
    for (position, name) in names.iter().enumerate() {
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let next = names.get(position + 1);
        if next.is_some_and(|next| path.len() + next.len() > PATH_AT_ONCE) {
            let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let at = from.as_ref().map_or(root, AsFd::as_fd);
            from = Some(rustix::fs::openat2(
                at,
                &path[..],
                step,
                Mode::empty(),
                resolve,
            )?);
            path.clear();
        }
    }
    if path.is_empty() {
        path.push(b'.');
    }
    let at = from.as_ref().map_or(root, AsFd::as_fd);
    Ok(rustix::fs::openat2(
        at,
        &path[..],
        flags,
        Mode::empty(),
        resolve,
    )?)
}

impl Directories {
    fn file(&self, file: u32) -> &HostFile {
        &self.files[file as usize]
    }

    /// Opens the file that has the data of a regular file.
    pub(super) fn open(&self, file: u32) -> io::Result<File> {
        let broken = || io::Error::from_raw_os_error(libc::EIO);
        let data = self.file(file).data.ok_or_else(broken)?;
        let names = path_in(&self.files, data, |file| name_in(&self.names, file));
        let root = &self.roots[self.file(data).layer as usize];
        // Whatever has come there since must not block.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = File::from(open_below(root.as_fd(), &names, flags)?);
        match opened.metadata()?.is_file() {
            true => Ok(opened),
            false => Err(broken()),
        }
    }

    /// Returns the file that has the data, which stays open for a while.
    pub(super) fn kept_open(&self, file: u32) -> io::Result<Arc<File>> {
        if let Some(file) = self.open.lock().get(&file) {
            return Ok(file.clone());
        }
        let opened = Arc::new(self.open(file)?);
        self.open.lock().put(file, opened.clone());
        Ok(opened)
    }

    pub(super) fn key(&self, file: u32) -> &Identity {
        &self.file(file).identity
    }

    pub(super) fn node_of_key(&self, key: &[u8]) -> Option<NodeId> {
        self.nodes.get(&Identity::try_from(key).ok()?).copied()
    }

    pub(super) fn times(&self, file: u32) -> HostTimes {
        self.file(file).times
    }
}
