//! A client's end of a connection to a container's monitor.

use std::io;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::frame;
use crate::frame::Kind;

/// What an attached client hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Bytes of the standard output, or of the terminal.
    Stdout(Vec<u8>),
    /// Bytes of the standard error.
    Stderr(Vec<u8>),
    /// The container has ended, with this code.
    Exit(i32),
}

/// A container's streams, as its monitor passes them on.
#[derive(Debug)]
pub struct Attachment {
    stream: UnixStream,
    sender: Sender,
    /// The command's process; 0 if it is not known.
    pid: i32,
}

/// The way to the container: input, signals, window sizes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sender {
    stream: Arc<Mutex<UnixStream>>,
}

impl Attachment {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Attachment> {
        let sender = Sender {
            stream: Arc::new(Mutex::new(stream.try_clone()?)),
        };
        Ok(Attachment {
            stream,
            sender,
            pid: 0,
        })
    }

    pub(crate) fn of_process(self, pid: i32) -> Attachment {
        Attachment { pid, ..self }
    }

    /// Returns the host's id of the process of a further command; 0 if it is not known.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns the way to the container.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Waits for what comes next; `None` when the monitor went away without a word.
    pub fn hear(&mut self) -> io::Result<Option<Heard>> {
        loop {
            let Some((kind, payload)) = frame::read(&self.stream)? else {
                return Ok(None);
            };
            return Ok(Some(match kind {
                Kind::Stdout => Heard::Stdout(payload),
                Kind::Stderr => Heard::Stderr(payload),
                Kind::Exit => Heard::Exit(frame::number(&payload)?),
                Kind::Done => continue,
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }));
        }
    }
}

impl Sender {
    fn send(&self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        self.stream.lock().write_all(&frame::encode(kind, payload))
    }

    /// Passes bytes on to the standard input.
    pub fn stdin(&self, bytes: &[u8]) -> io::Result<()> {
        self.send(Kind::Stdin, bytes)
    }

    /// Ends the standard input.
    pub fn end_stdin(&self) -> io::Result<()> {
        self.send(Kind::StdinEnd, b"")
    }

    /// Sends a signal to the first process.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        self.send(Kind::Signal, &number.to_le_bytes())
    }

    /// Leaves: the other end and [`Attachment::hear`] see the connection's end.
    pub fn hang_up(&self) {
        let _ = self.stream.lock().shutdown(std::net::Shutdown::Both);
    }

    /// Sets the terminal's size.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let [a, b] = rows.to_le_bytes();
        let [c, d] = columns.to_le_bytes();
        self.send(Kind::Resize, &[a, b, c, d])
    }
}
