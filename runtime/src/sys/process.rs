//! Making processes, signalling them, and what they inherit.

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// `CLONE_INTO_CGROUP` of `<linux/sched.h>`; libc's constant does not fit its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The two sides of a clone.
pub(crate) enum Cloned {
    /// In the caller: the new process's id and a descriptor of it.
    Parent { pid: i32, pidfd: OwnedFd },
    /// In the new process.
    Child,
}

/// Clones the calling process into the namespaces of `flags` and, where given, the v2 cgroup.
///
/// # Safety
///
/// The process must have one thread only: then no lock is held by a thread that the copy lacks, and the child (which
/// has its own memory) may allocate. The child must end in exec or `exit_immediately`, never return to its caller.
pub(crate) unsafe fn clone(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all zeroes is a valid `clone_args`.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags | libc::CLONE_PIDFD as u64;
    arguments.pidfd = (&raw mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM and with no stack given the child goes on on a copy of this stack, as after fork.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match super::check(result)? {
        0 => Ok(Cloned::Child),
        pid => Ok(Cloned::Parent {
            pid: pid as i32,
            // SAFETY: the kernel has just made the descriptor for us.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// Has a program that is to be run end when the thread that runs it does, however that ends, and make files that all may
/// read.
pub(crate) fn of_ours(command: &mut Command) -> &mut Command {
    let prepare = || {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        let signal = Some(rustix::process::Signal::TERM);
        Ok(rustix::process::set_parent_process_death_signal(signal)?)
    };
    // SAFETY: between fork and exec there are two system calls, which neither allocate nor lock.
    unsafe { command.pre_exec(prepare) }
}

/// Ends the process at once: no destructor, no exit handler.
pub(crate) fn exit_immediately(code: i32) -> ! {
    // SAFETY: _exit may be called at any time.
    unsafe { libc::_exit(code) }
}

/// Sends a signal to the process a descriptor stands for.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is passed but a null siginfo.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    super::check(result)?;
    Ok(())
}

/// Sends a signal to a process by number; only for children that have not been waited for and for cgroups' lists.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill passes no memory.
    super::check(libc::c_long::from(unsafe { libc::kill(pid, signal) }))?;
    Ok(())
}

/// Waits for the child and returns Docker's exit code: its own, or 128 and its signal.
pub(crate) fn wait(pidfd: BorrowedFd<'_>) -> io::Result<i32> {
    loop {
        // SAFETY: all zeroes is a valid `siginfo_t`.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is writable; P_PIDFD takes a descriptor.
        let result = unsafe {
            libc::waitid(
                libc::P_PIDFD,
                pidfd.as_raw_fd() as libc::id_t,
                &raw mut info,
                libc::WEXITED,
            )
        };
        match super::check(libc::c_long::from(result)) {
            // SAFETY: waitid has filled the child's fields.
            Ok(_) => return Ok(exit_code(info.si_code, unsafe { info.si_status() })),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn exit_code(code: i32, status: i32) -> i32 {
    match code {
        libc::CLD_EXITED => status,
        _ => 128 + status,
    }
}

/// Reaps a child that has ended; `None` when there is none now. For an init that reaps what is left to it.
pub(crate) fn wait_any() -> Option<(i32, i32)> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is writable.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid > 0 {
            let code = match libc::WIFEXITED(status) {
                true => libc::WEXITSTATUS(status),
                false => 128 + libc::WTERMSIG(status),
            };
            return Some((pid, code));
        }
        if pid == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
}

/// Forks a single-threaded process: `0` in the child.
///
/// # Safety
///
/// As for [`clone`].
pub(crate) unsafe fn fork() -> io::Result<i32> {
    // SAFETY: the caller has one thread.
    Ok(super::check(libc::c_long::from(unsafe { libc::fork() }))? as i32)
}

/// Blocks every signal of the calling thread.
pub(crate) fn block_signals() {
    // SAFETY: a zeroed set is filled before it is used.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Gives every signal its default action and unblocks all: what a program expects to be started with.
pub(crate) fn reset_signals() {
    // SAFETY: a zeroed `sigaction`, the C library's or the kernel's of at most 32 bytes, is SIG_DFL without flags;
    // numbers that are no signal are refused without effect.
    unsafe {
        let action: libc::sigaction = std::mem::zeroed();
        for signal in 1..=64 {
            if signal != libc::SIGKILL && signal != libc::SIGSTOP {
                libc::sigaction(signal, &raw const action, std::ptr::null_mut());
            }
        }
        // The C library keeps two for itself, and refuses to touch them.
        let action = [0_u64; 4];
        for signal in [32, 33] {
            let nothing = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), nothing, 8);
        }
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Waits for the next signal of the blocked set and returns its number.
pub(crate) fn next_signal() -> i32 {
    // SAFETY: the set is filled before it is used; sigwaitinfo may be given no info.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::sigwaitinfo(&raw const set, std::ptr::null_mut())
    }
}

/// Drops a capability from the bounding set of the calling thread.
pub(crate) fn drop_bounding(capability: u8) -> io::Result<()> {
    // SAFETY: prctl with integers.
    let result = unsafe {
        libc::prctl(
            libc::PR_CAPBSET_DROP,
            libc::c_ulong::from(capability),
            0,
            0,
            0,
        )
    };
    super::check(libc::c_long::from(result))?;
    Ok(())
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets the calling thread's effective, permitted and inheritable capabilities, as bit sets.
pub(crate) fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = CapabilityHeader {
        version: VERSION_3,
        pid: 0,
    };
    let half = |shift: u32| CapabilityData {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: the header and the two data structures are those of version 3.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    super::check(result)?;
    Ok(())
}

/// Replaces the process by a program.
///
/// # Safety
///
/// `arguments` and `environment` are arrays of C strings that end with a null pointer.
pub(crate) unsafe fn exec(
    program: &std::ffi::CStr,
    arguments: &[*const libc::c_char],
    environment: &[*const libc::c_char],
) -> io::Error {
    // SAFETY: as the caller promises.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Returns the resource that Docker's `--ulimit` calls by this name.
pub(crate) fn resource(name: &str) -> Option<u32> {
    Some(match name {
        "as" => libc::RLIMIT_AS,
        "core" => libc::RLIMIT_CORE,
        "cpu" => libc::RLIMIT_CPU,
        "data" => libc::RLIMIT_DATA,
        "fsize" => libc::RLIMIT_FSIZE,
        "locks" => libc::RLIMIT_LOCKS,
        "memlock" => libc::RLIMIT_MEMLOCK,
        "msgqueue" => libc::RLIMIT_MSGQUEUE,
        "nice" => libc::RLIMIT_NICE,
        "nofile" => libc::RLIMIT_NOFILE,
        "nproc" => libc::RLIMIT_NPROC,
        "rss" => libc::RLIMIT_RSS,
        "rtprio" => libc::RLIMIT_RTPRIO,
        "rttime" => libc::RLIMIT_RTTIME,
        "sigpending" => libc::RLIMIT_SIGPENDING,
        "stack" => libc::RLIMIT_STACK,
        _ => return None,
    })
}

/// Sets a limit of the calling process.
pub(crate) fn set_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `limit` is read only.
    let result = unsafe { libc::setrlimit(resource as _, &raw const limit) };
    super::check(libc::c_long::from(result))?;
    Ok(())
}
