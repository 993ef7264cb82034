//! Datagrams that a container sends to other hosts: each pair of ends has a socket of the host's, for the answers.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::time::Duration;
use std::time::Instant;

use super::super::device;
use super::super::port::Protocol;
use super::Door;
use super::Kernel;
use super::leads_elsewhere;
use crate::sys::netfilter;
use crate::sys::open_files;

/// How long a pair is remembered that is silent (`nf_conntrack_udp_timeout_stream`).
const IDLE: Duration = Duration::from_secs(120);

/// How many pairs are remembered; for a further one the most silent is forgotten.
const MOST: usize = 4096;

/// The part of the process's descriptors that they may have.
const PART: usize = 8;

/// How many datagrams are passed on before others are looked at.
const BURST: usize = 64;

/// Who sends to whom, and through which door.
type Ends = (usize, SocketAddr, SocketAddr);

#[derive(Debug)]
struct Flow {
    ends: Ends,
    outer: UdpSocket,
    last: Instant,
}

/// The pairs, by numbers that are never used again.
#[derive(Debug)]
pub(super) struct Flows<'a> {
    doors: &'a [Door],
    most: usize,
    flows: BTreeMap<u64, Flow>,
    by_ends: BTreeMap<Ends, u64>,
    last: u64,
}

impl<'a> Flows<'a> {
    pub(super) fn new(doors: &'a [Door]) -> Flows<'a> {
        Flows {
            doors,
            most: (open_files::allowed() / PART).clamp(1, MOST),
            flows: BTreeMap::new(),
            by_ends: BTreeMap::new(),
            last: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    pub(super) fn waits(&self) -> impl Iterator<Item = (u64, &UdpSocket)> {
        self.flows.iter().map(|(id, flow)| (*id, &flow.outer))
    }

    /// Passes on what has come to a door.
    pub(super) fn receive(&mut self, at: usize, kernel: &mut Kernel) {
        let door = &self.doors[at];
        let mut buffer = [0; 1 << 16];
        for _ in 0..BURST {
            let Ok((count, from)) = door.udp.recv_from(&mut buffer) else {
                return;
            };
            // Each time: the container may use its port for others too.
            let passed = target_of(door, from, kernel).and_then(|to| {
                let flow = self.flow((at, from, to), kernel)?;
                flow.last = Instant::now();
                flow.outer.send(&buffer[..count])
            });
            if let Err(error) = passed {
                log::debug!("a datagram from {from}: {error}");
            }
        }
    }

    fn flow(&mut self, ends: Ends, kernel: &mut Kernel) -> io::Result<&mut Flow> {
        let id = match self.by_ends.get(&ends) {
            Some(id) => *id,
            None if !leads_elsewhere(&mut kernel.routes, ends.2.ip()) => {
                return Err(io::ErrorKind::HostUnreachable.into());
            }
            None => self.add(ends)?,
        };
        let flow = self.flows.get_mut(&id);
        flow.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn add(&mut self, ends: Ends) -> io::Result<u64> {
        if self.flows.len() >= self.most {
            let silent = self.flows.iter().min_by_key(|(_, flow)| flow.last);
            let silent = silent.map(|(id, _)| *id);
            self.forget(|id, _| Some(id) == silent);
        }
        let (_, _, to) = ends;
        let outer = UdpSocket::bind(SocketAddr::new(device::unspecified(to.is_ipv6()), 0))?;
        outer.connect(to)?;
        outer.set_nonblocking(true)?;
        self.last += 1;
        self.by_ends.insert(ends, self.last);
        let last = Instant::now();
        self.flows.insert(self.last, Flow { ends, outer, last });
        Ok(self.last)
    }

    /// Passes the answers of a pair's other host to the container.
    pub(super) fn answer(&mut self, id: u64) {
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        let (at, from, _) = flow.ends;
        let mut buffer = [0; 1 << 16];
        for _ in 0..BURST {
            // An error is told once, and forgotten: nobody listens there.
            let Ok(count) = flow.outer.recv(&mut buffer) else {
                return;
            };
            flow.last = Instant::now();
            let _ = self.doors[at].udp.send_to(&buffer[..count], from);
        }
    }

    /// Forgets who has been silent for long.
    pub(super) fn forget_idle(&mut self) {
        self.forget(|_, flow| flow.last.elapsed() > IDLE);
    }

    fn forget(&mut self, is_over: impl Fn(u64, &Flow) -> bool) {
        let over = self.flows.extract_if(.., |id, flow| is_over(*id, flow));
        for (_, flow) in over {
            self.by_ends.remove(&flow.ends);
        }
    }
}

/// Returns whom a datagram was meant for that the container has sent.
fn target_of(door: &Door, from: SocketAddr, kernel: &mut Kernel) -> io::Result<SocketAddr> {
    let here = door.udp.local_addr()?;
    let protocol = Protocol::Udp.number();
    let question = netfilter::connection_by_answers(protocol, here, from);
    let answers = kernel.connections.ask(&question)?;
    let meant = answers.first().and_then(|it| netfilter::meant_for(&it.1));
    meant
        .filter(|meant| *meant != here && from.ip() == door.container)
        .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}
