//! Connections that are passed on, both ways, by the kernel's pipes: no byte is copied into the process.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::net::sockopt;
use rustix::pipe::PipeFlags;
use rustix::pipe::SpliceFlags;

use crate::sys::open_files;

/// How many connections are passed on at once; further ones wait to be taken.
const MOST: usize = 4096;

/// The part of the process's descriptors that connections may have, and how many each has: two sockets and two pipes.
const PART: usize = 4;
const DESCRIPTORS: usize = 6;

/// How long a silent end is believed to be there, and how often it is asked then, as by Docker's proxy.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long none is taken after the process had no descriptors left for one.
const PAUSE: Duration = Duration::from_millis(100);

/// What goes in one step.
const STEP: usize = 1 << 20;

/// One direction of a connection: the pipe between its ends.
#[derive(Debug)]
struct Way {
    read: OwnedFd,
    write: OwnedFd,
    /// How much lies in the pipe.
    filled: usize,
    /// The source has ended.
    ended: bool,
    /// And the target was told.
    told: bool,
}

impl Way {
    fn new() -> io::Result<Way> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Way {
            read,
            write,
            filled: 0,
            ended: false,
            told: false,
        })
    }

    /// Passes on what can be; an error is the connection's end.
    fn pass(&mut self, from: &TcpStream, to: &TcpStream) -> io::Result<()> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        loop {
            if self.filled == 0 && !self.ended {
                match rustix::pipe::splice(from, None, &self.write, None, STEP, flags) {
                    Ok(0) => self.ended = true,
                    Ok(count) => self.filled = count,
                    Err(Errno::AGAIN) => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
            if self.filled == 0 {
                if self.ended && !self.told {
                    self.told = true;
                    let _ = to.shutdown(std::net::Shutdown::Write);
                }
                return Ok(());
            }
            match rustix::pipe::splice(&self.read, None, to, None, self.filled, flags) {
                Ok(count) => self.filled -= count,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[derive(Debug)]
struct Connection {
    outer: TcpStream,
    inner: TcpStream,
    is_connected: bool,
    inwards: Way,
    outwards: Way,
}

impl Connection {
    fn is_over(&self) -> bool {
        self.inwards.told && self.outwards.told
    }

    /// Returns what each end is waited for.
    fn flags(&self) -> (PollFlags, PollFlags) {
        let wants = |source: &Way, target: &Way| {
            let mut flags = PollFlags::empty();
            if source.filled == 0 && !source.ended {
                flags |= PollFlags::IN;
            }
            if target.filled > 0 {
                flags |= PollFlags::OUT;
            }
            flags
        };
        match self.is_connected {
            true => (
                wants(&self.inwards, &self.outwards),
                wants(&self.outwards, &self.inwards),
            ),
            false => (PollFlags::empty(), PollFlags::OUT),
        }
    }
}

/// The connections, by numbers that are never used again.
#[derive(Debug)]
pub(crate) struct Streams {
    connections: BTreeMap<u64, Connection>,
    last: u64,
    most: usize,
    /// When there were no descriptors left.
    short: Option<Instant>,
}

impl Streams {
    pub(crate) fn new() -> Streams {
        Streams {
            connections: BTreeMap::new(),
            last: 0,
            most: (open_files::allowed() / PART / DESCRIPTORS).clamp(1, MOST),
            short: None,
        }
    }

    /// Returns for how long no further ones are to be taken: zero is not at all, `None` until one has ended.
    pub(crate) fn pause(&self) -> Option<Duration> {
        if self.connections.len() >= self.most {
            return None;
        }
        let passed = self.short.map_or(PAUSE, |since| since.elapsed());
        Some(PAUSE.saturating_sub(passed))
    }

    pub(crate) fn waits(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>, PollFlags)> {
        self.connections.iter().flat_map(|(id, connection)| {
            let (outer, inner) = connection.flags();
            [
                (*id, connection.outer.as_fd(), outer),
                (*id, connection.inner.as_fd(), inner),
            ]
            .into_iter()
            .filter(|(_, _, flags)| !flags.is_empty())
        })
    }

    /// Takes a connection and begins one to whom it is meant for; without a target it is closed at once.
    pub(crate) fn accept(
        &mut self,
        listener: &TcpListener,
        target: impl FnOnce(&TcpStream, SocketAddr) -> Option<SocketAddr>,
    ) {
        let (outer, from) = match listener.accept() {
            Ok(taken) => taken,
            Err(error) => {
                let errno = error.raw_os_error();
                if matches!(errno, Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS)) {
                    self.short = Some(Instant::now());
                }
                return;
            }
        };
        let to = target(&outer, from).ok_or(io::Error::from(io::ErrorKind::NotConnected));
        let begun = to.and_then(|to| {
            outer.set_nonblocking(true)?;
            let inner = connect(to)?;
            for socket in [&outer, &inner] {
                socket.set_nodelay(true)?;
                keep_alive(socket)?;
            }
            Ok((inner, Way::new()?, Way::new()?))
        });
        match begun {
            Ok((inner, inwards, outwards)) => {
                self.last += 1;
                let connection = Connection {
                    outer,
                    inner,
                    is_connected: false,
                    inwards,
                    outwards,
                };
                self.connections.insert(self.last, connection);
            }
            Err(error) => {
                log::debug!("a connection from {from}: {error}");
                reset(&outer);
            }
        }
    }

    /// Passes on what can be of a connection.
    pub(crate) fn pass(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if !connection.is_connected {
            match connection.inner.take_error() {
                Ok(None) => connection.is_connected = true,
                _ => {
                    // Refused there, it is reset here.
                    reset(&connection.outer);
                    self.connections.remove(&id);
                    return;
                }
            }
        }
        let passed = connection
            .inwards
            .pass(&connection.outer, &connection.inner)
            .and_then(|()| {
                connection
                    .outwards
                    .pass(&connection.inner, &connection.outer)
            });
        if passed.is_err() {
            // What has come so far is not all there was.
            reset(&connection.outer);
            reset(&connection.inner);
        }
        if passed.is_err() || connection.is_over() {
            self.connections.remove(&id);
        }
    }
}

/// Has a connection end with a reset when it is closed.
fn reset(socket: &TcpStream) {
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

fn keep_alive(socket: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(socket, KEEP_ALIVE)?;
    Ok(())
}

/// Begins a connection without waiting for it.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&fd, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(fd)),
        Err(error) => Err(error.into()),
    }
}
