//! A container's files, whether it runs or not.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use layerfs::Stack;
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
use crate::tree::HostTree;
use crate::tree::Last;
use crate::tree::Mounted;
use crate::tree::MountedTree;
use crate::tree::Tree;
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

/// The directory that most of ours are in.
const ETC: &[u8] = b"/etc";

/// The mode and the owners it has where an image has none.
const AS_MADE: (u32, u32, u32) = (0o755, 0, 0);

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
        let stack = self.stack_of(container)?;
        let directory = self.container_dir(&container.id);
        let union = self
            .make_directory(&directory)
            .and_then(|()| Upper::open(&directory.join("upper"), &directory.join("work")))
            .and_then(|upper| Union::new(stack, Some(upper)));
        union.map(Arc::new).map_err(ContainerError::io(directory))
    }

    fn stack_of(&self, container: &Container) -> Result<Arc<Stack>, ContainerError> {
        let layers = container
            .config
            .layers
            .iter()
            .map(|layer| layer.parse().map(layerfs::DiffId))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| ContainerError::Invalid(error.to_string()))?;
        Ok(self.store().stack(&layers)?)
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
        let is_changed = self.is_etc_changed(&container, &changes)?;
        hide_ours(&mut changes, is_changed);
        Ok(changes)
    }

    /// Returns whether a container has given /etc another mode or owner than its image.
    fn is_etc_changed(
        &self,
        container: &Container,
        changes: &[Change],
    ) -> Result<bool, ContainerError> {
        if !changes.iter().any(|change| change.path == ETC) {
            return Ok(false);
        }
        let image = Union::new(self.stack_of(container)?, None);
        let image = image.map_err(ContainerError::io(self.root()))?;
        let below = access_of(&UnionTree(Arc::new(image)));
        let here = match self.container_tree(container.id.as_str())? {
            ContainerTree::Running(running) => {
                access_of(&HostTree::of_container(running.bare, running.first_user))
            }
            ContainerTree::Stopped(stopped) => access_of(&UnionTree(stopped.union)),
        };
        Ok(here.is_some_and(|here| here != below.unwrap_or(AS_MADE)))
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

/// Returns the mode and the owners of a tree's /etc, if there is one.
fn access_of<T: Tree>(tree: &T) -> Option<(u32, u32, u32)> {
    let etc = tree.resolve(ETC, Last::Keep).ok()?;
    let stat = tree.stat(&etc).ok()?;
    Some((stat.mode, stat.uid, stat.gid))
}

/// Takes the engine's own files away, and /etc if it differs only by them. Their removal is the container's.
fn hide_ours(changes: &mut Vec<Change>, is_etc_changed: bool) {
    let mut is_touched = false;
    changes.retain(|change| {
        let ours = OURS.iter().find(|path| change.path == **path);
        match ours {
            Some(path) if change.kind != ChangeKind::Deleted => {
                is_touched |= path.starts_with(b"/etc/");
                false
            }
            _ => true,
        }
    });
    let mut paths = changes.iter().map(|change| &change.path);
    if is_touched && !is_etc_changed && !paths.any(|path| path.starts_with(b"/etc/")) {
        changes.retain(|change| change.path != ETC);
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
        hide_ours(&mut changes, false);
        assert_eq!(changes, [change(ChangeKind::Added, "/new")]);
        let mut changes = vec![
            change(ChangeKind::Modified, "/etc"),
            change(ChangeKind::Deleted, "/etc/hostname"),
            change(ChangeKind::Modified, "/etc/hosts"),
        ];
        hide_ours(&mut changes, false);
        assert_eq!(changes.len(), 2);
        let mut changes = vec![
            change(ChangeKind::Modified, "/etc"),
            change(ChangeKind::Modified, "/etc/hostname"),
        ];
        hide_ours(&mut changes, true);
        assert_eq!(changes, [change(ChangeKind::Modified, "/etc")]);
    }
}
