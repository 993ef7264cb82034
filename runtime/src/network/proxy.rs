//! Ports of the host's that a container has: reserved by sockets, and passed on where no rule of the firewall does.
//!
//! What comes from other hosts goes to the container by [`super::firewall`]'s rules and never meets these sockets. What
//! comes from the host's loopback addresses or from containers, or to an address of IPv6 for a container without one, is
//! taken here and passed on by a thread of the monitor.

mod datagrams;
pub(super) mod streams;

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::net::AddressFamily;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::net::sockopt;

use super::port::Port;
use super::port::Protocol;
use super::port::Published;
use crate::sys::wait;
use datagrams::Datagrams;
use streams::Streams;

/// A port that no one else can have.
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) published: Published,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Stream(TcpListener),
    Datagram(UdpSocket),
    /// Nothing passes SCTP on but rules.
    Rules,
}

/// Reserves a port of the host's, or any that is free if the number is 0.
pub(super) fn reserve(
    address: IpAddr,
    number: u16,
    port: Port,
    others: &[Reserved],
) -> io::Result<Reserved> {
    const BACKLOG: i32 = 1024;
    let at = SocketAddr::new(address, number);
    let (socket, host) = match port.protocol {
        Protocol::Tcp => {
            let fd = bind(at, SocketType::STREAM)?;
            rustix::net::listen(&fd, BACKLOG)?;
            let listener = TcpListener::from(fd);
            let host = listener.local_addr()?.port();
            (Socket::Stream(listener), host)
        }
        Protocol::Udp => {
            let socket = UdpSocket::from(bind(at, SocketType::DGRAM)?);
            let host = socket.local_addr()?.port();
            (Socket::Datagram(socket), host)
        }
        Protocol::Sctp => {
            let is_same = |other: &&Reserved| {
                other.published.host == number && other.published.port.protocol == Protocol::Sctp
            };
            if others.iter().any(|other| is_same(&other)) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let host = if number == 0 { port.number } else { number };
            (Socket::Rules, host)
        }
    };
    let published = Published {
        port,
        address,
        host,
    };
    Ok(Reserved { published, socket })
}

pub(super) fn bind(at: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = match at {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, kind, flags, None)?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    if kind == SocketType::STREAM {
        // What the last owner's connections have left does not count.
        sockopt::set_socket_reuseaddr(&fd, true)?;
    }
    rustix::net::bind(&fd, &at)?;
    Ok(fd)
}

/// The thread that passes ports on.
#[derive(Debug)]
pub(crate) struct Proxy {
    thread: JoinHandle<()>,
    /// Closed to end the thread.
    end: OwnedFd,
    target: Arc<Mutex<Vec<IpAddr>>>,
}

impl Proxy {
    /// Starts the thread; what comes goes to the first of these addresses of the same family, else to any.
    pub(super) fn start(reserved: Vec<Reserved>, target: Vec<IpAddr>) -> io::Result<Proxy> {
        let (ended, end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let target = Arc::new(Mutex::new(target));
        let shared = Arc::clone(&target);
        let builder = std::thread::Builder::new().name("ports".to_owned());
        let thread = builder.spawn(move || {
            if let Err(error) = serve(&reserved, &shared, &ended) {
                log::error!("ports: {error}");
            }
        })?;
        Ok(Proxy {
            thread,
            end,
            target,
        })
    }

    /// Has what comes from now on go to these addresses.
    pub(super) fn lead_to(&self, addresses: Vec<IpAddr>) {
        *self.target.lock() = addresses;
    }

    /// Gives the ports back.
    pub(super) fn end(self) {
        drop(self.end);
        let _ = self.thread.join();
    }
}

/// Returns where what has come to a published port goes.
fn target_of(published: &Published, addresses: &[IpAddr]) -> Option<SocketAddr> {
    let is_ipv6 = published.address.is_ipv6();
    let same = addresses.iter().find(|it| it.is_ipv6() == is_ipv6);
    let address = same.or(addresses.first())?;
    Some(SocketAddr::new(*address, published.port.number))
}

/// What the thread waits for.
#[derive(Clone, Copy)]
enum Source {
    End,
    Reserved(usize),
    Stream(u64),
    Datagram(u64),
}

/// Returns how long is waited for something to happen: until connections may be taken again, or until those who send
/// datagrams no more are to be forgotten.
pub(super) fn patience(pause: Option<Duration>, has_senders: bool) -> Option<Timespec> {
    const TICK: Duration = Duration::from_secs(10);
    let pause = pause.filter(|pause| !pause.is_zero());
    let left = pause.into_iter().chain(has_senders.then_some(TICK)).min()?;
    Timespec::try_from(left).ok()
}

fn serve(reserved: &[Reserved], target: &Mutex<Vec<IpAddr>>, ended: &OwnedFd) -> io::Result<()> {
    let mut streams = Streams::new();
    let mut datagrams = Datagrams::default();
    loop {
        let mut sources = vec![Source::End];
        let mut polled = vec![PollFd::new(ended, PollFlags::IN)];
        let pause = streams.pause();
        for (at, one) in reserved.iter().enumerate() {
            let fd: BorrowedFd<'_> = match &one.socket {
                Socket::Stream(_) if pause != Some(Duration::ZERO) => continue,
                Socket::Stream(listener) => listener.as_fd(),
                Socket::Datagram(socket) => socket.as_fd(),
                Socket::Rules => continue,
            };
            sources.push(Source::Reserved(at));
            polled.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        for (id, fd, flags) in streams.waits() {
            sources.push(Source::Stream(id));
            polled.push(PollFd::from_borrowed_fd(fd, flags));
        }
        for (id, fd) in datagrams.waits() {
            sources.push(Source::Datagram(id));
            polled.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        // A tick is needed only to forget who sends datagrams no more.
        let patience = patience(pause, !datagrams.is_empty());
        for source in wait::ready(sources, polled, patience)? {
            match source {
                Source::End => return Ok(()),
                Source::Reserved(at) => {
                    let one = &reserved[at];
                    let to = target_of(&one.published, &target.lock());
                    match &one.socket {
                        Socket::Stream(listener) => streams.accept(listener, |_, _| to),
                        Socket::Datagram(socket) => datagrams.receive(at, socket, to),
                        Socket::Rules => {}
                    }
                }
                Source::Stream(id) => streams.pass(id),
                Source::Datagram(id) => datagrams.answer(id, |at| match &reserved[at].socket {
                    Socket::Datagram(socket) => Some(socket),
                    _ => None,
                }),
            }
        }
        datagrams.forget_idle();
    }
}
