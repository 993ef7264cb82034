//! The monitor between two runs of its container, as a restart policy wants it, and its new beginning.
//!
//! A monitor that has served has threads and clones nothing. So for the next run it executes itself anew, which ends
//! the threads and nothing else: the lock stays locked, the socket listens, clients stay connected.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::fs::MemfdFlags;

use super::ARGUMENT;
use super::Failure;
use super::Spec;
use super::client::Client;
use super::client::Role;
use crate::container::ContainerError;
use crate::frame;
use crate::frame::Kind;
use crate::frame::Request;
use crate::network::live::Ended;
use crate::sys;

/// What outlives a run.
pub(super) struct Resting<'a> {
    pub(super) spec: &'a mut Spec,
    pub(super) clients: &'a mut Vec<Client>,
    pub(super) listener: &'a UnixListener,
    pub(super) lock: &'a File,
    /// What keeps the bridges for the next run.
    pub(super) networks: Option<&'a mut Ended>,
    /// Whether a person wants the container to stay as it is.
    pub(super) stopped: bool,
}

impl Resting<'_> {
    /// Waits, and answers clients meanwhile; returns whether a person has stopped the container.
    pub(super) fn wait(&mut self, delay: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + delay;
        while !self.stopped {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.step(left)?;
        }
        Ok(true)
    }

    fn step(&mut self, left: Duration) -> io::Result<()> {
        let mut polled = vec![PollFd::new(self.listener, PollFlags::IN)];
        for client in self.clients.iter() {
            let mut flags = PollFlags::IN;
            if client.has_outgoing() {
                flags |= PollFlags::OUT;
            }
            polled.push(PollFd::from_borrowed_fd(client.as_fd(), flags));
        }
        let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, Some(&left)))?;
        let ready: Vec<bool> = polled.iter().map(|it| !it.revents().is_empty()).collect();
        if ready[0]
            && let Ok((stream, _)) = self.listener.accept()
            && let Ok(client) = Client::new(stream)
        {
            self.clients.push(client);
        }
        for (at, _) in ready
            .iter()
            .skip(1)
            .enumerate()
            .filter(|(_, ready)| **ready)
        {
            self.clients[at].flush();
            for (kind, payload) in self.clients[at].receive() {
                if self.obey(at, kind, &payload).is_err() {
                    self.clients[at].is_gone = true;
                }
            }
        }
        self.clients.retain(|client| !client.is_gone);
        Ok(())
    }

    fn obey(&mut self, at: usize, kind: Kind, payload: &[u8]) -> io::Result<()> {
        match (kind, self.clients[at].role) {
            (Kind::Request, Role::New) => self.answer(at, serde_json::from_slice(payload)?),
            (Kind::Signal, _) => {
                self.stopped |= self.spec.config.is_ended_by(frame::number(payload)?);
            }
            (Kind::Stdin | Kind::StdinEnd | Kind::Resize, _) => {}
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        Ok(())
    }

    fn answer(&mut self, at: usize, request: Request) {
        let client = &mut self.clients[at];
        match request {
            Request::Attach(streams) => client.attach(streams),
            Request::Wait => {
                client.role = Role::Waiting;
                return;
            }
            Request::Stop(_) => self.stopped = true,
            Request::Update(resources, restart) => self.spec.update(&resources, restart),
            Request::Rename(name) => self.spec.name = name,
            Request::Keep => self.spec.config.auto_remove = false,
            Request::Connect(connection) => {
                let (joined, attachment) = *connection;
                let kept = self.networks.as_mut().map_or(Ok(()), |it| it.keep(&joined));
                if let Err(error) = kept {
                    client.send(Kind::Failed, format!("\u{1}{error}").as_bytes());
                    return;
                }
                let recorded = super::try_record(self.spec, |engine| {
                    engine.record_connected(&self.spec.id(), &attachment)
                });
                if let Err(error) = recorded {
                    client.send(Kind::Failed, format!("\u{1}{error}").as_bytes());
                    return;
                }
                self.spec.leave(&joined.id);
                self.spec.joined.push(joined);
                self.spec.config.networks.push(attachment);
            }
            Request::Disconnect(id) => {
                if let Some(networks) = &mut self.networks {
                    networks.let_go(&id);
                }
                self.spec.leave(&id);
                let recorded = super::try_record(self.spec, |engine| {
                    engine.record_disconnected(&self.spec.id(), &id)
                });
                if let Err(error) = recorded {
                    client.send(Kind::Failed, format!("\u{1}{error}").as_bytes());
                    return;
                }
            }
            Request::Resize(..) => {}
            _ => {
                let failure = Failure {
                    code: 125,
                    words: ContainerError::Restarting(self.spec.id()).to_string(),
                };
                client.send(Kind::Failed, &failure.payload());
                return;
            }
        }
        client.send(Kind::Done, b"");
    }

    /// Executes the program anew for the next run; returns only why it cannot.
    pub(super) fn execute_again(self, delay: Duration) -> io::Error {
        match self.prepare(delay) {
            Ok(mut command) => command.exec(),
            Err(error) => error,
        }
    }

    fn prepare(self, delay: Duration) -> io::Result<Command> {
        self.spec.again.count += 1;
        self.spec.again.delay = Some(delay);
        self.spec.is_first = false;
        self.spec.again.listener = Some(self.listener.as_raw_fd());
        self.spec.again.clients = self.clients.iter().map(Client::hand_over).collect();
        for hold in self.networks.iter().flat_map(|it| it.holds()) {
            sys::fds::inherit(hold)?;
            self.spec.again.holds.push(hold.as_raw_fd());
        }
        sys::fds::inherit(self.listener.as_fd())?;
        for client in self.clients.iter() {
            sys::fds::inherit(client.as_fd())?;
        }
        let spec = rustix::fs::memfd_create("spec", MemfdFlags::CLOEXEC)?;
        let mut spec = File::from(spec);
        io::Write::write_all(&mut spec, &frame::encode_json(Kind::Spec, self.spec)?)?;
        io::Seek::rewind(&mut spec)?;
        // It lies on the mount that protects it already.
        let mut command = Command::new("/proc/self/exe");
        sys::open_files::start_as_before(&mut command);
        command
            .arg0("ply")
            .arg(ARGUMENT)
            .stdin(OwnedFd::from(spec))
            .stdout(self.lock.try_clone()?);
        Ok(command)
    }
}
