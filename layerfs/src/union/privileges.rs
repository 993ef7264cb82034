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
//! A set-group-ID bit without the group's right to execute (System V's mark for mandatory locks) goes too if the writer is
//! not in the file's group, as on the kernel's own filesystems. Nobody gets another identity by it, so it is no reason to
//! arm a file.
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

/// Returns whether any change of the data by a weak writer must come here.
pub(super) fn may_lose_bits(mode: u32) -> bool {
    mode & (libc::S_ISUID | libc::S_ISGID) != 0
}

/// Somebody without CAP_FSETID who changes a file's data.
#[derive(Clone, Copy, Debug)]
pub struct WeakWriter {
    /// The group of the thread for filesystems.
    pub gid: u32,
    /// The thread, which waits for the answer; its further groups are looked up when they matter.
    pub pid: u32,
}

impl WeakWriter {
    fn is_in(self, group: u32) -> bool {
        self.gid == group
            || self
                .further_groups()
                .is_some_and(|found| found.contains(&group))
    }

    /// Reads the supplementary groups (`proc_pid_status(5)`).
    fn further_groups(self) -> Option<Vec<u32>> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let groups = status
            .lines()
            .find_map(|line| line.strip_prefix("Groups:"))?;
        groups
            .split_whitespace()
            .map(|group| group.parse().ok())
            .collect()
    }
}

fn modified(stat: &Stat) -> Timespec {
    Timespec {
        secs: stat.st_mtime,
        nanos: stat.st_mtime_nsec as u32,
    }
}

impl Union {
    /// Takes the bits from a file whose data were changed; returns whether it had any.
    pub fn kill_privileges(&self, ino: Ino, writer: WeakWriter) -> Result<bool, Errno> {
        self.kill_in(&mut self.table.lock(), ino, Some(writer))
    }

    fn kill_in(
        &self,
        table: &mut Table,
        ino: Ino,
        writer: Option<WeakWriter>,
    ) -> Result<bool, Errno> {
        let node = table.get_mut(ino)?;
        if node.rare().is_some() {
            node.rare_mut().armed = None;
        }
        if node.kind != Kind::File || !node.in_upper {
            return Ok(false);
        }
        let place = self.place(table, ino)?;
        let stat = place.stat()?;
        let mut lost = stat.st_mode & (libc::S_ISUID | libc::S_ISGID);
        let is_plain_group = lost & libc::S_ISGID != 0 && stat.st_mode & libc::S_IXGRP == 0;
        if is_plain_group && writer.is_none_or(|writer| writer.is_in(stat.st_gid)) {
            lost &= !libc::S_ISGID;
        }
        if lost == 0 {
            return Ok(false);
        }
        place.chmod(stat.st_mode & !lost)?;
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
        Ok(self.kill_in(table, ino, None)?.then_some(ino))
    }
}
