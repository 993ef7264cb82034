//! What a long verb tells while it works: events, never text on a terminal.

/// Receives the events of a verb; called from several threads at once, so it must be quick.
pub trait Progress: Sync {
    /// Takes one event.
    fn event(&self, event: ProgressEvent);
}

/// A receiver that ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: ProgressEvent) {}
}

/// One step of a pull, push, load or save.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgressEvent {
    /// A line that stands for itself (`Digest: sha256:...`, `Status: ...`, `The push refers to repository [...]`).
    Message(String),
    /// A line about one name: Docker prints `id: text` (`latest: Pulling from library/debian`).
    Named {
        /// What the line is about.
        id: String,
        /// What is said of it.
        text: String,
    },
    /// A step of one layer.
    Layer {
        /// The first 12 hex digits of the layer's blob (pull) or diff ID (push, load).
        id: String,
        /// What is happening to it.
        status: LayerStatus,
    },
}

/// What is happening to one layer; [`LayerStatus::words`] gives Docker's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerStatus {
    /// It is not here yet.
    PullingFsLayer,
    /// Its turn has not come.
    Waiting,
    /// Bytes of its blob arrive and are unpacked in the same pass.
    Downloading {
        /// Bytes of the blob so far.
        current: u64,
        /// Bytes in all, when known.
        total: Option<u64>,
    },
    /// All its bytes arrived.
    DownloadComplete,
    /// It is being unpacked from an archive.
    Extracting {
        /// Bytes so far.
        current: u64,
        /// Bytes in all, when known.
        total: Option<u64>,
    },
    /// It is stored.
    PullComplete,
    /// It was here before.
    AlreadyExists,
    /// The connection broke; it will be tried again.
    Retrying {
        /// Seconds until then.
        seconds: u64,
    },
    /// It is being compressed for a push.
    Preparing,
    /// Bytes of its blob leave.
    Pushing {
        /// Bytes of the blob so far.
        current: u64,
        /// Bytes in all, when known.
        total: Option<u64>,
    },
    /// The registry has it now.
    Pushed,
    /// The registry had it before.
    LayerAlreadyExists,
    /// The registry linked it from another of its repositories.
    MountedFrom(String),
}

impl LayerStatus {
    /// Returns Docker's words, without counts.
    pub fn words(&self) -> String {
        match self {
            LayerStatus::PullingFsLayer => "Pulling fs layer".into(),
            LayerStatus::Waiting => "Waiting".into(),
            LayerStatus::Downloading { .. } => "Downloading".into(),
            LayerStatus::DownloadComplete => "Download complete".into(),
            LayerStatus::Extracting { .. } => "Extracting".into(),
            LayerStatus::PullComplete => "Pull complete".into(),
            LayerStatus::AlreadyExists => "Already exists".into(),
            LayerStatus::Retrying { seconds: 1 } => "Retrying in 1 second".into(),
            LayerStatus::Retrying { seconds } => format!("Retrying in {seconds} seconds"),
            LayerStatus::Preparing => "Preparing".into(),
            LayerStatus::Pushing { .. } => "Pushing".into(),
            LayerStatus::Pushed => "Pushed".into(),
            LayerStatus::LayerAlreadyExists => "Layer already exists".into(),
            LayerStatus::MountedFrom(repository) => format!("Mounted from {repository}"),
        }
    }

    /// Returns the bytes done and the bytes in all, where the step counts bytes.
    pub fn counts(&self) -> Option<(u64, Option<u64>)> {
        match *self {
            LayerStatus::Downloading { current, total }
            | LayerStatus::Extracting { current, total }
            | LayerStatus::Pushing { current, total } => Some((current, total)),
            _ => None,
        }
    }
}
