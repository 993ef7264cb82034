//! A stack: the layers of an image folded into one index, and the way to their bytes. Plain directories of the host are
//! read into the same index, and keep their bytes.
//!
//! The fold does once what "search the layers from the top down" does at each lookup: from the lowest layer up, each
//! one's whiteouts and opaque directories remove what is below, then its entries are merged in
//! (image-spec `layer.md`, "Applying Changesets"). The result is a tree index of its own, where a lookup is one probe
//! whatever the number of layers.

mod directories;
mod fold;
mod scan;
mod stored;
mod top_down;

use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use self::directories::Directories;
pub use self::directories::DirectoriesError;
pub(crate) use self::directories::HostTimes;
pub(crate) use self::fold::fold;
use self::stored::Stored;
pub use self::top_down::Place;
pub use self::top_down::TopDown;
use crate::digest::ChainId;
use crate::digest::DiffId;
use crate::digest::Digest;
use crate::index::ContentAt;
use crate::index::EntryRecord;
use crate::index::Index;
use crate::index::IndexError;
use crate::index::Kind;
use crate::index::Meta;
use crate::index::NodeId;
use crate::marks::Namespace;
use crate::store::Store;
use crate::store::StoreError;

/// An opened stack.
#[derive(Debug)]
pub struct Stack {
    index: Index,
    contents: Contents,
}

/// What the bytes of a stack's files come from.
#[derive(Debug)]
enum Contents {
    Stored(Stored),
    Directories(Directories),
}

/// How much of a pack is read when a file in it has to be read from the disk.
const READ_AHEAD: u64 = 128 << 10;

/// Whether a read may wait for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It may.
    Yes,
    /// It fails with `EAGAIN` instead, where the host can tell (`preadv2(2)`, `RWF_NOWAIT`).
    No,
}

/// A name in a directory of a stack.
#[derive(Debug, Clone, Copy)]
pub struct ChildEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The node it leads to.
    pub node: NodeId,
    /// What that is.
    pub kind: Kind,
}

impl Stack {
    /// The root directory of every stack.
    pub const ROOT: NodeId = NodeId(0);

    pub(crate) fn open(store: &Store, path: &Path, layers: &[DiffId]) -> Result<Stack, StoreError> {
        let index = Index::open(path)?;
        let named = index.layers().iter().map(|layer| DiffId(Digest(*layer)));
        if index.identity() != ChainId::of(layers).0 || !named.eq(layers.iter().copied()) {
            let fault = "written for another stack";
            return Err(IndexError::Damaged {
                path: path.to_owned(),
                fault,
            }
            .into());
        }
        Ok(Stack {
            index,
            contents: Contents::Stored(Stored::new(store, layers)),
        })
    }

    /// Reads plain directories, highest first, into a stack; their files' bytes stay where they are. Marks that move or
    /// complete what is below are believed in `namespace`.
    ///
    /// What changes in the directories from then on shows in part or not at all, as under overlayfs (`overlayfs.rst`,
    /// "Changes to underlying filesystems").
    pub fn of_directories(
        directories: &[PathBuf],
        namespace: Namespace,
    ) -> Result<Stack, DirectoriesError> {
        let (index, contents) = directories::read(directories, namespace)?;
        Ok(Stack {
            index,
            contents: Contents::Directories(contents),
        })
    }

    /// Returns whether the stack is made of plain directories.
    pub fn is_of_directories(&self) -> bool {
        matches!(self.contents, Contents::Directories(_))
    }

    /// Returns the stack's name.
    pub fn chain_id(&self) -> ChainId {
        ChainId(self.index.identity())
    }

    /// Returns the layers, lowest first; none of plain directories.
    pub fn layers(&self) -> &[DiffId] {
        match &self.contents {
            Contents::Stored(stored) => stored.layers(),
            Contents::Directories(_) => &[],
        }
    }

    /// Returns how many nodes there are; their numbers are below it.
    pub fn node_count(&self) -> u32 {
        self.index.nodes().len() as u32
    }

    /// Returns how many entries there are.
    pub fn entry_count(&self) -> usize {
        self.index.entries().len()
    }

    /// Finds the entry `name` of the directory `dir`: one probe, at any depth of the stack.
    pub fn lookup(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        self.index.lookup(dir, name).map(EntryRecord::node_id)
    }

    /// Finds the node at `path` from the root, following no links; `.` and empty components mean nothing.
    pub fn resolve(&self, path: &[u8]) -> Option<NodeId> {
        path.split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty() && *name != b".")
            .try_fold(Stack::ROOT, |at, name| self.lookup(at, name))
    }

    /// Returns a path that leads to the node, searching the whole tree for it.
    pub fn path_of(&self, node: NodeId) -> Option<Vec<u8>> {
        let mut directories = vec![(Stack::ROOT, Vec::new())];
        while let Some((directory, path)) = directories.pop() {
            for child in self.children(directory) {
                let path = || [&path[..], b"/", child.name].concat();
                if child.node == node {
                    return Some(path());
                }
                if child.kind == Kind::Directory {
                    directories.push((child.node, path()));
                }
            }
        }
        None
    }

    /// Returns the node's metadata.
    pub fn meta(&self, node: NodeId) -> Meta {
        self.index.node(node).meta()
    }

    /// Returns the directory's entries, sorted by name; none for anything else.
    pub fn children(&self, dir: NodeId) -> impl ExactSizeIterator<Item = ChildEntry<'_>> {
        self.index
            .children(self.index.node(dir))
            .iter()
            .map(|entry| ChildEntry {
                name: self.index.name(entry),
                node: entry.node_id(),
                kind: self.index.node(entry.node_id()).meta().kind,
            })
    }

    /// Returns the node's extended attributes, sorted by name.
    pub fn xattrs(&self, node: NodeId) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.index.xattrs(self.index.node(node))
    }

    /// Returns one extended attribute.
    pub fn xattr(&self, node: NodeId, name: &[u8]) -> Option<&[u8]> {
        self.xattrs(node)
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// Returns a symbolic link's target.
    pub fn link_target(&self, node: NodeId) -> &[u8] {
        self.index.target(self.index.node(node))
    }

    /// Reads a file's bytes at `offset`; fewer than asked only at its end.
    pub fn read_at(&self, node: NodeId, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_how(node, buffer, offset, Wait::Yes)
    }

    /// Reads like [`Stack::read_at`]; without waiting it fails with `EAGAIN` where a disk would have to be read.
    pub fn read_how(
        &self,
        node: NodeId,
        buffer: &mut [u8],
        offset: u64,
        wait: Wait,
    ) -> io::Result<usize> {
        let record = self.index.node(node);
        let left = record.meta().size.saturating_sub(offset);
        let wanted = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..wanted];
        let (file, start) = match (self.index.content(record), &self.contents) {
            (ContentAt::Nothing, _) => return Ok(0),
            (ContentAt::Packed { layer, offset }, Contents::Stored(stored)) => {
                (stored.pack(layer)?, offset)
            }
            (ContentAt::Object(object), Contents::Stored(stored)) => {
                (stored.object(&self.index, object)?, 0)
            }
            (ContentAt::Host(file), Contents::Directories(directories)) => {
                (directories.kept_open(file)?, 0)
            }
            _ => return Err(io::Error::from_raw_os_error(libc::EIO)),
        };
        let at = start + offset;
        if wait == Wait::Yes && start > 0 {
            // Files that were packed together are often read together.
            let length = std::num::NonZeroU64::new(READ_AHEAD);
            let _ = rustix::fs::fadvise(&file, at, length, rustix::fs::Advice::WillNeed);
        }
        match read_full(&file, buffer, at, wait)? {
            length if length == buffer.len() => Ok(length),
            _ => Err(io::Error::from_raw_os_error(libc::EIO)),
        }
    }

    /// Opens the host file that holds exactly this node's bytes, if there is one: for passthrough and reflinks.
    pub fn backing_file(&self, node: NodeId) -> io::Result<Option<File>> {
        match (self.index.content(self.index.node(node)), &self.contents) {
            (ContentAt::Object(object), Contents::Stored(stored)) => {
                stored.open_object(&self.index, object).map(Some)
            }
            (ContentAt::Host(file), Contents::Directories(directories)) => {
                directories.open(file).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Returns whether [`Stack::backing_file`] would find one.
    pub fn has_backing_file(&self, node: NodeId) -> bool {
        matches!(
            self.index.content(self.index.node(node)),
            ContentAt::Object(_) | ContentAt::Host(_)
        )
    }

    /// Returns what a copy of the node in an upper remembers it by: the same again whenever the stack is opened, and of
    /// plain directories only as long as the node's file is the same.
    pub(crate) fn key(&self, node: NodeId) -> Vec<u8> {
        match (&self.contents, self.index.content(self.index.node(node))) {
            (Contents::Directories(directories), ContentAt::Host(file)) => {
                directories.key(file).to_vec()
            }
            _ => node.0.to_le_bytes().to_vec(),
        }
    }

    /// Finds the node that has this key.
    pub(crate) fn node_of_key(&self, key: &[u8]) -> Option<NodeId> {
        match &self.contents {
            Contents::Directories(directories) => directories.node_of_key(key),
            Contents::Stored(_) => {
                let node = u32::from_le_bytes(key.try_into().ok()?);
                (node < self.node_count()).then_some(NodeId(node))
            }
        }
    }

    /// Returns what the host says of a node's file beyond [`Stack::meta`].
    pub(crate) fn host_times(&self, node: NodeId) -> Option<HostTimes> {
        match (&self.contents, self.index.content(self.index.node(node))) {
            (Contents::Directories(directories), ContentAt::Host(file)) => {
                Some(directories.times(file))
            }
            _ => None,
        }
    }
}

/// Reads until the buffer is full or the file ends.
pub(crate) fn read_full(
    file: &File,
    buffer: &mut [u8],
    offset: u64,
    wait: Wait,
) -> io::Result<usize> {
    use rustix::io::Errno;
    use rustix::io::ReadWriteFlags;
    let flags = match wait {
        Wait::Yes => ReadWriteFlags::empty(),
        Wait::No => ReadWriteFlags::NOWAIT,
    };
    let mut done = 0;
    while done < buffer.len() {
        let rest = &mut [io::IoSliceMut::new(&mut buffer[done..])];
        let at = offset + done as u64;
        match rustix::io::preadv2(file, rest, at, flags) {
            Ok(0) => break,
            Ok(length) => done += length,
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => match rustix::io::preadv(file, rest, at)? {
                0 => break,
                length => done += length,
            },
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}
