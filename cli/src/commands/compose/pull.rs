//! `ply compose pull`

use std::process::ExitCode;

use clap::Args as ClapArgs;

use super::Access;
use crate::command_error::CommandError;
use crate::compose::composition::Composition;
use crate::compose::container::image_of;
use crate::compose::order;

/// Pull the images of services
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Leave out images that are built
    #[arg(long)]
    ignore_buildable: bool,
    /// Go on when one cannot be pulled
    #[arg(long)]
    ignore_pull_failures: bool,
    /// Also those of the dependencies
    #[arg(long)]
    include_deps: bool,
    /// For Compose's sake: `ply compose --parallel` says it
    #[arg(long, hide = true)]
    no_parallel: bool,
    /// For Compose's sake: `ply compose --parallel` says it
    #[arg(long, hide = true)]
    parallel: bool,
    /// `missing` or `always`
    #[arg(long, value_name = "POLICY", value_parser = ["missing", "always"])]
    policy: Option<String>,
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
    /// The services; all if there are none
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let project = access.project(&args.services)?;
    let mut names = project
        .selected(&args.services)
        .map_err(CommandError::failed)?;
    if args.include_deps {
        names = project.with_dependencies(&names);
    }
    let engine = access.engine()?;
    let report = access.report().quiet_if(args.quiet);
    let composition = Composition {
        engine: &engine,
        project: &project,
        report: &report,
    };
    order::side_by_side(&names, |name| {
        let service = &project.services[name];
        let image = image_of(&project, name, service);
        let is_built = service.build.is_some();
        if (is_built && (args.ignore_buildable || service.image.is_none()))
            || (args.policy.as_deref() == Some("missing")
                && composition.is_here(&image, service)?)
        {
            report.done(name, "Skipped");
            return Ok(());
        }
        match composition.pull(&image, name, service) {
            Err(_) if args.ignore_pull_failures || is_built => Ok(()),
            pulled => pulled,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
