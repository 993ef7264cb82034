//! Open file description locks, `fcntl(2)`.
//!
//! They belong to the open file, not to a process: handed to another process with the descriptor, shared by no second
//! open, gone with the last descriptor. Unlike flock's, whether somebody holds one can be asked without taking it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

fn record(kind: libc::c_int, byte: i64) -> libc::flock {
    // SAFETY: all zeroes is a valid `flock`.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = byte;
    lock.l_len = 1;
    lock
}

fn control(file: &File, command: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
    loop {
        // SAFETY: `lock` is a valid `flock`, the descriptor is open as long as `file` is borrowed.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), command, lock as *mut libc::flock) };
        match super::check(libc::c_long::from(result)) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes the lock on `byte`; `false` if another open file has it.
pub(crate) fn try_lock(file: &File, byte: i64) -> io::Result<bool> {
    match control(file, libc::F_OFD_SETLK, &mut record(libc::F_WRLCK, byte)) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Takes the lock on `byte`, waiting for it.
pub(crate) fn lock(file: &File, byte: i64) -> io::Result<()> {
    control(file, libc::F_OFD_SETLKW, &mut record(libc::F_WRLCK, byte))
}

/// Gives the lock on `byte` back.
pub(crate) fn unlock(file: &File, byte: i64) -> io::Result<()> {
    control(file, libc::F_OFD_SETLK, &mut record(libc::F_UNLCK, byte))
}

/// Returns whether another open file holds the lock on `byte`.
pub(crate) fn is_locked(file: &File, byte: i64) -> io::Result<bool> {
    let mut lock = record(libc::F_WRLCK, byte);
    control(file, libc::F_OFD_GETLK, &mut lock)?;
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}
