//! Scheduling policies of this process's threads (`sched(7)`).

use std::io;

use rustix::thread::Pid;

/// Lets a thread run only where nothing else wants to (`SCHED_IDLE`).
pub(crate) fn run_when_idle(thread: Pid) -> io::Result<()> {
    set_policy(thread, libc::SCHED_IDLE)
}

/// Lets a thread run like any other (`SCHED_OTHER`). Coming from `SCHED_IDLE` takes CAP_SYS_NICE.
pub(crate) fn run_normally(thread: Pid) -> io::Result<()> {
    set_policy(thread, libc::SCHED_OTHER)
}

/// Returns whether a thread is `SCHED_IDLE`.
#[cfg(test)]
pub(crate) fn runs_when_idle(thread: Pid) -> bool {
    // SAFETY: the call takes a number and touches no memory of ours.
    unsafe { libc::sched_getscheduler(thread.as_raw_nonzero().get()) == libc::SCHED_IDLE }
}

/// Returns whether a thread can become `SCHED_IDLE` and come back, by doing it in a new one.
pub(crate) fn may_run_when_idle() -> bool {
    let trial = std::thread::Builder::new().spawn(|| {
        let own = rustix::thread::gettid();
        run_when_idle(own).and_then(|()| run_normally(own)).is_ok()
    });
    trial.is_ok_and(|trial| trial.join().unwrap_or(false))
}

fn set_policy(thread: Pid, policy: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    let thread = thread.as_raw_nonzero().get();
    // SAFETY: `parameters` lives across the call, which only reads it.
    match unsafe { libc::sched_setscheduler(thread, policy, &parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
