//! `ply logs`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use jiff::Timestamp;
use runtime::container::LogOptions;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::output;

/// Show what a container has said
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Only what was said since then (a time, or `10m` ago)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only the last lines
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
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let time = |text: &Option<String>| text.as_deref().map(moment).transpose();
    let options = LogOptions {
        follow: args.follow,
        // As with Docker, what is no number is all.
        tail: args.tail.parse().ok(),
        since: time(&args.since)?,
        until: time(&args.until)?,
    };
    let engine = context.engine()?;
    let mut logs = engine
        .logs(&args.container, &options)
        .map_err(CommandError::failed)?;
    while let Some(entry) = logs.next_entry().map_err(CommandError::failed)? {
        let text = match args.timestamps {
            true => format!("{:.9} {}", entry.time, entry.text),
            false => entry.text,
        };
        output::pass(entry.is_error, text.as_bytes());
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a time: seconds since the epoch, RFC 3339, a date, or how long ago (`1h30m`).
pub(super) fn moment(text: &str) -> Result<Timestamp, CommandError> {
    let invalid = || CommandError::failed(format_args!("invalid value for time: {text:?}"));
    if let Ok(seconds) = text.parse::<f64>() {
        return Timestamp::from_nanosecond((seconds * 1e9) as i128).map_err(|_| invalid());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(time) = text.parse::<jiff::civil::DateTime>() {
        let zoned = time
            .to_zoned(jiff::tz::TimeZone::UTC)
            .map_err(|_| invalid())?;
        return Ok(zoned.timestamp());
    }
    let span: jiff::SignedDuration = text.parse().map_err(|_| invalid())?;
    Timestamp::now().checked_sub(span).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form() {
        let at = |text| moment(text).expect("a time").as_second();
        assert_eq!(at("1700000000"), 1_700_000_000);
        assert_eq!(at("2023-11-14T22:13:20Z"), 1_700_000_000);
        assert_eq!(at("2023-11-14T22:13:20"), 1_700_000_000);
        assert!((Timestamp::now().as_second() - at("1h30m") - 5400).abs() < 5);
        assert!(moment("yesterday").is_err());
    }
}
