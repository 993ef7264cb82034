//! `ply info`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use serde_json::Value;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::docker_json;
use crate::format::Template;
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
    let info = docker_json::info(&context.engine()?).map_err(CommandError::failed)?;
    if let Some(format) = &args.format {
        let text = match format.as_str() {
            "json" => format!("{info}\n"),
            template => {
                let template = Template::parse(template).map_err(CommandError::failed)?;
                let text = template.render(&info).map_err(CommandError::failed)?;
                format!("{text}\n")
            }
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
