//! The kernel's words for what the union says, and the other way round.

use std::ffi::OsStr;
use std::time::Duration;
use std::time::SystemTime;

use fuser::FileAttr;
use fuser::FileType;
use fuser::Generation;
use fuser::INodeNo;
use fuser::ReplyAttr;
use fuser::ReplyEmpty;
use fuser::ReplyEntry;
use fuser::ReplyXattr;
use fuser::TimeOrNow;

use super::owners::Owners;
use crate::errno::Errno;
use crate::index::Kind;
use crate::index::Timespec;
use crate::union::Attr;
use crate::union::Entry;
use crate::union::Ino;
use crate::union::Listed;
use crate::union::SetTime;

/// As good as for ever: what the kernel knows only changes through its own requests.
pub(super) const EVER: Duration = Duration::from_secs(1 << 30);

pub(super) fn ino(number: INodeNo) -> Ino {
    Ino(number.0)
}

pub(super) fn refusal(error: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(error.0)
}

pub(super) fn time(time: Timespec) -> SystemTime {
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    let secs = Duration::from_secs(time.secs.unsigned_abs());
    match time.secs < 0 {
        true => SystemTime::UNIX_EPOCH - secs + nanos,
        false => SystemTime::UNIX_EPOCH + secs + nanos,
    }
}

pub(super) fn timespec(time: SystemTime) -> Timespec {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => Timespec {
            secs: after.as_secs() as i64,
            nanos: after.subsec_nanos(),
        },
        Err(before) => {
            let before = before.duration();
            match before.subsec_nanos() {
                0 => Timespec {
                    secs: -(before.as_secs() as i64),
                    nanos: 0,
                },
                nanos => Timespec {
                    secs: -(before.as_secs() as i64) - 1,
                    nanos: 1_000_000_000 - nanos,
                },
            }
        }
    }
}

pub(super) fn set_time(set: TimeOrNow) -> SetTime {
    match set {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::To(timespec(time)),
    }
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
    }
}

pub(super) fn kind(mode: u32) -> Option<Kind> {
    Some(match mode & libc::S_IFMT {
        libc::S_IFREG | 0 => Kind::File,
        libc::S_IFCHR => Kind::CharDevice,
        libc::S_IFBLK => Kind::BlockDevice,
        libc::S_IFIFO => Kind::Fifo,
        libc::S_IFSOCK => Kind::Socket,
        _ => return None,
    })
}

/// The kernel's device number: twelve bits of major in the middle of twenty of minor (`new_encode_dev`).
pub(super) fn encode_device(device: u64) -> u32 {
    let (major, minor) = (libc::major(device), libc::minor(device));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

pub(super) fn decode_device(device: u32) -> u64 {
    libc::makedev(
        (device >> 8) & 0xfff,
        (device & 0xff) | ((device >> 12) & 0xfff00),
    )
}

pub(super) fn file_attr(owners: &Owners, attr: &Attr, ino: Ino) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino.0),
        size: attr.size,
        blocks: attr.blocks,
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
        crtime: SystemTime::UNIX_EPOCH,
        kind: file_type(attr.kind),
        perm: attr.mode,
        nlink: attr.nlink,
        uid: owners.users.shown(attr.uid),
        gid: owners.groups.shown(attr.gid),
        rdev: encode_device(attr.rdev),
        blksize: 4096,
        flags: 0,
    }
}

/// Attributes are asked for again each time when the node goes by another number than `stat(2)` shows, since an entry
/// can only name one.
pub(super) fn attr_ttl(entry: &Entry) -> Duration {
    match entry.attr.ino == entry.ino {
        true => EVER,
        false => Duration::ZERO,
    }
}

pub(super) fn reply_entry(owners: &Owners, reply: ReplyEntry, result: Result<Entry, Errno>) {
    match result {
        Ok(entry) => {
            let attr = file_attr(owners, &entry.attr, entry.ino);
            reply.entry_with_ttls(&attr_ttl(&entry), &EVER, &attr, Generation(0));
        }
        Err(error) => reply.error(refusal(error)),
    }
}

pub(super) fn reply_empty(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(refusal(error)),
    }
}

pub(super) fn reply_attr(
    owners: &Owners,
    reply: ReplyAttr,
    asked: Ino,
    result: Result<Attr, Errno>,
) {
    match result {
        Ok(attr) => {
            let ttl = if attr.ino == asked {
                EVER
            } else {
                Duration::ZERO
            };
            reply.attr(&ttl, &file_attr(owners, &attr, attr.ino));
        }
        Err(error) => reply.error(refusal(error)),
    }
}

pub(super) fn reply_bytes(reply: ReplyXattr, size: u32, result: Result<Vec<u8>, Errno>) {
    match result {
        Ok(bytes) if size == 0 => reply.size(bytes.len() as u32),
        Ok(bytes) if bytes.len() > size as usize => reply.error(refusal(Errno::ERANGE)),
        Ok(bytes) => reply.data(&bytes),
        Err(error) => reply.error(refusal(error)),
    }
}

pub(super) fn is_acl(name: &OsStr) -> bool {
    name == "system.posix_acl_access" || name == "system.posix_acl_default"
}

/// The number and the kind of a name, for what is not looked up.
pub(super) fn nothing_but(listed: &Listed<'_>) -> FileAttr {
    FileAttr {
        ino: INodeNo(listed.ino.0),
        kind: file_type(listed.kind),
        ..missing()
    }
}

/// A negative entry: inode 0 says that the name is missing, and may be remembered.
pub(super) fn missing() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}
