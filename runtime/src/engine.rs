//! The facade: where the state lives and how a verb reaches it.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;

use parking_lot::Mutex;
use parking_lot::MutexGuard;

use crate::state;

/// Where an engine keeps its things.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// What must outlive a reboot: images, containers, volumes, `state.db`.
    pub root: PathBuf,
    /// What must not: sockets, locks of the living, mount points.
    pub run: PathBuf,
}

impl Default for EngineConfig {
    /// Returns `$PLY_ROOT` and `$PLY_RUN`, else `/var/lib/ply` and `/run/ply`; for a user who is not root, `ply` under
    /// `$XDG_DATA_HOME` and `$XDG_RUNTIME_DIR`.
    fn default() -> EngineConfig {
        let from_env = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let is_root = nix::unistd::geteuid().is_root();
        let home = || from_env("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let root = from_env("PLY_ROOT").unwrap_or_else(|| match is_root {
            true => PathBuf::from("/var/lib/ply"),
            false => from_env("XDG_DATA_HOME")
                .unwrap_or_else(|| home().join(".local/share"))
                .join("ply"),
        });
        let run = from_env("PLY_RUN").unwrap_or_else(|| match is_root {
            true => PathBuf::from("/run/ply"),
            false => from_env("XDG_RUNTIME_DIR")
                .unwrap_or_else(std::env::temp_dir)
                .join("ply"),
        });
        EngineConfig { root, run }
    }
}

/// What keeps an engine from opening.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A directory could not be made or entered.
    #[error("cannot use {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database could not be opened or brought up to date.
    #[error("cannot open {path}: {source}")]
    Database {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The layer store could not be opened.
    #[error("cannot open the layer store: {0}")]
    Store(#[from] layerfs::store::StoreError),
}

/// The engine: cheap to clone, safe to share between threads; several processes may each have one on the same root.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    config: EngineConfig,
    store: layerfs::store::Store,
    /// One connection a process; SQLite's own locks order the processes.
    db: Mutex<rusqlite::Connection>,
    /// The monitors that this process has started and that may have ended since.
    monitors: Mutex<Vec<Child>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Engine").field(&self.inner.config).finish()
    }
}

impl Engine {
    /// Opens the engine's root, making it first if it is not there.
    pub fn open(config: &EngineConfig) -> Result<Engine, EngineError> {
        for path in [&config.root, &config.run] {
            make_directory(path).map_err(|source| EngineError::Directory {
                path: path.clone(),
                source,
            })?;
        }
        let blobs = config.root.join("blobs");
        layerfs::store::make_closed(&blobs).map_err(|source| EngineError::Directory {
            path: blobs.clone(),
            source,
        })?;
        let store = layerfs::store::Store::open(&config.root)?;
        let path = config.root.join("state.db");
        let db = state::open(&path).map_err(|source| EngineError::Database { path, source })?;
        Ok(Engine {
            inner: Arc::new(Inner {
                config: config.clone(),
                store,
                db: Mutex::new(db),
                monitors: Mutex::default(),
            }),
        })
    }

    /// Returns the store of layers.
    pub fn store(&self) -> &layerfs::store::Store {
        &self.inner.store
    }

    /// Returns the directory of what outlives a reboot.
    pub fn root(&self) -> &Path {
        &self.inner.config.root
    }

    /// Returns the directory of sockets and locks.
    pub fn run_dir(&self) -> &Path {
        &self.inner.config.run
    }

    /// Returns the configuration the engine was opened with.
    pub fn config(&self) -> &EngineConfig {
        &self.inner.config
    }

    /// Takes note of a monitor that was started: it outlives a command, but not always a server, which would collect
    /// them when they are dead.
    pub(crate) fn keep_child(&self, monitor: Child) {
        self.inner.monitors.lock().push(monitor);
    }

    /// Lets the system forget the monitors that have ended.
    pub(crate) fn reap_children(&self) {
        let mut monitors = self.inner.monitors.lock();
        monitors.retain_mut(|monitor| matches!(monitor.try_wait(), Ok(None)));
    }

    /// Takes the process's connection to `state.db`. Never hold it across I/O on anything but the database.
    pub(crate) fn db(&self) -> MutexGuard<'_, rusqlite::Connection> {
        self.inner.db.lock()
    }
}

/// Makes `path` and its parents, `path` itself closed to other users.
fn make_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::DirBuilder::new().mode(0o711).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}
