//! Removing names, and the whiteouts that keep lower ones hidden.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;

use super::Ino;
use super::Table;
use super::Union;
use super::upper;
use crate::errno::Errno;
use crate::index::Kind;

impl Union {
    /// Removes a name of a file.
    pub fn unlink(&self, parent: Ino, name: &[u8]) -> Result<(), Errno> {
        self.upper()?;
        let mut table = self.table.lock();
        let ino = self.find(&mut table, parent, name)?.ok_or(Errno::ENOENT)?;
        if table.get(ino)?.kind == Kind::Directory {
            return Err(Errno::EISDIR);
        }
        let removed = self.remove(&mut table, parent, name, ino);
        table.collect(ino);
        removed
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<(), Errno> {
        self.upper()?;
        let mut table = self.table.lock();
        let ino = self.find(&mut table, parent, name)?.ok_or(Errno::ENOENT)?;
        if table.get(ino)?.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        if !self.is_empty(&mut table, ino)? {
            return Err(Errno::ENOTEMPTY);
        }
        let removed = self.remove(&mut table, parent, name, ino);
        table.collect(ino);
        removed
    }

    fn remove(&self, table: &mut Table, parent: Ino, name: &[u8], ino: Ino) -> Result<(), Errno> {
        let upper = self.upper()?;
        self.prepare_removal(table, parent, name, ino)?;
        self.copy_up(table, parent)?;
        table.names_changed(parent);
        let directory = self.directory_fd(table, parent)?;
        let hides = table.get(parent)?.lower;
        let hides = hides.is_some_and(|lower| self.stack.lookup(lower, name).is_some());
        let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let is_directory = table.get(ino)?.kind == Kind::Directory;
        match (stat.is_ok(), hides) {
            (true, false) if is_directory => remove_directory(upper, &directory, name)?,
            (true, false) => rustix::fs::unlinkat(&directory, name, AtFlags::empty())?,
            (true, true) => {
                let whiteout = upper.make_whiteout()?;
                let flags = match is_directory {
                    true => RenameFlags::EXCHANGE,
                    false => RenameFlags::empty(),
                };
                upper::rename(upper.tmp(), &whiteout, directory.as_fd(), name, flags)?;
                if is_directory {
                    clear_whiteouts(upper, &whiteout)?;
                    rustix::fs::unlinkat(upper.tmp(), &whiteout[..], AtFlags::REMOVEDIR)?;
                }
            }
            (false, true) => upper.whiteout_at(directory.as_fd(), name)?,
            (false, false) => return Err(Errno::ENOENT),
        }
        self.name_gone(table, parent, name, ino)
    }

    /// Makes ready for a name of `ino` to go: a file with several lower names comes up so that its link count stays
    /// right, and one that is in use is held by a descriptor.
    pub(super) fn prepare_removal(
        &self,
        table: &mut Table,
        parent: Ino,
        name: &[u8],
        ino: Ino,
    ) -> Result<(), Errno> {
        let node = table.get(ino)?;
        let shared = node
            .lower
            .filter(|&lower| node.kind != Kind::Directory && self.stack.meta(lower).nlink > 1);
        if let Some(lower) = shared {
            self.copy_up(table, ino)?;
            let below = table
                .get(parent)?
                .lower
                .and_then(|dir| self.stack.lookup(dir, name));
            let is_lower_name =
                below == Some(lower) && !self.is_named_in_upper(table, parent, name)?;
            if is_lower_name {
                self.lower_name_gone(table, ino)?;
            }
        }
        let node = table.get(ino)?;
        if node.in_upper && node.orphan.is_none() && (node.lookups > 0 || node.opens > 0) {
            let place = self.place(table, ino)?;
            let held = match place {
                upper::Place::Named(directory, name) => {
                    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    rustix::fs::openat(directory, &name[..], flags, Mode::empty())?
                }
                upper::Place::Held(_) => return Ok(()),
            };
            table.get_mut(ino)?.orphan = Some(Arc::new(held));
        }
        Ok(())
    }

    pub(super) fn is_named_in_upper(
        &self,
        table: &mut Table,
        parent: Ino,
        name: &[u8],
    ) -> Result<bool, Errno> {
        if !table.get(parent)?.in_upper {
            return Ok(false);
        }
        let directory = self.directory_fd(table, parent)?;
        Ok(rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok())
    }

    /// Notes that a name of `ino` is gone.
    pub(super) fn name_gone(
        &self,
        table: &mut Table,
        parent: Ino,
        name: &[u8],
        ino: Ino,
    ) -> Result<(), Errno> {
        let node = table.get(ino)?;
        let is_last_known = node.parent == parent && *node.name == *name;
        if node.kind == Kind::Directory {
            table.directories.pop(&ino);
        }
        let nlink = self.attr_of(table, ino).map_or(0, |attr| attr.nlink);
        let node = table.get_mut(ino)?;
        node.unlinked = match node.kind {
            Kind::Directory => true,
            _ if node.in_upper => nlink == 0,
            _ => is_last_known,
        };
        if let (true, Some(lower)) = (nlink == 0, node.lower.filter(|_| node.in_upper))
            && table.copied.contains(&lower)
        {
            // Nothing but the link index has the file any more.
            let index_name = upper::index_name(&self.stack, lower);
            rustix::fs::unlinkat(self.upper()?.index(), index_name, AtFlags::empty())?;
            table.copied.remove(&lower);
        }
        Ok(())
    }
}

/// Removes a directory of the upper whose merged view is empty. What is left in it are whiteouts: it goes out of sight
/// before they do.
fn remove_directory(upper: &super::Upper, parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST) => {}
        removed => return Ok(removed?),
    }
    let aside = upper.tmp_name();
    let flags = RenameFlags::NOREPLACE;
    upper::rename(parent.as_fd(), name, upper.tmp(), &aside, flags)?;
    clear_whiteouts(upper, &aside)?;
    Ok(rustix::fs::unlinkat(
        upper.tmp(),
        &aside[..],
        AtFlags::REMOVEDIR,
    )?)
}

/// Puts an empty directory of the same metadata in the place of one that has nothing but whiteouts, so that it can be
/// renamed over in one step.
pub(super) fn empty_directory(
    upper: &super::Upper,
    parent: &Arc<OwnedFd>,
    name: &[u8],
) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    if upper::list(directory.as_fd())?.is_empty() {
        return Ok(());
    }
    let stat = rustix::fs::fstat(&directory)?;
    let aside = upper.tmp_name();
    rustix::fs::mkdirat(upper.tmp(), &aside[..], Mode::from_raw_mode(0o700))?;
    let tmp = Arc::new(upper.tmp().try_clone_to_owned()?);
    let made = upper::Place::Named(tmp, aside.clone().into());
    let exchanged = (made.chown(Some(stat.st_uid), Some(stat.st_gid)))
        .and_then(|()| made.chmod(stat.st_mode))
        .and_then(|()| upper.set_opaque(&made))
        .and_then(|()| {
            let flags = RenameFlags::EXCHANGE;
            upper::rename(upper.tmp(), &aside, parent.as_fd(), name, flags)
        });
    if exchanged.is_ok() {
        clear_whiteouts(upper, &aside)?;
    }
    rustix::fs::unlinkat(upper.tmp(), &aside[..], AtFlags::REMOVEDIR)?;
    exchanged
}

/// Empties a directory of `work/tmp`, which is out of sight: only whiteouts are left in it.
fn clear_whiteouts(upper: &super::Upper, name: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(upper.tmp(), name, flags, Mode::empty())?;
    for upper::Found { name, .. } in upper::list(directory.as_fd())? {
        let stat = rustix::fs::statat(&directory, &name[..], AtFlags::SYMLINK_NOFOLLOW)?;
        if !upper::is_whiteout(&stat) && !upper.is_marker(&name) {
            return Err(Errno::ENOTEMPTY);
        }
        rustix::fs::unlinkat(&directory, &name[..], AtFlags::empty())?;
    }
    Ok(())
}
