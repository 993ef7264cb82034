//! `system check`: every digest and every reference, from the database's rows down to the objects.

use std::collections::HashSet;

use layerfs::Digest;

use crate::Engine;
use crate::container::ContainerFilter;
use crate::image::rows;

/// What keeps a check from being made.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The store of layers cannot be read.
    #[error(transparent)]
    Store(#[from] layerfs::StoreError),
    /// The images cannot be read.
    #[error(transparent)]
    Image(#[from] crate::image::ImageError),
    /// The containers cannot be read.
    #[error(transparent)]
    Container(#[from] crate::container::ContainerError),
    /// The database cannot be read.
    #[error("state.db: {0}")]
    Database(#[from] rusqlite::Error),
}

impl Engine {
    /// Verifies layers, objects and stacks, manifests and configs, and that what images and containers refer to is
    /// here; returns what is wrong, each naming the thing and the fault. Nothing is removed or pulled meanwhile.
    pub fn check(&self) -> Result<Vec<String>, CheckError> {
        let _lease = self.lease()?;
        let mut faults: Vec<String> = self
            .store()
            .check()?
            .iter()
            .map(ToString::to_string)
            .collect();
        let layers: HashSet<_> = self.store().layers()?.into_iter().collect();
        let (integrity, needed, blobs) = {
            let db = self.db();
            let integrity: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
            (integrity, rows::all_layers(&db)?, rows::all_blobs(&db)?)
        };
        if integrity != "ok" {
            faults.push(format!("state.db: {integrity}"));
        }
        for (image, layer) in needed {
            if !layers.contains(&layer) {
                faults.push(format!("image {image}: its layer {layer} is not here"));
            }
        }
        for blob in blobs.into_iter().collect::<HashSet<Digest>>() {
            if let Err(error) = self.blob(blob) {
                faults.push(format!("blob {blob}: {error}"));
            }
        }
        for container in self.containers(true, &ContainerFilter::default())? {
            for layer in &container.config.layers {
                let is_here = layer
                    .parse()
                    .is_ok_and(|digest| layers.contains(&layerfs::DiffId(digest)));
                if !is_here {
                    faults.push(format!(
                        "container {}: its layer {layer} is not here",
                        container.id
                    ));
                }
            }
        }
        faults.sort();
        Ok(faults)
    }
}
