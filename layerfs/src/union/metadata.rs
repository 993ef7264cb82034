//! Attributes: read from whichever side has the file, changed in the upper.

use rustix::fs::Timespec as HostTime;
use rustix::fs::Timestamps;

use super::Ino;
use super::Table;
use super::Union;
use super::WeakWriter;
use super::upper;
use super::upper::Place;
use crate::errno::Errno;
use crate::index::Kind;
use crate::index::NodeId;
use crate::index::Timespec;

/// What `stat(2)` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// The inode number.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// The twelve permission bits.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The length in bytes.
    pub size: u64,
    /// The space used, in blocks of 512 bytes.
    pub blocks: u64,
    /// The number of names.
    pub nlink: u32,
    /// A device's number.
    pub rdev: u64,
    /// When it was last read.
    pub atime: Timespec,
    /// When its data last changed.
    pub mtime: Timespec,
    /// When anything of it last changed.
    pub ctime: Timespec,
}

/// What to set a time to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The present.
    Now,
    /// A given time.
    To(Timespec),
}

/// Attributes to change; what is `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// The permission bits.
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// The length.
    pub size: Option<u64>,
    /// The time of last access.
    pub atime: Option<SetTime>,
    /// The time of last modification.
    pub mtime: Option<SetTime>,
    /// Whose new length takes set-user-ID and set-group-ID bits away, if it does.
    pub weak: Option<WeakWriter>,
}

impl Union {
    /// Returns the attributes of `ino`.
    pub fn getattr(&self, ino: Ino) -> Result<Attr, Errno> {
        self.attr_of(&mut self.table.lock(), ino)
    }

    pub(super) fn attr_of(&self, table: &mut Table, ino: Ino) -> Result<Attr, Errno> {
        let node = table.get(ino)?;
        let (number, lower, in_upper, metacopy) =
            (node.number, node.lower, node.in_upper, node.metacopy);
        if !in_upper {
            let mut attr = self.lower_attr(lower.ok_or(Errno::ESTALE)?);
            if table.get(ino)?.unlinked {
                attr.nlink = attr.nlink.saturating_sub(1);
            }
            return Ok(attr);
        }
        let place = self.place(table, ino)?;
        let mut attr = upper_attr(number, &place.stat()?);
        if let Some(lower) = lower {
            if metacopy {
                attr.blocks = attr.size.div_ceil(512);
            }
            if attr.kind != Kind::Directory && table.copied.contains(&lower) {
                // One name is the link index's own; the lower ones that are left count.
                attr.nlink = attr.nlink.saturating_sub(1) + self.upper()?.lower_links(&place);
            }
            if attr.kind == Kind::Directory {
                attr.nlink = attr.nlink.max(self.stack.meta(lower).nlink);
            }
        }
        Ok(attr)
    }

    pub(super) fn lower_attr(&self, lower: NodeId) -> Attr {
        let meta = self.stack.meta(lower);
        let times = self.stack.host_times(lower);
        Attr {
            ino: Ino::of_lower(lower),
            kind: meta.kind,
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            size: match meta.kind {
                Kind::Directory => 4096,
                _ => meta.size,
            },
            blocks: match (meta.kind, times) {
                (Kind::Directory, _) => 8,
                (_, Some(times)) => times.blocks,
                _ => meta.size.div_ceil(4096) * 8,
            },
            nlink: meta.nlink,
            rdev: meta.rdev,
            atime: times.map_or(meta.mtime, |times| times.atime),
            mtime: meta.mtime,
            ctime: times.map_or(meta.mtime, |times| times.ctime),
        }
    }

    /// Changes attributes; only a new length needs the data in the upper.
    pub fn setattr(&self, ino: Ino, set: &SetAttr) -> Result<Attr, Errno> {
        self.upper()?;
        if let Some(size) = set.size {
            self.truncate(ino, size)?;
            if let Some(writer) = set.weak {
                self.kill_privileges(ino, writer)?;
            }
        }
        self.changing(ino, || self.set_in_upper(ino, set))
    }

    fn set_in_upper(&self, ino: Ino, set: &SetAttr) -> Result<Attr, Errno> {
        let mut table = self.table.lock();
        self.copy_up(&mut table, ino)?;
        let kind = table.get(ino)?.kind;
        table.get_mut(ino)?.forget_inheritance();
        let place = self.place(&mut table, ino)?;
        if set.uid.is_some() || set.gid.is_some() {
            place.chown(set.uid, set.gid)?;
        }
        if let Some(mode) = set.mode.filter(|_| kind != Kind::Symlink) {
            place.chmod(mode)?;
            self.arm(&mut table, ino)?;
        }
        if set.atime.is_some() || set.mtime.is_some() {
            place.set_times(&Timestamps {
                last_access: host_time(set.atime),
                last_modification: host_time(set.mtime),
            })?;
        }
        self.attr_of(&mut table, ino)
    }

    /// Returns a symbolic link's target.
    pub fn readlink(&self, ino: Ino) -> Result<Vec<u8>, Errno> {
        let mut table = self.table.lock();
        let node = table.get(ino)?;
        if node.kind != Kind::Symlink {
            return Err(Errno::EINVAL);
        }
        match (node.lower, node.in_upper) {
            (Some(lower), _) => Ok(self.stack.link_target(lower).to_vec()),
            _ => Ok(match self.place(&mut table, ino)? {
                Place::Named(directory, name) => {
                    rustix::fs::readlinkat(directory, &name[..], Vec::new())?.into_bytes()
                }
                Place::Held(link) => rustix::fs::readlinkat(link, c"", Vec::new())?.into_bytes(),
            }),
        }
    }

    /// Returns the numbers of the filesystem that the upper is on.
    pub fn statfs(&self) -> Result<Option<rustix::fs::StatVfs>, Errno> {
        match &self.upper {
            Some(upper) => Ok(Some(rustix::fs::fstatvfs(upper.root())?)),
            None => Ok(None),
        }
    }
}

/// Returns the attributes of a file of the upper as the host has them.
pub(super) fn upper_attr(number: Ino, stat: &rustix::fs::Stat) -> Attr {
    let time = |secs: i64, nanos: u64| Timespec {
        secs,
        nanos: nanos as u32,
    };
    Attr {
        ino: number,
        kind: upper::kind_of(stat.st_mode),
        mode: (stat.st_mode & 0o7777) as u16,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
        nlink: stat.st_nlink as u32,
        rdev: upper::shown_device(stat),
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
    }
}

fn host_time(set: Option<SetTime>) -> HostTime {
    let nanos = |tv_nsec| HostTime { tv_sec: 0, tv_nsec };
    match set {
        None => nanos(rustix::fs::UTIME_OMIT),
        Some(SetTime::Now) => nanos(rustix::fs::UTIME_NOW),
        Some(SetTime::To(time)) => HostTime {
            tv_sec: time.secs,
            tv_nsec: time.nanos.into(),
        },
    }
}
