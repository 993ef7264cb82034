//! `ply system`

mod disk_usage;

use std::process::ExitCode;

use clap::Args as ClapArgs;
use clap::Subcommand;
use runtime::build::CachePrune;
use runtime::container::ContainerFilter;
use runtime::container::DiskUsage;
use runtime::image::ImageFilter;
use runtime::network::NetworkFilter;
use runtime::volume::VolumeFilter;
use serde_json::json;

use super::events;
use super::info;
use crate::command_error::CommandError;
use crate::context::Context;
use crate::format::Listing;
use crate::human_size::human_size;
use crate::moment::moment;
use crate::output::out;
use crate::output::outln;

/// Look after the store
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: System,
}

#[derive(Debug, Subcommand)]
enum System {
    /// Start what should run after a reboot
    Boot(BootArgs),
    /// Show what images and containers take on the disk
    Df(DfArgs),
    Events(events::Args),
    Info(info::Args),
    /// Remove what is not used
    Prune(PruneArgs),
    /// Verify every digest and reference of the store, and name what is wrong
    Check,
}

/// Start what should run after a reboot: containers that their restart policy wants to
#[derive(Debug, ClapArgs)]
struct BootArgs {
    /// Print a systemd unit that does it, for /etc/systemd/system
    #[arg(long)]
    unit: bool,
}

/// Show what images and containers take on the disk
#[derive(Debug, ClapArgs)]
struct DfArgs {
    /// Format the output: `table`, `table TEMPLATE`, `json` or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show it of each image, container, volume and cached step
    #[arg(short, long)]
    verbose: bool,
}

/// Remove what is not used: stopped containers, networks, images without a name, build cache
#[derive(Debug, ClapArgs)]
struct PruneArgs {
    /// Remove every image that no container uses, not just those without a name
    #[arg(short, long)]
    all: bool,
    /// Only what fits (`until=<time>`, `label=<key>[=<value>]`, `label!=<key>[=<value>]`)
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Remove anonymous volumes too
    #[arg(long)]
    volumes: bool,
}

const DF: Listing<'_> = Listing {
    row: "disk usage",
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    headings: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
};

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    match args.command {
        System::Boot(args) => boot(&args, context),
        System::Check => check(context),
        System::Df(args) => df(&args, context),
        System::Events(args) => events::run(args, context),
        System::Info(args) => info::run(args, context),
        System::Prune(args) => prune(&args, context),
    }
}

fn check(context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    let faults = engine.check().map_err(CommandError::failed)?;
    for fault in &faults {
        outln!("{fault}");
    }
    match faults.len() {
        0 => Ok(ExitCode::SUCCESS),
        count => Err(CommandError::failed(format_args!("{count} faults found"))),
    }
}

fn boot(args: &BootArgs, context: &Context) -> Result<ExitCode, CommandError> {
    if args.unit {
        let program = std::env::current_exe().map_err(CommandError::failed)?;
        let config = &context.config;
        outln!(
            "[Unit]\n\
             Description=Containers of ply that run after a boot\n\
             After=local-fs.target network-online.target\n\
             Wants=network-online.target\n\n\
             [Service]\n\
             Type=oneshot\n\
             RemainAfterExit=yes\n\
             # Each container has a monitor of its own, which goes on without this unit.\n\
             KillMode=process\n\
             ExecStart={} --root {} --run-dir {} system boot\n\n\
             [Install]\n\
             WantedBy=multi-user.target",
            program.display(),
            config.root.display(),
            config.run.display()
        );
        return Ok(ExitCode::SUCCESS);
    }
    let mut failures = Vec::new();
    for booted in context.engine()?.boot().map_err(CommandError::failed)? {
        match booted {
            Ok(name) => outln!("{name}"),
            Err(error) => failures.push(error.to_string()),
        }
    }
    match failures.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(CommandError::failed(failures.join("\n"))),
    }
}

fn df(args: &DfArgs, context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    if args.verbose {
        return disk_usage::show(&engine, args.format.as_deref());
    }
    let (images, containers) = engine.disk_usage().map_err(CommandError::failed)?;
    let volumes = engine.volume_usage().map_err(CommandError::failed)?;
    let cache = engine.build_cache_usage().map_err(CommandError::failed)?;
    let row = |name: &str, usage: DiskUsage| {
        let percent = match usage.size {
            0 => String::new(),
            size => format!(" ({}%)", usage.reclaimable * 100 / size),
        };
        json!({
            "Type": name,
            "TotalCount": usage.total.to_string(),
            "Active": usage.active.to_string(),
            "Size": human_size(usage.size),
            "Reclaimable": format!("{}{percent}", human_size(usage.reclaimable)),
        })
    };
    let rows = [
        row("Images", images),
        row("Containers", containers),
        row("Local Volumes", volumes),
        row("Build Cache", cache),
    ];
    let text = DF.write(args.format.as_deref(), &rows);
    out!("{}", text.map_err(CommandError::failed)?);
    Ok(ExitCode::SUCCESS)
}

/// What of each kind is pruned.
#[derive(Debug, Default)]
struct Filters {
    containers: ContainerFilter,
    networks: NetworkFilter,
    volumes: VolumeFilter,
    images: ImageFilter,
    cache: CachePrune,
    /// Whether only what has some label goes: the cache has none.
    is_by_label: bool,
}

impl Filters {
    fn parse(all: &[String]) -> Result<Filters, CommandError> {
        let mut filters = Filters::default();
        for one in all {
            match one.split_once('=') {
                Some(("until", time)) => {
                    let time = moment(time)?;
                    filters.containers.made_before(time);
                    filters.networks.made_before(time);
                    filters.images.add(one).map_err(CommandError::failed)?;
                    filters.cache.until = Some(time);
                }
                Some(("label" | "label!", _)) => {
                    filters.is_by_label = true;
                    let containers = &mut filters.containers;
                    containers.add_of_prune(one).map_err(CommandError::failed)?;
                    filters.networks.add(one).map_err(CommandError::failed)?;
                    let volumes = &mut filters.volumes;
                    volumes.add_of_prune(one).map_err(CommandError::failed)?;
                    let images = &mut filters.images;
                    images.add_of_prune(one).map_err(CommandError::failed)?;
                }
                _ => {
                    let key = one.split('=').next().unwrap_or_default();
                    return Err(CommandError::failed(format_args!("invalid filter '{key}'")));
                }
            }
        }
        Ok(filters)
    }
}

fn prune(args: &PruneArgs, context: &Context) -> Result<ExitCode, CommandError> {
    let filters = Filters::parse(&args.filter)?;
    if args.volumes && args.filter.iter().any(|it| it.starts_with("until=")) {
        return Err(CommandError::failed(
            "ERROR: The \"until\" filter is not supported with \"--volumes\"",
        ));
    }
    let images = match args.all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    let volumes = match args.volumes {
        true => "  - all anonymous volumes not used by at least one container\n",
        false => "",
    };
    let cache = match args.all {
        true => "all build cache",
        false => "unused build cache",
    };
    let warning = format!(
        "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n{volumes}  - {images}\n  - {cache}\n"
    );
    if !args.force && !crate::terminal::confirm(&warning) {
        return Ok(ExitCode::SUCCESS);
    }
    let engine = context.engine()?;
    let mut freed = super::container::remove_stopped(&engine, &filters.containers)?;
    super::network::prune_networks(&engine, &filters.networks)?;
    if args.volumes {
        let pruned = engine.prune_volumes(false, &filters.volumes);
        let pruned = pruned.map_err(CommandError::failed)?;
        super::volume::show_pruned(&pruned);
        freed += pruned.freed;
    }
    let pruned = engine
        .prune_images(args.all, &filters.images)
        .map_err(CommandError::failed)?;
    super::image::show_removals(&pruned);
    freed += pruned.freed;
    let prune = CachePrune {
        all: args.all,
        ..filters.cache
    };
    if !filters.is_by_label {
        freed += super::builder::prune_cache(&engine, &prune)?;
    }
    outln!("Total reclaimed space: {}", human_size(freed));
    Ok(ExitCode::SUCCESS)
}
