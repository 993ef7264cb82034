//! The system calls that the safe crates lack, each with a safe signature where one can be had.

pub(crate) mod bpf;
pub(crate) mod executable;
pub(crate) mod fds;
pub(crate) mod lock;
pub(crate) mod mount;
pub(crate) mod net;
pub(crate) mod netfilter;
pub(crate) mod netlink;
pub(crate) mod netns;
pub(crate) mod open_files;
pub(crate) mod process;
pub(crate) mod seccomp;
pub(crate) mod terminal;
pub(crate) mod wait;

use std::io;

/// Turns the -1 of a C call into its error.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}
