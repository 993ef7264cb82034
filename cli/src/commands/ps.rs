//! `ply ps`

use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::Engine;
use runtime::container::Container;
use runtime::container::ContainerFilter;
use runtime::network::port::Port;
use runtime::sandbox::Mount;
use runtime::sandbox::MountSource;
use serde_json::Value;
use serde_json::json;

use crate::age;
use crate::command_error::CommandError;
use crate::context::Context;
use crate::docker_json;
use crate::format;
use crate::format::Listing;
use crate::human_size::human_size;
use crate::output::out;
use crate::output::outln;

/// List containers
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Show all containers, not just running ones
    #[arg(short, long)]
    all: bool,
    /// Only containers that fit (`name`, `id`, `status`, `exited`, `label`, `ancestor`, `before`, `since`,
    /// `health`, `network`, `volume`, `publish`, `expose`)
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Format the output: `table`, `table TEMPLATE`, `json` or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show the last containers made, running or not
    #[arg(short = 'n', long, value_name = "NUMBER", allow_hyphen_values = true)]
    last: Option<i64>,
    /// Show the last container made
    #[arg(short, long)]
    latest: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Print only ids
    #[arg(short, long)]
    quiet: bool,
    /// Show what each container's changes take on the disk
    #[arg(short, long)]
    size: bool,
}

const LISTING: Listing<'_> = Listing {
    row: "container",
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("State", "STATE"),
        ("Ports", "PORTS"),
        ("Names", "NAMES"),
        ("Labels", "LABELS"),
        ("Label()", "LABEL"),
        ("Mounts", "MOUNTS"),
        ("Networks", "NETWORKS"),
        ("Size", "SIZE"),
        ("LocalVolumes", "LOCAL VOLUMES"),
    ],
};

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let mut filter = ContainerFilter::default();
    for one in &args.filter {
        filter.add(one).map_err(CommandError::failed)?;
    }
    let last = match args.latest {
        true => Some(1),
        false => args
            .last
            .and_then(|last| usize::try_from(last).ok())
            .filter(|last| *last > 0),
    };
    let engine = context.engine()?;
    let mut containers = engine
        .containers(args.all || last.is_some(), &filter)
        .map_err(CommandError::failed)?;
    containers.truncate(last.unwrap_or(usize::MAX));
    if args.quiet {
        for container in &containers {
            outln!("{}", id(container, args.no_trunc));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let wants_size = args.size
        || args
            .format
            .as_deref()
            .is_some_and(|it| it.contains(".Size"));
    let rows: Vec<Value> = containers
        .iter()
        .map(|container| {
            let mut row = fields(container, args.no_trunc);
            row["Image"] = image(&engine.image_name_of(container), args.no_trunc).into();
            if wants_size {
                row["Size"] = size(&engine, container).into();
            }
            row
        })
        .collect();
    let with_size = format!("{}\t{{{{.Size}}}}", LISTING.table);
    let listing = Listing {
        table: if args.size { &with_size } else { LISTING.table },
        ..LISTING
    };
    let text = listing
        .write(args.format.as_deref(), &rows)
        .map_err(CommandError::failed)?;
    out!("{text}");
    Ok(ExitCode::SUCCESS)
}

fn id(container: &Container, whole: bool) -> &str {
    match whole {
        true => container.id.as_str(),
        false => container.id.short(),
    }
}

/// Returns the fields that a template or `json` shows.
pub(super) fn fields(container: &Container, whole: bool) -> Value {
    let config = &container.config;
    let labels: Vec<String> = config
        .labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mounts: Vec<String> = config
        .mounts
        .iter()
        .filter_map(|mount| match &mount.source {
            MountSource::Bind(bind) => Some(bind.path.display().to_string()),
            MountSource::Volume(volume) => Some(volume.name.clone()),
            MountSource::Tmpfs(_) => None,
        })
        .map(|name| if whole { name } else { shortened(&name) })
        .collect();
    let is_volume = |mount: &&Mount| matches!(mount.source, MountSource::Volume(_));
    let volumes = config.mounts.iter().filter(is_volume).count();
    json!({
        "Command": command(&config.arguments(), whole),
        "CreatedAt": age::written_out(container.created),
        "ID": id(container, whole),
        "Image": image(&config.image, whole),
        "Label()": config.labels,
        "Labels": labels.join(","),
        "LocalVolumes": volumes.to_string(),
        "Mounts": mounts.join(","),
        "Names": container.name,
        "Networks": config.network_names().join(","),
        "Ports": ports(container),
        "RunningFor": age::age(Some(container.created)),
        "Size": "0B",
        "State": container.state.status.as_str(),
        "Status": docker_json::status_words(container),
    })
}

/// Returns what the container's changes take, and what it takes with its image.
fn size(engine: &Engine, container: &Container) -> String {
    let own = engine.container_size(container);
    let image = engine.image(&container.config.image_id);
    let image = image.map_or(0, |image| image.size);
    format!("{} (virtual {})", human_size(own), human_size(own + image))
}

/// Returns the ports that lead to the container, and those that are only exposed; numbers in a row are a range.
fn ports(container: &Container) -> String {
    if !container.state.status.is_alive() || container.config.network_mode == "host" {
        return String::new();
    }
    let mut parts: Vec<PortRange> = Vec::new();
    let mut add = |address: Option<IpAddr>, host: u16, port: Port| {
        let next = parts
            .iter_mut()
            .find(|it| it.is_followed_by(address, host, port));
        match next {
            Some(range) => range.count += 1,
            None => parts.push(PortRange {
                address,
                host,
                port,
                count: 0,
            }),
        }
    };
    let mut published = container.state.published.clone();
    published.sort_by_key(|it| {
        (
            it.address.is_ipv6(),
            it.address,
            it.port.protocol,
            it.port.number,
        )
    });
    for port in &container.config.exposed {
        if !published.iter().any(|it| it.port == *port) {
            add(None, port.number, *port);
        }
    }
    for it in &published {
        add(Some(it.address), it.host, it.port);
    }
    let texts: Vec<String> = parts.iter().map(PortRange::to_string).collect();
    texts.join(", ")
}

/// Ports in a row.
struct PortRange {
    address: Option<IpAddr>,
    host: u16,
    port: Port,
    /// How many follow the first.
    count: u16,
}

impl PortRange {
    fn is_followed_by(&self, address: Option<IpAddr>, host: u16, port: Port) -> bool {
        let next = |number: u16| number.checked_add(self.count + 1);
        self.address == address
            && self.port.protocol == port.protocol
            && next(self.host) == Some(host)
            && next(self.port.number) == Some(port.number)
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let range = |first: u16| match self.count {
            0 => first.to_string(),
            count => format!("{first}-{}", first + count),
        };
        let protocol = self.port.protocol.as_str();
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:{}->", range(self.host))?,
            Some(address) => write!(f, "{address}:{}->", range(self.host))?,
            None => {}
        }
        write!(f, "{}/{protocol}", range(self.port.number))
    }
}

/// Returns the command in quotes, cut at 20 characters.
fn command(arguments: &[String], whole: bool) -> String {
    const LONGEST: usize = 20;
    let mut text = docker_json::command_words(arguments);
    if !whole && text.chars().count() > LONGEST {
        text = text.chars().take(LONGEST - 1).chain(['…']).collect();
    }
    format::quoted(&text)
}

/// Returns a mount's source, cut at 15 characters.
fn shortened(name: &str) -> String {
    const LONGEST: usize = 15;
    match name.chars().count() > LONGEST {
        true => name.chars().take(LONGEST - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

/// Returns the image as it was called; an id is shortened.
pub(super) fn image(name: &str, whole: bool) -> String {
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    let is_id = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_id && !whole {
        true => digits[..12].to_owned(),
        false => name.to_owned(),
    }
}
