//! `ply version`

use std::process::ExitCode;

use clap::Args as ClapArgs;
use serde_json::json;

use crate::command_error::CommandError;
use crate::context::Context;
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
    let system = rustix::system::uname();
    let kernel = system.release().to_string_lossy().into_owned();
    let version = env!("CARGO_PKG_VERSION");
    let platform = runtime::image::Platform::host().to_string();
    // There is no server, but scripts ask Docker for one's version.
    let half = json!({ "Version": version, "Os": "linux", "Arch": platform.trim_start_matches("linux/"),
                       "KernelVersion": kernel });
    let all = json!({ "Client": half, "Server": half });
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
