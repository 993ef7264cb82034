//! `logs`: what a container has said.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::time::Duration;

use jiff::Timestamp;

use super::ContainerError;
use super::ContainerId;
use crate::Engine;
use crate::monitor::LogFileEntry;

/// How long a follower sleeps when nothing was said.
const PAUSE: Duration = Duration::from_millis(50);

/// Which entries are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogOptions {
    /// Whether to go on until the container ends.
    pub follow: bool,
    /// How many of the last entries; `None` is all.
    pub tail: Option<usize>,
    /// Only what was said at or after this.
    pub since: Option<Timestamp>,
    /// Only what was said before this.
    pub until: Option<Timestamp>,
}

/// A line, or a piece of one that was too long.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// Whether it was said on standard error.
    pub is_error: bool,
    /// When.
    pub time: Timestamp,
    /// What, its newline included.
    pub text: String,
}

/// The entries, one after the other.
#[derive(Debug)]
pub struct Logs {
    engine: Engine,
    id: ContainerId,
    options: LogOptions,
    file: Option<BufReader<File>>,
    /// The beginning of a line that was not whole yet.
    partial: Vec<u8>,
    tail: Option<VecDeque<LogEntry>>,
}

impl Engine {
    /// Opens a container's log.
    pub fn logs(&self, name: &str, options: &LogOptions) -> Result<Logs, ContainerError> {
        let id = self.container(name)?.id;
        let path = self.container_dir(&id).join("log");
        let file = match File::open(&path) {
            Ok(file) => Some(BufReader::new(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(ContainerError::io(path)(error)),
        };
        let mut logs = Logs {
            engine: self.clone(),
            id,
            options: *options,
            file,
            partial: Vec::new(),
            tail: None,
        };
        if let Some(count) = options.tail {
            let mut tail = VecDeque::new();
            while let Some(entry) = logs.read()? {
                tail.push_back(entry);
                if tail.len() > count {
                    tail.pop_front();
                }
            }
            logs.tail = Some(tail);
        }
        Ok(logs)
    }
}

impl Logs {
    /// Returns the next entry that is there and wanted.
    fn read(&mut self) -> Result<Option<LogEntry>, ContainerError> {
        let Some(file) = &mut self.file else {
            return Ok(None);
        };
        loop {
            file.read_until(b'\n', &mut self.partial)
                .map_err(ContainerError::io(self.id.as_str()))?;
            if !self.partial.ends_with(b"\n") {
                return Ok(None);
            }
            let line = std::mem::take(&mut self.partial);
            // What a full disk has cut is no entry.
            let Ok(entry) = serde_json::from_slice::<LogFileEntry>(&line) else {
                continue;
            };
            let is_wanted = self.options.since.is_none_or(|since| entry.time >= since)
                && self.options.until.is_none_or(|until| entry.time < until);
            if is_wanted {
                return Ok(Some(LogEntry {
                    is_error: entry.stream == "stderr",
                    time: entry.time,
                    text: entry.log,
                }));
            }
        }
    }

    /// Waits for the next entry; `None` at the end.
    pub fn next_entry(&mut self) -> Result<Option<LogEntry>, ContainerError> {
        if let Some(entry) = self.tail.as_mut().and_then(VecDeque::pop_front) {
            return Ok(Some(entry));
        }
        loop {
            // Asked before the reading: what is said last is read once more.
            let is_alive = self.options.follow && self.engine.is_alive(&self.id);
            if let Some(entry) = self.read()? {
                return Ok(Some(entry));
            }
            let is_over = self
                .options
                .until
                .is_some_and(|until| Timestamp::now() >= until);
            if !is_alive || is_over {
                return Ok(None);
            }
            std::thread::sleep(PAUSE);
        }
    }
}
