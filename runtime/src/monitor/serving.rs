//! The monitor's loop while the container runs, and the container's end.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use layerfs::Union;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use super::Spec;
use super::client::Client;
use super::client::Role;
use super::journal::Journal;
use super::log_file::LogFile;
use super::prober::Due;
use super::prober::Prober;
use super::resting::Resting;
use super::session::Begun;
use super::session::Session;
use super::session::Surroundings;
use super::streams;
use super::streams::Streams;
use crate::cgroup::Cgroup;
use crate::cgroup::OomWatch;
use crate::container::ContainerError;
use crate::container::End;
use crate::container::ExecOptions;
use crate::container::liveness::Alive;
use crate::container::liveness::RunPaths;
use crate::container::restart_delay;
use crate::frame;
use crate::frame::Kind;
use crate::frame::Request;
use crate::network::Attachment;
use crate::network::NetworkId;
use crate::network::join::Joined;
use crate::network::live::Ended as EndedNetworks;
use crate::network::live::Live;
use crate::network::port::Published;
use crate::sandbox::Process;
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
    pub(super) started: Timestamp,
    pub(super) pidfd: OwnedFd,
    pub(super) cgroup: Cgroup,
    /// Kept for its threads.
    pub(super) _filesystem: layerfs::fuse::Serving,
    /// Likewise, of a build's step.
    pub(super) _trees: Vec<layerfs::fuse::Serving>,
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
    /// None if it shares another's.
    pub(super) network: Option<Live>,
}

pub(super) struct Serving {
    spec: Spec,
    parts: Parts,
    log: LogFile,
    clients: Vec<Client>,
    sessions: Vec<Session>,
    /// The container's command and what it may do, once a further one was wanted: its filter is compiled once.
    process: Option<Process>,
    /// The number of the last session.
    last_session: u32,
    helper_is_gone: bool,
    prober: Option<Prober>,
    began: Instant,
    is_paused: bool,
    /// Whether a person has asked the container to end.
    stopped: bool,
    exit: Option<i32>,
    ooms: Option<OomWatch>,
    /// How often it was told that the container has run out of memory.
    told_ooms: u64,
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
    Firewall,
    Memory,
}

fn until(time: Instant) -> Duration {
    time.saturating_duration_since(Instant::now())
}

impl Serving {
    pub(super) fn new(spec: Spec, parts: Parts, clients: Vec<Client>) -> io::Result<Serving> {
        let directory = spec.container_dir();
        let prober = Prober::new(&spec.config, directory.join("health"));
        let log = &spec.config.log;
        let journal = match log.driver.as_str() {
            "journald" => Some(Journal::open(
                &spec.id,
                &spec.name,
                &spec.config.image,
                log.options.get("tag").map(String::as_str),
            )?),
            _ => None,
        };
        let ooms = parts.cgroup.watch_ooms();
        let serving = Serving {
            log: LogFile::open(&directory.join("log"), log, journal)?,
            prober,
            spec,
            parts,
            clients,
            sessions: Vec::new(),
            process: None,
            last_session: 0,
            helper_is_gone: false,
            began: Instant::now(),
            is_paused: false,
            stopped: false,
            exit: None,
            ooms,
            told_ooms: 0,
        };
        if serving.prober.is_some() {
            serving.write_alive();
        }
        Ok(serving)
    }

    /// Serves until the container has ended for good and everybody knows.
    pub(super) fn run(mut self, lock: File) -> io::Result<()> {
        while self.exit.is_none() {
            self.step()?;
        }
        self.drain();
        self.end_sessions();
        self.parts.helper.finish();
        if let Err(error) = self.log.finish() {
            log::warn!("log: {error}");
        }
        let mut end = End {
            code: self.exit.unwrap_or_default(),
            finished: Timestamp::now(),
            stopped: self.stopped,
            oom_killed: self.parts.cgroup.oom_kills() > 0,
        };
        let mut networks = self.take_away();
        if end.oom_killed && self.told_ooms == 0 {
            self.spec.announce("oom", &[]);
        }
        let duration = self.began.elapsed().as_secs().to_string();
        let code = ("exitCode", end.code.to_string());
        self.spec
            .announce("die", &[("execDuration", duration), code]);
        self.spec.announce_volumes("unmount");
        if self.rest(&mut end, &lock, &mut networks) {
            return Ok(());
        }
        super::remove_traces(&self.parts.paths);
        let (id, auto_remove) = (self.spec.id(), self.spec.config.auto_remove);
        super::record(&self.spec, |engine| {
            engine.record_end(&id, auto_remove, &end)
        });
        drop(lock);
        // The mount is detached and goes with the process: waiting for its threads would wait for our own descriptors.
        std::mem::forget(self.parts);
        super::tell_end(self.clients, end.code);
        if let Some(networks) = networks {
            networks.linger();
        }
        Ok(())
    }

    /// Takes the container's traces away, but for what says that its monitor lives.
    fn take_away(&mut self) -> Option<EndedNetworks> {
        let networks = self.parts.network.take().map(Live::end);
        if let Err(error) = self.parts.cgroup.remove() {
            log::error!("{error}");
        }
        let root = self.parts.paths.root();
        if let Err(error) = rustix::mount::unmount(&root, rustix::mount::UnmountFlags::DETACH) {
            log::warn!("{}: {error}", root.display());
        }
        if let Err(error) = std::fs::remove_dir(&root) {
            log::warn!("{}: {error}", root.display());
        }
        networks
    }

    /// Waits for the next run if there is one and begins it; returns whether the container's end is taken care of.
    fn rest(&mut self, end: &mut End, lock: &File, networks: &mut Option<EndedNetworks>) -> bool {
        let restart = self.spec.config.restart;
        let count = self.spec.again.count;
        if end.stopped || self.spec.config.auto_remove || !restart.wants(end.code, count) {
            return false;
        }
        let id = self.spec.id();
        let alive = Alive {
            pid: None,
            started: self.parts.started,
            paused: false,
            health: None,
            published: Vec::new(),
        };
        if let Err(error) = alive.write(&self.parts.paths) {
            log::warn!("{error}");
        }
        // Not before: whoever sees the new count sees no process of the last run.
        super::record(&self.spec, |engine| {
            engine.record_restarting(&id, end, count + 1)
        });
        // Whoever is attached or waits has seen what it came for, as with Docker's: the next run is for others.
        let is_new = |client: &Client| matches!(client.role, Role::New);
        let over = self.clients.extract_if(.., |client| !is_new(client));
        super::tell_end(over.collect(), end.code);
        let delay = restart_delay(self.spec.again.delay, self.began.elapsed());
        let mut resting = Resting {
            spec: &mut self.spec,
            clients: &mut self.clients,
            listener: &self.parts.listener,
            lock,
            networks: networks.as_mut(),
            stopped: false,
        };
        match resting.wait(delay) {
            Ok(false) => log::error!("cannot begin anew: {}", resting.execute_again(delay)),
            Ok(true) => end.stopped = true,
            Err(error) => log::error!("{error}"),
        }
        false
    }

    /// Waits for something to happen and does what it asks for.
    fn step(&mut self) -> io::Result<()> {
        let ready = self.wait()?;
        for source in ready {
            match source {
                Source::Process => {
                    self.exit = Some(sys::process::wait(self.parts.pidfd.as_fd())?);
                }
                Source::Listener => self.accept(),
                Source::Stdin => self.parts.streams.feed(),
                Source::Output(output) => {
                    self.read_output(output);
                }
                Source::Client(at) => self.serve(at),
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
                Source::Memory => self.hear_of_memory(),
                Source::Firewall => {
                    if let Some(network) = &mut self.parts.network {
                        network.firewall_changed();
                    }
                }
            }
        }
        if let Some(network) = &mut self.parts.network
            && network.retry().is_some_and(|at| at <= Instant::now())
        {
            network.firewall_changed();
        }
        self.check_health();
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
        if let Some(ooms) = &self.ooms {
            let (fd, flags) = ooms.waits();
            add(Source::Memory, fd, flags);
        }
        if let Some(firewall) = self.parts.network.as_ref().and_then(Live::firewall) {
            add(Source::Firewall, firewall, PollFlags::IN);
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
        let retry = self.parts.network.as_ref().and_then(Live::retry);
        let due = self.until_check().into_iter().chain(retry.map(until));
        let left = due.min().and_then(|left| Timespec::try_from(left).ok());
        sys::wait::ready(sources, polled, left)
    }

    /// Returns how long it is until a health check has to begin or end; `None` is for ever.
    fn until_check(&self) -> Option<Duration> {
        let prober = self.prober.as_ref().filter(|_| !self.is_paused)?;
        Some(match prober.due() {
            Due::At(time) => until(time),
            Due::Begin | Due::Kill(_) => Duration::ZERO,
        })
    }

    fn check_health(&mut self) {
        let Some(prober) = self.prober.as_mut().filter(|_| !self.is_paused) else {
            return;
        };
        match prober.due() {
            Due::At(_) => {}
            Due::Begin => {
                let exec = ExecOptions {
                    arguments: prober.command.clone(),
                    ..ExecOptions::default()
                };
                let begun = self.begin(&exec);
                let number = self.last_session;
                self.judge(|prober| {
                    prober.began(number);
                    if let Err(failure) = begun {
                        prober.hear(failure.words.as_bytes());
                        prober.end(i32::from(failure.code));
                    }
                });
            }
            Due::Kill(number) => {
                if let Err(error) = self.parts.helper.kill(number) {
                    log::warn!("kill a health check: {error}");
                }
                self.judge(Prober::is_late);
            }
        }
    }

    /// Has the prober take note of something, and tells those who watch if the container's health is another then.
    fn judge(&mut self, take_note: impl FnOnce(&mut Prober)) {
        let Some(prober) = &mut self.prober else {
            return;
        };
        let before = prober.status();
        take_note(prober);
        let status = prober.status();
        if status != before {
            self.write_alive();
            let action = format!("health_status: {}", status.as_str());
            self.spec.announce(&action, &[]);
        }
    }

    fn write_alive(&self) {
        let alive = Alive {
            pid: Some(self.parts.pid),
            started: self.parts.started,
            paused: self.is_paused,
            health: self.prober.as_ref().map(Prober::status),
            published: self.published(),
        };
        if let Err(error) = alive.write(&self.parts.paths) {
            log::warn!("{}: {error}", self.parts.paths.directory.display());
        }
    }

    fn published(&self) -> Vec<Published> {
        let network = self.parts.network.as_ref();
        network
            .map(|it| it.published().to_vec())
            .unwrap_or_default()
    }

    /// Tells that the container has run out of memory.
    fn hear_of_memory(&mut self) {
        let is_sure = self.ooms.as_ref().is_some_and(OomWatch::hear);
        let kills = self.parts.cgroup.oom_kills();
        if is_sure || kills > self.told_ooms {
            self.told_ooms = kills.max(self.told_ooms + u64::from(is_sure));
            self.spec.announce("oom", &[]);
        }
    }

    /// Makes the container's place on a further network.
    fn connect(&mut self, joined: Joined, attachment: Attachment) -> io::Result<()> {
        let network = self
            .parts
            .network
            .as_mut()
            .ok_or(io::ErrorKind::Unsupported)?;
        let id = self.spec.id();
        if self.spec.joined.iter().any(|it| it.is_on(&joined.id)) {
            // Of one who was killed before anybody heard of it.
            network.disconnect(&joined.id).map_err(io::Error::other)?;
            self.spec.leave(&joined.id);
        }
        self.spec.config.networks.push(attachment.clone());
        let connected = network
            .connect(&self.spec.wanted(&id), &joined)
            .map_err(io::Error::other)
            .and_then(|()| {
                super::try_record(&self.spec, |engine| {
                    engine.record_connected(&id, &attachment)
                })
            });
        match connected {
            Ok(()) => self.spec.joined.push(joined),
            Err(_) => {
                self.spec.config.networks.pop();
                let _ = network.disconnect(&joined.id);
            }
        }
        connected
    }

    /// Takes its place on a network away.
    fn disconnect(&mut self, id: &NetworkId) -> io::Result<()> {
        let network = self
            .parts
            .network
            .as_mut()
            .ok_or(io::ErrorKind::Unsupported)?;
        network.disconnect(id).map_err(io::Error::other)?;
        self.spec.leave(id);
        super::try_record(&self.spec, |engine| {
            engine.record_disconnected(&self.spec.id(), id)
        })
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
            Some(Begun::Started) => {
                self.announce_session("exec_start", number, &[]);
                let pid = self.session(number).map_or(0, |session| session.pid);
                self.tell(number, Kind::Started, &pid.to_le_bytes());
            }
            Some(Begun::Failed(failure)) => {
                self.tell(number, Kind::Failed, &failure.payload());
                self.sessions.retain(|session| session.number != number);
                if self.is_probe(number) {
                    self.judge(|prober| {
                        prober.hear(failure.words.as_bytes());
                        prober.end(i32::from(failure.code));
                    });
                }
            }
            None => {}
        }
    }

    fn announce_session(&mut self, action: &str, number: u32, more: &[(&str, String)]) {
        let Some(session) = self.sessions.iter().find(|it| it.number == number) else {
            return;
        };
        let mut attributes = vec![("execID", session.id.clone())];
        attributes.extend_from_slice(more);
        let action = match action {
            "exec_die" => action.to_owned(),
            action => format!("{action}: {}", session.command),
        };
        self.spec.announce(&action, &attributes);
    }

    fn is_probe(&self, number: u32) -> bool {
        self.prober
            .as_ref()
            .is_some_and(|prober| prober.is_probe(number))
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
        self.hear_whole_stage(number);
        for output in [0, 1] {
            let mut reads = 0;
            while reads < LAST_READS && self.read_session(number, output) {
                reads += 1;
            }
        }
        self.tell(number, Kind::Exit, &code.to_le_bytes());
        self.announce_session("exec_die", number, &[("exitCode", code.to_string())]);
        if self.is_probe(number) {
            self.judge(|prober| prober.end(code));
        }
        self.sessions.retain(|session| session.number != number);
    }

    /// Hears that the command runs, or why not, before anything that it says: the helper may close the stage's socket a
    /// little later than the command begins.
    fn hear_whole_stage(&mut self, number: u32) {
        while self.session(number).is_some_and(|it| it.stage.is_some()) {
            self.hear_stage(number);
        }
    }

    /// Reads from a session's output once; returns whether there may be more.
    fn read_session(&mut self, number: u32, output: usize) -> bool {
        self.hear_whole_stage(number);
        let mut buffer = [0; streams::BUFFER];
        let said = match self.session(number) {
            Some(session) => session.streams.read(output, &mut buffer),
            None => None,
        };
        let Some(count) = said else {
            return false;
        };
        match self.prober.as_mut().filter(|it| it.is_probe(number)) {
            Some(prober) => prober.hear(&buffer[..count]),
            None => self.tell(number, OUTPUTS[output], &buffer[..count]),
        }
        true
    }

    fn accept(&mut self) {
        match self.parts.listener.accept() {
            Ok((stream, _)) => self.clients.extend(Client::new(stream)),
            // No descriptors are left, and whoever waits is ready all the time.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }

    /// Reads from an output once; returns whether there may be more.
    fn read_output(&mut self, output: usize) -> bool {
        let mut buffer = [0; streams::BUFFER];
        let Some(count) = self.parts.streams.read(output, &mut buffer) else {
            return false;
        };
        let bytes = &buffer[..count];
        if let Err(error) = self.log.write(output, bytes) {
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
    fn drain(&mut self) {
        for stream in [0, 1] {
            while self.read_output(stream) {}
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

    fn serve(&mut self, at: usize) {
        self.clients[at].flush();
        let frames = self.clients[at].receive();
        for (kind, payload) in frames {
            if self.obey(at, kind, &payload).is_err() {
                self.clients[at].is_gone = true;
            }
        }
        let client = &self.clients[at];
        if client.is_gone {
            if self.spec.config.of_build && matches!(client.role, Role::Attached(_)) {
                // The build is dead, or wants no more of it.
                let _ = sys::process::signal(self.parts.pidfd.as_fd(), libc::SIGKILL);
            }
            match client.role {
                Role::Attached([true, ..]) => self.end_input(),
                Role::Executing(number) => self.end_session_input(number),
                _ => {}
            }
        }
    }

    fn obey(&mut self, at: usize, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let role = self.clients[at].role;
        match (kind, role) {
            (Kind::Request, Role::New) => {
                let request = serde_json::from_slice(payload)?;
                self.answer(at, request)?;
            }
            (Kind::Stdin, Role::Attached([true, ..])) => self.parts.streams.give(payload),
            (Kind::StdinEnd, Role::Attached([true, ..])) => self.end_input(),
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
                let number = frame::number(payload)?;
                self.stopped |= self.spec.config.is_ended_by(number);
                let _ = sys::process::signal(self.parts.pidfd.as_fd(), number);
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
    fn end_input(&mut self) {
        if self.spec.config.stdin_once && !self.spec.config.tty {
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

    /// Has a command begun as the next session.
    fn begin(&mut self, exec: &ExecOptions) -> Result<(), super::Failure> {
        self.last_session = self.last_session.wrapping_add(1);
        let process = match &mut self.process {
            Some(process) => process,
            none => none.insert(super::process(&self.spec.config)?),
        };
        let around = Surroundings {
            process,
            first_user: self.spec.config.first_user,
            helper: &self.parts.helper,
            cgroup: &self.parts.cgroup,
            pts: &self.parts.pts,
            null: &self.parts.null,
        };
        let session = Session::begin(self.last_session, exec, &around)?;
        self.sessions.push(session);
        self.announce_session("exec_create", self.last_session, &[]);
        Ok(())
    }

    /// Has a command begun for a client.
    fn execute(&mut self, at: usize, exec: &ExecOptions) {
        if self.is_paused {
            let failure = super::Failure {
                code: 125,
                words: ContainerError::Paused(self.spec.name.clone()).to_string(),
            };
            return self.clients[at].send(Kind::Failed, &failure.payload());
        }
        match self.begin(exec) {
            Ok(()) => self.clients[at].role = Role::Executing(self.last_session),
            Err(failure) => self.clients[at].send(Kind::Failed, &failure.payload()),
        }
    }

    fn pause(&mut self, pause: bool) -> io::Result<()> {
        if self.is_paused == pause {
            return Ok(());
        }
        let frozen = self.parts.cgroup.freeze(pause);
        frozen.map_err(io::Error::other)?;
        self.is_paused = pause;
        if let Some(prober) = &mut self.prober {
            prober.put_off();
        }
        self.write_alive();
        self.spec
            .announce(if pause { "pause" } else { "unpause" }, &[]);
        Ok(())
    }

    /// Sends a signal that is meant to be the container's end.
    fn stop(&mut self, number: i32) -> io::Result<()> {
        self.stopped = true;
        let sent = sys::process::signal(self.parts.pidfd.as_fd(), number);
        if self.is_paused {
            self.pause(false)?;
        }
        sent
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
            Request::Stop(number) => {
                let stopped = self.stop(number);
                self.reply(at, stopped);
            }
            Request::Pause | Request::Unpause => {
                let done = self.pause(matches!(request, Request::Pause));
                self.reply(at, done);
            }
            Request::Update(resources, restart) => {
                let updated = self.parts.cgroup.update(&self.spec.id, &resources);
                if updated.is_ok() {
                    self.spec.update(&resources, restart);
                }
                self.reply(at, updated.map_err(io::Error::other));
            }
            Request::Keep => {
                self.spec.config.auto_remove = false;
                self.reply(at, Ok(()));
            }
            Request::Rename(name) => {
                self.spec.name = name;
                self.reply(at, Ok(()));
            }
            Request::Connect(connection) => {
                let (joined, attachment) = *connection;
                let connected = self.connect(joined, attachment);
                self.reply(at, connected);
            }
            Request::Disconnect(id) => {
                let disconnected = self.disconnect(&id);
                self.reply(at, disconnected);
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
            Request::Process => {
                self.clients[at].send_with(Kind::Done, &[self.parts.pidfd.as_fd()]);
            }
            Request::Changes => {
                let changes = match self.parts.union.changes() {
                    Ok(changes) => changes.into_iter(),
                    Err(error) => {
                        self.reply(at, Err(error.into()));
                        return Ok(());
                    }
                };
                let changes: Vec<(char, Vec<u8>)> = changes
                    .map(|change| (crate::container::letter(change.kind), change.path))
                    .collect();
                self.clients[at].send(Kind::Done, &serde_json::to_vec(&changes)?);
            }
            Request::Exec(exec) => self.execute(at, &exec),
        }
        Ok(())
    }

    fn reply(&mut self, at: usize, done: io::Result<()>) {
        match done {
            Ok(()) => self.clients[at].send(Kind::Done, b""),
            Err(error) => {
                let words = format!("\u{1}{}", crate::image::words(&error));
                self.clients[at].send(Kind::Failed, words.as_bytes());
            }
        }
    }
}
