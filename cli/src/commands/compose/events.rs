//! `ply compose events`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::events::Event;
use runtime::events::EventFilter;
use serde_json::json;

use super::Access;
use crate::command_error::CommandError;
use crate::compose::labels;
use crate::moment::moment;
use crate::output::outln;
use crate::terminal;

/// Show what happens to a project's containers
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Also what has happened since then (a time, or `10m` ago)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Stop at that time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The services; all if there are none
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let engine = access.engine()?;
    let (name, _) = access.name()?;
    let mut filter = EventFilter::default();
    for one in [
        "type=container".to_owned(),
        format!("label={}={name}", labels::PROJECT),
    ] {
        filter.add(&one).map_err(CommandError::failed)?;
    }
    let time = |text: &Option<String>| text.as_deref().map(moment).transpose();
    let mut events = engine
        .events(time(&args.since)?, time(&args.until)?, filter)
        .map_err(CommandError::failed)?;
    while let Some(event) = events.next_event().map_err(CommandError::failed)? {
        let service = event
            .attributes
            .get(labels::SERVICE)
            .cloned()
            .unwrap_or_default();
        if args.services.is_empty() || args.services.contains(&service) {
            show(&event, &service, args.json);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(event: &Event, service: &str, as_json: bool) {
    let attributes = || {
        let own = event.attributes.iter();
        own.filter(|(name, _)| !name.starts_with("com.docker.compose."))
    };
    if as_json {
        let attributes: std::collections::BTreeMap<_, _> = attributes().collect();
        let line = json!({
            "time": event.time.to_string(), "type": "container", "service": service, "id": event.id,
            "action": event.action, "attributes": attributes,
        });
        outln!("{line}");
        return;
    }
    let attributes: Vec<String> = attributes()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let time = event.time.to_zoned(jiff::tz::TimeZone::system());
    let line = format!(
        "{} container {} {} ({})",
        time.strftime("%Y-%m-%d %H:%M:%S.%6f"),
        event.action,
        event.id,
        attributes.join(", ")
    );
    outln!("{}", terminal::escaped(&line));
}
