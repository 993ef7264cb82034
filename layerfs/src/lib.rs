//! The filesystem: layers kept as indexed packs, stacks of them seen merged, and the union of a stack with a
//! writable upper, shown through FUSE.
//!
//! In the order data flows: a layer's tar is taken apart by [`ingest`] into a tree index, a pack and objects, kept by
//! the [`store`] as a [`layer`]; [`stack`] folds the indexes of an image's layers into one. The crate knows no image
//! and no container.

pub mod digest;
pub mod errno;
pub mod fuse;
mod index;
pub mod ingest;
pub mod layer;
mod marks;
pub mod stack;
pub mod store;
mod sys;
pub mod union;

pub use digest::ChainId;
pub use digest::DiffId;
pub use digest::Digest;
pub use errno::Errno;
pub use index::IndexError;
pub use index::Kind;
pub use index::Meta;
pub use index::NodeId;
pub use index::Timespec;
pub use ingest::Compression;
pub use ingest::Expect;
pub use ingest::IngestError;
pub use ingest::Ingested;
pub use layer::Layer;
pub use marks::Namespace;
pub use marks::WHITEOUT_PREFIX;
pub use stack::ChildEntry;
pub use stack::DirectoriesError;
pub use stack::Stack;
pub use stack::TopDown;
pub use stack::Wait;
pub use store::Claim;
pub use store::Fault;
pub use store::Store;
pub use store::StoreError;
pub use store::TmpDir;
pub use union::Ino;
pub use union::Union;
pub use union::Upper;
pub use union::UpperOptions;
