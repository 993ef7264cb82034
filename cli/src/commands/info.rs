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
    out!("{}", written(&info));
    Ok(ExitCode::SUCCESS)
}

/// Writes it line by line as Docker does: scripts look for its lines.
fn written(info: &Value) -> String {
    let text = |name: &str| match &info[name] {
        Value::String(text) => text.clone(),
        Value::Object(swarm) => swarm["LocalNodeState"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        other => other.to_string(),
    };
    let list = |value: &Value| {
        let items = value.as_array().into_iter().flatten();
        let items: Vec<&str> = items.filter_map(Value::as_str).collect();
        items.join(" ")
    };
    let runtimes = info["Runtimes"].as_object().into_iter().flatten();
    let runtimes: Vec<&str> = runtimes.map(|(name, _)| name.as_str()).collect();
    let memory = binary_size(info["MemTotal"].as_u64().unwrap_or(0));
    let plugins = &info["Plugins"];
    let before = [
        (1, "Containers", text("Containers")),
        (2, "Running", text("ContainersRunning")),
        (2, "Paused", text("ContainersPaused")),
        (2, "Stopped", text("ContainersStopped")),
        (1, "Images", text("Images")),
        (1, "Server Version", text("ServerVersion")),
        (1, "Storage Driver", text("Driver")),
        (1, "Logging Driver", text("LoggingDriver")),
        (1, "Cgroup Driver", text("CgroupDriver")),
        (1, "Cgroup Version", text("CgroupVersion")),
        (1, "Plugins", String::new()),
        (2, "Volume", list(&plugins["Volume"])),
        (2, "Network", list(&plugins["Network"])),
        (2, "Log", list(&plugins["Log"])),
        (1, "Swarm", text("Swarm")),
        (1, "Runtimes", runtimes.join(" ")),
        (1, "Default Runtime", text("DefaultRuntime")),
        (1, "Init Binary", text("InitBinary")),
    ];
    let after = [
        (1, "Kernel Version", text("KernelVersion")),
        (1, "Operating System", text("OperatingSystem")),
        (1, "OSType", text("OSType")),
        (1, "Architecture", text("Architecture")),
        (1, "CPUs", text("NCPU")),
        (1, "Total Memory", memory),
        (1, "Name", text("Name")),
        (1, "ID", text("ID")),
        (1, "Docker Root Dir", text("DockerRootDir")),
        (1, "Debug Mode", text("Debug")),
        (1, "Registry", text("IndexServerAddress")),
        (1, "Experimental", text("ExperimentalBuild")),
        (1, "Live Restore Enabled", text("LiveRestoreEnabled")),
    ];
    let lines = |rows: &[(usize, &str, String)]| {
        let line = |(depth, name, value): &(usize, &str, String)| {
            let line = format!("{}{name}: {value}", " ".repeat(*depth));
            format!("{}\n", line.trim_end())
        };
        rows.iter().map(line).collect::<String>()
    };
    format!(
        "Client:\n Context: default\n Debug Mode: false\n\nServer:\n{}{}{}",
        lines(&before),
        security(info),
        lines(&after)
    )
}

/// Writes the security options: `name=seccomp,profile=builtin` is a name, and below it what else is said.
fn security(info: &Value) -> String {
    let mut lines = " Security Options:\n".to_owned();
    let options = info["SecurityOptions"].as_array().into_iter().flatten();
    for option in options.filter_map(Value::as_str) {
        for field in option.split(',') {
            match field.split_once('=') {
                Some(("name", name)) => lines.push_str(&format!("  {name}\n")),
                Some(("profile", profile)) => lines.push_str(&format!("   Profile: {profile}\n")),
                _ => lines.push_str(&format!("   {field}\n")),
            }
        }
    }
    lines
}
