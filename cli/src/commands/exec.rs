//! `ply exec`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::container::ContainerError;
use runtime::container::ExecOptions;

use super::container_options::environment;
use crate::command_error::CommandError;
use crate::context::Context;
use crate::detach_keys::DetachKeys;
use crate::interaction;
use crate::interaction::Interaction;
use crate::interaction::Outcome;
use crate::output::outln;
use crate::words;

/// Docker's exit code of a command that cannot be executed, whether it is there or not.
const CANNOT_EXECUTE: u8 = 126;

/// Run a further command in a running container
#[derive(Debug, ClapArgs)]
#[command(override_usage = "ply exec [OPTIONS] CONTAINER COMMAND [ARG...]")]
pub(crate) struct Args {
    /// Run in the background
    #[arg(short, long)]
    pub(super) detach: bool,
    /// Keys that leave the command running
    #[arg(long, value_name = "KEYS")]
    pub(super) detach_keys: Option<String>,
    /// Set an environment variable; without a value, to ours
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(super) env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Vec<PathBuf>,
    /// Pass standard input on
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// Give all capabilities
    #[arg(long)]
    pub(super) privileged: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub(super) tty: bool,
    /// User and group, names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(super) user: Option<String>,
    /// Directory the command starts in
    #[arg(short, long, value_name = "DIR")]
    pub(super) workdir: Option<String>,
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub(super) container: String,
    /// The command and its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(super) command: Vec<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let detach_keys = DetachKeys::parse(args.detach_keys.as_deref())?;
    let stdin = args.interactive && !args.detach;
    interaction::check_terminal(args.tty, stdin)?;
    let mut env = environment(&args.env_file, &[]).map_err(CommandError::plain)?;
    env.extend(environment(&[], &args.env)?);
    let options = ExecOptions {
        env,
        arguments: args.command,
        working_dir: args.workdir.filter(|directory| !directory.is_empty()),
        user: args.user.filter(|user| !user.is_empty()),
        privileged: args.privileged,
        tty: args.tty,
        stdin,
        size: interaction::window_size(),
    };
    let engine = context.engine()?;
    if !args.detach {
        interaction::hold_signals();
    }
    let attachment = match engine.exec_container(&args.container, options) {
        Ok(attachment) => attachment,
        Err(error @ ContainerError::Start { code, .. }) if !args.detach => {
            return refused(code, &error);
        }
        Err(error) => return Err(CommandError::failed(words::of_exec(&error))),
    };
    if args.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let interaction = Interaction {
        tty: args.tty,
        stdin,
        sig_proxy: false,
        detach_keys,
    };
    match interaction.follow(attachment)? {
        Outcome::Exit(code) => Ok(ExitCode::from(code as u8)),
        Outcome::Detached => Ok(ExitCode::SUCCESS),
    }
}

/// Says why the command cannot be executed where Docker says it: on standard output, in the command's place.
fn refused(code: u8, error: &ContainerError) -> Result<ExitCode, CommandError> {
    let words = words::of_exec(error);
    if code != CANNOT_EXECUTE && words == error.to_string() {
        return Err(CommandError::failed(words));
    }
    outln!("{words}");
    Ok(ExitCode::from(CANNOT_EXECUTE))
}
