//! Terminals of a container's own devpts, by descriptors only: no path of the container's is followed.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;

use crate::sys;

/// Opens a terminal of so many rows and columns, where they are known: its master, and its own end.
pub(crate) fn open(
    pts: BorrowedFd<'_>,
    (rows, columns): (u16, u16),
) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::openat(pts, "ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    if rows > 0 && columns > 0 {
        let _ = sys::terminal::set_size(&master, rows, columns);
    }
    Ok((master, terminal))
}
