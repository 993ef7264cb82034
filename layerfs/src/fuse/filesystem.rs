//! The requests, one function each.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::SystemTime;

use fuser::BackingId;
use fuser::BsdFileFlags;
use fuser::CopyFileRangeFlags;
use fuser::FileAttr;
use fuser::FileHandle;
use fuser::FileType;
use fuser::Filesystem;
use fuser::FopenFlags;
use fuser::Generation;
use fuser::INodeNo;
use fuser::InitFlags;
use fuser::KernelConfig;
use fuser::LockOwner;
use fuser::Notifier;
use fuser::OpenFlags;
use fuser::RenameFlags;
use fuser::ReplyAttr;
use fuser::ReplyCreate;
use fuser::ReplyData;
use fuser::ReplyDirectory;
use fuser::ReplyDirectoryPlus;
use fuser::ReplyEmpty;
use fuser::ReplyEntry;
use fuser::ReplyLseek;
use fuser::ReplyOpen;
use fuser::ReplyStatfs;
use fuser::ReplyWrite;
use fuser::ReplyXattr;
use fuser::Request;
use fuser::TimeOrNow;
use fuser::WriteFlags;

use super::placement::Placement;
use super::workers::Workers;
use crate::errno::Errno;
use crate::index::Kind;
use crate::index::Timespec;
use crate::stack::Wait;
use crate::union::Access;
use crate::union::Attr;
use crate::union::Backing;
use crate::union::Caller;
use crate::union::Detail;
use crate::union::Entry;
use crate::union::Ino;
use crate::union::Listed;
use crate::union::NewMode;
use crate::union::Opened;
use crate::union::SetAttr;
use crate::union::SetTime;
use crate::union::Union;
use crate::union::XattrFlag;

/// As good as for ever: what the kernel knows only changes through its own requests.
const EVER: Duration = Duration::from_secs(1 << 30);

/// What is read from a disk without giving it to another thread, if no request is waiting: handing over takes as long.
const READ_AT_ONCE: usize = 128 << 10;

#[derive(Debug)]
pub(super) struct Adaptor {
    union: Arc<Union>,
    passthrough: AtomicBool,
    /// The kernel is too old to do without.
    opens_directories: bool,
    workers: Workers,
    /// The kernel leaves it to the filesystem to take set-user-ID bits away.
    kills_privileges: bool,
    notifier: Arc<OnceLock<Notifier>>,
    /// Only if one thread answers.
    placement: Option<Placement>,
}

impl Adaptor {
    /// Translates for `union`; requests come by `device`, to one thread, if that is given.
    pub(super) fn new(
        union: Arc<Union>,
        device: Option<OwnedFd>,
        notifier: Arc<OnceLock<Notifier>>,
    ) -> Adaptor {
        Adaptor {
            union,
            passthrough: AtomicBool::new(false),
            opens_directories: true,
            workers: Workers::new(),
            kills_privileges: false,
            notifier,
            placement: device.map(Placement::new),
        }
    }

    /// Does what may wait for a disk, so that other requests are answered meanwhile.
    fn in_a_worker(&self, act: impl FnOnce(&Union) + Send + 'static) {
        let union = self.union.clone();
        self.workers.run(move || act(&union));
    }

    /// Returns whether the bits of `chmod(2)` that give another identity outlive the caller's changes of data: if the
    /// kernel sees to it, or the caller is the superuser.
    fn keeps_privileges(&self, request: &Request) -> bool {
        !self.kills_privileges || request.uid() == 0
    }

    fn kill_privileges(&self, ino: Ino) {
        if let Ok(true) = self.union.kill_privileges(ino) {
            mode_changed(&self.notifier, ino);
        }
    }

    fn nobody_else_asks(&self) -> bool {
        let placement = self.placement.as_ref();
        placement.is_some_and(|placement| !placement.requests_wait())
    }

    fn follow(&self, request: &Request) {
        if let Some(placement) = &self.placement {
            placement.follow(request.pid());
        }
    }

    fn passes_through(&self) -> bool {
        self.passthrough.load(Ordering::Relaxed)
    }
}

/// Registers the host file with the kernel once, and finds the registration later.
fn register(
    backing: &Backing,
    open: impl FnOnce(&std::fs::File) -> io::Result<BackingId>,
) -> io::Result<&BackingId> {
    if backing.transport.get().is_none() {
        // Of two threads that get here at once, one's registration is dropped again.
        let _ = backing.transport.set(Box::new(open(&backing.file)?));
    }
    let registered = backing.transport.get().and_then(|kept| kept.downcast_ref());
    registered.ok_or_else(|| io::Error::from_raw_os_error(libc::EIO))
}

/// Lets the kernel ask for an inode's attributes again.
fn mode_changed(notifier: &OnceLock<Notifier>, ino: Ino) {
    if let Some(notifier) = notifier.get() {
        // An inode that the kernel has forgotten needs none.
        let _ = notifier.inval_inode(INodeNo(ino.0), -1, 0);
    }
}

fn open(
    union: &Union,
    notifier: &OnceLock<Notifier>,
    ino: Ino,
    flags: i32,
    access: Access,
    reply: ReplyOpen,
) {
    let opened = match union.open(ino, flags, access) {
        Ok(opened) => opened,
        Err(error) => return reply.error(refusal(error)),
    };
    if opened.mode_changed {
        mode_changed(notifier, ino);
    }
    let handle = FileHandle(opened.handle);
    if let Some(backing) = &opened.backing {
        if let Ok(id) = register(backing, |file| reply.open_backing(file)) {
            return reply.opened_passthrough(handle, flush_flag(&opened), id);
        }
        union.passthrough_refused(opened.handle);
    }
    let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH;
    reply.opened(handle, flags);
}

fn flush_flag(opened: &Opened) -> FopenFlags {
    match opened.wants_flush {
        true => FopenFlags::empty(),
        false => FopenFlags::FOPEN_NOFLUSH,
    }
}

fn ino(number: INodeNo) -> Ino {
    Ino(number.0)
}

fn caller(request: &Request) -> Caller {
    Caller {
        uid: request.uid(),
        gid: request.gid(),
    }
}

fn refusal(error: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(error.0)
}

fn time(time: Timespec) -> SystemTime {
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    let secs = Duration::from_secs(time.secs.unsigned_abs());
    match time.secs < 0 {
        true => SystemTime::UNIX_EPOCH - secs + nanos,
        false => SystemTime::UNIX_EPOCH + secs + nanos,
    }
}

fn timespec(time: SystemTime) -> Timespec {
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

fn set_time(set: TimeOrNow) -> SetTime {
    match set {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::To(timespec(time)),
    }
}

fn file_type(kind: Kind) -> FileType {
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

fn kind(mode: u32) -> Option<Kind> {
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
fn encode_device(device: u64) -> u32 {
    let (major, minor) = (libc::major(device), libc::minor(device));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

fn decode_device(device: u32) -> u64 {
    libc::makedev(
        (device >> 8) & 0xfff,
        (device & 0xff) | ((device >> 12) & 0xfff00),
    )
}

fn file_attr(attr: &Attr, ino: Ino) -> FileAttr {
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
        uid: attr.uid,
        gid: attr.gid,
        rdev: encode_device(attr.rdev),
        blksize: 4096,
        flags: 0,
    }
}

/// Attributes are asked for again each time when the node goes by another number than `stat(2)` shows, since an entry
/// can only name one.
fn attr_ttl(entry: &Entry) -> Duration {
    match entry.attr.ino == entry.ino {
        true => EVER,
        false => Duration::ZERO,
    }
}

fn reply_entry(reply: ReplyEntry, result: Result<Entry, Errno>) {
    match result {
        Ok(entry) => {
            let attr = file_attr(&entry.attr, entry.ino);
            reply.entry_with_ttls(&attr_ttl(&entry), &EVER, &attr, Generation(0));
        }
        Err(error) => reply.error(refusal(error)),
    }
}

fn reply_empty(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(refusal(error)),
    }
}

fn reply_attr(reply: ReplyAttr, asked: Ino, result: Result<Attr, Errno>) {
    match result {
        Ok(attr) => {
            let ttl = if attr.ino == asked {
                EVER
            } else {
                Duration::ZERO
            };
            reply.attr(&ttl, &file_attr(&attr, attr.ino));
        }
        Err(error) => reply.error(refusal(error)),
    }
}

fn reply_bytes(reply: ReplyXattr, size: u32, result: Result<Vec<u8>, Errno>) {
    match result {
        Ok(bytes) if size == 0 => reply.size(bytes.len() as u32),
        Ok(bytes) if bytes.len() > size as usize => reply.error(refusal(Errno::ERANGE)),
        Ok(bytes) => reply.data(&bytes),
        Err(error) => reply.error(refusal(error)),
    }
}

impl Filesystem for Adaptor {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for wanted in [
            InitFlags::FUSE_POSIX_ACL,
            InitFlags::FUSE_DONT_MASK,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
        ] {
            // An older kernel has less; everything works without.
            let _ = config.add_capabilities(wanted);
        }
        let killpriv = config.add_capabilities(InitFlags::FUSE_HANDLE_KILLPRIV_V2);
        self.kills_privileges = killpriv.is_ok();
        let alone = config.add_capabilities(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
        self.opens_directories = alone.is_err();
        if config.set_max_stack_depth(1).is_ok()
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
        {
            self.passthrough.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.follow(request);
        match self.union.lookup(ino(parent), name.as_bytes()) {
            Err(Errno::ENOENT) => reply.entry(&EVER, &missing(), Generation(0)),
            result => reply_entry(reply, result),
        }
    }

    fn forget(&self, _: &Request, number: INodeNo, count: u64) {
        self.union.forget(ino(number), count);
    }

    fn getattr(&self, request: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.follow(request);
        reply_attr(reply, ino(number), self.union.getattr(ino(number)));
    }

    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.follow(request);
        let (atime, mtime) = (atime.map(set_time), mtime.map(set_time));
        let set = SetAttr {
            mode,
            uid,
            gid,
            size,
            atime,
            mtime,
            kills_privileges: !self.keeps_privileges(request),
        };
        if size.is_some_and(|size| size > 0) && self.union.copies_much(ino(number)) {
            self.in_a_worker(move |union| {
                reply_attr(reply, ino(number), union.setattr(ino(number), &set));
            });
        } else {
            reply_attr(reply, ino(number), self.union.setattr(ino(number), &set));
        }
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        match self.union.readlink(ino(number)) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(refusal(error)),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        self.follow(request);
        let made = kind(mode).ok_or(Errno::EINVAL).and_then(|kind| {
            let rdev = decode_device(rdev);
            let name = name.as_bytes();
            self.union.mknod(
                caller(request),
                ino(parent),
                name,
                kind,
                NewMode {
                    bits: mode & 0o7777,
                    umask,
                },
                rdev,
            )
        });
        reply_entry(reply, made);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        self.follow(request);
        let name = name.as_bytes();
        reply_entry(
            reply,
            self.union.mkdir(
                caller(request),
                ino(parent),
                name,
                NewMode {
                    bits: mode & 0o7777,
                    umask,
                },
            ),
        );
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.follow(request);
        reply_empty(reply, self.union.unlink(ino(parent), name.as_bytes()));
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.follow(request);
        reply_empty(reply, self.union.rmdir(ino(parent), name.as_bytes()));
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        self.follow(request);
        let target = target.as_os_str().as_bytes();
        let name = name.as_bytes();
        reply_entry(
            reply,
            self.union
                .symlink(caller(request), ino(parent), name, target),
        );
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.follow(request);
        let from = (ino(parent), name.as_bytes());
        let to = (ino(new_parent), new_name.as_bytes());
        reply_empty(reply, self.union.rename(from, to, flags.bits()));
    }

    fn link(
        &self,
        request: &Request,
        number: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        self.follow(request);
        let name = new_name.as_bytes();
        reply_entry(reply, self.union.link(ino(number), ino(new_parent), name));
    }

    fn open(&self, request: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.follow(request);
        let access = Access {
            passthrough: self.passes_through(),
            keeps_privileges: self.keeps_privileges(request),
        };
        let writes = flags.0 & libc::O_ACCMODE != libc::O_RDONLY;
        if writes && flags.0 & libc::O_TRUNC == 0 && self.union.copies_much(ino(number)) {
            let notifier = self.notifier.clone();
            self.in_a_worker(move |union| {
                open(union, &notifier, ino(number), flags.0, access, reply);
            });
        } else {
            open(
                &self.union,
                &self.notifier,
                ino(number),
                flags.0,
                access,
                reply,
            );
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        self.follow(request);
        let (caller, name) = (caller(request), name.as_bytes());
        let through = self.passes_through();
        let made = self.union.create(
            caller,
            ino(parent),
            name,
            NewMode {
                bits: mode & 0o7777,
                umask,
            },
            through,
        );
        let (entry, opened) = match made {
            Ok(made) => made,
            Err(error) => return reply.error(refusal(error)),
        };
        let attr = file_attr(&entry.attr, entry.ino);
        let handle = FileHandle(opened.handle);
        let generation = Generation(0);
        if let Some(backing) = &opened.backing {
            if let Ok(id) = register(backing, |file| reply.open_backing(file)) {
                let flags = flush_flag(&opened);
                return reply.created_passthrough(&EVER, &attr, generation, handle, flags, id);
            }
            self.union.passthrough_refused(opened.handle);
        }
        reply.created(
            &EVER,
            &attr,
            generation,
            handle,
            FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH,
        );
    }

    fn read(
        &self,
        request: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.follow(request);
        let mut buffer = vec![0; size as usize];
        let read = match self.union.read(handle.0, &mut buffer, offset, Wait::No) {
            Err(Errno::EAGAIN) if buffer.len() <= READ_AT_ONCE && self.nobody_else_asks() => {
                self.union.read(handle.0, &mut buffer, offset, Wait::Yes)
            }
            Err(Errno::EAGAIN) => {
                return self.in_a_worker(move |union| {
                    match union.read(handle.0, &mut buffer, offset, Wait::Yes) {
                        Ok(length) => reply.data(&buffer[..length]),
                        Err(error) => reply.error(refusal(error)),
                    }
                });
            }
            read => read,
        };
        match read {
            Ok(length) => reply.data(&buffer[..length]),
            Err(error) => reply.error(refusal(error)),
        }
    }

    fn write(
        &self,
        request: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.follow(request);
        let written = self.union.write(handle.0, data, offset);
        if flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
            self.kill_privileges(ino(number));
        }
        match written {
            Ok(length) => reply.written(length as u32),
            Err(error) => reply.error(refusal(error)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, handle: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        let flushed = self.union.flush(handle.0);
        if let Ok(Some(changed)) = flushed {
            mode_changed(&self.notifier, changed);
        }
        reply_empty(reply, flushed.map(drop));
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
        if let Some(changed) = self.union.release(handle.0) {
            mode_changed(&self.notifier, changed);
        }
    }

    fn fsync(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        data_only: bool,
        reply: ReplyEmpty,
    ) {
        self.in_a_worker(move |union| reply_empty(reply, union.fsync(handle.0, data_only)));
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.opens_directories {
            // The kernel stops asking, keeps what it has read, and opens directories by itself.
            false => reply.error(refusal(Errno::ENOSYS)),
            true => reply.opened(
                FileHandle(0),
                FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE,
            ),
        }
    }

    fn readdir(
        &self,
        request: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.follow(request);
        let read = self
            .union
            .read_directory(ino(number), offset, Detail::Names, |listed| {
                let name = OsStr::from_bytes(listed.name);
                !reply.add(
                    INodeNo(listed.ino.0),
                    listed.next,
                    file_type(listed.kind),
                    name,
                )
            });
        match read {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(refusal(error)),
        }
    }

    fn readdirplus(
        &self,
        request: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.follow(request);
        let read = self
            .union
            .read_directory(ino(number), offset, Detail::Entries, |listed| {
                let (attr, ttl) = match &listed.entry {
                    Some(entry) => (file_attr(&entry.attr, entry.ino), attr_ttl(entry)),
                    // Of `.` and `..`, and of a name that is gone, only the number and the kind are looked at.
                    None => (nothing_but(listed), Duration::ZERO),
                };
                let name = OsStr::from_bytes(listed.name);
                !reply.add(attr.ino, listed.next, name, &ttl, &attr, Generation(0))
            });
        match read {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(refusal(error)),
        }
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.in_a_worker(move |union| reply_empty(reply, union.fsyncdir(ino(number))));
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match self.union.statfs() {
            Ok(Some(stat)) => reply.statfs(
                stat.f_blocks,
                stat.f_bfree,
                stat.f_bavail,
                stat.f_files,
                stat.f_ffree,
                stat.f_bsize as u32,
                255,
                stat.f_frsize as u32,
            ),
            Ok(None) => {
                let nodes = u64::from(self.union.stack().node_count());
                reply.statfs(0, 0, 0, nodes, 0, 4096, 255, 4096);
            }
            Err(error) => reply.error(refusal(error)),
        }
    }

    fn setxattr(
        &self,
        _: &Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let flag = match flags {
            libc::XATTR_CREATE => XattrFlag::Create,
            libc::XATTR_REPLACE => XattrFlag::Replace,
            _ => XattrFlag::Any,
        };
        reply_empty(
            reply,
            self.union
                .setxattr(ino(number), name.as_bytes(), value, flag),
        );
    }

    fn getxattr(
        &self,
        request: &Request,
        number: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        self.follow(request);
        reply_bytes(
            reply,
            size,
            self.union.getxattr(ino(number), name.as_bytes()),
        );
    }

    fn listxattr(&self, _: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        let names = self.union.listxattr(ino(number)).map(|names| {
            names
                .into_iter()
                .flat_map(|name| name.into_iter().chain([0]))
                .collect()
        });
        reply_bytes(reply, size, names);
    }

    fn removexattr(&self, _: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(reply, self.union.removexattr(ino(number), name.as_bytes()));
    }

    fn fallocate(
        &self,
        request: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if !self.keeps_privileges(request) {
            self.kill_privileges(ino(number));
        }
        self.in_a_worker(move |union| {
            reply_empty(
                reply,
                union.fallocate(handle.0, mode as u32, offset, length),
            );
        });
    }

    fn lseek(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let Ok(offset) = u64::try_from(offset) else {
            return reply.error(refusal(Errno::ENXIO));
        };
        match self.union.lseek(handle.0, offset, whence) {
            Ok(found) => reply.offset(found as i64),
            Err(error) => reply.error(refusal(error)),
        }
    }

    fn copy_file_range(
        &self,
        request: &Request,
        _: INodeNo,
        from: FileHandle,
        from_offset: u64,
        target: INodeNo,
        to: FileHandle,
        to_offset: u64,
        length: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        if !self.keeps_privileges(request) {
            self.kill_privileges(ino(target));
        }
        self.in_a_worker(move |union| {
            match union.copy_file_range((from.0, from_offset), (to.0, to_offset), length) {
                Ok(copied) => reply.written(copied as u32),
                Err(error) => reply.error(refusal(error)),
            }
        });
    }
}

/// The number and the kind of a name, for what is not looked up.
fn nothing_but(listed: &Listed<'_>) -> FileAttr {
    FileAttr {
        ino: INodeNo(listed.ino.0),
        kind: file_type(listed.kind),
        ..missing()
    }
}

/// A negative entry: inode 0 says that the name is missing, and may be remembered.
fn missing() -> FileAttr {
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
