//! What goes between a container's monitor and its clients: frames of a kind, a length and bytes.
//!
//! ```text
//! kind: u8 | length: u32, little endian | payload
//! ```
//!
//! A client's first frame is a [`Request`] as JSON. To one that attaches the monitor sends output until the exit code
//! ends it; the others get one answer. Both ends are the same binary, but for a moment after an upgrade: a kind that is
//! not known ends the connection.

use std::io;
use std::io::Read;

use serde::Deserialize;
use serde::Serialize;

use crate::cgroup::Resources;
use crate::container::ExecOptions;
use crate::container::RestartPolicy;
use crate::network::Attachment;
use crate::network::NetworkId;
use crate::network::join::Joined;

/// The longest payload that is taken.
pub(crate) const LONGEST: usize = 16 << 20;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To the monitor that is being started: what to start, JSON.
    Spec,
    /// A client's first word, JSON.
    Request,
    /// Bytes for the standard input.
    Stdin,
    /// The standard input's end.
    StdinEnd,
    /// A window size: rows and columns, u16 each.
    Resize,
    /// A signal's number, i32.
    Signal,
    /// The container runs: its first process, i32.
    Started,
    /// It cannot be: an exit code (u8) and words.
    Failed,
    /// Bytes of the standard output.
    Stdout,
    /// Bytes of the standard error.
    Stderr,
    /// The container has ended: its exit code, i32.
    Exit,
    /// The request was done; its answer, JSON or nothing. Descriptors may come along.
    Done,
}

const KINDS: [(Kind, u8); 12] = [
    (Kind::Spec, b'C'),
    (Kind::Request, b'Q'),
    (Kind::Stdin, b'I'),
    (Kind::StdinEnd, b'i'),
    (Kind::Resize, b'W'),
    (Kind::Signal, b'K'),
    (Kind::Started, b'R'),
    (Kind::Failed, b'F'),
    (Kind::Stdout, b'O'),
    (Kind::Stderr, b'E'),
    (Kind::Exit, b'X'),
    (Kind::Done, b'D'),
];

/// What a client may ask of a monitor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Connects the streams: input, output, error.
    Attach([bool; 3]),
    /// Answers with the exit code when there is one.
    Wait,
    /// Sends a signal to the first process.
    Signal(i32),
    /// The same, from a person who wants the container to end: it goes on if it is frozen, and is not restarted.
    Stop(i32),
    /// Freezes the container.
    Pause,
    /// Lets it go on.
    Unpause,
    /// Sets new limits, and a new policy if there is one.
    Update(Box<Resources>, Option<RestartPolicy>),
    /// Sets the terminal's size: rows, columns.
    Resize(u16, u16),
    /// Tells the container's new name.
    Rename(String),
    /// Tells that the container's end is not its removal, whatever was said when it was made.
    Keep,
    /// Hands over the container's root as it sees it, and the bare union.
    Roots,
    /// Hands over the first process.
    Process,
    /// Tells what differs from the image.
    Changes,
    /// Makes the container's place on a further network.
    Connect(Box<(Joined, Attachment)>),
    /// Takes its place on a network away.
    Disconnect(NetworkId),
    /// Runs a further command and connects its streams.
    Exec(Box<ExecOptions>),
}

/// Returns a frame's bytes.
pub(crate) fn encode(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let code = KINDS
        .iter()
        .find_map(|(known, code)| (*known == kind).then_some(*code))
        .unwrap_or(0);
    let mut bytes = Vec::with_capacity(5 + payload.len());
    bytes.push(code);
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Returns the bytes of a frame that carries JSON.
pub(crate) fn encode_json(kind: Kind, value: &impl Serialize) -> io::Result<Vec<u8>> {
    Ok(encode(kind, &serde_json::to_vec(value)?))
}

fn header(bytes: [u8; 5]) -> io::Result<(Kind, usize)> {
    let [code, length @ ..] = bytes;
    let kind = KINDS
        .iter()
        .find_map(|(kind, known)| (*known == code).then_some(*kind))
        .ok_or(io::ErrorKind::InvalidData)?;
    let length = u32::from_le_bytes(length) as usize;
    match length <= LONGEST {
        true => Ok((kind, length)),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Waits for a frame; `None` when the other end has closed.
pub(crate) fn read(mut stream: impl Read) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut head = [0; 5];
    let mut filled = 0;
    while filled < head.len() {
        match stream.read(&mut head[filled..]) {
            Ok(0) => return Ok(None),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Whoever dies with unread bytes before it resets the connection.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let (kind, length) = header(head)?;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok(Some((kind, payload)))
}

/// Frames out of a stream that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    bytes: Vec<u8>,
}

impl Decoder {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns what is not a whole frame yet.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the next frame that is whole.
    pub(crate) fn next(&mut self) -> io::Result<Option<(Kind, Vec<u8>)>> {
        let Some(head) = self.bytes.first_chunk::<5>() else {
            return Ok(None);
        };
        let (kind, length) = header(*head)?;
        if self.bytes.len() < 5 + length {
            return Ok(None);
        }
        let payload = self.bytes[5..5 + length].to_vec();
        self.bytes.drain(..5 + length);
        Ok(Some((kind, payload)))
    }
}

/// Reads a payload that is one number.
pub(crate) fn number(payload: &[u8]) -> io::Result<i32> {
    let bytes = payload.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(i32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let mut stream = encode(Kind::Stdout, b"hello");
        stream.extend(encode(Kind::StdinEnd, b""));
        stream.extend(encode(Kind::Exit, &7i32.to_le_bytes()));
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for byte in &stream {
            decoder.push(&[*byte]);
            frames.extend(decoder.next().expect("frames"));
        }
        assert_eq!(frames[0], (Kind::Stdout, b"hello".to_vec()));
        assert_eq!(frames[1], (Kind::StdinEnd, Vec::new()));
        assert_eq!(number(&frames[2].1).expect("a number"), 7);
        let mut rest = &stream[..];
        assert_eq!(
            read(&mut rest).expect("a frame"),
            Some((Kind::Stdout, b"hello".to_vec()))
        );
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(read(&b"zzzzzzzz"[..]).is_err());
        let mut decoder = Decoder::default();
        decoder.push(&[b'O', 0xff, 0xff, 0xff, 0xff]);
        assert!(decoder.next().is_err());
    }
}
