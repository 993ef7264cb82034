//! Images: what a name stands for, and the verbs on them.
//!
//! An image is a config (named by its digest, the image's id) over a list of layers. Manifests and configs lie as they
//! came in `blobs/sha256/<hex>`, written to `tmp/`, synced and renamed; which images exist, their tags and repository
//! digests are rows of `state.db`. An image is visible from the one transaction that adds its rows, made after all its
//! layers, its stack and its blobs are durable; a crash before it leaves layers that no row names, and the next
//! `sweep` takes them away.

mod archive;
mod blobs;
mod change;
mod config;
mod distribution;
mod history;
mod import;
mod inspect;
mod list;
mod load;
mod manifest;
mod platform;
mod prune;
mod pull;
mod push;
mod remove;
pub(crate) mod rows;
mod save;
mod sweep;
mod tag;

use std::fmt;
use std::io;
use std::path::PathBuf;

use layerfs::ChainId;
use layerfs::DiffId;
use layerfs::Digest;
use oci_spec::image::ImageConfiguration;

use crate::reference::InvalidReference;
use crate::reference::Reference;
use crate::registry::RegistryError;

pub use archive::decompressed;
pub(crate) use change::apply as apply_change;
pub use distribution::Distribution;
pub use history::HistoryEntry;
pub use import::ImportOptions;
pub use import::ImportSource;
pub use inspect::inspect;
pub use list::ImageFilter;
pub(crate) use list::point_in_time;
pub use load::Loaded;
pub(crate) use manifest::ACCEPT;
pub(crate) use manifest::Descriptor;
pub(crate) use manifest::LARGEST_MANIFEST;
pub(crate) use manifest::Manifest;
pub(crate) use manifest::OCI_INDEX;
pub(crate) use manifest::OCI_LAYER;
pub(crate) use manifest::OCI_MANIFEST;
pub(crate) use manifest::Parsed;
pub(crate) use manifest::parse as parse_manifest;
pub use platform::Platform;
pub use prune::Pruned;
pub use pull::PullOptions;
pub use pull::PullOutcome;
pub use push::PushOptions;
pub use push::PushOutcome;
pub use remove::Removal;
pub(crate) use rows::SCHEMA;
pub use save::ArchiveFormat;

/// An image's name: the digest of its config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageId(pub Digest);

impl ImageId {
    /// Returns the first 12 hex digits.
    pub fn short(&self) -> String {
        self.0.hex()[..12].to_owned()
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An image that is here with all its layers.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of its config.
    pub id: ImageId,
    /// Its config, as far as the OCI's types know it.
    pub config: ImageConfiguration,
    /// Its config, whole: `Healthcheck`, `OnBuild` and `Shell` are Docker's own.
    pub raw_config: serde_json::Value,
    /// Its layers, lowest first.
    pub layers: Vec<DiffId>,
    /// The name of the stack of its layers.
    pub chain_id: ChainId,
    /// The bytes of the regular files in its layers.
    pub size: u64,
    /// When it was made, RFC 3339, if its config says.
    pub created: Option<String>,
    /// When a tag was last put on it, in seconds since the epoch.
    pub last_tagged: Option<i64>,
    /// Its names, sorted.
    pub tags: Vec<Reference>,
    /// `repository@digest` under which registries have it, familiar form, sorted.
    pub repo_digests: Vec<String>,
}

impl Image {
    /// Returns an image that says nothing of itself, of layers that none may have yet.
    pub(crate) fn of_layers(layers: &[DiffId]) -> Image {
        Image {
            id: ImageId(Digest([0; 32])),
            config: ImageConfiguration::default(),
            raw_config: serde_json::Value::Null,
            layers: layers.to_vec(),
            chain_id: ChainId::of(layers),
            size: 0,
            created: None,
            last_tagged: None,
            tags: Vec::new(),
            repo_digests: Vec::new(),
        }
    }

    /// Returns whether the image is for a platform, as far as its config says what it is for.
    pub fn is_for(&self, platform: &Platform) -> bool {
        let text = |key: &str| {
            self.raw_config[key]
                .as_str()
                .filter(|text| !text.is_empty())
        };
        let os = text("os").unwrap_or("linux");
        text("architecture").is_none_or(|architecture| {
            let fit = platform.fit(os, architecture, text("variant"));
            fit.is_some()
        })
    }

    /// Returns whether no name leads to the image.
    pub fn is_dangling(&self) -> bool {
        self.tags.is_empty()
    }
}

/// What keeps an image verb from doing what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No image has that name or id.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// Several images' ids start like that.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// The name cannot be one.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// The registry said no, or something else.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store of layers failed.
    #[error(transparent)]
    Store(#[from] layerfs::store::StoreError),
    /// A layer could not be taken in.
    #[error("failed to register layer: {0}")]
    Layer(#[source] layerfs::ingest::IngestError),
    /// The database failed.
    #[error("state.db: {0}")]
    Database(#[from] rusqlite::Error),
    /// The system refused something on a file of the engine.
    #[error("{path}: {}", words(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A manifest, index or config is not what it should be.
    #[error("{0}")]
    Malformed(String),
    /// A blob's bytes are not what its digest says.
    #[error("filesystem layer verification failed for digest {0}")]
    DigestMismatch(Digest),
    /// An index has no image for the platform.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoPlatform(Platform),
    /// The platform is not one.
    #[error("\"{0}\": unknown operating system or architecture: invalid argument")]
    InvalidPlatform(String),
    /// Removing is refused, in Docker's words.
    #[error("conflict: {0}")]
    Conflict(String),
    /// An archive is not an image.
    #[error("{0}")]
    Archive(String),
    /// A stream given by the caller broke.
    #[error("{}", words(.0))]
    Stream(#[source] io::Error),
    /// A filter is not known.
    #[error("Invalid filter '{0}'")]
    InvalidFilter(String),
    /// A change of `import` is not valid.
    #[error("{0}")]
    InvalidChange(String),
    /// The push has nothing to push.
    #[error("An image does not exist locally with the tag: {0}")]
    NothingToPush(String),
}

impl From<layerfs::ingest::IngestError> for ImageError {
    fn from(error: layerfs::ingest::IngestError) -> ImageError {
        ImageError::Layer(error)
    }
}

impl ImageError {
    fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> ImageError {
        let path = path.into();
        move |source| ImageError::Io { path, source }
    }
}

/// Returns the system's words for an error as Go has them: without a number, in lower case.
pub(crate) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    match error.raw_os_error() {
        Some(_) => text.to_lowercase(),
        None => text.to_owned(),
    }
}

/// Escapes control characters of text that came from outside, so that printing it cannot steer a terminal.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => out.extend(character.escape_default()),
            false => out.push(character),
        }
    }
    out
}
