//! A container's walls: namespaces, root, devices, identity, capabilities, seccomp; and the step through them.
//!
//! The monitor prepares a [`Plan`], clones the *init stage* into its namespaces while it still has one thread, and
//! serves the container's filesystem; the stage ([`stage`]) builds the root from inside, gives up what it may not keep,
//! and becomes the container's command. The stage is a copy of the monitor; what it executes lies on a mount through
//! which nobody can write (CVE-2019-5736).
//!
//! The stage has its own memory, copied from a single-threaded process, so it may allocate. After the last untrusted
//! input is read it does little but system calls.

pub(crate) mod capability;
pub(crate) mod helper;
mod identity;
mod mounts;
mod paths;
mod program;
mod reaper;
mod root;
pub(crate) mod seccomp;
mod stage;
pub(crate) mod terminal;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::sys;
use crate::sys::process::Cloned;

pub use capability::Capabilities;
pub use capability::UnknownCapability;
pub(crate) use mounts::open_file;
pub(crate) use mounts::open_source;
pub use paths::MASKED;
pub use paths::READ_ONLY;
pub(crate) use program::DEFAULT_PATH;

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or directory of the host.
    Bind(Bind),
    /// A fresh tmpfs with these of `mount(8)`'s options.
    Tmpfs(String),
    /// A volume.
    Volume(VolumeMount),
}

/// A file or directory of the host, and what becomes of the mounts below it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Where it is.
    pub path: PathBuf,
    /// What is mounted on either side later on.
    pub propagation: Propagation,
    /// Whether what is mounted below it now comes along.
    pub recursion: Recursion,
    /// Whether a directory is made if nothing is there.
    pub create: bool,
}

/// Who sees mounts that are made after the start: the host's in the container (slave), and the container's on the host
/// too (shared). What is mounted below a source does as the source does, whether the word begins with `r` or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Nobody.
    #[default]
    RPrivate,
    /// As `rprivate`.
    Private,
    /// The container.
    Slave,
    /// As `slave`.
    RSlave,
    /// Both.
    Shared,
    /// As `shared`.
    RShared,
}

/// What becomes of what is mounted below a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recursion {
    /// It comes along, and is read-only with it.
    #[default]
    Enabled,
    /// It stays away.
    Disabled,
    /// It comes along, and stays as it is.
    Writable,
    /// It comes along, and must become read-only.
    Readonly,
}

/// A volume in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Its name.
    pub name: String,
    /// Whether nobody has named it: it goes with the container if that is wanted.
    pub anonymous: bool,
    /// Whether it stays empty if it is.
    pub no_copy: bool,
    /// The part of it that is shown; all of it if there is none.
    pub subpath: Option<PathBuf>,
    /// What it becomes if it is not there yet.
    pub driver_opts: BTreeMap<String, String>,
    /// Its labels then.
    pub labels: BTreeMap<String, String>,
}

/// A mount that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What it shows.
    pub source: MountSource,
    /// Where, absolute, in the container.
    pub target: PathBuf,
    /// Whether the container may only read it.
    pub read_only: bool,
    /// How it was written: `ro,z`.
    pub mode: String,
}

impl Propagation {
    /// Returns Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Propagation::RPrivate => "rprivate",
            Propagation::Private => "private",
            Propagation::Slave => "slave",
            Propagation::RSlave => "rslave",
            Propagation::Shared => "shared",
            Propagation::RShared => "rshared",
        }
    }

    /// Reads Docker's word.
    pub fn parse(word: &str) -> Option<Propagation> {
        [
            Propagation::RPrivate,
            Propagation::Private,
            Propagation::Slave,
            Propagation::RSlave,
            Propagation::Shared,
            Propagation::RShared,
        ]
        .into_iter()
        .find(|propagation| propagation.as_str() == word)
    }

    /// Returns whether the host sees the container's mounts.
    pub(crate) fn is_shared(self) -> bool {
        matches!(self, Propagation::Shared | Propagation::RShared)
    }

    /// Returns whether the container sees the host's mounts, and not the other way round.
    pub(crate) fn is_slave(self) -> bool {
        matches!(self, Propagation::Slave | Propagation::RSlave)
    }
}

/// What a build's step is shown beside its root. It is told to the monitor and written down nowhere.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Shown {
    /// Trees of layers.
    pub(crate) trees: Vec<LayerTree>,
    /// Files in memory.
    pub(crate) secrets: Vec<Secret>,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shown")
            .field("trees", &self.trees)
            .finish_non_exhaustive()
    }
}

/// A mount of what lies in a stack of layers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerTree {
    /// The diff IDs of the layers, lowest first.
    pub(crate) layers: Vec<String>,
    /// What of it is shown.
    pub(crate) path: PathBuf,
    /// Where, absolute, in the container.
    pub(crate) target: PathBuf,
    /// Whether it may be written; what is written is lost.
    pub(crate) writable: bool,
}

/// A file whose bytes are never on a disk.
#[derive(Serialize, Deserialize)]
pub(crate) struct Secret {
    pub(crate) target: PathBuf,
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A mount of a tree in the monitor's mount namespace.
#[derive(Debug)]
pub(crate) struct TreeMount {
    /// Where the tree is mounted.
    pub(crate) root: PathBuf,
    pub(crate) tree: LayerTree,
}

/// A limit of `setrlimit(2)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Docker's name: `nofile`.
    pub name: String,
    /// The limit in force.
    pub soft: u64,
    /// How far the process may raise it.
    pub hard: u64,
}

impl Limit {
    /// Returns whether there is a limit of this name.
    pub fn is_known(&self) -> bool {
        crate::sys::process::resource(&self.name).is_some()
    }
}

/// How the command's standard streams are made.
#[derive(Debug)]
pub(crate) enum Stdio {
    /// Pipes' ends; no standard input is `/dev/null`.
    Pipes {
        stdin: Option<OwnedFd>,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// A pseudo terminal of the container's own, whose master the stage sends back.
    Terminal { rows: u16, columns: u16 },
}

impl Stdio {
    /// Gives pipes to a user namespace's first user, who may open them again (`/dev/stdout`) then.
    pub(crate) fn give_to(&self, first: Option<u32>) {
        let (
            Some(first),
            Stdio::Pipes {
                stdin,
                stdout,
                stderr,
            },
        ) = (first, self)
        else {
            return;
        };
        for fd in stdin.iter().chain([stdout, stderr]) {
            give_to(fd, first);
        }
    }
}

/// Gives a pipe or terminal to a user.
pub(crate) fn give_to(fd: &OwnedFd, user: u32) {
    use rustix::fs::Gid;
    use rustix::fs::Uid;
    let _ = rustix::fs::fchown(fd, Some(Uid::from_raw(user)), Some(Gid::from_raw(user)));
}

/// A command and what it may do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) arguments: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
    pub(crate) user: String,
    pub(crate) group_add: Vec<String>,
    pub(crate) capabilities: Capabilities,
    pub(crate) no_new_privileges: bool,
    /// The compiled filter; `None` is unconfined.
    pub(crate) filter: Option<Vec<sys::seccomp::Instruction>>,
    pub(crate) limits: Vec<Limit>,
    /// Whether the container has a user namespace of its own.
    pub(crate) in_user_namespace: bool,
}

/// All the stage needs to know.
pub(crate) struct Plan {
    /// Where the union is mounted, in the monitor's mount namespace.
    pub(crate) root: PathBuf,
    pub(crate) read_only: bool,
    pub(crate) hostname: String,
    pub(crate) domainname: String,
    /// Files of ours bound over the image's: `/etc/hosts` and its like.
    pub(crate) files: Vec<(PathBuf, PathBuf)>,
    pub(crate) mounts: Vec<Mount>,
    /// What they show, in their order, attached nowhere yet; a tmpfs is the container's own to make.
    pub(crate) sources: Vec<Option<OwnedFd>>,
    pub(crate) shm_size: Option<u64>,
    /// The kernel's parameters to set in the namespaces, by their names.
    pub(crate) sysctls: Vec<(String, String)>,
    pub(crate) privileged: bool,
    /// Whether what the kernel shows of the host is hidden or read-only.
    pub(crate) has_masks: bool,
    /// Whether the container is in a v2 cgroup, and the v1 controllers whose groups it is in.
    pub(crate) cgroups: (bool, Vec<String>),
    pub(crate) process: Process,
    pub(crate) oom_score_adj: Option<i32>,
    /// The host's devices that it has.
    pub(crate) devices: Vec<Device>,
    pub(crate) namespaces: Namespaces,
    /// What a container with a user namespace cannot open itself.
    pub(crate) opened: Option<Opened>,
    pub(crate) stdio: Stdio,
    /// Whether a reaper of ours is pid 1.
    pub(crate) init: bool,
    /// What a build's step is shown.
    pub(crate) trees: Vec<TreeMount>,
    pub(crate) secrets: Vec<Secret>,
}

/// A node to make.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    /// The host's, for where nodes may not be made.
    pub(crate) host: PathBuf,
    /// Where in the container.
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) number: u64,
}

/// How many users and groups a user namespace has.
pub(crate) const USERS: u32 = 1 << 16;

/// Mounts of the host's that are attached nowhere yet, for a stage that may not reach what they show.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The root.
    pub(crate) root: OwnedFd,
    /// The sources of `Plan::files`, in their order.
    pub(crate) files: Vec<OwnedFd>,
}

/// Whose a namespace is.
#[derive(Debug)]
pub(crate) enum Whose {
    /// Its own, made for it.
    Own,
    /// The host's.
    Host,
    /// That of the container with this first process.
    Of(OwnedFd),
}

impl Whose {
    fn flag(&self, flag: libc::c_int) -> libc::c_int {
        match self {
            Whose::Own => flag,
            Whose::Host | Whose::Of(_) => 0,
        }
    }

    fn is_own(&self) -> bool {
        matches!(self, Whose::Own)
    }
}

/// Whose the namespaces are that a container may share.
#[derive(Debug)]
pub(crate) struct Namespaces {
    pub(crate) net: Whose,
    pub(crate) pid: Whose,
    pub(crate) ipc: Whose,
    pub(crate) uts: Whose,
    pub(crate) cgroup: Whose,
}

/// What the stage tells the monitor over its socket.
pub(crate) mod message {
    /// The root has been built; descriptors of the container's root, devpts and null device come along, and of the
    /// terminal's master if it has one.
    pub(crate) const ROOT: u8 = b'R';
    /// It failed: an exit code, then words. No message but the end of file means that the command runs.
    pub(crate) const FAILED: u8 = b'F';
    /// A further command's process was cloned: its id, four bytes. The helper says so.
    pub(crate) const CLONED: u8 = b'C';
    /// The monitor's word to begin.
    pub(crate) const GO: u8 = b'G';
    /// The longest message.
    pub(crate) const LONGEST: usize = 4096;
}

/// Has later clones be in another container's process namespace; returns our own to come back to.
fn join_pids(pidfd: &OwnedFd) -> std::io::Result<OwnedFd> {
    use rustix::fs::Mode;
    use rustix::fs::OFlags;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let own = rustix::fs::open("/proc/self/ns/pid", flags, Mode::empty())?;
    let kind = rustix::thread::ThreadNameSpaceType::PROCESS_ID;
    rustix::thread::move_into_thread_name_spaces(pidfd.as_fd(), kind)?;
    Ok(own)
}

/// Clones the init stage.
///
/// The stage keeps nothing of the monitor's descriptors but its streams and its end of the socket: not the lock that
/// says that the monitor lives, and not the FUSE device. (A process that holds the device itself and is killed within a
/// request to it waits for its own answer for ever.)
///
/// # Safety
///
/// The process must have one thread only.
pub(crate) unsafe fn clone_stage(
    plan: Plan,
    cgroup: Option<std::os::fd::BorrowedFd<'_>>,
    theirs: OwnedFd,
) -> std::io::Result<(i32, OwnedFd)> {
    let namespaces = &plan.namespaces;
    let mut flags = libc::CLONE_NEWNS
        | namespaces.pid.flag(libc::CLONE_NEWPID)
        | namespaces.net.flag(libc::CLONE_NEWNET)
        | namespaces.uts.flag(libc::CLONE_NEWUTS)
        | namespaces.ipc.flag(libc::CLONE_NEWIPC);
    let own_pids = match &namespaces.pid {
        Whose::Of(pidfd) => Some(join_pids(pidfd)?),
        _ => None,
    };
    if plan.opened.is_some() {
        flags |= libc::CLONE_NEWUSER;
    }
    // SAFETY: one thread, as the caller promises; the child ends in the stage.
    match unsafe { sys::process::clone(flags as u64, cgroup) }? {
        Cloned::Parent { pid, pidfd } => {
            if let Some(own) = own_pids {
                let kind = rustix::thread::LinkNameSpaceType::ProcessID;
                rustix::thread::move_into_link_name_space(own.as_fd(), Some(kind))?;
            }
            Ok((pid, pidfd))
        }
        Cloned::Child => {
            let mut kept = vec![theirs.as_raw_fd()];
            if let Stdio::Pipes {
                stdin,
                stdout,
                stderr,
            } = &plan.stdio
            {
                kept.extend(stdin.iter().chain([stdout, stderr]).map(AsRawFd::as_raw_fd));
            }
            for whose in [&plan.namespaces.ipc, &plan.namespaces.net] {
                if let Whose::Of(pidfd) = whose {
                    kept.push(pidfd.as_raw_fd());
                }
            }
            if let Some(opened) = &plan.opened {
                let fds = opened.files.iter().chain([&opened.root]);
                kept.extend(fds.map(AsRawFd::as_raw_fd));
            }
            kept.extend(plan.sources.iter().flatten().map(AsRawFd::as_raw_fd));
            // SAFETY: the owners of what is closed live in the parent; their copies here are never used nor dropped.
            unsafe { sys::fds::close_all_but(kept) };
            stage::run(plan, theirs)
        }
    }
}
