//! The verbs, one file each.

mod attach;
mod bench;
mod build;
mod builder;
mod client_options;
mod commit;
mod compose;
mod container;
mod container_options;
mod cp;
mod create;
mod device_rates;
mod diff;
mod each;
mod events;
mod exec;
mod export;
pub(crate) mod flags;
mod foreign;
mod history;
mod image;
mod images;
mod import;
mod info;
mod inspect;
mod kill;
mod limits;
mod load;
mod login;
mod logout;
mod logs;
mod mount;
pub(crate) mod mount_helper;
mod network;
mod network_options;
mod pause;
mod port;
mod ps;
mod pull;
mod push;
mod rename;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod serve;
mod start;
mod stats;
mod stop;
mod system;
mod tag;
mod top;
mod umount;
mod update;
mod version;
mod volume;
mod wait;

pub(crate) use build::fields as build_fields;
pub(crate) use container_options::environment;
pub(crate) use container_options::parse_bytes;
pub(crate) use container_options::with_profile;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;
use runtime::EngineConfig;

use crate::command_error::CommandError;
use crate::context::Context;

/// A container engine on a layered filesystem of its own
#[derive(Debug, Parser)]
#[command(
    name = "ply",
    version,
    disable_version_flag = true,
    infer_subcommands = false,
    args_override_self = true,
    next_display_order = None
)]
pub(crate) struct Cli {
    /// Directory of images, containers and volumes [env: PLY_ROOT]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    root: Option<PathBuf>,
    /// Directory of sockets and locks [env: PLY_RUN]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    run_dir: Option<PathBuf>,
    #[command(flatten)]
    client: client_options::ClientOptions,
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    /// Returns which messages of ours are logged unless the environment says it.
    pub(crate) fn log_level(&self) -> &'static str {
        self.client.log_level()
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Attach(attach::Args),
    Bench(bench::Args),
    Build(Box<build::Args>),
    #[command(visible_alias = "buildx")]
    Builder(builder::Args),
    Commit(commit::Args),
    Compose(Box<compose::Args>),
    Container(container::Args),
    Cp(cp::Args),
    Create(Box<create::Args>),
    Diff(diff::Args),
    Events(events::Args),
    Exec(exec::Args),
    Export(export::Args),
    Info(info::Args),
    Inspect(inspect::Args),
    Kill(kill::Args),
    Login(login::Args),
    Logout(logout::Args),
    Logs(logs::Args),
    Network(network::Args),
    Pause(pause::Args),
    Port(port::Args),
    Ps(ps::Args),
    Rename(rename::Args),
    Restart(restart::Args),
    Rm(rm::Args),
    Run(Box<run::Args>),
    Start(start::Args),
    Stats(stats::Args),
    Stop(stop::Args),
    Top(top::Args),
    Umount(umount::Args),
    Unpause(pause::UnpauseArgs),
    Update(Box<update::Args>),
    Version(version::Args),
    Volume(volume::Args),
    Wait(wait::Args),
    History(history::Args),
    Image(image::Args),
    Images(images::Args),
    Import(import::Args),
    Load(load::Args),
    Mount(mount::Args),
    Pull(pull::Args),
    Push(push::Args),
    Rmi(rmi::Args),
    Save(save::Args),
    Serve(serve::Args),
    System(system::Args),
    Tag(tag::Args),
}

/// Runs the command that was asked for.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, CommandError> {
    cli.client.apply()?;
    let mut config = EngineConfig::default();
    if let Some(root) = cli.root {
        config.root = root;
    }
    if let Some(run) = cli.run_dir {
        config.run = run;
    }
    let context = Context { config };
    match cli.command {
        Command::Bench(args) => bench::run(args, &context),
        Command::Build(args) => build::run(*args, &context),
        Command::Builder(args) => builder::run(args, &context),
        Command::Attach(args) => attach::run(args, &context),
        Command::Commit(args) => commit::run(args, &context),
        Command::Compose(args) => compose::run(*args, &context),
        Command::Container(args) => container::run(args, &context),
        Command::Create(args) => create::run(*args, &context),
        Command::Cp(args) => cp::run(args, &context),
        Command::Events(args) => events::run(args, &context),
        Command::Exec(args) => exec::run(args, &context),
        Command::Export(args) => export::run(args, &context),
        Command::Diff(args) => diff::run(args, &context),
        Command::Info(args) => info::run(args, &context),
        Command::Inspect(args) => inspect::run(args, &context),
        Command::Kill(args) => kill::run(args, &context),
        Command::Login(args) => login::run(args),
        Command::Logout(args) => logout::run(&args),
        Command::Logs(args) => logs::run(args, &context),
        Command::Network(args) => network::run(args, &context),
        Command::Pause(args) => pause::run(args, &context),
        Command::Port(args) => port::run(args, &context),
        Command::Ps(args) => ps::run(args, &context),
        Command::Rename(args) => rename::run(args, &context),
        Command::Restart(args) => restart::run(args, &context),
        Command::Rm(args) => rm::run(args, &context),
        Command::Run(args) => run::run(*args, &context),
        Command::Start(args) => start::run(args, &context),
        Command::Stats(args) => stats::run(args, &context),
        Command::Stop(args) => stop::run(args, &context),
        Command::Top(args) => top::run(args, &context),
        Command::Unpause(args) => pause::unpause(args, &context),
        Command::Update(args) => update::run(*args, &context),
        Command::Umount(args) => umount::run(args, &context),
        Command::Version(args) => version::run(args, &context),
        Command::Volume(args) => volume::run(args, &context),
        Command::Wait(args) => wait::run(args, &context),
        Command::History(args) => history::run(args, &context),
        Command::Image(args) => image::run(args, &context),
        Command::Images(args) => images::run(args, &context),
        Command::Import(args) => import::run(args, &context),
        Command::Load(args) => load::run(args, &context),
        Command::Mount(args) => mount::run(args, &context),
        Command::Pull(args) => pull::run(args, &context),
        Command::Push(args) => push::run(args, &context),
        Command::Rmi(args) => rmi::run(args, &context),
        Command::Save(args) => save::run(args, &context),
        Command::Serve(args) => serve::run(args, &context),
        Command::System(args) => system::run(args, &context),
        Command::Tag(args) => tag::run(args, &context),
    }
}
