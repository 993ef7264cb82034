//! `ply compose ps`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::container::HealthStatus;
use runtime::network::port::Port;
use serde_json::Value;
use serde_json::json;

use super::Access;
use crate::command_error::CommandError;
use crate::commands::ps;
use crate::compose::labels;
use crate::compose::members::Member;
use crate::format::Listing;
use crate::output::out;
use crate::output::outln;

/// List a project's containers
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Also stopped ones and those that `run` has made
    #[arg(short, long)]
    all: bool,
    /// Only containers that fit (`status`)
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Format the output: `table`, `table TEMPLATE`, `json` or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Do not shorten ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Leave out services that are no longer in the files
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    orphans: bool,
    /// Print only ids
    #[arg(short, long)]
    quiet: bool,
    /// Print only the services
    #[arg(long)]
    services: bool,
    /// Only containers in this state
    #[arg(long, value_name = "STATUS")]
    status: Vec<String>,
    /// The services; all if there are none
    #[arg(value_name = "SERVICE")]
    names: Vec<String>,
}

const LISTING: Listing<'_> = Listing {
    row: "container",
    table: "{{.Name}}\t{{.Image}}\t{{.Command}}\t{{.Service}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}",
    headings: &[
        ("Name", "NAME"),
        ("Names", "NAMES"),
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("Service", "SERVICE"),
        ("RunningFor", "CREATED"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Ports", "PORTS"),
    ],
};

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let engine = access.engine()?;
    let (name, project) = access.name()?;
    let mut members = crate::compose::members::of_project(&engine, &name)?;
    let mut statuses = args.status.clone();
    match args.filter.as_deref().map(|filter| filter.split_once('=')) {
        None => {}
        Some(Some(("status", status))) => statuses.push(status.to_owned()),
        Some(_) => {
            return Err(CommandError::failed(
                "arguments to --filter should be in form KEY=VAL, with KEY 'status'",
            ));
        }
    }
    if let Some(project) = &project {
        for service in &args.names {
            let is_known =
                project.services.contains_key(service) || project.disabled.contains_key(service);
            if !is_known && !members.iter().any(|member| &member.service == service) {
                return Err(CommandError::failed(format_args!(
                    "no such service: {service}"
                )));
            }
        }
        members.retain(|member| {
            args.orphans || member.is_one_off || project.services.contains_key(&member.service)
        });
    }
    members.retain(|member| {
        let status = member.container.state.status;
        let is_asked_for = match (statuses.is_empty(), args.all) {
            (false, _) => statuses.iter().any(|wanted| wanted == status.as_str()),
            (true, true) => true,
            (true, false) => status.is_alive() && !member.is_one_off,
        };
        is_asked_for && (args.names.is_empty() || args.names.contains(&member.service))
    });
    if args.quiet {
        members.iter().for_each(|member| outln!("{}", member.id()));
        return Ok(ExitCode::SUCCESS);
    }
    if args.services {
        let mut services: Vec<&str> = members.iter().map(|it| it.service.as_str()).collect();
        services.dedup();
        services.iter().for_each(|service| outln!("{service}"));
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Value> = members
        .iter()
        .map(|member| row(member, args.no_trunc))
        .collect();
    let text = LISTING.write(args.format.as_deref(), &rows);
    out!("{}", text.map_err(CommandError::failed)?);
    Ok(ExitCode::SUCCESS)
}

/// Returns the fields of `ps`, and those that Compose adds.
fn row(member: &Member, whole: bool) -> Value {
    let mut row = ps::fields(&member.container, whole);
    let state = &member.container.state;
    row["Name"] = member.name().into();
    row["Service"] = member.service.clone().into();
    row["Project"] = member.label(labels::PROJECT).into();
    row["ExitCode"] = json!(state.exit_code);
    row["Publishers"] = publishers(member);
    row["Health"] = state.health.map_or("", HealthStatus::as_str).into();
    row
}

/// Returns the ports that lead to the container, and those that are only exposed.
fn publishers(member: &Member) -> Value {
    let container = &member.container;
    if !container.state.status.is_alive() {
        return json!([]);
    }
    let publisher = |url: String, port: Port, host: u16| {
        json!({
            "URL": url,
            "TargetPort": port.number,
            "PublishedPort": host,
            "Protocol": port.protocol.as_str(),
        })
    };
    let mut published = container.state.published.clone();
    published.sort_by_key(|it| (it.port, it.address.is_ipv6(), it.address));
    let exposed = container.config.exposed.iter();
    let exposed = exposed.filter(|port| !published.iter().any(|it| it.port == **port));
    let exposed = exposed.map(|port| publisher(String::new(), *port, 0));
    let mut all: Vec<Value> = exposed.collect();
    all.extend(
        published
            .iter()
            .map(|it| publisher(it.address.to_string(), it.port, it.host)),
    );
    all.into()
}
