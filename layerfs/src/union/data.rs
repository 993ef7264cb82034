//! Open files and their data.

use std::any::Any;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::OnceLock;

use parking_lot::Mutex;
use rustix::fs::FallocateFlags;
use rustix::fs::OFlags;
use rustix::fs::SeekFrom;

use super::Caller;
use super::Entry;
use super::Ino;
use super::NewMode;
use super::Table;
use super::Union;
use super::copy_up::Data;
use super::names::New;
use super::privileges::WeakWriter;
use super::privileges::may_lose_bits;
use super::upper::Place;
use crate::errno::Errno;
use crate::index::Kind;
use crate::index::NodeId;
use crate::stack::Wait;
use crate::stack::read_full;

/// The flag by which the kernel opens what it executes (`__FMODE_EXEC` of its `include/linux/fs.h`).
const FOR_EXECUTION: i32 = 0x20;

/// What is copied up without much waiting, in bytes.
pub(super) const COPIED_AT_ONCE: u64 = 256 << 10;

/// The host file behind an inode while it is open: its reads and writes may go there directly.
#[derive(Debug)]
pub struct Backing {
    /// The host's file; open for writing too if it is the upper's.
    pub file: File,
    /// Whether it is a layer's object.
    pub is_lower: bool,
    /// What the transport keeps beside it as long as it is open.
    pub transport: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// Who opens a file, and how.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Reads and writes may go to the host's file without being asked for here.
    pub passthrough: bool,
    /// The opener, unless it has CAP_FSETID: its writes take set-user-ID and set-group-ID bits away.
    pub weak: Option<WeakWriter>,
}

impl Access {
    /// The superuser's, with every read and write asked for.
    pub const PLAIN: Access = Access {
        passthrough: false,
        weak: None,
    };
}

/// An answer to an open.
#[derive(Debug)]
pub struct Opened {
    /// The handle, until [`Union::release`].
    pub handle: u64,
    /// The host file to pass through to; the transport must use it for all opens of the inode or for none.
    pub backing: Option<Arc<Backing>>,
    /// Whether [`Union::flush`] must be called when a descriptor of it is closed.
    pub wants_flush: bool,
    /// Whether opening has changed the file's mode.
    pub mode_changed: bool,
}

/// An open file.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) ino: Ino,
    /// It is one of its node's weak writers.
    pub(super) is_weak: bool,
    /// Somebody executes the file by it.
    is_executed: bool,
    lower: Option<NodeId>,
    backing: Option<Arc<Backing>>,
    upper: Mutex<Option<Arc<File>>>,
}

fn writes(flags: i32) -> bool {
    flags & libc::O_ACCMODE != libc::O_RDONLY
}

/// Opens the upper's file for reading and writing, and says whether it could be opened for writing; a disk that has
/// become read-only or an immutable file is still to be read.
fn open_upper(place: &Place, writes: bool) -> Result<(File, bool), Errno> {
    match place.open(OFlags::RDWR) {
        Err(_) if !writes => Ok((place.open(OFlags::RDONLY)?.into(), false)),
        opened => Ok((opened?.into(), true)),
    }
}

impl Union {
    /// Opens a regular file. `flags` are those of `open(2)`.
    ///
    /// `ESTALE` says to look the name up again: the file was copied up while others hold its lower part open. `ETXTBSY`
    /// says that it cannot be truncated while it is executed; the kernel sees to that only when it opens for writing, for
    /// `O_RDONLY` with `O_TRUNC` it asks too late.
    pub fn open(&self, ino: Ino, flags: i32, access: Access) -> Result<Opened, Errno> {
        let truncates = flags & libc::O_TRUNC != 0;
        let mut mode_changed = false;
        if truncates {
            if !writes(flags) && self.is_executed(ino) {
                return Err(Errno::ETXTBSY);
            }
            self.truncate(ino, 0)?;
            if let Some(writer) = access.weak {
                mode_changed = self.kill_privileges(ino, writer)?;
            }
        } else if writes(flags) {
            self.upper()?;
            self.fill(ino)?;
        }
        let mut table = self.table.lock();
        let opened = self.open_in(&mut table, ino, flags, access)?;
        Ok(Opened {
            mode_changed,
            ..opened
        })
    }

    fn is_executed(&self, ino: Ino) -> bool {
        let handles = self.handles.read();
        handles
            .values()
            .any(|handle| handle.is_executed && handle.ino == ino)
    }

    fn open_in(
        &self,
        table: &mut Table,
        ino: Ino,
        flags: i32,
        access: Access,
    ) -> Result<Opened, Errno> {
        let writes = writes(flags);
        let node = table.get(ino)?;
        if node.kind == Kind::Directory {
            return Err(Errno::EISDIR);
        }
        let may_be_weak = writes && access.weak.is_some();
        let (opens, has_backing) = (node.opens, node.backing.is_some());
        let mut passthrough = access.passthrough;
        if may_be_weak && passthrough && opens == 0 && !has_backing {
            passthrough = !may_lose_bits(self.place(table, ino)?.stat()?.st_mode);
        }
        let node = table.get(ino)?;
        let from_lower = !node.has_upper_data();
        let lower = node.lower;
        let backing = match (&node.backing, node.opens) {
            (Some(backing), _) if backing.is_lower == from_lower => Some(backing.clone()),
            (Some(_), _) => {
                table.renew(ino)?;
                return Err(Errno::ESTALE);
            }
            (None, 0) if passthrough => self.backing(table, ino, writes)?,
            (None, _) => None,
        };
        let is_weak = may_be_weak && backing.is_some();
        let node = table.get_mut(ino)?;
        node.opens += 1;
        node.backing = backing.clone();
        if is_weak {
            node.rare_mut().weak_writers += 1;
            self.arm(table, ino)?;
        }
        let handle = self.next_handle();
        let opened = Handle {
            ino,
            is_weak,
            is_executed: flags & FOR_EXECUTION != 0,
            lower,
            backing: backing.clone(),
            upper: Mutex::new(None),
        };
        self.handles.write().insert(handle, Arc::new(opened));
        let wants_flush = is_weak;
        Ok(Opened {
            handle,
            backing,
            wants_flush,
            mode_changed: false,
        })
    }

    /// Opens the host file that has just this inode's data, if there is one.
    fn backing(
        &self,
        table: &mut Table,
        ino: Ino,
        writes: bool,
    ) -> Result<Option<Arc<Backing>>, Errno> {
        let node = table.get(ino)?;
        let is_lower = !node.has_upper_data();
        let file = match (is_lower, node.lower) {
            (false, _) => match open_upper(&self.place(table, ino)?, writes)? {
                (file, true) => file,
                // A writer may come once the disk can be written again.
                (_, false) => return Ok(None),
            },
            (true, Some(lower)) => match self.stack.backing_file(lower)? {
                Some(file) => file,
                None => return Ok(None),
            },
            (true, None) => return Err(Errno::ESTALE),
        };
        Ok(Some(Arc::new(Backing {
            file,
            is_lower,
            transport: OnceLock::new(),
        })))
    }

    /// Gives passthrough up for a handle that was just opened and is the only one of its inode.
    pub fn passthrough_refused(&self, handle: u64) {
        let Ok(opened) = self.handle(handle) else {
            return;
        };
        let mut table = self.table.lock();
        if let Ok(node) = table.get_mut(opened.ino) {
            node.backing = None;
            if opened.is_weak {
                node.rare_mut().weak_writers -= 1;
            }
        }
        let plain = Handle {
            ino: opened.ino,
            is_weak: false,
            is_executed: opened.is_executed,
            lower: opened.lower,
            backing: None,
            upper: Mutex::new(None),
        };
        self.handles.write().insert(handle, Arc::new(plain));
    }

    /// Makes a regular file and opens it.
    pub fn create(
        &self,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        mode: NewMode,
        access: Access,
    ) -> Result<(Entry, Opened), Errno> {
        let mut table = self.table.lock();
        let new = New {
            kind: Kind::File,
            mode: mode.bits,
            umask: mode.umask,
            rdev: 0,
            target: b"",
        };
        let mut made = self.make(&mut table, caller, parent, name, new)?;
        let entry = made.entry(&mut table)?;
        let file = made.file.take().map(File::from);
        if let (true, Some(file)) = (access.passthrough, file) {
            table.get_mut(made.ino)?.backing = Some(Arc::new(Backing {
                file,
                is_lower: false,
                transport: OnceLock::new(),
            }));
        }
        let opened = self.open_in(&mut table, made.ino, libc::O_RDWR, access)?;
        Ok((entry, opened))
    }

    pub(super) fn handle(&self, handle: u64) -> Result<Arc<Handle>, Errno> {
        self.handles
            .read()
            .get(&handle)
            .cloned()
            .ok_or(Errno::EBADF)
    }

    /// Closes a handle; returns its inode if its mode has changed by that.
    pub fn release(&self, handle: u64) -> Option<Ino> {
        let closed = self.handles.write().remove(&handle)?;
        let mut dropped = None;
        let mut table = self.table.lock();
        let changed = self.disarm(&mut table, &closed).unwrap_or(None);
        if let Ok(node) = table.get_mut(closed.ino) {
            if closed.is_weak {
                let rare = node.rare_mut();
                rare.weak_writers -= 1;
                if rare.weak_writers == 0 {
                    rare.armed = None;
                }
            }
            node.opens = node.opens.saturating_sub(1);
            if node.opens == 0 {
                dropped = node.backing.take();
            }
        }
        table.collect(closed.ino);
        drop(table);
        // The host's files close outside the lock.
        drop((dropped, closed));
        changed
    }

    /// Returns the upper's file for a handle, or none while the data are the lower's.
    fn upper_file(&self, opened: &Handle, writes: bool) -> Result<Option<Arc<File>>, Errno> {
        if let Some(file) = &*opened.upper.lock() {
            return Ok(Some(file.clone()));
        }
        let place = {
            let mut table = self.table.lock();
            if !table.get(opened.ino)?.has_upper_data() {
                return Ok(None);
            }
            self.place(&mut table, opened.ino)?
        };
        let (file, can_write) = open_upper(&place, writes)?;
        let file = Arc::new(file);
        if can_write {
            *opened.upper.lock() = Some(file.clone());
        }
        Ok(Some(file))
    }

    /// Reads at `offset`; fewer bytes than asked only at the end. `EAGAIN` says that this would have to wait.
    pub fn read(
        &self,
        handle: u64,
        buffer: &mut [u8],
        offset: u64,
        wait: Wait,
    ) -> Result<usize, Errno> {
        let opened = self.handle(handle)?;
        if let Some(backing) = &opened.backing {
            return Ok(read_full(&backing.file, buffer, offset, wait)?);
        }
        match (self.upper_file(&opened, false)?, opened.lower) {
            (Some(file), _) => Ok(read_full(&file, buffer, offset, wait)?),
            (None, Some(lower)) => Ok(self.stack.read_how(lower, buffer, offset, wait)?),
            (None, None) => Err(Errno::EIO),
        }
    }

    /// Returns whether opening or truncating the file may wait for much to be copied up first.
    pub fn copies_much(&self, ino: Ino) -> bool {
        let table = self.table.lock();
        table.get(ino).is_ok_and(|node| {
            !node.has_upper_data()
                && node
                    .lower
                    .is_some_and(|lower| self.stack.meta(lower).size > COPIED_AT_ONCE)
        })
    }

    /// Returns whether any change of the file, be it only of its mode, may wait for much to be copied up first.
    pub fn copies_much_at_any_change(&self, ino: Ino) -> bool {
        let table = self.table.lock();
        table.get(ino).is_ok_and(|node| {
            let lower = node.lower.filter(|_| !node.in_upper);
            lower.is_some_and(|lower| self.is_copied_whole(lower))
        })
    }

    /// Writes all of `bytes` at `offset`.
    pub fn write(&self, handle: u64, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        self.with_upper(handle, |file| {
            file.write_all_at(bytes, offset)?;
            Ok(bytes.len())
        })
    }

    fn with_upper<T>(
        &self,
        handle: u64,
        act: impl FnOnce(&File) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let opened = self.handle(handle)?;
        match &opened.backing {
            Some(backing) if !backing.is_lower => act(&backing.file),
            _ => act(&*self.upper_file(&opened, true)?.ok_or(Errno::EBADF)?),
        }
    }

    /// Makes the data, and unless `data_only` the metadata, durable.
    pub fn fsync(&self, handle: u64, data_only: bool) -> Result<(), Errno> {
        let opened = self.handle(handle)?;
        let file = match &opened.backing {
            Some(backing) if backing.is_lower => return Ok(()),
            Some(_) => None,
            None => self.upper_file(&opened, false)?,
        };
        let file = match (&opened.backing, &file) {
            (Some(backing), _) => &backing.file,
            (None, Some(file)) => file,
            (None, None) => return Ok(()),
        };
        let synced = if data_only {
            file.sync_data()
        } else {
            file.sync_all()
        };
        Ok(synced?)
    }

    /// Gives or takes space (`fallocate(2)`).
    pub fn fallocate(&self, handle: u64, mode: u32, offset: u64, length: u64) -> Result<(), Errno> {
        let mode = FallocateFlags::from_bits_retain(mode);
        self.with_upper(handle, |file| {
            Ok(rustix::fs::fallocate(file, mode, offset, length)?)
        })
    }

    /// Finds the next data or hole (`lseek(2)`, SEEK_DATA and SEEK_HOLE).
    pub fn lseek(&self, handle: u64, offset: u64, whence: i32) -> Result<u64, Errno> {
        let opened = self.handle(handle)?;
        let seek = match whence {
            libc::SEEK_DATA => SeekFrom::Data(offset),
            libc::SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::EINVAL),
        };
        if let Some(backing) = &opened.backing {
            return Ok(rustix::fs::seek(&backing.file, seek)?);
        }
        if let Some(file) = self.upper_file(&opened, false)? {
            return Ok(rustix::fs::seek(&*file, seek)?);
        }
        let lower = opened.lower.ok_or(Errno::EIO)?;
        if let Some(file) = self.stack.backing_file(lower)? {
            return Ok(rustix::fs::seek(&file, seek)?);
        }
        let size = self.stack.meta(lower).size;
        match whence {
            _ if offset >= size => Err(Errno::ENXIO),
            libc::SEEK_DATA => Ok(offset),
            _ => Ok(size),
        }
    }

    /// Copies between open files (`copy_file_range(2)`), by reflink where the host can.
    pub fn copy_file_range(
        &self,
        from: (u64, u64),
        to: (u64, u64),
        length: u64,
    ) -> Result<usize, Errno> {
        let (from, mut from_offset) = from;
        let (to, mut to_offset) = to;
        let source = self.handle(from)?;
        let length = usize::try_from(length)
            .unwrap_or(usize::MAX)
            .min(0x7fff_f000);
        let upper = match &source.backing {
            Some(_) => None,
            None => self.upper_file(&source, false)?,
        };
        self.with_upper(to, |out| {
            let file = match (&source.backing, &upper) {
                (Some(backing), _) => Some(&backing.file),
                (None, Some(file)) => Some(&**file),
                (None, None) => None,
            };
            if let Some(file) = file {
                let (from, to) = (Some(&mut from_offset), Some(&mut to_offset));
                return Ok(rustix::fs::copy_file_range(
                    file.as_fd(),
                    from,
                    out,
                    to,
                    length,
                )?);
            }
            let mut buffer = vec![0; length.min(1 << 20)];
            let got = self.read(from, &mut buffer, from_offset, Wait::Yes)?;
            out.write_all_at(&buffer[..got], to_offset)?;
            Ok(got)
        })
    }

    /// Gives a file a new length; a length of nothing copies none of the old data.
    pub(super) fn truncate(&self, ino: Ino, size: u64) -> Result<(), Errno> {
        self.upper()?;
        if size > 0 {
            self.fill(ino)?;
        }
        let (place, filling, lower, metacopy) = {
            let mut table = self.table.lock();
            match table.get(ino)?.kind {
                Kind::File => {}
                Kind::Directory => return Err(Errno::EISDIR),
                _ => return Err(Errno::EINVAL),
            }
            self.copy_up_with(&mut table, ino, Data::Dropped)?;
            let node = table.get_mut(ino)?;
            let filling = node.rare_mut().filling.clone();
            let (lower, metacopy) = (node.lower, node.metacopy);
            (self.place(&mut table, ino)?, filling, lower, metacopy)
        };
        let _filling = filling.lock();
        rustix::fs::ftruncate(place.open(OFlags::WRONLY)?, size)?;
        match lower {
            Some(lower) if metacopy => self.filled(ino, &place, lower),
            _ => Ok(()),
        }
    }
}
