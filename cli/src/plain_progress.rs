//! Progress as lines, for what is not a terminal.

use runtime::progress::Progress;
use runtime::progress::ProgressEvent;

/// Prints each step once, without counts, as Docker does into a pipe.
#[derive(Debug, Default)]
pub(crate) struct PlainProgress;

impl PlainProgress {
    pub(crate) fn new() -> PlainProgress {
        PlainProgress
    }
}

impl Drop for PlainProgress {
    fn drop(&mut self) {
        use std::io::Write as _;
        let _ = std::io::stdout().flush();
    }
}

impl Progress for PlainProgress {
    fn event(&self, event: ProgressEvent) {
        use std::io::Write as _;
        let line = match event {
            ProgressEvent::Message(text) => text,
            ProgressEvent::Named { id, text } => format!("{id}: {text}"),
            ProgressEvent::Layer { status, .. } if status.counts().is_some() => return,
            ProgressEvent::Layer { id, status } => format!("{id}: {}", status.words()),
        };
        // A reader that went away is no reason to stop a pull.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}
