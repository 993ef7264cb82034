//! Mounting images, single layers and containers' trees on the host, to browse them.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use layerfs::DiffId;
use layerfs::Union;
use layerfs::fuse;
use layerfs::fuse::MountOptions;
use layerfs::fuse::Mounted;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::mount::MountAttrFlags;

use crate::Engine;
use crate::container::ContainerError;
use crate::container::ContainerTree;
use crate::container::StoppedTree;
use crate::image::Image;
use crate::image::ImageError;
use crate::sys;

/// What keeps an image from being mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// There is no such image, or its layers cannot be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The layers cannot be used.
    #[error(transparent)]
    Store(#[from] layerfs::StoreError),
    /// There is no such container, or its tree cannot be used.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The image has no such layer.
    #[error("image {image} has no layer {layer}: it has {count}, counted from 1")]
    NoLayer {
        /// The image.
        image: String,
        /// What was asked for.
        layer: String,
        /// How many it has.
        count: usize,
    },
    /// The mount point cannot be mounted on.
    #[error("cannot mount on {path}: {source}")]
    MountPoint {
        /// The mount point.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A container's tree, mounted.
#[derive(Debug)]
pub enum MountedContainer {
    /// It does not run: its tree is served by whoever runs this, and it cannot be started meanwhile.
    Stopped(MountedTree),
    /// It runs: its monitor serves this mount too, as long as it lives.
    Running,
}

/// A stopped container's tree, mounted and not yet served.
#[derive(Debug)]
pub struct MountedTree {
    mounted: Mounted,
    _tree: StoppedTree,
}

impl MountedTree {
    /// Answers requests until it is unmounted.
    pub fn run(self) -> io::Result<()> {
        self.mounted.run()
    }
}

fn check(mountpoint: &Path) -> Result<(), MountError> {
    let refused = refused(mountpoint);
    match std::fs::metadata(mountpoint) {
        Ok(there) if there.is_dir() => Ok(()),
        Ok(_) => Err(refused(io::Error::from_raw_os_error(libc::ENOTDIR))),
        Err(error) => Err(refused(error)),
    }
}

fn refused(mountpoint: &Path) -> impl Fn(io::Error) -> MountError {
    |source| MountError::MountPoint {
        path: mountpoint.to_owned(),
        source,
    }
}

fn options(source: &str) -> MountOptions {
    MountOptions {
        source: format!("ply:{source}"),
        ..MountOptions::default()
    }
}

impl Engine {
    /// Mounts the image `name` read-only on the directory `mountpoint`, or only one of its layers: by its number, the
    /// lowest being 1, or the beginning of its diff ID. Starts no thread.
    pub fn mount_image(
        &self,
        name: &str,
        layer: Option<&str>,
        mountpoint: &Path,
    ) -> Result<Mounted, MountError> {
        let image = self.image(name)?;
        check(mountpoint)?;
        let stack = match layer {
            None => self.store().stack(&image.layers)?,
            Some(wanted) => self.store().stack(&[find_layer(&image, name, wanted)?])?,
        };
        let source = match layer {
            None => name.to_owned(),
            Some(layer) => format!("{name}#{layer}"),
        };
        let union = Union::new(stack, None).map_err(refused(mountpoint))?;
        fuse::mount(Arc::new(union), mountpoint, &options(&source)).map_err(refused(mountpoint))
    }

    /// Mounts a container's tree on the directory `mountpoint`, to be read and written. Starts no thread.
    pub fn mount_container(
        &self,
        name: &str,
        mountpoint: &Path,
    ) -> Result<MountedContainer, MountError> {
        let tree = self.container_tree(name)?;
        check(mountpoint)?;
        match tree {
            ContainerTree::Running(running) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                // On the host a container's setuid files and device nodes are only files.
                let harmless = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
                sys::mount::set_attributes(running.bare.as_fd(), c"", harmless, 0, false)
                    .and_then(|()| Ok(rustix::fs::open(mountpoint, flags, Mode::empty())?))
                    .and_then(|target| sys::mount::attach(running.bare.as_fd(), target.as_fd()))
                    .map_err(refused(mountpoint))?;
                Ok(MountedContainer::Running)
            }
            ContainerTree::Stopped(stopped) => {
                let mounted = fuse::mount(Arc::clone(stopped.union()), mountpoint, &options(name))
                    .map_err(refused(mountpoint))?;
                Ok(MountedContainer::Stopped(MountedTree {
                    mounted,
                    _tree: stopped,
                }))
            }
        }
    }
}

fn find_layer(image: &Image, name: &str, wanted: &str) -> Result<DiffId, MountError> {
    let missing = || MountError::NoLayer {
        image: name.to_owned(),
        layer: wanted.to_owned(),
        count: image.layers.len(),
    };
    if let Ok(number) = wanted.parse::<usize>()
        && let Some(layer) = number.checked_sub(1).and_then(|at| image.layers.get(at))
    {
        return Ok(*layer);
    }
    let prefix = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    let mut fitting = image.layers.iter().filter(|layer| {
        // Fewer digits would be a number's.
        prefix.len() >= 6 && layer.0.hex().starts_with(prefix)
    });
    match (fitting.next(), fitting.next()) {
        (Some(layer), None) => Ok(*layer),
        _ => Err(missing()),
    }
}
