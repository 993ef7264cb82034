//! `ply`: a container engine on a layered filesystem of its own.

mod command_error;
mod commands;
mod context;
mod image_columns;
mod plain_progress;
mod words;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("PLY_LOG", "error")).init();
    let cli = match commands::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return command_error::usage(error),
    };
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}
