//! `ply stats`

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;
use runtime::Engine;
use runtime::cgroup::Usage;
use runtime::container::Container;
use runtime::container::ContainerFilter;
use serde_json::Value;
use serde_json::json;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::docker_json::total_memory;
use crate::format::Listing;
use crate::human_size::binary_size;
use crate::human_size::human_size;
use crate::output::out;

/// How long the processors' use is measured.
const INTERVAL: Duration = Duration::from_secs(1);

/// Puts the cursor home and clears the screen.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// Show what containers use
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Show all containers, not just running ones
    #[arg(short, long)]
    pub(super) all: bool,
    /// Format the output: `table`, `table TEMPLATE`, `json` or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Option<String>,
    /// Show it once and end
    #[arg(long)]
    pub(super) no_stream: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub(super) no_trunc: bool,
    /// The containers; all that run if there are none
    #[arg(value_name = "CONTAINER")]
    pub(super) containers: Vec<String>,
}

const LISTING: Listing<'_> = Listing {
    row: "stats",
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
};

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    let memory = total_memory();
    let mut before = HashMap::new();
    let containers = wanted(&engine, &args)?;
    measure(&engine, &containers, &mut before);
    loop {
        std::thread::sleep(INTERVAL);
        let containers = wanted(&engine, &args)?;
        let last = before.clone();
        measure(&engine, &containers, &mut before);
        let rows: Vec<Value> = containers
            .iter()
            .map(|container| {
                let id = container.id.as_str();
                fields(
                    container,
                    before.get(id),
                    last.get(id),
                    memory,
                    args.no_trunc,
                )
            })
            .collect();
        let text = LISTING
            .write(args.format.as_deref(), &rows)
            .map_err(CommandError::failed)?;
        match args.no_stream || args.format.is_some() {
            true => out!("{text}"),
            false => out!("{CLEAR}{text}"),
        }
        if args.no_stream {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn wanted(engine: &Engine, args: &Args) -> Result<Vec<Container>, CommandError> {
    if args.containers.is_empty() {
        return engine
            .containers(args.all, &ContainerFilter::default())
            .map_err(CommandError::failed);
    }
    let named = args.containers.iter().map(|name| engine.container(name));
    named
        .collect::<Result<_, _>>()
        .map_err(CommandError::failed)
}

fn measure(engine: &Engine, containers: &[Container], usages: &mut HashMap<String, Usage>) {
    usages.clear();
    for container in containers {
        if let Some(usage) = engine.usage(container) {
            usages.insert(container.id.to_string(), usage);
        }
    }
}

fn fields(
    container: &Container,
    usage: Option<&Usage>,
    before: Option<&Usage>,
    memory: u64,
    whole: bool,
) -> Value {
    let id = match whole {
        true => container.id.as_str(),
        false => container.id.short(),
    };
    let Some(usage) = usage else {
        return json!({
            "ID": id, "Container": id, "Name": container.name, "CPUPerc": "--", "MemUsage": "-- / --", "MemPerc": "--",
            "NetIO": "--", "BlockIO": "--", "PIDs": "--",
        });
    };
    let limit = container.config.resources.memory.unwrap_or(memory);
    let percent = usage.memory as f64 / limit.max(1) as f64 * 100.0;
    let both = |(a, b): (u64, u64)| format!("{} / {}", human_size(a), human_size(b));
    json!({
        "ID": id,
        "Container": id,
        "Name": container.name,
        "CPUPerc": format!("{:.2}%", before.map_or(0.0, |before| usage.cpu_percent(before))),
        "MemUsage": format!("{} / {}", binary_size(usage.memory), binary_size(limit)),
        "MemPerc": format!("{percent:.2}%"),
        "NetIO": both(usage.network),
        "BlockIO": both(usage.block),
        "PIDs": usage.pids.to_string(),
    })
}
