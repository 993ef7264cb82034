//! Mounting the union of plain directories, where overlayfs or fuse-overlayfs would be mounted.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use layerfs::Namespace;
use layerfs::Stack;
use layerfs::Union;
use layerfs::Upper;
use layerfs::UpperOptions;
use layerfs::fuse;
use layerfs::fuse::Mounted;

use super::MountError;
use super::Record;
use super::ServedMount;
use super::UnionOptions;
use super::check;
use super::refused;
use crate::Engine;

/// Where in the work directory ours is; overlayfs has `work` and `index` there.
const OWN_WORK: &str = "ply";

/// Mounts the union of directories on `mountpoint`; starts no thread. The engine does not know of it.
pub fn mount_directories(
    options: &UnionOptions,
    mountpoint: &Path,
) -> Result<ServedMount, MountError> {
    let mounted = mount(options, mountpoint)?;
    Ok(ServedMount {
        mounted,
        _tree: None,
        record: None,
    })
}

impl Engine {
    /// Mounts the union of directories on `mountpoint` and notes that, so that [`Engine::mounts`] lists it and a mount
    /// whose server has died is taken away; starts no thread.
    pub fn mount_directories(
        &self,
        options: &UnionOptions,
        mountpoint: &Path,
    ) -> Result<ServedMount, MountError> {
        self.sweep_mounts();
        let mounted = mount(options, mountpoint)?;
        let lower = options.lower.iter();
        let lower: Vec<String> = lower.map(|path| path.display().to_string()).collect();
        let record = self.record(&lower.join(":"), (mountpoint, mounted.id()), None, None);
        self.with_record(mounted, mountpoint, record)
    }

    fn with_record(
        &self,
        mounted: Mounted,
        mountpoint: &Path,
        record: io::Result<Record>,
    ) -> Result<ServedMount, MountError> {
        match record {
            Ok(record) => Ok(ServedMount {
                mounted,
                _tree: None,
                record: Some(record),
            }),
            Err(error) => {
                let _ = fuse::unmount(mountpoint, mounted.id());
                Err(refused(mountpoint)(error))
            }
        }
    }
}

fn mount(options: &UnionOptions, mountpoint: &Path) -> Result<Mounted, MountError> {
    check(mountpoint)?;
    let namespace = match options.user_attributes || !is_in_first_user_namespace() {
        true => Namespace::User,
        false => Namespace::Trusted,
    };
    let is_writable = options.upper.is_some() && options.work.is_some() && !options.mount.read_only;
    let mut lower = options.lower.clone();
    if let (Some(top), false) = (&options.upper, is_writable) {
        // Read-only: it is one more lower layer.
        lower.insert(0, top.clone());
    }
    let stack = Stack::of_directories(&lower, namespace).map_err(MountError::Directories)?;
    let upper = match (&options.upper, &options.work) {
        (Some(upper), Some(work)) if is_writable => {
            let how = UpperOptions {
                namespace,
                metacopy: options.metacopy,
                redirects: options.redirects,
                foreign: true,
            };
            Some(open_upper(upper, work, how)?)
        }
        _ => None,
    };
    let union = Union::new(Arc::new(stack), upper).map_err(refused(mountpoint))?;
    fuse::mount(Arc::new(union), mountpoint, &options.mount).map_err(refused(mountpoint))
}

/// Returns whether this is the user namespace of the host's superuser (`user_namespaces(7)`, "uid_map").
fn is_in_first_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map");
    map.is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]))
}

fn open_upper(upper: &Path, work: &Path, how: UpperOptions) -> Result<Upper, MountError> {
    let refused = |name, path: &Path| {
        let path = path.to_owned();
        move |source| MountError::Directory { name, path, source }
    };
    let (real_upper, upper_device) = directory(upper).map_err(refused("upperdir", upper))?;
    let (real_work, work_device) = directory(work).map_err(refused("workdir", work))?;
    if real_upper.starts_with(&real_work) || real_work.starts_with(&real_upper) {
        let (upper, work) = (upper.to_owned(), work.to_owned());
        return Err(MountError::Nested { upper, work });
    }
    if upper_device != work_device {
        let (upper, work) = (upper.to_owned(), work.to_owned());
        return Err(MountError::OtherFilesystem { upper, work });
    }
    let opened = Upper::open_with(&real_upper, &real_work.join(OWN_WORK), how);
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => MountError::InUse(upper.to_owned()),
        io::ErrorKind::Unsupported => MountError::NoAttributes(upper.to_owned()),
        _ => refused("workdir", work)(error),
    })
}

fn directory(path: &Path) -> io::Result<(PathBuf, u64)> {
    let real = path.canonicalize()?;
    let stat = std::fs::metadata(&real)?;
    match stat.is_dir() {
        true => Ok((real, stat.dev())),
        false => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
    }
}
