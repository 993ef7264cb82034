//! A build as people see it: the classic builder's lines, or on a terminal steps with their times.

mod live;
mod plain;

use std::io;
use std::io::Write as _;

use runtime::build::BuildError;
use runtime::build::BuildEvent;
use runtime::build::BuildOptions;
use runtime::build::BuildOutcome;
use runtime::build::BuildProgress;
use runtime::build::ContextSource;
use runtime::build::Destination;
use runtime::build::Output;

pub(crate) use plain::Listener;
pub(crate) use plain::Plain;
pub(crate) use plain::Sink;

use crate::command_error::CommandError;
use crate::terminal;
use live::Live;

/// `--progress`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Style {
    /// Steps on a terminal, lines elsewhere
    Auto,
    /// Line after line
    Plain,
    /// Steps
    Tty,
    /// Nothing but the image's id
    Quiet,
}

/// Shows a build.
#[derive(Debug)]
pub(crate) enum Shown {
    /// As lines.
    Plain(Plain),
    /// As steps on a terminal.
    Live(Live),
}

impl Shown {
    pub(crate) fn new(style: Style, quiet: bool, options: &BuildOptions) -> Shown {
        let is_stdout_taken = options.outputs.iter().any(writes_to_stdout);
        let (is_live, sink) = match style {
            // What a quiet build has said is shown if it fails.
            _ if quiet => (false, Sink::Kept(Vec::new())),
            Style::Quiet => (false, Sink::Kept(Vec::new())),
            Style::Auto if terminal::stderr_is_terminal() && terminal::stdout_is_terminal() => {
                (true, Sink::Stderr)
            }
            Style::Tty => (true, Sink::Stderr),
            _ if is_stdout_taken => (false, Sink::Stderr),
            Style::Auto | Style::Plain => (false, Sink::Stdout),
        };
        if is_live {
            return Shown::Live(Live::new());
        }
        let plain = Plain::new(sink);
        if let Some(context) = described(&options.context) {
            plain.line(&format!("Sending build context from {context}"));
        }
        Shown::Plain(plain)
    }

    /// Says that the build is done.
    pub(crate) fn built(&self, outcome: &BuildOutcome, options: &BuildOptions) {
        let makes_image = options.outputs.is_empty()
            || options
                .outputs
                .iter()
                .any(|output| matches!(output, Output::Image { .. }));
        match self {
            Shown::Plain(plain) => plain.built(outcome, makes_image),
            Shown::Live(live) => {
                if makes_image {
                    live.line(&format!(" => writing image {}", outcome.image));
                }
                for tag in &outcome.tags {
                    live.line(&format!(" => naming to {tag}"));
                }
            }
        }
    }

    /// Returns what to say of a failure, having shown what led to it.
    pub(crate) fn failed(&self, error: &BuildError) -> CommandError {
        let mut words = error.to_string();
        match self {
            Shown::Plain(plain) => {
                plain.show_rest();
                if let Some((place, instruction)) = place(error) {
                    words.push_str(&format!("\n--> {place}: {instruction}"));
                }
            }
            Shown::Live(live) => {
                live.show_failure();
                if let Some((place, instruction)) = place(error) {
                    let line = "-".repeat(20);
                    eprintln!("{}", terminal::escaped(&place));
                    eprintln!("{line}\n >>> {}\n{line}", terminal::escaped(instruction));
                }
                words.insert_str(0, "ERROR: ");
            }
        }
        CommandError::with_code(error.exit_code(), words)
    }
}

impl BuildProgress for Shown {
    fn event(&self, event: BuildEvent) {
        match self {
            Shown::Plain(plain) => plain.event(event),
            Shown::Live(live) => live.event(event),
        }
    }
}

/// Returns where in the Dockerfile an error is, if it says so in no words of its own.
fn place(error: &BuildError) -> Option<(String, &str)> {
    match error {
        BuildError::Step {
            file,
            line,
            instruction,
            ..
        } if *line > 0 => Some((format!("{file}:{line}"), instruction)),
        _ => None,
    }
}

fn writes_to_stdout(output: &Output) -> bool {
    matches!(
        output,
        Output::Tar(Destination::Stdout)
            | Output::Oci(Destination::Stdout)
            | Output::Docker(Destination::Stdout)
    )
}

fn described(context: &ContextSource) -> Option<String> {
    match context {
        ContextSource::Empty => None,
        ContextSource::Directory(path) => Some(path.display().to_string()),
        ContextSource::Archive(_) => Some("standard input".to_owned()),
        ContextSource::Git(address) | ContextSource::Url(address) => Some(address.clone()),
    }
}

/// Writes on standard error; a reader that went away is no reason to stop a build.
fn to_stderr(bytes: &[u8]) {
    let _ = io::stderr().write_all(bytes);
}
