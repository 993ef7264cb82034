//! The flags of Docker's that ask for what this engine has none of: taken as far as they ask for nothing, else refused
//! in Docker's words.

use clap::Args as ClapArgs;

use crate::command_error::CommandError;

/// The names of the one runtime there is.
const RUNTIMES: [&str; 2] = ["ply", "runc"];

/// What only other engines, kernels or systems have.
#[derive(Debug, ClapArgs)]
#[command(next_display_order = None)]
pub(super) struct Foreign {
    /// Microseconds of a period of real-time scheduling (no kernel of a distribution has it)
    #[arg(long, value_name = "MICROSECONDS", hide = true)]
    cpu_rt_period: Option<u64>,
    /// Microseconds of real-time scheduling in a period
    #[arg(long, value_name = "MICROSECONDS", hide = true)]
    cpu_rt_runtime: Option<u64>,
    /// Skip the verification of signatures (there is none)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          hide = true)]
    disable_content_trust: Option<bool>,
    /// Graphics devices
    #[arg(long, value_name = "REQUEST", hide = true)]
    gpus: Option<String>,
    /// Isolation technology: `default`
    #[arg(long, value_name = "TECHNOLOGY", hide = true)]
    isolation: Option<String>,
    /// Limit of the kernel's memory, which no kernel has any more
    #[arg(long, value_name = "BYTES", value_parser = super::container_options::parse_bytes, hide = true)]
    kernel_memory: Option<u64>,
    /// Runtime: `ply`; `runc` is another name for it
    #[arg(long, value_name = "NAME", hide = true)]
    runtime: Option<String>,
    /// Option of the storage driver
    #[arg(long, value_name = "NAME=VALUE", hide = true)]
    storage_opt: Vec<String>,
    /// Show the engine's socket in the container
    #[arg(long, hide = true)]
    use_api_socket: bool,
}

impl Foreign {
    /// Refuses what cannot be had.
    pub(super) fn refuse(&self) -> Result<(), CommandError> {
        let given = |option: &Option<String>| option.clone().filter(|value| !value.is_empty());
        let words = if given(&self.gpus).is_some() {
            "could not select device driver \"\" with capabilities: [[gpu]]".to_owned()
        } else if let Some(name) =
            given(&self.runtime).filter(|it| !RUNTIMES.contains(&it.as_str()))
        {
            format!("unknown or invalid runtime name: {name}")
        } else if let Some(name) = given(&self.isolation).filter(|name| name != "default") {
            format!("invalid isolation '{name}' on linux: only 'default' is supported")
        } else if self.cpu_rt_period.or(self.cpu_rt_runtime).unwrap_or(0) > 0 {
            "kernel does not support CPU real-time scheduler".to_owned()
        } else if let Some(option) = self.storage_opt.first() {
            match option.contains('=') {
                true => "--storage-opt is not supported by the storage driver layerfs".to_owned(),
                false => "invalid storage option".to_owned(),
            }
        } else if self.use_api_socket {
            "--use-api-socket: the engine has no socket to show".to_owned()
        } else {
            if self.kernel_memory.unwrap_or(0) > 0 {
                eprintln!(
                    "WARNING: Specifying a kernel memory limit is deprecated and will be ignored"
                );
            }
            return Ok(());
        };
        Err(CommandError::with_code(125, format_args!("ply: {words}")))
    }
}
