//! The threads that answer.

use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;

use super::Names;
use super::Upstream;
use super::answer::Answer;
use super::answer::answer;
use super::forward;
use super::forward::Outcome;
use super::forward::Pending;

/// How many questions wait for servers at a time; more are told that it failed.
const MOST_PENDING: usize = 256;

/// How many clients come by TCP at a time; more are turned away.
const MOST_STREAMS: usize = 16;

/// How long a client of TCP may be silent.
const STREAM_PATIENCE: Duration = Duration::from_secs(10);

/// Threads here parse small messages.
const STACK: usize = 256 << 10;

/// Starts the thread for datagrams.
pub(super) fn start_datagrams(
    socket: UdpSocket,
    names: Arc<dyn Names>,
    upstream: Arc<Upstream>,
) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let mut datagrams = Datagrams {
        socket,
        names,
        upstream,
        pending: Vec::new(),
    };
    let thread = std::thread::Builder::new().name("dns".to_owned());
    thread.stack_size(STACK).spawn(move || {
        loop {
            if let Err(error) = datagrams.turn() {
                log::warn!("dns: {error}");
                return;
            }
        }
    })?;
    Ok(())
}

struct Datagrams {
    socket: UdpSocket,
    names: Arc<dyn Names>,
    upstream: Arc<Upstream>,
    pending: Vec<Pending>,
}

impl Datagrams {
    /// Waits for something to happen and deals with it.
    fn turn(&mut self) -> io::Result<()> {
        let ready = self.wait()?;
        let now = Instant::now();
        // From the last to the first, so that what is taken out moves nothing that is still to be looked at.
        for number in (0..self.pending.len()).rev() {
            let servers = &self.upstream.servers;
            let pending = &mut self.pending[number];
            let outcome = match ready[number + 1] {
                true => pending.receive(servers),
                false if pending.deadline <= now => pending.give_up_server(servers),
                false => Outcome::Waits,
            };
            if let Outcome::Reply(bytes, client) = outcome {
                self.pending.swap_remove(number);
                self.send(&bytes, client);
            }
        }
        match ready[0] {
            true => self.receive(),
            false => Ok(()),
        }
    }

    /// Returns which sockets have something: that of the clients, then those of what is pending.
    fn wait(&self) -> io::Result<Vec<bool>> {
        let pending = self.pending.iter().map(Pending::socket);
        let sockets = std::iter::once(&self.socket).chain(pending);
        let mut polled: Vec<_> = sockets
            .map(|socket| PollFd::new(socket, PollFlags::IN))
            .collect();
        let deadline = self.pending.iter().map(|pending| pending.deadline).min();
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec::try_from(left).unwrap_or_default()
        });
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect())
    }

    /// Answers what clients have sent.
    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; forward::LONGEST];
        // A client that never pauses must not keep the answers of servers waiting.
        for _ in 0..MOST_PENDING {
            let (length, client) = match self.socket.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(()),
                    // The client of an earlier answer is gone.
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused => continue,
                    _ => return Err(error),
                },
            };
            match answer(&buffer[..length], &*self.names, &self.upstream, true) {
                Answer::Reply(bytes) => self.send(&bytes, client),
                Answer::Nothing => {}
                Answer::Forward(question) if self.pending.len() >= MOST_PENDING => {
                    self.send(&question.failure(), client);
                }
                Answer::Forward(question) => {
                    match Pending::ask(question, client, &self.upstream.servers) {
                        Ok(pending) => self.pending.push(pending),
                        Err(failure) => self.send(&failure, client),
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends a reply; a client that cannot have it asks again.
    fn send(&self, bytes: &[u8], client: SocketAddr) {
        if let Err(error) = self.socket.send_to(bytes, client) {
            log::debug!("dns: {client}: {error}");
        }
    }
}

/// Starts the thread that takes clients of TCP.
pub(super) fn start_streams(
    listener: TcpListener,
    names: Arc<dyn Names>,
    upstream: Arc<Upstream>,
) -> io::Result<()> {
    let count = Arc::new(AtomicUsize::new(0));
    let thread = std::thread::Builder::new().name("dns-tcp".to_owned());
    thread.stack_size(STACK).spawn(move || {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    take_client(stream, &count, &names, &upstream);
                }
                Err(error) if is_about_one_client(&error) => {}
                Err(error) => {
                    log::warn!("dns: {error}");
                    return;
                }
            }
        }
    })?;
    Ok(())
}

/// Returns whether accept(2) failed because of who came, not of the listener.
fn is_about_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// One of the clients that come by TCP.
struct Place(Arc<AtomicUsize>);

impl Place {
    /// Takes a place unless all are taken.
    fn take(count: &Arc<AtomicUsize>) -> Option<Place> {
        let place = Place(Arc::clone(count));
        (count.fetch_add(1, Ordering::Relaxed) < MOST_STREAMS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn take_client(
    stream: TcpStream,
    count: &Arc<AtomicUsize>,
    names: &Arc<dyn Names>,
    upstream: &Arc<Upstream>,
) {
    let Some(place) = Place::take(count) else {
        return;
    };
    let (names, upstream) = (Arc::clone(names), Arc::clone(upstream));
    let thread = std::thread::Builder::new().name("dns-client".to_owned());
    let spawned = thread.stack_size(STACK).spawn(move || {
        let _place = place;
        if let Err(error) = serve_client(stream, &*names, &upstream) {
            log::debug!("dns: {error}");
        }
    });
    if let Err(error) = spawned {
        log::debug!("dns: {error}");
    }
}

/// Answers a client's questions until it ends or falls silent.
fn serve_client(mut stream: TcpStream, names: &dyn Names, upstream: &Upstream) -> io::Result<()> {
    stream.set_read_timeout(Some(STREAM_PATIENCE))?;
    stream.set_write_timeout(Some(STREAM_PATIENCE))?;
    loop {
        let bytes = match forward::read_message(&mut stream) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let reply = match answer(&bytes, names, upstream, false) {
            Answer::Reply(reply) => reply,
            Answer::Forward(question) => forward::ask_by_stream(&question, &upstream.servers),
            Answer::Nothing => return Ok(()),
        };
        forward::write_message(&mut stream, &reply)?;
    }
}
