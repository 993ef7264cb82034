//! Taking tars apart into trees.
//!
//! An archive is hostile: no name in it leads out of the directory, what it brings may be bounded, and of what it says of an
//! entry no more is held in memory than [`Bound`] lets through.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::io::Read;
use std::path::Path;

use layerfs::Kind;
use layerfs::Timespec;
use layerfs::ingest::number_field;
use tar::EntryType;

use super::Bound;
use super::XATTR;
use super::parse_decimal;
use super::sparse;
use crate::tree::Last;
use crate::tree::Metadata;
use crate::tree::New;
use crate::tree::Tree;
use crate::tree::components;

/// How much is told of a path that is too long.
const SHOWN: usize = 64;

/// The longest path and the longest target of a link, `PATH_MAX` of `<linux/limits.h>`.
pub(crate) const LONGEST_PATH: usize = 4096;

/// The largest value of an attribute, `XATTR_SIZE_MAX` of `<linux/limits.h>`.
const LARGEST_XATTR: usize = 64 << 10;

/// The most that is remembered of directories until the end, bytes.
const REMEMBERED: usize = 256 << 20;

/// Where owners stand in a header.
const OF_UID: std::ops::Range<usize> = 108..116;
const OF_GID: std::ops::Range<usize> = 116..124;

/// What a directory's children would inherit: it is set after they are made.
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// How a tar is unpacked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unpack<'a> {
    /// Who is to own all of it; `None` keeps the owners of the archive.
    pub(crate) owner: Option<(u32, u32)>,
    /// The directory's path in the tree, if links on the way to an entry are to be followed in it: an archive made by
    /// hand may count on `/bin` being one. An archive that a container had a say in is never let through a link.
    pub(crate) follow_in: Option<&'a [u8]>,
    /// Whether a directory may give way to what is none, and the other way round.
    pub(crate) replaces: bool,
    /// How much it may bring, if that is bounded; what it has brought is subtracted.
    pub(crate) most: Option<&'a Cell<Most>>,
}

/// How much an archive may bring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    pub(crate) entries: u64,
    /// Bytes of files, holes included.
    pub(crate) bytes: u64,
}

impl Most {
    /// The largest number of entries: a hundred times as many as the largest images have, and what the kernel can hold of
    /// them in memory.
    const MOST_ENTRIES: u64 = 16 << 20;

    /// Returns what an archive may bring that is unpacked below `directory` and then made a layer of: half of what the disk
    /// has room for, as it is there twice for a moment. A hole counts like data, as it does in the layer's tar: so a few
    /// bytes that decompress to more than anybody has a disk for are refused before they have cost hours.
    pub(crate) fn room(directory: &Path) -> io::Result<Most> {
        let stat = rustix::fs::statvfs(directory)?;
        let inodes = match stat.f_files {
            // They are made as they are needed.
            0 => Most::MOST_ENTRIES,
            _ => stat.f_favail / 2,
        };
        Ok(Most {
            entries: inodes.min(Most::MOST_ENTRIES),
            bytes: stat.f_bavail.saturating_mul(stat.f_frsize) / 2,
        })
    }

    /// Returns what an archive may bring that is unpacked for good on the disk of `directory`, where it may replace what is
    /// there: as much as that can hold.
    pub(crate) fn on_disk_of(directory: &Path) -> io::Result<Most> {
        let stat = rustix::fs::statvfs(directory)?;
        Ok(Most {
            entries: Most::MOST_ENTRIES,
            bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }

    const UNBOUNDED: Most = Most {
        entries: u64::MAX,
        bytes: u64::MAX,
    };
}

/// Reads on as long as there may be more.
pub(crate) struct Counted<'a, R> {
    pub(crate) inner: R,
    pub(crate) left: &'a mut u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        *self.left = self.left.checked_sub(count as u64).ok_or_else(too_large)?;
        Ok(count)
    }
}

fn too_long() -> io::Error {
    io::Error::from_raw_os_error(libc::ENAMETOOLONG)
}

fn too_large() -> io::Error {
    io::Error::other("the archive holds more than there is room for")
}

/// Unpacks a tar into a directory; returns the bytes of the files in it.
pub(crate) fn unpack<T: Tree>(
    tree: &T,
    directory: &T::Node,
    input: impl Read,
    options: &Unpack<'_>,
) -> Result<u64, UnpackError> {
    let mut unpacker = Unpacker {
        tree,
        directory,
        options,
        directories: BTreeMap::new(),
        remembered: 0,
        left: options.most.map_or(Most::UNBOUNDED, Cell::get),
        written: 0,
    };
    let bound = Bound::default();
    let mut archive = tar::Archive::new(bound.reader(input));
    let mut entries = archive.entries().map_err(UnpackError::Archive)?;
    while let Some(entry) = bound.next(&mut entries) {
        let mut entry = entry.map_err(UnpackError::Archive)?;
        unpacker.next(&mut entry)?;
    }
    unpacker.finish().map_err(UnpackError::Archive)?;
    // What follows the archive is read too: its writer may wait for that.
    let mut rest = Counted {
        inner: archive.into_inner(),
        left: &mut unpacker.left.bytes,
    };
    io::copy(&mut rest, &mut io::sink()).map_err(UnpackError::Archive)?;
    if let Some(most) = options.most {
        most.set(unpacker.left);
    }
    Ok(unpacker.written)
}

/// What keeps a tar from being unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It cannot be read.
    #[error("archive: {}", crate::image::words(.0))]
    Archive(#[source] io::Error),
    /// An entry cannot be made.
    #[error("{path}: {}", crate::image::words(source))]
    Entry {
        /// The entry's name.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// An entry must not be made.
    #[error("{0}")]
    Refused(String),
}

enum Refused {
    Archive(io::Error),
    Entry(io::Error),
    Words(String),
}

/// The directory that an entry belongs in.
enum Parent<'a, N> {
    /// That which is unpacked into.
    Top(&'a N),
    /// One below it.
    Below(N),
}

impl<N> std::ops::Deref for Parent<'_, N> {
    type Target = N;

    fn deref(&self) -> &N {
        match self {
            Parent::Top(node) => node,
            Parent::Below(node) => node,
        }
    }
}

/// What a directory gets when all in it is made.
struct Late {
    mtime: Timespec,
    default_acl: Option<Vec<u8>>,
}

impl Late {
    fn size(&self) -> usize {
        size_of::<Late>() + self.default_acl.as_ref().map_or(0, Vec::len)
    }
}

struct Unpacker<'a, T: Tree> {
    tree: &'a T,
    directory: &'a T::Node,
    options: &'a Unpack<'a>,
    /// What directories get in the end, by path: an open node may be a descriptor, of which there are not so many.
    directories: BTreeMap<Vec<u8>, Late>,
    /// The bytes that takes.
    remembered: usize,
    left: Most,
    written: u64,
}

impl<'a, T: Tree> Unpacker<'a, T> {
    /// Makes what an entry says.
    fn next<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<(), UnpackError> {
        let mut path = entry.path_bytes().into_owned();
        let made = (|| {
            self.left.entries = self
                .left
                .entries
                .checked_sub(1)
                .ok_or_else(|| Refused::Archive(too_large()))?;
            // Records for all entries say nothing of files; the library would read them into memory whole.
            let sparse = match entry.header().entry_type() {
                EntryType::XGlobalHeader => return self.skip(entry),
                // The library takes those of the formats that have them.
                EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink => {
                    let words = "an extended header in an archive whose format has none";
                    return Err(Refused::Archive(io::Error::other(words)));
                }
                _ => sparse::of(entry).map_err(Refused::Archive)?,
            };
            if let Some(name) = sparse.as_ref().and_then(|sparse| sparse.name.clone()) {
                path = name;
            }
            if path.len() > LONGEST_PATH {
                path.truncate(SHOWN);
                return Err(Refused::Entry(too_long()));
            }
            self.entry(entry, &path, sparse)?;
            // What nobody wanted.
            self.skip(entry)
        })();
        made.map_err(|error| match error {
            Refused::Archive(error) => UnpackError::Archive(error),
            Refused::Entry(source) => UnpackError::Entry {
                path: String::from_utf8_lossy(&path).into_owned(),
                source,
            },
            Refused::Words(words) => UnpackError::Refused(words),
        })
    }

    /// Reads over what is left of an entry.
    fn skip<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<(), Refused> {
        let mut rest = Counted {
            inner: entry,
            left: &mut self.left.bytes,
        };
        let skipped = io::copy(&mut rest, &mut io::sink());
        skipped.map(drop).map_err(Refused::Archive)
    }

    /// Gives directories their times, which would change with what is made in them, and what would be inherited.
    fn finish(&mut self) -> io::Result<()> {
        for (path, late) in std::mem::take(&mut self.directories).into_iter().rev() {
            let names: Vec<&[u8]> = components(&path).collect();
            let node = self.parent(&names)?;
            let stat = self.tree.stat(&node)?;
            let acl = late.default_acl;
            let metadata = Metadata {
                mode: stat.mode,
                uid: stat.uid,
                gid: stat.gid,
                mtime: late.mtime,
                xattrs: acl
                    .map(|acl| (DEFAULT_ACL.to_vec(), acl))
                    .into_iter()
                    .collect(),
            };
            self.tree.set_metadata(&node, &metadata)?;
        }
        Ok(())
    }

    fn entry<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        path: &[u8],
        sparse: Option<sparse::Sparse>,
    ) -> Result<(), Refused> {
        let names: Vec<&[u8]> = components(path).collect();
        if names.contains(&&b".."[..]) {
            let path = String::from_utf8_lossy(path);
            return Err(Refused::Words(format!("invalid path in archive: {path:?}")));
        }
        let metadata = self.metadata(entry).map_err(Refused::Archive)?;
        let Some((name, parents)) = names.split_last() else {
            // The directory itself.
            return Ok(());
        };
        let parent = self.parent(parents).map_err(Refused::Entry)?;
        let kind = entry.header().entry_type();
        let there = match self.tree.child(&parent, name) {
            Ok(there) => Some(self.tree.stat(&there).map_err(Refused::Entry)?.kind),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Refused::Entry(error)),
        };
        let shown = String::from_utf8_lossy(path);
        match (there, kind.is_dir()) {
            (Some(Kind::Directory), false) if !self.options.replaces => {
                return Err(Refused::Words(format!(
                    "cannot overwrite directory {shown:?} with non-directory"
                )));
            }
            (Some(Kind::Directory), true) => {
                let node = self.tree.child(&parent, name).map_err(Refused::Entry)?;
                return self.make_directory(&node, &names, metadata);
            }
            (Some(other), true) if other != Kind::Symlink && !self.options.replaces => {
                return Err(Refused::Words(format!(
                    "cannot overwrite non-directory {shown:?} with directory"
                )));
            }
            (Some(_), _) => self.tree.remove(&parent, name).map_err(Refused::Entry)?,
            (None, _) => {}
        }
        if kind.is_dir() {
            let made = self.tree.make(&parent, name, New::Directory);
            let node = made.map_err(Refused::Entry)?;
            return self.make_directory(&node, &names, metadata);
        }
        self.make(entry, &parent, name, metadata, sparse)
    }

    /// Gives a directory what it can have before all in it is made, and remembers the rest.
    fn make_directory(
        &mut self,
        node: &T::Node,
        names: &[&[u8]],
        mut metadata: Metadata,
    ) -> Result<(), Refused> {
        let is_default = |(name, _): &(Vec<u8>, Vec<u8>)| name == DEFAULT_ACL;
        let at = metadata.xattrs.iter().position(is_default);
        let late = Late {
            mtime: metadata.mtime,
            default_acl: at.map(|at| metadata.xattrs.swap_remove(at).1),
        };
        self.tree
            .set_metadata(node, &metadata)
            .map_err(Refused::Entry)?;
        let path = names.join(&b'/');
        let length = path.len();
        self.remembered += late.size();
        match self.directories.insert(path, late) {
            Some(before) => self.remembered -= before.size(),
            None => self.remembered += length,
        }
        match self.remembered > REMEMBERED {
            true => Err(Refused::Archive(io::Error::other(
                "the archive has too many directories",
            ))),
            false => Ok(()),
        }
    }

    fn make<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        parent: &T::Node,
        name: &[u8],
        metadata: Metadata,
        sparse: Option<sparse::Sparse>,
    ) -> Result<(), Refused> {
        let target = entry.link_name_bytes().map(|target| target.into_owned());
        if target
            .as_ref()
            .is_some_and(|target| target.len() > LONGEST_PATH)
        {
            return Err(Refused::Entry(too_long()));
        }
        let header = entry.header();
        let rdev = || {
            let number = |field: io::Result<Option<u32>>| field.ok().flatten().unwrap_or_default();
            libc::makedev(number(header.device_major()), number(header.device_minor()))
        };
        let new = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => New::File,
            EntryType::Symlink => New::Symlink(target.as_deref().unwrap_or_default()),
            EntryType::Char => New::Special(Kind::CharDevice, rdev()),
            EntryType::Block => New::Special(Kind::BlockDevice, rdev()),
            EntryType::Fifo => New::Special(Kind::Fifo, 0),
            EntryType::Link => {
                let target = target.unwrap_or_default();
                return self.link(&target, parent, name);
            }
            // Comments and labels.
            _ => return Ok(()),
        };
        let node = self.tree.make(parent, name, new).map_err(Refused::Entry)?;
        if let New::File = new {
            let size = sparse.as_ref().map_or(entry.size(), |sparse| sparse.size);
            if size > self.left.bytes {
                return Err(Refused::Archive(too_large()));
            }
            let mut content: Box<dyn Read + '_> = match sparse {
                Some(sparse) => Box::new(sparse.expand(entry).map_err(Refused::Archive)?),
                None => Box::new(entry),
            };
            let mut content = Counted {
                inner: &mut *content,
                left: &mut self.left.bytes,
            };
            let written = self.tree.write(&node, &mut content);
            self.written += written.map_err(Refused::Entry)?;
        }
        self.tree
            .set_metadata(&node, &metadata)
            .map_err(Refused::Entry)
    }

    /// Makes another name for a file that the archive has already brought.
    fn link(&mut self, target: &[u8], parent: &T::Node, name: &[u8]) -> Result<(), Refused> {
        let names: Vec<&[u8]> = components(target).collect();
        let refused = || {
            let target = String::from_utf8_lossy(target);
            Refused::Words(format!("invalid hard link in archive: {target:?}"))
        };
        if names.contains(&&b".."[..]) {
            return Err(refused());
        }
        let (last, parents) = names.split_last().ok_or_else(refused)?;
        let directory = self.parent(parents).map_err(Refused::Entry)?;
        let file = self.tree.child(&directory, last).map_err(Refused::Entry)?;
        self.tree.link(&file, parent, name).map_err(Refused::Entry)
    }

    /// Finds the directory an entry belongs in, making those that the archive does not mention.
    fn parent(&mut self, names: &[&[u8]]) -> io::Result<Parent<'a, T::Node>> {
        if names.is_empty() {
            return Ok(Parent::Top(self.directory));
        }
        if let Some(base) = self.options.follow_in {
            let path = [base, b"/", &names.join(&b'/')].concat();
            match self.tree.resolve(&path, Last::Follow) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                found => return found.map(Parent::Below),
            }
        }
        let mut found = Parent::Top(self.directory);
        for (number, name) in names.iter().enumerate() {
            let here = &*found;
            let next = match self.tree.child(here, name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let left = self.left.entries.checked_sub(1);
                    self.left.entries = left.ok_or_else(too_large)?;
                    let made = self.tree.make(here, name, New::Directory)?;
                    let (uid, gid) = self.options.owner.unwrap_or((0, 0));
                    let metadata = Metadata {
                        mode: 0o755,
                        uid,
                        gid,
                        ..Metadata::default()
                    };
                    self.tree.set_metadata(&made, &metadata)?;
                    made
                }
                next => next?,
            };
            let kind = self.tree.stat(&next)?.kind;
            let next = match (kind, self.options.follow_in) {
                (Kind::Directory, _) => next,
                (Kind::Symlink, Some(base)) => {
                    let path = [base, b"/", &names[..=number].join(&b'/')].concat();
                    self.tree.resolve(&path, Last::Follow)?
                }
                _ => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
            };
            found = Parent::Below(next);
        }
        Ok(found)
    }

    fn metadata<R: Read>(&self, entry: &mut tar::Entry<'_, R>) -> io::Result<Metadata> {
        let mut xattrs = Vec::new();
        let mut mtime = None;
        if let Some(records) = entry.pax_extensions()? {
            for record in records {
                let record = record?;
                let Ok(key) = record.key() else { continue };
                if key == "mtime" {
                    mtime = parse_decimal(record.value_bytes());
                } else if let Some(name) = key.strip_prefix(XATTR) {
                    if record.value_bytes().len() > LARGEST_XATTR {
                        return Err(io::Error::other("an attribute is too large"));
                    }
                    xattrs.push((name.as_bytes().to_vec(), record.value_bytes().to_vec()));
                }
            }
        }
        let header = entry.header();
        let (uid, gid) = match self.options.owner {
            Some(owner) => owner,
            None => {
                let uid = number_field(header, OF_UID, header.uid())?;
                let gid = number_field(header, OF_GID, header.gid())?;
                (
                    u32::try_from(uid).map_err(io::Error::other)?,
                    u32::try_from(gid).map_err(io::Error::other)?,
                )
            }
        };
        Ok(Metadata {
            mode: header.mode()? & 0o7777,
            uid,
            gid,
            mtime: match mtime {
                Some(mtime) => mtime,
                None => Timespec {
                    secs: i64::try_from(header.mtime()?).unwrap_or_default(),
                    nanos: 0,
                },
            },
            xattrs,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::tree::HostTree;

    fn header(mut header: tar::Header, kind: u8, name: &str, size: usize) -> Vec<u8> {
        header.set_entry_type(EntryType::new(kind));
        header.set_mode(0o755);
        for set in [
            tar::Header::set_uid,
            tar::Header::set_gid,
            tar::Header::set_mtime,
        ] {
            set(&mut header, 7);
        }
        header.set_size(size as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn entry(kind: u8, name: &str, content: &[u8]) -> Vec<u8> {
        let header = header(tar::Header::new_gnu(), kind, name, content.len());
        let mut entry = [&header, content].concat();
        entry.resize(entry.len().next_multiple_of(512), 0);
        entry
    }

    fn records(name: &str, value: &[u8]) -> Vec<u8> {
        let rest = [b" ", name.as_bytes(), b"=", value, b"\n"].concat();
        let mut length = rest.len();
        while length != rest.len() + length.to_string().len() {
            length = rest.len() + length.to_string().len();
        }
        let records = [length.to_string().as_bytes(), &rest].concat();
        entry(b'x', "records", &records)
    }

    fn unpacked(archive: &[u8], most: Most) -> (tempfile::TempDir, Result<Most, String>) {
        let directory = tempfile::tempdir().expect("a directory");
        let flags = rustix::fs::OFlags::PATH;
        let root = rustix::fs::open(directory.path(), flags, rustix::fs::Mode::empty());
        let tree = HostTree::of_container(root.expect("opened"), None);
        let top = tree.resolve(b"/", Last::Follow).expect("the root");
        let most = Cell::new(most);
        let owner = rustix::process::geteuid().as_raw();
        let options = Unpack {
            owner: Some((owner, rustix::process::getegid().as_raw())),
            follow_in: None,
            most: Some(&most),
            ..Unpack::default()
        };
        let done = unpack(&tree, &top, archive, &options);
        let left = done.map(|_| most.get()).map_err(|error| error.to_string());
        (directory, left)
    }

    const MUCH: Most = Most {
        entries: 10_000,
        bytes: 1 << 30,
    };

    #[test]
    fn what_an_archive_says_of_an_entry_is_bounded() {
        let old = |kind| {
            let header = header(tar::Header::new_old(), kind, "old", 1 << 20);
            [header, vec![b'x'; 1 << 20], entry(b'0', "x", b"")].concat()
        };
        let deep = "a/".repeat(400 << 10);
        for (archive, words) in [
            (old(b'x'), "whose format has none"),
            (old(b'L'), "whose format has none"),
            (old(b'K'), "whose format has none"),
            (
                [records("path", deep.as_bytes()), entry(b'0', "x", b"")].concat(),
                "file name too long",
            ),
            (
                [records("linkpath", deep.as_bytes()), entry(b'2', "x", b"")].concat(),
                "file name too long",
            ),
            (
                [records("linkpath", deep.as_bytes()), entry(b'1', "x", b"")].concat(),
                "file name too long",
            ),
            (
                [
                    records("SCHILY.xattr.user.a", &[b'x'; (64 << 10) + 1]),
                    entry(b'5', "x", b""),
                ]
                .concat(),
                "an attribute is too large",
            ),
            (
                [
                    records("GNU.sparse.realsize", b"9223372036854775807"),
                    entry(b'0', "x", b""),
                ]
                .concat(),
                "more than there is room for",
            ),
        ] {
            let (_directory, done) = unpacked(&archive, MUCH);
            let error = done.expect_err(words);
            assert!(error.to_lowercase().contains(words), "{error}");
            assert!(error.len() < 500, "{}", error.len());
        }
    }

    #[test]
    fn all_that_is_made_is_counted() {
        let few = Most {
            entries: 100,
            bytes: 10,
        };
        let deep = "a/".repeat(90);
        let (_directory, left) = unpacked(&entry(b'0', &deep[..99], b"123"), few);
        let left = left.expect("room");
        // One entry and 49 directories that it lies in.
        assert_eq!((left.entries, left.bytes), (50, 7));
        let (_directory, left) = unpacked(&records("path", "a/".repeat(101).as_bytes()), few);
        left.expect_err("nothing follows");
        let archive = [
            records(
                "path",
                ["a/".repeat(101), "f".to_owned()].concat().as_bytes(),
            ),
            entry(b'0', "x", b""),
        ];
        let (_directory, left) = unpacked(&archive.concat(), few);
        assert!(left.is_err_and(|error| error.contains("room for")));
    }

    #[test]
    fn directories_keep_their_times() {
        let archive = [
            entry(b'5', "d/", b""),
            entry(b'5', "d/e/", b""),
            entry(b'0', "d/e/f", b"x"),
            entry(b'5', "./d//", b""),
            entry(b'0', "d/g", b"x"),
        ];
        let (directory, left) = unpacked(&archive.concat(), MUCH);
        left.expect("unpacked");
        for path in ["d", "d/e", "d/e/f"] {
            let stat = std::fs::metadata(directory.path().join(path)).expect("made");
            assert_eq!((stat.mtime(), stat.mode() & 0o777), (7, 0o755), "{path}");
        }
    }
}
