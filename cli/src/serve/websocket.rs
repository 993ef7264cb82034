//! RFC 6455 as far as an attached stream needs it.

use std::io;
use std::io::Read;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::Digest as _;

use super::api_error::ApiError;
use super::request::Request;
use super::socket::Socket;

/// What a server adds to a client's key, section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The longest frame that is taken.
const LONGEST: u64 = 1 << 20;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Returns the head that opens the connection.
pub(super) fn accept(request: &Request) -> Result<String, ApiError> {
    let is_upgrade = request.has_token("upgrade", "websocket");
    let key = request.header("sec-websocket-key");
    let key = key
        .filter(|_| is_upgrade)
        .ok_or_else(|| ApiError::bad("not websocket protocol"))?;
    let digest = sha1::Sha1::digest(format!("{key}{GUID}").as_bytes());
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        STANDARD.encode(digest)
    ))
}

fn send_frame(mut socket: &Socket, opcode: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ ..126 => frame.push(length as u8),
        length @ ..=0xffff => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    socket.write_all(&frame)
}

/// Sends bytes as a message.
pub(super) fn send(socket: &Socket, bytes: &[u8]) -> io::Result<()> {
    send_frame(socket, BINARY, bytes)
}

/// Says that nothing more comes. Who has gone needs no farewell.
pub(super) fn send_close(socket: &Socket) {
    let _ = send_frame(socket, CLOSE, &1000u16.to_be_bytes());
}

/// The payloads of a client's messages, one after the other.
pub(super) struct Messages<'a, R> {
    bytes: R,
    socket: &'a Socket,
    /// The mask of the message that is being read, and how much of it is left.
    mask: [u8; 4],
    left: u64,
    position: usize,
}

impl<'a, R: Read> Messages<'a, R> {
    pub(super) fn new(bytes: R, socket: &'a Socket) -> Messages<'a, R> {
        Messages {
            bytes,
            socket,
            mask: [0; 4],
            left: 0,
            position: 0,
        }
    }

    /// Reads the next frame's head; returns its opcode.
    fn begin(&mut self) -> io::Result<u8> {
        let mut head = [0; 2];
        self.bytes.read_exact(&mut head)?;
        let mut length = u64::from(head[1] & 0x7f);
        if length == 126 {
            let mut long = [0; 2];
            self.bytes.read_exact(&mut long)?;
            length = u64::from(u16::from_be_bytes(long));
        } else if length == 127 {
            let mut long = [0; 8];
            self.bytes.read_exact(&mut long)?;
            length = u64::from_be_bytes(long);
        }
        // A client masks, section 5.1.
        if head[1] & 0x80 == 0 || length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.bytes.read_exact(&mut self.mask)?;
        self.left = length;
        self.position = 0;
        Ok(head[0] & 0x0f)
    }

    fn payload(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.left as usize);
        let count = self.bytes.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for byte in &mut buffer[..count] {
            *byte ^= self.mask[self.position % 4];
            self.position += 1;
        }
        self.left -= count as u64;
        Ok(count)
    }
}

impl<R: Read> Read for Messages<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            match self.begin()? {
                CONTINUATION | TEXT | BINARY => {}
                CLOSE => {
                    send_close(self.socket);
                    return Ok(0);
                }
                control => {
                    let mut payload = vec![0; self.left as usize];
                    let mut filled = 0;
                    while filled < payload.len() {
                        filled += self.payload(&mut payload[filled..])?;
                    }
                    match control {
                        PING => send_frame(self.socket, PONG, &payload)?,
                        PONG => {}
                        _ => return Err(io::ErrorKind::InvalidData.into()),
                    }
                }
            }
        }
        self.payload(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn messages_are_unmasked_and_pings_answered() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let socket = Socket::new(ours);
        let mask = [1, 2, 3, 4];
        let masked = |text: &[u8]| -> Vec<u8> {
            text.iter()
                .zip(mask.iter().cycle())
                .map(|(a, b)| a ^ b)
                .collect()
        };
        let mut bytes = vec![0x81, 0x80 | 5, 1, 2, 3, 4];
        bytes.extend(masked(b"hello"));
        bytes.extend([0x89, 0x80 | 2, 1, 2, 3, 4]);
        bytes.extend(masked(b"hi"));
        bytes.extend([0x82, 0x80 | 1, 1, 2, 3, 4]);
        bytes.extend(masked(b"!"));
        bytes.extend([0x88, 0x80, 0, 0, 0, 0]);
        let mut read = Vec::new();
        let mut messages = Messages::new(&bytes[..], &socket);
        messages.read_to_end(&mut read).expect("read");
        assert_eq!(read, b"hello!");
        let mut pong = [0; 4];
        theirs.read_exact(&mut pong).expect("a pong");
        assert_eq!(&pong, b"\x8a\x02hi");
    }

    #[test]
    fn frames_that_are_not_masked_or_too_long_are_refused() {
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        let socket = Socket::new(ours);
        for bad in [&[0x81, 1, b'x'][..], &[0x81, 0xff, 9, 9, 9, 9, 9, 9, 9, 9]] {
            let mut messages = Messages::new(bad, &socket);
            assert!(messages.read(&mut [0; 8]).is_err());
        }
    }
}
