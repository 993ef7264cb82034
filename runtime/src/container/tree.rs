//! A container's files, whether it runs or not.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use layerfs::Union;
use layerfs::Upper;
use layerfs::union::Change;
use layerfs::union::ChangeKind;

use super::Container;
use super::ContainerError;
use super::liveness::Busy;
use crate::Engine;
use crate::frame;
use crate::frame::Kind;
use crate::frame::Request;
use crate::sandbox::Mount;
use crate::sandbox::MountSource;
use crate::sandbox::VolumeMount;
use crate::sys;
use crate::tree::Mounted;
use crate::tree::MountedTree;
use crate::tree::UnionTree;
use crate::volume;

/// The way to a container's files.
#[derive(Debug)]
pub enum ContainerTree {
    /// Its union, as a library: it does not run, and is kept from being started.
    Stopped(StoppedTree),
    /// Its root directories, open: all changes go through its monitor.
    Running(RunningTree),
}

/// The union of a container that does not run.
#[derive(Debug)]
pub struct StoppedTree {
    union: Arc<Union>,
    /// Where the engine keeps what is the container's.
    directory: PathBuf,
    mounts: Vec<Mount>,
    first_user: Option<u32>,
    _busy: Busy,
}

impl StoppedTree {
    /// Returns the union.
    pub fn union(&self) -> &Arc<Union> {
        &self.union
    }
}

/// The roots of a container that runs.
#[derive(Debug)]
pub struct RunningTree {
    /// As its processes see it, with what is mounted in it.
    pub root: OwnedFd,
    /// The union alone, a mount that is attached nowhere.
    pub bare: OwnedFd,
    /// The host's number of its first user, if it has a user namespace.
    pub first_user: Option<u32>,
}

/// Returns Docker's letter for a kind of change.
pub fn letter(kind: ChangeKind) -> char {
    match kind {
        ChangeKind::Added => 'A',
        ChangeKind::Modified => 'C',
        ChangeKind::Deleted => 'D',
    }
}

/// What every container has that its image may lack: mount points and files of ours. Docker shows none of them either.
const OURS: [&[u8]; 7] = [
    b"/dev",
    b"/proc",
    b"/sys",
    b"/etc/hostname",
    b"/etc/hosts",
    b"/etc/resolv.conf",
    b"/.dockerenv",
];

/// The files of ours that are mounted in a container that runs.
const OWN_FILES: [(&str, &[u8]); 2] = [
    ("hosts", b"/etc/hosts"),
    ("resolv.conf", b"/etc/resolv.conf"),
];

impl Engine {
    /// Opens a container's files.
    pub fn container_tree(&self, name: &str) -> Result<ContainerTree, ContainerError> {
        let container = self.container(name)?;
        match self.roots(&container) {
            Ok(running) => return Ok(ContainerTree::Running(running)),
            Err(ContainerError::NotRunning(_)) => {}
            Err(error) => return Err(error),
        }
        let busy = self.keep_busy(&container.id)?;
        // It may have been started before it was kept.
        if busy
            .is_alive()
            .map_err(ContainerError::io(self.run_dir()))?
        {
            match self.roots(&container) {
                Err(ContainerError::NotRunning(_)) => {
                    busy.wait_for_death()
                        .map_err(ContainerError::io(self.run_dir()))?;
                }
                running => return running.map(ContainerTree::Running),
            }
        }
        if super::rows::by_id(&self.db(), &container.id)?.is_none() {
            busy.sweep();
            return Err(ContainerError::NoSuchContainer(name.to_owned()));
        }
        let union = self.union_of(&container)?;
        Ok(ContainerTree::Stopped(StoppedTree {
            union,
            directory: self.container_dir(&container.id),
            mounts: container.config.mounts,
            first_user: container.config.first_user,
            _busy: busy,
        }))
    }

    /// Returns a stopped container's tree with what it will have mounted when it runs. What is kept in memory is not
    /// there, nor what the host has not.
    pub(crate) fn mounted_tree(
        &self,
        stopped: &StoppedTree,
    ) -> Result<MountedTree, ContainerError> {
        let mut mounts = Vec::new();
        for (name, target) in OWN_FILES {
            // One that was never started has none.
            let Ok(root) = open_path(&stopped.directory.join(name)) else {
                continue;
            };
            mounts.push(Mounted {
                target: target.into(),
                root,
                first_user: None,
                read_only: false,
            });
        }
        for mount in &stopped.mounts {
            let opened = match &mount.source {
                MountSource::Tmpfs(_) => None,
                MountSource::Bind(bind) => open_path(&bind.path).ok(),
                MountSource::Volume(mounted) => self.open_volume(mounted)?,
            };
            let Some(root) = opened else {
                continue;
            };
            let is_bind = matches!(mount.source, MountSource::Bind(_));
            mounts.push(Mounted {
                target: mount.target.as_os_str().as_bytes().to_vec(),
                root,
                first_user: stopped.first_user.filter(|_| is_bind),
                read_only: mount.read_only,
            });
        }
        let union = UnionTree(Arc::clone(&stopped.union));
        MountedTree::new(union, mounts).map_err(ContainerError::io(self.root()))
    }

    fn open_volume(&self, mounted: &VolumeMount) -> Result<Option<OwnedFd>, ContainerError> {
        let volume = self.volume(&mounted.name)?;
        if volume::is_tmpfs(&volume.driver_opts) {
            return Ok(None);
        }
        self.make_volume_directory(&volume.name)?;
        let whole = volume::open(self.root(), &volume.name, &volume.driver_opts)?;
        Ok(match &mounted.subpath {
            None => Some(whole),
            Some(subpath) => volume::part(&whole, subpath).ok(),
        })
    }

    pub(crate) fn union_of(&self, container: &Container) -> Result<Arc<Union>, ContainerError> {
        let layers = container
            .config
            .layers
            .iter()
            .map(|layer| layer.parse().map(layerfs::DiffId))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| ContainerError::Invalid(error.to_string()))?;
        let stack = self.store().stack(&layers)?;
        let directory = self.container_dir(&container.id);
        let union = self
            .make_directory(&directory)
            .and_then(|()| Upper::open(&directory.join("upper"), &directory.join("work")))
            .and_then(|upper| Union::new(stack, Some(upper)));
        union.map(Arc::new).map_err(ContainerError::io(directory))
    }

    fn make_directory(&self, directory: &std::path::Path) -> std::io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(directory)
    }

    fn roots(&self, container: &Container) -> Result<RunningTree, ContainerError> {
        let stream = self.ask(&container.id, &Request::Roots)?;
        let mut fds = Vec::new();
        let mut buffer = [0; 16];
        let count = sys::fds::receive(&stream, &mut buffer, &mut fds);
        let count = count.map_err(ContainerError::Monitor)?;
        let bare = fds.pop();
        match (fds.pop(), bare) {
            (Some(root), Some(bare)) => Ok(RunningTree {
                root,
                bare,
                first_user: container.config.first_user,
            }),
            // It has an answer, but no tree.
            _ if count > 0 => Err(ContainerError::Restarting(container.id.clone())),
            _ => Err(ContainerError::NotRunning(container.id.clone())),
        }
    }

    /// Returns what differs between a container and its image, sorted by path.
    pub fn diff(&self, name: &str) -> Result<Vec<Change>, ContainerError> {
        let container = self.container(name)?;
        let mut changes = match self.changes_while_running(&container) {
            Err(ContainerError::NotRunning(_)) => match self.container_tree(name)? {
                ContainerTree::Stopped(tree) => tree
                    .union()
                    .changes()
                    .map_err(|error| ContainerError::io(name)(error.into()))?,
                ContainerTree::Running(_) => self.changes_while_running(&container)?,
            },
            changes => changes?,
        };
        hide_ours(&mut changes);
        Ok(changes)
    }

    fn changes_while_running(&self, container: &Container) -> Result<Vec<Change>, ContainerError> {
        let stream = self.ask(&container.id, &Request::Changes)?;
        let answer = frame::read(&stream).map_err(ContainerError::Monitor)?;
        let payload = match answer {
            Some((Kind::Done, payload)) => payload,
            Some((Kind::Failed, payload)) => {
                let error = ContainerError::start(&payload).to_string();
                return Err(ContainerError::io(&container.name)(std::io::Error::other(
                    error,
                )));
            }
            _ => return Err(ContainerError::NotRunning(container.id.clone())),
        };
        let changes: Vec<(char, Vec<u8>)> = serde_json::from_slice(&payload)
            .map_err(|error| ContainerError::Monitor(error.into()))?;
        Ok(changes
            .into_iter()
            .map(|(letter, path)| Change {
                kind: match letter {
                    'A' => ChangeKind::Added,
                    'D' => ChangeKind::Deleted,
                    _ => ChangeKind::Modified,
                },
                path,
            })
            .collect())
    }
}

fn open_path(path: &Path) -> std::io::Result<OwnedFd> {
    use rustix::fs::OFlags;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?)
}

/// Takes the engine's own files away, and the directories that differ only by them. Their removal is the container's.
fn hide_ours(changes: &mut Vec<Change>) {
    let mut touched: BTreeSet<&[u8]> = BTreeSet::new();
    changes.retain(|change| {
        let ours = OURS.iter().find(|path| change.path == **path);
        match ours {
            Some(path) if change.kind != ChangeKind::Deleted => {
                if path.starts_with(b"/etc/") {
                    touched.insert(b"/etc");
                }
                false
            }
            _ => true,
        }
    });
    for directory in touched {
        let inside = [directory, b"/"].concat();
        if !changes
            .iter()
            .any(|change| change.path.starts_with(&inside))
        {
            changes.retain(|change| change.path != directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_s_own_files_are_no_changes() {
        let change = |kind, path: &str| Change {
            kind,
            path: path.as_bytes().to_vec(),
        };
        let mut changes = vec![
            change(ChangeKind::Added, "/dev"),
            change(ChangeKind::Modified, "/etc"),
            change(ChangeKind::Modified, "/etc/hostname"),
            change(ChangeKind::Added, "/etc/hosts"),
            change(ChangeKind::Added, "/new"),
        ];
        hide_ours(&mut changes);
        assert_eq!(changes, [change(ChangeKind::Added, "/new")]);
        let mut changes = vec![
            change(ChangeKind::Modified, "/etc"),
            change(ChangeKind::Deleted, "/etc/hostname"),
            change(ChangeKind::Modified, "/etc/hosts"),
        ];
        hide_ours(&mut changes);
        assert_eq!(changes.len(), 2);
    }
}
