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
    /// To those that `run` has made too
    #[arg(long)]
    all: bool,
    /// Keep owners
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link leads to instead of the link
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// The number of the container; else to all of the service's, or from the first
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
    let (name, mut members) = access.members(&engine, std::slice::from_ref(&service))?;
    if args.all {
        members = members::of_project(&engine, &name)?;
        members.retain(|member| member.service == service);
    }
    // What is read, a tar on standard input too, is read once.
    let is_one = from.0.is_some() || from.1 == "-";
    let chosen: Vec<&Member> = match args.index.filter(|index| *index > 0) {
        Some(index) => vec![members::one(&members, &service, Some(index))?],
        None => members
            .iter()
            .take(if is_one { 1 } else { usize::MAX })
            .collect(),
    };
    if chosen.is_empty() {
        return Err(CommandError::failed(format_args!(
            "no container found for service {service:?}"
        )));
    }
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
