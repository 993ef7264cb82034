//! `ply compose run`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::container::ContainerError;
use runtime::container::StartOptions;

use super::Access;
use crate::command_error::CommandError;
use crate::commands::environment;
use crate::compose::composition::Composition;
use crate::compose::composition::Recreate;
use crate::compose::composition::Wish;
use crate::compose::converge::OneOff;
use crate::compose::project::Project;
use crate::compose::words;
use crate::detach_keys::DetachKeys;
use crate::interaction;
use crate::interaction::Interaction;
use crate::interaction::Outcome;
use crate::output::outln;
use crate::terminal;

/// Run one command in a container of a service's kind
#[derive(Debug, ClapArgs)]
#[command(override_usage = "ply compose run [OPTIONS] SERVICE [COMMAND] [ARG...]")]
pub(super) struct Args {
    /// Build the image first
    #[arg(long)]
    build: bool,
    /// Capabilities to add
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Capabilities to drop
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Run in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    /// What the command is passed to
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// Set an environment variable; without a value, to ours
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_from_file: Vec<PathBuf>,
    /// Pass standard input on
    #[arg(short, long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    interactive: bool,
    /// Labels
    #[arg(short, long, value_name = "NAME=VALUE", alias = "labels")]
    label: Vec<String>,
    /// The container's name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Leave out the dependencies
    #[arg(long)]
    no_deps: bool,
    /// Give the command no terminal
    #[arg(short = 'T', long, alias = "no-TTY")]
    no_tty: bool,
    /// Pull the image first: `always`, `missing`, `never`
    #[arg(long, value_name = "POLICY", value_parser = ["always", "missing", "never"])]
    pull: Option<String>,
    /// Publish a port
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<String>,
    /// Tell no steps
    #[arg(short, long)]
    quiet: bool,
    /// Say nothing of pulls
    #[arg(long)]
    quiet_pull: bool,
    /// Remove the containers of services that are no longer there
    #[arg(long)]
    remove_orphans: bool,
    /// Remove the container when it has ended
    #[arg(long)]
    rm: bool,
    /// Publish the service's ports
    #[arg(short = 'P', long)]
    service_ports: bool,
    /// Give the command a terminal if there is one
    #[arg(short, long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    tty: bool,
    /// Answer to the service's name and aliases on its networks
    #[arg(long)]
    use_aliases: bool,
    /// User and group, names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Mount a host's path or a volume
    #[arg(short, long, value_name = "VOLUME", alias = "volumes")]
    volume: Vec<String>,
    /// Directory the command starts in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// The service, then the command and its arguments
    #[arg(
        value_name = "SERVICE",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    words: Vec<String>,
}

pub(super) fn run(mut args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let name = args.words.remove(0);
    // Everything behind the service is the command's; before it there are flags, and this is none that we know.
    if name.starts_with("--") {
        let flag = name.split('=').next().unwrap_or_default();
        return Err(CommandError::with_code(
            125,
            format_args!("unknown flag: {flag}"),
        ));
    }
    if let Some(letter) = name.strip_prefix('-').and_then(|rest| rest.chars().next()) {
        let words = format!("unknown shorthand flag: '{letter}' in {name}");
        return Err(CommandError::with_code(125, words));
    }
    let mut project = access.project(std::slice::from_ref(&name))?;
    let named = [name.clone()];
    let services = match args.no_deps {
        true => named.to_vec(),
        false => project.with_dependencies(&named),
    };
    project
        .read_env_files(&services)
        .map_err(CommandError::failed)?;
    let tty = args.tty
        && !args.no_tty
        && !args.detach
        && terminal::stdout_is_terminal()
        && terminal::stdin_is_terminal();
    change(&mut project, &name, &args, tty)?;
    let engine = access.engine()?;
    let report = access.report().quiet_if(args.quiet);
    let composition = Composition {
        engine: &engine,
        project: &project,
        report: &report,
    };
    composition.refuse_foreign(std::slice::from_ref(&name))?;
    start_dependencies(&composition, &name, &args)?;
    let quiet = report.quietly();
    let pulling = Composition {
        report: if args.quiet_pull { &quiet } else { &report },
        ..composition
    };
    pulling.ensure_images(std::slice::from_ref(&name), args.pull.as_deref())?;
    composition.ensure_built(std::slice::from_ref(&name), args.build, false)?;
    composition.ensure_resources(false)?;
    let streams = [args.interactive && !args.detach, true, true];
    let one_off = OneOff {
        name: args.name.clone(),
        labels: labels(&args.label),
        auto_remove: args.rm,
        stdin_once: streams[0],
        with_aliases: args.use_aliases,
    };
    if !args.detach {
        interaction::hold_signals();
    }
    let member = composition.create_one_off(&name, &one_off)?;
    composition.put_files(&member)?;
    report.end();
    let start = StartOptions {
        attach: (!args.detach).then_some(streams),
        size: interaction::window_size(),
    };
    let attachment = engine
        .start_container(member.id(), &start)
        .map_err(|error| {
            let code = match &error {
                ContainerError::Start { code, .. } => *code,
                _ => 1,
            };
            if args.rm {
                let _ = engine.remove_container(member.id(), true, true);
            }
            CommandError::with_code(code, error)
        })?;
    let Some(attachment) = attachment else {
        outln!("{}", member.name());
        return Ok(ExitCode::SUCCESS);
    };
    let interaction = Interaction {
        tty,
        stdin: streams[0],
        sig_proxy: true,
        detach_keys: DetachKeys::parse(None)?,
    };
    match interaction.follow(attachment)? {
        Outcome::Exit(code) => Ok(ExitCode::from(code as u8)),
        Outcome::Detached => Ok(ExitCode::SUCCESS),
    }
}

/// Puts what the command line says over the service.
fn change(project: &mut Project, name: &str, args: &Args, tty: bool) -> Result<(), CommandError> {
    let Some(service) = project.services.get_mut(name) else {
        return Err(CommandError::failed(format_args!(
            "no such service: {name}"
        )));
    };
    (service.tty, service.stdin_open) = (tty, args.interactive && !args.detach);
    (service.restart, service.container_name) = (Some("no".to_owned()), None);
    if !args.words.is_empty() {
        service.command = Some(args.words.clone());
    }
    if let Some(entrypoint) = &args.entrypoint {
        service.entrypoint = Some(words::split(entrypoint).map_err(CommandError::failed)?);
        if args.words.is_empty() {
            service.command = None;
        }
    }
    for variable in environment(&args.env_from_file, &args.env)? {
        let (name, value) = match variable.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (variable, None),
        };
        service.environment.insert(name, value);
    }
    service.cap_add.extend(args.cap_add.iter().cloned());
    service.cap_drop.extend(args.cap_drop.iter().cloned());
    service.user = args.user.clone().or(service.user.take());
    service.working_dir = args.workdir.clone().or(service.working_dir.take());
    if !args.service_ports {
        service.ports.clear();
    }
    service
        .publish(&args.publish)
        .map_err(CommandError::failed)?;
    let directory = project.directory.clone();
    service
        .mount(&args.volume, &directory)
        .map_err(CommandError::failed)
}

fn labels(labels: &[String]) -> BTreeMap<String, String> {
    let pairs = labels
        .iter()
        .map(|label| label.split_once('=').unwrap_or((label, "")));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Makes and starts what the service depends on.
fn start_dependencies(
    composition: &Composition<'_>,
    name: &str,
    args: &Args,
) -> Result<(), CommandError> {
    let all = composition.project.with_dependencies(&[name.to_owned()]);
    let mut dependencies = all.clone();
    dependencies.retain(|other| other != name);
    let wish = Wish {
        recreate: Recreate::Diverged,
        recreate_dependencies: Recreate::Diverged,
        named: Vec::new(),
        scale: BTreeMap::new(),
        remove_orphans: args.remove_orphans,
        renew_volumes: false,
        timeout: None,
    };
    if args.no_deps || dependencies.is_empty() {
        return composition.sort_out_orphans(&wish);
    }
    composition.refuse_foreign(&dependencies)?;
    composition.ensure_images(&dependencies, None)?;
    composition.ensure_built(&dependencies, false, false)?;
    composition.ensure_resources(false)?;
    composition.converge(&dependencies, &wish)?;
    composition.start(&dependencies)?;
    composition.wait_for_dependencies(name, &all, None)
}
