//! `ply run`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::container::StartOptions;

use super::container_options::ContainerOptions;
use super::container_options::attached;
use super::container_options::tell_warnings;
use crate::command_error::CommandError;
use crate::context::Context;
use crate::detach_keys::DetachKeys;
use crate::interaction;
use crate::interaction::Interaction;
use crate::interaction::Outcome;
use crate::output::outln;

/// Make a container from an image and run a command in it
#[derive(Debug, ClapArgs)]
#[command(disable_help_flag = true, next_display_order = None, override_usage = "ply run [OPTIONS] IMAGE [COMMAND] [ARG...]")]
pub(crate) struct Args {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave the container running
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Pass signals on to the container
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    #[command(flatten)]
    container: ContainerOptions,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let container = &args.container;
    if args.detach && !container.attach.is_empty() {
        return Err(CommandError::failed(
            "conflicting options: cannot specify both --attach and --detach",
        ));
    }
    let streams = attached(&container.attach, container.interactive)?;
    let detach_keys = DetachKeys::parse(args.detach_keys.as_deref())?;
    if !args.detach {
        interaction::check_terminal(container.tty, streams[0])?;
    }
    let options = container.create_options(args.detach)?;
    tell_warnings(&options);
    let engine = context.engine()?;
    if !args.detach {
        interaction::hold_signals();
    }
    let prepared = container.create(&engine, || engine.prepare_container(&options))?;
    let id = prepared.id().to_string();
    if let Err(error) = container.write_cidfile(&id) {
        drop(prepared);
        let _ = engine.remove_container(&id, true, true);
        return Err(error);
    }
    if args.detach {
        outln!("{id}");
    }
    let start = StartOptions {
        attach: (!args.detach).then_some(streams),
        size: interaction::window_size(),
    };
    let attachment = engine
        .start_prepared(prepared, &start)
        .map_err(|error| CommandError::start(&error))?;
    let Some(attachment) = attachment else {
        return Ok(ExitCode::SUCCESS);
    };
    let interaction = Interaction {
        tty: container.tty,
        stdin: streams[0],
        sig_proxy: args.sig_proxy,
        detach_keys,
    };
    match interaction.follow(attachment)? {
        Outcome::Exit(code) => Ok(ExitCode::from(code as u8)),
        Outcome::Detached => Ok(ExitCode::SUCCESS),
    }
}
