//! `history`: the steps an image was made by, newest first.

use super::ImageError;
use super::ImageId;
use crate::Engine;

/// One step.
#[derive(Debug, Clone)]
pub struct HistoryEntry {
    /// The image, for the newest step; the others' are not known.
    pub image: Option<ImageId>,
    /// When it was done, RFC 3339.
    pub created: Option<String>,
    /// What did it.
    pub created_by: String,
    /// The bytes of the files in the layer it made.
    pub size: u64,
    /// A remark.
    pub comment: String,
    /// The image's names, for the newest step.
    pub tags: Vec<String>,
}

impl Engine {
    /// Returns the steps of an image, newest first.
    pub fn history(&self, name: &str) -> Result<Vec<HistoryEntry>, ImageError> {
        let image = self.image(name)?;
        let mut sizes = Vec::new();
        for layer in &image.layers {
            sizes.push(self.store().layer(layer)?.content_size());
        }
        let mut sizes = sizes.into_iter();
        let mut entries: Vec<HistoryEntry> = Vec::new();
        for step in image.config.history().iter().flatten() {
            let size = match step.empty_layer() {
                Some(true) => 0,
                _ => sizes.next().unwrap_or(0),
            };
            entries.push(HistoryEntry {
                image: None,
                created: step.created().clone(),
                created_by: step.created_by().clone().unwrap_or_default(),
                size,
                comment: step.comment().clone().unwrap_or_default(),
                tags: Vec::new(),
            });
        }
        // Layers that no step tells of, as tools make them that keep no history.
        entries.extend(sizes.map(|size| HistoryEntry {
            image: None,
            created: image.created.clone(),
            created_by: String::new(),
            size,
            comment: String::new(),
            tags: Vec::new(),
        }));
        entries.reverse();
        if let Some(newest) = entries.first_mut() {
            newest.image = Some(image.id);
            newest.tags = image.tags.iter().map(|tag| tag.familiar()).collect();
        }
        Ok(entries)
    }
}
