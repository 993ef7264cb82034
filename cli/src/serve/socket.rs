//! A connection's socket, of whatever family.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;

/// A stream socket that several threads may read from and write to. Nothing in it is particular to the Unix family: the
/// standard library's type is the one that is made of any descriptor.
#[derive(Debug, Clone)]
pub(super) struct Socket(Arc<UnixStream>);

impl Socket {
    /// Takes a connected stream socket.
    pub(super) fn new(socket: impl Into<OwnedFd>) -> Socket {
        Socket(Arc::new(UnixStream::from(socket.into())))
    }

    /// Bounds each wait for input; `None` waits for ever.
    pub(super) fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(patience)
    }

    /// Ends one direction, or both.
    pub(super) fn shutdown(&self, how: Shutdown) {
        // The other end may have gone before.
        let _ = self.0.shutdown(how);
    }

    /// Returns whether the client has closed its end. Only for exchanges in which a client that has sent its request
    /// has nothing more to say: one that has ended its input only looks the same.
    pub(super) fn is_gone(&self) -> bool {
        self.polled(
            PollFlags::RDHUP,
            PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR,
            Some(Duration::ZERO),
        )
    }

    /// Waits until the client has closed its end, but not for long.
    pub(super) fn wait_until_gone(&self, patience: Duration) {
        self.polled(
            PollFlags::RDHUP,
            PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR,
            Some(patience),
        );
    }

    /// Returns whether both directions have ended.
    pub(super) fn has_hung_up(&self) -> bool {
        let ended = PollFlags::HUP | PollFlags::ERR;
        self.polled(PollFlags::empty(), ended, Some(Duration::ZERO))
    }

    /// Waits until both directions have ended.
    pub(super) fn wait_for_hangup(&self) {
        while !self.polled(
            PollFlags::empty(),
            PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL,
            None,
        ) {}
    }

    fn polled(&self, asked: PollFlags, wanted: PollFlags, patience: Option<Duration>) -> bool {
        let mut polled = [PollFd::new(&*self.0, asked)];
        let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
        let _ = rustix::event::poll(&mut polled, patience.as_ref());
        polled[0].revents().intersects(wanted)
    }
}

impl Read for &Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(buffer)
    }
}

impl Write for &Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
