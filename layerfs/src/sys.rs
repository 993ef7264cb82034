//! The system calls that have no safe wrapper elsewhere, and all of this crate's `unsafe`.

pub(crate) mod memory;
pub(crate) mod store;
pub(crate) mod thread;
