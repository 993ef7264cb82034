//! Terminals: pseudo terminals' masters and slaves, window sizes.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

/// Sets the window size of the terminal.
pub(crate) fn set_size(terminal: impl AsFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = rustix::termios::Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// Makes the terminal the controlling one of the calling session leader.
pub(crate) fn make_controlling(terminal: impl AsFd) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY as _, 0) };
    super::check(libc::c_long::from(result))?;
    Ok(())
}
