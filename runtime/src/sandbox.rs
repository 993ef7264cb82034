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
pub(crate) use mounts::duplicate;
pub(crate) use mounts::open_source;
pub(crate) use paths::MASKED;
pub(crate) use paths::READ_ONLY;
pub(crate) use program::DEFAULT_PATH;

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or directory of the host, with what is mounted below it.
    Bind(PathBuf),
    /// A fresh tmpfs with these of `mount(8)`'s options.
    Tmpfs(String),
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
}

/// A container's network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// A loopback interface of its own and nothing else.
    #[default]
    None,
    /// The host's.
    Host,
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
#[derive(Debug)]
pub(crate) struct Plan {
    /// Where the union is mounted, in the monitor's mount namespace.
    pub(crate) root: PathBuf,
    pub(crate) read_only: bool,
    pub(crate) hostname: String,
    pub(crate) domainname: String,
    pub(crate) network: Network,
    /// Files of ours bound over the image's: `/etc/hosts` and its like.
    pub(crate) files: Vec<(PathBuf, PathBuf)>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) shm_size: u64,
    pub(crate) privileged: bool,
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
    /// Those of `Plan::mounts`, in theirs; a tmpfs has none.
    pub(crate) mounts: Vec<Option<OwnedFd>>,
}

impl Opened {
    fn fds(&self) -> impl Iterator<Item = &OwnedFd> {
        let mounts = self.mounts.iter().flatten();
        self.files.iter().chain(mounts).chain([&self.root])
    }
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
        | namespaces.uts.flag(libc::CLONE_NEWUTS)
        | namespaces.ipc.flag(libc::CLONE_NEWIPC);
    let own_pids = match &namespaces.pid {
        Whose::Of(pidfd) => Some(join_pids(pidfd)?),
        _ => None,
    };
    if plan.network == Network::None {
        flags |= libc::CLONE_NEWNET;
    }
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
            if let Whose::Of(pidfd) = &plan.namespaces.ipc {
                kept.push(pidfd.as_raw_fd());
            }
            if let Some(opened) = &plan.opened {
                kept.extend(opened.fds().map(AsRawFd::as_raw_fd));
            }
            // SAFETY: the owners of what is closed live in the parent; their copies here are never used nor dropped.
            unsafe { sys::fds::close_all_but(kept) };
            stage::run(plan, theirs)
        }
    }
}
