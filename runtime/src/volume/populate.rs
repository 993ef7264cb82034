//! A volume's first content: what the image has at the place where an empty volume is mounted.
//!
//! It is put together in `new`, beside the volume's files; the rename to `ready` is the moment from which it is the
//! volume's. What is in `ready` is moved over name by name, and whoever finds a `ready` goes on with that: a container
//! that uses the volume already keeps its directory and whatever it has put there. All under the volume's lock, which
//! a start takes for a moment too, so that no container sees a half. Where the files are not ours to rename (the
//! options name another place) they are copied right in.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use layerfs::DiffId;
use layerfs::Kind;
use layerfs::Union;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::VolumeError;
use super::directory::data_path;
use super::driver;
use super::rows;
use crate::Engine;
use crate::archive;
use crate::archive::Unpack;
use crate::archive::UnpackError;
use crate::container::Config;
use crate::sandbox::Mount;
use crate::sandbox::MountSource;
use crate::sandbox::VolumeMount;
use crate::tree::HostTree;
use crate::tree::Last;
use crate::tree::Metadata;
use crate::tree::Tree;
use crate::tree::UnionTree;

const NEW: &str = "new";
const READY: &str = "ready";

/// Whether a container's volumes are at their first use, or only to be made whole if somebody was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    First,
    Further,
}

impl Engine {
    /// Makes a container's volumes ready to be mounted: directories that are missing, content that was under way, and at
    /// the first use the image's content.
    pub(crate) fn ready_volumes(&self, config: &Config, which: Use) -> Result<(), VolumeError> {
        let mut image = None;
        for mount in &config.mounts {
            let MountSource::Volume(volume) = &mount.source else {
                continue;
            };
            let row = rows::by_name(&self.db(), &volume.name)?;
            let row = row.ok_or_else(|| VolumeError::NoSuchVolume(volume.name.clone()))?;
            self.make_volume_directory(&volume.name)?;
            let _alone = self.lock_volume(&volume.name)?;
            self.settle(&volume.name)
                .map_err(VolumeError::io(self.volume_dir(&volume.name)))?;
            // What is kept in memory is its first user's to fill, when that runs.
            let takes_over = which == Use::First
                && !volume.no_copy
                && volume.subpath.is_none()
                && !driver::is_tmpfs(&row.driver_opts);
            if !takes_over {
                continue;
            }
            if row.driver_opts.is_empty() && self.has_content(&volume.name) {
                continue;
            }
            let durable = !(config.auto_remove && volume.anonymous);
            let image = match &mut image {
                Some(image) => image,
                none => none.insert(self.image_tree(config)?),
            };
            self.take_over(image, mount, volume, &row.driver_opts, durable)?;
        }
        Ok(())
    }

    /// Returns whether something is in a volume's own directory.
    fn has_content(&self, name: &str) -> bool {
        let mut names = std::fs::read_dir(data_path(self.root(), name))
            .into_iter()
            .flatten();
        names.next().is_some()
    }

    fn image_tree(&self, config: &Config) -> Result<UnionTree, VolumeError> {
        let layers: Vec<DiffId> = config
            .layers
            .iter()
            .filter_map(|layer| layer.parse().ok().map(DiffId))
            .collect();
        let stack = self.store().stack(&layers)?;
        let union = Union::new(stack, None).map_err(VolumeError::io(self.root()))?;
        Ok(UnionTree(Arc::new(union)))
    }

    /// Finishes what somebody has begun who was killed.
    fn settle(&self, name: &str) -> io::Result<()> {
        let directory = open_directory(&self.volume_dir(name))?;
        let host = HostTree::of_container(directory, None);
        let root = host.resolve(b"/", Last::Keep)?;
        if host.child(&root, NEW.as_bytes()).is_ok() {
            host.remove(&root, NEW.as_bytes())?;
        }
        match host.child(&root, READY.as_bytes()) {
            Ok(ready) => move_over(&host, &root, &ready),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Puts the image's content into a volume that is empty.
    fn take_over(
        &self,
        image: &UnionTree,
        mount: &Mount,
        volume: &VolumeMount,
        options: &BTreeMap<String, String>,
        durable: bool,
    ) -> Result<(), VolumeError> {
        let failed = |source| VolumeError::Populate {
            name: volume.name.clone(),
            source,
        };
        let Some(place) = place_in(image, &mount.target, volume)? else {
            return Ok(());
        };
        if !options.is_empty() {
            let root = driver::open(self.root(), &volume.name, options)?;
            return fill_empty(image, place, root).map_err(failed);
        }
        let directory = open_directory(&self.volume_dir(&volume.name)).map_err(failed)?;
        let fill = || -> io::Result<()> {
            let host = HostTree::of_container(directory.try_clone()?, None);
            let root = host.resolve(b"/", Last::Keep)?;
            rustix::fs::mkdirat(&directory, NEW, Mode::RWXU)?;
            let new = host.child(&root, NEW.as_bytes())?;
            fill(image, place, &host, &new)?;
            if durable {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let synced = rustix::fs::openat(&directory, ".", flags, Mode::empty())?;
                rustix::fs::syncfs(synced)?;
            }
            rustix::fs::renameat(&directory, NEW, &directory, READY)?;
            move_over(&host, &root, &new)
        };
        fill().map_err(failed)
    }
}

/// Fills what is mounted for a volume whose content lives no longer than its mount.
pub(crate) fn fill_mounted(
    union: &Arc<Union>,
    target: &Path,
    volume: &VolumeMount,
    mount: &OwnedFd,
) -> Result<(), VolumeError> {
    let image = UnionTree(Arc::clone(union));
    let Some(place) = place_in(&image, target, volume)? else {
        return Ok(());
    };
    mount
        .try_clone()
        .and_then(|root| fill_empty(&image, place, root))
        .map_err(|source| VolumeError::Populate {
            name: volume.name.clone(),
            source,
        })
}

/// Finds the directory that a volume takes the place of; there may be none.
fn place_in(
    image: &UnionTree,
    target: &Path,
    volume: &VolumeMount,
) -> Result<Option<<UnionTree as Tree>::Node>, VolumeError> {
    use std::os::unix::ffi::OsStrExt;
    let failed = |source| VolumeError::Populate {
        name: volume.name.clone(),
        source,
    };
    let found = match image.resolve(target.as_os_str().as_bytes(), Last::Follow) {
        Ok(found) => found,
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let target = target.display();
    match image.stat(&found).map_err(failed)?.kind {
        Kind::Directory => Ok(Some(found)),
        _ if volume.anonymous => Err(VolumeError::Place(format!(
            "cannot mount volume over existing file, file exists {target}"
        ))),
        _ => Err(VolumeError::Place(format!(
            "source {target} is not directory"
        ))),
    }
}

fn fill_empty(
    image: &UnionTree,
    place: <UnionTree as Tree>::Node,
    root: OwnedFd,
) -> io::Result<()> {
    let host = HostTree::of_container(root, None);
    let root = host.resolve(b"/", Last::Keep)?;
    match host.names(&root)?.is_empty() {
        true => fill(image, place, &host, &root),
        false => Ok(()),
    }
}

/// Copies a directory's content and what the directory itself is.
fn fill(
    image: &UnionTree,
    place: <UnionTree as Tree>::Node,
    host: &HostTree,
    directory: &OwnedFd,
) -> io::Result<()> {
    let stat = image.stat(&place)?;
    let metadata = Metadata {
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        mtime: stat.mtime,
        xattrs: image.xattrs(&place)?,
    };
    let (reader, writer) = io::pipe()?;
    let unpack = Unpack {
        owner: None,
        follow_in: None,
        ..Unpack::default()
    };
    let (packed, unpacked) = std::thread::scope(|scope| {
        let packing = scope.spawn(move || archive::pack(image, &place, b"", writer).map(drop));
        let unpacked = archive::unpack(host, directory, reader, &unpack);
        (packing.join(), unpacked)
    });
    let packed = packed.unwrap_or_else(|_| Err(io::Error::other("the packing thread died")));
    match (packed, unpacked) {
        (Err(error), unpacked) if error.kind() == io::ErrorKind::BrokenPipe => {
            unpacked.map(drop).map_err(io_error)?;
            return Err(error);
        }
        (packed, unpacked) => {
            packed?;
            unpacked.map_err(io_error)?;
        }
    }
    host.set_metadata(directory, &metadata)
}

fn io_error(error: UnpackError) -> io::Error {
    io::Error::other(error.to_string())
}

/// Moves what is in `ready` to `_data`, as far as there is nothing of that name.
fn move_over(host: &HostTree, root: &OwnedFd, ready: &OwnedFd) -> io::Result<()> {
    let data = host.child(root, b"_data")?;
    let stat = host.stat(ready)?;
    let metadata = Metadata {
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        mtime: stat.mtime,
        xattrs: host.xattrs(ready)?,
    };
    for name in host.names(ready)? {
        let moved = rustix::fs::renameat_with(
            ready.as_fd(),
            name.as_slice(),
            data.as_fd(),
            name.as_slice(),
            RenameFlags::NOREPLACE,
        );
        match moved {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    host.set_metadata(&data, &metadata)?;
    host.remove(root, READY.as_bytes())
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}
