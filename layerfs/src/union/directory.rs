//! Reading directories.
//!
//! A reader goes on from a position, and keeps no state here: a lower name's position is its place in the stack's
//! directory, whether the lower node or an upper one shows under it; a name that only the upper has is placed by the
//! hash of it. So names that come and go move no other, and each one is seen once (`readdir(3)`).

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::fs::FileType;

use super::Entry;
use super::Ino;
use super::Table;
use super::Union;
use super::upper;
use super::upper::Place;
use crate::errno::Errno;
use crate::index::Kind;
use crate::marks;

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

/// A name that is read from a position.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The inode number that `stat(2)` of it would show.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// The position after it.
    pub next: u64,
    /// What a lookup of the name would answer, if that was asked for and the name is still there.
    pub entry: Option<Entry>,
}

/// Whether what a name leads to is wanted too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Names, numbers and kinds.
    Names,
    /// And a lookup of each name that is taken.
    Entries,
}

/// The positions of the first lower name and of the first that only the upper has.
const FIRST_LOWER: u64 = 2;
const FIRST_UPPER: u64 = 1 << 62;

/// What the upper has in a directory at one moment.
#[derive(Debug)]
pub(super) struct Listing {
    names: HashMap<Box<[u8]>, UpperName>,
    /// The names that no lower directory has, by position.
    only_upper: Vec<(u64, Box<[u8]>)>,
}

#[derive(Clone, Copy, Debug)]
struct UpperName {
    /// None for a whiteout.
    kind: Option<Kind>,
    host: u64,
}

impl Union {
    /// Reads a directory from `position`, which is 0 or a [`Listed::next`], until `take` returns false; what it refused
    /// is not counted as looked up.
    pub fn read_directory(
        &self,
        ino: Ino,
        position: u64,
        detail: Detail,
        mut take: impl FnMut(&Listed<'_>) -> bool,
    ) -> Result<(), Errno> {
        let mut table = self.table.lock();
        let table = &mut *table;
        let node = table.get(ino)?;
        if node.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let (number, parent, lower, in_upper) =
            (node.number, node.parent, node.lower, node.in_upper);
        let parent = table.get(parent).map_or(number, |parent| parent.number);
        for (at, name, ino) in [(0, &b"."[..], number), (1, b"..", parent)] {
            let kind = Kind::Directory;
            let (next, entry) = (at + 1, None);
            if position <= at
                && !take(&Listed {
                    name,
                    ino,
                    kind,
                    next,
                    entry,
                })
            {
                return Ok(());
            }
        }
        let listing = match in_upper {
            true => Some(self.listing(table, ino, position)?),
            false => None,
        };
        let mut reading = Reading {
            union: self,
            table,
            directory: ino,
            detail,
        };
        if position < FIRST_UPPER
            && let Some(lower) = lower
        {
            let from = position.saturating_sub(FIRST_LOWER) as usize;
            for (at, child) in self.stack.children(lower).enumerate().skip(from) {
                let next = FIRST_LOWER + at as u64 + 1;
                let above = listing
                    .as_ref()
                    .and_then(|listing| listing.names.get(child.name));
                let listed = match above {
                    Some(UpperName { kind: None, .. }) => continue,
                    Some(upper) => reading.upper(child.name, upper, next)?,
                    None => reading.lower(child, next)?,
                };
                if !reading.offer(listed, &mut take)? {
                    return Ok(());
                }
            }
        }
        let Some(listing) = listing else {
            return Ok(());
        };
        let from = listing.only_upper.partition_point(|(at, _)| *at < position);
        for (at, name) in &listing.only_upper[from..] {
            let Some(upper) = listing.names.get(name) else {
                continue;
            };
            let listed = reading.upper(name, upper, at + 1)?;
            if !reading.offer(listed, &mut take)? {
                return Ok(());
            }
        }
        Ok(())
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

    /// Lists a directory without `.` and `..`.
    pub fn entries(&self, ino: Ino) -> Result<Vec<DirEntry>, Errno> {
        let mut entries = Vec::new();
        self.read_directory(ino, FIRST_LOWER, Detail::Names, |listed| {
            entries.push(DirEntry {
                name: listed.name.to_vec(),
                ino: listed.ino,
                kind: listed.kind,
            });
            true
        })?;
        Ok(entries)
    }

    /// Returns whether a directory shows no name.
    pub(super) fn is_empty(&self, table: &mut Table, ino: Ino) -> Result<bool, Errno> {
        let node = table.get(ino)?;
        let (lower, in_upper) = (node.lower, node.in_upper);
        let mut children = lower
            .into_iter()
            .flat_map(|lower| self.stack.children(lower));
        if !in_upper {
            return Ok(children.next().is_none());
        }
        let listing = self.listing(table, ino, 0)?;
        Ok(listing.names.values().all(|upper| upper.kind.is_none())
            && children.all(|child| listing.names.contains_key(child.name)))
    }

    /// Returns what the upper has in a directory: as it is now for a reader that begins.
    fn listing(&self, table: &mut Table, ino: Ino, position: u64) -> Result<Arc<Listing>, Errno> {
        if let Some(known) = table.listing(ino, position > FIRST_LOWER) {
            return Ok(known);
        }
        let directory = self.directory_fd(table, ino)?;
        let lower = table.get(ino)?.lower;
        let mut names = HashMap::new();
        let mut only_upper = Vec::new();
        let upper = self.upper()?;
        let mut hidden = Vec::new();
        for found in upper::list(directory.as_fd())? {
            if upper.is_marker(&found.name) {
                hidden.push(found.name[marks::WHITEOUT_PREFIX.len()..].into());
                continue;
            }
            let kind = match found.kind {
                FileType::CharacterDevice => {
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    let stat = rustix::fs::statat(&directory, &found.name[..], flags)?;
                    (!upper::is_whiteout(&stat)).then_some(Kind::CharDevice)
                }
                other => Some(upper::kind_of(other.as_raw_mode())),
            };
            let name: Box<[u8]> = found.name.into();
            let is_below = lower.is_some_and(|lower| self.stack.lookup(lower, &name).is_some());
            if !is_below && kind.is_some() {
                only_upper.push((position_of(&name), name.clone()));
            }
            let host = found.ino;
            names.insert(name, UpperName { kind, host });
        }
        for name in hidden {
            let (kind, host) = (None, 0);
            names.entry(name).or_insert(UpperName { kind, host });
        }
        only_upper.sort_unstable();
        // Two names of one hash still have a position each.
        for at in 1..only_upper.len() {
            only_upper[at].0 = only_upper[at].0.max(only_upper[at - 1].0 + 1);
        }
        let listing = Arc::new(Listing { names, only_upper });
        table.keep_listing(ino, listing.clone());
        Ok(listing)
    }
}

impl Listing {
    /// Returns how much it holds.
    pub(super) fn size(&self) -> usize {
        1 + self.names.len()
    }
}

/// Places a name that only the upper has.
fn position_of(name: &[u8]) -> u64 {
    FIRST_UPPER + (xxhash_rust::xxh3::xxh3_64(name) >> 3)
}

/// A directory on its way to a reader.
struct Reading<'a> {
    union: &'a Union,
    table: &'a mut Table,
    directory: Ino,
    detail: Detail,
}

impl Reading<'_> {
    fn lower<'n>(
        &mut self,
        child: crate::stack::ChildEntry<'n>,
        next: u64,
    ) -> Result<Listed<'n>, Errno> {
        let entry = match self.detail {
            Detail::Names => None,
            Detail::Entries => self.found(child.name)?,
        };
        Ok(Listed {
            name: child.name,
            ino: Ino::of_lower(child.node),
            kind: child.kind,
            next,
            entry,
        })
    }

    fn upper<'n>(
        &mut self,
        name: &'n [u8],
        upper: &UpperName,
        next: u64,
    ) -> Result<Listed<'n>, Errno> {
        let kind = upper.kind.unwrap_or(Kind::File);
        let entry = match self.detail {
            Detail::Names => None,
            Detail::Entries => self.found(name)?,
        };
        let ino = match &entry {
            Some(entry) => entry.attr.ino,
            None => self.number(name, kind, upper.host)?,
        };
        Ok(Listed {
            name,
            ino,
            kind: entry.map_or(kind, |entry| entry.attr.kind),
            next,
            entry,
        })
    }

    /// Returns the number that a name of the upper shows: its origin's if it has one.
    fn number(&mut self, name: &[u8], kind: Kind, host: u64) -> Result<Ino, Errno> {
        let directory = self.union.directory_fd(self.table, self.directory)?;
        let place = Place::Named(directory, name.into());
        let parent = self.table.get(self.directory)?.lower;
        let below = match self.union.below(self.table, parent, name, &place, kind) {
            Err(Errno::EIO) => None,
            below => below?.numbered,
        };
        Ok(below.map_or(Ino::of_upper(host), Ino::of_lower))
    }

    fn found(&mut self, name: &[u8]) -> Result<Option<Entry>, Errno> {
        let ino = match self.union.find(self.table, self.directory, name) {
            // A metacopy whose data are nowhere: only what looks at it is refused.
            Ok(None) | Err(Errno::EIO) => return Ok(None),
            Ok(Some(ino)) => ino,
            Err(error) => return Err(error),
        };
        let attr = self.union.attr_of(self.table, ino)?;
        Ok(Some(Entry { ino, attr }))
    }

    /// Offers a name to the reader; returns whether it goes on.
    fn offer(
        &mut self,
        listed: Listed<'_>,
        take: &mut impl FnMut(&Listed<'_>) -> bool,
    ) -> Result<bool, Errno> {
        let taken = take(&listed);
        if let Some(entry) = listed.entry {
            if taken {
                self.table.get_mut(entry.ino)?.lookups += 1;
            } else {
                self.table.collect(entry.ino);
            }
        }
        Ok(taken)
    }
}
