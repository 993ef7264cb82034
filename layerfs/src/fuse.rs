//! The FUSE adaptor: translates the kernel's requests to the union and its answers back, and nothing else.
//!
//! The mount is the only writer, so names (missing ones too) and attributes stay valid until a request changes them.

mod filesystem;

use std::io;
use std::path::Path;
use std::sync::Arc;

use fuser::Config;
use fuser::MountOption;
use fuser::SessionACL;

use self::filesystem::Adaptor;
use crate::union::Union;

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// What the mount table shows as the source.
    pub source: String,
    /// How many threads answer requests.
    pub threads: usize,
}

impl Default for MountOptions {
    fn default() -> MountOptions {
        MountOptions {
            source: "ply".to_owned(),
            threads: 2,
        }
    }
}

/// A mounted union that nobody serves yet: accesses wait. Dropping it unmounts.
#[derive(Debug)]
pub struct Mounted {
    session: fuser::Session<Adaptor>,
}

/// A mounted union served by threads of this process. Dropping it unmounts.
#[derive(Debug)]
pub struct Serving {
    session: Option<fuser::BackgroundSession>,
}

/// Mounts `union` on `mountpoint`; starts no thread.
pub fn mount(union: Arc<Union>, mountpoint: &Path, options: &MountOptions) -> io::Result<Mounted> {
    let mut config = Config::default();
    let write = match union.is_read_only() {
        true => MountOption::RO,
        false => MountOption::RW,
    };
    config.mount_options = vec![
        MountOption::FSName(options.source.clone()),
        MountOption::Subtype("ply".to_owned()),
        MountOption::DefaultPermissions,
        MountOption::Dev,
        MountOption::Suid,
        write,
    ];
    config.acl = SessionACL::All;
    config.n_threads = Some(options.threads.max(1));
    let session = fuser::Session::new(Adaptor::new(union), mountpoint, &config)?;
    Ok(Mounted { session })
}

impl Mounted {
    /// Answers requests until the union is unmounted.
    pub fn run(self) -> io::Result<()> {
        self.session.run()
    }

    /// Answers requests in threads of their own.
    pub fn spawn(self) -> io::Result<Serving> {
        Ok(Serving {
            session: Some(self.session.spawn()?),
        })
    }
}

impl Serving {
    /// Unmounts and waits for the last request.
    pub fn unmount(mut self) -> io::Result<()> {
        match self.session.take() {
            Some(session) => session.umount_and_join(),
            None => Ok(()),
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let _ = session.umount_and_join();
        }
    }
}
