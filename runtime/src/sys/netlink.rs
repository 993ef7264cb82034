//! Netlink: messages, their attributes, and a socket that sends a batch and hears every answer.
//!
//! `netlink(7)`, `rtnetlink(7)`. Numbers are in the host's byte order but where a protocol says otherwise.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

/// The flags of a request that makes something which must not be there yet.
pub(crate) const CREATE_NEW: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
/// The flags of a request that makes something if it is not there.
pub(crate) const CREATE: u16 = libc::NLM_F_CREATE as u16;

const HEADER: usize = 16;
const NESTED: u16 = 1 << 15;

/// How long an answer may take: the kernel answers at once, or it is no kernel that does.
const PATIENCE: libc::timeval = libc::timeval {
    tv_sec: 30,
    tv_usec: 0,
};

/// A request: its kind and flags, and a body of a fixed part and attributes.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Message {
    pub(crate) fn new(kind: u16, flags: u16) -> Message {
        Message {
            kind,
            flags,
            body: Vec::new(),
        }
    }

    /// Adds bytes that are no attribute: the fixed part.
    pub(crate) fn fixed(mut self, bytes: &[u8]) -> Message {
        self.body.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Adds an attribute.
    pub(crate) fn with(mut self, kind: u16, value: &[u8]) -> Message {
        let length = (4 + value.len()) as u16;
        self.body.extend_from_slice(&length.to_ne_bytes());
        self.body.extend_from_slice(&kind.to_ne_bytes());
        self.body.extend_from_slice(value);
        self.pad();
        self
    }

    /// Adds an attribute that is a text with its end.
    pub(crate) fn with_text(self, kind: u16, text: &str) -> Message {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.with(kind, &bytes)
    }

    /// Adds an attribute that holds attributes.
    pub(crate) fn nest(mut self, kind: u16, fill: impl FnOnce(Message) -> Message) -> Message {
        let start = self.body.len();
        self.body.extend_from_slice(&[0; 4]);
        let mut filled = fill(self);
        let length = (filled.body.len() - start) as u16;
        filled.body[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled.body[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        filled
    }

    fn pad(&mut self) {
        self.body.resize(self.body.len().next_multiple_of(4), 0);
    }

    fn write(&self, sequence: u32, flags: u16, to: &mut Vec<u8>) {
        let length = (HEADER + self.body.len()) as u32;
        let flags = self.flags | flags | libc::NLM_F_REQUEST as u16;
        to.extend_from_slice(&length.to_ne_bytes());
        to.extend_from_slice(&self.kind.to_ne_bytes());
        to.extend_from_slice(&flags.to_ne_bytes());
        to.extend_from_slice(&sequence.to_ne_bytes());
        to.extend_from_slice(&0u32.to_ne_bytes());
        to.extend_from_slice(&self.body);
    }
}

/// A connection to the kernel, in the network namespace that it was opened in.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens a socket for devices, addresses and routes.
    pub(crate) fn route() -> io::Result<Socket> {
        Socket::open(libc::NETLINK_ROUTE)
    }

    /// Opens a socket for the rules of nftables.
    pub(crate) fn netfilter() -> io::Result<Socket> {
        Socket::open(libc::NETLINK_NETFILTER)
    }

    /// Opens a socket that is told of changes of nftables' rules: each datagram holds messages of one transaction.
    pub(crate) fn rule_changes() -> io::Result<OwnedFd> {
        let socket = Socket::open(libc::NETLINK_NETFILTER)?;
        // A transaction's end has a datagram of its own, which says nothing. Messages begin with their length, then their
        // kind; the filter reads numbers in the network's order.
        let end = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_NEWGEN) as u16;
        let step = |code: u32, jt, jf, k| libc::sock_filter {
            code: code as u16,
            jt,
            jf,
            k,
        };
        let mut steps = [
            step(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, 4),
            step(
                libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
                1,
                0,
                u32::from(u16::from_be_bytes(end.to_ne_bytes())),
            ),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        ];
        let program = libc::sock_fprog {
            len: steps.len() as u16,
            filter: steps.as_mut_ptr(),
        };
        socket.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
        const GROUP_OF_NFTABLES: u32 = 7;
        // SAFETY: all zeroes is a valid `sockaddr_nl`: the kernel chooses the number.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = 1 << (GROUP_OF_NFTABLES - 1);
        // SAFETY: `address` is read only, for as many bytes as it has.
        let result = unsafe {
            libc::bind(
                socket.fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        super::check(libc::c_long::from(result))?;
        Ok(socket.fd)
    }

    fn open(protocol: libc::c_int) -> io::Result<Socket> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: socket passes no memory.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) };
        super::check(libc::c_long::from(fd))?;
        // SAFETY: the kernel has just made the descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let socket = Socket { fd, sequence: 1 };
        // Errors need not repeat what was asked.
        socket.set(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, &1i32)?;
        socket.set(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &PATIENCE)?;
        Ok(socket)
    }

    fn set<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        // SAFETY: `value` is read only, for as many bytes as it has.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                (&raw const *value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        };
        super::check(libc::c_long::from(result))?;
        Ok(())
    }

    /// Has the kernel do one thing after the other; returns the first refusal, after which more may have been done.
    pub(crate) fn request(&mut self, messages: &[Message]) -> io::Result<()> {
        let results = self.exchange(messages, false)?;
        results.into_iter().collect()
    }

    /// Has the kernel change the rules of nftables, all or nothing.
    pub(crate) fn change_rules(&mut self, messages: &[Message]) -> io::Result<()> {
        let results = self.exchange(messages, true)?;
        results.into_iter().collect()
    }

    fn exchange(
        &mut self,
        messages: &[Message],
        is_batch: bool,
    ) -> io::Result<Vec<io::Result<()>>> {
        // nfgenmsg: the batch is for nftables (NFNL_SUBSYS_NFTABLES = 10).
        let mark = |kind| Message::new(kind, 0).fixed(&[0, 0, 0, 10]);
        let mut bytes = Vec::new();
        let first = self.sequence + 1;
        self.sequence = first + messages.len() as u32;
        if is_batch {
            mark(libc::NFNL_MSG_BATCH_BEGIN as u16).write(first - 1, 0, &mut bytes);
        }
        for (sequence, message) in (first..).zip(messages) {
            message.write(sequence, libc::NLM_F_ACK as u16, &mut bytes);
        }
        if is_batch {
            mark(libc::NFNL_MSG_BATCH_END as u16).write(self.sequence, 0, &mut bytes);
        }
        self.send(&bytes)?;
        let mut results: Vec<Option<io::Result<()>>> = messages.iter().map(|_| None).collect();
        while results.iter().any(Option::is_none) {
            let answers = self.receive()?;
            for answer in Answers(&answers) {
                let Some(result) = answer.result() else {
                    continue;
                };
                match answer.sequence.checked_sub(first).map(|at| at as usize) {
                    Some(at) if at < results.len() => results[at] = Some(result),
                    // The batch as a whole was refused.
                    _ if result.is_err() => return result.map(|()| Vec::new()),
                    _ => {}
                }
            }
        }
        Ok(results.into_iter().flatten().collect())
    }

    /// Asks for something and returns the answers' kinds and bodies.
    pub(crate) fn ask(&mut self, message: &Message) -> io::Result<Vec<(u16, Vec<u8>)>> {
        self.sequence += 1;
        let is_dump = message.flags & libc::NLM_F_DUMP as u16 == libc::NLM_F_DUMP as u16;
        let mut bytes = Vec::new();
        message.write(self.sequence, 0, &mut bytes);
        self.send(&bytes)?;
        let mut found = Vec::new();
        loop {
            let answers = self.receive()?;
            for answer in Answers(&answers) {
                if answer.sequence != self.sequence {
                    continue;
                }
                match i32::from(answer.kind) {
                    libc::NLMSG_DONE => return Ok(found),
                    libc::NLMSG_ERROR => {
                        return answer.result().unwrap_or(Ok(())).map(|()| found);
                    }
                    _ => found.push((answer.kind, answer.body.to_vec())),
                }
            }
            if !is_dump && !found.is_empty() {
                return Ok(found);
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // SAFETY: `bytes` is read only, for as many bytes as it has.
        let sent =
            unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        super::check(sent as libc::c_long)?;
        Ok(())
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            // SAFETY: the buffer is writable for its whole length.
            let count = unsafe {
                libc::recv(
                    self.fd.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    0,
                )
            };
            match super::check(count as libc::c_long) {
                Ok(count) => {
                    buffer.truncate(count as usize);
                    return Ok(buffer);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Returns whether a datagram of [`Socket::rule_changes`] tells of more than elements of sets.
pub(crate) fn changes_rules(datagram: &[u8]) -> bool {
    let elements = [libc::NFT_MSG_NEWSETELEM, libc::NFT_MSG_DELSETELEM];
    let elements = elements.map(|kind| (libc::NFNL_SUBSYS_NFTABLES << 8 | kind) as u16);
    Answers(datagram).any(|message| !elements.contains(&message.kind))
}

/// The messages of one datagram.
struct Answers<'a>(&'a [u8]);

struct Answer<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Answer<'_> {
    /// Returns what an acknowledgement says.
    fn result(&self) -> Option<io::Result<()>> {
        if i32::from(self.kind) != libc::NLMSG_ERROR {
            return None;
        }
        let code = self
            .body
            .first_chunk::<4>()
            .map_or(0, |it| i32::from_ne_bytes(*it));
        Some(match code {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(-code)),
        })
    }
}

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        let (header, _) = self.0.split_first_chunk::<HEADER>()?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let body = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Answer {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            body,
        })
    }
}

/// The attributes in a message's body, or in an attribute that holds some.
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Attributes<'a> {
    /// Returns the value of the first attribute of a kind.
    pub(crate) fn find(self, kind: u16) -> Option<&'a [u8]> {
        { self }.find_map(|(found, value)| (found == kind).then_some(value))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let header = self.0.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// Returns an address's bytes, in the network's order.
pub(crate) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(crate) fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(bytes).into());
    }
    let bytes = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(bytes).into())
}

/// Returns where the routes of the namespace's main table lead to: addresses and the length of their prefixes.
pub(crate) fn routes(socket: &mut Socket) -> io::Result<Vec<(IpAddr, u8)>> {
    /// `struct rtmsg`: family, lengths of the prefixes, table, ...
    const RTMSG: usize = 12;
    let mut routes = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut fixed = [0; RTMSG];
        fixed[0] = family as u8;
        let message = Message::new(libc::RTM_GETROUTE, libc::NLM_F_DUMP as u16).fixed(&fixed);
        for (_, body) in socket.ask(&message)? {
            let Some((head, rest)) = body.split_first_chunk::<RTMSG>() else {
                continue;
            };
            let is_main = head[4] == libc::RT_TABLE_MAIN;
            let is_multicast = head[1] >= 8 && family == libc::AF_INET6 && {
                let to = Attributes(rest).find(libc::RTA_DST);
                to.is_some_and(|to| to.first() == Some(&0xff))
            };
            let is_link_local = family == libc::AF_INET6 && {
                let to = Attributes(rest).find(libc::RTA_DST);
                to.is_some_and(|to| to.starts_with(&[0xfe, 0x80]))
            };
            let to = Attributes(rest).find(libc::RTA_DST).and_then(address_of);
            if let Some(to) = to
                && is_main
                && !is_multicast
                && !is_link_local
            {
                routes.push((to, head[1]));
            }
        }
    }
    Ok(routes)
}
