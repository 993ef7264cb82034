//! The engine's things in the shape of Docker's API, as commands show them and the server sends them.

mod event;
mod info;
mod shared;
mod status;
mod version;
mod volume;

pub(crate) use event::event;
pub(crate) use info::info;
pub(crate) use info::total_memory;
pub(crate) use shared::shared_sizes;
pub(crate) use status::command_words;
pub(crate) use status::status_words;
pub(crate) use version::client_version;
pub(crate) use version::server_version;
pub(crate) use volume::volume;
