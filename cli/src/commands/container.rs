//! `ply container`: the verbs on containers as a group.

use std::process::ExitCode;

use clap::Args as ClapArgs;
use clap::Subcommand;
use runtime::Engine;
use runtime::container::ContainerFilter;

use super::attach;
use super::commit;
use super::cp;
use super::create;
use super::diff;
use super::exec;
use super::export;
use super::inspect;
use super::kill;
use super::logs;

use super::pause;
use super::port;
use super::ps;
use super::rename;
use super::restart;
use super::rm;
use super::run as run_command;
use super::start;
use super::stats;
use super::stop;
use super::top;
use super::update;
use super::wait;
use crate::command_error::CommandError;
use crate::context::Context;
use crate::human_size::human_size;
use crate::moment::moment;
use crate::output::outln;

/// Manage containers
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Attach(attach::Args),
    Commit(commit::Args),
    Cp(cp::Args),
    Create(Box<create::Args>),
    Diff(diff::Args),
    Exec(exec::Args),
    Export(export::Args),
    Inspect(InspectArgs),
    Kill(kill::Args),
    Logs(logs::Args),
    #[command(alias = "list", alias = "ps")]
    Ls(ps::Args),
    Pause(pause::Args),
    Port(port::Args),
    Prune(PruneArgs),
    Rename(rename::Args),
    Restart(restart::Args),
    #[command(alias = "remove")]
    Rm(rm::Args),
    Run(Box<run_command::Args>),
    Start(start::Args),
    Stats(stats::Args),
    Stop(stop::Args),
    Top(top::Args),
    Unpause(pause::UnpauseArgs),
    Update(Box<update::Args>),
    Wait(wait::Args),
}

/// Show all that is known of containers
#[derive(Debug, ClapArgs)]
struct InspectArgs {
    /// Format the output: `json` or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show what they take on the disk
    #[arg(short, long)]
    size: bool,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Remove all containers that do not run
#[derive(Debug, ClapArgs)]
struct PruneArgs {
    /// Only containers that fit (`until=<time>`, `label=<key>[=<value>]`, `label!=<key>[=<value>]`)
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    match args.verb {
        Verb::Attach(args) => attach::run(args, context),
        Verb::Commit(args) => commit::run(args, context),
        Verb::Create(args) => create::run(*args, context),
        Verb::Cp(args) => cp::run(args, context),
        Verb::Exec(args) => exec::run(args, context),
        Verb::Export(args) => export::run(args, context),
        Verb::Diff(args) => diff::run(args, context),
        Verb::Inspect(args) => inspect_containers(&args, context),
        Verb::Kill(args) => kill::run(args, context),
        Verb::Logs(args) => logs::run(args, context),
        Verb::Ls(args) => ps::run(args, context),
        Verb::Pause(args) => pause::run(args, context),
        Verb::Port(args) => port::run(args, context),
        Verb::Prune(args) => prune(&args, context),
        Verb::Rename(args) => rename::run(args, context),
        Verb::Restart(args) => restart::run(args, context),
        Verb::Rm(args) => rm::run(args, context),
        Verb::Run(args) => run_command::run(*args, context),
        Verb::Start(args) => start::run(args, context),
        Verb::Stats(args) => stats::run(args, context),
        Verb::Stop(args) => stop::run(args, context),
        Verb::Top(args) => top::run(args, context),
        Verb::Unpause(args) => pause::unpause(args, context),
        Verb::Update(args) => update::run(*args, context),
        Verb::Wait(args) => wait::run(args, context),
    }
}

fn inspect_containers(args: &InspectArgs, context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    inspect::show(
        &args.containers,
        args.format.as_deref(),
        |name| match engine.container(name) {
            Ok(container) => {
                let value = engine.inspect_container(&container);
                Ok(Some(match args.size {
                    true => inspect::with_size(&engine, value),
                    false => value,
                }))
            }
            Err(error) => Err(format!("Error: {error}")),
        },
    )
}

fn prune(args: &PruneArgs, context: &Context) -> Result<ExitCode, CommandError> {
    let mut filter = ContainerFilter::default();
    for one in &args.filter {
        match one.split_once('=') {
            Some(("until", time)) => filter.made_before(moment(time)?),
            _ => filter.add_of_prune(one).map_err(CommandError::failed)?,
        }
    }
    let warning = "WARNING! This will remove all stopped containers.";
    if !args.force && !crate::terminal::confirm(warning) {
        return Ok(ExitCode::SUCCESS);
    }
    let engine = context.engine()?;
    let freed = remove_stopped(&engine, &filter)?;
    outln!("Total reclaimed space: {}", human_size(freed));
    Ok(ExitCode::SUCCESS)
}

/// Removes the containers that fit and do not run, and says which; returns the bytes that their changes took.
pub(super) fn remove_stopped(
    engine: &Engine,
    filter: &ContainerFilter,
) -> Result<u64, CommandError> {
    let (removed, freed) = engine
        .prune_containers(filter)
        .map_err(CommandError::failed)?;
    if !removed.is_empty() {
        outln!("Deleted Containers:");
        removed.iter().for_each(|id| outln!("{id}"));
        outln!();
    }
    Ok(freed)
}
