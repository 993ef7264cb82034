//! Taking away what no image and no container needs any more.
//!
//! `images.lock` orders this: whoever adds an image (pull, load, import) holds it shared from its first look at what is
//! here until its rows are committed, the sweep holds it alone. A sweep that finds it held leaves `sweep.wanted`
//! behind, and the holder who lets go sees to it. Order of locks: `images.lock`, then a layer's claim, then the
//! database.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::fs::File;
use std::path::PathBuf;

use layerfs::ChainId;
use layerfs::DiffId;
use layerfs::Digest;
use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::fcntl::FlockArg;

use super::ImageError;
use super::rows;
use crate::Engine;
use crate::container::users_of;

/// Keeps layers and blobs from being swept while an image that needs them is made.
pub(crate) struct Lease {
    lock: Option<Flock<File>>,
    engine: Engine,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.lock = None;
        if self.engine.sweep_mark().exists()
            && let Err(error) = self.engine.sweep()
        {
            log::warn!("removing unused layers: {error}");
        }
    }
}

impl Engine {
    fn images_lock(&self) -> Result<File, ImageError> {
        let path = self.root().join("images.lock");
        layerfs::store::open_lock(&path).map_err(ImageError::io(path))
    }

    fn sweep_mark(&self) -> PathBuf {
        self.root().join("sweep.wanted")
    }

    /// Keeps the sweep away until the lease is dropped.
    pub(crate) fn lease(&self) -> Result<Lease, ImageError> {
        let lock = Flock::lock(self.images_lock()?, FlockArg::LockShared)
            .map_err(|(_, errno)| ImageError::io(self.root().join("images.lock"))(errno.into()))?;
        Ok(Lease {
            lock: Some(lock),
            engine: self.clone(),
        })
    }

    /// Removes layers, stacks, objects and blobs that nothing needs; returns the bytes freed. If an image is being
    /// added right now, that one's end will do it.
    pub(crate) fn sweep(&self) -> Result<u64, ImageError> {
        let _alone = match Flock::lock(self.images_lock()?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => {
                let mark = self.sweep_mark();
                File::create(&mark).map_err(ImageError::io(&mark))?;
                return Ok(0);
            }
            Err((_, errno)) => {
                return Err(ImageError::io(self.root().join("images.lock"))(
                    errno.into(),
                ));
            }
        };
        let _ = std::fs::remove_file(self.sweep_mark());
        self.drop_removed_images()?;
        let (images, blobs, kept) = {
            let db = self.db();
            let kept = crate::build::cache::layers(&db)?;
            (rows::all_layers(&db)?, rows::all_blobs(&db)?, kept)
        };
        let of_images = images.iter().map(|(_, layer)| *layer);
        let live_layers: HashSet<DiffId> = of_images.chain(kept).collect();
        let mut stacks: BTreeMap<_, Vec<DiffId>> = BTreeMap::new();
        for (image, layer) in images {
            stacks.entry(image).or_default().push(layer);
        }
        let live_stacks: HashSet<ChainId> =
            stacks.values().map(|layers| ChainId::of(layers)).collect();
        let live_blobs: HashSet<Digest> = blobs.into_iter().collect();
        let store = self.store();
        for stack in store.stacks()? {
            if !live_stacks.contains(&stack) {
                store.remove_stack(&stack)?;
            }
        }
        let mut freed = 0;
        for layer in store.layers()? {
            if live_layers.contains(&layer) {
                continue;
            }
            let size = store.layer(&layer).map_or(0, |layer| layer.content_size());
            rows::forget_blobs_of(&self.db(), &layer)?;
            store.remove_layer(&layer)?;
            freed += size;
        }
        for blob in self.blob_digests()? {
            if !live_blobs.contains(&blob) {
                self.remove_blob(blob)?;
            }
        }
        if freed > 0 {
            store.collect_garbage()?;
        }
        Ok(freed)
    }

    /// Lets go of the images that were removed by force, once their last container is gone.
    fn drop_removed_images(&self) -> Result<(), ImageError> {
        let mut db = self.db();
        let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for id in rows::removed_images(&transaction)? {
            if users_of(&transaction, &id)?.is_empty() {
                rows::remove_image(&transaction, &id, false)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}
