//! Containers: their rows, and the verbs on them.
//!
//! What a container is made of is a row of `state.db` (its whole configuration included) and `containers/<id>/`
//! (`upper/`, `work/`, `log`, the files bound over /etc), made when it first starts. Being alive is a lock in the run
//! directory, held by its monitor ([`liveness`]); the row says only what was last recorded. Every verb first looks at
//! the rows that claim to run and buries those whose monitor is dead.

mod announce;
mod boot;
mod commit;
mod config;
mod control;
mod create;
mod exec;
mod follow;
mod health;
mod images;
mod inspect;
mod journal;
mod list;
pub(crate) mod liveness;
mod logs;
mod mounts;
mod names;
mod networking;
mod remove;
mod restart;
pub(crate) mod rows;
mod size;
mod start;
mod stats;
mod tree;

use std::fmt;
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::image::ImageError;

pub(crate) use announce::announce;
pub use commit::CommitOptions;
pub use config::Config;
pub use config::DeviceMapping;
pub use config::LogConfig;
pub(crate) use config::merge_env;
pub use control::signal_number;
pub use create::CreateOptions;
pub use create::Prepared;
pub use create::has_own_sysctl;
pub use exec::ExecOptions;
pub use follow::Follower;
pub use health::Health;
pub use health::HealthResult;
pub use health::HealthStatus;
pub use health::Healthcheck;
pub use health::nanoseconds;
pub(crate) use images::User;
pub(crate) use images::users_of;
pub use list::Choice;
pub use list::ContainerFilter;
pub(crate) use list::name_pattern;
pub use logs::LogEntry;
pub use logs::LogOptions;
pub use logs::Logs;
pub use logs::Said as LogSaid;
pub use mounts::MountSpec;
pub use mounts::parse_mount;
pub(crate) use names::is_valid as is_name;
pub(crate) use remove::remove_tree;
pub use restart::RestartPolicy;
pub(crate) use restart::delay as restart_delay;
pub(crate) use rows::End;
pub(crate) use rows::SCHEMA;
pub(crate) use rows::SCHEMA_OF_RESTARTS;
pub use size::Usage as DiskUsage;
pub(crate) use size::size_of;
pub use start::StartOptions;
pub(crate) use start::Step;
pub use stats::Top;
pub use tree::ContainerTree;
pub use tree::RunningTree;
pub use tree::StoppedTree;
pub use tree::letter;

/// A container's name for good: 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerId(pub(crate) String);

impl ContainerId {
    /// Returns an id that nothing has.
    pub fn random() -> ContainerId {
        let bytes: [u8; 32] = rand::random();
        ContainerId(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Returns all 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first 12 digits.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Made, never run.
    Created,
    /// Its command runs.
    Running,
    /// Its command runs but for being frozen.
    Paused,
    /// It has ended and is about to be started again.
    Restarting,
    /// It has run.
    Exited,
    /// Being removed, or what a removal that was killed has left.
    Removing,
}

impl Status {
    /// Returns whether its monitor lives: it runs, is frozen, or will run again.
    pub fn is_alive(self) -> bool {
        matches!(self, Status::Running | Status::Paused | Status::Restarting)
    }

    /// Returns Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Exited => "exited",
            Status::Removing => "removing",
        }
    }
}

/// What is known of a container's last run.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Where in its life it is.
    pub status: Status,
    /// Its first process, while it runs. Only to be shown: it may be another's by the time it is read.
    pub pid: Option<i32>,
    /// How it last ended.
    pub exit_code: i32,
    /// Why it could last not be started.
    pub error: String,
    /// When it last started.
    pub started: Option<Timestamp>,
    /// When it last ended.
    pub finished: Option<Timestamp>,
    /// How often it was started again since a person started it.
    pub restart_count: u32,
    /// Whether a person has stopped it.
    pub stopped: bool,
    /// Whether it has lost a process to a lack of memory.
    pub oom_killed: bool,
    /// What its checks come to, while it runs.
    pub health: Option<HealthStatus>,
    /// The host's ports that lead to it, while it runs.
    pub published: Vec<crate::network::port::Published>,
}

/// A container.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its name for good.
    pub id: ContainerId,
    /// Its name for people.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// What it is.
    pub config: Config,
    /// How it is.
    pub state: State,
}

/// What keeps a container verb from doing what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// No container has that name or id.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// Several containers' ids start like that.
    #[error("Multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// The name is another's.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{by}\". You have to remove (or \
         rename) that container to be able to reuse that name."
    )]
    NameInUse {
        /// The name.
        name: String,
        /// Whose it is.
        by: ContainerId,
    },
    /// The options cannot be.
    #[error("{0}")]
    Invalid(String),
    /// There is nothing to run.
    #[error("No command specified")]
    NoCommand,
    /// It runs already.
    #[error("container {0} is already running")]
    AlreadyRunning(ContainerId),
    /// It does not run.
    #[error("Container {0} is not running")]
    NotRunning(ContainerId),
    /// It is frozen.
    #[error("Container {0} is paused, unpause the container before exec")]
    Paused(String),
    /// It is frozen, which a start does not undo.
    #[error("cannot start a paused container, try unpause instead")]
    StartPaused,
    /// It is about to be started again.
    #[error("Container {0} is restarting, wait until the container is running")]
    Restarting(ContainerId),
    /// It is frozen already.
    #[error("Container {0} is already paused")]
    AlreadyPaused(ContainerId),
    /// It is not frozen.
    #[error("Container {0} is not paused")]
    NotPaused(ContainerId),
    /// A new name that is another's.
    #[error("Error when allocating new name: {0}")]
    Rename(#[source] Box<ContainerError>),
    /// Only what runs can be attached to.
    #[error("You cannot attach to a stopped container, start it first")]
    CannotAttach,
    /// A signal for a container that does not run.
    #[error("Cannot kill container: {name}: Container {id} is not running")]
    CannotKill {
        /// As it was called.
        name: String,
        /// Its id.
        id: ContainerId,
    },
    /// It would have to be stopped first.
    #[error(
        "You cannot remove a running container {0}. Stop the container before attempting removal or force remove"
    )]
    RemoveRunning(ContainerId),
    /// The command could not be started; Docker's exit code for it.
    #[error("{words}")]
    Start {
        /// 125, 126 or 127.
        code: u8,
        /// Why.
        words: String,
    },
    /// Its tree is mounted on the host.
    #[error("container {id} is mounted on {mountpoint}: unmount it first")]
    Mounted {
        /// The container.
        id: ContainerId,
        /// Where.
        mountpoint: PathBuf,
    },
    /// Its image is not what it should be.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A volume of its.
    #[error(transparent)]
    Volume(#[from] crate::volume::VolumeError),
    /// The store of layers failed.
    #[error(transparent)]
    Store(#[from] layerfs::store::StoreError),
    /// Its cgroup could not be swept.
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::CgroupError),
    /// A network of its is not what it should be.
    #[error(transparent)]
    Network(Box<crate::network::NetworkError>),
    /// The database failed.
    #[error("state.db: {0}")]
    Database(#[from] rusqlite::Error),
    /// The system refused something on a file of the engine.
    #[error("{path}: {}", crate::image::words(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The monitor went away or spoke nonsense.
    #[error("the container's monitor: {0}")]
    Monitor(#[source] io::Error),
}

impl ContainerError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> ContainerError {
        let path = path.into();
        move |source| ContainerError::Io { path, source }
    }

    /// Returns the error that a monitor has told in a `Kind::Failed` frame.
    fn start(payload: &[u8]) -> ContainerError {
        let (code, words) = payload.split_first().unwrap_or((&125, b""));
        ContainerError::Start {
            code: *code,
            words: String::from_utf8_lossy(words).into_owned(),
        }
    }

    /// Returns the exit code that Docker's `run` and `start` give for the error.
    pub fn exit_code(&self) -> u8 {
        match self {
            ContainerError::Start { code, .. } => *code,
            _ => 125,
        }
    }
}
