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
use super::client::Client;
use super::client::Role;
use super::log_file::LogFile;
use super::session::Begun;
use super::session::Session;
use super::session::Surroundings;
use super::streams;
use super::streams::Streams;
use crate::Engine;
use crate::cgroup::Cgroup;
use crate::container::liveness::RunPaths;
use crate::frame;
use crate::frame::Kind;
use crate::frame::Request;
use crate::sandbox::helper::Ended;
use crate::sandbox::helper::Helper;
use crate::sys;

/// How often a session's outputs are read after its command has ended: others may go on saying things there.
const LAST_READS: usize = 64;

/// 128 + SIGKILL.
const KILLED: i32 = 137;

/// What an output's bytes are called.
const OUTPUTS: [Kind; 2] = [Kind::Stdout, Kind::Stderr];

/// What a start has made.
pub(super) struct Parts {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) cgroup: Cgroup,
    /// Kept for its threads.
    pub(super) _filesystem: layerfs::fuse::Serving,
    pub(super) union: Arc<Union>,
    pub(super) helper: Helper,
    /// The root as the container sees it.
    pub(super) container_root: OwnedFd,
    /// The container's own devpts and null device.
    pub(super) pts: OwnedFd,
    pub(super) null: OwnedFd,
    pub(super) streams: Streams,
    pub(super) listener: UnixListener,
    pub(super) paths: RunPaths,
}

pub(super) struct Serving {
    parts: Parts,
    clients: Vec<Client>,
    sessions: Vec<Session>,
    /// The number of the last session.
    last_session: u32,
    helper_is_gone: bool,
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
    /// What is ready of the session with this number.
    Stage(u32),
    SessionStdin(u32),
    SessionOutput(u32, usize),
    Helper,
}

impl Serving {
    pub(super) fn new(parts: Parts) -> Serving {
        Serving {
            parts,
            clients: Vec::new(),
            sessions: Vec::new(),
            last_session: 0,
            helper_is_gone: false,
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
        self.end_sessions();
        self.parts.helper.finish();
        let code = self.exit.unwrap_or_default();
        if let Err(error) = log.finish() {
            log::warn!("log: {error}");
        }
        self.end(&spec, code);
        drop(lock);
        // The mount is detached and goes with the process: waiting for its threads would wait for our own descriptors.
        std::mem::forget(self.parts);
        for mut client in self.clients {
            if matches!(client.role, Role::Attached(_) | Role::Waiting) && !client.is_gone {
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
                Source::Stdin => self.parts.streams.feed(),
                Source::Output(output) => {
                    self.read_output(output, log);
                }
                Source::Client(at) => self.serve(at, spec),
                Source::Stage(number) => self.hear_stage(number),
                Source::SessionStdin(number) => {
                    if let Some(session) = self.session(number) {
                        session.streams.feed();
                    }
                }
                Source::SessionOutput(number, output) => {
                    self.read_session(number, output);
                }
                Source::Helper => self.hear_helper(),
            }
        }
        self.clients.retain(|client| !client.is_gone);
        Ok(())
    }

    fn wait(&self) -> io::Result<Vec<Source>> {
        let mut sources = Vec::new();
        let mut polled = Vec::new();
        let mut add = |source, fd, flags| {
            sources.push(source);
            polled.push(PollFd::from_borrowed_fd(fd, flags));
        };
        add(Source::Process, self.parts.pidfd.as_fd(), PollFlags::IN);
        add(Source::Listener, self.parts.listener.as_fd(), PollFlags::IN);
        let streams = &self.parts.streams;
        if let Some(stdin) = streams.hungry() {
            add(Source::Stdin, stdin.as_fd(), PollFlags::OUT);
        }
        let is_held_up =
            |client: &Client| matches!(client.role, Role::Attached(_)) && client.is_full();
        if !self.clients.iter().any(is_held_up) {
            for (output, fd) in streams.outputs() {
                add(Source::Output(output), fd.as_fd(), PollFlags::IN);
            }
        }
        for session in &self.sessions {
            let number = session.number;
            if let Some(stage) = &session.stage {
                add(Source::Stage(number), stage.as_fd(), PollFlags::IN);
            }
            if let Some(stdin) = session.streams.hungry() {
                add(Source::SessionStdin(number), stdin.as_fd(), PollFlags::OUT);
            }
            if !self.client_of(number).is_some_and(Client::is_full) {
                for (output, fd) in session.streams.outputs() {
                    let source = Source::SessionOutput(number, output);
                    add(source, fd.as_fd(), PollFlags::IN);
                }
            }
        }
        if !self.helper_is_gone {
            add(Source::Helper, self.parts.helper.as_fd(), PollFlags::IN);
        }
        for (at, client) in self.clients.iter().enumerate() {
            let mut flags = PollFlags::empty();
            let target = match client.role {
                Role::Executing(number) => self.sessions.iter().find(|it| it.number == number),
                _ => None,
            };
            if target
                .map_or(streams, |session| &session.streams)
                .has_room()
            {
                flags |= PollFlags::IN;
            }
            if client.has_outgoing() {
                flags |= PollFlags::OUT;
            }
            add(Source::Client(at), client.as_fd(), flags);
        }
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, None))?;
        Ok(sources
            .into_iter()
            .zip(&polled)
            .filter(|(_, polled)| !polled.revents().is_empty())
            .map(|(source, _)| source)
            .collect())
    }

    fn session(&mut self, number: u32) -> Option<&mut Session> {
        self.sessions
            .iter_mut()
            .find(|session| session.number == number)
    }

    fn client_of(&self, number: u32) -> Option<&Client> {
        self.clients
            .iter()
            .find(|client| client.role == Role::Executing(number))
    }

    /// Tells the session's client something, if it is still there.
    fn tell(&mut self, number: u32, kind: Kind, payload: &[u8]) {
        let role = Role::Executing(number);
        if let Some(client) = self.clients.iter_mut().find(|client| client.role == role) {
            client.send(kind, payload);
        }
    }

    fn hear_stage(&mut self, number: u32) {
        match self.session(number).and_then(Session::hear_stage) {
            Some(Begun::Started) => self.tell(number, Kind::Started, b""),
            Some(Begun::Failed(failure)) => {
                self.tell(number, Kind::Failed, &failure.payload());
                self.sessions.retain(|session| session.number != number);
            }
            None => {}
        }
    }

    fn hear_helper(&mut self) {
        loop {
            match self.parts.helper.ended() {
                Ok(Some(Ended { number, code })) => self.end_session(number, code),
                Ok(None) => return,
                // It was killed, and what it had cloned with it. The container goes on.
                Err(error) => {
                    log::warn!("the helper is gone: {error}");
                    self.helper_is_gone = true;
                    self.kill_sessions();
                    return;
                }
            }
        }
    }

    /// Passes on what the session's command has said and how it ended.
    fn end_session(&mut self, number: u32, code: i32) {
        self.hear_stage(number);
        for output in [0, 1] {
            let mut reads = 0;
            while reads < LAST_READS && self.read_session(number, output) {
                reads += 1;
            }
        }
        self.tell(number, Kind::Exit, &code.to_le_bytes());
        self.sessions.retain(|session| session.number != number);
    }

    /// Reads from a session's output once; returns whether there may be more.
    fn read_session(&mut self, number: u32, output: usize) -> bool {
        let mut buffer = [0; streams::BUFFER];
        let said = match self.session(number) {
            Some(session) => session.streams.read(output, &mut buffer),
            None => None,
        };
        if let Some(count) = said {
            self.tell(number, OUTPUTS[output], &buffer[..count]);
        }
        said.is_some()
    }

    fn accept(&mut self) {
        if let Ok((stream, _)) = self.parts.listener.accept()
            && let Ok(client) = Client::new(stream)
        {
            self.clients.push(client);
        }
    }

    /// Reads from an output once; returns whether there may be more.
    fn read_output(&mut self, output: usize, log: &mut LogFile) -> bool {
        let mut buffer = [0; streams::BUFFER];
        let Some(count) = self.parts.streams.read(output, &mut buffer) else {
            return false;
        };
        let bytes = &buffer[..count];
        if let Err(error) = log.write(output, bytes) {
            log::warn!("log: {error}");
        }
        for client in &mut self.clients {
            if let Role::Attached(streams) = client.role
                && streams[output + 1]
            {
                client.send(OUTPUTS[output], bytes);
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

    /// Tells the clients of every session that its command has been killed, if it had not ended before.
    fn end_sessions(&mut self) {
        if !self.helper_is_gone {
            self.hear_helper();
        }
        self.kill_sessions();
    }

    fn kill_sessions(&mut self) {
        let numbers: Vec<u32> = self.sessions.iter().map(|session| session.number).collect();
        for number in numbers {
            self.end_session(number, KILLED);
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
        if client.is_gone {
            match client.role {
                Role::Attached([true, ..]) => self.end_input(spec),
                Role::Executing(number) => self.end_session_input(number),
                _ => {}
            }
        }
    }

    fn obey(&mut self, at: usize, spec: &Spec, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let role = self.clients[at].role;
        match (kind, role) {
            (Kind::Request, Role::New) => {
                let request = serde_json::from_slice(payload)?;
                self.answer(at, spec, request)?;
            }
            (Kind::Stdin, Role::Attached([true, ..])) => self.parts.streams.give(payload),
            (Kind::StdinEnd, Role::Attached([true, ..])) => self.end_input(spec),
            (Kind::Stdin, Role::Executing(number)) => {
                if let Some(session) = self.session(number) {
                    session.streams.give(payload);
                }
            }
            (Kind::StdinEnd, Role::Executing(number)) => self.end_session_input(number),
            (Kind::Stdin | Kind::StdinEnd, _) => {}
            // Docker passes no signal on to a command that was executed.
            (Kind::Signal, Role::Executing(_)) => {}
            (Kind::Signal, _) => {
                let _ = sys::process::signal(self.parts.pidfd.as_fd(), frame::number(payload)?);
            }
            (Kind::Resize, role) => {
                let &[a, b, c, d] = payload else {
                    return Err(io::ErrorKind::InvalidData.into());
                };
                let streams = match role {
                    Role::Executing(number) => self.session(number).map(|it| &mut it.streams),
                    _ => Some(&mut self.parts.streams),
                };
                if let Some(streams) = streams {
                    streams.resize(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
                }
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        Ok(())
    }

    /// Ends the standard input if it was its first client's only.
    fn end_input(&mut self, spec: &Spec) {
        if spec.config.stdin_once && !spec.config.tty {
            self.parts.streams.end_input();
        }
    }

    /// Ends a session's input: its client was its only one. A terminal has no end.
    fn end_session_input(&mut self, number: u32) {
        if let Some(session) = self.session(number)
            && !session.tty
        {
            session.streams.end_input();
        }
    }

    /// Has a command begun for a client.
    fn execute(&mut self, at: usize, spec: &Spec, exec: &frame::Exec) {
        self.last_session = self.last_session.wrapping_add(1);
        let around = Surroundings {
            config: &spec.config,
            helper: &self.parts.helper,
            pts: &self.parts.pts,
            null: &self.parts.null,
        };
        match Session::begin(self.last_session, exec, &around) {
            Ok(session) => {
                self.clients[at].role = Role::Executing(session.number);
                self.sessions.push(session);
            }
            Err(failure) => self.clients[at].send(Kind::Failed, &failure.payload()),
        }
    }

    fn answer(&mut self, at: usize, spec: &Spec, request: Request) -> io::Result<()> {
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
                self.parts.streams.resize(rows, columns);
                self.reply(at, Ok(()));
            }
            Request::Roots => {
                // A mount of the same union that is nowhere yet: whoever gets it may look around in it or attach it.
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let root = rustix::fs::open(self.parts.paths.root(), flags, Mode::empty())?;
                let bare = sys::mount::clone_tree(root.as_fd(), false)?;
                let fds: [BorrowedFd<'_>; 2] = [self.parts.container_root.as_fd(), bare.as_fd()];
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
            Request::Exec(exec) => self.execute(at, spec, &exec),
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
