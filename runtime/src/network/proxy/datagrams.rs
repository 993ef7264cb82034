//! Datagrams that are passed on: each sender has a socket of its own towards the container, for its answers.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::time::Duration;
use std::time::Instant;

use super::super::device;

/// How long a sender is remembered that is silent, as in Docker's proxy.
const IDLE: Duration = Duration::from_secs(90);

/// How many senders are remembered.
const MOST: usize = 4096;

/// How many datagrams are passed on before others are looked at.
const BURST: usize = 64;

#[derive(Debug)]
struct Sender {
    /// Which of the reserved ports it sends to, and from where.
    at: usize,
    address: SocketAddr,
    inner: UdpSocket,
    last: Instant,
}

/// The senders, by numbers that are never used again.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    senders: BTreeMap<u64, Sender>,
    by_address: BTreeMap<(usize, SocketAddr), u64>,
    last: u64,
}

impl Datagrams {
    pub(super) fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }

    pub(super) fn waits(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>)> {
        self.senders
            .iter()
            .map(|(id, sender)| (*id, sender.inner.as_fd()))
    }

    /// Passes on what has come to a reserved port.
    pub(super) fn receive(&mut self, at: usize, socket: &UdpSocket, to: Option<SocketAddr>) {
        let mut buffer = [0; 1 << 16];
        for _ in 0..BURST {
            let Ok((count, from)) = socket.recv_from(&mut buffer) else {
                return;
            };
            let Some(to) = to else {
                continue;
            };
            let known = self.by_address.get(&(at, from)).copied();
            let id = match known {
                Some(id) => id,
                None if self.senders.len() >= MOST => continue,
                None => match self.add(at, from, to) {
                    Ok(id) => id,
                    Err(error) => {
                        log::debug!("a datagram for the container: {error}");
                        continue;
                    }
                },
            };
            if let Some(sender) = self.senders.get_mut(&id) {
                sender.last = Instant::now();
                let _ = sender.inner.send(&buffer[..count]);
            }
        }
    }

    fn add(&mut self, at: usize, address: SocketAddr, to: SocketAddr) -> io::Result<u64> {
        let inner = UdpSocket::bind(SocketAddr::new(device::unspecified(to.is_ipv6()), 0))?;
        inner.connect(to)?;
        inner.set_nonblocking(true)?;
        self.last += 1;
        self.by_address.insert((at, address), self.last);
        self.senders.insert(
            self.last,
            Sender {
                at,
                address,
                inner,
                last: Instant::now(),
            },
        );
        Ok(self.last)
    }

    /// Passes the container's answers back to a sender.
    pub(super) fn answer<'a>(&mut self, id: u64, socket: impl Fn(usize) -> Option<&'a UdpSocket>) {
        let Some(sender) = self.senders.get_mut(&id) else {
            return;
        };
        let mut buffer = [0; 1 << 16];
        for _ in 0..BURST {
            match sender.inner.recv(&mut buffer) {
                Ok(count) => {
                    sender.last = Instant::now();
                    if let Some(socket) = socket(sender.at) {
                        let _ = socket.send_to(&buffer[..count], sender.address);
                    }
                }
                // Nobody listens there: told once, and forgotten.
                Err(_) => return,
            }
        }
    }

    /// Forgets who has been silent for long.
    pub(super) fn forget_idle(&mut self) {
        let senders = self
            .senders
            .extract_if(.., |_, sender| sender.last.elapsed() > IDLE);
        for (_, sender) in senders {
            self.by_address.remove(&(sender.at, sender.address));
        }
    }
}
