//! Who lives: a container's lock, and the burial of those whose monitor died.
//!
//! `<run>/containers/<id>/lock` has two bytes to lock (`F_OFD_SETLK`):
//!
//! - [`ALIVE`] is held by the container's monitor from before its first process to after its last trace. The starter
//!   takes it and hands the open file over, so there is no moment in between. The kernel gives it back however the
//!   monitor ends.
//! - [`BUSY`] is held by a command while it starts, removes or reads a container that does not run. A monitor never
//!   waits for it.
//!
//! Order: BUSY before ALIVE; neither is ever waited for while a transaction is open. Whoever gets a lock looks at the
//! row again: a removal may have been first. Ids are never used again, so a lock file that outlives its row is litter.

use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::Engine;
use crate::cgroup;
use crate::network::bridge;
use crate::network::port::Published;
use crate::sys;

use super::Container;
use super::ContainerError;
use super::ContainerId;
use super::HealthStatus;
use super::Status;
use super::rows;

pub(crate) const ALIVE: i64 = 0;
pub(crate) const BUSY: i64 = 1;

/// Killed by what cannot be told: 128 + SIGKILL.
const KILLED: i32 = 137;

/// Where the traces of a container are while it lives.
#[derive(Debug, Clone)]
pub(crate) struct RunPaths {
    pub(crate) directory: PathBuf,
}

impl RunPaths {
    pub(crate) fn new(run: &Path, id: &ContainerId) -> RunPaths {
        RunPaths {
            directory: run.join("containers").join(id.as_str()),
        }
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }

    /// The name of the socket in the directory; its path may be too long for an address.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("sock")
    }

    /// Where the monitor mounts the union, in its own mount namespace.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    pub(crate) fn alive_file(&self) -> PathBuf {
        self.directory.join("alive")
    }

    /// Takes everything away, the lock file last: who is killed on the way leaves what the next one can lock and take
    /// away.
    pub(crate) fn remove(&self) {
        for entry in fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            if path == self.lock() {
                continue;
            }
            let _ = match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => fs::remove_dir_all(path),
                false => fs::remove_file(path),
            };
        }
        let _ = fs::remove_file(self.lock());
        let _ = fs::remove_dir(&self.directory);
    }

    /// Returns whether the open file is the one that the path leads to.
    fn is_lock(&self, file: &File) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let (here, there) = (file.metadata()?, fs::metadata(self.lock())?);
        Ok((here.dev(), here.ino()) == (there.dev(), there.ino()))
    }

    fn open_lock(&self, make: bool) -> io::Result<File> {
        use std::os::unix::fs::DirBuilderExt;
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        match options.open(self.lock()) {
            Err(error) if make && error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let mut builder = fs::DirBuilder::new();
        builder
            .mode(0o700)
            .recursive(true)
            .create(&self.directory)?;
        options.create(true).open(self.lock())
    }
}

/// What a monitor writes down for others to show.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Alive {
    /// The first process; none while the container waits for its next start.
    pub(crate) pid: Option<i32>,
    pub(crate) started: Timestamp,
    pub(crate) paused: bool,
    pub(crate) health: Option<HealthStatus>,
    /// The host's ports that lead to it.
    #[serde(default)]
    pub(crate) published: Vec<Published>,
}

impl Alive {
    pub(crate) fn write(&self, paths: &RunPaths) -> io::Result<()> {
        let temporary = paths.directory.join("alive.new");
        fs::write(&temporary, serde_json::to_vec(self)?)?;
        fs::rename(&temporary, paths.alive_file())
    }

    fn read(paths: &RunPaths) -> Option<Alive> {
        serde_json::from_slice(&fs::read(paths.alive_file()).ok()?).ok()
    }
}

/// Returns the host's ports that lead to containers of an engine.
pub(crate) fn published_in(run: &Path) -> Vec<Published> {
    let entries = fs::read_dir(run.join("containers")).into_iter().flatten();
    let alive = entries.flatten().filter_map(|entry| {
        let directory = entry.path();
        Alive::read(&RunPaths { directory })
    });
    alive.flat_map(|alive| alive.published).collect()
}

/// A container that nobody else starts, removes or reads as long as this is held.
#[derive(Debug)]
pub(crate) struct Busy {
    file: File,
    paths: RunPaths,
}

impl Busy {
    /// Opens the lock file a second time, as another owner of locks.
    pub(crate) fn open_again(&self) -> io::Result<File> {
        self.paths.open_lock(true)
    }

    pub(crate) fn is_alive(&self) -> io::Result<bool> {
        sys::lock::is_locked(&self.file, ALIVE)
    }

    /// Waits until the monitor is gone.
    pub(crate) fn wait_for_death(&self) -> io::Result<()> {
        sys::lock::lock(&self.file, ALIVE)?;
        sys::lock::unlock(&self.file, ALIVE)
    }

    /// Takes the traces in the run directory away, the lock file last.
    pub(crate) fn sweep(&self) {
        self.paths.remove();
    }
}

/// Why a container cannot be kept.
enum Held {
    Io(io::Error),
    Mounted(PathBuf),
}

impl From<io::Error> for Held {
    fn from(error: io::Error) -> Held {
        Held::Io(error)
    }
}

impl Engine {
    pub(crate) fn run_paths(&self, id: &ContainerId) -> RunPaths {
        RunPaths::new(self.run_dir(), id)
    }

    /// Returns where the container's upper, log and files are.
    pub(crate) fn container_dir(&self, id: &ContainerId) -> PathBuf {
        self.root().join("containers").join(id.as_str())
    }

    /// Returns whether the container's monitor lives.
    pub(crate) fn is_alive(&self, id: &ContainerId) -> bool {
        let paths = self.run_paths(id);
        paths
            .open_lock(false)
            .and_then(|file| sys::lock::is_locked(&file, ALIVE))
            .unwrap_or(false)
    }

    /// Keeps other commands from the container until the guard is dropped; waits for the one that has it, but not for
    /// a mount, which lasts until somebody takes it away.
    pub(crate) fn keep_busy(&self, id: &ContainerId) -> Result<Busy, ContainerError> {
        let paths = self.run_paths(id);
        let file = loop {
            let opened = (|| {
                let file = paths.open_lock(true)?;
                if !sys::lock::try_lock(&file, BUSY)? {
                    if let Some(mountpoint) = self.mount_that_holds(id) {
                        return Err(Held::Mounted(mountpoint));
                    }
                    sys::lock::lock(&file, BUSY)?;
                }
                // Litter may have been swept away between the two steps, this file with it.
                Ok(paths.is_lock(&file)?.then_some(file))
            })();
            match opened {
                Ok(Some(file)) => break file,
                Ok(None) => {}
                Err(Held::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(Held::Io(error)) => return Err(ContainerError::io(paths.lock())(error)),
                Err(Held::Mounted(mountpoint)) => {
                    return Err(ContainerError::Mounted {
                        id: id.clone(),
                        mountpoint,
                    });
                }
            }
        };
        Ok(Busy { file, paths })
    }

    /// Buries every container whose row says that it runs but whose monitor is dead, and takes away the traces of those
    /// that have no row (their maker or remover was killed).
    pub fn bury_the_dead(&self) -> Result<(), ContainerError> {
        self.reap_children();
        self.sweep_litter()?;
        self.sweep_mounts();
        let unsettled = rows::unsettled(&self.db())?;
        for id in unsettled.iter().filter(|id| !self.is_alive(id)) {
            self.bury(id)?;
        }
        // Their containers may have gone just before whoever removed them.
        self.sweep_doomed_volumes()?;
        self.release_strays()?;
        bridge::sweep(self.run_dir());
        Ok(())
    }

    /// Returns the containers whose row says that they run or are about to.
    pub(super) fn run_at_last(&self) -> Result<Vec<ContainerId>, ContainerError> {
        Ok(rows::unsettled(&self.db())?)
    }

    fn sweep_litter(&self) -> Result<(), ContainerError> {
        for entry in fs::read_dir(self.run_dir().join("containers"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let Ok(id) = entry.file_name().into_string().map(ContainerId) else {
                continue;
            };
            if rows::exists(&self.db(), &id)? {
                continue;
            }
            let paths = self.run_paths(&id);
            let lock = match paths.open_lock(false) {
                Ok(lock) => lock,
                // A directory without a lock yet; if its maker lives, it makes another one.
                Err(_) if fs::remove_dir(&paths.directory).is_ok() => continue,
                Err(_) => match paths.open_lock(true) {
                    Ok(lock) => lock,
                    Err(_) => continue,
                },
            };
            let failed = || ContainerError::io(paths.lock());
            let is_free = sys::lock::try_lock(&lock, BUSY).map_err(failed())?
                && !sys::lock::is_locked(&lock, ALIVE).map_err(failed())?;
            // Its maker may have added the row before it let go.
            if is_free && !rows::exists(&self.db(), &id)? {
                paths.remove();
            }
        }
        Ok(())
    }

    /// As [`Engine::bury_the_dead`], for verbs that can do without.
    pub(crate) fn bury_the_dead_quietly(&self) {
        if let Err(error) = self.bury_the_dead() {
            log::warn!("{error}");
        }
    }

    fn bury(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let paths = self.run_paths(id);
        let lock = paths
            .open_lock(true)
            .map_err(ContainerError::io(paths.lock()))?;
        // Somebody starts, removes or buries it: it is in good hands.
        if !sys::lock::try_lock(&lock, BUSY).map_err(ContainerError::io(paths.lock()))? {
            return Ok(());
        }
        let busy = Busy { file: lock, paths };
        self.bury_kept(id, &busy)?;
        self.revive(id, &busy)
    }

    /// Starts a container that was just buried again if its policy wants it: nobody else can, as its monitor is dead.
    fn revive(&self, id: &ContainerId, busy: &Busy) -> Result<(), ContainerError> {
        let Some(container) = rows::by_id(&self.db(), id)? else {
            return Ok(());
        };
        let (state, policy) = (&container.state, container.config.restart);
        let is_buried = state.status == Status::Exited && !state.stopped;
        if is_buried && policy.wants(state.exit_code, state.restart_count) {
            // It says itself what keeps it from running.
            if let Err(error) = self.start_again(&container, busy, state.restart_count + 1) {
                log::warn!("restart {id}: {error}");
            }
        }
        Ok(())
    }

    /// Buries a container that is kept busy, if it is dead and not yet buried.
    pub(crate) fn bury_kept(&self, id: &ContainerId, busy: &Busy) -> Result<(), ContainerError> {
        let alive = busy
            .is_alive()
            .map_err(ContainerError::io(busy.paths.lock()))?;
        if alive {
            return Ok(());
        }
        let Some(container) = rows::by_id(&self.db(), id)? else {
            busy.sweep();
            return Ok(());
        };
        match container.state.status {
            Status::Exited if container.config.auto_remove => {
                return self.erase(id, busy, true);
            }
            Status::Created | Status::Exited => return Ok(()),
            _ => cgroup::sweep(id.as_str())?,
        }
        self.leave_networks(id)?;
        let attributes = [("exitCode", KILLED.to_string())];
        self.emit_container("die", id, &container.name, &container.config, &attributes);
        let config = &container.config;
        if container.state.status == Status::Removing || config.auto_remove || config.of_build {
            return self.erase(id, busy, config.auto_remove || config.of_build);
        }
        let end = rows::End {
            code: KILLED,
            finished: Timestamp::now(),
            stopped: false,
            oom_killed: false,
        };
        rows::set_exited(&self.db(), id, &end)?;
        Ok(())
    }

    /// Fills in what only the living can tell.
    pub(crate) fn observe(&self, container: &mut Container) {
        if container.state.status == Status::Removing || !self.is_alive(&container.id) {
            return;
        }
        container.state.status = Status::Running;
        if let Some(alive) = Alive::read(&self.run_paths(&container.id)) {
            container.state.status = match (alive.pid, alive.paused) {
                (None, _) => Status::Restarting,
                (_, true) => Status::Paused,
                _ => Status::Running,
            };
            container.state.pid = alive.pid;
            container.state.started = Some(alive.started);
            container.state.health = alive.health;
            container.state.published = alive.published;
        }
    }
}
