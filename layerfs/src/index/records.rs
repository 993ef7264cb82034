//! The fixed records of the tree index.

use zerocopy::FromBytes;
use zerocopy::Immutable;
use zerocopy::IntoBytes;
use zerocopy::KnownLayout;
use zerocopy::Unaligned;
use zerocopy::little_endian::I64;
use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;

use super::Kind;

pub(super) const MAGIC: [u8; 8] = *b"plytree\0";
pub(super) const VERSION: u32 = 1;

/// The sections in the order of the header's table.
pub(super) const SECTIONS: usize = 9;
pub(super) const NODES: usize = 0;
pub(super) const ENTRIES: usize = 1;
pub(super) const SLOTS: usize = 2;
pub(super) const STRINGS: usize = 3;
pub(super) const XATTRS: usize = 4;
pub(super) const OBJECTS: usize = 5;
pub(super) const CUTS: usize = 6;
pub(super) const SEGMENTS: usize = 7;
pub(super) const LAYERS: usize = 8;

/// The size of each section's record.
pub(super) const RECORD_SIZES: [u64; SECTIONS] = [80, 16, 4, 1, 16, 32, 32, 16, 32];

/// Where the checksummed part begins.
pub(super) const CHECKED_FROM: usize = 24;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    pub(super) magic: [u8; 8],
    pub(super) version: U32,
    pub(super) reserved: U32,
    pub(super) checksum: U64,
    pub(super) length: U64,
    pub(super) identity: [u8; 32],
    pub(super) tar_size: U64,
    pub(super) sections: [SectionRecord; SECTIONS],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct SectionRecord {
    pub(super) offset: U64,
    pub(super) length: U64,
}

pub(super) const KIND_FILE: u8 = 1;
pub(super) const KIND_DIRECTORY: u8 = 2;
pub(super) const KIND_SYMLINK: u8 = 3;
pub(super) const KIND_CHAR_DEVICE: u8 = 4;
pub(super) const KIND_BLOCK_DEVICE: u8 = 5;
pub(super) const KIND_FIFO: u8 = 6;
pub(super) const KIND_SOCKET: u8 = 7;
/// A hard link whose target is not in its own layer; only in layers, resolved by the fold.
pub(super) const KIND_LOWER_LINK: u8 = 8;

/// The directory hides what lower layers have in it.
pub(super) const NODE_OPAQUE: u8 = 1;
/// The directory was never named by the tar, only used as a parent.
pub(super) const NODE_IMPLICIT: u8 = 2;

/// Zero is no content.
pub(super) const CONTENT_PACKED: u32 = 1;
pub(super) const CONTENT_OBJECT: u32 = 2;
/// The node is a file of the host; only in indexes of plain directories, which are never on a disk.
pub(super) const CONTENT_HOST: u32 = 3;

/// The entry is a whiteout: it hides the name in lower layers and leads to no node.
pub(super) const ENTRY_WHITEOUT: u16 = 1;

/// A node.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct NodeRecord {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) mode: U16,
    pub(super) uid: U32,
    pub(super) gid: U32,
    pub(super) nlink: U32,
    pub(super) size: U64,
    pub(super) mtime_secs: I64,
    pub(super) mtime_nanos: U32,
    pub(super) rdev_major: U32,
    pub(super) rdev_minor: U32,
    pub(super) content_kind: U32,
    pub(super) layer: U32,
    /// A directory's first entry; a link's target's place among the strings.
    pub(super) first: U32,
    /// How many entries; the target's length.
    pub(super) count: U32,
    pub(super) first_xattr: U32,
    pub(super) xattr_count: U32,
    /// The directory that holds a directory; the root's is itself.
    pub(super) parent: U32,
    /// The offset in the pack, the position in the object table, or the number of a host file.
    pub(super) content: U64,
}

/// A name in a directory.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct EntryRecord {
    pub(super) name: U32,
    pub(super) name_length: U16,
    pub(super) flags: U16,
    pub(super) node: U32,
    pub(super) directory: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(super) struct XattrRecord {
    pub(super) name: U32,
    pub(super) name_length: U32,
    pub(super) value: U32,
    pub(super) value_length: U32,
}

/// A payload taken out of the pack.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct CutRecord {
    /// The offset in the pack at which the payload stood.
    pub(crate) pack_offset: U64,
    /// The payload's length in the tar.
    pub(crate) length: U64,
    /// The object that has its bytes.
    pub(crate) object: U32,
    /// The data ranges of a sparse content; none when the payload is the whole object.
    pub(crate) first_segment: U32,
    pub(crate) segment_count: U32,
    pub(crate) reserved: U32,
}

/// A range of a sparse content that has data.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct SegmentRecord {
    pub(crate) offset: U64,
    pub(crate) length: U64,
}

pub(super) fn kind_of(kind: u8) -> Option<Kind> {
    Some(match kind {
        KIND_FILE => Kind::File,
        KIND_DIRECTORY => Kind::Directory,
        KIND_SYMLINK => Kind::Symlink,
        KIND_CHAR_DEVICE => Kind::CharDevice,
        KIND_BLOCK_DEVICE => Kind::BlockDevice,
        KIND_FIFO => Kind::Fifo,
        KIND_SOCKET => Kind::Socket,
        _ => return None,
    })
}

pub(super) fn kind_number(kind: Kind) -> u8 {
    match kind {
        Kind::File => KIND_FILE,
        Kind::Directory => KIND_DIRECTORY,
        Kind::Symlink => KIND_SYMLINK,
        Kind::CharDevice => KIND_CHAR_DEVICE,
        Kind::BlockDevice => KIND_BLOCK_DEVICE,
        Kind::Fifo => KIND_FIFO,
        Kind::Socket => KIND_SOCKET,
    }
}
