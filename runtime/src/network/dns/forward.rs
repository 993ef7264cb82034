//! Asking the host's servers.

use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::time::Duration;
use std::time::Instant;

use super::answer::Knowledge;
use super::answer::Question;

/// How long a server is waited for before the next one is asked, and how many are asked (resolv.conf(5), MAXNS).
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
const MOST_SERVERS: usize = 3;

/// The longest message (RFC 1035, 4.2.2: its length has two bytes).
pub(super) const LONGEST: usize = u16::MAX as usize;

/// A question that waits for a server's datagram. Each has a socket of its own, so that who wants to forge an answer has
/// to guess its port beside its number (RFC 5452).
#[derive(Debug)]
pub(super) struct Pending {
    question: Question,
    client: SocketAddr,
    socket: UdpSocket,
    id: u16,
    /// Which of the servers was asked.
    server: usize,
    pub(super) deadline: Instant,
}

/// What became of a question.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It waits, perhaps for another server now.
    Waits,
    /// This goes to the client.
    Reply(Vec<u8>, SocketAddr),
}

impl Pending {
    /// Asks the first server that can be asked; `Err` is the reply that none can.
    pub(super) fn ask(
        question: Question,
        client: SocketAddr,
        servers: &[SocketAddr],
    ) -> Result<Pending, Vec<u8>> {
        let failure = question.failure();
        let (server, socket, id) = send(&question, servers, 0).ok_or(failure)?;
        Ok(Pending {
            question,
            client,
            socket,
            id,
            server,
            deadline: Instant::now() + PATIENCE,
        })
    }

    /// Returns the socket that the answer comes to.
    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Reads what has come.
    pub(super) fn receive(&mut self, servers: &[SocketAddr]) -> Outcome {
        let mut buffer = vec![0; LONGEST];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => match self.question.is_answered_by(&buffer[..length], self.id) {
                    Some(Knowledge::Final) => {
                        return Outcome::Reply(
                            with_id(&buffer[..length], self.question.id()),
                            self.client,
                        );
                    }
                    Some(Knowledge::AskOthers) => {
                        let reply = with_id(&buffer[..length], self.question.id());
                        return self.ask_next(servers, reply);
                    }
                    None => {}
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Outcome::Waits,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.give_up_server(servers),
            }
        }
    }

    /// Asks the next server because this one says nothing.
    pub(super) fn give_up_server(&mut self, servers: &[SocketAddr]) -> Outcome {
        let failure = self.question.failure();
        self.ask_next(servers, failure)
    }

    fn ask_next(&mut self, servers: &[SocketAddr], otherwise: Vec<u8>) -> Outcome {
        match send(&self.question, servers, self.server + 1) {
            Some((server, socket, id)) => {
                (self.server, self.socket, self.id) = (server, socket, id);
                self.deadline = Instant::now() + PATIENCE;
                Outcome::Waits
            }
            None => Outcome::Reply(otherwise, self.client),
        }
    }
}

/// Sends a question to the first of the servers from `first` on that the system lets it be sent to.
fn send(
    question: &Question,
    servers: &[SocketAddr],
    first: usize,
) -> Option<(usize, UdpSocket, u16)> {
    let asked = servers.iter().enumerate().take(MOST_SERVERS).skip(first);
    for (number, server) in asked {
        let sent = (|| {
            let any: IpAddr = match server {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(server)?;
            socket.set_nonblocking(true)?;
            let id = rand::random();
            socket.send(&with_id(&question.bytes, id))?;
            Ok::<_, io::Error>((socket, id))
        })();
        match sent {
            Ok((socket, id)) => return Some((number, socket, id)),
            Err(error) => log::debug!("dns: {server}: {error}"),
        }
    }
    None
}

/// Asks the servers by TCP, one after the other, and waits for an answer.
pub(super) fn ask_by_stream(question: &Question, servers: &[SocketAddr]) -> Vec<u8> {
    let mut last = question.failure();
    for server in servers.iter().take(MOST_SERVERS) {
        let id = rand::random();
        let reply = (|| {
            let mut stream = TcpStream::connect_timeout(server, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            write_message(&mut stream, &with_id(&question.bytes, id))?;
            read_message(&mut stream)
        })();
        match reply {
            Ok(reply) => match question.is_answered_by(&reply, id) {
                Some(Knowledge::Final) => return with_id(&reply, question.id()),
                Some(Knowledge::AskOthers) => last = with_id(&reply, question.id()),
                None => log::debug!("dns: {server} answered something else"),
            },
            Err(error) => log::debug!("dns: {server}: {error}"),
        }
    }
    last
}

/// Reads a message with its length before it (RFC 1035, 4.2.2).
pub(super) fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// Writes a message with its length before it.
pub(super) fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed)
}

/// Returns the message under another number, which is its first two bytes (RFC 1035, 4.1.1).
fn with_id(message: &[u8], id: u16) -> Vec<u8> {
    let mut message = message.to_vec();
    message[..2].copy_from_slice(&id.to_be_bytes());
    message
}
