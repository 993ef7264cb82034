//! The FUSE adaptor: translates the kernel's requests to the union and its answers back, and nothing else.
//!
//! The mount is the only writer, so names (missing ones too) and attributes stay valid until a request changes them.

mod filesystem;
mod mount_point;
mod owners;
mod placement;
mod translation;
mod workers;

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;

use fuser::Config;
use fuser::SessionACL;
use rustix::mount::UnmountFlags;

use self::filesystem::Adaptor;
use self::mount_point::MountPoint;
pub use self::owners::IdMap;
pub use self::owners::IdRange;
pub use self::owners::Owners;
use crate::union::Union;

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// What the mount table shows as the source.
    pub source: String,
    /// How many threads answer requests, beside those that wait for disks. One follows its clients from CPU to CPU;
    /// more only serve several clients better on a machine with many.
    pub threads: usize,
    /// What the mount table shows as the filesystem's kind, after `fuse.`.
    pub subtype: &'static str,
    /// Whether set-user-ID bits have an effect: only where nobody else than a container sees the mount.
    pub setuid: bool,
    /// Whether device nodes have an effect.
    pub devices: bool,
    /// Whether nothing can be executed.
    pub noexec: bool,
    /// Whether nothing can be changed by this mount.
    pub read_only: bool,
    /// Whether data that a program asks to be written to the disk are; a crash of the host may cost them otherwise.
    pub durable: bool,
    /// Whether there are access control lists (`acl(5)`).
    pub acl: bool,
    /// How owners are shown.
    pub owners: Owners,
    /// A label for all files (SELinux, "context").
    pub context: Option<String>,
}

impl Default for MountOptions {
    fn default() -> MountOptions {
        MountOptions {
            source: "ply".to_owned(),
            threads: 1,
            subtype: "ply",
            setuid: false,
            devices: false,
            noexec: false,
            read_only: false,
            durable: true,
            acl: true,
            owners: Owners::default(),
            context: None,
        }
    }
}

/// A mounted union that nobody serves yet: accesses wait.
#[derive(Debug)]
pub struct Mounted {
    session: fuser::Session<Adaptor>,
    mount: MountPoint,
}

/// A mounted union served by threads of this process. Dropping it unmounts.
#[derive(Debug)]
pub struct Serving {
    session: Option<fuser::BackgroundSession>,
    mount: MountPoint,
}

/// Mounts `union` on `mountpoint`; starts no thread.
pub fn mount(union: Arc<Union>, mountpoint: &Path, options: &MountOptions) -> io::Result<Mounted> {
    crate::sys::memory::return_large_blocks();
    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(options.threads.max(1));
    let device = File::options().read(true).write(true).open("/dev/fuse")?;
    let mount = MountPoint::attach(&device, mountpoint, options, union.is_read_only())?;
    let alone = match options.threads {
        0 | 1 => Some(device.try_clone()?.into()),
        _ => None,
    };
    let notifier = Arc::new(OnceLock::new());
    let adaptor = Adaptor::new(union, alone, notifier.clone(), options);
    let session = fuser::Session::from_fd(adaptor, device.into(), SessionACL::All, config);
    match session {
        Ok(session) => {
            let _ = notifier.set(session.notifier());
            Ok(Mounted { session, mount })
        }
        Err(error) => {
            let _ = mount.detach(UnmountFlags::DETACH);
            Err(error)
        }
    }
}

/// Returns the id of the mount that an open descriptor is in (`proc(5)`, "fdinfo").
pub fn mount_id(fd: BorrowedFd<'_>) -> io::Result<u64> {
    mount_point::mount_id(fd)
}

/// Returns whether the mount with this id is the uppermost on the directory; asks nothing of its server.
pub fn is_mounted(path: &Path, id: u64) -> io::Result<bool> {
    let path = path.to_owned();
    MountPoint { path, id }.is_there()
}

/// Takes the mount with this id off the directory, whether its server lives or not; another one stays.
pub fn unmount(path: &Path, id: u64) -> io::Result<()> {
    let path = path.to_owned();
    MountPoint { path, id }.detach(UnmountFlags::DETACH)
}

impl Mounted {
    /// Returns the mount's id.
    pub fn id(&self) -> u64 {
        self.mount.id
    }

    /// Answers requests until the union is unmounted.
    pub fn run(self) -> io::Result<()> {
        self.session.run()
    }

    /// Answers requests in threads of their own.
    pub fn spawn(self) -> io::Result<Serving> {
        Ok(Serving {
            session: Some(self.session.spawn()?),
            mount: self.mount,
        })
    }
}

impl Serving {
    /// Unmounts and waits for the last request; refused while something is open.
    pub fn unmount(mut self) -> io::Result<()> {
        let session = self.session.take();
        let unmounted = self.mount.detach(UnmountFlags::empty());
        match (session, &unmounted) {
            (Some(session), Ok(())) => session.join(),
            _ => unmounted,
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && self.mount.detach(UnmountFlags::empty()).is_ok()
        {
            let _ = session.join();
        } else {
            // Something is open: it goes on for as long as that lives.
            let _ = self.mount.detach(UnmountFlags::DETACH);
        }
    }
}
