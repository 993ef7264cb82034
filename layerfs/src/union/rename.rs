//! Renaming, within the upper and with what lower layers have of both names.

use std::os::fd::AsFd;

use rustix::fs::AtFlags;
use rustix::fs::RenameFlags;

use super::Ino;
use super::Table;
use super::Union;
use super::remove::empty_directory;
use super::upper;
use crate::errno::Errno;
use crate::index::Kind;

impl Union {
    /// Renames, with the flags of `renameat2(2)`.
    pub fn rename(&self, from: (Ino, &[u8]), to: (Ino, &[u8]), flags: u32) -> Result<(), Errno> {
        if self.upper()?.options().metacopy {
            return self.rename_now(from, to, flags);
        }
        // A file that is renamed comes up with its data.
        let Some(source) = self.find(&mut self.table.lock(), from.0, from.1)? else {
            return Err(Errno::ENOENT);
        };
        self.changing(source, || self.rename_now(from, to, flags))
    }

    /// Returns whether a rename may wait for much to be copied up first.
    pub fn copies_much_to_rename(&self, parent: Ino, name: &[u8]) -> bool {
        match &self.upper {
            Some(upper) if !upper.options().metacopy => {}
            _ => return false,
        }
        let found = self.find(&mut self.table.lock(), parent, name);
        matches!(found, Ok(Some(ino)) if self.copies_much_at_any_change(ino))
    }

    fn rename_now(&self, from: (Ino, &[u8]), to: (Ino, &[u8]), flags: u32) -> Result<(), Errno> {
        let flags = RenameFlags::from_bits_retain(flags);
        let mut table = self.table.lock();
        let source = self
            .find(&mut table, from.0, from.1)?
            .ok_or(Errno::ENOENT)?;
        let target = self.find(&mut table, to.0, to.1)?;
        if flags.contains(RenameFlags::EXCHANGE) {
            let target = target.ok_or(Errno::ENOENT)?;
            self.check_movable(&table, source)?;
            self.check_movable(&table, target)?;
            return self.exchange(&mut table, from, to, source, target);
        }
        if flags.contains(RenameFlags::NOREPLACE) && target.is_some() {
            return Err(Errno::EEXIST);
        }
        if target == Some(source) {
            // Two names of one file: POSIX says to do nothing.
            return Ok(());
        }
        let is_directory = table.get(source)?.kind == Kind::Directory;
        if let Some(target) = target {
            check_kinds(&table, target, is_directory)?;
        }
        self.check_movable(&table, source)?;
        if let Some(target) = target
            && table.get(target)?.kind == Kind::Directory
            && !self.is_empty(&mut table, target)?
        {
            return Err(Errno::ENOTEMPTY);
        }
        let leaves_whiteout = flags.contains(RenameFlags::WHITEOUT);
        self.replace(&mut table, from, to, source, target, leaves_whiteout)
    }

    /// Refuses to rename a directory that layers below have too, where redirects are not written: programs then copy it
    /// (`overlayfs.rst`, "Renaming directories").
    fn check_movable(&self, table: &Table, source: Ino) -> Result<(), Errno> {
        let node = table.get(source)?;
        let is_merged = node.kind == Kind::Directory && node.lower.is_some();
        match is_merged && !self.upper()?.options().redirects {
            true => Err(Errno::EXDEV),
            false => Ok(()),
        }
    }

    fn replace(
        &self,
        table: &mut Table,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        source: Ino,
        target: Option<Ino>,
        leaves_whiteout: bool,
    ) -> Result<(), Errno> {
        if table.get(to.0)?.unlinked {
            return Err(Errno::ENOENT);
        }
        if let Some(target) = target {
            self.prepare_removal(table, to.0, to.1, target)?;
        }
        self.come_up(table, from, source)?;
        self.copy_up(table, to.0)?;
        table.names_changed(from.0);
        table.names_changed(to.0);
        let below = |table: &Table, (parent, name): (Ino, &[u8])| -> Result<bool, Errno> {
            let lower = table.get(parent)?.lower;
            Ok(lower.is_some_and(|lower| self.stack.lookup(lower, name).is_some()))
        };
        let whiteout = leaves_whiteout || below(table, from)?;
        let is_directory = table.get(source)?.kind == Kind::Directory;
        if is_directory {
            self.stand_alone(table, source, to)?;
        }
        let upper = self.upper()?;
        let (from_dir, to_dir) = (
            self.directory_fd(table, from.0)?,
            self.directory_fd(table, to.0)?,
        );
        let there = rustix::fs::statat(&to_dir, to.1, AtFlags::SYMLINK_NOFOLLOW).ok();
        let (a, b) = (from_dir.as_fd(), to_dir.as_fd());
        match there {
            // A directory changes places with a whiteout.
            Some(stat) if is_directory && upper::is_whiteout(&stat) => {
                upper::rename(a, from.1, b, to.1, RenameFlags::EXCHANGE)?;
                if !whiteout {
                    rustix::fs::unlinkat(a, from.1, AtFlags::empty())?;
                }
            }
            there => {
                if is_directory && there.is_some() {
                    empty_directory(upper, &to_dir, to.1)?;
                }
                let flags = match whiteout {
                    true => RenameFlags::WHITEOUT,
                    false => RenameFlags::empty(),
                };
                upper::rename(a, from.1, b, to.1, flags)?;
            }
        }
        if let Some(target) = target {
            self.name_gone(table, to.0, to.1, target)?;
            table.collect(target);
        }
        table.directories.pop(&source);
        table.moved(source, to.0, to.1);
        Ok(())
    }

    /// Brings the source into the upper under the name that is to be renamed.
    fn come_up(&self, table: &mut Table, from: (Ino, &[u8]), source: Ino) -> Result<(), Errno> {
        self.copy_up(table, source)?;
        self.copy_up(table, from.0)?;
        if !self.is_named_in_upper(table, from.0, from.1)? {
            // Another lower name of a file that was copied up before.
            let place = self.place(table, source)?;
            let directory = self.directory_fd(table, from.0)?;
            super::names::link_place(&place, directory.as_fd(), from.1)?;
            self.lower_name_gone(table, source)?;
        }
        self.remember_lower_path(table, source)
    }

    /// Writes down, for other programs that read the upper, where below a directory's children or a file's data lie:
    /// they find them by name (`overlayfs.rst`, "Renaming directories" and "Metadata only copy up"), this union by the
    /// origin.
    pub(super) fn remember_lower_path(&self, table: &mut Table, ino: Ino) -> Result<(), Errno> {
        let node = table.get(ino)?;
        let (kind, lower) = (node.kind, node.lower);
        if lower.is_none() {
            return Ok(());
        }
        let upper = self.upper()?;
        let place = self.place(table, ino)?;
        let needs = match kind {
            Kind::Directory => !upper.is_opaque(&place),
            Kind::File => upper.is_metacopy(&place),
            _ => false,
        };
        if !needs || upper.redirect(&place).is_some() {
            return Ok(());
        }
        if let Some(path) = lower.and_then(|lower| self.stack.path_of(lower)) {
            upper.set_redirect(&place, &path)?;
        }
        Ok(())
    }

    /// Marks a directory that is only the upper's as opaque if a lower one lies where it goes.
    fn stand_alone(&self, table: &mut Table, ino: Ino, to: (Ino, &[u8])) -> Result<(), Errno> {
        let below = table
            .get(to.0)?
            .lower
            .and_then(|lower| self.stack.lookup(lower, to.1));
        if below.is_some() && table.get(ino)?.lower.is_none() {
            let place = self.place(table, ino)?;
            self.upper()?.set_opaque(&place)?;
        }
        Ok(())
    }

    fn exchange(
        &self,
        table: &mut Table,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        source: Ino,
        target: Ino,
    ) -> Result<(), Errno> {
        self.come_up(table, from, source)?;
        self.come_up(table, to, target)?;
        table.names_changed(from.0);
        table.names_changed(to.0);
        if table.get(source)?.kind == Kind::Directory {
            self.stand_alone(table, source, to)?;
        }
        if table.get(target)?.kind == Kind::Directory {
            self.stand_alone(table, target, from)?;
        }
        let (from_dir, to_dir) = (
            self.directory_fd(table, from.0)?,
            self.directory_fd(table, to.0)?,
        );
        let (a, b) = (from_dir.as_fd(), to_dir.as_fd());
        upper::rename(a, from.1, b, to.1, RenameFlags::EXCHANGE)?;
        table.directories.pop(&source);
        table.directories.pop(&target);
        table.moved(source, to.0, to.1);
        table.moved(target, from.0, from.1);
        Ok(())
    }
}

/// Checks that a directory replaces a directory, and something else something else.
fn check_kinds(table: &Table, target: Ino, by_directory: bool) -> Result<(), Errno> {
    let kind = table.get(target)?.kind;
    match (by_directory, kind == Kind::Directory) {
        (true, false) => Err(Errno::ENOTDIR),
        (false, true) => Err(Errno::EISDIR),
        _ => Ok(()),
    }
}
