//! The Compose Specification: files become a [`project::Project`].
//!
//! [`yaml`] reads a file to a tree, [`interpolate`] fills it in, [`shape`] and [`schema`] check it and bring it into its
//! one form, [`merge`] puts files over one another, [`loader`] leads through all that, [`normalize`] completes the
//! result, [`model`] is what it decodes to, [`check`] looks at the whole.
//!
//! On the engine a project is a [`composition::Composition`]: [`images`] brings what is missing, [`converge`] makes
//! containers what the files say, [`start`] starts them in [`order`], [`attach`] shows them in the foreground, for which
//! [`follow`] sees them come and go. What there is of a project is known from the labels of its containers alone
//! ([`members`], [`labelled`]), and [`down`] needs nothing else.

pub(crate) mod attach;
pub(crate) mod built;
mod check;
pub(crate) mod composition;
pub(crate) mod container;
pub(crate) mod converge;
mod dotenv;
pub(crate) mod down;
pub(crate) mod environment;
mod files;
pub(crate) mod follow;
mod foreign;
pub(crate) mod hooks;
mod images;
pub(crate) mod interpolate;
mod join;
pub(crate) mod labelled;
pub(crate) mod labels;
mod limits;
mod loader;
pub(crate) mod members;
mod merge;
mod model;
mod networks;
mod normalize;
pub(crate) mod order;
mod paths;
pub(crate) mod project;
pub(crate) mod report;
mod resources;
mod schema;
mod shape;
mod short_forms;
mod start;
#[cfg(test)]
mod tests;
pub(crate) mod view;
pub(crate) mod words;
pub(crate) mod yaml;

use std::fmt;
use std::path::PathBuf;

/// Why a project cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("no configuration file provided: not found")]
    NoFile,
    #[error("open {}: {words}", path.display())]
    Open { path: PathBuf, words: String },
    #[error("env file {} not found: {words}", path.display())]
    EnvFile { path: PathBuf, words: String },
    #[error("failed to read {}: {words}", path.display())]
    BadEnvFile { path: PathBuf, words: String },
    #[error("unsupported env_file format {0:?}")]
    EnvFormat(String),
    #[error("failed to parse {file}: yaml: {words}")]
    Parse { file: String, words: String },
    #[error("{file}: top-level object must be a mapping")]
    TopLevel { file: String },
    #[error("validating {file}: {words}")]
    Invalid { file: String, words: String },
    #[error("{place}: {words}")]
    Decode { place: String, words: String },
    #[error(transparent)]
    Template(#[from] interpolate::TemplateError),
    #[error("include cycle detected:\n{0}")]
    IncludeCycle(String),
    #[error("Circular reference:\n  {0}")]
    ExtendsCycle(String),
    #[error("cannot extend service {name:?} in {file}: service {base:?} not found in {place}")]
    ExtendsNothing {
        name: String,
        file: String,
        base: String,
        place: String,
    },
    #[error(
        "invalid project name {0:?}: must consist only of lowercase alphanumeric characters, hyphens, and underscores \
         as well as start with a letter or number"
    )]
    ProjectName(String),
    #[error("project name must not be empty")]
    NoName,
    #[error("empty compose file")]
    Empty,
    #[error("no such service: {0}")]
    NoService(String),
    #[error("{0}")]
    Inconsistent(String),
}

/// Tells a person of something that does not keep the command from going on.
pub(crate) fn warn(words: fmt::Arguments<'_>) {
    eprintln!("WARN[0000] {words}");
}
