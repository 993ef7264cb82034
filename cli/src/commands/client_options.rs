//! What Docker's client is told before the verb.

use std::path::PathBuf;

use clap::ArgAction;
use clap::Args;
use clap::ValueEnum;

use crate::command_error::CommandError;
use crate::sys;

/// The options of a client: where its settings lie, what it logs, and which engine it speaks to: there is one.
#[derive(Debug, Args)]
pub(super) struct ClientOptions {
    /// Directory of the client's settings: `config.json` with logins [env: DOCKER_CONFIG]
    #[arg(long, value_name = "DIR", help_heading = "Global options")]
    config: Option<PathBuf>,
    /// The engine's context: `default`
    #[arg(short, long, value_name = "NAME", help_heading = "Global options")]
    context: Option<String>,
    /// Log all that is done
    #[arg(short = 'D', long, help_heading = "Global options")]
    debug: bool,
    /// The engine's socket: a local one
    #[arg(
        short = 'H',
        long,
        value_name = "ADDRESS",
        help_heading = "Global options"
    )]
    host: Vec<String>,
    /// What is logged: `debug`, `info`, `warn`, `error` or `fatal`
    #[arg(short, long, value_name = "LEVEL", help_heading = "Global options")]
    log_level: Option<LogLevel>,
    /// Print the version
    #[arg(short = 'v', short_alias = 'V', long = "version", action = ArgAction::Version, help_heading = "Global options")]
    _version: Option<bool>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

impl ClientOptions {
    /// Returns which messages of ours are logged.
    pub(super) fn log_level(&self) -> &'static str {
        match self.log_level {
            _ if self.debug => "ply=debug,runtime=debug,layerfs=debug",
            Some(LogLevel::Debug) => "ply=debug,runtime=debug,layerfs=debug",
            Some(LogLevel::Info) => "ply=info,runtime=info,layerfs=info",
            Some(LogLevel::Warn) => "ply=warn,runtime=warn,layerfs=warn",
            Some(LogLevel::Error | LogLevel::Fatal) | None => "error",
        }
    }

    /// Does as they say, and refuses what leads to another engine.
    pub(super) fn apply(&self) -> Result<(), CommandError> {
        let is_local = |host: &&String| host.is_empty() || host.starts_with("unix://");
        if let Some(host) = self.host.iter().find(|host| !is_local(host)) {
            return Err(CommandError::failed(format_args!(
                "cannot use the engine at {host}: ply works on this machine and speaks to no other"
            )));
        }
        let context = self.context.as_deref().unwrap_or_default();
        if !matches!(context, "" | "default") {
            return Err(CommandError::failed(format_args!(
                "context {context:?} does not exist: there is only \"default\""
            )));
        }
        if let Some(directory) = &self.config {
            sys::set_variable("DOCKER_CONFIG", directory);
        }
        Ok(())
    }
}
