//! The directories of `RUN --mount=type=cache`: what outlives builds.
//!
//! ```text
//! cache/mounts/<digest of the id>[.<n>]/data    what the commands see
//!                                      /lock    locked shared by those who may have it at once, else alone
//!                                      /id      the id, for people
//! ```
//!
//! A directory is made under a name that nobody looks for and renamed; the time of its lock file is that of its last use.

use std::collections::HashSet;
use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use layerfs::Digest;
use layerfs::store::remove_tree;
use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::fcntl::FlockArg;

use super::dockerfile::CacheSharing;

/// A directory that is kept for a command.
#[derive(Debug)]
pub(super) struct MountCache {
    /// What is to be mounted.
    pub(super) data: PathBuf,
    _lock: Flock<File>,
}

/// How a directory is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// A directory, as a prune sees it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) last_used: i64,
}

fn directory(root: &Path) -> PathBuf {
    root.join("cache/mounts")
}

/// Takes the directory of `id`, making it first if it is not there; `fill` puts into a new one what it begins with.
pub(super) fn take(
    root: &Path,
    id: &str,
    sharing: CacheSharing,
    made: Made,
    fill: &dyn Fn(&Path) -> io::Result<()>,
) -> io::Result<MountCache> {
    let hex = Digest::of(id.as_bytes()).hex();
    let mut number = 0;
    loop {
        let name = match number {
            0 => hex.clone(),
            number => format!("{hex}.{number}"),
        };
        let path = directory(root).join(&name);
        if !path.exists() {
            make(root, &path, id, made, fill)?;
        }
        let Ok(lock) = File::options().write(true).open(path.join("lock")) else {
            // A prune was faster.
            continue;
        };
        let how = match sharing {
            CacheSharing::Shared => FlockArg::LockShared,
            CacheSharing::Locked => FlockArg::LockExclusive,
            CacheSharing::Private => FlockArg::LockExclusiveNonblock,
        };
        let lock = match Flock::lock(lock, how) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => {
                number += 1;
                continue;
            }
            Err((_, errno)) => return Err(errno.into()),
        };
        let is_it = fs::metadata(path.join("lock")).is_ok_and(|there| {
            lock.metadata()
                .is_ok_and(|here| (here.dev(), here.ino()) == (there.dev(), there.ino()))
        });
        if is_it {
            let _ = lock.set_modified(std::time::SystemTime::now());
            return Ok(MountCache {
                data: path.join("data"),
                _lock: lock,
            });
        }
    }
}

fn make(
    root: &Path,
    path: &Path,
    id: &str,
    made: Made,
    fill: &dyn Fn(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let all = directory(root);
    fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(&all)?;
    let new = all.join(format!("new.{:016x}", rand::random::<u64>()));
    let fresh = || {
        fs::DirBuilder::new().mode(0o700).create(&new)?;
        let lock = File::create(new.join("lock"))?;
        // A prune leaves alone what is being made.
        let _held = Flock::lock(lock, FlockArg::LockShared).map_err(|(_, errno)| errno)?;
        fs::write(new.join("id"), id)?;
        let data = new.join("data");
        fs::create_dir(&data)?;
        fill(&data)?;
        std::os::unix::fs::chown(&data, Some(made.uid), Some(made.gid))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(made.mode);
        fs::set_permissions(&data, mode)?;
        fs::rename(&new, path)
    };
    match fresh() {
        Ok(()) => Ok(()),
        Err(error) => {
            let _ = remove_tree(&new);
            match path.exists() {
                // Somebody else has made it.
                true => Ok(()),
                false => Err(error),
            }
        }
    }
}

/// Returns all directories, those first that were used least lately; those whose maker was killed too.
pub(super) fn all(root: &Path) -> Vec<Stored> {
    let mut all: Vec<Stored> = fs::read_dir(directory(root))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let used = fs::metadata(entry.path().join("lock"));
            Some(Stored {
                name: entry.file_name().into_string().ok()?,
                size: crate::container::size_of(&entry.path(), &mut HashSet::new()),
                last_used: used.map_or(0, |used| used.mtime()),
            })
        })
        .collect();
    all.sort_by_key(|stored| stored.last_used);
    all
}

/// Removes a directory that nobody has; returns whether it is gone.
pub(super) fn remove(root: &Path, stored: &Stored) -> bool {
    let path = directory(root).join(&stored.name);
    if let Ok(file) = File::options().write(true).open(path.join("lock")) {
        let Ok(_alone) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
            return false;
        };
        let doomed = directory(root).join(format!("new.{:016x}", rand::random::<u64>()));
        return fs::rename(&path, &doomed).is_ok() && remove_tree(&doomed).is_ok();
    }
    remove_tree(&path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: Made = Made {
        mode: 0o755,
        uid: 0,
        gid: 0,
    };

    fn take_it(root: &Path, sharing: CacheSharing) -> MountCache {
        take(root, "/cache", sharing, MADE, &|_| Ok(())).expect("a directory")
    }

    #[test]
    fn a_private_directory_is_one_s_own_and_comes_back() {
        let root = tempfile::tempdir().expect("a directory");
        let first = take_it(root.path(), CacheSharing::Private);
        let second = take_it(root.path(), CacheSharing::Private);
        assert_ne!(first.data, second.data);
        let data = first.data.clone();
        drop(first);
        assert_eq!(take_it(root.path(), CacheSharing::Private).data, data);
        let shared = take_it(root.path(), CacheSharing::Shared);
        assert_eq!(shared.data, data);
        for stored in all(root.path()) {
            let is_held = data.starts_with(directory(root.path()).join(&stored.name))
                || second
                    .data
                    .starts_with(directory(root.path()).join(&stored.name));
            assert_eq!(remove(root.path(), &stored), !is_held);
        }
    }
}
