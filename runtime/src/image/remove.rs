//! `rmi`: names first, then the image.

use std::collections::BTreeSet;

use layerfs::Digest;
use rusqlite::Transaction;

use super::ImageError;
use super::ImageId;
use super::list;
use super::rows;
use crate::Engine;
use crate::container::User;
use crate::container::users_of;
use crate::reference::Reference;

/// One thing that a removal did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// A name is gone.
    Untagged(String),
    /// An image or layer is gone.
    Deleted(Digest),
}

impl Engine {
    /// Removes a name of an image, and the image with its last one.
    ///
    /// Docker's rules: a name among several is only untagged; an id with several names needs `force`; the last name
    /// is refused while a container uses the image, a stopped one can be overridden by `force`, a running one only
    /// when the name is given (then it is only untagged).
    pub fn remove_image(&self, name: &str, force: bool) -> Result<Vec<Removal>, ImageError> {
        let id = self.image(name).map(|image| image.id.to_string());
        let removals = self.unname_image(name, force)?;
        let id = id.unwrap_or_default();
        for removal in &removals {
            match removal {
                Removal::Untagged(name) => self.emit_image("untag", &id, name),
                Removal::Deleted(digest) if digest.to_string() == id => {
                    self.emit_image("delete", &id, &id);
                }
                Removal::Deleted(_) => {}
            }
        }
        let deletes = removals
            .iter()
            .any(|removal| matches!(removal, Removal::Deleted(_)));
        if deletes {
            self.sweep()?;
        }
        Ok(removals)
    }

    /// Takes the rows away; the layers are the next sweep's.
    pub(super) fn unname_image(&self, name: &str, force: bool) -> Result<Vec<Removal>, ImageError> {
        self.bury_the_dead_quietly();
        let mut db = self.db();
        let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let id = list::find(&transaction, name)?;
        let users = users_of(&transaction, &id)?;
        let removals = remove(&transaction, name, &id, &users, force)?;
        transaction.commit()?;
        Ok(removals)
    }
}

/// Decides and does a removal within a transaction.
fn remove(
    db: &Transaction<'_>,
    name: &str,
    id: &ImageId,
    users: &[User],
    force: bool,
) -> Result<Vec<Removal>, ImageError> {
    let tags = rows::tags(db, id)?;
    let digests = rows::digests(db, id)?;
    let running = users.iter().find(|user| user.running);
    let mut removals = Vec::new();
    let reference = name
        .parse::<Reference>()
        .ok()
        .map(|reference| reference.or_latest())
        .filter(|reference| tags.contains(reference) || digests.contains(reference));
    match &reference {
        Some(reference) => {
            let is_tag = tags.contains(reference);
            let left = tags.iter().filter(|tag| *tag != reference).count();
            let other_digests = digests
                .iter()
                .filter(|digest| digest.repository() != reference.repository())
                .count();
            let is_last = if is_tag {
                left == 0 && other_digests == 0
            } else {
                tags.is_empty() && digests.len() == 1
            };
            if is_last
                && !force
                && let Some(user) = users.first()
            {
                return Err(ImageError::Conflict(format!(
                    "unable to remove repository reference {:?} (must force) - container {} is using its \
                     referenced image {}",
                    name,
                    short(&user.container),
                    id.short()
                )));
            }
            untag(db, reference, &tags, &digests, &mut removals)?;
            if !is_last || running.is_some() {
                return Ok(removals);
            }
        }
        None => {
            let names = digests.iter().chain(&tags).map(Reference::repository);
            let repositories: BTreeSet<String> = names.collect();
            if (tags.len() > 1 || repositories.len() > 1) && !force {
                return Err(ImageError::Conflict(format!(
                    "unable to delete {} (must be forced) - image is referenced in multiple repositories",
                    id.short()
                )));
            }
            if let Some(user) = running {
                return Err(ImageError::Conflict(format!(
                    "unable to delete {} (cannot be forced) - image is being used by running container {}",
                    id.short(),
                    short(&user.container)
                )));
            }
            if !force && let Some(user) = users.first() {
                return Err(ImageError::Conflict(format!(
                    "unable to delete {} (must be forced) - image is being used by stopped container {}",
                    id.short(),
                    short(&user.container)
                )));
            }
        }
    }
    for tag in rows::tags(db, id)? {
        removals.push(Removal::Untagged(tag.familiar()));
    }
    for digest in rows::digests(db, id)? {
        removals.push(Removal::Untagged(digest.familiar()));
    }
    let layers = rows::layers(db, id)?;
    rows::remove_image(db, id, !users.is_empty())?;
    removals.push(Removal::Deleted(id.0));
    if users.is_empty() {
        // Docker names each stack that goes with it, highest first.
        for length in (1..=layers.len()).rev() {
            if rows::is_layer_used(db, &layers[length - 1])? {
                break;
            }
            removals.push(Removal::Deleted(layerfs::ChainId::of(&layers[..length]).0));
        }
    }
    Ok(removals)
}

/// Takes one name away; a tag takes its repository's digests with it when it was the last there.
fn untag(
    db: &Transaction<'_>,
    reference: &Reference,
    tags: &[Reference],
    digests: &[Reference],
    removals: &mut Vec<Removal>,
) -> Result<(), ImageError> {
    let repository = reference.repository();
    if let (None, Some(tag)) = (reference.digest(), reference.tag()) {
        rows::remove_tag(db, &repository, tag)?;
        removals.push(Removal::Untagged(reference.familiar()));
        let others = tags
            .iter()
            .any(|tag| tag != reference && tag.repository() == repository);
        if others {
            return Ok(());
        }
    }
    for digest in digests
        .iter()
        .filter(|digest| digest.repository() == repository)
    {
        if let Some(wanted) = reference.digest()
            && digest.digest() != Some(wanted)
        {
            continue;
        }
        if let Some(digest) = digest.digest() {
            rows::remove_digest(db, &repository, digest)?;
        }
        removals.push(Removal::Untagged(digest.familiar()));
    }
    Ok(())
}

fn short(container: &str) -> &str {
    container.get(..12).unwrap_or(container)
}

#[cfg(test)]
mod tests {
    use layerfs::DiffId;
    use rusqlite::Connection;

    use super::*;
    use crate::image::rows::ImageRow;

    /// A database with one image of one layer under these names.
    fn database(names: &[&str]) -> (Connection, ImageId) {
        let mut db = Connection::open_in_memory().unwrap();
        db.execute_batch(rows::SCHEMA).unwrap();
        let id = ImageId(Digest::of(b"config"));
        let row = ImageRow {
            id,
            size: 1,
            created: None,
            last_tagged: None,
        };
        let transaction = db.transaction().unwrap();
        rows::add_image(&transaction, &row, &[DiffId(Digest::of(b"layer"))]).unwrap();
        for name in names {
            let name: Reference = name.parse().unwrap();
            rows::set_tag(&transaction, &name.repository(), name.tag().unwrap(), &id).unwrap();
        }
        transaction.commit().unwrap();
        (db, id)
    }

    fn user(running: bool) -> Vec<User> {
        vec![User {
            container: "0123456789abcdef".into(),
            running,
        }]
    }

    fn removed(
        names: &[&str],
        name: &str,
        users: &[User],
        force: bool,
    ) -> Result<(usize, bool), String> {
        let (mut db, id) = database(names);
        let transaction = db.transaction().unwrap();
        let name = if name == "ID" {
            id.to_string()
        } else {
            name.to_owned()
        };
        let removals =
            remove(&transaction, &name, &id, users, force).map_err(|error| error.to_string())?;
        let here = rows::is_present(&transaction, &id).unwrap();
        Ok((removals.len(), here))
    }

    #[test]
    fn an_image_that_a_container_uses_is_refused_in_dockers_words() {
        let id = ImageId(Digest::of(b"config")).short();
        for running in [true, false] {
            assert_eq!(
                removed(&["a:1"], "a:1", &user(running), false),
                Err(format!(
                    "conflict: unable to remove repository reference \"a:1\" (must force) - container \
                     0123456789ab is using its referenced image {id}"
                ))
            );
        }
        assert_eq!(
            removed(&["a:1"], "ID", &user(true), true),
            Err(format!(
                "conflict: unable to delete {id} (cannot be forced) - image is being used by running container \
                 0123456789ab"
            ))
        );
        assert_eq!(
            removed(&["a:1"], "ID", &user(false), false),
            Err(format!(
                "conflict: unable to delete {id} (must be forced) - image is being used by stopped container \
                 0123456789ab"
            ))
        );
        assert_eq!(
            removed(&["a:1", "a:2"], "ID", &[], false),
            Err(format!(
                "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories"
            ))
        );
    }

    #[test]
    fn force_untags_what_runs_and_hides_what_is_stopped() {
        // Only untagged: the image itself stays.
        assert_eq!(removed(&["a:1"], "a:1", &user(true), true), Ok((1, true)));
        // Untagged and deleted, but its layers stay for the container.
        assert_eq!(removed(&["a:1"], "a:1", &user(false), true), Ok((2, false)));
        assert_eq!(removed(&["a:1"], "ID", &user(false), true), Ok((2, false)));
        // One of two names can go at any time.
        assert_eq!(
            removed(&["a:1", "b:1"], "a:1", &user(true), false),
            Ok((1, true))
        );
        // Nobody uses it: untagged, deleted, and its layer's stack.
        assert_eq!(removed(&["a:1"], "a:1", &[], false), Ok((3, false)));
    }
}
