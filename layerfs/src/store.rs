//! The store of layers on disk.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// What keeps the store from doing what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused something on a file of the store.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The store: layers, stacks and objects under one root, shared by several processes.
#[derive(Clone, Debug)]
pub struct Store {
    root: Arc<Path>,
}

impl Store {
    /// Opens the store under `root`, making its directories first if they are not there.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        Ok(Store { root: root.into() })
    }

    /// Returns the store's root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }
}
