//! What the store asks of the kernel: early writeback and one flush for a whole layer.

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

/// Starts writing a range of a file to the disk without waiting for it (`sync_file_range(2)`).
pub(crate) fn start_writeback(file: BorrowedFd<'_>, offset: u64, length: u64) {
    // SAFETY: the descriptor is open for the call; the call touches no memory of ours. A failure only means that the
    // later flush has more to do.
    unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            offset as i64,
            length as i64,
            libc::SYNC_FILE_RANGE_WRITE,
        );
    }
}

/// Writes everything of the filesystem that `file` is on to the disk (`syncfs(2)`).
pub(crate) fn sync_filesystem(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call; the call touches no memory of ours.
    match unsafe { libc::syncfs(file.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
