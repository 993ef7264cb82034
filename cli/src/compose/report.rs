//! What `up` and the like do, as it happens: a block of lines on a terminal, a line an event elsewhere.

use std::fmt;
use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Tells of steps, on standard error unless asked otherwise; from several threads at once.
#[derive(Debug)]
pub(crate) struct Report {
    style: Style,
    stream: Stream,
    /// Whether other things are written meanwhile, over which no block may move up.
    is_shared: AtomicBool,
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
            is_shared: AtomicBool::new(false),
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

    /// Ends a block for good: from now on others write too, and steps are lines among theirs.
    pub(crate) fn go_on_in_lines(&self) {
        self.end();
        self.is_shared.store(true, Ordering::Relaxed);
    }

    /// Writes a line that is no step; a block goes on below it.
    pub(crate) fn say(&self, words: fmt::Arguments<'_>) {
        let mut lines = self.lock();
        if self.is_block() {
            lines.clear();
        }
        let _ = io::stderr().write_all(format!("{words}\n").as_bytes());
    }

    fn is_block(&self) -> bool {
        self.style == Style::Block && !self.is_shared.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Line>> {
        self.lines
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn set(&self, id: &str, text: &str, status: Status) {
        let mut lines = self.lock();
        let (rows, columns) = terminal_size();
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
            Style::Block if !self.is_block() => format!(" {id}  {text}\n"),
            Style::Block => {
                let is_too_high = lines.len() + 2 > rows;
                if is_too_high && let Some(newest) = lines.pop() {
                    // It could not be moved up over: another one begins.
                    *lines = vec![newest];
                }
                block(&lines, if is_too_high { 0 } else { before }, columns)
            }
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

/// Returns the rows and columns of the terminal; as many as can be if that is not known.
fn terminal_size() -> (usize, usize) {
    let known = |number: u16| match number {
        0 => usize::MAX,
        number => usize::from(number),
    };
    rustix::termios::tcgetwinsize(io::stderr()).map_or((usize::MAX, usize::MAX), |size| {
        (known(size.ws_row), known(size.ws_col))
    })
}

/// Returns the whole block, written over the one of `before` lines. None is longer than the terminal is wide: it would
/// be two there.
fn block(lines: &[Line], before: usize, columns: usize) -> String {
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
        let ended = line.ended.unwrap_or_else(Instant::now);
        let seconds = format!("{:.1}s", ended.duration_since(line.began).as_secs_f64());
        let (id, words) = (&line.id, &line.text);
        let plain = format!(" {mark} {id:width$}  {words:<10} {seconds}");
        text.push_str("\x1b[2K");
        match plain.chars().count() < columns {
            true => text.push_str(&format!(
                " \x1b[{colour}m{mark}\x1b[0m {id:width$}  \x1b[{colour}m{words:<10}\x1b[0m \x1b[34m{seconds}\x1b[0m"
            )),
            false => text.extend(plain.chars().take(columns.saturating_sub(1))),
        }
        text.push('\n');
    }
    text
}
