//! Network namespaces: doing something inside another one.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::thread::LinkNameSpaceType;

/// Opens the network namespace of a process.
pub(crate) fn of_process(pid: i32) -> io::Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/net");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Does something in a network namespace, on a thread of its own: whatever happens, the caller stays where it is.
/// Sockets that are opened there belong to the namespace for good.
pub(crate) fn inside<T: Send>(
    namespace: BorrowedFd<'_>,
    act: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let acting = scope.spawn(|| {
            rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
            act()
        });
        let ended = acting.join();
        ended.unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    })
}
