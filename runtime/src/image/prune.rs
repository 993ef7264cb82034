//! `image prune`: every image nobody names or uses.

use super::ImageError;
use super::ImageFilter;
use super::Removal;
use crate::Engine;
use crate::container::users_of;

/// What a prune did.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// In the order it happened.
    pub removals: Vec<Removal>,
    /// Bytes of the layers that are gone.
    pub freed: u64,
}

impl Engine {
    /// Removes the images without a name that no container uses; with `all` those with a name too.
    pub fn prune_images(&self, all: bool, filter: &ImageFilter) -> Result<Pruned, ImageError> {
        let filter = ImageFilter {
            dangling: filter.dangling.or(Some(true)).filter(|_| !all),
            ..filter.clone()
        };
        let mut pruned = Pruned::default();
        for image in self.images(&filter)? {
            if !users_of(&self.db(), &image.id)?.is_empty() {
                continue;
            }
            let names: Vec<String> = match image.tags.is_empty() {
                true => vec![image.id.to_string()],
                false => image.tags.iter().map(ToString::to_string).collect(),
            };
            for name in names {
                match self.unname_image(&name, false) {
                    Ok(removals) => pruned.removals.extend(removals),
                    // Somebody removed it or began to use it since.
                    Err(ImageError::NoSuchImage(_) | ImageError::Conflict(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        pruned.freed = self.sweep()?;
        self.emit_prune("image", pruned.freed);
        Ok(pruned)
    }
}
