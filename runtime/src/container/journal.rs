//! `logs` of a container whose log is in the host's journal, read with `journalctl(1)`.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::process::Child;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;

use jiff::Timestamp;
use serde_json::Value;

use super::LogEntry;

/// The entries of a container, as far as they are written.
#[derive(Debug)]
pub(super) struct JournalReader {
    id: String,
    /// Behind the entry that was read last.
    cursor: Option<String>,
    reading: Option<(Child, BufReader<ChildStdout>)>,
}

impl JournalReader {
    pub(super) fn new(id: &str) -> JournalReader {
        JournalReader {
            id: id.to_owned(),
            cursor: None,
            reading: None,
        }
    }

    /// Returns the next entry that is there.
    pub(super) fn read(&mut self) -> io::Result<Option<LogEntry>> {
        let (child, out) = match &mut self.reading {
            Some(reading) => reading,
            None => {
                let reading = self.open()?;
                self.reading.insert(reading)
            }
        };
        let mut line = Vec::new();
        while out.read_until(b'\n', &mut line)? > 0 {
            if let Some((cursor, entry)) = parse(&line) {
                self.cursor = Some(cursor);
                return Ok(Some(entry));
            }
            line.clear();
        }
        child.wait()?;
        self.reading = None;
        Ok(None)
    }

    fn open(&self) -> io::Result<(Child, BufReader<ChildStdout>)> {
        // What was sent is only then written; without it the last lines may come with the next look.
        let _ = Command::new("journalctl")
            .arg("--sync")
            .stderr(Stdio::null())
            .status();
        let mut command = Command::new("journalctl");
        command.args(["--no-pager", "--quiet", "--output", "json", "--all"]);
        if let Some(cursor) = &self.cursor {
            command.args(["--after-cursor", cursor]);
        }
        let mut child = command
            .arg(format!("CONTAINER_ID_FULL={}", self.id))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let out = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok((child, BufReader::new(out)))
    }
}

impl Drop for JournalReader {
    fn drop(&mut self) {
        if let Some((mut child, _)) = self.reading.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Reads an entry of `--output json`; text that is none is a list of bytes.
fn parse(line: &[u8]) -> Option<(String, LogEntry)> {
    let entry: Value = serde_json::from_slice(line).ok()?;
    let mut text = match &entry["MESSAGE"] {
        Value::String(text) => text.clone(),
        Value::Array(bytes) => {
            let bytes = bytes.iter().filter_map(Value::as_u64);
            let bytes: Vec<u8> = bytes.map(|byte| byte as u8).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => String::new(),
    };
    if entry["CONTAINER_PARTIAL_MESSAGE"].is_null() {
        text.push('\n');
    }
    let time: i64 = entry["__REALTIME_TIMESTAMP"].as_str()?.parse().ok()?;
    let entry = (
        entry["__CURSOR"].as_str()?.to_owned(),
        LogEntry {
            is_error: entry["PRIORITY"] == "3",
            time: Timestamp::from_microsecond(time).ok()?,
            text,
        },
    );
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_journalctl_writes_them() {
        let line = br#"{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"1700000000000001","MESSAGE":"hi","PRIORITY":"3"}"#;
        let (cursor, entry) = parse(line).expect("an entry");
        assert_eq!(
            (&cursor[..], &entry.text[..], entry.is_error),
            ("s=1", "hi\n", true)
        );
        assert_eq!(entry.time.as_microsecond(), 1_700_000_000_000_001);
        let line = br#"{"__CURSOR":"s=2","__REALTIME_TIMESTAMP":"1","MESSAGE":[104,255],"CONTAINER_PARTIAL_MESSAGE":"true","PRIORITY":"6"}"#;
        let (_, entry) = parse(line).expect("an entry");
        assert_eq!((&entry.text[..], entry.is_error), ("h\u{fffd}", false));
        assert!(parse(b"nonsense").is_none());
    }
}
