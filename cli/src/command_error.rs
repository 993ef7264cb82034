//! The one error of the command line: a sentence, hints, and Docker's exit code for it.

use std::fmt;
use std::process::ExitCode;

/// An error as a person sees it.
#[derive(Debug)]
pub(crate) struct CommandError {
    code: u8,
    message: String,
    hints: Vec<String>,
}

impl CommandError {
    /// Returns an error that ends the program with 1, as most of Docker's commands do.
    pub(crate) fn failed(message: impl fmt::Display) -> CommandError {
        CommandError {
            code: 1,
            message: message.to_string(),
            hints: Vec::new(),
        }
    }

    /// Adds a line that says what to do about it.
    #[allow(dead_code)]
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> CommandError {
        self.hints.push(hint.to_string());
        self
    }

    /// Prints the error and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("{}", self.message);
        }
        for hint in &self.hints {
            eprintln!("hint: {hint}");
        }
        ExitCode::from(self.code)
    }
}

/// Reports a command line that clap refused: help and version on standard output with 0, the rest as Docker does.
pub(crate) fn usage(error: clap::Error) -> ExitCode {
    let code = if error.use_stderr() { 125 } else { 0 };
    let _ = error.print();
    ExitCode::from(code)
}
