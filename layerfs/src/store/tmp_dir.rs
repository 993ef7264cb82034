//! Private directories for what is being made, collected when their maker is dead.

use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::fcntl::FlockArg;

use super::Store;
use super::StoreError;
use super::at;
use super::remove_tree;

/// A directory in `tmp/` that lives as long as this value; its lock tells others that its maker lives.
#[derive(Debug)]
pub struct TmpDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl TmpDir {
    pub(super) fn new(store: &Store) -> Result<TmpDir, StoreError> {
        // Shared with other makers, exclusive for sweepers: none meets a directory that has no lock yet.
        let _making = store.lock("tmp", FlockArg::LockShared)?;
        let path = store
            .root()
            .join("tmp")
            .join(format!("{:016x}", rand::random::<u64>()));
        fs::create_dir(&path).map_err(at(&path))?;
        let lock_path = path.join("lock");
        let file = File::create(&lock_path).map_err(at(&lock_path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| at(&lock_path)(errno.into()))?;
        Ok(TmpDir { path, _lock: lock })
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TmpDir {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.path) {
            log::warn!("{}: {error}", self.path.display());
        }
    }
}

/// Removes the directories whose makers are dead; does nothing while somebody is just making one.
pub(super) fn sweep(store: &Store) -> Result<(), StoreError> {
    let tmp = store.root().join("tmp");
    let mut entries = fs::read_dir(&tmp).map_err(at(&tmp))?.peekable();
    if entries.peek().is_none() {
        return Ok(());
    }
    let path = store.root().join("locks").join("tmp");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(at(&path))?;
    let Ok(_alone) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry.map_err(at(&tmp))?.path();
        if is_dead(&path)
            && let Err(error) = remove_tree(&path)
        {
            log::warn!("{}: {error}", path.display());
        }
    }
    Ok(())
}

fn is_dead(directory: &Path) -> bool {
    match File::open(directory.join("lock")) {
        Ok(file) => match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(_) => true,
            Err((_, errno)) => errno != Errno::EWOULDBLOCK,
        },
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}
