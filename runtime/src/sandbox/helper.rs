//! The helper: what the later processes of a container are cloned from.
//!
//! The monitor has many threads once it serves, and clones nothing then. So before that it leaves this copy of itself
//! with one thread, which knows the container's first process and cgroup, holds nothing else, and waits for orders. It
//! is the parent of what it clones, tells of its end, and dies with the monitor; what it cloned dies with it.
//!
//! An order is a number with descriptors: a file with an [`Order`] as JSON, a socket on which the process's id and then
//! a failure are told (its end of file means that the command runs), and the three streams.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::fs::MemfdFlags;
use rustix::process::DumpableBehavior;
use rustix::process::Signal;
use rustix::thread::ThreadNameSpaceType;
use serde::Deserialize;
use serde::Serialize;

use crate::cgroup;
use crate::cgroup::Cgroup;
use crate::sys;
use crate::sys::process::Cloned;

use super::Process;
use super::message;
use super::stage;
use super::stage::Failure;
use super::stage::failed;

/// The monitor's hold on its helper. Dropping it ends the helper and all that it cloned.
#[derive(Debug)]
pub(crate) struct Helper {
    socket: OwnedFd,
    pid: rustix::process::Pid,
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What is to be cloned.
#[derive(Debug, Serialize, Deserialize)]
struct Order<P> {
    process: P,
    /// The v1 groups it belongs in, which may have changed since the helper began.
    groups: Vec<PathBuf>,
}

/// The end of a process that the helper cloned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The order's number.
    pub(crate) number: u32,
    /// Its exit code, or 128 and its signal.
    pub(crate) code: i32,
}

impl Helper {
    /// Leaves a copy of the calling process as the helper of the container with this first process.
    ///
    /// # Safety
    ///
    /// The process must have one thread only.
    pub(crate) unsafe fn start(container: &OwnedFd, cgroup: &Cgroup) -> io::Result<Helper> {
        let (ours, theirs) = sys::fds::packet_pair()?;
        // SAFETY: one thread, as the caller promises; the child never returns from `serve`.
        match unsafe { sys::process::fork() }? {
            0 => {
                let kept = [&theirs, container]
                    .into_iter()
                    .map(AsRawFd::as_raw_fd)
                    .chain(cgroup.clone_into().iter().map(AsRawFd::as_raw_fd))
                    .collect();
                // SAFETY: the owners of what is closed live in the parent; their copies are never used nor dropped.
                unsafe { sys::fds::close_all_but(kept) };
                serve(&theirs, container, cgroup)
            }
            pid => Ok(Helper {
                socket: ours,
                pid: rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?,
            }),
        }
    }

    /// Has a process cloned; returns the socket on which its id is told, and by its stage a failure.
    pub(crate) fn order(
        &self,
        number: u32,
        process: &Process,
        groups: Vec<PathBuf>,
        streams: [BorrowedFd<'_>; 3],
    ) -> io::Result<OwnedFd> {
        let file = rustix::fs::memfd_create("process", MemfdFlags::CLOEXEC)?;
        let mut file = File::from(file);
        file.write_all(&serde_json::to_vec(&Order { process, groups })?)?;
        file.rewind()?;
        let (ours, theirs) = sys::fds::packet_pair()?;
        let [stdin, stdout, stderr] = streams;
        let fds = [file.as_fd(), theirs.as_fd(), stdin, stdout, stderr];
        sys::fds::send(&self.socket, &number.to_le_bytes(), &fds)?;
        Ok(ours)
    }

    /// Kills the process with this number, if it runs.
    pub(crate) fn kill(&self, number: u32) -> io::Result<()> {
        sys::fds::send(&self.socket, &number.to_le_bytes(), &[]).map(|_| ())
    }

    /// Ends the helper and waits until it is gone.
    pub(crate) fn finish(&self) {
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        let _ = rustix::process::waitpid(Some(self.pid), rustix::process::WaitOptions::empty());
    }

    /// Returns what tells that [`Helper::ended`] has something.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Returns the next process that has ended, without waiting for it.
    pub(crate) fn ended(&self) -> io::Result<Option<Ended>> {
        let mut bytes = [0; 8];
        let flags = rustix::net::RecvFlags::DONTWAIT;
        match rustix::net::recv(&self.socket, &mut bytes, flags) {
            Ok((_, 8)) => {
                let [a, b, c, d, e, f, g, h] = bytes;
                Ok(Some(Ended {
                    number: u32::from_le_bytes([a, b, c, d]),
                    code: i32::from_le_bytes([e, f, g, h]),
                }))
            }
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Takes orders until the monitor is gone.
fn serve(monitor: &OwnedFd, container: &OwnedFd, cgroup: &Cgroup) -> ! {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // Its clones are so from their first moment: the container's processes see them before they are one of them.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let mut children: Vec<(u32, OwnedFd)> = Vec::new();
    loop {
        let mut polled: Vec<PollFd<'_>> = [monitor]
            .into_iter()
            .chain(children.iter().map(|(_, pidfd)| pidfd))
            .map(|fd| PollFd::new(fd, PollFlags::IN))
            .collect();
        if rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, None)).is_err() {
            sys::process::exit_immediately(1);
        }
        let ready: Vec<bool> = polled
            .iter()
            .map(|polled| !polled.revents().is_empty())
            .collect();
        let mut at = 0;
        children.retain(|(number, pidfd)| {
            at += 1;
            !ready[at] || !tell_end(monitor, *number, pidfd)
        });
        if ready[0] {
            children.extend(obey(monitor, &children, container, cgroup));
        }
    }
}

/// Reaps a child and tells the monitor; returns whether it has ended.
fn tell_end(monitor: &OwnedFd, number: u32, pidfd: &OwnedFd) -> bool {
    let Ok(code) = sys::process::wait(pidfd.as_fd()) else {
        return false;
    };
    let [a, b, c, d] = number.to_le_bytes();
    let [e, f, g, h] = code.to_le_bytes();
    let _ = sys::fds::send(monitor, &[a, b, c, d, e, f, g, h], &[]);
    true
}

/// Takes an order; returns its number and the new process. One without descriptors is to kill.
fn obey(
    monitor: &OwnedFd,
    children: &[(u32, OwnedFd)],
    container: &OwnedFd,
    cgroup: &Cgroup,
) -> Option<(u32, OwnedFd)> {
    let mut number = [0; 4];
    let mut fds = Vec::new();
    match sys::fds::receive(monitor, &mut number, &mut fds) {
        Ok(4) => {}
        // The monitor is gone.
        _ => sys::process::exit_immediately(0),
    }
    let number = u32::from_le_bytes(number);
    if fds.is_empty() {
        for (_, pidfd) in children.iter().filter(|(child, _)| *child == number) {
            let _ = sys::process::signal(pidfd.as_fd(), libc::SIGKILL);
        }
        return None;
    }
    let Ok([process, stage, stdin, stdout, stderr]) = <[OwnedFd; 5]>::try_from(fds) else {
        return None;
    };
    let streams = [stdin, stdout, stderr];
    let mut json = Vec::new();
    let cloned = File::from(process)
        .read_to_end(&mut json)
        .and_then(|_| Ok(serde_json::from_slice(&json)?))
        .map_err(failed("read the command"))
        .and_then(|order| clone(&order, &stage, &streams, container, cgroup));
    match cloned {
        Ok(pidfd) => Some((number, pidfd)),
        Err(failure) => {
            stage::tell_failure(&stage, &failure);
            None
        }
    }
}

fn clone(
    order: &Order<Process>,
    stage: &OwnedFd,
    streams: &[OwnedFd; 3],
    container: &OwnedFd,
    cgroup: &Cgroup,
) -> Result<OwnedFd, Failure> {
    // Of a process that makes no namespace, only its children are meant.
    rustix::thread::move_into_thread_name_spaces(
        container.as_fd(),
        ThreadNameSpaceType::PROCESS_ID,
    )
    .map_err(failed("setns"))?;
    let (go, say_go) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed("pipe"))?;
    // SAFETY: the helper has one thread; the child ends in its command or at once.
    match unsafe { sys::process::clone(0, cgroup.clone_into()) }.map_err(failed("clone"))? {
        Cloned::Parent { pid, pidfd } => {
            if let Err(error) = cgroup::join(&order.groups, pid) {
                let _ = sys::process::signal(pidfd.as_fd(), libc::SIGKILL);
                let _ = sys::process::wait(pidfd.as_fd());
                return Err(failed("join the cgroup")(io::Error::other(error)));
            }
            let [a, b, c, d] = pid.to_le_bytes();
            let told = sys::fds::send(stage, &[message::CLONED, a, b, c, d], &[]);
            told.map_err(failed("tell of the command"))?;
            rustix::io::write(&say_go, &[message::GO]).map_err(failed("let the command go"))?;
            Ok(pidfd)
        }
        Cloned::Child => {
            let kept = [stage, container, &go]
                .into_iter()
                .chain(streams)
                .map(AsRawFd::as_raw_fd)
                .collect();
            // SAFETY: the owners of what is closed live in the parent; their copies are never used nor dropped.
            unsafe { sys::fds::close_all_but(kept) };
            let failure = match enter(&order.process, streams, container, &go) {
                Ok(never) => match never {},
                Err(failure) => failure,
            };
            stage::tell_failure(stage, &failure);
            sys::process::exit_immediately(i32::from(failure.code))
        }
    }
}

/// Goes into the container and becomes the command.
fn enter(
    process: &Process,
    streams: &[OwnedFd; 3],
    container: &OwnedFd,
    go: &OwnedFd,
) -> Result<Infallible, Failure> {
    stage::die_with_the_monitor()?;
    stage::wait_for_go(go)?;
    let has_users = process.in_user_namespace;
    let users = match has_users {
        true => ThreadNameSpaceType::USER,
        false => ThreadNameSpaceType::empty(),
    };
    let namespaces = users
        | ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::CONTROL_GROUP;
    rustix::thread::move_into_thread_name_spaces(container.as_fd(), namespaces)
        .map_err(failed("setns"))?;
    if has_users {
        stage::become_root()?;
    }
    rustix::process::setsid().map_err(failed("setsid"))?;
    let identity = stage::identify(process)?;
    stage::become_command(process, streams, &identity, None)
}
