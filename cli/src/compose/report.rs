//! What `up` and the like do, as it happens: a block of lines on a terminal, a line an event elsewhere.

use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::sync::Mutex;
use std::time::Instant;

/// Tells of steps, on standard error unless asked otherwise; from several threads at once.
#[derive(Debug)]
pub(crate) struct Report {
    style: Style,
    stream: Stream,
    lines: Mutex<Vec<Line>>,
    /// In a dry run, the containers that would have been made: services and names.
    dry_run: Option<Mutex<Vec<(String, String)>>>,
}

/// Where steps are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Output,
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Block,
    Plain,
    Quiet,
}

/// What has become of one thing.
#[derive(Debug)]
struct Line {
    id: String,
    text: String,
    status: Status,
    began: Instant,
    ended: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Working,
    Done,
    Failed,
}

impl Report {
    /// Returns one in the style that is asked for: `auto`, `tty`, `plain`, `quiet`.
    pub(crate) fn new(style: &str, stream: Stream) -> Report {
        let is_terminal = match stream {
            Stream::Output => io::stdout().is_terminal(),
            Stream::Error => io::stderr().is_terminal(),
        };
        let style = match style {
            "quiet" | "none" => Style::Quiet,
            "tty" => Style::Block,
            "" | "auto" if is_terminal => Style::Block,
            _ => Style::Plain,
        };
        Report {
            style,
            stream,
            lines: Mutex::default(),
            dry_run: None,
        }
    }

    /// Returns one for steps that are told of and not taken.
    pub(crate) fn of_dry_run(style: &str, stream: Stream) -> Report {
        Report {
            dry_run: Some(Mutex::default()),
            ..Report::new(style, stream)
        }
    }

    /// Whether steps are only told of.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run.is_some()
    }

    /// Remembers a container that a dry run would have made.
    pub(crate) fn pretend(&self, service: &str, name: &str) {
        if let Some(made) = &self.dry_run {
            let mut made = made
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            made.push((service.to_owned(), name.to_owned()));
        }
    }

    /// Returns the names of the containers of a service that a dry run would have made.
    pub(crate) fn pretended(&self, service: &str) -> Vec<String> {
        let made = self.dry_run.as_ref().map(|made| {
            made.lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        });
        let made = made.iter().flat_map(|made| made.iter());
        made.filter(|(own, _)| own == service)
            .map(|(_, name)| name.clone())
            .collect()
    }

    /// Returns one that says nothing, and does as little as this one.
    pub(crate) fn quietly(&self) -> Report {
        match self.is_dry_run() {
            true => Report::of_dry_run("quiet", self.stream),
            false => Report::new("quiet", self.stream),
        }
    }

    /// Returns one that says nothing if that is asked for, else this one.
    pub(crate) fn quiet_if(self, is_asked_for: bool) -> Report {
        match is_asked_for {
            true => self.quietly(),
            false => self,
        }
    }

    /// Tells that something has begun: `Container p-web-1`, `Creating`.
    pub(crate) fn begin(&self, id: &str, text: &str) {
        self.set(id, text, Status::Working);
    }

    /// Tells that something is done.
    pub(crate) fn done(&self, id: &str, text: &str) {
        self.set(id, text, Status::Done);
    }

    /// Tells that something has failed.
    pub(crate) fn failed(&self, id: &str, text: &str) {
        self.set(id, text, Status::Failed);
    }

    /// Ends a block: what comes next stands below it.
    pub(crate) fn end(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Line>> {
        self.lines
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn set(&self, id: &str, text: &str, status: Status) {
        let mut lines = self.lock();
        let before = match lines.len() {
            0 => 0,
            count => count + 1,
        };
        let now = Instant::now();
        let ended = (status != Status::Working).then_some(now);
        match lines.iter_mut().find(|line| line.id == id) {
            Some(line) if line.text == text => return,
            Some(line) => {
                line.text = text.to_owned();
                (line.status, line.ended) = (status, ended);
            }
            None => lines.push(Line {
                id: id.to_owned(),
                text: text.to_owned(),
                status,
                began: now,
                ended,
            }),
        }
        let shown = match self.style {
            Style::Quiet => return,
            Style::Plain if self.is_dry_run() => format!(" DRY-RUN MODE -  {id}  {text}\n"),
            Style::Plain => format!(" {id}  {text}\n"),
            Style::Block => block(&lines, before),
        };
        let _ = match self.stream {
            Stream::Output => {
                let mut out = io::stdout().lock();
                out.write_all(shown.as_bytes()).and_then(|()| out.flush())
            }
            Stream::Error => io::stderr().write_all(shown.as_bytes()),
        };
    }
}

/// Returns the whole block, written over the one of `before` lines.
fn block(lines: &[Line], before: usize) -> String {
    let done = lines
        .iter()
        .filter(|line| line.status == Status::Done)
        .count();
    let width = lines
        .iter()
        .map(|line| line.id.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = match before {
        0 => String::new(),
        before => format!("\x1b[{before}A"),
    };
    text.push_str(&format!("\x1b[2K[+] Running {done}/{}\n", lines.len()));
    for line in lines {
        let (mark, colour) = match line.status {
            Status::Working => ("⠿", "33"),
            Status::Done => ("✔", "32"),
            Status::Failed => ("✘", "31"),
        };
        let seconds = line
            .ended
            .unwrap_or_else(Instant::now)
            .duration_since(line.began);
        text.push_str(&format!(
            "\x1b[2K \x1b[{colour}m{mark}\x1b[0m {:width$}  \x1b[{colour}m{:<10}\x1b[0m \x1b[34m{:.1}s\x1b[0m\n",
            line.id,
            line.text,
            seconds.as_secs_f64()
        ));
    }
    text
}
