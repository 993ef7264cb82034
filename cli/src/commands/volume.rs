//! `ply volume`: the verbs on volumes.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use clap::Subcommand;
use runtime::volume::DRIVER;
use runtime::volume::Volume;
use runtime::volume::VolumeFilter;
use runtime::volume::VolumeOptions;
use runtime::volume::VolumesPruned;
use serde_json::Value;
use serde_json::json;

use super::each::each;
use super::inspect;
use crate::command_error::CommandError;
use crate::context::Context;
use crate::docker_json;
use crate::format::Listing;
use crate::human_size::human_size;
use crate::output::out;
use crate::output::outln;

/// Manage volumes
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(CreateArgs),
    Inspect(InspectArgs),
    #[command(alias = "list")]
    Ls(LsArgs),
    Prune(PruneArgs),
    #[command(alias = "remove")]
    Rm(RmArgs),
}

/// Make a volume
#[derive(Debug, ClapArgs)]
struct CreateArgs {
    /// The volume's driver
    #[arg(short, long, value_name = "DRIVER", default_value = DRIVER)]
    driver: String,
    /// Set a label
    #[arg(long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Option of the driver (`type`, `device`, `o`)
    #[arg(short, long, value_name = "NAME=VALUE")]
    opt: Vec<String>,
    /// The volume's name
    #[arg(value_name = "VOLUME")]
    name: Option<String>,
}

/// Show all that is known of volumes
#[derive(Debug, ClapArgs)]
struct InspectArgs {
    /// Format the output: `json` or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// The volumes
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

/// List volumes
#[derive(Debug, ClapArgs)]
struct LsArgs {
    /// Only volumes that fit (`dangling`, `driver`, `label`, `name`)
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Format the output: `table`, `table TEMPLATE`, `json` or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print only names
    #[arg(short, long)]
    quiet: bool,
}

/// Remove volumes that no container has
#[derive(Debug, ClapArgs)]
struct PruneArgs {
    /// Remove those with a name too
    #[arg(short, long)]
    all: bool,
    /// Only volumes that fit (`label=<key>[=<value>]`, `label!=<key>[=<value>]`)
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Remove volumes
#[derive(Debug, ClapArgs)]
struct RmArgs {
    /// One that is not there is no error
    #[arg(short, long)]
    force: bool,
    /// The volumes
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

const LISTING: Listing<'_> = Listing {
    row: "volume",
    table: "{{.Driver}}\t{{.Name}}",
    headings: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Label()", "LABEL"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Status", "STATUS"),
        ("Availability", "AVAILABILITY"),
        ("Group", "GROUP"),
    ],
};

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    match args.verb {
        Verb::Create(args) => create(args, context),
        Verb::Inspect(args) => inspect_volumes(&args, context),
        Verb::Ls(args) => ls(&args, context),
        Verb::Prune(args) => prune(&args, context),
        Verb::Rm(args) => {
            let engine = context.engine()?;
            each(&args.volumes, |name| engine.remove_volume(name, args.force))
        }
    }
}

fn create(args: CreateArgs, context: &Context) -> Result<ExitCode, CommandError> {
    let options = VolumeOptions {
        name: args.name,
        driver: args.driver,
        driver_opts: pairs(&args.opt),
        labels: pairs(&args.label),
    };
    let created = context.engine()?.create_volume(&options);
    outln!("{}", created.map_err(CommandError::failed)?.name);
    Ok(ExitCode::SUCCESS)
}

fn pairs(texts: &[String]) -> BTreeMap<String, String> {
    texts
        .iter()
        .map(|text| text.split_once('=').unwrap_or((text, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn inspect_volumes(args: &InspectArgs, context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    inspect::show(&args.volumes, args.format.as_deref(), |name| {
        engine
            .volume(name)
            .map(|volume| Some(docker_json::volume(&volume)))
            .map_err(|error| error.to_string())
    })
}

fn ls(args: &LsArgs, context: &Context) -> Result<ExitCode, CommandError> {
    let mut filter = VolumeFilter::default();
    for one in &args.filter {
        filter.add(one).map_err(CommandError::failed)?;
    }
    let volumes = context.engine()?.volumes(&filter);
    let volumes = volumes.map_err(CommandError::failed)?;
    if args.quiet {
        volumes.iter().for_each(|volume| outln!("{}", volume.name));
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Value> = volumes.iter().map(fields).collect();
    let text = LISTING.write(args.format.as_deref(), &rows);
    out!("{}", text.map_err(CommandError::failed)?);
    Ok(ExitCode::SUCCESS)
}

/// Returns the fields that a template or `json` shows.
pub(super) fn fields(volume: &Volume) -> Value {
    let labels: Vec<String> = volume
        .labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    json!({
        "Availability": "N/A",
        "Driver": DRIVER,
        "Group": "N/A",
        "Label()": volume.labels,
        "Labels": labels.join(","),
        "Links": "N/A",
        "Mountpoint": volume.mountpoint.display().to_string(),
        "Name": volume.name,
        "Scope": "local",
        "Size": "N/A",
        "Status": "N/A",
    })
}

fn prune(args: &PruneArgs, context: &Context) -> Result<ExitCode, CommandError> {
    let mut filter = VolumeFilter::default();
    let mut all = args.all;
    for one in &args.filter {
        all |= filter.add_of_prune(one).map_err(CommandError::failed)?;
    }
    let warning = match all {
        true => "WARNING! This will remove all local volumes not used by at least one container.",
        false => {
            "WARNING! This will remove anonymous local volumes not used by at least one container."
        }
    };
    if !args.force && !crate::terminal::confirm(warning) {
        return Ok(ExitCode::SUCCESS);
    }
    let pruned = context.engine()?.prune_volumes(all, &filter);
    let pruned = pruned.map_err(CommandError::failed)?;
    show_pruned(&pruned);
    outln!("Total reclaimed space: {}", human_size(pruned.freed));
    Ok(ExitCode::SUCCESS)
}

/// Says which volumes were removed.
pub(super) fn show_pruned(pruned: &VolumesPruned) {
    if !pruned.names.is_empty() {
        outln!("Deleted Volumes:");
        pruned.names.iter().for_each(|name| outln!("{name}"));
        outln!();
    }
}
