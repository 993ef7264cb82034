//! Taking tars apart into trees.
//!
//! An archive is hostile: no name in it leads out of the directory, what it brings may be bounded, and of what it says of an
//! entry no more is held in memory than [`HEADERS`].

use std::cell::Cell;
use std::io;
use std::io::Read;
use std::path::Path;

use layerfs::Kind;
use layerfs::Timespec;
use tar::EntryType;

use super::XATTR;
use super::parse_decimal;
use super::sparse;
use crate::tree::Last;
use crate::tree::Metadata;
use crate::tree::New;
use crate::tree::Tree;
use crate::tree::components;

/// The most that is read of what an archive says of one entry: names, attributes, the map of a sparse file. A path has at
/// most 4 KiB, an attribute 64 KiB.
const HEADERS: u64 = 8 << 20;

/// How a tar is unpacked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unpack<'a> {
    /// Who is to own all of it; `None` keeps the owners of the archive.
    pub(crate) owner: Option<(u32, u32)>,
    /// The directory's path in the tree, if links on the way to an entry are to be followed in it: an archive made by
    /// hand may count on `/bin` being one. An archive that a container had a say in is never let through a link.
    pub(crate) follow_in: Option<&'a [u8]>,
    /// How much it may bring, if that is bounded.
    pub(crate) most: Option<Most>,
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

    const UNBOUNDED: Most = Most {
        entries: u64::MAX,
        bytes: u64::MAX,
    };
}

/// Reads an archive; what is read of it between two entries is bounded.
struct Source<'a, R> {
    inner: R,
    headers: &'a Cell<Option<u64>>,
}

impl<R: Read> Read for Source<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.headers.get() else {
            return self.inner.read(buffer);
        };
        let length = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        if length == 0 && !buffer.is_empty() {
            return Err(io::Error::other("the header of an entry is too long"));
        }
        let count = self.inner.read(&mut buffer[..length])?;
        self.headers.set(Some(left - count as u64));
        Ok(count)
    }
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
        directories: Vec::new(),
        left: options.most.unwrap_or(Most::UNBOUNDED),
        written: 0,
    };
    let headers = Cell::new(None);
    let mut archive = tar::Archive::new(Source {
        inner: input,
        headers: &headers,
    });
    let mut entries = archive.entries().map_err(UnpackError::Archive)?;
    loop {
        headers.set(Some(HEADERS));
        let Some(entry) = entries.next() else { break };
        headers.set(None);
        let mut entry = entry.map_err(UnpackError::Archive)?;
        unpacker.next(&mut entry)?;
    }
    headers.set(None);
    unpacker.finish().map_err(UnpackError::Archive)?;
    // What follows the archive is read too: its writer may wait for that.
    let mut rest = Counted {
        inner: archive.into_inner(),
        left: &mut unpacker.left.bytes,
    };
    io::copy(&mut rest, &mut io::sink()).map_err(UnpackError::Archive)?;
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

struct Unpacker<'a, T: Tree> {
    tree: &'a T,
    directory: &'a T::Node,
    options: &'a Unpack<'a>,
    /// By path: an open node may be a descriptor, of which there are not so many.
    directories: Vec<(Vec<Vec<u8>>, Metadata)>,
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
                _ => sparse::of(entry).map_err(Refused::Archive)?,
            };
            if let Some(name) = sparse.as_ref().and_then(|sparse| sparse.name.clone()) {
                path = name;
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

    /// Gives directories their metadata: the times would change with what is made in them.
    fn finish(&self) -> io::Result<()> {
        for (path, metadata) in self.directories.iter().rev() {
            let path: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
            let node = self.parent(&path)?;
            self.tree.set_metadata(&node, metadata)?;
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
            (Some(Kind::Directory), false) => {
                return Err(Refused::Words(format!(
                    "cannot overwrite directory {shown:?} with non-directory"
                )));
            }
            (Some(Kind::Directory), true) => {
                self.will_be(&names, metadata);
                return Ok(());
            }
            (Some(_), true) if !matches!(there, Some(Kind::Symlink)) => {
                return Err(Refused::Words(format!(
                    "cannot overwrite non-directory {shown:?} with directory"
                )));
            }
            (Some(_), _) => self.tree.remove(&parent, name).map_err(Refused::Entry)?,
            (None, _) => {}
        }
        if kind.is_dir() {
            let made = self.tree.make(&parent, name, New::Directory);
            made.map_err(Refused::Entry)?;
            self.will_be(&names, metadata);
            return Ok(());
        }
        self.make(entry, &parent, name, metadata, sparse)
    }

    /// Remembers what a directory is to be in the end.
    fn will_be(&mut self, names: &[&[u8]], metadata: Metadata) {
        let path = names.iter().map(|name| name.to_vec()).collect();
        self.directories.push((path, metadata));
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
    fn link(&self, target: &[u8], parent: &T::Node, name: &[u8]) -> Result<(), Refused> {
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
    fn parent(&self, names: &[&[u8]]) -> io::Result<Parent<'a, T::Node>> {
        if names.is_empty() {
            return Ok(Parent::Top(self.directory));
        }
        if let Some(base) = self.options.follow_in {
            let path = names
                .iter()
                .fold(base.to_vec(), |path, name| [&path[..], b"/", name].concat());
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
                    let path = names[..=number]
                        .iter()
                        .fold(base.to_vec(), |path, name| [&path[..], b"/", name].concat());
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
                    xattrs.push((name.as_bytes().to_vec(), record.value_bytes().to_vec()));
                }
            }
        }
        let header = entry.header();
        let (uid, gid) = match self.options.owner {
            Some(owner) => owner,
            None => (
                u32::try_from(header.uid()?).map_err(io::Error::other)?,
                u32::try_from(header.gid()?).map_err(io::Error::other)?,
            ),
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
