//! What every command is given.

use runtime::Engine;
use runtime::EngineConfig;

use crate::command_error::CommandError;

/// The global options and the way to the engine.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where the engine keeps its things.
    pub(crate) config: EngineConfig,
}

impl Context {
    /// Opens the engine; commands that need none never pay for it.
    pub(crate) fn engine(&self) -> Result<Engine, CommandError> {
        Engine::open(&self.config).map_err(CommandError::failed)
    }
}
