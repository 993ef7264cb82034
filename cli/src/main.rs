//! `ply`: a container engine on a layered filesystem of its own.

mod age;
mod build_progress;
mod command_error;
mod commands;
mod compose;
mod context;
mod detach_keys;
mod docker_json;
mod format;
mod hello_world;
mod human_size;
mod interaction;
mod moment;
mod output;
mod progress;
mod serve;
mod sys;
mod table;
mod terminal;
mod words;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Rust ignores SIGPIPE for us; `output` ends the program where a reader went away.
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("PLY_LOG", "error")).init();
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == runtime::monitor::ARGUMENT)
    {
        return runtime::monitor::main();
    }
    if commands::mount_helper::is_meant(std::env::args_os()) {
        return commands::mount_helper::main();
    }
    let cli = match commands::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return command_error::usage(&error),
    };
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}
