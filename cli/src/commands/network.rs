//! `ply network`

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use clap::Subcommand;
use runtime::Engine;
use runtime::network::Attachment;
use runtime::network::ConnectOptions;
use runtime::network::Network;
use runtime::network::NetworkError;
use runtime::network::NetworkFilter;
use runtime::network::NetworkOptions;
use serde_json::Value;
use serde_json::json;

use super::container_options::labels;
use super::each::each;
use super::network_options::parse_address;
use super::network_options::parse_link;
use crate::age;
use crate::command_error::CommandError;
use crate::context::Context;
use crate::format::Listing;
use crate::moment::moment;
use crate::output::out;
use crate::output::outln;

/// Manage networks
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Connect(ConnectArgs),
    Create(Box<CreateArgs>),
    Disconnect(DisconnectArgs),
    Inspect(InspectArgs),
    #[command(alias = "list")]
    Ls(LsArgs),
    Prune(PruneArgs),
    #[command(alias = "remove")]
    Rm(RmArgs),
}

/// Make a network
#[derive(Debug, ClapArgs)]
struct CreateArgs {
    /// Let containers be connected by hand where services are
    #[arg(long)]
    attachable: bool,
    /// Addresses that are somebody else's (`router=10.0.0.254`)
    #[arg(long, value_name = "NAME=IP")]
    aux_address: Vec<String>,
    /// What makes the network (`bridge`, `macvlan`, `ipvlan`)
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge")]
    driver: String,
    /// The host's address
    #[arg(long, value_name = "IP")]
    gateway: Vec<String>,
    /// Let nothing out
    #[arg(long)]
    internal: bool,
    /// Take containers' addresses from this part of the subnet
    #[arg(long, value_name = "CIDR")]
    ip_range: Vec<String>,
    /// Have addresses of IPv6 too
    #[arg(long)]
    ipv6: bool,
    /// Set a label
    #[arg(long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Set an option of the driver
    #[arg(short, long, value_name = "NAME=VALUE")]
    opt: Vec<String>,
    /// Range of addresses
    #[arg(long, value_name = "CIDR")]
    subnet: Vec<String>,
    /// The network
    #[arg(value_name = "NETWORK")]
    name: String,
}

/// Connect a container to a network
#[derive(Debug, ClapArgs)]
struct ConnectArgs {
    /// What the container is called on the network, beside its name
    #[arg(long, value_name = "ALIAS")]
    alias: Vec<String>,
    /// Option of the driver
    #[arg(long, value_name = "NAME=VALUE")]
    driver_opt: Vec<String>,
    /// Address of IPv4
    #[arg(long, value_name = "IP", value_parser = parse_address::<Ipv4Addr>)]
    ip: Option<Ipv4Addr>,
    /// Address of IPv6
    #[arg(long, value_name = "IP", value_parser = parse_address::<Ipv6Addr>)]
    ip6: Option<Ipv6Addr>,
    /// Know a container by another name too
    #[arg(long, value_name = "CONTAINER[:ALIAS]", value_parser = parse_link)]
    link: Vec<String>,
    /// The network
    #[arg(value_name = "NETWORK")]
    network: String,
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Disconnect a container from a network
#[derive(Debug, ClapArgs)]
struct DisconnectArgs {
    /// Disconnect it even if it is no more
    #[arg(short, long)]
    force: bool,
    /// The network
    #[arg(value_name = "NETWORK")]
    network: String,
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Show all that is known of networks
#[derive(Debug, ClapArgs)]
struct InspectArgs {
    /// Format the output: `json` or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show more
    #[arg(short, long)]
    verbose: bool,
    /// The networks
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

/// List networks
#[derive(Debug, ClapArgs)]
struct LsArgs {
    /// Only networks that fit (`name`, `id`, `driver`, `label`, `scope`, `type`, `dangling`)
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Format the output: `table`, `table TEMPLATE`, `json` or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    /// Print only ids
    #[arg(short, long)]
    quiet: bool,
}

/// Remove all networks that no container uses
#[derive(Debug, ClapArgs)]
struct PruneArgs {
    /// Only networks that fit (`until=<time>`, `label=<key>[=<value>]`)
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Remove networks
#[derive(Debug, ClapArgs)]
struct RmArgs {
    /// Do not fail for a network that is not there
    #[arg(short, long)]
    force: bool,
    /// The networks
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

const LISTING: Listing<'_> = Listing {
    row: "network",
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    headings: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("Label()", "LABEL"),
        ("CreatedAt", "CREATED AT"),
    ],
};

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    match args.verb {
        Verb::Connect(args) => connect(args, context),
        Verb::Create(args) => create(*args, context),
        Verb::Disconnect(args) => disconnect(&args, context),
        Verb::Inspect(args) => inspect(&args, context),
        Verb::Ls(args) => list(&args, context),
        Verb::Prune(args) => prune(&args, context),
        Verb::Rm(args) => remove(&args, context),
    }
}

fn create(args: CreateArgs, context: &Context) -> Result<ExitCode, CommandError> {
    let mut auxiliary = Vec::new();
    for text in &args.aux_address {
        let (name, address) = text.split_once('=').ok_or_else(|| {
            let words = format!("invalid argument {text:?} for \"--aux-address\" flag: {text} must be formatted as key=value");
            CommandError::with_code(125, words)
        })?;
        auxiliary.push((name.to_owned(), address.to_owned()));
    }
    let options = NetworkOptions {
        name: args.name,
        driver: args.driver,
        subnets: args.subnet,
        gateways: args.gateway,
        ip_ranges: args.ip_range,
        auxiliary,
        internal: args.internal,
        ipv6: args.ipv6,
        attachable: args.attachable,
        labels: labels(&[], &args.label)?,
        options: labels(&[], &args.opt)?,
    };
    let network = context
        .engine()?
        .create_network(&options)
        .map_err(CommandError::failed)?;
    outln!("{}", network.id);
    Ok(ExitCode::SUCCESS)
}

fn connect(args: ConnectArgs, context: &Context) -> Result<ExitCode, CommandError> {
    let options = ConnectOptions {
        attachment: Attachment {
            network: args.network.clone(),
            aliases: args.alias,
            ipv4: args.ip,
            ipv6: args.ip6,
            mac: None,
            links: args.link,
        },
    };
    context
        .engine()?
        .connect(&args.network, &args.container, &options)
        .map_err(CommandError::failed)?;
    Ok(ExitCode::SUCCESS)
}

fn disconnect(args: &DisconnectArgs, context: &Context) -> Result<ExitCode, CommandError> {
    context
        .engine()?
        .disconnect(&args.network, &args.container, args.force)
        .map_err(CommandError::failed)?;
    Ok(ExitCode::SUCCESS)
}

fn inspect(args: &InspectArgs, context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    super::inspect::show(&args.networks, args.format.as_deref(), |name| {
        let network = engine.network(name);
        let value = network.and_then(|network| engine.inspect_network(&network));
        value.map(Some).map_err(|error| error.to_string())
    })
}

fn list(args: &LsArgs, context: &Context) -> Result<ExitCode, CommandError> {
    let mut filter = NetworkFilter::default();
    for one in &args.filter {
        filter.add(one).map_err(CommandError::failed)?;
    }
    let networks = context
        .engine()?
        .networks(&filter)
        .map_err(CommandError::failed)?;
    if args.quiet {
        for network in &networks {
            outln!("{}", id(network, args.no_trunc));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Value> = networks
        .iter()
        .map(|network| fields(network, args.no_trunc))
        .collect();
    let text = LISTING.write(args.format.as_deref(), &rows);
    out!("{}", text.map_err(CommandError::failed)?);
    Ok(ExitCode::SUCCESS)
}

fn id(network: &Network, whole: bool) -> &str {
    match whole {
        true => network.id.as_str(),
        false => network.id.short(),
    }
}

fn fields(network: &Network, whole: bool) -> Value {
    let config = &network.config;
    let labels: Vec<String> = config
        .labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    json!({
        "CreatedAt": age::written_out(network.created),
        "Driver": config.driver.as_str(),
        "ID": id(network, whole),
        "IPv4": "true",
        "IPv6": config.ipv6.to_string(),
        "Internal": config.internal.to_string(),
        "Labels": labels.join(","),
        "Name": network.name,
        "Scope": "local",
    })
}

fn prune(args: &PruneArgs, context: &Context) -> Result<ExitCode, CommandError> {
    let mut filter = NetworkFilter::default();
    for one in &args.filter {
        match one.split_once('=') {
            Some(("until", time)) => filter.made_before(moment(time)?),
            Some(("label" | "label!", _)) => filter.add(one).map_err(CommandError::failed)?,
            _ => {
                let key = one.split('=').next().unwrap_or_default();
                return Err(CommandError::failed(format_args!("invalid filter '{key}'")));
            }
        }
    }
    let warning =
        "WARNING! This will remove all custom networks not used by at least one container.";
    if !args.force && !crate::terminal::confirm(warning) {
        return Ok(ExitCode::SUCCESS);
    }
    prune_networks(&context.engine()?, &filter)?;
    Ok(ExitCode::SUCCESS)
}

/// Removes the networks that fit and nobody is on, and says which.
pub(super) fn prune_networks(engine: &Engine, filter: &NetworkFilter) -> Result<(), CommandError> {
    let names = engine
        .prune_networks(filter)
        .map_err(CommandError::failed)?;
    engine.emit_prune("network", 0);
    if !names.is_empty() {
        outln!("Deleted Networks:");
        names.iter().for_each(|name| outln!("{name}"));
        outln!();
    }
    Ok(())
}

fn remove(args: &RmArgs, context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    each(&args.networks, |name| match engine.remove_network(name) {
        Err(NetworkError::NotFound(_)) if args.force => Ok(()),
        removed => removed.map(|_| ()),
    })
}
