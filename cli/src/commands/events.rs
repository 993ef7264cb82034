//! `ply events`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::events::Event;
use runtime::events::EventFilter;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::docker_json;
use crate::format::Listing;
use crate::moment::moment;
use crate::output::out;
use crate::output::outln;
use crate::terminal;

/// Show what happens to containers and images
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Only events that fit (`container`, `event`, `image`, `label`, `network`, `type`)
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Format the output: `json` or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Also what has happened since then (a time, or `10m` ago)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Stop at that time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let mut filter = EventFilter::default();
    for one in &args.filter {
        filter.add(one).map_err(CommandError::failed)?;
    }
    let time = |text: &Option<String>| text.as_deref().map(moment).transpose();
    let (since, until) = (time(&args.since)?, time(&args.until)?);
    let engine = context.engine()?;
    let mut events = engine
        .events(since, until, filter)
        .map_err(CommandError::failed)?;
    while let Some(event) = events.next_event().map_err(CommandError::failed)? {
        match &args.format {
            Some(format) => {
                let listing = Listing {
                    row: "events.Message",
                    table: "",
                    headings: &[],
                };
                let text = listing.write(Some(format), &[docker_json::event(&event)]);
                out!("{}", text.map_err(CommandError::failed)?);
            }
            None => outln!("{}", terminal::escaped(&line(&event))),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(event: &Event) -> String {
    let attributes: Vec<String> = event
        .attributes
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!(
        "{:.9} {} {} {} ({})",
        event.time,
        event.kind,
        event.action,
        event.id,
        attributes.join(", ")
    )
}
