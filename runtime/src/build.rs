//! Builds: images from Dockerfiles.
//!
//! A build is asked for with [`BuildOptions`], tells [`BuildEvent`]s, and ends in a [`BuildOutcome`] or a [`BuildError`].

pub mod dockerfile;
mod error;
mod event;
pub mod ignore;
mod options;

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
