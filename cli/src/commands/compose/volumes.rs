//! `ply compose volumes`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::sandbox::MountSource;
use runtime::volume::VolumeFilter;
use serde_json::Value;
use serde_json::json;

use super::Access;
use crate::command_error::CommandError;
use crate::compose::labels;
use crate::format::Listing;
use crate::output::out;
use crate::output::outln;

/// List a project's volumes
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Format the output: `table`, `table TEMPLATE`, `json` or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show only names
    #[arg(short, long)]
    quiet: bool,
    /// Only those that these services use
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

const LISTING: Listing<'_> = Listing {
    row: "volume",
    table: "{{.Driver}}\t{{.Name}}",
    headings: &[("Driver", "DRIVER"), ("Name", "VOLUME NAME")],
};

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let engine = access.engine()?;
    let (name, members) = access.members(&engine, &args.services)?;
    let mut filter = VolumeFilter::default();
    filter
        .add(&format!("label={}={name}", labels::PROJECT))
        .map_err(CommandError::failed)?;
    let mut volumes = engine.volumes(&filter).map_err(CommandError::failed)?;
    if !args.services.is_empty() {
        let mounts: Vec<_> = members
            .iter()
            .flat_map(|it| &it.container.config.mounts)
            .collect();
        volumes.retain(|volume| {
            let is_it = |source: &MountSource| {
                matches!(source, MountSource::Volume(used) if used.name == volume.name)
            };
            mounts.iter().any(|mount| is_it(&mount.source))
        });
    }
    if args.quiet {
        volumes.iter().for_each(|volume| outln!("{}", volume.name));
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Value> = volumes
        .iter()
        .map(|volume| json!({"Driver": runtime::volume::DRIVER, "Name": volume.name}))
        .collect();
    let text = LISTING.write(args.format.as_deref(), &rows);
    out!("{}", text.map_err(CommandError::failed)?);
    Ok(ExitCode::SUCCESS)
}
