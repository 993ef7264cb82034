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

use clap::CommandFactory as _;
use clap::FromArgMatches as _;
use clap::error::ErrorKind;

fn main() -> ExitCode {
    // Rust ignores SIGPIPE for us; `output` ends the program where a reader went away.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == runtime::monitor::ARGUMENT)
    {
        log_from("error");
        return runtime::monitor::main();
    }
    if commands::mount_helper::is_meant(std::env::args_os()) {
        log_from("error");
        return commands::mount_helper::main();
    }
    let cli = match command_line() {
        Ok(cli) => cli,
        Err(error) => return command_error::usage(&error),
    };
    log_from(cli.log_level());
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}

/// Logs what the environment says (`PLY_LOG`), else what `filter` does.
fn log_from(filter: &str) {
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("PLY_LOG", filter)).init();
}

/// Reads the command line.
fn command_line() -> Result<commands::Cli, clap::Error> {
    let command = commands::flags::as_docker(commands::Cli::command());
    match command.try_get_matches() {
        Ok(matches) => commands::Cli::from_arg_matches(&matches),
        // Help is shorter where flags have no values.
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            let plain = commands::Cli::command().try_get_matches().err();
            Err(plain
                .filter(|plain| plain.kind() == ErrorKind::DisplayHelp)
                .unwrap_or(error))
        }
        Err(error) => Err(error),
    }
}
