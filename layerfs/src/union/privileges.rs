//! Set-user-ID and set-group-ID bits go when a file's data are changed by somebody without CAP_FSETID (`chmod(2)`,
//! `write(2)`, `truncate(2)`; `inode(7)`, "The file type and mode").
//!
//! The kernel leaves that to the filesystem (`FUSE_HANDLE_KILLPRIV_V2`), since otherwise it would ask for
//! `security.capability` at every write. Writes that come here say what they take away. Those that pass through to the
//! host's file do not come here, and are the monitor's to the host, so:
//!
//! - A file that has such a bit is not opened for passthrough by such a writer.
//! - A file that gets one while such a writer has it open is **armed**: the time of its last modification is noted, and
//!   when a writer closes it, the bits go if that time has changed. Until then nobody can execute it (`ETXTBSY`).
//!
//! File capabilities are removed by the kernel itself before the first write.

use rustix::fs::Stat;

use super::Ino;
use super::Table;
use super::Union;
use super::data::Handle;
use crate::errno::Errno;
use crate::index::Kind;
use crate::index::Timespec;

/// Returns whether a file's mode gives whoever executes it another identity.
pub(super) fn is_privileged(mode: u32) -> bool {
    mode & libc::S_ISUID != 0
        || mode & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID | libc::S_IXGRP
}

fn modified(stat: &Stat) -> Timespec {
    Timespec {
        secs: stat.st_mtime,
        nanos: stat.st_mtime_nsec as u32,
    }
}

impl Union {
    /// Takes the bits from a file whose data were changed; returns whether it had any.
    pub fn kill_privileges(&self, ino: Ino) -> Result<bool, Errno> {
        self.kill_in(&mut self.table.lock(), ino)
    }

    fn kill_in(&self, table: &mut Table, ino: Ino) -> Result<bool, Errno> {
        let node = table.get_mut(ino)?;
        if node.rare().is_some() {
            node.rare_mut().armed = None;
        }
        if node.kind != Kind::File || !node.in_upper {
            return Ok(false);
        }
        let place = self.place(table, ino)?;
        let mode = place.stat()?.st_mode;
        if !is_privileged(mode) {
            return Ok(false);
        }
        let group = match mode & libc::S_IXGRP {
            0 => 0,
            _ => libc::S_ISGID,
        };
        place.chmod(mode & !(libc::S_ISUID | group))?;
        Ok(true)
    }

    /// Notes when a file that has such bits was modified last, if somebody who must not write it unseen has it open.
    pub(super) fn arm(&self, table: &mut Table, ino: Ino) -> Result<(), Errno> {
        let node = table.get(ino)?;
        let is_armed = node.rare().is_some_and(|rare| rare.armed.is_some());
        if !node.has_weak_writers() || is_armed || node.kind != Kind::File {
            return Ok(());
        }
        let stat = self.place(table, ino)?.stat()?;
        if is_privileged(stat.st_mode) {
            table.get_mut(ino)?.rare_mut().armed = Some(modified(&stat));
        }
        Ok(())
    }

    /// Ends a use of an open file (`close(2)`); returns its inode if its mode has changed by that.
    pub fn flush(&self, handle: u64) -> Result<Option<Ino>, Errno> {
        let opened = self.handle(handle)?;
        self.disarm(&mut self.table.lock(), &opened)
    }

    pub(super) fn disarm(&self, table: &mut Table, opened: &Handle) -> Result<Option<Ino>, Errno> {
        let ino = opened.ino;
        let armed = table.get(ino)?.rare().and_then(|rare| rare.armed);
        let Some(armed) = armed.filter(|_| opened.is_weak) else {
            return Ok(None);
        };
        if modified(&self.place(table, ino)?.stat()?) == armed {
            return Ok(None);
        }
        Ok(self.kill_in(table, ino)?.then_some(ino))
    }
}
