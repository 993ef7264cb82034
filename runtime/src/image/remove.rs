//! `rmi`: names first, then the image.

use layerfs::Digest;
use rusqlite::Transaction;

use super::ImageError;
use super::ImageId;
use super::list;
use super::rows;
use crate::Engine;
use crate::reference::Reference;

/// One thing that a removal did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// A name is gone.
    Untagged(String),
    /// An image or layer is gone.
    Deleted(Digest),
}

/// A container that uses an image.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) container: String,
    pub(crate) running: bool,
}

impl Engine {
    /// Removes a name of an image, and the image with its last one.
    ///
    /// Docker's rules: a name among several is only untagged; an id with several names needs `force`; the last name
    /// is refused while a container uses the image, a stopped one can be overridden by `force`, a running one only
    /// when the name is given (then it is only untagged).
    pub fn remove_image(&self, name: &str, force: bool) -> Result<Vec<Removal>, ImageError> {
        let id = self.find_image(name)?;
        let users = self.containers_of(&id)?;
        let removals = {
            let mut db = self.db();
            let transaction =
                db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            // Another process may have renamed it since.
            let id = list::find(&transaction, name)?;
            let removals = remove(&transaction, name, &id, &users, force)?;
            transaction.commit()?;
            removals
        };
        let deletes = removals
            .iter()
            .any(|removal| matches!(removal, Removal::Deleted(_)));
        if deletes {
            self.sweep()?;
        }
        Ok(removals)
    }

    /// Returns the containers that use an image.
    pub(crate) fn containers_of(&self, id: &ImageId) -> Result<Vec<User>, ImageError> {
        let _ = id;
        Ok(Vec::new())
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
            let repositories: std::collections::BTreeSet<String> =
                tags.iter().map(Reference::repository).collect();
            if tags.len() > 1 && repositories.len() > 1 && !force {
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
