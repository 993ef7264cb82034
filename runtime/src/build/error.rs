//! What keeps a build from its end.

use std::io;
use std::path::PathBuf;

use layerfs::store::StoreError;

use super::dockerfile::DockerfileError;
use crate::container::ContainerError;
use crate::image::ImageError;
use crate::image::Platform;
use crate::reference::InvalidReference;
use crate::registry::RegistryError;

/// Why a build has failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A step has failed.
    #[error("{cause}")]
    Step {
        /// The Dockerfile's name.
        file: String,
        /// The first line of the instruction.
        line: u32,
        /// The instruction's text.
        instruction: String,
        /// What went wrong.
        #[source]
        cause: Box<StepError>,
    },
    /// The Dockerfile says nothing that can be done.
    #[error(transparent)]
    Dockerfile(#[from] DockerfileError),
    /// The context cannot be read.
    #[error("unable to prepare context: {0}")]
    Context(#[source] Box<StepError>),
    /// The Dockerfile is not where it should be.
    #[error(
        "failed to read dockerfile: open {name}: {}",
        crate::image::words(source)
    )]
    NoDockerfile {
        /// Where it should be.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// No stage is called like that.
    #[error("failed to reach build target {0} in Dockerfile")]
    NoTarget(String),
    /// The result could not be put where it was asked for.
    #[error("{0}")]
    Output(#[source] Box<StepError>),
    /// The cache could not be brought from or to where it was asked for.
    #[error("cache: {0}")]
    Cache(#[source] Box<StepError>),
    /// The engine itself failed.
    #[error(transparent)]
    Engine(Box<StepError>),
}

impl BuildError {
    /// Returns Docker's exit code for it: a failing command's own, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            BuildError::Step { cause, .. } => cause.exit_code(),
            _ => 1,
        }
    }
}

/// What went wrong in a step.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A `RUN`'s command has failed.
    #[error("The command '{command}' returned a non-zero code: {code}")]
    Command {
        /// The command, its words joined.
        command: String,
        /// Its exit code.
        code: i32,
    },
    /// A source is not in the context or stage.
    #[error(
        "{verb} failed: file not found in build context or excluded by .dockerignore: stat {path}: file does not exist"
    )]
    NotInContext {
        /// `COPY` or `ADD`.
        verb: &'static str,
        /// The source.
        path: String,
    },
    /// A source is not in the stage or image it is to come from.
    #[error("{verb} failed: stat {path}: file does not exist")]
    NotInSource {
        /// `COPY` or `ADD`.
        verb: &'static str,
        /// The source.
        path: String,
    },
    /// A pattern fits nothing.
    #[error("{verb} failed: no source files were specified")]
    NoSources {
        /// `COPY` or `ADD`.
        verb: &'static str,
    },
    /// A source leads out of the context.
    #[error("{verb} failed: forbidden path outside the build context: {path} ()")]
    OutsideContext {
        /// `COPY` or `ADD`.
        verb: &'static str,
        /// The source.
        path: String,
    },
    /// Several sources need a directory.
    #[error(
        "When using {verb} with more than one source file, the destination must be a directory and end with a /"
    )]
    NotADirectory {
        /// `COPY` or `ADD`.
        verb: &'static str,
    },
    /// Something else is wrong with what is copied.
    #[error("{verb} failed: {words}")]
    Transfer {
        /// `COPY` or `ADD`.
        verb: &'static str,
        /// What.
        words: String,
    },
    /// A word's variables, or a mount, cannot be read.
    #[error("{0}")]
    Word(String),
    /// The base's name cannot be one.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// What a fetched file is does not fit what was stated.
    #[error("ADD failed: digest mismatch for {url}: expected {expected}, got {found}")]
    Checksum {
        /// Where it came from.
        url: String,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A secret or an agent is required and was not given.
    #[error("{kind} {id}: not found")]
    NotGiven {
        /// `secret` or `ssh`.
        kind: &'static str,
        /// Its id.
        id: String,
    },
    /// A step asks for what the build was not allowed.
    #[error("{0} is not allowed: pass --allow {0} to the build")]
    NotAllowed(&'static str),
    /// There is no image for that platform here, and the step needs one.
    #[error(
        "image with reference {image} was found but does not match the specified platform: wanted {platform}"
    )]
    Platform {
        /// The image.
        image: String,
        /// The platform.
        platform: Platform,
    },
    /// An image could not be found, pulled, made or read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A registry said no.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The command's container could not be.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The store of layers failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database failed.
    #[error("state.db: {0}")]
    Database(#[from] rusqlite::Error),
    /// The system refused something on a file.
    #[error("{path}: {}", crate::image::words(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program that the step needs has failed.
    #[error("{program}: {words}")]
    Program {
        /// Which.
        program: &'static str,
        /// What it said.
        words: String,
    },
    /// Another step has failed, and this one was stopped for it.
    #[error("canceled")]
    Canceled,
}

impl StepError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> StepError {
        let path = path.into();
        move |source| StepError::Io { path, source }
    }

    fn exit_code(&self) -> u8 {
        match self {
            StepError::Command { code, .. } => u8::try_from(*code).unwrap_or(1).max(1),
            _ => 1,
        }
    }
}

impl From<layerfs::ingest::IngestError> for StepError {
    fn from(error: layerfs::ingest::IngestError) -> StepError {
        StepError::Image(ImageError::from(error))
    }
}
