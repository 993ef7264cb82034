//! Trees of files that are copied from and to: the host's, a running container's by an open root, a stopped container's
//! by its union. Whatever a tree holds may be hostile: a path is resolved beneath its root and nowhere else, a name is
//! looked up in an open directory and never followed.

mod host;
mod mounted;
mod union;

use std::io;
use std::io::Read;

use layerfs::Kind;
use layerfs::Timespec;

pub(crate) use host::HostTree;
pub(crate) use mounted::Mounted;
pub(crate) use mounted::MountedTree;
pub(crate) use union::UnionTree;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) kind: Kind,
    /// The twelve permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) mtime: Timespec,
    /// When anything of it was last changed, if somebody keeps count.
    pub(crate) ctime: Option<Timespec>,
    pub(crate) rdev: u64,
    pub(crate) nlink: u64,
    /// The same for all names of one file.
    pub(crate) identity: (u64, u64),
}

/// What is to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum New<'a> {
    File,
    Directory,
    Symlink(&'a [u8]),
    /// A device, fifo or socket.
    Special(Kind, u64),
}

/// Metadata to give to what was made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metadata {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timespec,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Whether a link that ends a path is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    Follow,
    Keep,
}

/// A tree of files. A `name` is one component, never `.` or `..`.
pub(crate) trait Tree: Sync {
    type Node;

    /// Finds what a path leads to within the root, links followed as a process in that root would.
    fn resolve(&self, path: &[u8], last: Last) -> io::Result<Self::Node>;
    /// Finds a name in a directory.
    fn child(&self, directory: &Self::Node, name: &[u8]) -> io::Result<Self::Node>;
    fn stat(&self, node: &Self::Node) -> io::Result<Stat>;
    /// Returns a directory's names, sorted.
    fn names(&self, directory: &Self::Node) -> io::Result<Vec<Vec<u8>>>;
    fn link_target(&self, link: &Self::Node) -> io::Result<Vec<u8>>;
    fn xattrs(&self, node: &Self::Node) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>>;
    /// Whether the kernel makes up what it holds when it is read, so that its size says nothing: /proc, /sys.
    fn is_generated(&self, node: &Self::Node) -> io::Result<bool>;
    /// Opens a regular file to be read.
    fn read(&self, file: &Self::Node) -> io::Result<Box<dyn Read + Send + '_>>;
    /// Makes something that must not be there yet, closed to others until it gets its metadata.
    fn make(&self, directory: &Self::Node, name: &[u8], new: New<'_>) -> io::Result<Self::Node>;
    /// Replaces a regular file's content; returns its length.
    fn write(&self, file: &Self::Node, content: &mut dyn Read) -> io::Result<u64>;
    /// Makes another name for a file.
    fn link(&self, file: &Self::Node, directory: &Self::Node, name: &[u8]) -> io::Result<()>;
    fn set_metadata(&self, node: &Self::Node, metadata: &Metadata) -> io::Result<()>;
    /// Removes a name, unless it is a directory's; returns whether it is gone.
    fn unlink(&self, directory: &Self::Node, name: &[u8]) -> io::Result<bool>;
    /// Removes an empty directory.
    fn remove_directory(&self, directory: &Self::Node, name: &[u8]) -> io::Result<()>;

    /// Removes a name and, if it is a directory's, all below it.
    fn remove(&self, directory: &Self::Node, name: &[u8]) -> io::Result<()> {
        if self.unlink(directory, name)? {
            return Ok(());
        }
        // It may be deeper than a stack of calls could be: each open directory has its name and what is left in it.
        let inner = self.child(directory, name)?;
        let mut open = vec![(name.to_vec(), self.names(&inner)?, inner)];
        while let Some((_, names, inner)) = open.last_mut() {
            let Some(name) = names.pop() else {
                let emptied = open.pop().map(|(name, ..)| name).unwrap_or_default();
                let parent = open.last().map_or(directory, |(.., node)| node);
                self.remove_directory(parent, &emptied)?;
                continue;
            };
            if !self.unlink(inner, &name)? {
                let below = self.child(inner, &name)?;
                let names = self.names(&below)?;
                open.push((name, names, below));
            }
        }
        Ok(())
    }
}

/// Returns a path's components without empty ones and `.`.
pub(crate) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
}

/// Zeros of this length and alignment become a hole.
const HOLE: usize = 4096;

/// Hands content on in pieces, each with its place; long runs of zeros are left out. Returns the whole length, to which the
/// file is still to be set.
fn write_sparsely(
    content: &mut dyn Read,
    mut write: impl FnMut(&[u8], u64) -> io::Result<()>,
) -> io::Result<u64> {
    let mut buffer = vec![0; 128 << 10];
    let mut offset = 0;
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match content.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let mut start = 0;
        let is_hole = |block: &[u8]| block.len() == HOLE && block.iter().all(|byte| *byte == 0);
        for (number, block) in buffer[..filled].chunks(HOLE).enumerate() {
            if is_hole(block) {
                let end = number * HOLE;
                if start < end {
                    write(&buffer[start..end], offset + start as u64)?;
                }
                start = end + HOLE;
            }
        }
        if start < filled {
            write(&buffer[start..filled], offset + start as u64)?;
        }
        offset += filled as u64;
        if filled < buffer.len() {
            return Ok(offset);
        }
    }
}
