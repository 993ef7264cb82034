//! What containers need of images, for the verbs that remove images.

use rusqlite::Connection;

use super::rows;
use crate::image::ImageId;

/// A container that uses an image.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) container: String,
    /// As its row says: who asks buries the dead first.
    pub(crate) running: bool,
}

/// Returns the containers that use an image, as the database knows them now; asked within the transaction that removes,
/// so that none can begin to use it between.
pub(crate) fn users_of(db: &Connection, id: &ImageId) -> rusqlite::Result<Vec<User>> {
    let users = rows::of_image(db, &id.to_string())?;
    Ok(users
        .into_iter()
        .map(|(id, running)| User {
            container: id.0,
            running,
        })
        .collect())
}
