//! Verbs that do one thing to each of several containers.

use std::fmt::Display;
use std::process::ExitCode;

use crate::command_error::CommandError;
use crate::output::outln;

/// Does something to each name and prints the name; failures are told together at the end.
pub(super) fn each<E: Display>(
    names: &[String],
    mut act: impl FnMut(&str) -> Result<(), E>,
) -> Result<ExitCode, CommandError> {
    each_printing(names, |name| act(name).map(|()| name.to_owned()))
}

/// Does something to each name and prints what it returns.
pub(super) fn each_printing<E: Display>(
    names: &[String],
    mut act: impl FnMut(&str) -> Result<String, E>,
) -> Result<ExitCode, CommandError> {
    let mut failures = Vec::new();
    for name in names {
        match act(name) {
            Ok(line) => outln!("{line}"),
            Err(error) => failures.push(error.to_string()),
        }
    }
    match failures.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(CommandError::failed(failures.join("\n"))),
    }
}
