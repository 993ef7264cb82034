//! A connection to the monitor, never waited for.

use std::io;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;

use serde::Deserialize;
use serde::Serialize;

use crate::frame;
use crate::frame::Decoder;
use crate::frame::Kind;

/// How much output waits for a client before the container is made to wait.
const BACKLOG: usize = 1 << 20;

/// What a client has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    /// Nothing yet.
    New,
    /// The streams: input, output, error; and the exit code.
    Attached([bool; 3]),
    /// The exit code.
    Waiting,
    /// The streams of the session with this number, and its exit code.
    Executing(u32),
}

/// A client on its way through the monitor's new beginning.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HandedOver {
    stream: RawFd,
    role: Role,
    /// What was received and is not a whole frame yet.
    incoming: Vec<u8>,
    /// What was not sent yet.
    outgoing: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    decoder: Decoder,
    outgoing: Vec<u8>,
    sent: usize,
    pub(super) role: Role,
    pub(super) is_gone: bool,
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> io::Result<Client> {
        stream.set_nonblocking(true)?;
        Ok(Client {
            stream,
            decoder: Decoder::default(),
            outgoing: Vec::new(),
            sent: 0,
            role: Role::New,
            is_gone: false,
        })
    }

    pub(super) fn hand_over(&self) -> HandedOver {
        HandedOver {
            stream: self.stream.as_raw_fd(),
            role: self.role,
            incoming: self.decoder.rest().to_vec(),
            outgoing: self.outgoing[self.sent..].to_vec(),
        }
    }

    /// Takes a client over.
    ///
    /// # Safety
    ///
    /// Its descriptor must be open and nobody else's.
    pub(super) unsafe fn taken_over(handed: HandedOver) -> io::Result<Client> {
        // SAFETY: as the caller promises.
        let stream = unsafe { crate::sys::fds::adopt(handed.stream) }?;
        let mut client = Client::new(UnixStream::from(stream))?;
        client.role = handed.role;
        client.decoder.push(&handed.incoming);
        client.outgoing = handed.outgoing;
        Ok(client)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub(super) fn attach(&mut self, streams: [bool; 3]) {
        self.role = Role::Attached(streams);
    }

    /// Returns whether the client has as much to read as it may.
    pub(super) fn is_full(&self) -> bool {
        self.outgoing.len() - self.sent > BACKLOG
    }

    pub(super) fn has_outgoing(&self) -> bool {
        self.outgoing.len() > self.sent
    }

    /// Queues a frame and sends what the socket takes.
    pub(super) fn send(&mut self, kind: Kind, payload: &[u8]) {
        self.outgoing.extend(frame::encode(kind, payload));
        self.flush();
    }

    /// Queues an answer with descriptors along: sent at once or not at all.
    pub(super) fn send_with(&mut self, kind: Kind, fds: &[BorrowedFd<'_>]) {
        let bytes = frame::encode(kind, b"");
        self.flush();
        let sent = crate::sys::fds::send(&self.stream, &bytes, fds);
        if self.has_outgoing() || sent.ok() != Some(bytes.len()) {
            self.is_gone = true;
        }
    }

    pub(super) fn flush(&mut self) {
        while self.has_outgoing() && !self.is_gone {
            match self.stream.write(&self.outgoing[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.is_gone = true,
            }
        }
        self.outgoing.clear();
        self.sent = 0;
    }

    /// Reads what has come; returns the frames that are whole.
    pub(super) fn receive(&mut self) -> Vec<(Kind, Vec<u8>)> {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.is_gone = true,
            Ok(count) => self.decoder.push(&buffer[..count]),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) => {}
            Err(_) => self.is_gone = true,
        }
        let mut frames = Vec::new();
        loop {
            match self.decoder.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return frames,
                Err(_) => {
                    self.is_gone = true;
                    return frames;
                }
            }
        }
    }

    /// Goes on sending until all is sent or the client is gone; it may take its time.
    pub(super) fn finish(mut self) {
        let _ = self.stream.set_nonblocking(false);
        self.flush();
    }
}
