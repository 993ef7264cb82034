//! `tag`: another name for an image.

use super::Image;
use super::ImageError;
use super::ImageId;
use super::rows;
use crate::Engine;
use crate::reference::Reference;

impl Engine {
    /// Names the image `source` stands for `target` too.
    pub fn tag(&self, source: &str, target: &Reference) -> Result<(), ImageError> {
        if target.digest().is_some() {
            return Err(ImageError::Malformed(
                "refusing to create a tag with a digest reference".into(),
            ));
        }
        let image: Image = self.image(source)?;
        self.tag_image(&image.id, target)
    }

    /// Names an image.
    pub(crate) fn tag_image(&self, id: &ImageId, target: &Reference) -> Result<(), ImageError> {
        let target = target.or_latest();
        let mut db = self.db();
        let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        if !rows::is_present(&transaction, id)? {
            return Err(ImageError::NoSuchImage(id.to_string()));
        }
        let tag = target.tag().unwrap_or(crate::reference::DEFAULT_TAG);
        rows::set_tag(&transaction, &target.repository(), tag, id)?;
        transaction.commit()?;
        drop(db);
        self.emit_image("tag", &id.to_string(), &target.familiar());
        Ok(())
    }
}
