//! `ply compose up`

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use clap::Args as ClapArgs;
use jiff::Timestamp;
use runtime::container::LogOptions;

use super::Access;
use crate::command_error::CommandError;
use crate::compose::attach;
use crate::compose::attach::Until;
use crate::compose::composition::Composition;
use crate::compose::composition::Recreate;
use crate::compose::composition::Wish;
use crate::compose::follow::Plan;
use crate::compose::follow::Services;
use crate::compose::project::Project;
use crate::compose::view::View;

/// Make and start what the files say
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Stop all containers when one ends
    #[arg(long)]
    abort_on_container_exit: bool,
    /// Stop all containers when one fails
    #[arg(long)]
    abort_on_container_failure: bool,
    /// Show only these services' output
    #[arg(long, value_name = "SERVICE")]
    attach: Vec<String>,
    /// Show the output of dependencies too
    #[arg(long)]
    attach_dependencies: bool,
    /// Run in the background
    #[arg(short, long)]
    detach: bool,
    /// End with this service's exit code
    #[arg(long, value_name = "SERVICE")]
    exit_code_from: Option<String>,
    /// For Compose's sake: there is no menu
    #[arg(long, hide = true)]
    menu: bool,
    /// Do not show these services' output
    #[arg(long, value_name = "SERVICE")]
    no_attach: Vec<String>,
    /// Show names without colours
    #[arg(long)]
    no_color: bool,
    /// Leave out the dependencies
    #[arg(long)]
    no_deps: bool,
    /// Show lines without names
    #[arg(long)]
    no_log_prefix: bool,
    /// Make the containers but do not start them
    #[arg(long)]
    no_start: bool,
    /// Show when each line was said
    #[arg(long)]
    timestamps: bool,
    /// Wait until all run, and are healthy where that is checked; in the background
    #[arg(long)]
    wait: bool,
    /// The longest such wait, in seconds
    #[arg(long, value_name = "SECONDS")]
    wait_timeout: Option<u64>,
    #[command(flatten)]
    made: Made,
    /// The services; all if there are none
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// How containers are made: what `up` and `create` share.
#[derive(Debug, Default, ClapArgs)]
#[command(next_display_order = None)]
pub(super) struct Made {
    /// Make dependencies anew as well
    #[arg(long)]
    always_recreate_deps: bool,
    /// Build images first
    #[arg(long)]
    build: bool,
    /// Make all containers anew
    #[arg(long)]
    force_recreate: bool,
    /// Do not build images
    #[arg(long)]
    no_build: bool,
    /// Make no container anew
    #[arg(long)]
    no_recreate: bool,
    /// Pull images first: `always`, `missing`, `never`, `policy`
    #[arg(long, value_name = "POLICY", value_parser = ["always", "missing", "never", "policy", "build"])]
    pull: Option<String>,
    /// Say nothing of pulls
    #[arg(long)]
    quiet_pull: bool,
    /// Remove the containers of services that are no longer there
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    remove_orphans: Option<bool>,
    /// Begin with new anonymous volumes
    #[arg(short = 'V', long)]
    renew_anon_volumes: bool,
    /// Run so many containers of a service
    #[arg(long, value_name = "SERVICE=NUMBER", value_parser = parse_scale)]
    scale: Vec<(String, i64)>,
    /// Seconds until a container is killed
    #[arg(short, long, value_name = "SECONDS", allow_hyphen_values = true)]
    timeout: Option<i64>,
    /// Ask nothing
    #[arg(short, long)]
    yes: bool,
}

fn parse_scale(text: &str) -> Result<(String, i64), String> {
    service_and_number(text)
        .ok_or_else(|| format!("invalid --scale option {text:?}. Should be SERVICE=NUM"))
}

/// Reads `SERVICE=NUMBER`.
pub(super) fn service_and_number(text: &str) -> Option<(String, i64)> {
    let (name, number) = text.split_once('=')?;
    let number = number.parse().ok().filter(|number| *number >= 0)?;
    Some((name.to_owned(), number))
}

impl Made {
    /// So many containers of services, all else as by default.
    pub(super) fn scaled(scale: Vec<(String, i64)>) -> Made {
        Made {
            scale,
            ..Made::default()
        }
    }

    /// Says what the command line leaves to variables.
    pub(super) fn settle(&mut self, access: &Access<'_>) {
        let is_asked_for = || access.environment.is_true("COMPOSE_REMOVE_ORPHANS");
        self.remove_orphans = self.remove_orphans.or_else(|| Some(is_asked_for()));
    }

    /// Brings images and makes the containers of services.
    pub(super) fn make(
        &self,
        composition: &Composition<'_>,
        named: &[String],
        services: &[String],
    ) -> Result<(), CommandError> {
        if self.force_recreate && self.no_recreate {
            return Err(CommandError::failed(
                "--force-recreate and --no-recreate are incompatible",
            ));
        }
        if self.build && self.no_build {
            return Err(CommandError::failed(
                "--build and --no-build are incompatible",
            ));
        }
        let project = composition.project;
        for (name, number) in &self.scale {
            let service = project.services.get(name);
            let service = service
                .ok_or_else(|| CommandError::failed(format_args!("no such service: {name}")))?;
            if *number > 1 && service.container_name.is_some() {
                return Err(CommandError::failed(format_args!(
                    "services.{name}: can't set container_name and scale as container name must be unique"
                )));
            }
        }
        composition.refuse_foreign(services)?;
        let quiet = composition.report.quietly();
        let pulling = Composition {
            report: if self.quiet_pull {
                &quiet
            } else {
                composition.report
            },
            ..*composition
        };
        let policy = self.pull.as_deref().filter(|policy| *policy != "policy");
        pulling.ensure_images(services, policy)?;
        pulling.ensure_built(services, self.build, self.no_build)?;
        let recreate = match (self.force_recreate, self.no_recreate) {
            (true, _) => Recreate::Force,
            (_, true) => Recreate::Never,
            _ => Recreate::Diverged,
        };
        let wish = Wish {
            recreate,
            recreate_dependencies: match (recreate, self.always_recreate_deps) {
                (_, true) => Recreate::Force,
                (Recreate::Force, false) => Recreate::Diverged,
                (recreate, false) => recreate,
            },
            named: named.to_vec(),
            scale: self.scale.iter().cloned().collect::<BTreeMap<_, _>>(),
            remove_orphans: self.remove_orphans.unwrap_or(false),
            renew_volumes: self.renew_anon_volumes,
            timeout: self.timeout,
        };
        composition.ensure_resources(self.yes)?;
        composition.converge(services, &wish)
    }
}

pub(super) fn run(mut args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let is_foreground = !(args.detach || args.wait || args.no_start || access.is_dry_run);
    let ends_with_one = args.abort_on_container_exit || args.exit_code_from.is_some();
    if !is_foreground && (ends_with_one || args.abort_on_container_failure) {
        return Err(CommandError::failed(
            "--detach cannot be combined with --abort-on-container-exit or --abort-on-container-failure",
        ));
    }
    let mut project = access.project(&args.services)?;
    let named = project
        .selected(&args.services)
        .map_err(CommandError::failed)?;
    let services = match args.no_deps {
        true => named.clone(),
        false => project.with_dependencies(&named),
    };
    if let Some(service) = &args.exit_code_from
        && !services.contains(service)
    {
        return Err(CommandError::failed(format_args!(
            "no such service: {service}"
        )));
    }
    project
        .read_env_files(&services)
        .map_err(CommandError::failed)?;
    args.made.settle(access);
    let engine = access.engine()?;
    let report = access.report();
    let composition = Composition {
        engine: &engine,
        project: &project,
        report: &report,
    };
    if is_foreground {
        attach::hold_interrupts();
    }
    let since = Timestamp::now();
    args.made.make(&composition, &named, &services)?;
    if args.no_start {
        return Ok(ExitCode::SUCCESS);
    }
    if is_foreground {
        let shown = shown(&args, &project, &named, &services);
        report.say(format_args!("Attaching to {}", shown.join(", ")));
        let view = View::new(
            !args.no_log_prefix,
            !args.no_color && access.has_colours,
            args.timestamps,
        );
        let until = Until {
            first_exit: ends_with_one,
            first_failure: args.abort_on_container_failure,
            code_from: args.exit_code_from.clone(),
            timeout: args.made.timeout,
        };
        // Whoever names services leaves those they depend on alone, and does not wait for them.
        let watched = match (args.services.is_empty(), shown.is_empty()) {
            (false, _) => &named,
            (true, false) => &shown,
            (true, true) => &services,
        };
        let plan = Plan {
            engine: engine.clone(),
            project: project.name.clone(),
            watched: Services::These(watched.clone()),
            shown: Services::These(shown.clone()),
            number: None,
            view,
            options: LogOptions {
                follow: true,
                since: Some(since),
                ..LogOptions::default()
            },
        };
        let code = composition.run_attached(&services, &named, plan, &until)?;
        return Ok(ExitCode::from(code));
    }
    let timeout = args.wait_timeout.filter(|_| args.wait);
    composition.start_while(&services, timeout, &AtomicBool::new(true))?;
    if args.wait && !access.is_dry_run {
        composition.wait_until_up(&services, args.wait_timeout)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the services whose output is shown.
fn shown(args: &Args, project: &Project, named: &[String], services: &[String]) -> Vec<String> {
    let base = match (
        args.attach.is_empty(),
        args.attach_dependencies || args.services.is_empty(),
    ) {
        (false, _) => &args.attach,
        (true, true) => services,
        (true, false) => named,
    };
    let wants = |name: &&String| {
        let own = project
            .services
            .get(*name)
            .and_then(|service| service.attach);
        services.contains(name) && !args.no_attach.contains(name) && own != Some(false)
    };
    base.iter().filter(wants).cloned().collect()
}
