//! `ply compose build`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::Access;
use crate::command_error::CommandError;
use crate::commands::environment;
use crate::compose::built::Asked;
use crate::compose::composition::Composition;

/// Build the images of services
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Set a build-time variable; without a value, to ours
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// For Compose's sake: there is one builder
    #[arg(long, value_name = "NAME", hide = true)]
    builder: Option<String>,
    /// For Compose's sake: nothing is sent that could be compressed
    #[arg(long, hide = true)]
    compress: bool,
    /// For Compose's sake: steps leave no containers
    #[arg(long, hide = true)]
    force_rm: bool,
    /// For Compose's sake: a step's memory is not limited
    #[arg(short, long, value_name = "BYTES", hide = true)]
    memory: Option<String>,
    /// Take no result from the cache
    #[arg(long)]
    no_cache: bool,
    /// For Compose's sake: steps leave no containers
    #[arg(long, hide = true)]
    no_rm: bool,
    /// For Compose's sake: images are built one after the other
    #[arg(long, hide = true)]
    parallel: bool,
    /// How steps are told: `auto`, `tty`, `plain`, `quiet`
    #[arg(long, value_name = "STYLE", hide = true)]
    progress: Option<String>,
    /// For Compose's sake: nothing is attested
    #[arg(long, value_name = "ATTESTATION", hide = true)]
    provenance: Option<String>,
    /// Fetch base images even if they are here
    #[arg(long)]
    pull: bool,
    /// Push the images then
    #[arg(long)]
    push: bool,
    /// Tell no steps
    #[arg(short, long)]
    quiet: bool,
    /// For Compose's sake: nothing is attested
    #[arg(long, value_name = "ATTESTATION", hide = true)]
    sbom: Option<String>,
    /// Show an agent's socket to the steps that ask for it (`default`, `ID=SOCKET`)
    #[arg(long, value_name = "ID[=SOCKET]")]
    ssh: Vec<String>,
    /// Also those of the dependencies
    #[arg(long)]
    with_dependencies: bool,
    /// The services; all if there are none
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Args {
    /// Returns how the steps are to be told, if that is said behind the verb.
    pub(super) fn progress(&self) -> Option<&str> {
        self.progress.as_deref()
    }
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let project = access.project(&args.services)?;
    let mut services = project
        .selected(&args.services)
        .map_err(CommandError::failed)?;
    if args.with_dependencies {
        services = project.with_dependencies(&services);
    }
    let engine = access.engine()?;
    let report = access.report();
    let composition = Composition {
        engine: &engine,
        project: &project,
        report: &report,
    };
    let given = environment(&[], &args.build_arg)?;
    let args_given = given.iter().filter_map(|arg| arg.split_once('='));
    let asked = Asked {
        args: args_given
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        no_cache: args.no_cache,
        pull: args.pull,
        quiet: args.quiet,
        ssh: args.ssh,
    };
    composition.build(&services, &asked)?;
    if args.push && !composition.report.is_dry_run() {
        super::push::push(&composition, &services, false)?;
    }
    Ok(ExitCode::SUCCESS)
}
