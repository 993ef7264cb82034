//! `ply compose`: the verbs on projects, one file each.

mod attach;
mod build;
mod commit;
mod config;
mod containers;
mod cp;
mod create;
mod down;
mod events;
mod exec;
mod export;
mod images;
mod logs;
mod ls;
mod port;
mod ps;
mod pull;
mod push;
mod rm;
mod run;
mod scale;
mod start;
mod stats;
mod stop;
mod top;
mod up;
mod version;
mod volumes;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use clap::Subcommand;
use runtime::Engine;

use crate::command_error::CommandError;
use crate::compose::LoadError;
use crate::compose::down::Remains;
use crate::compose::environment::Environment;
use crate::compose::members;
use crate::compose::members::Member;
use crate::compose::order;
use crate::compose::project::Options;
use crate::compose::project::Place;
use crate::compose::project::Project;
use crate::compose::report::Report;
use crate::compose::report::Stream;
use crate::context::Context;

/// Define and run applications of several containers
#[derive(Debug, ClapArgs)]
#[command(arg_required_else_help = true, next_display_order = None)]
pub(crate) struct Args {
    /// Keep resources that no service uses
    #[arg(long)]
    all_resources: bool,
    /// When to use colours and move the cursor: `auto`, `never`, `always`
    #[arg(long, value_name = "WHEN")]
    ansi: Option<String>,
    /// Name containers and images as version 1 of Compose did
    #[arg(long)]
    compatibility: bool,
    /// Tell the steps but take none
    #[arg(long, global = true)]
    dry_run: bool,
    /// Read variables from a file instead of `.env`
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Compose file; several are put over one another
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// What `--ansi never` was once called
    #[arg(long, hide = true)]
    no_ansi: bool,
    /// Do no more than so many things at once; -1 is no limit
    #[arg(
        long,
        value_name = "NUMBER",
        env = "COMPOSE_PARALLEL_LIMIT",
        hide_env = true,
        default_value_t = -1,
        allow_hyphen_values = true
    )]
    parallel: i64,
    /// Enable services of a profile
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
    /// How steps are told: `auto`, `tty`, `plain`, `quiet`
    #[arg(long, value_name = "STYLE")]
    progress: Option<String>,
    /// Where relative paths begin instead of at the first file's directory
    #[arg(long, value_name = "DIR", alias = "workdir")]
    project_directory: Option<PathBuf>,
    /// The project's name
    #[arg(short, long, value_name = "NAME")]
    project_name: Option<String>,
    /// For Compose's sake: there is no more to be told
    #[arg(long, hide = true)]
    verbose: bool,
    /// Show the version
    #[arg(short, long, hide = true)]
    version: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Attach(attach::Args),
    Build(build::Args),
    Commit(commit::Args),
    #[command(alias = "convert")]
    Config(config::Args),
    Cp(cp::Args),
    Create(create::Args),
    Down(down::Args),
    Events(events::Args),
    Exec(exec::Args),
    Export(export::Args),
    Images(images::Args),
    Kill(containers::KillArgs),
    Logs(logs::Args),
    Ls(ls::Args),
    Pause(containers::PauseArgs),
    Port(port::Args),
    Ps(ps::Args),
    Pull(pull::Args),
    Push(push::Args),
    Restart(stop::RestartArgs),
    Rm(rm::Args),
    Run(Box<run::Args>),
    Scale(scale::Args),
    Start(start::Args),
    Stats(stats::Args),
    Stop(stop::Args),
    Top(top::Args),
    Unpause(containers::UnpauseArgs),
    Up(Box<up::Args>),
    Version(version::Args),
    Volumes(volumes::Args),
    Wait(wait::Args),
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let command = match args.command {
        _ if args.version => return version::run(version::Args::default()),
        Some(command) => command,
        None => {
            return Err(CommandError::failed(
                "no command is given.\nSee 'ply compose --help'",
            ));
        }
    };
    let ansi_flag = ansi_flag(args.ansi, args.no_ansi)?;
    let own_progress = match &command {
        Command::Build(build) => build.progress().map(str::to_owned),
        _ => None,
    };
    if let Ok(number) = usize::try_from(args.parallel)
        && number > 0
    {
        order::limit(number);
    }
    let is_refused = matches!(
        command,
        Command::Attach(_)
            | Command::Commit(_)
            | Command::Cp(_)
            | Command::Exec(_)
            | Command::Export(_)
            | Command::Push(_)
            | Command::Run(_)
    );
    if args.dry_run && is_refused {
        return Err(CommandError::failed(
            "--dry-run: there is nothing to tell of attach, commit, cp, exec, export, push and run but what they do",
        ));
    }
    let options = Options {
        files: args.file,
        name: args.project_name,
        profiles: args.profile,
        env_files: args.env_file,
        directory: args.project_directory,
        keep_unused: args.all_resources,
        compatible: args.compatibility,
        ..Options::default()
    };
    let place = Place::find(&options);
    let environment = match &place {
        Ok(place) => place.environment.clone(),
        Err(_) => Environment::of_process(),
    };
    let said = |flag: Option<String>, name: &str| {
        let variable = environment.non_empty(name).map(str::to_owned);
        flag.or(variable).unwrap_or_else(|| "auto".to_owned())
    };
    let ansi = said(ansi_flag, "COMPOSE_ANSI");
    let progress = said(own_progress.or(args.progress), "COMPOSE_PROGRESS");
    let access = Access {
        options,
        place,
        is_dry_run: args.dry_run,
        progress: style(&progress, &ansi)?,
        stream: stream(),
        has_colours: ansi != "never",
        environment,
        context,
    };
    match command {
        Command::Attach(args) => attach::run(args, &access),
        Command::Build(args) => build::run(args, &access),
        Command::Commit(args) => commit::run(args, &access),
        Command::Config(args) => config::run(args, &access),
        Command::Cp(args) => cp::run(args, &access),
        Command::Create(args) => create::run(args, &access),
        Command::Down(args) => down::run(args, &access),
        Command::Events(args) => events::run(args, &access),
        Command::Exec(args) => exec::run(args, &access),
        Command::Export(args) => export::run(args, &access),
        Command::Images(args) => images::run(args, &access),
        Command::Kill(args) => containers::kill(args, &access),
        Command::Logs(args) => logs::run(args, &access),
        Command::Ls(args) => ls::run(args, &access),
        Command::Pause(args) => containers::pause(args, &access),
        Command::Port(args) => port::run(args, &access),
        Command::Ps(args) => ps::run(args, &access),
        Command::Pull(args) => pull::run(args, &access),
        Command::Push(args) => push::run(args, &access),
        Command::Restart(args) => stop::restart(args, &access),
        Command::Rm(args) => rm::run(args, &access),
        Command::Run(args) => run::run(*args, &access),
        Command::Scale(args) => scale::run(args, &access),
        Command::Start(args) => start::run(args, &access),
        Command::Stats(args) => stats::run(args, &access),
        Command::Stop(args) => stop::run(args, &access),
        Command::Top(args) => top::run(args, &access),
        Command::Unpause(args) => containers::unpause(args, &access),
        Command::Up(args) => up::run(*args, &access),
        Command::Version(args) => version::run(args),
        Command::Volumes(args) => volumes::run(args, &access),
        Command::Wait(args) => wait::run(args, &access),
    }
}

/// Returns how steps are told of.
fn style(progress: &str, ansi: &str) -> Result<String, CommandError> {
    let style = match (progress, ansi) {
        ("auto", "never") => "plain",
        ("tty", "never") => {
            return Err(CommandError::failed(
                "can't use --progress tty while ANSI support is disabled",
            ));
        }
        ("plain", "always") => {
            return Err(CommandError::failed(
                "can't use --progress plain while ANSI support is forced",
            ));
        }
        ("auto" | "tty" | "plain" | "quiet" | "none" | "json", _) => progress,
        _ => {
            return Err(CommandError::failed(format_args!(
                "unsupported --progress value {progress:?}"
            )));
        }
    };
    Ok(style.to_owned())
}

/// Returns where steps are told of. As with Compose, this is the shell's to say, not a file's.
fn stream() -> Stream {
    match Environment::of_process().is_true("COMPOSE_STATUS_STDOUT") {
        true => Stream::Output,
        false => Stream::Error,
    }
}

/// Returns what is said of colours, if something is.
fn ansi_flag(ansi: Option<String>, no_ansi: bool) -> Result<Option<String>, CommandError> {
    match (no_ansi, ansi) {
        (false, ansi) => Ok(ansi),
        (true, Some(ansi)) if ansi != "auto" => Err(CommandError::failed(
            "cannot specify DEPRECATED \"--no-ansi\" and \"--ansi\". Please use only \"--ansi\"",
        )),
        (true, _) => {
            eprintln!("option '--no-ansi' is DEPRECATED ! Please use '--ansi' instead.");
            Ok(Some("never".to_owned()))
        }
    }
}

/// How a verb comes to its project.
#[derive(Debug)]
struct Access<'a> {
    options: Options,
    place: Result<Place, LoadError>,
    /// The project's variables, or the process's alone if there is no project.
    environment: Environment,
    progress: String,
    stream: Stream,
    is_dry_run: bool,
    has_colours: bool,
    context: &'a Context,
}

impl Access<'_> {
    fn engine(&self) -> Result<Engine, CommandError> {
        self.context.engine()
    }

    fn report(&self) -> Report {
        match self.is_dry_run {
            true => Report::of_dry_run(&self.progress, self.stream),
            false => Report::new(&self.progress, self.stream),
        }
    }

    /// Returns where the project is.
    fn place(&self) -> Result<Place, CommandError> {
        match &self.place {
            Ok(place) => Ok(place.clone()),
            Err(error) => Err(CommandError::failed(error)),
        }
    }

    /// Loads the project; the services are wanted whatever their profiles.
    fn project(&self, services: &[String]) -> Result<Project, CommandError> {
        let place = self.place()?;
        place
            .load(&self.options, services)
            .map_err(CommandError::failed)
    }

    /// Returns the project's name, and the project unless its name is all that is given: files that happen to be here
    /// may be another's.
    fn name(&self) -> Result<(String, Option<Project>), CommandError> {
        self.named_project(&[])
    }

    /// As [`Access::name`]; the services are wanted whatever their profiles.
    fn named_project(
        &self,
        services: &[String],
    ) -> Result<(String, Option<Project>), CommandError> {
        let place = self.place()?;
        let is_named = place.is_named(&self.options);
        let name = place.name(&self.options).map_err(CommandError::failed)?;
        let asked = self.options.name.as_deref().unwrap_or_default();
        if !asked.is_empty() && self.options.files.is_empty() {
            return Ok((name, None));
        }
        match place.load(&self.options, services) {
            Ok(project) => Ok((name, Some(project))),
            Err(LoadError::NoFile) if is_named => Ok((name, None)),
            Err(error) => Err(CommandError::failed(error)),
        }
    }

    /// Returns the containers of a project's services, which are all if none is named.
    fn members(
        &self,
        engine: &Engine,
        services: &[String],
    ) -> Result<(String, Vec<Member>), CommandError> {
        let (name, project) = self.name()?;
        let members = members_of(engine, &name, project.as_ref(), services)?;
        Ok((name, members))
    }

    /// Returns a service's container by its number; 0 is as none, and means any.
    fn member(
        &self,
        engine: &Engine,
        service: &str,
        index: Option<u32>,
    ) -> Result<Member, CommandError> {
        let (_, members) = self.members(engine, &[service.to_owned()])?;
        members::one(&members, service, index.filter(|index| *index > 0)).cloned()
    }

    /// Does something to containers, those that need others first.
    fn backwards(
        &self,
        services: &[String],
        work: impl Fn(&Remains<'_>, &Member) -> Result<(), CommandError> + Sync,
    ) -> Result<ExitCode, CommandError> {
        let engine = self.engine()?;
        let (name, project) = self.name()?;
        let members = members_of(&engine, &name, project.as_ref(), services)?;
        let report = self.report();
        let remains = Remains {
            engine: &engine,
            name: &name,
            project: project.as_ref(),
            report: &report,
        };
        remains.backwards(&members, |member| work(&remains, member))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns the containers of a project's services, which are all if none is named.
fn members_of(
    engine: &Engine,
    name: &str,
    project: Option<&Project>,
    services: &[String],
) -> Result<Vec<Member>, CommandError> {
    let mut members = members::of_project(engine, name)?;
    for service in services {
        let is_known = members.iter().any(|member| &member.service == service)
            || project.is_some_and(|it| it.services.contains_key(service));
        if !is_known {
            return Err(CommandError::failed(LoadError::NoService(service.clone())));
        }
    }
    members.retain(|member| match services.is_empty() {
        true => !member.is_one_off,
        false => !member.is_one_off && services.contains(&member.service),
    });
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_as_both_flags_allow() {
        for (progress, ansi, wanted) in [
            ("auto", "auto", Some("auto")),
            ("auto", "never", Some("plain")),
            ("tty", "always", Some("tty")),
            ("plain", "never", Some("plain")),
            ("none", "auto", Some("none")),
            ("tty", "never", None),
            ("plain", "always", None),
            ("fancy", "auto", None),
        ] {
            let style = style(progress, ansi).ok();
            assert_eq!(style.as_deref(), wanted, "{progress} {ansi}");
        }
    }
}
