//! Mounting an image to browse it.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use layerfs::Union;
use layerfs::fuse;
use layerfs::fuse::MountOptions;
use layerfs::fuse::Mounted;

use crate::Engine;
use crate::image::ImageError;

/// What keeps an image from being mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// There is no such image, or its layers cannot be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The layers cannot be used.
    #[error(transparent)]
    Store(#[from] layerfs::StoreError),
    /// The mount point cannot be mounted on.
    #[error("cannot mount on {path}: {source}")]
    MountPoint {
        /// The mount point.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Engine {
    /// Mounts the image `name` read-only on the directory `mountpoint`; starts no thread.
    pub fn mount_image(&self, name: &str, mountpoint: &Path) -> Result<Mounted, MountError> {
        let refused = |source| MountError::MountPoint {
            path: mountpoint.to_owned(),
            source,
        };
        let image = self.image(name)?;
        if !std::fs::metadata(mountpoint).map_err(refused)?.is_dir() {
            return Err(refused(io::Error::from_raw_os_error(libc::ENOTDIR)));
        }
        let stack = self.store().stack(&image.layers)?;
        let union = Union::new(stack, None).map_err(refused)?;
        let options = MountOptions {
            source: format!("ply:{name}"),
            ..MountOptions::default()
        };
        fuse::mount(Arc::new(union), mountpoint, &options).map_err(refused)
    }
}
