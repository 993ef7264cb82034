//! The tree index: every entry and node of a layer, or of a stack of layers, in one flat mapped file.
//!
//! ```text
//! header    magic "plytree\0", version, checksum (xxh3 of all that follows it), identity, tar size, section table
//! nodes     NodeRecord, 80 bytes each; a node's number is its position, the root is 0
//! entries   EntryRecord, 16 bytes each; those of a directory are adjacent and sorted by name
//! slots     u32 each, a power of two of them: open addressing from hash(directory, name) to entry + 1
//! strings   names, link targets, attribute names and values
//! xattrs    XattrRecord; those of a node are adjacent and sorted by name
//! objects   sha256 digests of the contents that are files of their own
//! cuts      where in the pack an object's payload was taken out (layers only)
//! segments  the data ranges of sparse contents (layers only)
//! layers    the diff IDs, lowest first (stacks only)
//! ```
//!
//! All integers are little-endian. A file is written once under `tmp/` and renamed into place after its bytes are
//! durable, so a crash leaves none that is half written. Opening checks the checksum and every reference once;
//! afterwards nothing is parsed. A reader that meets another version refuses it.

mod builder;
mod records;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;

use memmap2::Mmap;
use zerocopy::FromBytes;

pub(crate) use self::builder::BuildId;
pub(crate) use self::builder::BuildNode;
pub(crate) use self::builder::Content;
pub(crate) use self::builder::Found;
pub(crate) use self::builder::TooLarge;
pub(crate) use self::builder::TreeBuilder;
pub(crate) use self::builder::TreeExtras;
use self::records::*;
pub(crate) use self::records::{CutRecord, EntryRecord, NodeRecord, SegmentRecord};
use crate::digest::Digest;

/// The position of a node in an index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub u32);

/// What a node is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A unix socket.
    Socket,
}

/// A point in time: seconds since the epoch and nanoseconds below a second.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Timespec {
    /// Seconds since the epoch; negative before it.
    pub secs: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

/// A node's metadata.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta {
    /// What the node is.
    pub kind: Kind,
    /// The twelve permission bits.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// A file's length in bytes, a link's target's length.
    pub size: u64,
    /// How many entries lead to the node; for directories two and one per subdirectory.
    pub nlink: u32,
    /// A device's number, as `makedev(3)` makes it.
    pub rdev: u64,
    /// The time of last modification.
    pub mtime: Timespec,
}

/// Why an index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The index file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes are not those that were written.
    #[error("{path}: damaged index: {fault}")]
    Damaged {
        /// The index file.
        path: PathBuf,
        /// What does not hold.
        fault: &'static str,
    },
    /// Another version of ply wrote it.
    #[error("{path}: index version {found}, this ply reads {VERSION}")]
    Version {
        /// The index file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
    },
}

/// Where a file's bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ContentAt {
    /// Nowhere: it has none.
    Nothing,
    /// In the pack of layer `layer` at `offset`.
    Packed { layer: u32, offset: u64 },
    /// In the object at this position of the object table.
    Object(u32),
    /// In the host file of this number.
    Host(u32),
}

/// An index larger than this many bytes gives its pages back after it was checked.
const LARGE: usize = 4 << 20;

/// An opened index.
#[derive(Debug)]
pub(crate) struct Index {
    map: Mmap,
    identity: Digest,
    tar_size: u64,
    sections: [Range<usize>; SECTIONS],
}

impl Index {
    /// Opens and checks the index at `path`.
    pub(crate) fn open(path: &Path) -> Result<Index, IndexError> {
        let io = |source| IndexError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        // SAFETY: index files are written once, before they get the name they are opened by, and their directory is
        // closed to others; nobody changes or truncates one that is mapped.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Index::from_map(map, path)
    }

    /// Takes an index that is only in memory (`memfd_create(2)`).
    pub(crate) fn in_memory(file: &File) -> Result<Index, IndexError> {
        let path = Path::new("index in memory");
        // SAFETY: nobody else has the file.
        let map = unsafe { Mmap::map(file) }.map_err(|source| IndexError::Io {
            path: path.to_owned(),
            source,
        })?;
        Index::from_map(map, path)
    }

    fn from_map(map: Mmap, path: &Path) -> Result<Index, IndexError> {
        let damaged = |fault| IndexError::Damaged {
            path: path.to_owned(),
            fault,
        };
        let Ok((header, _)) = Header::ref_from_prefix(&map) else {
            return Err(damaged("too short"));
        };
        if header.magic != MAGIC {
            return Err(damaged("not an index"));
        }
        if header.version.get() != VERSION {
            return Err(IndexError::Version {
                path: path.to_owned(),
                found: header.version.get(),
            });
        }
        if header.length.get() != map.len() as u64 {
            return Err(damaged("wrong length"));
        }
        if header.checksum.get() != xxhash_rust::xxh3::xxh3_64(&map[CHECKED_FROM..]) {
            return Err(damaged("wrong checksum"));
        }
        let mut sections: [Range<usize>; SECTIONS] = Default::default();
        for (number, (section, range)) in header.sections.iter().zip(&mut sections).enumerate() {
            let (offset, length) = (section.offset.get(), section.length.get());
            let end = offset
                .checked_add(length)
                .filter(|&end| end <= map.len() as u64);
            let Some(end) = end else {
                return Err(damaged("section outside the file"));
            };
            if length % RECORD_SIZES[number] != 0 {
                return Err(damaged("section of odd length"));
            }
            *range = offset as usize..end as usize;
        }
        let identity = Digest(header.identity);
        let tar_size = header.tar_size.get();
        let index = Index {
            map,
            identity,
            tar_size,
            sections,
        };
        index.check_references().map_err(damaged)?;
        if index.map.len() > LARGE {
            index.release_pages();
        }
        Ok(index)
    }

    /// Takes the mapped pages from the process; what is read again comes from the page cache. For whoever has read all
    /// of a large index, which would count as the process's memory from then on.
    pub(crate) fn release_pages(&self) {
        // SAFETY: the map is read-only and of a file, so that a dropped page comes back as it was.
        let _ = unsafe {
            self.map
                .unchecked_advise(memmap2::UncheckedAdvice::DontNeed)
        };
    }

    /// Checks once what every later access relies on: no reference leads outside its table.
    fn check_references(&self) -> Result<(), &'static str> {
        let nodes = self.nodes();
        let strings = self.section(STRINGS).len() as u64;
        let within =
            |first: u32, count: u32, all: usize| u64::from(first) + u64::from(count) <= all as u64;
        if nodes.is_empty() || kind_of(nodes[0].kind) != Some(Kind::Directory) {
            return Err("no root directory");
        }
        for node in nodes {
            let kind = kind_of(node.kind);
            if kind.is_none() && node.kind != KIND_LOWER_LINK {
                return Err("unknown node kind");
            }
            let (first, count) = (node.first.get(), node.count.get());
            let fits = match kind {
                Some(Kind::Directory) => within(first, count, self.entries().len()),
                Some(Kind::Symlink) | None => within(first, count, strings as usize),
                _ => true,
            };
            if !fits {
                return Err("node leads outside its table");
            }
            if !within(
                node.first_xattr.get(),
                node.xattr_count.get(),
                self.xattr_records().len(),
            ) {
                return Err("attributes outside their table");
            }
            if node.content_kind.get() == CONTENT_OBJECT
                && node.content.get() >= self.objects().len() as u64
            {
                return Err("object outside its table");
            }
        }
        for entry in self.entries() {
            let is_whiteout = entry.flags.get() & ENTRY_WHITEOUT != 0;
            if !within(
                entry.name.get(),
                u32::from(entry.name_length.get()),
                strings as usize,
            ) || (!is_whiteout && entry.node.get() as usize >= nodes.len())
            {
                return Err("entry leads outside its table");
            }
        }
        for xattr in self.xattr_records() {
            if !within(xattr.name.get(), xattr.name_length.get(), strings as usize)
                || !within(
                    xattr.value.get(),
                    xattr.value_length.get(),
                    strings as usize,
                )
            {
                return Err("attribute leads outside its table");
            }
        }
        let slots = self.slots();
        if !slots.len().is_power_of_two() || slots.len() <= self.entries().len() {
            return Err("hash table of odd size");
        }
        if slots
            .iter()
            .any(|slot| slot.get() as usize > self.entries().len())
        {
            return Err("hash slot outside its table");
        }
        for cut in self.cuts() {
            if cut.object.get() as usize >= self.objects().len()
                || !within(
                    cut.first_segment.get(),
                    cut.segment_count.get(),
                    self.segments().len(),
                )
            {
                return Err("cut leads outside its table");
            }
        }
        Ok(())
    }

    fn section(&self, number: usize) -> &[u8] {
        &self.map[self.sections[number].clone()]
    }

    fn table<T: FromBytes + zerocopy::Immutable + zerocopy::KnownLayout + zerocopy::Unaligned>(
        &self,
        number: usize,
    ) -> &[T] {
        // Lengths are whole numbers of records, checked when the index was opened.
        <[T]>::ref_from_bytes(self.section(number)).unwrap_or_default()
    }

    /// Returns the diff ID or chain ID that the index was written for.
    pub(crate) fn identity(&self) -> Digest {
        self.identity
    }

    /// Returns the length of the layer's tar.
    pub(crate) fn tar_size(&self) -> u64 {
        self.tar_size
    }

    pub(crate) fn nodes(&self) -> &[NodeRecord] {
        self.table(NODES)
    }

    pub(crate) fn entries(&self) -> &[EntryRecord] {
        self.table(ENTRIES)
    }

    fn slots(&self) -> &[zerocopy::little_endian::U32] {
        self.table(SLOTS)
    }

    fn xattr_records(&self) -> &[XattrRecord] {
        self.table(XATTRS)
    }

    pub(crate) fn objects(&self) -> &[[u8; 32]] {
        self.table(OBJECTS)
    }

    pub(crate) fn cuts(&self) -> &[CutRecord] {
        self.table(CUTS)
    }

    pub(crate) fn segments(&self) -> &[SegmentRecord] {
        self.table(SEGMENTS)
    }

    pub(crate) fn layers(&self) -> &[[u8; 32]] {
        self.table(LAYERS)
    }

    fn string(&self, offset: u32, length: u32) -> &[u8] {
        let start = offset as usize;
        &self.section(STRINGS)[start..start + length as usize]
    }

    /// Returns the node's record; `node` must come from this index.
    pub(crate) fn node(&self, node: NodeId) -> &NodeRecord {
        &self.nodes()[node.0 as usize]
    }

    pub(crate) fn name(&self, entry: &EntryRecord) -> &[u8] {
        self.string(entry.name.get(), u32::from(entry.name_length.get()))
    }

    /// Returns a symbolic link's target, or the path a link to a lower layer names.
    pub(crate) fn target(&self, node: &NodeRecord) -> &[u8] {
        if node.kind == KIND_SYMLINK || node.kind == KIND_LOWER_LINK {
            self.string(node.first.get(), node.count.get())
        } else {
            b""
        }
    }

    /// Returns the entries of a directory, sorted by name; of anything else, none.
    pub(crate) fn children(&self, node: &NodeRecord) -> &[EntryRecord] {
        if node.kind != KIND_DIRECTORY {
            return &[];
        }
        let first = node.first.get() as usize;
        &self.entries()[first..first + node.count.get() as usize]
    }

    pub(crate) fn xattrs(
        &self,
        node: &NodeRecord,
    ) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        let first = node.first_xattr.get() as usize;
        self.xattr_records()[first..first + node.xattr_count.get() as usize]
            .iter()
            .map(|xattr| {
                (
                    self.string(xattr.name.get(), xattr.name_length.get()),
                    self.string(xattr.value.get(), xattr.value_length.get()),
                )
            })
    }

    /// Finds the entry `name` of the directory `dir`: one probe, whatever the size of the tree.
    pub(crate) fn lookup(&self, dir: NodeId, name: &[u8]) -> Option<&EntryRecord> {
        let slots = self.slots();
        let entries = self.entries();
        let mask = slots.len() - 1;
        let mut at = hash(dir.0, name) as usize & mask;
        // The table always has a free slot, so the walk ends.
        for _ in 0..slots.len() {
            let entry = entries.get((slots[at].get() as usize).checked_sub(1)?)?;
            if entry.directory.get() == dir.0 && self.name(entry) == name {
                return Some(entry);
            }
            at = (at + 1) & mask;
        }
        None
    }

    pub(crate) fn content(&self, node: &NodeRecord) -> ContentAt {
        match node.content_kind.get() {
            CONTENT_PACKED => ContentAt::Packed {
                layer: node.layer.get(),
                offset: node.content.get(),
            },
            CONTENT_OBJECT => ContentAt::Object(node.content.get() as u32),
            CONTENT_HOST => ContentAt::Host(node.content.get() as u32),
            _ => ContentAt::Nothing,
        }
    }
}

impl NodeRecord {
    /// Returns the node's metadata; a link to a lower layer shows as a file, and a fold never leaves one.
    pub(crate) fn meta(&self) -> Meta {
        Meta {
            kind: kind_of(self.kind).unwrap_or(Kind::File),
            mode: self.mode.get(),
            uid: self.uid.get(),
            gid: self.gid.get(),
            size: self.size.get(),
            nlink: self.nlink.get(),
            rdev: libc::makedev(self.rdev_major.get(), self.rdev_minor.get()),
            mtime: Timespec {
                secs: self.mtime_secs.get(),
                nanos: self.mtime_nanos.get(),
            },
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind == KIND_DIRECTORY
    }

    pub(crate) fn is_lower_link(&self) -> bool {
        self.kind == KIND_LOWER_LINK
    }

    pub(crate) fn is_opaque(&self) -> bool {
        self.flags & NODE_OPAQUE != 0
    }

    pub(crate) fn is_implicit(&self) -> bool {
        self.flags & NODE_IMPLICIT != 0
    }
}

impl EntryRecord {
    pub(crate) fn is_whiteout(&self) -> bool {
        self.flags.get() & ENTRY_WHITEOUT != 0
    }

    pub(crate) fn node_id(&self) -> NodeId {
        NodeId(self.node.get())
    }
}

/// The hash that leads from a directory and a name to its entry.
fn hash(dir: u32, name: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(name, u64::from(dir).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
