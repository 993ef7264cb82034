//! Finding names and making new ones.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::fs::ResolveFlags;

use super::Caller;
use super::Entry;
use super::Ino;
use super::NewMode;
use super::Node;
use super::Table;
use super::Union;
use super::metadata;
use super::metadata::Attr;
use super::table::Inheritance;
use super::upper;
use super::upper::Place;
use crate::errno::Errno;
use crate::index::Kind;
use crate::index::NodeId;
use crate::marks::Redirect;

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct New<'a> {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) umask: u32,
    pub(super) rdev: u64,
    pub(super) target: &'a [u8],
}

/// What was made.
pub(super) struct Made {
    pub(super) ino: Ino,
    attr: Attr,
    /// The file, open for reading and writing, if it is a regular one.
    pub(super) file: Option<OwnedFd>,
}

impl Made {
    /// References it once more.
    pub(super) fn entry(&self, table: &mut Table) -> Result<Entry, Errno> {
        table.get_mut(self.ino)?.lookups += 1;
        Ok(Entry {
            ino: self.ino,
            attr: self.attr,
        })
    }
}

/// A free name in a directory of the upper.
pub(super) struct Free {
    pub(super) directory: Arc<OwnedFd>,
    /// A whiteout holds the name.
    pub(super) whiteout: bool,
    /// A lower layer has something of that name.
    pub(super) lower: bool,
}

/// What a file of the upper has below.
pub(super) struct Below {
    /// What a directory is merged with, what a file was copied up from.
    pub(super) lower: Option<NodeId>,
    /// The node whose inode number it has.
    pub(super) numbered: Option<NodeId>,
    /// The data are below.
    pub(super) metacopy: bool,
}

impl Union {
    /// Finds `name` in `parent` without referencing it.
    pub(super) fn find(
        &self,
        table: &mut Table,
        parent: Ino,
        name: &[u8],
    ) -> Result<Option<Ino>, Errno> {
        let node = table.get(parent)?;
        if node.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        if name.len() > 255 {
            return Err(Errno::ENAMETOOLONG);
        }
        let (lower, in_upper) = (node.lower, node.in_upper);
        let below = lower.and_then(|lower| self.stack.lookup(lower, name));
        if in_upper {
            let upper = self.upper()?;
            if upper.is_marker(name) {
                return Ok(None);
            }
            let directory = self.directory_fd(table, parent)?;
            match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if upper::is_whiteout(&stat) => return Ok(None),
                Ok(stat) => {
                    let place = Place::Named(directory, name.into());
                    return self
                        .found_in_upper(table, parent, name, &place, &stat)
                        .map(Some);
                }
                Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            if below.is_some() && upper.is_hidden_by_name(&directory, name) {
                return Ok(None);
            }
        }
        below
            .map(|below| self.found_below(table, parent, name, below))
            .transpose()
    }

    fn found_below(
        &self,
        table: &mut Table,
        parent: Ino,
        name: &[u8],
        below: NodeId,
    ) -> Result<Ino, Errno> {
        let kind = self.stack.meta(below).kind;
        let mut node = Node::new(kind, Ino::of_lower(below), parent, name);
        node.lower = Some(below);
        if table.copied.contains(&below) {
            self.use_link_index(&mut node, below)?;
        }
        Ok(table.insert(node))
    }

    /// Reaches a file that was copied up under another of its names.
    fn use_link_index(&self, node: &mut Node, below: NodeId) -> Result<(), Errno> {
        let name = upper::index_name(&self.stack, below);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = rustix::fs::openat(self.upper()?.index(), name, flags, Mode::empty())?;
        let held = Arc::new(held);
        let place = Place::Held(held.clone());
        let origin = self.upper()?.origin(&self.stack, &place);
        node.metacopy = origin.is_some_and(|origin| origin.metacopy);
        node.orphan = Some(held);
        node.in_upper = true;
        Ok(())
    }

    fn found_in_upper(
        &self,
        table: &mut Table,
        parent: Ino,
        name: &[u8],
        place: &Place,
        stat: &rustix::fs::Stat,
    ) -> Result<Ino, Errno> {
        let kind = upper::kind_of(stat.st_mode);
        let own = Ino::of_upper(stat.st_ino);
        let known = table.get(table.current(own));
        if known.is_ok_and(|known| known.kind == kind && known.lower.is_none() && known.in_upper) {
            // A file that goes by its own number has no origin.
            let mut node = Node::new(kind, own, parent, name);
            node.in_upper = true;
            return Ok(table.insert(node));
        }
        let parent_lower = table.get(parent)?.lower;
        let below = self.below(table, parent_lower, name, place, kind)?;
        let number = below.numbered.map_or(own, Ino::of_lower);
        let mut node = Node::new(kind, number, parent, name);
        node.lower = below.lower;
        node.in_upper = true;
        node.metacopy = below.metacopy;
        if let Some(lower) = below.lower
            && table.copied.contains(&lower)
        {
            self.use_link_index(&mut node, lower)?;
        }
        Ok(table.insert(node))
    }

    /// Finds what a file of the upper has below, under `parent` or elsewhere.
    pub(super) fn below(
        &self,
        table: &Table,
        parent: Option<NodeId>,
        name: &[u8],
        place: &Place,
        kind: Kind,
    ) -> Result<Below, Errno> {
        let upper = self.upper()?;
        let is_alike = |node: &NodeId| self.stack.meta(*node).kind == kind;
        let origin = upper.origin(&self.stack, place);
        let origin = origin.filter(|origin| is_alike(&origin.node));
        let remembered = origin.map(|origin| origin.node);
        // A file with several lower names that are not in the link index is another one than those that are left.
        let is_other = |node: &NodeId| {
            let is_shared = kind != Kind::Directory && self.stack.meta(*node).nlink > 1;
            is_shared && !table.copied.contains(node)
        };
        let by_name = || {
            let found = match upper.redirect(place) {
                Some(Redirect::Absolute(path)) => self.stack.resolve(&path),
                Some(Redirect::Beside(name)) => {
                    parent.and_then(|dir| self.stack.lookup(dir, &name))
                }
                None => parent.and_then(|dir| self.stack.lookup(dir, name)),
            };
            found.filter(is_alike)
        };
        let is_foreign = upper.options().foreign;
        let merges = kind == Kind::Directory && (is_foreign || remembered.is_none());
        let metacopy = match is_foreign {
            true => kind == Kind::File && upper.is_metacopy(place),
            false => origin.is_some_and(|origin| origin.metacopy),
        };
        let lower = match () {
            // Another program made it: it is merged with what has its name below.
            () if merges && upper.is_opaque(place) => None,
            () if merges => by_name(),
            // As overlayfs answers if the data are not to be found.
            () if metacopy && is_foreign => Some(by_name().ok_or(Errno::EIO)?),
            () => remembered.filter(|node| metacopy || !is_other(node)),
        };
        Ok(Below {
            lower,
            numbered: lower.or(remembered).filter(|node| !is_other(node)),
            metacopy,
        })
    }

    /// Opens a directory of the upper, by descriptors from the upper's root down.
    pub(super) fn directory_fd(&self, table: &mut Table, ino: Ino) -> Result<Arc<OwnedFd>, Errno> {
        // Those on the way that are not open, the innermost first: more, perhaps, than a stack of calls could hold.
        let mut closed = Vec::new();
        let mut at = ino;
        let mut directory = loop {
            if at == Ino::ROOT {
                break self.upper()?.root();
            }
            if let Some(open) = table.directories.get(&at) {
                break open.clone();
            }
            let node = table.get(at)?;
            if let Some(orphan) = &node.orphan {
                break orphan.clone();
            }
            closed.push((at, node.name.clone()));
            at = node.parent;
        };
        for (ino, name) in closed.into_iter().rev() {
            let opened = rustix::fs::openat2(
                &directory,
                &name[..],
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            )?;
            directory = Arc::new(opened);
            table.directories.put(ino, directory.clone());
        }
        Ok(directory)
    }

    /// Returns where in the upper the node is.
    pub(super) fn place(&self, table: &mut Table, ino: Ino) -> Result<Place, Errno> {
        let node = table.get(ino)?;
        if let Some(orphan) = &node.orphan {
            return Ok(Place::Held(orphan.clone()));
        }
        let (parent, name) = (node.parent, node.name.clone());
        if ino == Ino::ROOT {
            return Ok(Place::Named(self.upper()?.root(), Box::from(&b""[..])));
        }
        Ok(Place::Named(self.directory_fd(table, parent)?, name))
    }

    /// Takes a name that must be free, and brings its directory into the upper.
    pub(super) fn free_name(
        &self,
        table: &mut Table,
        parent: Ino,
        name: &[u8],
    ) -> Result<Free, Errno> {
        self.upper()?;
        let node = table.get(parent)?;
        if node.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        if name.len() > 255 {
            return Err(Errno::ENAMETOOLONG);
        }
        let (lower, in_upper, unlinked) = (node.lower, node.in_upper, node.unlinked);
        let lower = lower.is_some_and(|lower| self.stack.lookup(lower, name).is_some());
        let (mut whiteout, mut hidden) = (false, false);
        if self.upper()?.is_marker(name) {
            return Err(Errno::EINVAL);
        }
        if in_upper {
            let directory = self.directory_fd(table, parent)?;
            match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if upper::is_whiteout(&stat) => whiteout = true,
                Ok(_) => return Err(Errno::EEXIST),
                Err(rustix::io::Errno::NOENT) => {
                    hidden = lower && self.upper()?.is_hidden_by_name(&directory, name);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if lower && !whiteout && !hidden {
            return Err(Errno::EEXIST);
        }
        if unlinked {
            return Err(Errno::ENOENT);
        }
        self.copy_up(table, parent)?;
        table.names_changed(parent);
        let directory = self.directory_fd(table, parent)?;
        Ok(Free {
            directory,
            whiteout,
            lower,
        })
    }

    /// Returns what a directory of the upper gives to what is made in it.
    fn inheritance(&self, table: &mut Table, directory: Ino) -> Result<Inheritance, Errno> {
        let known = table.get(directory)?.rare();
        if let Some(known) = known.and_then(|rare| rare.inheritance) {
            return Ok(known);
        }
        let opened = self.directory_fd(table, directory)?;
        let stat = rustix::fs::fstat(&opened)?;
        let place = Place::Named(opened, Box::from(&b""[..]));
        let found = Inheritance {
            group: (stat.st_mode & libc::S_ISGID != 0).then_some(stat.st_gid),
            has_default_acl: place.xattr("system.posix_acl_default").is_ok(),
        };
        table.get_mut(directory)?.rare_mut().inheritance = Some(found);
        Ok(found)
    }

    /// Makes a node, and opens it if it is a regular file. It gets its name when it is whole: it is made under that name
    /// if nothing is left to be done to it there, else beside and renamed.
    pub(super) fn make(
        &self,
        table: &mut Table,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        new: New<'_>,
    ) -> Result<Made, Errno> {
        let free = self.free_name(table, parent, name)?;
        let inheritance = self.inheritance(table, parent)?;
        let upper = self.upper()?;
        let mode = match inheritance.has_default_acl {
            true => new.mode,
            false => new.mode & !new.umask,
        };
        let owned = New { mode, ..new };
        let gid = inheritance.group.unwrap_or(caller.gid);
        let inherits = inheritance.group.is_some() && new.kind == Kind::Directory;
        let is_as_made = caller.uid == 0 && gid == 0 && mode & 0o6000 == 0 && !inherits;
        let aside = free.whiteout || free.lower || !is_as_made;
        let tmp_name = upper.tmp_name();
        let (directory, at) = match aside {
            true => (upper.tmp(), &tmp_name[..]),
            false => (free.directory.as_fd(), name),
        };
        let acl = match aside && inheritance.has_default_acl {
            true => {
                let parent = Place::Named(free.directory.clone(), Box::from(&b""[..]));
                Some(parent.xattr("system.posix_acl_default")?)
            }
            false => None,
        };
        if acl.is_some() {
            set_default_acl(upper.tmp(), acl.as_deref())?;
        }
        let made = make_at(directory, at, owned);
        if acl.is_some() {
            set_default_acl(upper.tmp(), None)?;
        }
        let file = made?;
        let finished = match is_as_made {
            true => Ok(()),
            false => own(directory, at, owned, caller.uid, gid, inherits),
        };
        let placed = finished.and_then(|()| match aside {
            true => put_in_place(upper, &tmp_name, &free, name, new.kind),
            false => Ok(()),
        });
        if let Err(error) = placed {
            let flags = match new.kind {
                Kind::Directory => AtFlags::REMOVEDIR,
                _ => AtFlags::empty(),
            };
            let _ = rustix::fs::unlinkat(directory, at, flags);
            return Err(error);
        }
        let stat = match &file {
            Some(file) => rustix::fs::fstat(file)?,
            None => rustix::fs::statat(&free.directory, name, AtFlags::SYMLINK_NOFOLLOW)?,
        };
        let number = Ino::of_upper(stat.st_ino);
        let mut node = Node::new(new.kind, number, parent, name);
        node.in_upper = true;
        let ino = table.insert(node);
        let attr = metadata::upper_attr(number, &stat);
        Ok(Made { ino, attr, file })
    }

    /// Makes a file that is not regular, or an empty one that is.
    pub fn mknod(
        &self,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        kind: Kind,
        mode: NewMode,
        rdev: u64,
    ) -> Result<Entry, Errno> {
        let rdev = upper::host_device(kind, rdev)?;
        let mut table = self.table.lock();
        let new = New {
            kind,
            mode: mode.bits,
            umask: mode.umask,
            rdev,
            target: b"",
        };
        let made = self.make(&mut table, caller, parent, name, new)?;
        made.entry(&mut table)
    }

    /// Makes a directory.
    pub fn mkdir(
        &self,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        mode: NewMode,
    ) -> Result<Entry, Errno> {
        self.mknod(caller, parent, name, Kind::Directory, mode, 0)
    }

    /// Makes a symbolic link to `target`.
    pub fn symlink(
        &self,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        target: &[u8],
    ) -> Result<Entry, Errno> {
        let mut table = self.table.lock();
        let new = New {
            kind: Kind::Symlink,
            mode: 0o777,
            umask: 0,
            rdev: 0,
            target,
        };
        let made = self.make(&mut table, caller, parent, name, new)?;
        made.entry(&mut table)
    }

    /// Makes another name for a file.
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Entry, Errno> {
        self.changing(ino, || self.link_in_upper(ino, parent, name))
    }

    fn link_in_upper(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Entry, Errno> {
        let mut table = self.table.lock();
        let node = table.get(ino)?;
        if node.kind == Kind::Directory {
            return Err(Errno::EPERM);
        }
        if node.unlinked {
            return Err(Errno::ENOENT);
        }
        let free = self.free_name(&mut table, parent, name)?;
        self.copy_up(&mut table, ino)?;
        self.remember_lower_path(&mut table, ino)?;
        let upper = self.upper()?;
        let place = self.place(&mut table, ino)?;
        let (target, at) = match free.whiteout {
            true => (upper.tmp(), upper.tmp_name()),
            false => (free.directory.as_fd(), name.to_vec()),
        };
        link_place(&place, target, &at)?;
        if free.whiteout {
            let put = upper::rename(
                upper.tmp(),
                &at,
                free.directory.as_fd(),
                name,
                RenameFlags::empty(),
            );
            if let Err(error) = put {
                let _ = rustix::fs::unlinkat(upper.tmp(), &at[..], AtFlags::empty());
                return Err(error);
            }
        }
        self.entry(&mut table, ino)
    }
}

/// Links a file of the upper under another name.
pub(super) fn link_place(
    place: &Place,
    directory: std::os::fd::BorrowedFd<'_>,
    name: &[u8],
) -> Result<(), Errno> {
    match place {
        Place::Named(from, old) => {
            rustix::fs::linkat(from, &old[..], directory, name, AtFlags::empty())?;
        }
        Place::Held(file) => {
            rustix::fs::linkat(file, c"", directory, name, AtFlags::EMPTY_PATH)?;
        }
    }
    Ok(())
}

fn set_default_acl(
    directory: std::os::fd::BorrowedFd<'_>,
    acl: Option<&[u8]>,
) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let name = "system.posix_acl_default";
    match acl {
        Some(acl) => {
            rustix::fs::setxattr(path, name, acl, rustix::fs::XattrFlags::empty())?;
        }
        None => {
            let _ = rustix::fs::removexattr(path, name);
        }
    }
    Ok(())
}

/// Makes a file of the host under a free name, and opens it if it is a regular one.
pub(super) fn make_at(
    directory: std::os::fd::BorrowedFd<'_>,
    name: &[u8],
    new: New<'_>,
) -> Result<Option<OwnedFd>, Errno> {
    let mode = Mode::from_raw_mode(new.mode & 0o7777);
    match new.kind {
        Kind::Directory => rustix::fs::mkdirat(directory, name, mode)?,
        Kind::Symlink => rustix::fs::symlinkat(new.target, directory, name)?,
        Kind::File => {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            return Ok(Some(rustix::fs::openat(directory, name, flags, mode)?));
        }
        kind => rustix::fs::mknodat(directory, name, upper::file_type_of(kind), mode, new.rdev)?,
    }
    Ok(None)
}

fn own(
    directory: std::os::fd::BorrowedFd<'_>,
    name: &[u8],
    new: New<'_>,
    uid: u32,
    gid: u32,
    inherits: bool,
) -> Result<(), Errno> {
    use rustix::fs::Gid;
    use rustix::fs::Uid;
    let (owner, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if uid != 0 || gid != 0 {
        rustix::fs::chownat(
            directory,
            name,
            Some(owner),
            Some(group),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
    }
    // Changing the owner clears these bits, and mkdir(2) may ignore them.
    let special = new.mode & 0o6000 | if inherits { 0o2000 } else { 0 };
    if special != 0 && new.kind != Kind::Symlink {
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777 | special);
        rustix::fs::chmodat(directory, name, mode, AtFlags::empty())?;
    }
    Ok(())
}

/// Moves what was made aside over the whiteout that holds its name, or to the name that a lower layer has.
fn put_in_place(
    upper: &super::Upper,
    tmp_name: &[u8],
    free: &Free,
    name: &[u8],
    kind: Kind,
) -> Result<(), Errno> {
    let to = free.directory.as_fd();
    if kind != Kind::Directory {
        let flags = match free.whiteout {
            true => RenameFlags::empty(),
            false => RenameFlags::NOREPLACE,
        };
        return upper::rename(upper.tmp(), tmp_name, to, name, flags);
    }
    if free.lower {
        let (directory, name) = (
            Arc::new(upper.tmp().try_clone_to_owned()?),
            Box::from(tmp_name),
        );
        let made = Place::Named(directory, name);
        upper.set_opaque(&made)?;
    }
    if !free.whiteout {
        return upper::rename(upper.tmp(), tmp_name, to, name, RenameFlags::NOREPLACE);
    }
    upper::rename(upper.tmp(), tmp_name, to, name, RenameFlags::EXCHANGE)?;
    Ok(rustix::fs::unlinkat(
        upper.tmp(),
        tmp_name,
        AtFlags::empty(),
    )?)
}
