//! The bytes of layers in the store: packs and objects.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::OnceLock;

use lru::LruCache;
use parking_lot::Mutex;

use crate::digest::DiffId;
use crate::digest::Digest;
use crate::index::Index;
use crate::store::Store;

/// How many objects are kept open for reading.
const OPEN_OBJECTS: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// The layers of a stack in a store.
#[derive(Debug)]
pub(super) struct Stored {
    layers: Vec<DiffId>,
    store: Store,
    packs: Vec<OnceLock<Arc<File>>>,
    objects: Mutex<LruCache<u32, Arc<File>>>,
}

impl Stored {
    pub(super) fn new(store: &Store, layers: &[DiffId]) -> Stored {
        Stored {
            layers: layers.to_vec(),
            store: store.clone(),
            packs: layers.iter().map(|_| OnceLock::new()).collect(),
            objects: Mutex::new(LruCache::new(OPEN_OBJECTS)),
        }
    }

    pub(super) fn layers(&self) -> &[DiffId] {
        &self.layers
    }

    /// Returns a layer's pack.
    pub(super) fn pack(&self, layer: u32) -> io::Result<Arc<File>> {
        let (Some(pack), Some(diff_id)) = (
            self.packs.get(layer as usize),
            self.layers.get(layer as usize),
        ) else {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        };
        if let Some(pack) = pack.get() {
            return Ok(pack.clone());
        }
        let file = Arc::new(File::open(self.store.layer_dir(diff_id).join("pack"))?);
        Ok(pack.get_or_init(|| file).clone())
    }

    /// Returns an object that stays open for a while.
    pub(super) fn object(&self, index: &Index, object: u32) -> io::Result<Arc<File>> {
        if let Some(file) = self.objects.lock().get(&object) {
            return Ok(file.clone());
        }
        let file = Arc::new(self.open_object(index, object)?);
        self.objects.lock().put(object, file.clone());
        Ok(file)
    }

    /// Opens an object of the index's table.
    pub(super) fn open_object(&self, index: &Index, object: u32) -> io::Result<File> {
        let digest = Digest(index.objects()[object as usize]);
        File::open(self.store.object_path(&digest))
    }
}
