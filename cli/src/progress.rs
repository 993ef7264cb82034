//! Progress as people see it: bars on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::sync::Mutex;

use indicatif::MultiProgress;
use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressStyle;
use runtime::progress::LayerStatus;
use runtime::progress::Progress;
use runtime::progress::ProgressEvent;

use crate::human_size::human_size;
use crate::terminal::escaped;

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Shows what a long verb tells.
#[derive(Debug)]
pub(crate) struct Shown {
    stream: Stream,
    bars: Option<Bars>,
}

/// One line for each layer, in the order they were first heard of.
#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    lines: Mutex<HashMap<String, ProgressBar>>,
}

impl Shown {
    pub(crate) fn new(stream: Stream) -> Shown {
        let target = match stream {
            Stream::Stdout if io::stdout().is_terminal() => Some(ProgressDrawTarget::stdout()),
            Stream::Stderr if io::stderr().is_terminal() => Some(ProgressDrawTarget::stderr()),
            _ => None,
        };
        let bars = target.map(|target| Bars {
            all: MultiProgress::with_draw_target(target),
            lines: Mutex::default(),
        });
        Shown { stream, bars }
    }

    fn line(&self, text: &str) {
        let text = match &self.bars {
            Some(bars) => {
                let text = escaped(text);
                if bars.all.println(&text).is_ok() {
                    return;
                }
                text
            }
            None => text.into(),
        };
        // A reader that went away is no reason to stop a pull.
        let _ = match self.stream {
            Stream::Stdout => writeln!(io::stdout(), "{text}"),
            Stream::Stderr => writeln!(io::stderr(), "{text}"),
        };
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bars) = &self.bars
            && let Ok(lines) = bars.lines.lock()
        {
            lines.values().for_each(ProgressBar::abandon);
        }
        let _ = io::stdout().flush();
    }
}

impl Bars {
    fn show(&self, id: &str, status: &LayerStatus) {
        let Ok(mut lines) = self.lines.lock() else {
            return;
        };
        let bar = lines.entry(id.to_owned()).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new(0));
            bar.set_prefix(escaped(id).into_owned());
            bar
        });
        let is_counting = matches!(status.counts(), Some((_, Some(_))));
        let template = match is_counting {
            true => "{prefix}: {msg} [{bar:40.=>-}] {bytes}/{total_bytes}",
            false => "{prefix}: {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        match status.counts() {
            Some((current, Some(total))) => {
                bar.set_length(total);
                bar.set_position(current);
                bar.set_message(status.words());
            }
            Some((current, None)) => {
                bar.set_message(format!("{} {}", status.words(), human_size(current)));
                bar.tick();
            }
            None => {
                bar.set_message(status.words());
                bar.tick();
            }
        }
    }
}

impl Progress for Shown {
    fn event(&self, event: ProgressEvent) {
        match (&event, &self.bars) {
            (ProgressEvent::Layer { id, status }, Some(bars)) => bars.show(id, status),
            _ => {
                if let Some(line) = plain_line(&event) {
                    self.line(&line);
                }
            }
        }
    }
}

/// Returns an event as a line; each step of a layer is told once, without counts.
pub(crate) fn plain_line(event: &ProgressEvent) -> Option<String> {
    match event {
        ProgressEvent::Message(text) => Some(text.clone()),
        ProgressEvent::Named { id, text } => Some(format!("{id}: {text}")),
        ProgressEvent::Layer { status, .. } if status.counts().is_some() => None,
        ProgressEvent::Layer { id, status } => Some(format!("{id}: {}", status.words())),
    }
}
