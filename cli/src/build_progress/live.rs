//! Steps on a terminal, with their times: those that run below, with the last lines of what they say; those that are done
//! above.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;
use std::time::Instant;

use indicatif::MultiProgress;
use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressState;
use indicatif::ProgressStyle;
use parking_lot::Mutex;
use runtime::build::BuildEvent;
use runtime::build::StepId;
use runtime::progress::ProgressEvent;

use super::to_stderr;
use crate::human_size::human_size;
use crate::progress::plain_line;
use crate::terminal::escaped;

/// How many lines of what a running step says are shown.
const LINES_SHOWN: usize = 4;
/// How many lines are shown of a step that has failed.
const LINES_OF_FAILURE: usize = 20;
/// How much of what a step says is remembered.
const LOG: usize = 64 << 10;
/// How often times are drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// A step: its number, and that of the trigger in it.
type Key = (usize, Option<usize>);

/// Shows a build as steps.
#[derive(Debug)]
pub(crate) struct Live {
    bars: MultiProgress,
    steps: Mutex<HashMap<Key, Step>>,
    failed: Mutex<Option<Failed>>,
}

/// A step that runs.
#[derive(Debug)]
struct Step {
    title: String,
    bar: ProgressBar,
    began: Instant,
    is_cached: bool,
    /// The end of what it has said.
    log: Vec<u8>,
}

/// A step that has failed.
#[derive(Debug)]
struct Failed {
    title: String,
    log: Vec<u8>,
}

impl Live {
    pub(super) fn new() -> Live {
        Live {
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
            steps: Mutex::default(),
            failed: Mutex::default(),
        }
    }

    /// Writes a line above the steps that run.
    pub(super) fn line(&self, text: &str) {
        let text = escaped(text);
        let is_hidden = self.bars.is_hidden();
        if is_hidden || self.bars.println(&text).is_err() {
            to_stderr(format!("{text}\n").as_bytes());
        }
    }

    pub(super) fn event(&self, event: BuildEvent) {
        match event {
            BuildEvent::Began { step, text } if step.stage.is_some() => self.begin(&step, &text),
            BuildEvent::Cached { step } => self.change(&step, |step| step.is_cached = true),
            BuildEvent::Output { step, bytes, .. } => self.change(&step, |step| step.say(&bytes)),
            BuildEvent::Pulling { step, event } => self.change(&step, |step| step.pull(&event)),
            BuildEvent::Ended { step, duration, .. } => {
                if let Some(ended) = self.end(&step) {
                    let mark = if ended.is_cached { "CACHED " } else { "" };
                    self.line(&timed(&format!("{mark}{}", ended.title), duration));
                }
            }
            BuildEvent::Failed { step, duration } => {
                if let Some(ended) = self.end(&step) {
                    self.line(&timed(&format!("ERROR {}", ended.title), duration));
                    let failed = Failed {
                        title: ended.title,
                        log: ended.log,
                    };
                    self.failed.lock().get_or_insert(failed);
                }
            }
            BuildEvent::Warning(text) => self.line(&format!(" => WARNING: {text}")),
            BuildEvent::UnusedArguments(names) => {
                let names = names.join(" ");
                self.line(&format!(
                    " => WARNING: one or more build-args [{names}] were not consumed"
                ));
            }
            BuildEvent::Exporting(words) => self.line(&format!(" => {words}")),
            BuildEvent::Pushing(event) => {
                if let Some(line) = plain_line(&event) {
                    self.line(&format!(" => => {line}"));
                }
            }
            BuildEvent::Context { bytes, files } if files > 0 => {
                let size = human_size(bytes);
                self.line(&format!(" => => context: {files} files, {size}"));
            }
            // What runs is shown as long as it does; names are told when all is done.
            BuildEvent::Began { .. }
            | BuildEvent::Context { .. }
            | BuildEvent::Started { .. }
            | BuildEvent::Triggers { .. }
            | BuildEvent::Running { .. }
            | BuildEvent::Removed { .. }
            | BuildEvent::Tagged(_) => {}
        }
    }

    /// Takes what runs off the screen, and shows the last lines of the step that has failed.
    pub(super) fn show_failure(&self) {
        for (_, step) in self.steps.lock().drain() {
            step.bar.finish_and_clear();
            self.line(&format!(" => CANCELED {}", step.title));
        }
        let _ = self.bars.clear();
        let Some(failed) = self.failed.lock().take() else {
            return;
        };
        let lines = last_lines(&failed.log, LINES_OF_FAILURE);
        if !lines.is_empty() {
            let line = "-".repeat(6);
            to_stderr(format!("{line}\n > {}:\n", escaped(&failed.title)).as_bytes());
            for said in lines {
                to_stderr(format!("{}\n", escaped(&said)).as_bytes());
            }
            to_stderr(format!("{line}\n").as_bytes());
        }
    }

    fn begin(&self, step: &StepId, text: &str) {
        let stage = match &step.stage_name {
            Some(name) => format!("{name} "),
            None => String::new(),
        };
        let what = match step.trigger {
            Some(_) => format!("ONBUILD {text}"),
            None => text.to_owned(),
        };
        let title = format!("[{stage}{}/{}] {what}", step.number, step.total);
        let bar = self.bars.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template(" => {prefix} {seconds}{msg}") {
            let seconds = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = write!(out, "{:.1}s", state.elapsed().as_secs_f64());
            };
            bar.set_style(style.with_key("seconds", seconds));
        }
        bar.set_prefix(escaped(&shortened(&title)).into_owned());
        bar.enable_steady_tick(TICK);
        let began = Step {
            title,
            bar,
            began: Instant::now(),
            is_cached: false,
            log: Vec::new(),
        };
        self.steps.lock().insert((step.number, step.trigger), began);
    }

    fn change(&self, step: &StepId, change: impl FnOnce(&mut Step)) {
        if let Some(step) = self.steps.lock().get_mut(&(step.number, step.trigger)) {
            change(step);
        }
    }

    fn end(&self, step: &StepId) -> Option<Step> {
        let ended = self.steps.lock().remove(&(step.number, step.trigger))?;
        ended.bar.finish_and_clear();
        Some(ended)
    }
}

impl Step {
    /// Remembers what the step says, each line with the second it came in.
    fn say(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.log.last().is_none_or(|last| *last == b'\n') {
                let seconds = self.began.elapsed().as_secs_f64();
                self.log
                    .extend_from_slice(format!("{seconds:.3} ").as_bytes());
            }
            self.log.extend_from_slice(part);
        }
        if self.log.len() > LOG {
            self.log.drain(..self.log.len() - LOG / 2);
        }
        let mut shown = String::new();
        for line in last_lines(&self.log, LINES_SHOWN) {
            let line = shortened(&line);
            let _ = write!(shown, "\n => => # {}", escaped(&line));
        }
        self.bar.set_message(shown);
    }

    fn pull(&self, event: &ProgressEvent) {
        let line = match event {
            ProgressEvent::Layer { id, status } => match status.counts() {
                Some((current, Some(total))) => format!(
                    "{id}: {} {}/{}",
                    status.words(),
                    human_size(current),
                    human_size(total)
                ),
                _ => format!("{id}: {}", status.words()),
            },
            event => plain_line(event).unwrap_or_default(),
        };
        self.bar
            .set_message(format!("\n => => {}", escaped(&shortened(&line))));
    }
}

/// Returns a step's line when it is done.
fn timed(title: &str, duration: Duration) -> String {
    let seconds = format!("{:.1}s", duration.as_secs_f64());
    format!(" => {} {seconds}", shortened(title))
}

/// Cuts a line to what a terminal is wide.
fn shortened(text: &str) -> String {
    let columns = match crate::interaction::window_size() {
        (_, 0) => 80,
        (_, columns) => usize::from(columns),
    };
    let room = columns
        .saturating_sub(" => ".len() + " 9999.9s".len())
        .max(20);
    let line = text.lines().next().unwrap_or_default();
    match line.chars().count() > room {
        true => line.chars().take(room - 1).chain(['…']).collect(),
        false => line.to_owned(),
    }
}

/// Returns the last lines; of one that a program has drawn over itself, what was drawn last.
fn last_lines(log: &[u8], most: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(log);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(most)..]
        .iter()
        .map(|line| line.trim_end_matches('\r'))
        .map(|line| line.rsplit('\r').next().unwrap_or(line).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_those_that_would_be_seen() {
        assert_eq!(last_lines(b"a\nb\nc\n", 2), ["b", "c"]);
        assert_eq!(last_lines(b"10%\r20%\r30%\nx\r\n", 5), ["30%", "x"]);
        assert!(last_lines(b"", 3).is_empty());
    }

    #[test]
    fn a_title_is_one_line() {
        assert_eq!(shortened("a\nb"), "a");
        assert!(shortened(&"x".repeat(1000)).chars().count() < 1000);
    }
}
