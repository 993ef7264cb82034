//! The container's log in the host's journal, as Docker's `journald` driver writes it.
//!
//! An entry is one datagram in the journal's own protocol (systemd's "Native Journal Protocol"): a field a line, and one
//! that may hold anything with its length before it.

use std::io;
use std::os::unix::net::UnixDatagram;

/// Where journald listens.
pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";

/// `syslog(3)`'s levels that Docker gives to standard output and error.
const PRIORITIES: [&str; 2] = ["6", "3"];

#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    /// The fields that every entry has.
    fields: Vec<u8>,
}

impl Journal {
    pub(super) fn open(
        id: &str,
        name: &str,
        image: &str,
        tag: Option<&str>,
    ) -> io::Result<Journal> {
        let short = id.get(..12).unwrap_or(id);
        let mut fields = Vec::new();
        for (key, value) in [
            ("CONTAINER_ID", short),
            ("CONTAINER_ID_FULL", id),
            ("CONTAINER_NAME", name),
            ("CONTAINER_TAG", tag.unwrap_or(short)),
            ("SYSLOG_IDENTIFIER", tag.unwrap_or(short)),
            ("IMAGE_NAME", image),
        ] {
            append(&mut fields, key, value.as_bytes());
        }
        Ok(Journal {
            socket: UnixDatagram::unbound()?,
            fields,
        })
    }

    /// Writes a line of stream 0 (output) or 1 (error), or a piece of one; waits while journald is busy.
    pub(super) fn write(&self, stream: usize, line: &[u8]) -> io::Result<()> {
        let mut entry = self.fields.clone();
        append(&mut entry, "PRIORITY", PRIORITIES[stream].as_bytes());
        match line.strip_suffix(b"\n") {
            Some(line) => append(&mut entry, "MESSAGE", line),
            None => {
                append(&mut entry, "MESSAGE", line);
                append(&mut entry, "CONTAINER_PARTIAL_MESSAGE", b"true");
            }
        }
        // By its path: a journald that was started anew has another socket there.
        self.socket.send_to(&entry, SOCKET).map(|_| ())
    }
}

fn append(entry: &mut Vec<u8>, key: &str, value: &[u8]) {
    entry.extend_from_slice(key.as_bytes());
    entry.push(b'\n');
    entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    entry.extend_from_slice(value);
    entry.push(b'\n');
}
