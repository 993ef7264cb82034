//! `ply attach`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::detach_keys::DetachKeys;
use crate::interaction;
use crate::interaction::Interaction;
use crate::interaction::Outcome;

/// Attach to a running container's streams
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Keys that leave the container running
    #[arg(long, value_name = "KEYS")]
    pub(super) detach_keys: Option<String>,
    /// Do not attach to the input
    #[arg(long)]
    pub(super) no_stdin: bool,
    /// Pass signals on to the container
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(super) sig_proxy: bool,
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub(super) container: String,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    let container = engine
        .container(&args.container)
        .map_err(CommandError::failed)?;
    let stdin = container.config.open_stdin && !args.no_stdin;
    let detach_keys = DetachKeys::parse(args.detach_keys.as_deref())?;
    interaction::check_terminal(container.config.tty, stdin)?;
    interaction::hold_signals();
    let attachment = engine
        .attach_container(&args.container, [stdin, true, true])
        .map_err(CommandError::failed)?;
    if container.config.tty {
        let (rows, columns) = interaction::window_size();
        // A program redraws what was there before when its window changes, and only then.
        let sender = attachment.sender();
        let _ = sender.resize(rows.saturating_add(1), columns.saturating_add(1));
        let _ = sender.resize(rows, columns);
    }
    let interaction = Interaction {
        tty: container.config.tty,
        stdin,
        sig_proxy: args.sig_proxy,
        detach_keys,
    };
    match interaction.follow(attachment)? {
        Outcome::Exit(code) => Ok(ExitCode::from(code as u8)),
        Outcome::Detached => Ok(ExitCode::SUCCESS),
    }
}
