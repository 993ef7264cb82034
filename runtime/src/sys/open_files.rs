//! How many files a process may have open.
//!
//! Who serves a filesystem has a descriptor for each file that is open in it, so the shell's limit, which keeps programs
//! off numbers that `select(2)` cannot take, would bound the container's files too. A server takes what it may have
//! (`getrlimit(2)`: the hard limit); monitors and containers get back what the server was started with.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

use super::process::set_limit;

/// The soft limit that the process was started with and the hard one, once it has taken all of it.
static STARTED_WITH: OnceLock<(u64, u64)> = OnceLock::new();

/// Has this process open as many files as it may; at the worst as many as before.
pub fn allow_all() {
    let Ok((soft, hard)) = limit() else {
        return;
    };
    if set_limit(libc::RLIMIT_NOFILE, hard, hard).is_ok() {
        let _ = STARTED_WITH.set((soft, hard));
    }
}

/// Gives the calling process, a copy of one that has taken all, its limit back.
pub(crate) fn as_before() -> io::Result<()> {
    match STARTED_WITH.get() {
        Some((soft, hard)) => set_limit(libc::RLIMIT_NOFILE, *soft, *hard),
        None => Ok(()),
    }
}

/// Has a program be started with the limit that this process was started with.
pub(crate) fn start_as_before(command: &mut Command) {
    // SAFETY: between fork and exec there is one system call, and no memory is allocated.
    unsafe { command.pre_exec(as_before) };
}

/// Returns how many files this process may have open.
pub(crate) fn allowed() -> usize {
    const LEAST: u64 = 256;
    limit().map_or(LEAST, |(soft, _)| soft) as usize
}

fn limit() -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is writable.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    super::check(libc::c_long::from(result))?;
    Ok((limit.rlim_cur, limit.rlim_max))
}
