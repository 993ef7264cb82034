//! The few places where the language cannot see that it is safe.

use std::ffi::OsStr;
use std::io;
use std::os::fd::FromRawFd as _;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;

/// Takes over a descriptor that the program was started with, and keeps it from the programs that it starts.
pub(crate) fn passed_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    std::fs::symlink_metadata(format!("/proc/self/fd/{number}"))?;
    // SAFETY: it is open, is not one of the standard streams, and whoever started us says that it is ours
    // (`sd_listen_fds(3)`); the caller takes each number once, before anything else opens descriptors.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

/// Sets a variable of the environment; for the beginning of the program.
pub(crate) fn set_variable(name: &str, value: impl AsRef<OsStr>) {
    // SAFETY: it is called before a command is run, when there is one thread, so that nobody reads the environment.
    unsafe { std::env::set_var(name, value) }
}
