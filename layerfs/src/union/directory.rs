//! Reading directories.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::fs::FileType;

use super::Ino;
use super::Table;
use super::Union;
use super::upper;
use super::upper::Place;
use crate::errno::Errno;
use crate::index::Kind;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: Vec<u8>,
    /// The inode number that `stat(2)` of it would show.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
}

impl Union {
    /// Opens a directory: what is read from the handle are its names at this moment.
    pub fn opendir(&self, ino: Ino) -> Result<u64, Errno> {
        let entries = self.list(ino, true)?;
        let handle = self.next_handle();
        self.directories.write().insert(handle, Arc::new(entries));
        Ok(handle)
    }

    /// Returns the names of an open directory, `.` and `..` first; a position in them is an offset.
    pub fn readdir(&self, handle: u64) -> Result<Arc<Vec<DirEntry>>, Errno> {
        self.directories
            .read()
            .get(&handle)
            .cloned()
            .ok_or(Errno::EBADF)
    }

    /// Reads the directory of a handle anew.
    pub fn rewinddir(&self, handle: u64, ino: Ino) -> Result<(), Errno> {
        let entries = Arc::new(self.list(ino, true)?);
        self.directories.write().insert(handle, entries);
        Ok(())
    }

    /// Closes a directory.
    pub fn releasedir(&self, handle: u64) {
        self.directories.write().remove(&handle);
    }

    /// Makes a directory's changes durable.
    pub fn fsyncdir(&self, ino: Ino) -> Result<(), Errno> {
        let directory = {
            let mut table = self.table.lock();
            if !table.get(ino)?.in_upper {
                return Ok(());
            }
            self.place(&mut table, ino)?
        };
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        Ok(rustix::fs::fsync(directory.open(flags)?)?)
    }

    /// Lists a directory, the upper's names before the lower ones that they do not hide.
    pub(super) fn list(&self, ino: Ino, dots: bool) -> Result<Vec<DirEntry>, Errno> {
        self.list_in(&mut self.table.lock(), ino, dots)
    }

    pub(super) fn list_in(
        &self,
        table: &mut Table,
        ino: Ino,
        dots: bool,
    ) -> Result<Vec<DirEntry>, Errno> {
        let node = table.get(ino)?;
        if node.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let (number, parent, lower, in_upper) =
            (node.number, node.parent, node.lower, node.in_upper);
        let mut entries = Vec::new();
        if dots {
            let parent = table.get(parent).map_or(number, |parent| parent.number);
            for (name, ino) in [(&b"."[..], number), (b"..", parent)] {
                entries.push(DirEntry {
                    name: name.to_vec(),
                    ino,
                    kind: Kind::Directory,
                });
            }
        }
        let mut seen = HashSet::new();
        if in_upper {
            self.list_upper(table, ino, &mut entries, &mut seen)?;
        }
        for child in lower
            .into_iter()
            .flat_map(|lower| self.stack.children(lower))
        {
            if !seen.contains(child.name) {
                entries.push(DirEntry {
                    name: child.name.to_vec(),
                    ino: Ino::of_lower(child.node),
                    kind: child.kind,
                });
            }
        }
        Ok(entries)
    }

    fn list_upper(
        &self,
        table: &mut Table,
        ino: Ino,
        entries: &mut Vec<DirEntry>,
        seen: &mut HashSet<Vec<u8>>,
    ) -> Result<(), Errno> {
        let directory = self.directory_fd(table, ino)?;
        let lower = table.get(ino)?.lower;
        for (name, file_type) in upper::list(directory.as_fd())? {
            let stat = rustix::fs::statat(&directory, &name[..], AtFlags::SYMLINK_NOFOLLOW)?;
            seen.insert(name.clone());
            if file_type == FileType::CharacterDevice && upper::is_whiteout(&stat) {
                continue;
            }
            let kind = upper::kind_of(stat.st_mode);
            let place = Place::Named(directory.clone(), name.clone().into());
            let origin = place.origin().map(|origin| origin.node).or_else(|| {
                let below = lower.and_then(|lower| self.stack.lookup(lower, &name))?;
                let merges = kind == Kind::Directory
                    && self.stack.meta(below).kind == Kind::Directory
                    && !place.is_opaque();
                merges.then_some(below)
            });
            let number = origin.map_or(Ino::of_upper(stat.st_ino), Ino::of_lower);
            entries.push(DirEntry {
                name,
                ino: number,
                kind,
            });
        }
        Ok(())
    }
}
