//! A container's way out of a network where somebody else's firewall passes nothing on.
//!
//! What a container sends to other hosts is passed on by the host, which another table may forbid and no rule of ours can
//! then allow. There its connections are led to its monitor instead ([`super::firewall`]), at an address that the host has
//! on the network, and a thread begins them anew from the host: nothing is passed on in that table's sense. TCP and UDP
//! only: the host's kernel takes nothing else in for a program.
//!
//! Whom a connection was meant for is the kernel's to say, which tracks it (`SO_ORIGINAL_DST`, nfnetlink). What nobody has
//! led here is refused, and what leads to another engine's network of this host, which the host may reach and its
//! containers may not.

mod flows;

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::net::SocketType;
use rustix::net::sockopt;

use super::Network;
use super::bridge;
use super::device;
use super::port::Protocol;
use super::proxy;
use super::proxy::streams::Streams;
use crate::sys::netlink::Socket;
use crate::sys::wait;
use flows::Flows;

/// Where what an address of the container's sends elsewhere arrives.
#[derive(Debug)]
struct Door {
    container: IpAddr,
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Door {
    fn open(container: IpAddr, gateway: IpAddr) -> io::Result<Door> {
        const BACKLOG: i32 = 1024;
        let at = SocketAddr::new(gateway, 0);
        let tcp = proxy::bind(at, SocketType::STREAM)?;
        rustix::net::listen(&tcp, BACKLOG)?;
        let udp = proxy::bind(at, SocketType::DGRAM)?;
        Ok(Door {
            container,
            tcp: tcp.into(),
            udp: udp.into(),
        })
    }

    /// Returns whom a connection was meant for that the container has begun, if it may reach it.
    fn target_of(
        &self,
        taken: &TcpStream,
        from: SocketAddr,
        routes: &mut Socket,
    ) -> Option<SocketAddr> {
        let meant = match self.container.is_ipv6() {
            false => SocketAddr::V4(sockopt::ip_original_dst(taken).ok()?),
            true => SocketAddr::V6(sockopt::ipv6_original_dst(taken).ok()?),
        };
        let is_led = from.ip() == self.container && Some(meant) != taken.local_addr().ok();
        (is_led && leads_elsewhere(routes, meant.ip())).then_some(meant)
    }
}

/// Returns whether an address is another host's, and not one on a network that another engine keeps on this one.
fn leads_elsewhere(routes: &mut Socket, to: IpAddr) -> bool {
    let is_mapped = matches!(to, IpAddr::V6(to) if to.to_ipv4_mapped().is_some());
    !is_mapped && device::leads_elsewhere(routes, to).unwrap_or(false)
}

/// The thread that begins a container's connections anew.
#[derive(Debug)]
pub(crate) struct Outlet {
    thread: JoinHandle<()>,
    /// Closed to end the thread.
    end: OwnedFd,
    /// What is to be led where.
    leads: Vec<(IpAddr, Protocol, SocketAddr)>,
}

impl Outlet {
    /// Starts the thread for a container's addresses on a network.
    pub(super) fn start(
        network: &Network,
        addresses: impl Iterator<Item = IpAddr>,
    ) -> io::Result<Outlet> {
        let mut doors = Vec::new();
        let mut leads = Vec::new();
        for address in addresses {
            let Some(gateway) = bridge::gateway(network, address.is_ipv6()) else {
                continue;
            };
            let door = Door::open(address, gateway)?;
            leads.push((address, Protocol::Tcp, door.tcp.local_addr()?));
            leads.push((address, Protocol::Udp, door.udp.local_addr()?));
            doors.push(door);
        }
        let (ended, end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let kernel = Kernel {
            connections: Socket::netfilter()?,
            routes: Socket::route()?,
        };
        let builder = std::thread::Builder::new().name("outlet".to_owned());
        let thread = builder.spawn(move || {
            if let Err(error) = serve(&doors, kernel, &ended) {
                log::error!("way out: {error}");
            }
        })?;
        Ok(Outlet { thread, end, leads })
    }

    /// Returns what is to be led here: from which address, of which protocol, to where.
    pub(super) fn leads(&self) -> impl Iterator<Item = (IpAddr, Protocol, SocketAddr)> {
        self.leads.iter().copied()
    }

    /// Ends what is passed on.
    pub(super) fn end(self) {
        drop(self.end);
        let _ = self.thread.join();
    }
}

/// Where the kernel is asked.
#[derive(Debug)]
struct Kernel {
    /// Whom something was meant for.
    connections: Socket,
    /// Where that leads.
    routes: Socket,
}

/// What the thread waits for.
#[derive(Clone, Copy)]
enum Source {
    End,
    Tcp(usize),
    Udp(usize),
    Stream(u64),
    Flow(u64),
}

fn serve(doors: &[Door], mut kernel: Kernel, ended: &OwnedFd) -> io::Result<()> {
    let mut streams = Streams::new();
    let mut flows = Flows::new(doors);
    loop {
        let mut sources = vec![Source::End];
        let mut polled = vec![PollFd::new(ended, PollFlags::IN)];
        let pause = streams.pause();
        for (at, door) in doors.iter().enumerate() {
            if pause == Some(Duration::ZERO) {
                sources.push(Source::Tcp(at));
                polled.push(PollFd::new(&door.tcp, PollFlags::IN));
            }
            sources.push(Source::Udp(at));
            polled.push(PollFd::new(&door.udp, PollFlags::IN));
        }
        for (id, fd, flags) in streams.waits() {
            sources.push(Source::Stream(id));
            polled.push(PollFd::from_borrowed_fd(fd, flags));
        }
        for (id, socket) in flows.waits() {
            sources.push(Source::Flow(id));
            polled.push(PollFd::new(socket, PollFlags::IN));
        }
        let patience = proxy::patience(pause, !flows.is_empty());
        for source in wait::ready(sources, polled, patience)? {
            match source {
                Source::End => return Ok(()),
                Source::Tcp(at) => {
                    let (door, routes) = (&doors[at], &mut kernel.routes);
                    streams.accept(&door.tcp, |taken, from| door.target_of(taken, from, routes));
                }
                Source::Udp(at) => flows.receive(at, &mut kernel),
                Source::Stream(id) => streams.pass(id),
                Source::Flow(id) => flows.answer(id),
            }
        }
        flows.forget_idle();
    }
}
