//! Builds: images from Dockerfiles.
//!
//! A build is asked for with [`BuildOptions`], tells [`BuildEvent`]s, and ends in a [`BuildOutcome`] or a [`BuildError`].

mod agent;
mod base;
mod builder;
pub(crate) mod cache;
mod cancel;
mod compression;
mod context;
mod digests;
pub mod dockerfile;
mod error;
mod event;
mod fetch;
mod files;
mod glob;
pub mod ignore;
mod layer;
mod metadata;
mod mode;
mod mount_cache;
mod options;
mod output;
mod run;
mod run_mounts;
mod scope;
mod select;
mod source;
mod stages;
mod state;
mod step;
mod transfer;
mod transport;

pub use cache::CacheEntry;
pub use cache::CachePrune;
pub use cache::PrunedCache;
pub use cancel::Cancel;
pub use error::BuildError;
pub use error::StepError;
pub use event::BuildEvent;
pub use event::BuildProgress;
pub use event::OutputStream;
pub use event::SilentBuild;
pub use event::StepId;
pub use options::Allow;
pub use options::BuildOptions;
pub use options::BuildOutcome;
pub use options::CacheExport;
pub use options::CacheStore;
pub use options::ContextSource;
pub use options::Destination;
pub use options::DockerfileSource;
pub use options::NamedContext;
pub use options::Output;
pub use options::SecretSource;
