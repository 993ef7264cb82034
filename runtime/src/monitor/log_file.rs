//! The container's log: one JSON object a line, as Docker's `json-file` driver writes it.
//!
//! ```text
//! {"log":"a line, its newline included\n","stream":"stdout","time":"2026-11-23T21:00:00.123456789Z"}
//! ```
//!
//! A line longer than 16 KiB is cut into several without a newline. The monitor alone writes, whole lines only, so a
//! crash loses no more than the line that was being said. A file that has grown to `max-size` is renamed `log.1`, the
//! one before it `log.2`, and so on up to `max-file`.

use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use super::journal::Journal;
use crate::container::LogConfig;

/// The longest piece of a line.
const LONGEST: usize = 16 << 10;

/// One line of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) log: String,
    pub(crate) stream: String,
    pub(crate) time: Timestamp,
}

#[derive(Debug)]
pub(super) struct LogFile {
    /// None where nothing is kept in a file.
    file: Option<File>,
    /// The host's journal, where it is kept there.
    journal: Option<Journal>,
    path: PathBuf,
    size: u64,
    /// How long a file grows.
    max_size: Option<u64>,
    max_file: u32,
    /// What has been said on standard output and error since the last newline.
    unfinished: [Vec<u8>; 2],
}

const NAMES: [&str; 2] = ["stdout", "stderr"];

impl LogFile {
    pub(super) fn open(
        path: &Path,
        config: &LogConfig,
        journal: Option<Journal>,
    ) -> io::Result<LogFile> {
        let file = match config.driver.as_str() {
            "none" | "journald" => None,
            _ => Some(open(path)?),
        };
        let size = file
            .as_ref()
            .map_or(Ok(0), |file| Ok::<_, io::Error>(file.metadata()?.len()))?;
        Ok(LogFile {
            file,
            journal,
            path: path.to_owned(),
            size,
            max_size: config.max_size().map_err(io::Error::other)?,
            max_file: config.max_file().map_err(io::Error::other)?,
            unfinished: [Vec::new(), Vec::new()],
        })
    }

    fn append(&mut self, mut lines: &[u8]) -> io::Result<()> {
        while !lines.is_empty() {
            if self.max_size.is_some_and(|most| self.size >= most) {
                self.rotate()?;
            }
            let Some(file) = &mut self.file else {
                return Ok(());
            };
            let room = self.max_size.map_or(u64::MAX, |most| most - self.size);
            let now = up_to(lines, usize::try_from(room).unwrap_or(usize::MAX));
            file.write_all(&lines[..now])?;
            self.size += now as u64;
            lines = &lines[now..];
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u32| self.path.with_extension(number.to_string());
        for number in (1..self.max_file.saturating_sub(1)).rev() {
            if let Err(error) = std::fs::rename(numbered(number), numbered(number + 1))
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
        }
        match self.max_file {
            ..=1 => std::fs::remove_file(&self.path)?,
            _ => std::fs::rename(&self.path, numbered(1))?,
        }
        self.file = Some(open(&self.path)?);
        self.size = 0;
        Ok(())
    }

    /// Writes down what was said on stream 0 (output) or 1 (error).
    pub(super) fn write(&mut self, stream: usize, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_none() && self.journal.is_none() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for piece in piece.chunks(LONGEST) {
                let unfinished = &mut self.unfinished[stream];
                if unfinished.len() + piece.len() > LONGEST {
                    append(&mut lines, &self.journal, stream, unfinished)?;
                    unfinished.clear();
                }
                unfinished.extend_from_slice(piece);
                if piece.ends_with(b"\n") {
                    append(&mut lines, &self.journal, stream, unfinished)?;
                    unfinished.clear();
                }
            }
        }
        self.append(&lines)
    }

    /// Writes down what was said without a newline at the end.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let mut lines = Vec::new();
        for (stream, unfinished) in self.unfinished.iter_mut().enumerate() {
            if !unfinished.is_empty() {
                append(&mut lines, &self.journal, stream, unfinished)?;
                unfinished.clear();
            }
        }
        self.append(&lines)
    }
}

/// Returns the length of the whole lines that fill the room, or just overfill it.
fn up_to(lines: &[u8], room: usize) -> usize {
    let from = room.saturating_sub(1);
    let newline = lines
        .get(from..)
        .and_then(|rest| rest.iter().position(|byte| *byte == b'\n'));
    newline.map_or(lines.len(), |at| from + at + 1)
}

fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

/// Adds a line to those that go to the file, or writes it to the journal.
fn append(
    lines: &mut Vec<u8>,
    journal: &Option<Journal>,
    stream: usize,
    bytes: &[u8],
) -> io::Result<()> {
    if let Some(journal) = journal {
        return journal.write(stream, bytes);
    }
    let entry = Entry {
        log: String::from_utf8_lossy(bytes).into_owned(),
        stream: NAMES[stream].to_owned(),
        time: Timestamp::now(),
    };
    serde_json::to_writer(&mut *lines, &entry)?;
    lines.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_long_enough_makes_way_for_the_next() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let options = [("max-size", "1k"), ("max-file", "3")];
        let config = LogConfig {
            options: options.map(|(a, b)| (a.to_owned(), b.to_owned())).into(),
            ..LogConfig::default()
        };
        let mut log = LogFile::open(&path, &config, None).expect("a log");
        for number in 0..200 {
            log.write(0, format!("{number}\n").as_bytes())
                .expect("written");
        }
        let names = ["log.2", "log.1", "log"].map(|name| directory.path().join(name));
        let texts = names.map(|path| std::fs::read_to_string(path).expect("text"));
        assert!(texts.iter().all(|text| text.len() < 1200));
        let all = texts.concat();
        let last: Entry = serde_json::from_str(all.lines().last().expect("lines")).expect("JSON");
        assert_eq!(last.log, "199\n");
        assert!(!directory.path().join("log.3").exists());
        // One opened later goes on where it was.
        let mut log = LogFile::open(&path, &config, None).expect("a log");
        log.write(0, b"more\n").expect("written");
        assert!(
            std::fs::read_to_string(&path)
                .expect("text")
                .contains("more")
        );
    }

    #[test]
    fn lines_are_whole_and_streams_apart() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let mut log = LogFile::open(&path, &LogConfig::default(), None).expect("a log");
        log.write(0, b"one\ntw").expect("written");
        log.write(1, b"oops\n").expect("written");
        log.write(0, b"o\n").expect("written");
        log.write(0, &[b'x'; LONGEST + 5]).expect("written");
        log.finish().expect("written");
        let text = std::fs::read_to_string(&path).expect("text");
        let entries: Vec<Entry> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let said: Vec<(&str, usize)> = entries
            .iter()
            .map(|entry| (&entry.stream[..], entry.log.len()))
            .collect();
        assert_eq!(
            said,
            [
                ("stdout", 4),
                ("stderr", 5),
                ("stdout", 4),
                ("stdout", LONGEST),
                ("stdout", 5)
            ]
        );
        assert_eq!(entries[2].log, "two\n");
    }
}
