//! `ply start`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::container::StartOptions;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::detach_keys::DetachKeys;
use crate::interaction;
use crate::interaction::Interaction;
use crate::interaction::Outcome;
use crate::output::outln;

/// Start containers
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Attach to the output, and end as the container ends
    #[arg(short, long)]
    attach: bool,
    /// Keys that leave the container running
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Attach to the input
    #[arg(short, long)]
    interactive: bool,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    if args.attach || args.interactive {
        let [name] = args.containers.as_slice() else {
            return Err(CommandError::failed(
                "you cannot start and attach multiple containers at once",
            ));
        };
        let container = engine.container(name).map_err(CommandError::failed)?;
        let stdin = args.interactive && container.config.open_stdin;
        let detach_keys = DetachKeys::parse(args.detach_keys.as_deref())?;
        interaction::check_terminal(container.config.tty, stdin)?;
        interaction::hold_signals();
        let options = StartOptions {
            attach: Some([stdin, true, true]),
            size: interaction::window_size(),
        };
        let attachment = engine.start_container(name, &options).map_err(|error| {
            CommandError::with_code(
                1,
                format_args!("{error}\nError: failed to start containers: {name}"),
            )
        })?;
        let interaction = Interaction {
            tty: container.config.tty,
            stdin,
            sig_proxy: true,
            detach_keys,
        };
        return match attachment
            .map(|attachment| interaction.follow(attachment))
            .transpose()?
        {
            Some(Outcome::Exit(code)) => Ok(ExitCode::from(code as u8)),
            Some(Outcome::Detached) | None => Ok(ExitCode::SUCCESS),
        };
    }
    let mut words = Vec::new();
    let mut failed = Vec::new();
    for name in &args.containers {
        match engine.start_container(name, &StartOptions::default()) {
            Ok(_) => outln!("{name}"),
            Err(error) => {
                words.push(error.to_string());
                failed.push(name.as_str());
            }
        }
    }
    match failed.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(CommandError::failed(format_args!(
            "{}\nError: failed to start containers: {}",
            words.join("\n"),
            failed.join(", ")
        ))),
    }
}
