//! `ply logout`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::registry;
use runtime::registry::LoginStore;
use runtime::registry::Settings;

use crate::command_error::CommandError;
use crate::output::outln;

/// Forget the login to a registry
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The registry; Docker Hub if there is none
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, CommandError> {
    let given = args.server.as_deref().unwrap_or_default();
    let name = registry::login_name(given);
    let mut store = LoginStore::open(&Settings::default()).map_err(CommandError::failed)?;
    // Other clients have kept addresses.
    let mut names = vec![
        format!("http://{name}"),
        format!("https://{name}"),
        given.to_owned(),
    ];
    names.push(name.clone());
    names.retain(|name| store.has(name));
    names.dedup();
    if names.is_empty() {
        outln!("Not logged in to {name}");
        return Ok(ExitCode::SUCCESS);
    }
    outln!("Removing login credentials for {name}");
    for name in names {
        store.forget(&name).map_err(|error| {
            CommandError::failed(format_args!("could not erase credentials: {error}"))
        })?;
    }
    Ok(ExitCode::SUCCESS)
}
