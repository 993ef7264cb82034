//! `ply compose exec`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::Access;
use crate::command_error::CommandError;
use crate::commands::exec;
use crate::compose::members;
use crate::terminal;

/// Run a further command in a service's container
#[derive(Debug, ClapArgs)]
#[command(override_usage = "ply compose exec [OPTIONS] SERVICE COMMAND [ARG...]")]
pub(super) struct Args {
    /// Run in the background
    #[arg(short, long)]
    detach: bool,
    /// Set an environment variable; without a value, to ours
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// The number of the container
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// Pass standard input on
    #[arg(short, long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    interactive: bool,
    /// Give the command no terminal
    #[arg(short = 'T', long, alias = "no-TTY")]
    no_tty: bool,
    /// Give all capabilities
    #[arg(long)]
    privileged: bool,
    /// Give the command a terminal if there is one
    #[arg(short, long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    tty: bool,
    /// User and group, names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Directory the command starts in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// The service
    #[arg(value_name = "SERVICE")]
    service: String,
    /// The command and its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<String>,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let engine = access.engine()?;
    let (_, members) = access.members(&engine, std::slice::from_ref(&args.service))?;
    let running: Vec<_> = members
        .into_iter()
        .filter(|member| member.container.state.status.is_alive())
        .collect();
    let member = members::one(&running, &args.service, args.index)?;
    let tty = args.tty
        && !args.no_tty
        && !args.detach
        && terminal::stdout_is_terminal()
        && terminal::stdin_is_terminal();
    let exec = exec::Args {
        detach: args.detach,
        detach_keys: None,
        env: args.env,
        env_file: Vec::new(),
        interactive: args.interactive,
        privileged: args.privileged,
        tty,
        user: args.user,
        workdir: args.workdir,
        container: member.id().to_owned(),
        command: args.command,
    };
    exec::run(exec, access.context)
}
