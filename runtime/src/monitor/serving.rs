//! The monitor's loop while the container runs, and the container's end.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use jiff::Timestamp;
use layerfs::Union;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use super::Spec;
use super::Streams;
use super::client::Client;
use super::client::Role;
use super::log_file::LogFile;
use crate::Engine;
use crate::cgroup::Cgroup;
use crate::container::liveness::RunPaths;
use crate::frame;
use crate::frame::Kind;
use crate::frame::Request;
use crate::sys;

/// How much input waits for the container before its clients are made to wait.
const INPUT_BACKLOG: usize = 1 << 20;

/// What a start has made.
pub(super) struct Parts {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) cgroup: Cgroup,
    /// Kept for its threads.
    pub(super) _filesystem: layerfs::fuse::Serving,
    pub(super) union: Arc<Union>,
    /// The root as the container sees it.
    pub(super) container_root: Option<OwnedFd>,
    pub(super) streams: Streams,
    pub(super) listener: UnixListener,
    pub(super) paths: RunPaths,
}

pub(super) struct Serving {
    parts: Parts,
    clients: Vec<Client>,
    /// What waits for the container's standard input, and whether it ends after that.
    input: Vec<u8>,
    input_ends: bool,
    exit: Option<i32>,
}

/// Who is ready.
#[derive(Clone, Copy)]
enum Source {
    Process,
    Listener,
    Stdin,
    Output(usize),
    Client(usize),
}

impl Serving {
    pub(super) fn new(parts: Parts) -> Serving {
        Serving {
            parts,
            clients: Vec::new(),
            input: Vec::new(),
            input_ends: false,
            exit: None,
        }
    }

    /// Serves until the container has ended and everybody knows.
    pub(super) fn run(mut self, spec: Spec, starter: UnixStream, lock: File) -> io::Result<()> {
        let starter = Client::starter(starter, &spec, self.parts.pid)?;
        if !spec.detached {
            self.clients.push(starter);
        } else {
            starter.finish();
        }
        let mut log = LogFile::open(&spec.container_dir().join("log"))?;
        while self.exit.is_none() {
            self.step(&spec, &mut log)?;
        }
        self.drain(&mut log);
        let code = self.exit.unwrap_or_default();
        if let Err(error) = log.finish() {
            log::warn!("log: {error}");
        }
        self.end(&spec, code);
        drop(lock);
        // The mount is detached and goes with the process: waiting for its threads would wait for our own descriptors.
        std::mem::forget(self.parts);
        for mut client in self.clients {
            if client.role != Role::New && !client.is_gone {
                client.send(Kind::Exit, &code.to_le_bytes());
            }
            client.finish();
        }
        Ok(())
    }

    /// Waits for something to happen and does what it asks for.
    fn step(&mut self, spec: &Spec, log: &mut LogFile) -> io::Result<()> {
        let ready = self.wait()?;
        for source in ready {
            match source {
                Source::Process => {
                    self.exit = Some(sys::process::wait(self.parts.pidfd.as_fd())?);
                }
                Source::Listener => self.accept(),
                Source::Stdin => self.feed(),
                Source::Output(stream) => {
                    self.read_output(stream, log);
                }
                Source::Client(at) => self.serve(at, spec),
            }
        }
        self.clients.retain(|client| !client.is_gone);
        Ok(())
    }

    fn wait(&self) -> io::Result<Vec<Source>> {
        let mut sources = vec![Source::Process, Source::Listener];
        let mut polled = vec![
            PollFd::new(&self.parts.pidfd, PollFlags::IN),
            PollFd::new(&self.parts.listener, PollFlags::IN),
        ];
        if let Some(stdin) = &self.parts.streams.stdin
            && !self.input.is_empty()
        {
            sources.push(Source::Stdin);
            polled.push(PollFd::new(stdin, PollFlags::OUT));
        }
        let outputs = [&self.parts.streams.stdout, &self.parts.streams.stderr];
        if !self.clients.iter().any(Client::is_full) {
            for (stream, output) in outputs.into_iter().enumerate() {
                if let Some(output) = output {
                    sources.push(Source::Output(stream));
                    polled.push(PollFd::new(output, PollFlags::IN));
                }
            }
        }
        for (at, client) in self.clients.iter().enumerate() {
            let mut flags = PollFlags::empty();
            if self.input.len() < INPUT_BACKLOG {
                flags |= PollFlags::IN;
            }
            if client.has_outgoing() {
                flags |= PollFlags::OUT;
            }
            sources.push(Source::Client(at));
            polled.push(PollFd::from_borrowed_fd(client.as_fd(), flags));
        }
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, None))?;
        Ok(sources
            .into_iter()
            .zip(&polled)
            .filter(|(_, polled)| !polled.revents().is_empty())
            .map(|(source, _)| source)
            .collect())
    }

    fn accept(&mut self) {
        if let Ok((stream, _)) = self.parts.listener.accept()
            && let Ok(client) = Client::new(stream)
        {
            self.clients.push(client);
        }
    }

    /// Passes input on as far as the container takes it.
    fn feed(&mut self) {
        let Some(stdin) = &self.parts.streams.stdin else {
            self.input.clear();
            return;
        };
        while !self.input.is_empty() {
            match rustix::io::write(stdin, &self.input) {
                Ok(count) => {
                    self.input.drain(..count);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                // Nobody reads any more.
                Err(_) => {
                    self.input.clear();
                    self.input_ends = true;
                }
            }
        }
        if self.input_ends {
            self.parts.streams.stdin = None;
        }
    }

    /// Reads from an output once; returns whether there may be more.
    fn read_output(&mut self, stream: usize, log: &mut LogFile) -> bool {
        let output = match stream {
            0 => &mut self.parts.streams.stdout,
            _ => &mut self.parts.streams.stderr,
        };
        let Some(fd) = output else {
            return false;
        };
        let mut buffer = [0; 32 << 10];
        let count = match rustix::io::read(fd, &mut buffer) {
            Err(rustix::io::Errno::INTR) => return true,
            Err(rustix::io::Errno::AGAIN) => return false,
            // A terminal whose last user is gone answers EIO.
            Ok(0) | Err(_) => {
                *output = None;
                return false;
            }
            Ok(count) => count,
        };
        let bytes = &buffer[..count];
        if let Err(error) = log.write(stream, bytes) {
            log::warn!("log: {error}");
        }
        let kind = match stream {
            0 => Kind::Stdout,
            _ => Kind::Stderr,
        };
        for client in &mut self.clients {
            if let Role::Attached(streams) = client.role
                && streams[stream + 1]
            {
                client.send(kind, bytes);
            }
        }
        true
    }

    /// Reads what the container said before its end: every process that could say more is dead.
    fn drain(&mut self, log: &mut LogFile) {
        for stream in [0, 1] {
            while self.read_output(stream, log) {}
        }
    }

    fn serve(&mut self, at: usize, spec: &Spec) {
        self.clients[at].flush();
        let frames = self.clients[at].receive();
        for (kind, payload) in frames {
            if self.obey(at, spec, kind, &payload).is_err() {
                self.clients[at].is_gone = true;
            }
        }
        let client = &self.clients[at];
        if client.is_gone && matches!(client.role, Role::Attached([true, ..])) {
            self.end_input(spec);
        }
    }

    fn obey(&mut self, at: usize, spec: &Spec, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let role = self.clients[at].role;
        let has_input = matches!(role, Role::Attached([true, ..]));
        match kind {
            Kind::Request if role == Role::New => {
                let request = serde_json::from_slice(payload)?;
                self.answer(at, request)?;
            }
            Kind::Stdin if has_input => {
                if self.parts.streams.stdin.is_some() && !self.input_ends {
                    self.input.extend_from_slice(payload);
                    self.feed();
                }
            }
            Kind::StdinEnd if has_input => self.end_input(spec),
            Kind::Stdin | Kind::StdinEnd => {}
            Kind::Signal => {
                let _ = sys::process::signal(self.parts.pidfd.as_fd(), frame::number(payload)?);
            }
            Kind::Resize => {
                let &[a, b, c, d] = payload else {
                    return Err(io::ErrorKind::InvalidData.into());
                };
                self.resize(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        Ok(())
    }

    /// Ends the standard input if it was its first client's only.
    fn end_input(&mut self, spec: &Spec) {
        if spec.config.stdin_once && !spec.config.tty {
            self.input_ends = true;
            self.feed();
        }
    }

    fn resize(&self, rows: u16, columns: u16) {
        if let Some(master) = &self.parts.streams.stdout {
            // What is not a terminal refuses.
            let _ = sys::terminal::set_size(master, rows, columns);
        }
    }

    fn answer(&mut self, at: usize, request: Request) -> io::Result<()> {
        match request {
            Request::Attach(streams) => {
                self.clients[at].attach(streams);
                self.clients[at].send(Kind::Done, b"");
            }
            Request::Wait => self.clients[at].role = Role::Waiting,
            Request::Signal(number) => {
                let sent = sys::process::signal(self.parts.pidfd.as_fd(), number);
                self.reply(at, sent);
            }
            Request::Resize(rows, columns) => {
                self.resize(rows, columns);
                self.reply(at, Ok(()));
            }
            Request::Roots => {
                // A mount of the same union that is nowhere yet: whoever gets it may look around in it or attach it.
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let root = rustix::fs::open(self.parts.paths.root(), flags, Mode::empty())?;
                let bare = sys::mount::clone_tree(root.as_fd(), false)?;
                let fds: Vec<BorrowedFd<'_>> = self
                    .parts
                    .container_root
                    .iter()
                    .map(AsFd::as_fd)
                    .chain([bare.as_fd()])
                    .collect();
                self.clients[at].send_with(Kind::Done, &fds);
            }
            Request::Changes => {
                let changes = self.parts.union.changes().map_err(io::Error::from)?;
                let changes: Vec<(char, Vec<u8>)> = changes
                    .into_iter()
                    .map(|change| (crate::container::letter(change.kind), change.path))
                    .collect();
                self.clients[at].send(Kind::Done, &serde_json::to_vec(&changes)?);
            }
        }
        Ok(())
    }

    fn reply(&mut self, at: usize, done: io::Result<()>) {
        match done {
            Ok(()) => self.clients[at].send(Kind::Done, b""),
            Err(error) => {
                let words = format!("\u{1}{error}");
                self.clients[at].send(Kind::Failed, words.as_bytes());
            }
        }
    }

    /// Takes the container's traces away and records how it ended.
    fn end(&mut self, spec: &Spec, code: i32) {
        if let Err(error) = self.parts.cgroup.remove() {
            log::error!("{error}");
        }
        let root = self.parts.paths.root();
        if let Err(error) = rustix::mount::unmount(&root, rustix::mount::UnmountFlags::DETACH) {
            log::warn!("{}: {error}", root.display());
        }
        for error in [
            std::fs::remove_dir(&root),
            std::fs::remove_file(self.parts.paths.socket()),
            std::fs::remove_file(self.parts.paths.alive_file()),
        ]
        .into_iter()
        .filter_map(Result::err)
        {
            log::warn!("{}: {error}", self.parts.paths.directory.display());
        }
        let recorded = Engine::open(&spec.engine())
            .map_err(|error| error.to_string())
            .and_then(|engine| {
                engine
                    .record_end(&spec.id(), spec.config.auto_remove, code, Timestamp::now())
                    .map_err(|error| error.to_string())
            });
        // What is not recorded is found by the next command.
        if let Err(error) = recorded {
            log::error!("{error}");
        }
    }
}
