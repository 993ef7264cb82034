//! The one error of the command line: a sentence, hints, and Docker's exit code for it.

use std::fmt;
use std::process::ExitCode;

use clap::error::ContextKind;
use clap::error::ContextValue;
use clap::error::ErrorKind;

use crate::terminal;

/// An error as a person sees it.
#[derive(Debug)]
pub(crate) struct CommandError {
    code: u8,
    message: String,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl CommandError {
    /// Returns an error that ends the program with 1, as most of Docker's commands do.
    pub(crate) fn failed(message: impl fmt::Display) -> CommandError {
        CommandError {
            code: 1,
            message: message.to_string(),
        }
    }

    /// Returns an error that ends the program with `code`; without words nothing more is said.
    pub(crate) fn with_code(code: u8, message: impl fmt::Display) -> CommandError {
        CommandError {
            code,
            message: message.to_string(),
        }
    }

    /// Returns an error of a container that could not be started, in Docker's way: `ply: ...`, 125 to 127.
    pub(crate) fn start(error: &runtime::container::ContainerError) -> CommandError {
        CommandError::with_code(error.exit_code(), format_args!("ply: {error}"))
    }

    /// Returns the error as Docker's `create` and `exec` tell it: without our name and with 1, where `run` ends with 125.
    pub(crate) fn plain(self) -> CommandError {
        let message = self.message.strip_prefix("ply: ");
        CommandError::failed(message.unwrap_or(&self.message))
    }

    /// Prints the error and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            match terminal::stderr_is_terminal() {
                true => eprintln!("{}", terminal::escaped_lines(&self.message)),
                false => eprintln!("{}", self.message),
            }
        }
        ExitCode::from(self.code)
    }
}

/// Reports a command line that clap refused: help and version on standard output with 0, the rest in Docker's words and
/// with its codes: 125 for flags, 1 for arguments and commands.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        _ => String::new(),
    };
    let (code, words) = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            return ExitCode::from(1);
        }
        ErrorKind::UnknownArgument => {
            let flag = context(ContextKind::InvalidArg);
            match flag.strip_prefix('-') {
                Some(short) if !short.starts_with('-') => {
                    let letter: String = short.chars().take(1).collect();
                    (125, format!("unknown shorthand flag: '{letter}' in {flag}"))
                }
                Some(_) => (125, format!("unknown flag: {flag}")),
                None => (1, format!("{:?} takes no argument {flag:?}", command())),
            }
        }
        ErrorKind::InvalidSubcommand => {
            let name = context(ContextKind::InvalidSubcommand);
            (
                1,
                match command().strip_prefix("ply ") {
                    Some(verb) => format!("unknown command: \"ply {verb} {name}\""),
                    None => format!("ply: '{name}' is not a ply command.\nSee 'ply --help'"),
                },
            )
        }
        ErrorKind::MissingRequiredArgument => {
            let (_, typed) = typed();
            let positionals = typed.get_positionals();
            let count = positionals.filter(|it| it.is_required_set()).count();
            let count = count.max(1);
            let plural = if count == 1 { "" } else { "s" };
            (
                1,
                format!(
                    "{:?} requires at least {count} argument{plural}.",
                    command()
                ),
            )
        }
        ErrorKind::InvalidValue if context(ContextKind::InvalidValue).is_empty() => (
            125,
            format!(
                "flag needs an argument: {}",
                flag_of(&context(ContextKind::InvalidArg))
            ),
        ),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let mut words = format!(
                "invalid argument {:?} for {:?} flag",
                context(ContextKind::InvalidValue),
                flag_of(&context(ContextKind::InvalidArg)),
            );
            if let Some(source) = std::error::Error::source(error) {
                words.push_str(&format!(": {source}"));
            }
            (125, words)
        }
        _ => {
            let _ = error.print();
            return ExitCode::from(125);
        }
    };
    CommandError::with_code(code, words).report()
}

/// Returns `-f, --flag` of clap's `--flag <VALUE>`.
fn flag_of(argument: &str) -> String {
    let flag = argument.split([' ', '[', '=']).next().unwrap_or(argument);
    let (_, command) = typed();
    let is_it = |known: &&clap::Arg| known.get_long() == flag.strip_prefix("--");
    match command
        .get_arguments()
        .find(is_it)
        .and_then(clap::Arg::get_short)
    {
        Some(short) => format!("-{short}, {flag}"),
        None => flag.to_owned(),
    }
}

/// Returns the command as far as it was typed: `ply image rm`.
fn command() -> String {
    typed().0
}

/// Returns whether what follows an option is its value.
fn has_value_after(command: &clap::Command, option: &str) -> bool {
    let mut known = command.get_arguments();
    known.any(|it| {
        let is_it = match option.strip_prefix("--") {
            Some(long) => it.get_long() == Some(long),
            None => it.get_short().is_some_and(|it| option == format!("-{it}")),
        };
        is_it && it.get_action().takes_values()
    })
}

/// Returns the command as far as it was typed, in words and as it is known.
fn typed() -> (String, clap::Command) {
    use clap::CommandFactory as _;
    let mut command = crate::commands::Cli::command();
    let mut words = vec!["ply".to_owned()];
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match command.find_subcommand(&argument) {
            Some(found) => {
                let found = found.clone();
                words.push(argument);
                command = found;
            }
            None if argument.starts_with('-') => {
                if has_value_after(&command, &argument) {
                    arguments.next();
                }
            }
            None => break,
        }
    }
    (words.join(" "), command)
}
