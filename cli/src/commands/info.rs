//! `ply info`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::container::ContainerFilter;
use runtime::container::Status;
use runtime::image::ImageFilter;
use serde_json::Value;
use serde_json::json;

use super::stats::total_memory;
use crate::command_error::CommandError;
use crate::context::Context;
use crate::format;
use crate::human_size::binary_size;
use crate::output::out;
use crate::output::outln;

/// Show what there is, and on what it runs
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Format the output: `json` or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let info = gather(context)?;
    if let Some(format) = &args.format {
        let text = match format.as_str() {
            "json" => format!("{info}\n"),
            template => format::inspected(Some(template), &[info]).map_err(CommandError::failed)?,
        };
        out!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    let text = |name: &str| match &info[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let memory = binary_size(info["MemTotal"].as_u64().unwrap_or(0));
    for (depth, name, value) in [
        (0, "Containers", text("Containers")),
        (1, "Running", text("ContainersRunning")),
        (1, "Paused", text("ContainersPaused")),
        (1, "Stopped", text("ContainersStopped")),
        (0, "Images", text("Images")),
        (0, "Server Version", text("ServerVersion")),
        (0, "Storage Driver", text("Driver")),
        (0, "Logging Driver", text("LoggingDriver")),
        (0, "Cgroup Driver", text("CgroupDriver")),
        (0, "Cgroup Version", text("CgroupVersion")),
        (0, "Kernel Version", text("KernelVersion")),
        (0, "Operating System", text("OperatingSystem")),
        (0, "OSType", text("OSType")),
        (0, "Architecture", text("Architecture")),
        (0, "CPUs", text("NCPU")),
        (0, "Total Memory", memory),
        (0, "Name", text("Name")),
        (0, "Ply Root Dir", text("DockerRootDir")),
    ] {
        outln!("{}{name}: {value}", " ".repeat(depth));
    }
    Ok(ExitCode::SUCCESS)
}

fn gather(context: &Context) -> Result<Value, CommandError> {
    let engine = context.engine()?;
    let containers = engine
        .containers(true, &ContainerFilter::default())
        .map_err(CommandError::failed)?;
    let images = engine
        .images(&ImageFilter::default())
        .map_err(CommandError::failed)?;
    let count = |wanted: fn(Status) -> bool| {
        let statuses = containers.iter().map(|container| container.state.status);
        statuses.filter(|status| wanted(*status)).count()
    };
    let system = rustix::system::uname();
    let field = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let is_unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    Ok(json!({
        "Containers": containers.len(),
        "ContainersRunning": count(|status| matches!(status, Status::Running | Status::Restarting)),
        "ContainersPaused": count(|status| status == Status::Paused),
        "ContainersStopped": count(|status| !status.is_alive()),
        "Images": images.len(),
        "Driver": "layerfs",
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": if is_unified { "2" } else { "1" },
        "KernelVersion": field(system.release()),
        "OperatingSystem": operating_system(),
        "OSType": "linux",
        "Architecture": field(system.machine()),
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": total_memory(),
        "DockerRootDir": engine.root(),
        "Name": field(system.nodename()),
        "ServerVersion": env!("CARGO_PKG_VERSION"),
    }))
}

/// Returns the host's name of itself, `os-release(5)`.
fn operating_system() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}
