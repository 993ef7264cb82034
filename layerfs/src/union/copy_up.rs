//! Copy-up: bringing a lower node into the upper before its first change.
//!
//! Metadata come first, built under `work/tmp` and renamed into place, so a crash leaves the old file or the whole new
//! one. A regular file's data follow only when they are to change; until then `trusted.overlay.metacopy` says that
//! they are the origin's, so a crash while they are being copied leaves a file that is still right. An upper that other
//! programs are to read has no metacopies, unless that is asked for: there the data come with the metadata.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::fs::SeekFrom;
use rustix::fs::Timespec as HostTime;
use rustix::fs::Timestamps;

use super::Ino;
use super::Node;
use super::Table;
use super::Union;
use super::data::COPIED_AT_ONCE;
use super::names::New;
use super::names::link_place;
use super::names::make_at;
use super::upper;
use super::upper::Origin;
use super::upper::Place;
use crate::errno::Errno;
use crate::index::Kind;
use crate::index::NodeId;

/// What comes up of a file's data with its metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// None yet where metacopies are written, else all.
    Kept,
    /// None: they are about to be truncated.
    Dropped,
}

/// What is built under `work/tmp`, and whether its data are still below.
#[derive(Clone, Debug)]
pub(super) struct Built {
    tmp_name: Vec<u8>,
    metacopy: bool,
}

impl Union {
    /// Brings the node and its parents into the upper, without a file's data where metacopies are written.
    pub(super) fn copy_up(&self, table: &mut Table, ino: Ino) -> Result<(), Errno> {
        self.copy_up_with(table, ino, Data::Kept)
    }

    pub(super) fn copy_up_with(
        &self,
        table: &mut Table,
        ino: Ino,
        data: Data,
    ) -> Result<(), Errno> {
        self.upper()?;
        // The parents come first, from the top; they may be more than a stack of calls could hold.
        let mut parents = Vec::new();
        let mut at = table.get(ino)?;
        if at.in_upper {
            return Ok(());
        }
        while !at.unlinked {
            let parent = at.parent;
            at = table.get(parent)?;
            if at.in_upper {
                break;
            }
            parents.push(parent);
        }
        for parent in parents.into_iter().rev() {
            self.copy_up_one(table, parent, Data::Kept)?;
        }
        self.copy_up_one(table, ino, data)
    }

    /// Brings a node up whose parent is in the upper, unless it has no name any more.
    fn copy_up_one(&self, table: &mut Table, ino: Ino, data: Data) -> Result<(), Errno> {
        let upper = self.upper()?;
        let node = table.get(ino)?;
        let lower = node.lower.ok_or(Errno::ESTALE)?;
        let (parent, name, unlinked) = (node.parent, node.name.clone(), node.unlinked);
        table.names_changed(parent);
        let meta = self.stack.meta(lower);
        let built = match table.get_mut(ino)?.take_built() {
            Some(built) => built,
            None => self.build(lower, data)?,
        };
        let Built { tmp_name, metacopy } = built;
        let placed = (|| {
            let is_shared = meta.nlink > 1 && meta.kind != Kind::Directory;
            if unlinked {
                self.hold_nameless(table, ino, &tmp_name)
            } else if is_shared {
                self.place_shared(table, ino, lower, &tmp_name)
            } else {
                let directory = self.directory_fd(table, parent)?;
                keeping_times(&directory, || {
                    let to = directory.as_fd();
                    upper::rename(upper.tmp(), &tmp_name, to, &name, RenameFlags::NOREPLACE)
                })
            }
        })();
        if let Err(error) = placed {
            discard(upper, &tmp_name);
            return Err(error);
        }
        let node = table.get_mut(ino)?;
        node.in_upper = true;
        node.metacopy = metacopy;
        Ok(())
    }

    /// Makes a change for which the file may have to come up. If that means to copy many data, they are copied before
    /// the table is locked, so that other requests go on meanwhile.
    pub(super) fn changing<T>(
        &self,
        ino: Ino,
        change: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let is_prepared = self.prepare(ino)?;
        let changed = change();
        if is_prepared && let Some(upper) = &self.upper {
            let mut table = self.table.lock();
            let left = table.get_mut(ino).ok().and_then(Node::take_built);
            if let Some(built) = left {
                discard(upper, &built.tmp_name);
            }
        }
        changed
    }

    /// Builds what is to come up of a file with many data; returns whether it did.
    fn prepare(&self, ino: Ino) -> Result<bool, Errno> {
        match &self.upper {
            Some(upper) if !upper.options().metacopy => {}
            _ => return Ok(false),
        }
        let (filling, lower) = {
            let mut table = self.table.lock();
            let node = table.get_mut(ino)?;
            match node.lower {
                Some(lower) if !node.in_upper && self.is_copied_whole(lower) => {
                    (node.rare_mut().filling.clone(), lower)
                }
                _ => return Ok(false),
            }
        };
        let _filling = filling.lock();
        let is_done = |table: &Table| -> Result<bool, Errno> {
            let node = table.get(ino)?;
            let is_built = node.rare().is_some_and(|rare| rare.built.is_some());
            Ok(node.in_upper || is_built)
        };
        if is_done(&self.table.lock())? {
            return Ok(false);
        }
        let built = self.build(lower, Data::Kept)?;
        let mut table = self.table.lock();
        if is_done(&table)? {
            discard(self.upper()?, &built.tmp_name);
            return Ok(false);
        }
        table.get_mut(ino)?.rare_mut().built = Some(built);
        Ok(true)
    }

    /// Returns whether any change of the file copies much data.
    pub(super) fn is_copied_whole(&self, lower: NodeId) -> bool {
        let meta = self.stack.meta(lower);
        let writes_metacopies = (self.upper.as_ref()).is_some_and(|upper| upper.options().metacopy);
        meta.kind == Kind::File && meta.size > COPIED_AT_ONCE && !writes_metacopies
    }

    /// Builds the node with its metadata under `work/tmp`, and with its data where no metacopies are written.
    fn build(&self, lower: NodeId, data: Data) -> Result<Built, Errno> {
        let upper = self.upper()?;
        let tmp_name = upper.tmp_name();
        let meta = self.stack.meta(lower);
        let has_data = meta.kind == Kind::File && meta.size > 0 && data == Data::Kept;
        let metacopy = has_data && upper.options().metacopy;
        let built = self.build_at(lower, &tmp_name, has_data, metacopy);
        match built {
            Ok(()) => Ok(Built { tmp_name, metacopy }),
            Err(error) => {
                discard(upper, &tmp_name);
                Err(error)
            }
        }
    }

    fn build_at(
        &self,
        lower: NodeId,
        tmp_name: &[u8],
        has_data: bool,
        metacopy: bool,
    ) -> Result<(), Errno> {
        let upper = self.upper()?;
        let meta = self.stack.meta(lower);
        let new = New {
            kind: meta.kind,
            mode: 0o600,
            umask: 0,
            rdev: meta.rdev,
            target: self.stack.link_target(lower),
        };
        let file = make_at(upper.tmp(), tmp_name, new)?;
        let tmp = Arc::new(upper.tmp().try_clone_to_owned()?);
        let place = Place::Named(tmp, tmp_name.into());
        if let Some(file) = file.filter(|_| has_data) {
            rustix::fs::ftruncate(&file, meta.size)?;
            if !metacopy {
                self.copy_data(lower, &File::from(file))?;
            }
        }
        self.apply_metadata(lower, &place)?;
        let origin = Origin {
            node: lower,
            metacopy,
        };
        upper.set_origin(&self.stack, &place, origin)?;
        let mtime = HostTime {
            tv_sec: meta.mtime.secs,
            tv_nsec: meta.mtime.nanos.into(),
        };
        place.set_times(&Timestamps {
            last_access: mtime,
            last_modification: mtime,
        })
    }

    /// Gives a file of the upper its origin's owner, attributes and mode.
    pub(super) fn apply_metadata(&self, lower: NodeId, place: &Place) -> Result<(), Errno> {
        let meta = self.stack.meta(lower);
        place.chown(Some(meta.uid), Some(meta.gid))?;
        for (name, value) in self.stack.xattrs(lower) {
            let set = place.set_xattr(name, value, rustix::fs::XattrFlags::empty());
            match set {
                // The host's filesystem does not know this kind of attribute on this kind of file.
                Ok(()) | Err(Errno::EOPNOTSUPP | Errno::EPERM) => {}
                Err(error) => return Err(error),
            }
        }
        match meta.kind {
            Kind::Symlink => Ok(()),
            _ => place.chmod(meta.mode.into()),
        }
    }

    /// Keeps a file that lost its last name before its first change.
    fn hold_nameless(&self, table: &mut Table, ino: Ino, tmp_name: &[u8]) -> Result<(), Errno> {
        let upper = self.upper()?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = rustix::fs::openat(upper.tmp(), tmp_name, flags, Mode::empty())?;
        rustix::fs::unlinkat(upper.tmp(), tmp_name, AtFlags::empty())?;
        table.get_mut(ino)?.orphan = Some(Arc::new(held));
        Ok(())
    }

    /// Puts a file with several lower names into the link index, and this name beside it.
    fn place_shared(
        &self,
        table: &mut Table,
        ino: Ino,
        lower: NodeId,
        tmp_name: &[u8],
    ) -> Result<(), Errno> {
        let upper = self.upper()?;
        let node = table.get(ino)?;
        let (parent, name) = (node.parent, node.name.clone());
        let index_name = upper::index_name(&self.stack, lower).into_bytes();
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = Arc::new(rustix::fs::openat(
            upper.tmp(),
            tmp_name,
            flags,
            Mode::empty(),
        )?);
        let place = Place::Named(Arc::new(upper.tmp().try_clone_to_owned()?), tmp_name.into());
        upper.set_lower_links(&place, self.stack.meta(lower).nlink - 1)?;
        let directory = self.directory_fd(table, parent)?;
        upper::rename(
            upper.tmp(),
            tmp_name,
            upper.index(),
            &index_name,
            RenameFlags::NOREPLACE,
        )?;
        let place = Place::Held(held.clone());
        keeping_times(&directory, || link_place(&place, directory.as_fd(), &name))?;
        table.copied.insert(lower);
        table.get_mut(ino)?.orphan = Some(held);
        Ok(())
    }

    /// Counts one lower name less of a file in the link index.
    pub(super) fn lower_name_gone(&self, table: &mut Table, ino: Ino) -> Result<(), Errno> {
        let place = self.place(table, ino)?;
        let upper = self.upper()?;
        upper.set_lower_links(&place, upper.lower_links(&place).saturating_sub(1))
    }

    /// Brings a file's data into the upper; other files' requests go on meanwhile.
    pub(super) fn fill(&self, ino: Ino) -> Result<(), Errno> {
        self.changing(ino, || self.fill_in(ino))
    }

    fn fill_in(&self, ino: Ino) -> Result<(), Errno> {
        let (filling, place, lower) = {
            let mut table = self.table.lock();
            self.copy_up(&mut table, ino)?;
            let node = table.get_mut(ino)?;
            let (true, Some(lower)) = (node.metacopy, node.lower) else {
                return Ok(());
            };
            let filling = node.rare_mut().filling.clone();
            (filling, self.place(&mut table, ino)?, lower)
        };
        let _filling = filling.lock();
        if !self.table.lock().get(ino)?.metacopy {
            return Ok(());
        }
        let before = place.stat()?;
        let out = File::from(place.open(OFlags::WRONLY)?);
        let copied = self.copy_data(lower, &out);
        let times = Timestamps {
            last_access: HostTime {
                tv_sec: before.st_atime,
                tv_nsec: before.st_atime_nsec as i64,
            },
            last_modification: HostTime {
                tv_sec: before.st_mtime,
                tv_nsec: before.st_mtime_nsec as i64,
            },
        };
        rustix::fs::futimens(&out, &times)?;
        if let Err(error) = copied {
            // Give the space back; the data are still the origin's.
            let _ = rustix::fs::ftruncate(&out, 0);
            let _ = rustix::fs::ftruncate(&out, before.st_size as u64);
            let _ = rustix::fs::futimens(&out, &times);
            return Err(error);
        }
        self.filled(ino, &place, lower)
    }

    /// Says that the upper has the data now.
    pub(super) fn filled(&self, ino: Ino, place: &Place, lower: NodeId) -> Result<(), Errno> {
        let mut table = self.table.lock();
        let origin = Origin {
            node: lower,
            metacopy: false,
        };
        self.upper()?.set_origin(&self.stack, place, origin)?;
        table.get_mut(ino)?.metacopy = false;
        Ok(())
    }

    fn copy_data(&self, lower: NodeId, out: &File) -> Result<(), Errno> {
        let size = self.stack.meta(lower).size;
        if let Some(file) = self.stack.backing_file(lower)? {
            if rustix::fs::ioctl_ficlone(out, &file).is_ok() {
                return Ok(());
            }
            return copy_ranges(&file, out, size);
        }
        let mut buffer = vec![0; size as usize];
        let length = self.stack.read_at(lower, &mut buffer, 0)?;
        out.write_all_at(&buffer[..length], 0)?;
        Ok(())
    }
}

/// Removes what was built under `work/tmp`.
fn discard(upper: &super::Upper, tmp_name: &[u8]) {
    let _ = rustix::fs::unlinkat(upper.tmp(), tmp_name, AtFlags::empty());
    let _ = rustix::fs::unlinkat(upper.tmp(), tmp_name, AtFlags::REMOVEDIR);
}

/// Copies the data of `file` and leaves its holes.
fn copy_ranges(file: &File, out: &File, size: u64) -> Result<(), Errno> {
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?.min(size);
        copy_range(file, out, start, end)?;
        at = end;
    }
    Ok(())
}

fn copy_range(file: &File, out: &File, start: u64, end: u64) -> Result<(), Errno> {
    let (mut from, mut to) = (start, start);
    while from < end {
        let length = usize::try_from(end - from).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(file, Some(&mut from), out, Some(&mut to), length) {
            Ok(0) => return Err(Errno::EIO),
            Ok(_) => {}
            Err(
                rustix::io::Errno::XDEV | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP,
            ) => {
                let mut buffer = vec![0; length.min(1 << 20)];
                let got = file.read_at(&mut buffer, from)?;
                if got == 0 {
                    return Err(Errno::EIO);
                }
                out.write_all_at(&buffer[..got], to)?;
                from += got as u64;
                to += got as u64;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Runs a change of a directory that must not show in its times: copy-up is nobody's modification.
fn keeping_times(
    directory: &OwnedFd,
    change: impl FnOnce() -> Result<(), Errno>,
) -> Result<(), Errno> {
    let before = rustix::fs::fstat(directory)?;
    change()?;
    let place = Place::Held(Arc::new(directory.try_clone().map_err(Errno::from)?));
    place.set_times(&Timestamps {
        last_access: HostTime {
            tv_sec: before.st_atime,
            tv_nsec: before.st_atime_nsec as i64,
        },
        last_modification: HostTime {
            tv_sec: before.st_mtime,
            tv_nsec: before.st_mtime_nsec as i64,
        },
    })
}
