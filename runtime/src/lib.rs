//! The engine: images and registries, containers and their monitors, and the state they share.
//!
//! [`engine::Engine`] is the facade that every front end calls; each verb is a method of it in the module it belongs
//! to. The crate knows no terminal: progress is told as events, and errors are types.

mod archive;
pub mod attach;
pub mod build;
pub mod byte_size;
pub mod cgroup;
pub mod check;
pub mod container;
pub mod copy;
pub mod engine;
pub mod events;
mod frame;
pub mod image;
pub mod monitor;
pub mod mount;
pub mod network;
pub mod progress;
pub mod reference;
pub mod registry;
pub mod sandbox;
mod state;
mod sys;
mod tree;
pub mod volume;

pub use archive::UnpackError;
pub use engine::Engine;
pub use engine::EngineConfig;
pub use sys::open_files::allow_all as allow_all_open_files;
