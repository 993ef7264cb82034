//! The store of layers, stacks and objects on disk.
//!
//! ```text
//! layers/<hex of diff ID>/index   the tree index of one layer
//! layers/<hex of diff ID>/pack    its tar without the payloads of large files
//! stacks/<hex of chain ID>        the tree index of layers seen merged
//! objects/<hex>                   a large file's bytes; read-only, shared by all layers
//! locks/<hex>                     held while a layer is being made; `store` while objects are dropped
//! tmp/<random>/                   what is being made; its `lock` is held while its maker lives
//! ```
//!
//! A layer is written under `tmp/`, flushed once as a whole (`syncfs(2)`), and becomes visible by renames: first its
//! objects, then its directory. A crash leaves a directory in `tmp/` whose lock nobody holds, and at worst objects that
//! no layer names; the first is swept when a store is opened, the second by [`Store::collect_garbage`].

mod check;
mod removal;
mod tmp_dir;

use std::collections::HashSet;
use std::fs;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Read;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use nix::fcntl::Flock;
use nix::fcntl::FlockArg;

pub use self::check::Fault;
pub use self::removal::remove_tree;
pub use self::tmp_dir::TmpDir;
use crate::digest::ChainId;
use crate::digest::DiffId;
use crate::digest::Digest;
use crate::index::IndexError;
use crate::ingest;
use crate::ingest::Expect;
use crate::ingest::IngestError;
use crate::ingest::Ingested;
use crate::layer::Layer;
use crate::stack::Stack;
use crate::sys;

/// What keeps the store from doing what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused something on a file of the store.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The layer is not here.
    #[error("no such layer: {0}")]
    NoSuchLayer(DiffId),
    /// An index cannot be used.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The layers do not fit together.
    #[error(
        "layer {layer}: hard link {link:?} to {target:?}, which is in none of the layers below"
    )]
    DanglingLink {
        /// The layer with the link.
        layer: DiffId,
        /// The link's path.
        link: String,
        /// The path it names.
        target: String,
    },
    /// The tree is larger than an index can hold.
    #[error("the stack {0} is too large for an index")]
    TooLarge(ChainId),
}

/// Keeps the path beside what the system said of it.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError + '_ {
    |source| StoreError::Io {
        path: path.to_owned(),
        source,
    }
}

/// The store: layers, stacks and objects under one root, shared by several processes.
#[derive(Clone, Debug)]
pub struct Store {
    root: Arc<Path>,
}

/// Who makes a layer.
#[derive(Debug)]
pub enum Claim {
    /// It is here already, or somebody else has finished it meanwhile.
    Present,
    /// The caller; nobody else starts on it until the claim is dropped.
    Mine(LayerClaim),
}

/// The right to make a layer.
#[derive(Debug)]
pub struct LayerClaim {
    _lock: Flock<File>,
}

/// Makes a directory and its parents, closed to other users; or closes it if it is there and open to them.
pub fn make_closed(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700);
    match builder.create(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            builder.recursive(true).create(directory)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => close(directory, 0o700),
        made => made,
    }
}

/// Opens a file that is nothing but a lock, making it first if it is not there: other users could hold it too if they
/// could open it.
pub fn open_lock(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path)?;
    close(path, 0o600)?;
    Ok(file)
}

/// Takes other users' rights to what is there away, if they have any; `mode` is what the owner keeps.
pub fn close(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    const OTHERS: u32 = 0o077;
    match fs::metadata(path)?.permissions().mode() & OTHERS {
        0 => Ok(()),
        _ => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
    }
}

impl Store {
    /// Opens the store under `root`, making its directories first if they are not there and sweeping what died.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        let store = Store { root: root.into() };
        for name in ["layers", "stacks", "objects", "locks", "tmp"] {
            let path = root.join(name);
            make_closed(&path).map_err(at(&path))?;
        }
        // What cannot be removed is in nobody's way.
        if let Err(error) = tmp_dir::sweep(&store) {
            log::warn!("{error}");
        }
        Ok(store)
    }

    /// Returns the store's root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn layer_dir(&self, layer: &DiffId) -> PathBuf {
        self.root.join("layers").join(layer.0.hex())
    }

    pub(crate) fn object_path(&self, object: &Digest) -> PathBuf {
        self.root.join("objects").join(object.hex())
    }

    fn stack_path(&self, chain: &ChainId) -> PathBuf {
        self.root.join("stacks").join(chain.0.hex())
    }

    /// Returns whether the layer is here, whole.
    pub fn has_layer(&self, layer: &DiffId) -> bool {
        self.layer_dir(layer).join("index").exists()
    }

    /// Takes the right to make a layer, waiting for another process that is making it.
    pub fn claim(&self, layer: &DiffId) -> Result<Claim, StoreError> {
        if self.has_layer(layer) {
            return Ok(Claim::Present);
        }
        let lock = self.lock(&layer.0.hex(), FlockArg::LockExclusive)?;
        Ok(match self.has_layer(layer) {
            true => Claim::Present,
            false => Claim::Mine(LayerClaim { _lock: lock }),
        })
    }

    pub(crate) fn lock(&self, name: &str, how: FlockArg) -> Result<Flock<File>, StoreError> {
        let path = self.root.join("locks").join(name);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(at(&path))?;
        Flock::lock(file, how).map_err(|(_, errno)| at(&path)(errno.into()))
    }

    /// Takes a layer's blob apart in one streaming pass and makes it visible when all of it is durable.
    pub fn ingest(&self, blob: impl Read + Send, expect: Expect) -> Result<Ingested, IngestError> {
        ingest::ingest(self, blob, expect)
    }

    /// Opens a layer.
    pub fn layer(&self, layer: &DiffId) -> Result<Arc<Layer>, StoreError> {
        if !self.has_layer(layer) {
            return Err(StoreError::NoSuchLayer(*layer));
        }
        Layer::open(self, *layer).map(Arc::new)
    }

    /// Returns the layers that are here.
    pub fn layers(&self) -> Result<Vec<DiffId>, StoreError> {
        Ok(self.digests("layers")?.into_iter().map(DiffId).collect())
    }

    /// Returns the stacks that are here.
    pub fn stacks(&self) -> Result<Vec<ChainId>, StoreError> {
        Ok(self.digests("stacks")?.into_iter().map(ChainId).collect())
    }

    pub(crate) fn objects(&self) -> Result<Vec<Digest>, StoreError> {
        self.digests("objects")
    }

    fn digests(&self, directory: &str) -> Result<Vec<Digest>, StoreError> {
        let path = self.root.join(directory);
        let mut found = Vec::new();
        for entry in fs::read_dir(&path).map_err(at(&path))? {
            let name = entry.map_err(at(&path))?.file_name();
            found.extend(name.to_str().and_then(|name| Digest::from_hex(name).ok()));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Removes a layer; a mount that has it open keeps what it holds.
    pub fn remove_layer(&self, layer: &DiffId) -> Result<(), StoreError> {
        let doomed = self.tmp_dir()?;
        let path = self.layer_dir(layer);
        match fs::rename(&path, doomed.path().join("layer")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed.map_err(at(&path)),
        }
    }

    /// Removes a stack's index; a mount that has it open keeps it.
    pub fn remove_stack(&self, chain: &ChainId) -> Result<(), StoreError> {
        let path = self.stack_path(chain);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(at(&path)),
        }
    }

    /// Opens the stack of `layers`, lowest first, folding them first if that has not been done.
    pub fn stack(&self, layers: &[DiffId]) -> Result<Arc<Stack>, StoreError> {
        let chain = ChainId::of(layers);
        let path = self.stack_path(&chain);
        if !path.exists() {
            let tmp = self.tmp_dir()?;
            let made = tmp.path().join("stack");
            let mut out = BufWriter::new(File::create(&made).map_err(at(&made))?);
            crate::stack::fold(self, layers, &mut out)?;
            out.flush().map_err(at(&made))?;
            out.get_ref().sync_data().map_err(at(&made))?;
            fs::rename(&made, &path).map_err(at(&path))?;
            self.sync_directory("stacks")?;
        }
        Stack::open(self, &path, layers).map(Arc::new)
    }

    pub(crate) fn sync_directory(&self, name: &str) -> Result<(), StoreError> {
        let path = self.root.join(name);
        File::open(&path)
            .and_then(|directory| directory.sync_all())
            .map_err(at(&path))
    }

    pub(crate) fn sync_everything(&self) -> Result<(), StoreError> {
        use std::os::fd::AsFd;
        let directory = File::open(&*self.root).map_err(at(&self.root))?;
        sys::store::sync_filesystem(directory.as_fd()).map_err(at(&self.root))
    }

    /// Makes a private directory in `tmp/`, swept if this process dies.
    pub fn tmp_dir(&self) -> Result<TmpDir, StoreError> {
        tmp_dir::TmpDir::new(self)
    }

    /// Removes the objects that no layer names, and returns how many bytes that freed.
    pub fn collect_garbage(&self) -> Result<u64, StoreError> {
        let _alone = self.lock("store", FlockArg::LockExclusive)?;
        let mut live = HashSet::new();
        for layer in self.layers()? {
            live.extend(Layer::open(self, layer)?.object_digests());
        }
        let mut freed = 0;
        for object in self.objects()? {
            if live.contains(&object) {
                continue;
            }
            let path = self.object_path(&object);
            let meta = fs::symlink_metadata(&path).map_err(at(&path))?;
            fs::remove_file(&path).map_err(at(&path))?;
            freed += std::os::unix::fs::MetadataExt::blocks(&meta) * 512;
        }
        self.sweep_locks()?;
        Ok(freed)
    }

    /// Removes the lock files of layers that nobody is making.
    fn sweep_locks(&self) -> Result<(), StoreError> {
        for digest in self.digests("locks")? {
            let path = self.root.join("locks").join(digest.hex());
            if self.has_layer(&DiffId(digest)) {
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }
}
