//! `logs`: what a container has said.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::ContainerError;
use super::ContainerId;
use super::journal::JournalReader;
use crate::Engine;
use crate::monitor::LogFileEntry;

/// How long a follower sleeps when nothing was said.
const PAUSE: Duration = Duration::from_millis(50);

/// The same where each look costs a process.
const PAUSE_OF_JOURNAL: Duration = Duration::from_millis(500);

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

/// What a look at the log has found.
#[derive(Debug, Clone)]
pub enum Said {
    /// The next entry.
    Entry(LogEntry),
    /// Nothing yet.
    Nothing,
    /// There will be none.
    End,
}

/// The entries, one after the other.
#[derive(Debug)]
pub struct Logs {
    engine: Engine,
    id: ContainerId,
    options: LogOptions,
    path: PathBuf,
    /// The host's journal, where the log is kept there.
    journal: Option<JournalReader>,
    /// What there is to read, the oldest first; the last is being written.
    files: VecDeque<BufReader<File>>,
    /// The beginning of a line that was not whole yet.
    partial: Vec<u8>,
    tail: Option<VecDeque<LogEntry>>,
}

impl Engine {
    /// Opens a container's log.
    pub fn logs(&self, name: &str, options: &LogOptions) -> Result<Logs, ContainerError> {
        let container = self.container(name)?;
        if container.config.log.driver == "none" {
            return Err(ContainerError::Invalid(
                "configured logging driver does not support reading".to_owned(),
            ));
        }
        let id = container.id;
        let path = self.container_dir(&id).join("log");
        let files = open(&path).map_err(ContainerError::io(&path))?;
        let is_in_journal = container.config.log.driver == "journald";
        let journal = is_in_journal.then(|| JournalReader::new(id.as_str()));
        let mut logs = Logs {
            engine: self.clone(),
            id,
            options: *options,
            files,
            path,
            journal,
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

/// Opens the log's files, the oldest first.
fn open(path: &Path) -> io::Result<VecDeque<BufReader<File>>> {
    loop {
        let mut files = VecDeque::new();
        let newest = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
            Err(error) => return Err(error),
        };
        let inode = newest.metadata()?.ino();
        files.push_front(BufReader::new(newest));
        for number in 1.. {
            match File::open(path.with_extension(number.to_string())) {
                Ok(file) => files.push_front(BufReader::new(file)),
                Err(_) => break,
            }
        }
        // Renamed meanwhile: what was opened may be one of them twice.
        if std::fs::metadata(path).is_ok_and(|there| there.ino() == inode) {
            return Ok(files);
        }
    }
}

impl Logs {
    /// Goes on with the file after the one that was read; they may have been renamed since.
    fn next_file(&mut self) -> io::Result<()> {
        self.partial.clear();
        let Some(done) = self.files.pop_front() else {
            return Ok(());
        };
        if !self.files.is_empty() {
            return Ok(());
        }
        let inode = done.get_ref().metadata()?.ino();
        self.files = open(&self.path)?;
        let is_done = |file: &BufReader<File>| {
            let there = file.get_ref().metadata();
            there.is_ok_and(|there| there.ino() == inode)
        };
        // One that is no longer among them was the oldest, or older.
        if let Some(at) = self.files.iter().position(is_done) {
            self.files.drain(..=at);
        }
        Ok(())
    }

    /// Returns whether the file that is being read is no longer the one that is being written.
    fn is_rotated(&self) -> bool {
        let Some(file) = self.files.front() else {
            return false;
        };
        let opened = file.get_ref().metadata().map(|file| file.ino());
        let there = std::fs::metadata(&self.path).map(|file| file.ino());
        matches!((opened, there), (Ok(opened), Ok(there)) if opened != there)
    }

    fn is_wanted(&self, entry: &LogEntry) -> bool {
        self.options.since.is_none_or(|since| entry.time >= since)
            && self.options.until.is_none_or(|until| entry.time < until)
    }

    /// Returns the next entry that is there and wanted.
    fn read(&mut self) -> Result<Option<LogEntry>, ContainerError> {
        if let Some(mut journal) = self.journal.take() {
            let mut read = journal.read();
            while let Ok(Some(entry)) = &read
                && !self.is_wanted(entry)
            {
                read = journal.read();
            }
            self.journal = Some(journal);
            return read.map_err(ContainerError::io("journalctl"));
        }
        loop {
            // Asked first: a file that has made way for another one is read to its end.
            let is_last = self.files.len() <= 1 && !self.is_rotated();
            let Some(file) = self.files.front_mut() else {
                return Ok(None);
            };
            file.read_until(b'\n', &mut self.partial)
                .map_err(ContainerError::io(&self.path))?;
            if !self.partial.ends_with(b"\n") {
                if is_last {
                    return Ok(None);
                }
                self.next_file().map_err(ContainerError::io(&self.path))?;
                continue;
            }
            let line = std::mem::take(&mut self.partial);
            // What a full disk has cut is no entry.
            let Ok(entry) = serde_json::from_slice::<LogFileEntry>(&line) else {
                continue;
            };
            let entry = LogEntry {
                is_error: entry.stream == "stderr",
                time: entry.time,
                text: entry.log,
            };
            if self.is_wanted(&entry) {
                return Ok(Some(entry));
            }
        }
    }

    /// Waits for the next entry; `None` at the end.
    pub fn next_entry(&mut self) -> Result<Option<LogEntry>, ContainerError> {
        loop {
            match self.look()? {
                Said::Entry(entry) => return Ok(Some(entry)),
                Said::End => return Ok(None),
                Said::Nothing => {}
            }
        }
    }

    /// Looks for the next entry; where there is none yet, it takes a moment to say so.
    pub fn look(&mut self) -> Result<Said, ContainerError> {
        if let Some(entry) = self.tail.as_mut().and_then(VecDeque::pop_front) {
            return Ok(Said::Entry(entry));
        }
        // Asked before the reading: what is said last is read once more.
        let is_alive = self.options.follow && self.engine.is_alive(&self.id);
        if self.files.is_empty() && self.options.follow {
            self.files = open(&self.path).map_err(ContainerError::io(&self.path))?;
        }
        if let Some(entry) = self.read()? {
            return Ok(Said::Entry(entry));
        }
        let is_over = self
            .options
            .until
            .is_some_and(|until| Timestamp::now() >= until);
        if !is_alive || is_over {
            return Ok(Said::End);
        }
        std::thread::sleep(match self.journal {
            Some(_) => PAUSE_OF_JOURNAL,
            None => PAUSE,
        });
        Ok(Said::Nothing)
    }
}
