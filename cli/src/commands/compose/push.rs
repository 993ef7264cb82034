//! `ply compose push`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::progress::Silent;
use runtime::reference::Reference;

use super::Access;
use crate::command_error::CommandError;
use crate::compose::composition::Composition;

/// Push the images that services build
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Go on when one cannot be pushed
    #[arg(long)]
    ignore_push_failures: bool,
    /// Also those of the dependencies
    #[arg(long)]
    include_deps: bool,
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
    push(&composition, &names, args.ignore_push_failures)?;
    Ok(ExitCode::SUCCESS)
}

/// Pushes the images of those services that build one.
pub(super) fn push(
    composition: &Composition<'_>,
    names: &[String],
    ignores_failures: bool,
) -> Result<(), CommandError> {
    let Composition {
        engine,
        project,
        report,
    } = *composition;
    for name in names {
        let service = &project.services[name];
        let (Some(image), true) = (&service.image, service.build.is_some()) else {
            continue;
        };
        report.begin(name, "Pushing");
        let reference: Reference = image.parse().map_err(CommandError::failed)?;
        let pushed = engine.push(&reference.or_latest(), &Default::default(), &Silent);
        match pushed {
            Ok(_) => report.done(name, "Pushed"),
            Err(error) => {
                report.failed(name, "Error");
                if !ignores_failures {
                    return Err(CommandError::failed(error));
                }
            }
        }
    }
    Ok(())
}
