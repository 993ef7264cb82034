//! `ply version`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use serde_json::json;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::docker_json;
use crate::format::Template;
use crate::output::out;
use crate::output::outln;

/// Show ply's version and what it runs on
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Format the output: `json` or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let client = docker_json::client_version();
    let field = |name: &str| client[name].as_str().unwrap_or_default().to_owned();
    let (version, kernel) = (field("Version"), field("KernelVersion"));
    let platform = format!("{}/{}", field("Os"), field("Arch"));
    // There need be no server, but scripts ask Docker for one's version.
    let all = json!({ "Client": client, "Server": docker_json::server_version() });
    match args.format.as_deref() {
        Some("json") => outln!("{all}"),
        Some(format) => {
            let template = Template::parse(format).map_err(CommandError::failed)?;
            outln!("{}", template.render(&all).map_err(CommandError::failed)?);
        }
        None => out!(
            "ply\n Version:    {version}\n Platform:   {platform}\n Kernel:     {kernel}\n Root:       {}\n Run:        {}\n",
            context.config.root.display(),
            context.config.run.display()
        ),
    }
    Ok(ExitCode::SUCCESS)
}
