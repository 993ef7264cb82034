//! Mounting images, single layers, containers' trees and unions of plain directories on the host.

mod directories;
mod options;

use std::fs::File;
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
use nix::fcntl::Flock;
use nix::fcntl::FlockArg;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::mount::MountAttrFlags;
use serde::Deserialize;
use serde::Serialize;

pub use self::directories::mount_directories;
pub use self::options::OptionsError;
pub use self::options::UnionOptions;
use crate::Engine;
use crate::container::ContainerError;
use crate::container::ContainerId;
use crate::container::ContainerTree;
use crate::container::RunningTree;
use crate::container::StoppedTree;
use crate::image::Image;
use crate::image::ImageError;
use crate::image::words;
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
    /// The lower directories cannot be read.
    #[error("lowerdir {0}")]
    Directories(layerfs::DirectoriesError),
    /// The upper or work directory cannot be used.
    #[error("{name} {path}: {}", words(source))]
    Directory {
        /// The option that names it.
        name: &'static str,
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The upper and the work directory are not separate.
    #[error("workdir {work} and upperdir {upper} must be separate subtrees")]
    Nested {
        /// The upper.
        upper: PathBuf,
        /// The work directory.
        work: PathBuf,
    },
    /// Nothing can be renamed from the one to the other.
    #[error("workdir {work} and upperdir {upper} must be on the same filesystem")]
    OtherFilesystem {
        /// The upper.
        upper: PathBuf,
        /// The work directory.
        work: PathBuf,
    },
    /// Another union writes the upper.
    #[error("upperdir {0} is in use by another mount")]
    InUse(PathBuf),
    /// The union could not note what it has to.
    #[error("upperdir {0}: its filesystem keeps no extended attributes")]
    NoAttributes(PathBuf),
    /// The mount point cannot be mounted on.
    #[error("cannot mount on {path}: {}", words(source))]
    MountPoint {
        /// The mount point.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A mount that is not served yet.
#[derive(Debug)]
pub struct ServedMount {
    mounted: Mounted,
    /// A container that must not be started meanwhile.
    _tree: Option<StoppedTree>,
    /// Where the engine has noted it, if it has.
    record: Option<Record>,
}

impl ServedMount {
    /// Answers requests until it is unmounted.
    pub fn run(self) -> io::Result<()> {
        sys::open_files::allow_all();
        let ServedMount {
            mounted,
            _tree,
            record,
        } = self;
        let served = mounted.run();
        if let Some(record) = record {
            let _ = std::fs::remove_file(&record.path);
        }
        served
    }
}

/// A file in `run/mounts/` that says what is mounted where. Its server holds a lock on it; a mount whose server is dead
/// answers nobody, and the next command takes it away.
#[derive(Debug)]
struct Record {
    path: PathBuf,
    _lock: Flock<File>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Recorded {
    source: String,
    mountpoint: PathBuf,
    mount_id: u64,
    /// The container whose monitor serves it.
    container: Option<String>,
    /// The container that cannot be used in another way meanwhile: its tree is served by a process of its own.
    holds: Option<String>,
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
    ) -> Result<ServedMount, MountError> {
        self.sweep_mounts();
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
        self.serve(Arc::new(union), &source, mountpoint, None)
    }

    /// Mounts a container's tree on the directory `mountpoint`, to be read and written; of one that runs, its monitor
    /// serves the mount, as long as it lives. Starts no thread.
    pub fn mount_container(
        &self,
        name: &str,
        mountpoint: &Path,
    ) -> Result<Option<ServedMount>, MountError> {
        let id = self.container(name)?.id;
        let tree = self.container_tree(name)?;
        check(mountpoint)?;
        match tree {
            ContainerTree::Stopped(stopped) => {
                let union = Arc::clone(stopped.union());
                self.serve(union, name, mountpoint, Some((stopped, &id)))
                    .map(Some)
            }
            ContainerTree::Running(running) => {
                self.attach(&running, (name, &id), mountpoint)
                    .map_err(refused(mountpoint))?;
                Ok(None)
            }
        }
    }

    fn serve(
        &self,
        union: Arc<Union>,
        source: &str,
        mountpoint: &Path,
        tree: Option<(StoppedTree, &ContainerId)>,
    ) -> Result<ServedMount, MountError> {
        let (tree, held) = tree.unzip();
        let mounted =
            fuse::mount(union, mountpoint, &options(source)).map_err(refused(mountpoint))?;
        match self.record(source, (mountpoint, mounted.id()), None, held) {
            Ok(record) => Ok(ServedMount {
                mounted,
                _tree: tree,
                record: Some(record),
            }),
            Err(error) => {
                let _ = fuse::unmount(mountpoint, mounted.id());
                Err(refused(mountpoint)(error))
            }
        }
    }

    fn attach(
        &self,
        tree: &RunningTree,
        (name, id): (&str, &ContainerId),
        mountpoint: &Path,
    ) -> io::Result<()> {
        // On the host a container's setuid files and device nodes are only files.
        let harmless = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        sys::mount::set_attributes(tree.bare.as_fd(), c"", harmless, 0, false)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let target = rustix::fs::open(mountpoint, flags, Mode::empty())?;
        let mount_id = fuse::mount_id(tree.bare.as_fd())?;
        self.record(name, (mountpoint, mount_id), Some(id), None)?;
        sys::mount::attach(tree.bare.as_fd(), target.as_fd())
    }

    fn mounts_dir(&self) -> PathBuf {
        self.run_dir().join("mounts")
    }

    fn record(
        &self,
        source: &str,
        (mountpoint, mount_id): (&Path, u64),
        container: Option<&ContainerId>,
        holds: Option<&ContainerId>,
    ) -> io::Result<Record> {
        let recorded = Recorded {
            source: source.to_owned(),
            mountpoint: std::path::absolute(mountpoint)?,
            mount_id,
            container: container.map(ToString::to_string),
            holds: holds.map(ToString::to_string),
        };
        std::fs::create_dir_all(self.mounts_dir())?;
        let path = self
            .mounts_dir()
            .join(format!("{:016x}", rand::random::<u64>()));
        let file = File::create_new(&path)?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
        std::fs::write(&path, serde_json::to_vec(&recorded)?)?;
        Ok(Record { path, _lock: lock })
    }

    /// Returns what is mounted and where, sorted by directory.
    pub fn mounts(&self) -> Vec<(String, PathBuf)> {
        self.sweep_mounts();
        let records = std::fs::read_dir(self.mounts_dir())
            .into_iter()
            .flatten()
            .flatten();
        let mut mounts: Vec<(String, PathBuf)> = records
            .filter_map(|entry| {
                let recorded = std::fs::read(entry.path()).ok()?;
                let recorded: Recorded = serde_json::from_slice(&recorded).ok()?;
                let is_there = fuse::is_mounted(&recorded.mountpoint, recorded.mount_id);
                is_there
                    .ok()?
                    .then_some((recorded.source, recorded.mountpoint))
            })
            .collect();
        mounts.sort_by(|a, b| a.1.cmp(&b.1));
        mounts
    }

    /// Returns where a stopped container's tree is mounted, if it is.
    pub(crate) fn mount_that_holds(&self, id: &ContainerId) -> Option<PathBuf> {
        let records = std::fs::read_dir(self.mounts_dir())
            .into_iter()
            .flatten()
            .flatten();
        records
            .filter_map(|entry| serde_json::from_slice(&std::fs::read(entry.path()).ok()?).ok())
            .filter(|recorded: &Recorded| recorded.holds.as_deref() == Some(id.as_str()))
            // One that was unmounted is let go of in a moment.
            .find(|recorded| {
                fuse::is_mounted(&recorded.mountpoint, recorded.mount_id).unwrap_or(false)
            })
            .map(|recorded| recorded.mountpoint)
    }

    /// Takes away the mounts whose server is dead, and the records of those that are no more.
    pub(crate) fn sweep_mounts(&self) {
        for entry in std::fs::read_dir(self.mounts_dir())
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            let Ok(file) = File::options().read(true).write(true).open(&path) else {
                continue;
            };
            let Ok(_dead) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
                continue;
            };
            let recorded = std::fs::read(&path).ok();
            let recorded: Option<Recorded> =
                recorded.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            // One without a word is being written, or was left by a crash before it mattered.
            let Some(recorded) = recorded else {
                continue;
            };
            let (mountpoint, id) = (&recorded.mountpoint, recorded.mount_id);
            let is_served = recorded
                .container
                .is_some_and(|id| self.is_alive(&ContainerId(id)));
            if is_served && fuse::is_mounted(mountpoint, id).unwrap_or(false) {
                continue;
            }
            if let Err(error) = fuse::unmount(mountpoint, id)
                && error.kind() != io::ErrorKind::NotFound
            {
                log::warn!("{}: {error}", mountpoint.display());
            }
            let _ = std::fs::remove_file(&path);
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
