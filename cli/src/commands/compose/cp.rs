//! `ply compose cp`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::Access;
use crate::command_error::CommandError;
use crate::commands::cp;
use crate::compose::members;
use crate::compose::members::Member;

/// Copy files between a service's container and the host
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// To all containers of the service
    #[arg(long)]
    all: bool,
    /// Keep owners
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link leads to instead of the link
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// The number of the container
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// Where from
    #[arg(value_name = "[SERVICE:]SOURCE")]
    source: String,
    /// Where to
    #[arg(value_name = "[SERVICE:]TARGET")]
    target: String,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let engine = access.engine()?;
    let (from, to) = (cp::split(&args.source), cp::split(&args.target));
    let service = match (from.0, to.0) {
        (Some(service), None) | (None, Some(service)) => service.to_owned(),
        (Some(_), Some(_)) => {
            return Err(CommandError::failed(
                "copying between services is not supported",
            ));
        }
        (None, None) => return Err(CommandError::failed("unknown copy direction")),
    };
    let (_, members) = access.members(&engine, std::slice::from_ref(&service))?;
    let chosen: Vec<&Member> = match args.all {
        true => members.iter().collect(),
        false => vec![members::one(&members, &service, args.index)?],
    };
    for member in chosen {
        let place = |(service, path): (Option<&str>, &str)| match service {
            Some(_) => format!("{}:{path}", member.id()),
            None => path.to_owned(),
        };
        let one = cp::Args {
            archive: args.archive,
            follow_link: args.follow_link,
            quiet: true,
            source: place(from),
            target: place(to),
        };
        cp::run(one, access.context)?;
    }
    Ok(ExitCode::SUCCESS)
}
