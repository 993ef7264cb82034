//! `ply compose logs`

use std::process::ExitCode;
use std::sync::mpsc;

use clap::Args as ClapArgs;
use runtime::container::LogOptions;

use super::Access;
use crate::command_error::CommandError;
use crate::compose::follow::Following;
use crate::compose::follow::Notice;
use crate::compose::follow::Plan;
use crate::compose::follow::Services;
use crate::compose::members::Member;
use crate::compose::view::View;
use crate::moment::moment;

/// Show what containers have said
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Go on until none runs
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
    let (project, mut members) = access.members(&engine, &args.services)?;
    members.retain(|member| args.index.is_none_or(|index| index == member.number));
    let view = View::new(
        !args.no_log_prefix,
        !args.no_color && access.has_colours,
        args.timestamps,
    );
    members
        .iter()
        .for_each(|member| view.add(&member.short_name()));
    if !args.follow {
        for member in &members {
            view.show_log(&engine, member, &options)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let services = match args.services.is_empty() {
        true => Services::All,
        false => Services::These(args.services),
    };
    let plan = Plan {
        engine,
        project,
        watched: services.clone(),
        shown: services,
        number: args.index,
        view,
        options,
    };
    follow(plan, &members)?;
    Ok(ExitCode::SUCCESS)
}

/// Shows what containers say, those that come later too, until none is left that runs.
fn follow(plan: Plan, members: &[Member]) -> Result<(), CommandError> {
    let (sender, noticed) = mpsc::channel::<Notice>();
    let mut following = Following::begin(plan, sender)?;
    following.add(members, true);
    loop {
        let notice = match following.patience() {
            Some(patience) => noticed.recv_timeout(patience).ok(),
            None => noticed.recv().ok(),
        };
        let Some(notice) = notice else {
            return Ok(());
        };
        if let Some(exit) = following.take(notice) {
            following.tell(&exit);
        }
    }
}
