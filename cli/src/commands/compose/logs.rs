//! `ply compose logs`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::container::LogOptions;

use super::Access;
use crate::command_error::CommandError;
use crate::compose::order;
use crate::compose::view::View;
use crate::moment::moment;

/// Show what containers have said
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Go on until they end
    #[arg(short, long)]
    follow: bool,
    /// Only the container with this number
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// Show names without colours
    #[arg(long)]
    no_color: bool,
    /// Show lines without names
    #[arg(long)]
    no_log_prefix: bool,
    /// Only what was said since then (a time, or `10m` ago)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only the last lines of each
    #[arg(
        short = 'n',
        long,
        value_name = "NUMBER",
        default_value = "all",
        allow_hyphen_values = true
    )]
    tail: String,
    /// Show when each line was said
    #[arg(short, long)]
    timestamps: bool,
    /// Only what was said before then (a time, or `10m` ago)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The services; all if there are none
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let time = |text: &Option<String>| text.as_deref().map(moment).transpose();
    let options = LogOptions {
        follow: args.follow,
        tail: args.tail.parse().ok(),
        since: time(&args.since)?,
        until: time(&args.until)?,
    };
    let engine = access.engine()?;
    let (_, mut members) = access.members(&engine, &args.services)?;
    members.retain(|member| args.index.is_none_or(|index| index == member.number));
    let view = View::new(
        !args.no_log_prefix,
        !args.no_color && access.has_colours,
        args.timestamps,
    );
    members
        .iter()
        .for_each(|member| view.add(&member.short_name()));
    match args.follow {
        true => order::all_at_once(&members, |it| view.show_log(&engine, it, &options))?,
        false => members
            .iter()
            .try_for_each(|it| view.show_log(&engine, it, &options))?,
    }
    Ok(ExitCode::SUCCESS)
}
