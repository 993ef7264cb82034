//! The container's log: one JSON object a line, as Docker's `json-file` driver writes it.
//!
//! ```text
//! {"log":"a line, its newline included\n","stream":"stdout","time":"2026-11-23T21:00:00.123456789Z"}
//! ```
//!
//! A line longer than 16 KiB is cut into several without a newline. The monitor alone writes, whole lines only, so a
//! crash loses no more than the line that was being said.

use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

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
    file: File,
    /// What has been said on standard output and error since the last newline.
    unfinished: [Vec<u8>; 2],
}

const NAMES: [&str; 2] = ["stdout", "stderr"];

impl LogFile {
    pub(super) fn open(path: &Path) -> io::Result<LogFile> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = File::options()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)?;
        Ok(LogFile {
            file,
            unfinished: [Vec::new(), Vec::new()],
        })
    }

    /// Writes down what was said on stream 0 (output) or 1 (error).
    pub(super) fn write(&mut self, stream: usize, bytes: &[u8]) -> io::Result<()> {
        let time = Timestamp::now();
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for piece in piece.chunks(LONGEST) {
                let unfinished = &mut self.unfinished[stream];
                if unfinished.len() + piece.len() > LONGEST {
                    append(&mut lines, stream, unfinished, time)?;
                    unfinished.clear();
                }
                unfinished.extend_from_slice(piece);
                if piece.ends_with(b"\n") {
                    append(&mut lines, stream, unfinished, time)?;
                    unfinished.clear();
                }
            }
        }
        self.file.write_all(&lines)
    }

    /// Writes down what was said without a newline at the end.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let mut lines = Vec::new();
        for (stream, unfinished) in self.unfinished.iter_mut().enumerate() {
            if !unfinished.is_empty() {
                append(&mut lines, stream, unfinished, Timestamp::now())?;
                unfinished.clear();
            }
        }
        self.file.write_all(&lines)
    }
}

fn append(lines: &mut Vec<u8>, stream: usize, bytes: &[u8], time: Timestamp) -> io::Result<()> {
    let entry = Entry {
        log: String::from_utf8_lossy(bytes).into_owned(),
        stream: NAMES[stream].to_owned(),
        time,
    };
    serde_json::to_writer(&mut *lines, &entry)?;
    lines.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_streams_apart() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let mut log = LogFile::open(&path).expect("a log");
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
