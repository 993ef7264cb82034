//! Volumes on the disk.
//!
//! ```text
//! volumes/<name>/_data    what containers see
//! volumes/<name>/new      content of an image on its way in: litter unless its maker holds the volume's lock
//! volumes/<name>/ready    content that is whole and is being moved to `_data`, by whoever comes first
//! volumes/.removing-<x>   a volume that has gone from the database
//! ```

use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

use nix::fcntl::Flock;
use nix::fcntl::FlockArg;

use super::VolumeError;
use super::rows;
use crate::Engine;

/// What a volume that is being removed is called, so that none can have that name.
const REMOVING: &str = ".removing-";

/// Returns where a volume's files are, or would be if its options name no other place.
pub(crate) fn data_path(root: &Path, name: &str) -> PathBuf {
    root.join("volumes").join(name).join("_data")
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

impl Engine {
    fn volumes_dir(&self) -> PathBuf {
        self.root().join("volumes")
    }

    pub(super) fn volume_dir(&self, name: &str) -> PathBuf {
        self.volumes_dir().join(name)
    }

    /// Keeps others from adding and removing volumes.
    pub(crate) fn lock_volumes(&self) -> Result<Flock<File>, VolumeError> {
        lock(layerfs::store::open_lock(&self.root().join("volumes.lock")))
            .map_err(VolumeError::io(self.root().join("volumes.lock")))
    }

    /// Keeps others from putting a volume's first content in.
    pub(super) fn lock_volume(&self, name: &str) -> Result<Flock<File>, VolumeError> {
        let path = self.volume_dir(name);
        lock(File::open(&path)).map_err(VolumeError::io(path))
    }

    /// Makes the directory of a volume that has a row, if it is not there.
    pub(crate) fn make_volume_directory(&self, name: &str) -> Result<(), VolumeError> {
        let directory = self.volume_dir(name);
        make(&self.volumes_dir(), 0o711)
            .and_then(|()| make(&directory, 0o711))
            .and_then(|()| make(&directory.join("_data"), 0o755))
            .map_err(VolumeError::io(directory))
    }

    /// Removes a volume unless a container has it; returns whether it was there to be removed.
    pub(super) fn take_volume_away(&self, name: &str) -> Result<bool, VolumeError> {
        let trash = {
            let _alone = self.lock_volumes()?;
            if !rows::delete_unused(&self.db(), name)? {
                return Ok(false);
            }
            self.put_aside(name)?
        };
        self.emit_volume("destroy", name, &[]);
        if let Some(trash) = trash {
            crate::container::remove_tree(&trash).map_err(VolumeError::io(&trash))?;
        }
        Ok(true)
    }

    /// Renames a directory that is no volume any more; returns to what.
    fn put_aside(&self, name: &str) -> Result<Option<PathBuf>, VolumeError> {
        let directory = self.volume_dir(name);
        let random: u64 = rand::random();
        let trash = self.volumes_dir().join(format!("{REMOVING}{random:016x}"));
        match fs::rename(&directory, &trash) {
            Ok(()) => Ok(Some(trash)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(VolumeError::io(directory)(error)),
        }
    }

    /// Takes away what removals that were killed have left: doomed volumes, directories without a row, half-removed
    /// ones.
    pub(crate) fn sweep_volumes(&self) -> Result<(), VolumeError> {
        self.sweep_doomed_volumes()?;
        let mut strays = Vec::new();
        for entry in fs::read_dir(self.volumes_dir())
            .into_iter()
            .flatten()
            .flatten()
        {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with(REMOVING) {
                let _ = crate::container::remove_tree(&entry.path());
            } else if !rows::exists(&self.db(), &name)? {
                strays.push(name);
            }
        }
        if strays.is_empty() {
            return Ok(());
        }
        let mut trash = Vec::new();
        {
            let _alone = self.lock_volumes()?;
            for name in strays {
                if !rows::exists(&self.db(), &name)? {
                    trash.extend(self.put_aside(&name)?);
                }
            }
        }
        for path in trash {
            crate::container::remove_tree(&path).map_err(VolumeError::io(path))?;
        }
        Ok(())
    }

    /// Removes the anonymous volumes of containers that were removed with them.
    pub(crate) fn sweep_doomed_volumes(&self) -> Result<(), VolumeError> {
        let doomed = rows::doomed(&self.db())?;
        for name in doomed {
            self.take_volume_away(&name)?;
        }
        Ok(())
    }
}

fn lock(opened: io::Result<File>) -> io::Result<Flock<File>> {
    Flock::lock(opened?, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}
