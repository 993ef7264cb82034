//! The classic builder's lines: `Step 1/4 : FROM busybox`, ` ---> Using cache`.
//!
//! Stages are built side by side, but told of one after the other: what comes of a step whose turn has not come is kept.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use runtime::build::BuildEvent;
use runtime::build::BuildOutcome;
use runtime::build::BuildProgress;
use runtime::build::StepId;
use runtime::progress::ProgressEvent;

use super::to_stderr;
use crate::output;
use crate::progress::plain_line;
use crate::terminal;

/// How many events of a step wait for its turn; an output is at most some KiB.
const MOST_WAITING: usize = 4096;

/// Where lines go.
#[derive(Debug)]
pub(crate) enum Sink {
    Stdout,
    Stderr,
    /// They are kept for the case of a failure.
    Kept(Vec<u8>),
    /// To somebody else.
    To(Arc<dyn Listener>),
}

/// Takes what is said, and what pulls and pushes tell.
pub(crate) trait Listener: fmt::Debug + Send + Sync {
    /// Takes text; a line may come in pieces.
    fn say(&self, bytes: &[u8]);
    /// Takes an event of a pull or a push.
    fn transfer(&self, event: ProgressEvent);
}

/// Shows a build as lines.
#[derive(Debug)]
pub(crate) struct Plain(Mutex<Lines>);

#[derive(Debug)]
struct Lines {
    sink: Sink,
    /// Whether the last line has ended.
    is_at_start: bool,
    /// The step whose turn it is.
    turn: usize,
    /// What was told of later ones.
    waiting: BTreeMap<usize, Vec<BuildEvent>>,
    /// The container of the step whose turn it is, once it is gone.
    removed: Option<String>,
}

impl Plain {
    pub(crate) fn new(sink: Sink) -> Plain {
        Plain(Mutex::new(Lines {
            sink,
            is_at_start: true,
            turn: 1,
            waiting: BTreeMap::new(),
            removed: None,
        }))
    }

    /// Says that the build is done.
    pub(crate) fn built(&self, outcome: &BuildOutcome, makes_image: bool) {
        if makes_image {
            self.line(&format!("Successfully built {}", outcome.image.short()));
        }
        for tag in &outcome.tags {
            self.line(&format!("Successfully tagged {}", tag.familiar()));
        }
    }

    pub(crate) fn line(&self, text: &str) {
        self.0.lock().line(text);
    }

    /// Shows what was kept: the build has failed.
    pub(crate) fn show_rest(&self) {
        let mut lines = self.0.lock();
        for event in std::mem::take(&mut lines.waiting).into_values().flatten() {
            lines.show(event);
        }
        if !lines.is_at_start {
            lines.write(b"\n");
        }
        if let Sink::Kept(bytes) = &mut lines.sink {
            to_stderr(&std::mem::take(bytes));
        }
    }
}

impl BuildProgress for Plain {
    fn event(&self, event: BuildEvent) {
        let mut lines = self.0.lock();
        match step_of(&event) {
            Some(step) if step.number > lines.turn => {
                let waiting = lines.waiting.entry(step.number).or_default();
                waiting.push(event);
                if waiting.len() > MOST_WAITING {
                    forget_half(waiting);
                }
            }
            _ => lines.take(event),
        }
    }
}

/// Drops the older half of what a step has said while others had their turn.
fn forget_half(waiting: &mut Vec<BuildEvent>) {
    let mut surplus = MOST_WAITING / 2;
    waiting.retain(|event| {
        let is_surplus = surplus > 0 && matches!(event, BuildEvent::Output { .. });
        surplus -= usize::from(is_surplus);
        !is_surplus
    });
}

/// Returns which step an event is about.
fn step_of(event: &BuildEvent) -> Option<&StepId> {
    match event {
        BuildEvent::Began { step, .. }
        | BuildEvent::Triggers { step, .. }
        | BuildEvent::Pulling { step, .. }
        | BuildEvent::Cached { step }
        | BuildEvent::Running { step, .. }
        | BuildEvent::Output { step, .. }
        | BuildEvent::Removed { step, .. }
        | BuildEvent::Ended { step, .. }
        | BuildEvent::Failed { step, .. } => Some(step),
        _ => None,
    }
}

/// Returns the step that comes after this event: a step has ended, or there is nothing to do in it.
fn turn_after(event: &BuildEvent) -> Option<usize> {
    match event {
        BuildEvent::Began { step, .. } if step.stage.is_none() => Some(step.number + 1),
        BuildEvent::Ended { step, .. } => Some(step.number + 1),
        _ => None,
    }
}

impl Lines {
    /// Shows an event whose turn it is, and those that waited for it.
    fn take(&mut self, event: BuildEvent) {
        let mut events = vec![event];
        while !events.is_empty() {
            for event in events {
                if let Some(turn) = turn_after(&event) {
                    self.turn = self.turn.max(turn);
                }
                self.show(event);
            }
            events = match self.waiting.first_key_value() {
                Some((number, _)) if *number <= self.turn => self
                    .waiting
                    .pop_first()
                    .map_or_else(Vec::new, |(_, events)| events),
                _ => Vec::new(),
            };
        }
    }

    fn show(&mut self, event: BuildEvent) {
        match event {
            BuildEvent::Began { step, text } if step.trigger.is_none() => {
                self.line(&format!("Step {}/{} : {text}", step.number, step.total));
            }
            BuildEvent::Triggers { count: 1, .. } => self.line("# Executing 1 build trigger"),
            BuildEvent::Triggers { count, .. } => {
                self.line(&format!("# Executing {count} build triggers"));
            }
            BuildEvent::Cached { .. } => self.line(" ---> Using cache"),
            BuildEvent::Running { container, .. } => {
                self.line(&format!(" ---> Running in {container}"));
            }
            BuildEvent::Output { bytes, .. } => self.write(&bytes),
            BuildEvent::Removed { container, .. } => self.removed = Some(container),
            BuildEvent::Ended { image, .. } => {
                if let Some(container) = self.removed.take() {
                    self.line(&format!("Removing intermediate container {container}"));
                }
                self.line(&format!(" ---> {}", image.short()));
            }
            BuildEvent::Failed { .. } => self.removed = None,
            BuildEvent::Pulling { event, .. } | BuildEvent::Pushing(event) => {
                if let Sink::To(listener) = &self.sink {
                    listener.transfer(event);
                } else if let Some(line) = plain_line(&event) {
                    self.line(&line);
                }
            }
            BuildEvent::Warning(text) => self.line(&format!("[WARNING]: {text}")),
            BuildEvent::UnusedArguments(names) => {
                let names = names.join(" ");
                self.line(&format!(
                    "[Warning] One or more build-args [{names}] were not consumed"
                ));
            }
            BuildEvent::Exporting(words) => self.line(&words),
            // Names are told when all is done.
            BuildEvent::Tagged(_)
            | BuildEvent::Began { .. }
            | BuildEvent::Started { .. }
            | BuildEvent::Context { .. } => {}
        }
    }

    fn line(&mut self, text: &str) {
        if !self.is_at_start {
            self.write(b"\n");
        }
        let text = match self.sink {
            Sink::Stdout if terminal::stdout_is_terminal() => terminal::escaped_lines(text),
            Sink::Stderr if terminal::stderr_is_terminal() => terminal::escaped_lines(text),
            _ => text.into(),
        };
        self.write(format!("{text}\n").as_bytes());
    }

    fn write(&mut self, bytes: &[u8]) {
        self.is_at_start = bytes.last().map_or(self.is_at_start, |last| *last == b'\n');
        match &mut self.sink {
            Sink::Stdout => output::pass(false, bytes),
            Sink::Stderr => to_stderr(bytes),
            Sink::Kept(kept) => kept.extend_from_slice(bytes),
            Sink::To(listener) => listener.say(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn step(stage: usize, number: usize) -> StepId {
        StepId {
            stage: Some(stage),
            stage_name: None,
            number,
            total: 4,
            trigger: None,
            line: 1,
        }
    }

    fn began(step: &StepId) -> BuildEvent {
        BuildEvent::Began {
            step: step.clone(),
            text: format!("STEP {}", step.number),
        }
    }

    fn ended(step: &StepId) -> BuildEvent {
        BuildEvent::Ended {
            step: step.clone(),
            image: runtime::image::ImageId(layerfs::Digest::of(b"x")),
            duration: Duration::ZERO,
        }
    }

    fn shown(plain: &Plain) -> String {
        match &plain.0.lock().sink {
            Sink::Kept(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => unreachable!("it is kept"),
        }
    }

    #[test]
    fn stages_side_by_side_are_told_of_one_after_the_other() {
        let plain = Plain::new(Sink::Kept(Vec::new()));
        let all = [step(0, 1), step(0, 2), step(1, 3), step(1, 4)];
        for event in [
            began(&all[2]),
            began(&all[0]),
            ended(&all[2]),
            began(&all[3]),
            ended(&all[0]),
            began(&all[1]),
            ended(&all[3]),
            ended(&all[1]),
        ] {
            plain.event(event);
        }
        let id = runtime::image::ImageId(layerfs::Digest::of(b"x"));
        let id = id.short();
        let expected: String = (1..=4)
            .map(|number| format!("Step {number}/4 : STEP {number}\n ---> {id}\n"))
            .collect();
        assert_eq!(shown(&plain), expected);
    }

    #[test]
    fn a_failure_tells_of_what_has_waited() {
        let plain = Plain::new(Sink::Kept(Vec::new()));
        plain.event(began(&step(0, 1)));
        plain.event(began(&step(1, 3)));
        let step = step(1, 3);
        plain.event(BuildEvent::Output {
            step,
            stream: runtime::build::OutputStream::Stdout,
            bytes: b"half a line".to_vec(),
        });
        assert_eq!(shown(&plain), "Step 1/4 : STEP 1\n");
        let mut lines = plain.0.lock();
        for event in std::mem::take(&mut lines.waiting).into_values().flatten() {
            lines.show(event);
        }
        lines.line("end");
        drop(lines);
        assert_eq!(
            shown(&plain),
            "Step 1/4 : STEP 1\nStep 3/4 : STEP 3\nhalf a line\nend\n"
        );
    }
}
