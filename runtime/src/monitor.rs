//! The one small process beside each container: serves its filesystem, owns its first process, its streams and its end.
//!
//! The starter executes the program itself again with a socket as standard input and the lock file, already locked, as
//! standard output, and sends a [`Spec`]. The monitor unshares a mount namespace, mounts the union in it, makes the
//! cgroup and clones the init stage, all with one thread; then it starts the threads that serve the filesystem and
//! lets the stage go on. When the command runs it answers the starter, whose socket becomes the first client, and goes
//! into its loop ([`serving`]). At the end it records how the container ended, takes its traces away, gives the lock
//! back, and only then tells the clients.
//!
//! Killed at any point it leaves: the container's processes (the kernel kills the first with it, the cgroup's sweep the
//! rest), its cgroup, and files in the run directory; the next command sees the free lock and clears up. The mount is
//! in no other namespace and goes by itself.

mod client;
mod devices;
pub(crate) mod journal;
mod log_file;
mod prober;
mod resting;
mod serving;
mod session;
mod sources;
mod streams;
mod trees;

pub(crate) use log_file::Entry as LogFileEntry;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use layerfs::Union;
use layerfs::Upper;
use layerfs::fuse;
use layerfs::union::Access;
use layerfs::union::Caller;
use layerfs::union::FollowLast;
use layerfs::union::NewMode;
use layerfs::union::SetAttr;
use layerfs::union::SetTime;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use serde::Deserialize;
use serde::Serialize;

use crate::Engine;
use crate::EngineConfig;
use crate::cgroup::Cgroup;
use crate::cgroup::Resources;
use crate::container::Config;
use crate::container::ContainerError;
use crate::container::ContainerId;
use crate::container::RestartPolicy;
use crate::container::announce;
use crate::container::liveness::Alive;
use crate::container::liveness::RunPaths;
use crate::container::merge_env;
use crate::frame;
use crate::frame::Kind;
use crate::network::NetworkError;
use crate::network::NetworkId;
use crate::network::join::Joined;
use crate::network::live::Live;
use crate::network::live::Wanted;
use crate::sandbox;
use crate::sandbox::Capabilities;
use crate::sandbox::Device;
use crate::sandbox::Namespaces;
use crate::sandbox::Opened;
use crate::sandbox::Plan;
use crate::sandbox::Process;
use crate::sandbox::Stdio;
use crate::sandbox::TreeMount;
use crate::sandbox::Whose;
use crate::sandbox::helper::Helper;
use crate::sandbox::message;
use crate::sys;

use client::Client;
use client::Role;
use serving::Parts;
use serving::Serving;
use streams::Streams;

/// The program's argument that makes it a monitor.
pub const ARGUMENT: &str = "container-monitor";

/// What the starter wants started.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// The engine's directories.
    pub(crate) root: PathBuf,
    pub(crate) run: PathBuf,
    pub(crate) id: String,
    pub(crate) config: Config,
    /// Which streams the starter attaches.
    pub(crate) attach: [bool; 3],
    /// The terminal's rows and columns.
    pub(crate) size: (u16, u16),
    /// Whether the container has never run.
    pub(crate) is_first: bool,
    /// Whether the starter only wants to know that it runs.
    pub(crate) detached: bool,
    /// The container's name, for its events.
    pub(crate) name: String,
    /// The options of the volumes that have some.
    pub(crate) volumes: DriverOptions,
    /// What a build's step is shown.
    pub(crate) shown: sandbox::Shown,
    pub(crate) again: Again,
    /// Its places on its networks.
    pub(crate) joined: Vec<Joined>,
    /// What tells it of the containers it is linked to.
    pub(crate) link_env: Vec<String>,
}

/// The options of volumes, by their names.
pub(crate) type DriverOptions = BTreeMap<String, BTreeMap<String, String>>;

/// What a monitor that begins anew goes on with.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Again {
    /// How often the container was restarted.
    pub(crate) count: u32,
    /// How long the last restart was waited for.
    pub(crate) delay: Option<Duration>,
    /// The descriptor of the listening socket; none if nobody ran before.
    listener: Option<RawFd>,
    /// The descriptors that keep the bridges of its networks.
    holds: Vec<RawFd>,
    /// The descriptor of the host's mounts, if the container shares some of its own with them.
    host_mounts: Option<RawFd>,
    clients: Vec<client::HandedOver>,
}

impl Again {
    /// Returns what a monitor begins with that nobody ran before, after so many restarts.
    pub(crate) fn after(count: u32) -> Again {
        Again {
            count,
            ..Again::default()
        }
    }
}

impl Spec {
    fn engine(&self) -> EngineConfig {
        EngineConfig {
            root: self.root.clone(),
            run: self.run.clone(),
        }
    }

    fn container_dir(&self) -> PathBuf {
        self.root.join("containers").join(&self.id)
    }

    fn id(&self) -> ContainerId {
        ContainerId(self.id.clone())
    }

    fn wanted<'a>(&'a self, id: &'a ContainerId) -> Wanted<'a> {
        Wanted {
            root: &self.root,
            run: &self.run,
            id,
            name: &self.name,
            config: &self.config,
        }
    }

    fn announce(&self, action: &str, more: &[(&str, String)]) {
        announce(
            &self.run,
            action,
            &self.id(),
            &self.name,
            &self.config,
            more,
        );
    }

    /// Tells what becomes of the container's volumes: `mount`, `unmount`.
    fn announce_volumes(&self, action: &str) {
        for (mount, volume) in self.config.volume_mounts() {
            let mut more = vec![("container", self.id.clone())];
            if action == "mount" {
                more.extend([
                    ("destination", mount.target.display().to_string()),
                    ("propagation", String::new()),
                    ("read/write", (!mount.read_only).to_string()),
                ]);
            }
            crate::volume::emit(&self.run, action, &volume.name, &more);
        }
    }

    /// Has further runs do without a network.
    fn leave(&mut self, network: &NetworkId) {
        let left = self.joined.extract_if(.., |joined| joined.is_on(network));
        for joined in left {
            self.config.networks.retain(|it| it.network != joined.name);
        }
    }

    fn update(&mut self, resources: &Resources, restart: Option<RestartPolicy>) {
        self.config.resources = resources.clone();
        if let Some(restart) = restart {
            self.config.restart = restart;
        }
    }
}

/// Why the container cannot be: Docker's exit code and words.
#[derive(Debug)]
struct Failure {
    code: u8,
    words: String,
}

impl Failure {
    /// Returns the payload of [`Kind::Failed`].
    fn payload(&self) -> Vec<u8> {
        let mut payload = vec![self.code];
        payload.extend_from_slice(self.words.as_bytes());
        payload
    }
}

fn failed<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Failure {
    move |error| Failure {
        code: 125,
        words: format!("{what}: {error}"),
    }
}

/// Runs as a container's monitor until the container ends.
pub fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            log::error!("monitor: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    sys::open_files::allow_all();
    let (starter, lock) = take_descriptors()?;
    // The starter may be a shell's job: its terminal's signals are not for the monitor.
    let _ = rustix::process::setsid();
    let Some((Kind::Spec, spec)) = frame::read(&starter)? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut spec: Spec = serde_json::from_slice(&spec)?;
    let again = std::mem::take(&mut spec.again.clients);
    // SAFETY: the monitor before this one has left them open for us, and nobody else knows of them.
    let mut clients = again
        .into_iter()
        .map(|handed| unsafe { Client::taken_over(handed) })
        .collect::<io::Result<Vec<_>>>()?;
    // SAFETY: as before.
    let bridges = std::mem::take(&mut spec.again.holds)
        .into_iter()
        .map(|hold| unsafe { sys::fds::adopt(hold) })
        .collect::<io::Result<Vec<_>>>()?;
    let is_again = spec.again.listener.is_some();
    let parts = match start(&mut spec) {
        Ok(parts) => parts,
        Err(failure) if is_again => {
            fail_again(&spec, &failure, clients);
            return Ok(());
        }
        Err(failure) => {
            let answer = frame::encode(Kind::Failed, &failure.payload());
            rustix::io::write(&starter, &answer)?;
            return Ok(());
        }
    };
    // Its networks keep them themselves now.
    drop(bridges);
    spec.announce_volumes("mount");
    spec.announce("start", &[]);
    if !is_again {
        let starter = Client::starter(UnixStream::from(OwnedFd::from(starter)), &spec, parts.pid)?;
        match spec.detached {
            false => clients.push(starter),
            true => starter.finish(),
        }
    }
    Serving::new(spec, parts, clients)?.run(lock)
}

/// Records that a restart came to nothing.
fn fail_again(spec: &Spec, failure: &Failure, clients: Vec<Client>) {
    let paths = RunPaths::new(&spec.run, &spec.id());
    if let Err(error) = crate::cgroup::sweep(&spec.id) {
        log::error!("{error}");
    }
    let _ = std::fs::remove_dir(paths.root());
    let code = i32::from(failure.code);
    spec.announce("die", &[("exitCode", code.to_string())]);
    record(spec, |engine| {
        engine.record_failure(&spec.id(), code, &failure.words)
    });
    remove_traces(&paths);
    tell_end(clients, code);
}

/// Removes what says that a monitor lives, but for the lock.
fn remove_traces(paths: &RunPaths) {
    for path in [paths.socket(), paths.alive_file()] {
        if let Err(error) = std::fs::remove_file(&path) {
            log::warn!("{}: {error}", path.display());
        }
    }
}

/// Records something of the container; what is not recorded is found by the next command.
fn record(spec: &Spec, record: impl FnOnce(&Engine) -> Result<(), ContainerError>) {
    if let Err(error) = try_record(spec, record) {
        log::error!("{error}");
    }
}

/// Records something that somebody is told of.
fn try_record(
    spec: &Spec,
    record: impl FnOnce(&Engine) -> Result<(), ContainerError>,
) -> io::Result<()> {
    let engine = Engine::open(&spec.engine()).map_err(io::Error::other)?;
    record(&engine).map_err(io::Error::other)
}

/// Tells everybody who waits for it the container's end.
fn tell_end(clients: Vec<Client>, code: i32) {
    for mut client in clients {
        if matches!(client.role, Role::Attached(_) | Role::Waiting) && !client.is_gone {
            client.send(Kind::Exit, &code.to_le_bytes());
        }
        client.finish();
    }
}

/// Takes the socket and the lock from where the starter could put them without a fork of its own.
fn take_descriptors() -> io::Result<(File, File)> {
    let take = |fd: rustix::fd::BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3);
    let starter = take(rustix::stdio::stdin())?;
    let lock = take(rustix::stdio::stdout())?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok((File::from(starter), File::from(lock)))
}

fn start(spec: &mut Spec) -> Result<Parts, Failure> {
    let before = spec.again.listener.take();
    sources::go_to_host(spec).map_err(failed("enter the host's mounts"))?;
    let secrets = std::mem::take(&mut spec.shown.secrets);
    let spec = &*spec;
    let config = &spec.config;
    let paths = RunPaths::new(&spec.run, &spec.id());
    let root = paths.root();
    let union = open_union(spec)?;
    let sources = sources::open(spec, &union)?;
    let shifted = sources::to_shift(config, &sources).map_err(failed("dup"))?;
    // SAFETY: the process has one thread, and no descriptor table to share.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }
        .map_err(failed("unshare the mount namespace"))?;
    sys::mount::make_root_slave().map_err(failed("make mounts slaves"))?;
    match std::fs::create_dir(&root) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.map_err(failed(root.display()))?,
    }
    let mounted = fuse::mount(
        Arc::clone(&union),
        &root,
        &fuse::MountOptions {
            source: "ply".to_owned(),
            setuid: true,
            devices: true,
            owners: owners(config),
            ..fuse::MountOptions::default()
        },
    )
    .map_err(failed("mount the container's root"))?;
    let trees = trees::mount(spec, &paths)?;
    let shown: Vec<TreeMount> = trees.iter().map(trees::Tree::shown).collect();
    let (devices, rules) = devices::of(config)?;
    let rules = (!config.privileged).then_some(&rules);
    let cgroup = Cgroup::create(&spec.id, &config.resources, rules).map_err(|error| Failure {
        code: 125,
        words: error.to_string(),
    })?;
    let (streams, stdio) = match config.tty {
        true => {
            let (rows, columns) = spec.size;
            (Streams::default(), Stdio::Terminal { rows, columns })
        }
        false => {
            let (streams, stdio) =
                Streams::pipes(config.open_stdin).map_err(failed("make pipes"))?;
            stdio.give_to(config.first_user);
            (streams, stdio)
        }
    };
    let plan = Plan {
        trees: shown,
        secrets,
        ..plan(spec, root.clone(), &cgroup, devices, sources, stdio)?
    };
    let listener = match before {
        // SAFETY: the monitor before this one has left it open for us, and nobody else knows of it.
        Some(fd) => unsafe { sys::fds::adopt(fd) }.map(UnixListener::from),
        None => listen(&paths),
    };
    let listener = listener.map_err(failed(paths.socket().display()))?;
    let (ours, theirs) = sys::fds::packet_pair().map_err(failed("make a socket"))?;
    // SAFETY: the process has one thread: the union is served only below.
    let (pid, pidfd) = unsafe { sandbox::clone_stage(plan, cgroup.clone_into(), theirs) }
        .map_err(failed("clone the container's first process"))?;
    let stage = Stage { pidfd };
    if let Some(first) = config.first_user {
        map_users(pid, first).map_err(failed("map users"))?;
        sources::shift(pid, shifted)?;
    }
    // SAFETY: as before.
    let helper = unsafe { Helper::start(&stage.pidfd, &cgroup) }.map_err(failed("fork"))?;
    // From here on the process has several threads and clones nothing.
    let filesystem = mounted
        .spawn()
        .map_err(failed("serve the container's root"))?;
    let trees = trees
        .into_iter()
        .map(trees::Tree::serve)
        .collect::<Result<_, _>>()?;
    // Dropped before the filesystem, whose end waits until no mount namespace has it.
    let stage = stage;
    cgroup.add(pid).map_err(|error| Failure {
        code: 125,
        words: error.to_string(),
    })?;
    let network = match config.has_own_network() {
        true => Some(begin_networks(spec, pid)?),
        false => None,
    };
    rustix::io::write(&ours, &[message::GO]).map_err(failed("let the container go"))?;
    let mut handed = follow_stage(&ours)?.into_iter();
    let mut next = |what| {
        let handed = handed.next();
        handed.ok_or_else(|| failed(what)("the container's first process has not sent it"))
    };
    let container_root = next("the container's root")?;
    let pts = next("the container's devpts")?;
    let null = next("the container's null device")?;
    let streams = match config.tty {
        true => {
            let master = next("the terminal")?;
            Streams::terminal(master, true).map_err(failed("dup"))?
        }
        false => streams,
    };
    let started = Timestamp::now();
    let alive = Alive {
        pid: Some(pid),
        started,
        paused: false,
        health: None,
        published: network
            .as_ref()
            .map(|it| it.published().to_vec())
            .unwrap_or_default(),
    };
    alive
        .write(&paths)
        .map_err(failed(paths.directory.display()))?;
    Ok(Parts {
        pid,
        started,
        pidfd: stage.forget(),
        cgroup,
        _filesystem: filesystem,
        _trees: trees,
        union,
        helper,
        container_root,
        pts,
        null,
        streams,
        listener,
        paths,
        network,
    })
}

/// Makes the container's networks in the namespace of its first process.
fn begin_networks(spec: &Spec, pid: i32) -> Result<Live, Failure> {
    let id = spec.id();
    Live::begin(&spec.wanted(&id), &spec.joined, pid).map_err(|error: NetworkError| Failure {
        code: 125,
        words: error.to_string(),
    })
}

/// The stage while it may still come to nothing; dropping it kills it.
struct Stage {
    pidfd: OwnedFd,
}

impl Stage {
    fn forget(self) -> OwnedFd {
        let stage = std::mem::ManuallyDrop::new(self);
        // SAFETY: `stage` is never dropped nor used again, so the descriptor has one owner.
        unsafe { std::ptr::read(&raw const stage.pidfd) }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = sys::process::signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = sys::process::wait(self.pidfd.as_fd());
    }
}

fn open_union(spec: &Spec) -> Result<Arc<Union>, Failure> {
    let store = layerfs::Store::open(&spec.root).map_err(failed("open the layer store"))?;
    let layers = spec
        .config
        .layers
        .iter()
        .map(|layer| layer.parse().map(layerfs::DiffId))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed("the container's layers"))?;
    let stack = store
        .stack(&layers)
        .map_err(failed("open the image's layers"))?;
    let directory = spec.container_dir();
    let upper = Upper::open(&directory.join("upper"), &directory.join("work"))
        .map_err(failed("open the container's upper"))?;
    let union = Union::new(stack, Some(upper)).map_err(failed("open the container's tree"))?;
    if spec.is_first && !spec.config.of_build {
        // An image in which it cannot be written goes without.
        if let Err(error) = write_hostname(&union, &spec.config.hostname) {
            log::debug!("/etc/hostname: {error}");
        }
        if let Err(error) = write_mark(&union) {
            log::debug!("{MARK}: {error}");
        }
    }
    Ok(Arc::new(union))
}

/// By what programs see that they are in a container of an engine like Docker.
const MARK: &str = "/.dockerenv";

/// Makes the mark, once: an empty file of the container's, which it may change or remove.
fn write_mark(union: &Union) -> io::Result<()> {
    if union.resolve(MARK.as_bytes(), FollowLast::No).is_ok() {
        return Ok(());
    }
    let root = union.getattr(layerfs::Ino::ROOT)?;
    let name = MARK.trim_start_matches('/').as_bytes();
    let mode = NewMode {
        bits: 0o755,
        umask: 0,
    };
    let (_, opened) = union.create(Caller::ROOT, layerfs::Ino::ROOT, name, mode, Access::PLAIN)?;
    union.release(opened.handle);
    restore_mtime(union, layerfs::Ino::ROOT, root.mtime)
}

/// Has a directory be as old as before something of ours was put into it.
fn restore_mtime(
    union: &Union,
    directory: layerfs::Ino,
    before: layerfs::Timespec,
) -> io::Result<()> {
    let mtime = SetAttr {
        mtime: Some(SetTime::To(before)),
        ..SetAttr::default()
    };
    union.setattr(directory, &mtime)?;
    Ok(())
}

/// Writes /etc/hostname, once: a plain file of the container's, which it may change or remove.
fn write_hostname(union: &Union, hostname: &str) -> io::Result<()> {
    let etc = match union.resolve(b"/etc", FollowLast::Yes) {
        Ok(etc) => etc,
        Err(_) => union.mkdir(
            Caller::ROOT,
            layerfs::Ino::ROOT,
            b"etc",
            NewMode {
                bits: 0o755,
                umask: 0,
            },
        )?,
    };
    let opened = match union.resolve(b"/etc/hostname", FollowLast::No) {
        Ok(there) if there.attr.kind == layerfs::Kind::File => {
            let opened = union.open(there.ino, libc::O_WRONLY, Access::PLAIN)?;
            let empty = SetAttr {
                size: Some(0),
                ..SetAttr::default()
            };
            union.setattr(there.ino, &empty)?;
            opened
        }
        Ok(_) => return Ok(()),
        Err(_) => {
            let mode = NewMode {
                bits: 0o644,
                umask: 0,
            };
            union
                .create(Caller::ROOT, etc.ino, b"hostname", mode, Access::PLAIN)?
                .1
        }
    };
    let written = union.write(opened.handle, format!("{hostname}\n").as_bytes(), 0);
    union.release(opened.handle);
    written?;
    restore_mtime(union, etc.ino, etc.attr.mtime)
}

fn plan(
    spec: &Spec,
    root: PathBuf,
    cgroup: &Cgroup,
    devices: Vec<Device>,
    sources: Vec<Option<OwnedFd>>,
    stdio: Stdio,
) -> Result<Plan, Failure> {
    let config = &spec.config;
    // Who shares another's network knows the same names.
    let directory = match config.shares_network_of() {
        Some(id) => spec.root.join("containers").join(id),
        None => spec.container_dir(),
    };
    let files = ["hosts", "resolv.conf"]
        .map(|name| (directory.join(name), Path::new("/etc").join(name)))
        .to_vec();
    let opened = match config.first_user {
        Some(first) => Some(open_for(first, &root, &files)?),
        None => None,
    };
    Ok(Plan {
        opened,
        root,
        read_only: config.read_only,
        hostname: config.hostname.clone(),
        domainname: config.domainname.clone(),
        files,
        mounts: config.mounts.clone(),
        sources,
        shm_size: (config.ipc_mode != "none").then_some(config.shm_size),
        sysctls: config.sysctls.clone().into_iter().collect(),
        privileged: config.privileged,
        has_masks: config.has_masks(),
        cgroups: cgroup.joined(),
        process: Process {
            env: merge_env(&merge_env(&own_env(config), &spec.link_env), &config.env),
            ..process(config)?
        },
        oom_score_adj: config.oom_score_adj,
        devices,
        namespaces: Namespaces {
            net: whose(spec, &config.network_mode)?,
            pid: whose(spec, &config.pid_mode)?,
            ipc: whose(spec, &config.ipc_mode)?,
            uts: whose(spec, &config.uts_mode)?,
            cgroup: whose(spec, &config.cgroupns_mode)?,
        },
        stdio,
        init: config.init,
        trees: Vec::new(),
        secrets: Vec::new(),
    })
}

/// Returns the variables that every container has, unless its image or its maker says otherwise.
fn own_env(config: &Config) -> Vec<String> {
    let mut env = vec![
        format!("PATH={}", sandbox::DEFAULT_PATH),
        format!("HOSTNAME={}", config.hostname),
    ];
    if config.tty {
        env.push("TERM=xterm".to_owned());
    }
    env
}

/// Returns how the owners of files are shown: the host's numbers of the container's users. What the host's root makes
/// is the container's root's.
fn owners(config: &Config) -> fuse::Owners {
    let Some(first) = config.first_user else {
        return fuse::Owners::default();
    };
    let range = |shown, count| fuse::IdRange {
        shown,
        stored: 0,
        count,
    };
    let map = fuse::IdMap::Ranges(vec![range(first, sandbox::USERS), range(0, 1)]);
    fuse::Owners {
        users: map.clone(),
        groups: map,
    }
}

/// Says which users of the host's those of a new user namespace are.
fn map_users(pid: i32, first: u32) -> io::Result<()> {
    let map = format!("0 {first} {}", sandbox::USERS);
    std::fs::write(format!("/proc/{pid}/uid_map"), &map)?;
    std::fs::write(format!("/proc/{pid}/gid_map"), &map)
}

/// Opens what a stage in a user namespace may not reach, and gives it the files of ours.
fn open_for(first: u32, root: &Path, files: &[(PathBuf, PathBuf)]) -> Result<Opened, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root_fd = rustix::fs::open(root, flags, Mode::empty())
        .map_err(io::Error::from)
        .and_then(|fd| sys::mount::clone_tree(fd.as_fd(), false))
        .map_err(failed(root.display()))?;
    let mut opened = Opened {
        root: root_fd,
        files: Vec::new(),
    };
    for (source, _) in files {
        std::os::unix::fs::chown(source, Some(first), Some(first))
            .map_err(failed(source.display()))?;
        let file = sandbox::open_file(source).map_err(failed(source.display()))?;
        opened.files.push(file);
    }
    Ok(opened)
}

/// Returns whose namespace `mode` means.
fn whose(spec: &Spec, mode: &str) -> Result<Whose, Failure> {
    match (mode, mode.strip_prefix("container:")) {
        ("host", _) => Ok(Whose::Host),
        (_, Some(id)) => {
            let paths = RunPaths::new(&spec.run, &ContainerId(id.to_owned()));
            let short = id.get(..12).unwrap_or(id);
            first_process(&paths)
                .map(Whose::Of)
                .map_err(failed(format!("join container {short}")))
        }
        _ => Ok(Whose::Own),
    }
}

/// Asks a container's monitor for its first process.
fn first_process(paths: &RunPaths) -> io::Result<OwnedFd> {
    let stream = ask(paths, &frame::Request::Process)?;
    let mut fds = Vec::new();
    let mut head = [0; 5];
    sys::fds::receive(&stream, &mut head, &mut fds)?;
    fds.pop().ok_or_else(|| io::Error::other("it does not run"))
}

/// Returns the container's command and what it may do.
fn process(config: &Config) -> Result<Process, Failure> {
    let capabilities = Capabilities::of_flags(config.privileged, &config.cap_add, &config.cap_drop)
        .map_err(|error| Failure {
            code: 125,
            words: error.to_string(),
        })?;
    let filter = match config.seccomp_profile() {
        _ if config.is_unconfined() => None,
        None => Some(sandbox::seccomp::default_filter(capabilities)),
        Some(profile) => {
            let filter = sandbox::seccomp::filter_of(profile, capabilities);
            Some(filter.map_err(|words| Failure { code: 125, words })?)
        }
    };
    Ok(Process {
        arguments: config.arguments(),
        env: merge_env(&own_env(config), &config.env),
        working_dir: config.working_dir.clone(),
        user: config.user.clone(),
        group_add: config.group_add.clone(),
        capabilities,
        no_new_privileges: config.no_new_privileges(),
        filter,
        limits: config.ulimits.clone(),
        in_user_namespace: config.first_user.is_some(),
    })
}

/// Listens at the socket's path, by way of its directory: the path may be longer than an address holds.
fn listen(paths: &RunPaths) -> io::Result<UnixListener> {
    let _ = std::fs::remove_file(paths.socket());
    let directory = File::open(&paths.directory)?;
    let listener = UnixListener::bind(short_path(&directory))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Connects to the monitor of the container with these traces and asks it something.
pub(crate) fn ask(paths: &RunPaths, request: &frame::Request) -> io::Result<UnixStream> {
    let stream = connect(paths)?;
    io::Write::write_all(&mut &stream, &frame::encode_json(Kind::Request, request)?)?;
    Ok(stream)
}

fn connect(paths: &RunPaths) -> io::Result<UnixStream> {
    let directory = File::open(&paths.directory)?;
    UnixStream::connect(short_path(&directory))
}

fn short_path(directory: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}/sock", directory.as_raw_fd()))
}

/// Hears the stage out until the command runs; returns the descriptors it handed over.
fn follow_stage(stage: &OwnedFd) -> Result<Vec<OwnedFd>, Failure> {
    let mut handed = Vec::new();
    let mut buffer = vec![0; message::LONGEST];
    loop {
        let count = sys::fds::receive(stage, &mut buffer, &mut handed)
            .map_err(failed("hear from the container's first process"))?;
        match buffer[..count] {
            // The exec has closed the socket; or the stage was killed, which its end will tell.
            [] => return Ok(handed),
            [message::ROOT] => {}
            [message::FAILED, code, ref words @ ..] => {
                return Err(Failure {
                    code,
                    words: String::from_utf8_lossy(words).into_owned(),
                });
            }
            _ => return Err(failed("the container's first process")("nonsense")),
        }
    }
}

impl Client {
    /// Makes the starter the first client, told that the container runs.
    fn starter(stream: UnixStream, spec: &Spec, pid: i32) -> io::Result<Client> {
        let mut client = Client::new(stream)?;
        client.send(Kind::Started, &pid.to_le_bytes());
        if !spec.detached {
            client.attach(spec.attach);
        }
        Ok(client)
    }
}
