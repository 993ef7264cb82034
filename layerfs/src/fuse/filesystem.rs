//! The requests, one function each.

use std::borrow::Cow;
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
use fuser::FileHandle;
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

use super::MountOptions;
use super::owners::Owners;
use super::placement::Placement;
use super::translation::EVER;
use super::translation::attr_ttl;
use super::translation::decode_device;
use super::translation::file_attr;
use super::translation::file_type;
use super::translation::ino;
use super::translation::is_acl;
use super::translation::kind;
use super::translation::missing;
use super::translation::nothing_but;
use super::translation::refusal;
use super::translation::reply_attr;
use super::translation::reply_bytes;
use super::translation::reply_empty;
use super::translation::reply_entry;
use super::translation::set_time;
use super::workers::Workers;
use crate::errno::Errno;
use crate::stack::Wait;
use crate::union::Access;
use crate::union::Backing;
use crate::union::Caller;
use crate::union::Detail;
use crate::union::Ino;
use crate::union::NewMode;
use crate::union::Opened;
use crate::union::SetAttr;
use crate::union::Union;
use crate::union::WeakWriter;
use crate::union::XattrFlag;

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
    owners: Arc<Owners>,
    durable: bool,
    acl: bool,
}

impl Adaptor {
    /// Translates for `union`; requests come by `device`, to one thread, if that is given.
    pub(super) fn new(
        union: Arc<Union>,
        device: Option<OwnedFd>,
        notifier: Arc<OnceLock<Notifier>>,
        options: &MountOptions,
    ) -> Adaptor {
        Adaptor {
            union,
            passthrough: AtomicBool::new(false),
            opens_directories: true,
            workers: Workers::new(),
            kills_privileges: false,
            notifier,
            placement: device.map(Placement::new),
            owners: Arc::new(options.owners.clone()),
            durable: options.durable,
            acl: options.acl,
        }
    }

    /// Does what may wait for a disk, so that other requests are answered meanwhile.
    fn in_a_worker(&self, act: impl FnOnce(&Union) + Send + 'static) {
        let union = self.union.clone();
        self.workers.run(move || act(&union));
    }

    /// Returns the caller if its changes of data take the bits of `chmod(2)` away that give another identity: not if the
    /// kernel sees to it, or it is the superuser.
    fn weak(&self, request: &Request) -> Option<WeakWriter> {
        (self.kills_privileges && request.uid() != 0).then(|| writer(&self.owners, request))
    }

    fn access(&self, request: &Request) -> Access {
        Access {
            passthrough: self.passes_through(),
            weak: self.weak(request),
        }
    }

    /// Returns the value that a file gets for an attribute that is set.
    fn attribute_to_store<'v>(
        &self,
        name: &OsStr,
        value: &'v [u8],
    ) -> Result<Cow<'v, [u8]>, Errno> {
        match is_acl(name) {
            true if !self.acl => Err(Errno::EOPNOTSUPP),
            true if !self.owners.are_same() => {
                let stored = self.owners.acl_stored(value).ok_or(Errno::EINVAL)?;
                Ok(Cow::Owned(stored))
            }
            _ => Ok(Cow::Borrowed(value)),
        }
    }

    fn kill_privileges(&self, ino: Ino, writer: WeakWriter) {
        if let Ok(true) = self.union.kill_privileges(ino, writer) {
            mode_changed(&self.notifier, ino);
        }
    }

    fn nobody_else_asks(&self) -> bool {
        let placement = self.placement.as_ref();
        placement.is_some_and(|placement| !placement.requests_wait())
    }

    /// Returns the owner of what the request makes.
    fn caller(&self, request: &Request) -> Result<Caller, Errno> {
        let users = self.owners.users.stored(request.uid());
        let groups = self.owners.groups.stored(request.gid());
        Ok(Caller {
            uid: users.ok_or(Errno::EOVERFLOW)?,
            gid: groups.ok_or(Errno::EOVERFLOW)?,
        })
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

/// Returns the caller as one whose changes of data take bits of `chmod(2)` away. Where owners are mapped, its further
/// groups are no file's: the bits go rather than stay.
fn writer(owners: &Owners, request: &Request) -> WeakWriter {
    let gid = request.gid();
    WeakWriter {
        gid: owners.groups.stored(gid).unwrap_or(gid),
        pid: request.pid(),
    }
}

fn flush_flag(opened: &Opened) -> FopenFlags {
    match opened.wants_flush {
        true => FopenFlags::empty(),
        false => FopenFlags::FOPEN_NOFLUSH,
    }
}

impl Filesystem for Adaptor {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        if self.acl {
            let _ = config.add_capabilities(InitFlags::FUSE_POSIX_ACL);
        }
        for wanted in [
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
            result => reply_entry(&self.owners, reply, result),
        }
    }

    fn forget(&self, _: &Request, number: INodeNo, count: u64) {
        self.union.forget(ino(number), count);
    }

    fn getattr(&self, request: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.follow(request);
        reply_attr(
            &self.owners,
            reply,
            ino(number),
            self.union.getattr(ino(number)),
        );
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
        let uid = uid.map(|uid| self.owners.users.stored(uid).ok_or(Errno::EINVAL));
        let gid = gid.map(|gid| self.owners.groups.stored(gid).ok_or(Errno::EINVAL));
        let (uid, gid) = match (uid.transpose(), gid.transpose()) {
            (Ok(uid), Ok(gid)) => (uid, gid),
            (Err(error), _) | (_, Err(error)) => return reply.error(refusal(error)),
        };
        let set = SetAttr {
            mode,
            uid,
            gid,
            size,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
            weak: self.weak(request),
        };
        let ino = ino(number);
        let takes_long = size.is_some_and(|size| size > 0) && self.union.copies_much(ino);
        if takes_long || self.union.copies_much_at_any_change(ino) {
            let owners = self.owners.clone();
            self.in_a_worker(move |union| {
                reply_attr(&owners, reply, ino, union.setattr(ino, &set));
            });
        } else {
            reply_attr(&self.owners, reply, ino, self.union.setattr(ino, &set));
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
                self.caller(request)?,
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
        reply_entry(&self.owners, reply, made);
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
        let bits = mode & 0o7777;
        let made = self.caller(request).and_then(|caller| {
            let (name, mode) = (name.as_bytes(), NewMode { bits, umask });
            self.union.mkdir(caller, ino(parent), name, mode)
        });
        reply_entry(&self.owners, reply, made);
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
        let made = self.caller(request).and_then(|caller| {
            let name = name.as_bytes();
            self.union.symlink(caller, ino(parent), name, target)
        });
        reply_entry(&self.owners, reply, made);
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
        if !self.union.copies_much_to_rename(from.0, from.1) {
            return reply_empty(reply, self.union.rename(from, to, flags.bits()));
        }
        let (name, new_name) = (name.to_owned(), new_name.to_owned());
        self.in_a_worker(move |union| {
            let from = (ino(parent), name.as_bytes());
            let to = (ino(new_parent), new_name.as_bytes());
            reply_empty(reply, union.rename(from, to, flags.bits()));
        });
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
        let (ino, parent) = (ino(number), ino(new_parent));
        if !self.union.copies_much_at_any_change(ino) {
            let linked = self.union.link(ino, parent, new_name.as_bytes());
            return reply_entry(&self.owners, reply, linked);
        }
        let (name, owners) = (new_name.to_owned(), self.owners.clone());
        self.in_a_worker(move |union| {
            reply_entry(&owners, reply, union.link(ino, parent, name.as_bytes()));
        });
    }

    fn open(&self, request: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.follow(request);
        let access = self.access(request);
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
        let bits = mode & 0o7777;
        let access = self.access(request);
        let made = self.caller(request).and_then(|caller| {
            let (name, mode) = (name.as_bytes(), NewMode { bits, umask });
            self.union.create(caller, ino(parent), name, mode, access)
        });
        let (entry, opened) = match made {
            Ok(made) => made,
            Err(error) => return reply.error(refusal(error)),
        };
        let attr = file_attr(&self.owners, &entry.attr, entry.ino);
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
            self.kill_privileges(ino(number), writer(&self.owners, request));
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
        if !self.durable {
            // The kernel stops asking.
            return reply.error(refusal(Errno::ENOSYS));
        }
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
                    Some(entry) => (
                        file_attr(&self.owners, &entry.attr, entry.ino),
                        attr_ttl(entry),
                    ),
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
        if !self.durable {
            return reply.error(refusal(Errno::ENOSYS));
        }
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
        let value = match self.attribute_to_store(name, value) {
            Ok(value) => value,
            Err(error) => return reply.error(refusal(error)),
        };
        let ino = ino(number);
        if !self.union.copies_much_at_any_change(ino) {
            let set = self.union.setxattr(ino, name.as_bytes(), &value, flag);
            return reply_empty(reply, set);
        }
        let (name, value) = (name.to_owned(), value.into_owned());
        self.in_a_worker(move |union| {
            reply_empty(reply, union.setxattr(ino, name.as_bytes(), &value, flag));
        });
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
        if is_acl(name) && !self.acl {
            return reply.error(refusal(Errno::EOPNOTSUPP));
        }
        let mut value = self.union.getxattr(ino(number), name.as_bytes());
        if is_acl(name) && !self.owners.are_same() {
            value = value.map(|acl| self.owners.acl_shown(&acl));
        }
        reply_bytes(reply, size, value);
    }

    fn listxattr(&self, _: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        let names = self.union.listxattr(ino(number)).map(|names| {
            names
                .into_iter()
                .filter(|name| self.acl || !is_acl(OsStr::from_bytes(name)))
                .flat_map(|name| name.into_iter().chain([0]))
                .collect()
        });
        reply_bytes(reply, size, names);
    }

    fn removexattr(&self, _: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if is_acl(name) && !self.acl {
            return reply.error(refusal(Errno::EOPNOTSUPP));
        }
        let ino = ino(number);
        if !self.union.copies_much_at_any_change(ino) {
            return reply_empty(reply, self.union.removexattr(ino, name.as_bytes()));
        }
        let name = name.to_owned();
        self.in_a_worker(move |union| {
            reply_empty(reply, union.removexattr(ino, name.as_bytes()));
        });
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
        if let Some(writer) = self.weak(request) {
            self.kill_privileges(ino(number), writer);
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
        if let Some(writer) = self.weak(request) {
            self.kill_privileges(ino(target), writer);
        }
        self.in_a_worker(move |union| {
            match union.copy_file_range((from.0, from_offset), (to.0, to_offset), length) {
                Ok(copied) => reply.written(copied as u32),
                Err(error) => reply.error(refusal(error)),
            }
        });
    }
}
