//! What containers and images are to each other.

use rusqlite::Connection;

use super::Container;
use super::rows;
use crate::Engine;
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

impl Engine {
    /// Returns what a container's image is called: as when the container was made, or by its id if that name leads to
    /// another image by now, or to none.
    pub fn image_name_of(&self, container: &Container) -> String {
        let config = &container.config;
        let is_so = |id: ImageId| id.to_string() == config.image_id;
        match self.find_image(&config.image).is_ok_and(is_so) {
            true => config.image.clone(),
            false => config.image_id.clone(),
        }
    }
}
