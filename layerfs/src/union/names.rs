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
use super::upper;
use super::upper::Place;
use crate::errno::Errno;
use crate::index::Kind;
use crate::index::NodeId;

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct New<'a> {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) umask: u32,
    pub(super) rdev: u64,
    pub(super) target: &'a [u8],
}

/// A free name in a directory of the upper.
pub(super) struct Free {
    pub(super) directory: Arc<OwnedFd>,
    /// A whiteout holds the name.
    pub(super) whiteout: bool,
    /// A lower layer has something of that name.
    pub(super) lower: bool,
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
        if in_upper {
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
        }
        let below = lower.and_then(|lower| self.stack.lookup(lower, name));
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
        let name = below.0.to_string();
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = rustix::fs::openat(self.upper()?.index(), name, flags, Mode::empty())?;
        let held = Arc::new(held);
        node.metacopy = Place::Held(held.clone())
            .origin()
            .is_some_and(|origin| origin.metacopy);
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
        let origin = place.origin().filter(|origin| {
            origin.node.0 < self.stack.node_count() && self.stack.meta(origin.node).kind == kind
        });
        let mut lower = origin.map(|origin| origin.node);
        if kind == Kind::Directory && lower.is_none() && !place.is_opaque() {
            // Another program made it: it is merged with what has its name below.
            let parent = table.get(parent)?.lower;
            lower = parent
                .and_then(|parent| self.stack.lookup(parent, name))
                .filter(|&below| self.stack.meta(below).kind == Kind::Directory);
        }
        let number = lower.map_or(Ino::of_upper(stat.st_ino), Ino::of_lower);
        let mut node = Node::new(kind, number, parent, name);
        node.lower = lower;
        node.in_upper = true;
        node.metacopy = origin.is_some_and(|origin| origin.metacopy);
        if let Some(below) = lower
            && table.copied.contains(&below)
        {
            self.use_link_index(&mut node, below)?;
        }
        Ok(table.insert(node))
    }

    /// Opens a directory of the upper, by descriptors from the upper's root down.
    pub(super) fn directory_fd(&self, table: &mut Table, ino: Ino) -> Result<Arc<OwnedFd>, Errno> {
        if ino == Ino::ROOT {
            return Ok(self.upper()?.root());
        }
        if let Some(open) = table.directories.get(&ino) {
            return Ok(open.clone());
        }
        let node = table.get(ino)?;
        if let Some(orphan) = &node.orphan {
            return Ok(orphan.clone());
        }
        let (parent, name) = (node.parent, node.name.clone());
        let parent = self.directory_fd(table, parent)?;
        let opened = rustix::fs::openat2(
            &parent,
            &name[..],
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )?;
        let opened = Arc::new(opened);
        table.directories.put(ino, opened.clone());
        Ok(opened)
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
        if self.find(table, parent, name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        if table.get(parent)?.unlinked {
            return Err(Errno::ENOENT);
        }
        self.copy_up(table, parent)?;
        table.names_changed(parent);
        let directory = self.directory_fd(table, parent)?;
        let lower = table.get(parent)?.lower;
        let lower = lower.is_some_and(|lower| self.stack.lookup(lower, name).is_some());
        let whiteout = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        Ok(Free {
            directory,
            whiteout,
            lower,
        })
    }

    /// Makes a node: in its directory when the name is free there, else beside and renamed over the whiteout.
    pub(super) fn make(
        &self,
        table: &mut Table,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        new: New<'_>,
    ) -> Result<Ino, Errno> {
        let free = self.free_name(table, parent, name)?;
        let upper = self.upper()?;
        let parent_place = Place::Named(free.directory.clone(), Box::from(&b""[..]));
        let parent_stat = rustix::fs::fstat(&free.directory)?;
        let default_acl = parent_place.xattr("system.posix_acl_default").ok();
        let mode = match default_acl {
            Some(_) => new.mode,
            None => new.mode & !new.umask,
        };
        let tmp_name = upper.tmp_name();
        let aside = free.whiteout || (new.kind == Kind::Directory && free.lower);
        let (directory, at) = match aside {
            true => (upper.tmp(), &tmp_name[..]),
            false => (free.directory.as_fd(), name),
        };
        if aside {
            set_default_acl(upper.tmp(), default_acl.as_deref())?;
        }
        let owned = New { mode, ..new };
        let has_setgid = parent_stat.st_mode & libc::S_ISGID != 0;
        let gid = if has_setgid {
            parent_stat.st_gid
        } else {
            caller.gid
        };
        let made = make_at(directory, at, owned).and_then(|()| {
            let inherits = has_setgid && new.kind == Kind::Directory;
            own(directory, at, owned, caller.uid, gid, inherits)
        });
        if aside {
            set_default_acl(upper.tmp(), None)?;
        }
        let made = made.and_then(|()| match aside {
            true => put_in_place(upper, &tmp_name, &free, name, new.kind),
            false => Ok(()),
        });
        if let Err(error) = made {
            let flags = match new.kind {
                Kind::Directory => AtFlags::REMOVEDIR,
                _ => AtFlags::empty(),
            };
            if error != Errno::EEXIST {
                let _ = rustix::fs::unlinkat(directory, at, flags);
            }
            return Err(error);
        }
        self.find(table, parent, name)?.ok_or(Errno::EIO)
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
        let ino = self.make(&mut table, caller, parent, name, new)?;
        self.entry(&mut table, ino)
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
        let ino = self.make(&mut table, caller, parent, name, new)?;
        self.entry(&mut table, ino)
    }

    /// Makes another name for a file.
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Entry, Errno> {
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

pub(super) fn make_at(
    directory: std::os::fd::BorrowedFd<'_>,
    name: &[u8],
    new: New<'_>,
) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(new.mode & 0o7777);
    match new.kind {
        Kind::Directory => rustix::fs::mkdirat(directory, name, mode)?,
        Kind::Symlink => rustix::fs::symlinkat(new.target, directory, name)?,
        kind => rustix::fs::mknodat(directory, name, upper::file_type_of(kind), mode, new.rdev)?,
    }
    Ok(())
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
        return upper::rename(upper.tmp(), tmp_name, to, name, RenameFlags::empty());
    }
    if free.lower {
        let (directory, name) = (
            Arc::new(upper.tmp().try_clone_to_owned()?),
            Box::from(tmp_name),
        );
        let made = Place::Named(directory, name);
        made.set_xattr(upper::OPAQUE, b"y", rustix::fs::XattrFlags::empty())?;
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
