//! `ply rm`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::container::ContainerError;

use super::each::each;
use super::each::each_at_once;
use crate::command_error::CommandError;
use crate::context::Context;

/// Remove containers
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Kill and remove running ones too; one that is not there is no error
    #[arg(short, long)]
    force: bool,
    /// Remove a link, `CONTAINER/ALIAS`, and no container
    #[arg(short, long)]
    link: bool,
    /// Remove anonymous volumes too
    #[arg(short, long)]
    volumes: bool,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    if args.link {
        return each(&args.containers, |name| engine.remove_link(name));
    }
    let (missing, there): (Vec<String>, Vec<String>) = match args.force {
        false => (Vec::new(), args.containers),
        true => args.containers.into_iter().partition(|name| {
            let found = engine.container(name);
            matches!(found, Err(ContainerError::NoSuchContainer(_)))
        }),
    };
    for name in missing {
        eprintln!("{}", ContainerError::NoSuchContainer(name));
    }
    each_at_once(&there, |name| {
        match engine.remove_container(name, args.force, args.volumes) {
            Err(ContainerError::NoSuchContainer(_)) if args.force => Ok(()),
            removed => removed,
        }
    })
}
