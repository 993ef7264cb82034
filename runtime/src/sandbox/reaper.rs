//! `--init`: pid 1 that passes signals on to the command and reaps what is left to it.

use crate::sys;

/// Watches over `command`, the only child so far, and ends as it ends. Every signal is blocked on entry.
///
/// Nothing here allocates: the reaper lives as long as the container.
pub(super) fn run(command: i32) -> ! {
    // SAFETY: nothing of this process is used from here on but its numbers; the command has its own copies.
    unsafe { libc::close_range(0, u32::MAX, 0) };
    // What `ps` shows of it; else it is the number of the descriptor that it was executed from.
    let _ = rustix::thread::set_name(c"ply-init");
    loop {
        match sys::process::next_signal() {
            libc::SIGCHLD => reap(command),
            signal if signal > 0 => {
                let _ = sys::process::kill(command, signal);
            }
            _ => {}
        }
    }
}

/// Reaps every child that has ended; the command's end is the reaper's.
fn reap(command: i32) {
    while let Some((pid, code)) = sys::process::wait_any() {
        if pid == command {
            sys::process::exit_immediately(code);
        }
    }
}
