//! `ply logs`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::container::Config;
use runtime::container::LogOptions;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::moment::moment;
use crate::output;

/// Show what a container has said
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Show the labels and variables that the log's options name
    #[arg(long)]
    details: bool,
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
    let details = match args.details {
        true => engine
            .container(&args.container)
            .map(|container| format!("{} ", details(&container.config)))
            .map_err(CommandError::failed)?,
        false => String::new(),
    };
    let mut logs = engine
        .logs(&args.container, &options)
        .map_err(CommandError::failed)?;
    while let Some(entry) = logs.next_entry().map_err(CommandError::failed)? {
        let text = match args.timestamps {
            true => format!("{:.9} {details}{}", entry.time, entry.text),
            false => format!("{details}{}", entry.text),
        };
        output::pass(entry.is_error, text.as_bytes());
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the labels and variables that the log's options name, as Docker shows them.
fn details(config: &Config) -> String {
    let named = |option: &str| {
        let names = config.log.options.get(option).map_or("", String::as_str);
        names.split(',').filter(|name| !name.is_empty())
    };
    let labels = named("labels").filter_map(|name| Some((name, config.labels.get(name)?.as_str())));
    let variables = named("env").filter_map(|name| {
        let mut variables = config.env.iter().filter_map(|it| it.split_once('='));
        variables.find(|(it, _)| *it == name)
    });
    let mut pairs: Vec<String> = labels
        .chain(variables)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.sort();
    pairs.join(",")
}
