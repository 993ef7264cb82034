//! `ply inspect`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::Engine;
use runtime::container::ContainerError;
use runtime::image::ImageError;
use runtime::network::NetworkError;
use runtime::volume::VolumeError;
use serde_json::Value;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::format::Inspected;
use crate::output::out;
use crate::terminal;

/// Show all that is known of containers, images, networks or volumes
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Format the output: `json` or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show what containers take on the disk
    #[arg(short, long)]
    size: bool,
    /// Only things of this kind: `container`, `image`, `network` or `volume`
    #[arg(long, value_name = "KIND")]
    r#type: Option<Kind>,
    /// Names or ids
    #[arg(value_name = "NAME|ID", required = true)]
    names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let engine = context.engine()?;
    show(&args.names, args.format.as_deref(), |name| {
        let found = find(&engine, args.r#type, name)?;
        Ok(found.map(|value| match args.size {
            true => with_size(&engine, value),
            false => value,
        }))
    })
}

/// Prints what is found of each name; what is not found is told at the end.
pub(super) fn show(
    names: &[String],
    format: Option<&str>,
    mut find: impl FnMut(&str) -> Result<Option<Value>, String>,
) -> Result<ExitCode, CommandError> {
    let mut shown = Inspected::new(format).map_err(CommandError::failed)?;
    let mut failures = Vec::new();
    for name in names {
        match find(name) {
            Ok(Some(value)) => {
                if let Err(error) = shown.add(value) {
                    failures.push(error.to_string());
                }
            }
            Ok(None) => failures.push(format!("Error: No such object: {name}")),
            Err(words) => failures.push(words),
        }
    }
    let text = shown.text();
    match terminal::stdout_is_terminal() {
        true => out!("{}", terminal::escaped_lines(&text)),
        false => out!("{text}"),
    }
    match failures.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(CommandError::failed(failures.join("\n"))),
    }
}

/// Adds what a container's changes take, and what all of its tree does.
pub(super) fn with_size(engine: &Engine, mut value: Value) -> Value {
    let container = value["Id"]
        .as_str()
        .and_then(|id| engine.container(id).ok());
    if let Some(container) = container {
        let own = engine.container_size(&container);
        let image = engine.image(&container.config.image_id);
        value["SizeRw"] = own.into();
        value["SizeRootFs"] = (own + image.map_or(0, |image| image.size)).into();
    }
    value
}

fn find(engine: &Engine, kind: Option<Kind>, name: &str) -> Result<Option<Value>, String> {
    let wants = |one: Kind| kind.is_none_or(|kind| kind == one);
    if wants(Kind::Container) {
        match engine.container(name) {
            Ok(container) => return Ok(Some(engine.inspect_container(&container))),
            Err(ContainerError::NoSuchContainer(_)) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    if wants(Kind::Image) {
        match engine.inspect_image(name) {
            Ok(image) => return Ok(Some(image)),
            Err(ImageError::NoSuchImage(_) | ImageError::Reference(_)) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    if wants(Kind::Network) {
        match engine
            .network(name)
            .and_then(|network| engine.inspect_network(&network))
        {
            Ok(network) => return Ok(Some(network)),
            Err(NetworkError::NotFound(_)) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    if wants(Kind::Volume) {
        match engine.volume(name) {
            Ok(volume) => return Ok(Some(crate::docker_json::volume(&volume))),
            Err(VolumeError::NoSuchVolume(_)) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(None)
}
