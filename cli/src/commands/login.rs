//! `ply login`

use std::io::Read as _;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::registry;
use runtime::registry::Login;
use runtime::registry::LoginStore;
use runtime::registry::Settings;

use crate::command_error::CommandError;
use crate::output::outln;
use crate::terminal;

/// Log in to a registry
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The password
    #[arg(short, long)]
    password: Option<String>,
    /// Take the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// Who logs in
    #[arg(short, long)]
    username: Option<String>,
    /// The registry; Docker Hub if there is none
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, CommandError> {
    let name = registry::login_name(args.server.as_deref().unwrap_or_default());
    let settings = Settings::default();
    let mut store = LoginStore::open(&settings).map_err(CommandError::failed)?;
    let given = args.username.is_some() || args.password.is_some() || args.password_stdin;
    if !given && store.has(&name) {
        eprintln!("Authenticating with existing credentials...");
        match registry::log_in(&name, &settings) {
            Ok(()) => {
                outln!("Login Succeeded");
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => eprintln!("Login did not succeed, error: {error}"),
        }
    }
    let (user, password) = credentials(args)?;
    let login = Login::Password {
        user: user.clone(),
        password: password.clone(),
    };
    let brought = Settings {
        docker_config: None,
        login: Some(login),
        ..settings
    };
    registry::log_in(&name, &brought).map_err(CommandError::failed)?;
    let is_plain = store
        .keep(&name, &user, &password)
        .map_err(|error| CommandError::failed(format_args!("Error saving credentials: {error}")))?;
    if is_plain {
        eprintln!(
            "WARNING! Your password will be stored unencrypted in {}.\n\
             Configure a credential helper to remove this warning. See\n\
             https://docs.docker.com/engine/reference/commandline/login/#credentials-store\n",
            store.path().display()
        );
    }
    outln!("Login Succeeded");
    Ok(ExitCode::SUCCESS)
}

/// Returns the name and the password, asking a person for what is not given.
fn credentials(args: Args) -> Result<(String, String), CommandError> {
    let mut password = args.password;
    if password.is_some() {
        eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        if args.password_stdin {
            return Err(CommandError::failed(
                "--password and --password-stdin are mutually exclusive",
            ));
        }
    }
    let user = args.username.filter(|user| !user.is_empty());
    if args.password_stdin {
        if user.is_none() {
            return Err(CommandError::failed(
                "Must provide --username with --password-stdin",
            ));
        }
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(CommandError::failed)?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        password = Some(text.strip_suffix('\r').unwrap_or(text).to_owned());
    }
    let is_complete = user.is_some() && password.is_some();
    if !is_complete && !terminal::stdin_is_terminal() {
        return Err(CommandError::failed(
            "Error: Cannot perform an interactive login from a non TTY device",
        ));
    }
    let user = match user {
        Some(user) => user,
        None => terminal::asked("Username: ", true).map_err(CommandError::failed)?,
    };
    if user.is_empty() {
        return Err(CommandError::failed("Error: Non-null Username Required"));
    }
    let password = match password {
        Some(password) => password,
        None => terminal::asked("Password: ", false).map_err(CommandError::failed)?,
    };
    if password.is_empty() {
        return Err(CommandError::failed("Error: Password Required"));
    }
    Ok((user, password))
}
