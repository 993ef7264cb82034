//! The filesystem: layers kept as indexed packs, stacks of them seen merged, and the union of a stack with a
//! writable upper, shown through FUSE.
//!
//! In the order data flows: a layer's tar is taken apart by [`ingest`] into an [`index`], a pack and objects, kept by
//! the [`store`]; [`stack`] folds the indexes of an image's layers into one; [`union`] puts a writable upper on a
//! stack; [`fuse`] translates the kernel's requests to it. The crate knows no image and no container.

pub mod digest;
pub mod store;

pub use digest::ChainId;
pub use digest::DiffId;
pub use digest::Digest;
