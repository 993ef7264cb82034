//! A request's body, as a plain reader.

use std::io;
use std::io::Read;
use std::io::Write as _;

use super::request::Framing;
use super::socket::Socket;

/// How much is read at once.
const BUFFER: usize = 32 << 10;

/// The longest line that tells a chunk's size.
const LONGEST_CHUNK_LINE: usize = 4 << 10;

/// How much of a body that nobody wanted is read, so that the connection can go on.
const MOST_DRAINED: u64 = 256 << 10;

/// A connection's incoming bytes.
#[derive(Debug)]
pub(super) struct Incoming {
    socket: Socket,
    /// What was read and not used yet.
    buffer: Vec<u8>,
    /// Where in it the unused begins.
    at: usize,
}

impl Incoming {
    pub(super) fn new(socket: Socket) -> Incoming {
        Incoming {
            socket,
            buffer: Vec::new(),
            at: 0,
        }
    }

    /// Returns what was read and not used.
    pub(super) fn unused(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// Takes so many bytes as used.
    pub(super) fn consume(&mut self, count: usize) {
        self.at += count;
        if self.at >= self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        }
    }

    /// Waits for more; returns whether any came.
    pub(super) fn more(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let filled = self.buffer.len();
        self.buffer.resize(filled + BUFFER, 0);
        let read = loop {
            match (&self.socket).read(&mut self.buffer[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer
            .truncate(filled + read.as_ref().copied().unwrap_or(0));
        // What a large body has left behind.
        if self.buffer.capacity() > 8 * BUFFER && self.buffer.len() < BUFFER {
            self.buffer.shrink_to(BUFFER);
        }
        Ok(read? > 0)
    }

    /// Returns a line without its end, and takes it as used.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.unused().iter().position(|byte| *byte == b'\n') {
                let line = self.unused()[..end].trim_ascii_end().to_vec();
                self.consume(end + 1);
                return Ok(line);
            }
            if self.unused().len() > LONGEST_CHUNK_LINE {
                return Err(invalid("a chunk's line is too long"));
            }
            if !self.more()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn invalid(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

/// What is left of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// So many bytes.
    Bytes(u64),
    /// So many bytes of a chunk, its line's end, and further chunks.
    InChunk(u64),
    /// A chunk's line comes next.
    ChunkLine,
    /// It has ended.
    Nothing,
}

/// A request's body.
#[derive(Debug)]
pub(super) struct Body<'a> {
    incoming: &'a mut Incoming,
    left: Left,
    /// Whether the client waits to be told that the body is wanted.
    awaits_continue: bool,
}

impl<'a> Body<'a> {
    pub(super) fn new(
        incoming: &'a mut Incoming,
        framing: Framing,
        awaits_continue: bool,
    ) -> Body<'a> {
        let left = match framing {
            Framing::Length(0) => Left::Nothing,
            Framing::Length(length) => Left::Bytes(length),
            Framing::Chunked => Left::ChunkLine,
        };
        Body {
            incoming,
            left,
            awaits_continue,
        }
    }

    /// Returns whether there is none.
    pub(super) fn is_over(&self) -> bool {
        self.left == Left::Nothing
    }

    /// Returns what came behind the head and belongs to no body: the first bytes of a hijacked connection.
    pub(super) fn early(&mut self) -> Vec<u8> {
        let early = self.incoming.unused().to_vec();
        self.incoming.consume(early.len());
        early
    }

    /// Reads what is left of a small body; returns whether the next request can follow.
    pub(super) fn drain(&mut self) -> bool {
        if self.awaits_continue && !self.is_over() {
            return false;
        }
        let drained = io::copy(&mut self.take(MOST_DRAINED), &mut io::sink());
        drained.is_ok() && self.is_over()
    }

    /// Reads the next chunk's line; the last chunk's trailers too.
    fn begin_chunk(&mut self) -> io::Result<()> {
        let line = self.incoming.line()?;
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let digits = std::str::from_utf8(digits.trim_ascii()).unwrap_or_default();
        let is_size = !digits.is_empty()
            && digits.len() <= 15
            && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let size = u64::from_str_radix(digits, 16)
            .ok()
            .filter(|_| is_size)
            .ok_or_else(|| invalid("a chunk's size is none"))?;
        if size > 0 {
            self.left = Left::InChunk(size);
            return Ok(());
        }
        let mut trailers = 0;
        while !self.incoming.line()?.is_empty() {
            trailers += 1;
            if trailers > 64 {
                return Err(invalid("too many trailers"));
            }
        }
        self.left = Left::Nothing;
        Ok(())
    }

    fn read_at_most(&mut self, buffer: &mut [u8], most: u64) -> io::Result<usize> {
        if self.incoming.unused().is_empty() && !self.incoming.more()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let unused = self.incoming.unused();
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let count = unused.len().min(buffer.len()).min(most);
        buffer[..count].copy_from_slice(&unused[..count]);
        self.incoming.consume(count);
        Ok(count)
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if std::mem::take(&mut self.awaits_continue) && !self.is_over() {
            (&self.incoming.socket).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        loop {
            match self.left {
                Left::Nothing => return Ok(0),
                Left::ChunkLine => self.begin_chunk()?,
                Left::Bytes(left) => {
                    let count = self.read_at_most(buffer, left)?;
                    self.left = match left - count as u64 {
                        0 => Left::Nothing,
                        left => Left::Bytes(left),
                    };
                    return Ok(count);
                }
                Left::InChunk(left) => {
                    let count = self.read_at_most(buffer, left)?;
                    self.left = match left - count as u64 {
                        0 => {
                            if !self.incoming.line()?.is_empty() {
                                return Err(invalid("a chunk is longer than its size"));
                            }
                            Left::ChunkLine
                        }
                        left => Left::InChunk(left),
                    };
                    return Ok(count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn read(framing: Framing, bytes: &[u8]) -> (io::Result<Vec<u8>>, Vec<u8>) {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.write_all(bytes).expect("written");
        theirs.shutdown(Shutdown::Write).expect("ended");
        let mut incoming = Incoming::new(Socket::new(ours));
        let mut content = Vec::new();
        let mut body = Body::new(&mut incoming, framing, false);
        let read = body.read_to_end(&mut content).map(|_| content);
        (read, incoming.unused().to_vec())
    }

    #[test]
    fn chunks_are_put_together_and_what_follows_is_left() {
        let (content, rest) = read(
            Framing::Chunked,
            b"5\r\nhello\r\n7;x=y\r\n, world\r\n0\r\nTrailer: x\r\n\r\nGET",
        );
        assert_eq!(content.expect("a body"), b"hello, world");
        assert_eq!(rest, b"GET");
        let (content, rest) = read(Framing::Length(3), b"abcdef");
        assert_eq!(
            (content.expect("a body"), rest),
            (b"abc".to_vec(), b"def".to_vec())
        );
    }

    #[test]
    fn broken_bodies_are_errors() {
        for bad in [
            &b"5\r\nhel"[..],
            b"5\r\nhello!\r\n0\r\n\r\n",
            b"x\r\n",
            b"\r\n",
            b"-1\r\n",
            b"ffffffffffffffff\r\n",
            b"0\r\n",
        ] {
            let (content, _) = read(Framing::Chunked, bad);
            assert!(content.is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(read(Framing::Chunked, &[b'1'; 10_000]).0.is_err());
        assert!(read(Framing::Length(9), b"short").0.is_err());
    }
}
