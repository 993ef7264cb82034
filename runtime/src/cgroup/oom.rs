//! Being told that a group has run out of memory, when it happens.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::sys::eventfd::EfdFlags;
use nix::sys::eventfd::EventFd;
use rustix::event::PollFlags;

/// Becomes readable when a group has run out of memory, or may have.
#[derive(Debug)]
pub(crate) enum OomWatch {
    /// The kernel counts each time before it ends a process (cgroup v1, `memory.oom_control`).
    V1(EventFd),
    /// Counters of the group have changed (cgroup v2, `memory.events`, by `poll(2)` for what is urgent).
    V2(File),
}

impl OomWatch {
    pub(super) fn on_v1(group: &Path) -> io::Result<OomWatch> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let control = File::open(group.join("memory.oom_control"))?;
        let pair = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
        std::fs::write(group.join("cgroup.event_control"), pair)?;
        Ok(OomWatch::V1(event))
    }

    pub(super) fn on_v2(group: &Path) -> io::Result<OomWatch> {
        let watch = OomWatch::V2(File::open(group.join("memory.events"))?);
        // What was before is not told.
        watch.hear();
        Ok(watch)
    }

    /// Returns what is to be waited for.
    pub(crate) fn waits(&self) -> (BorrowedFd<'_>, PollFlags) {
        match self {
            OomWatch::V1(event) => (event.as_fd(), PollFlags::IN),
            OomWatch::V2(events) => (events.as_fd(), PollFlags::PRI),
        }
    }

    /// Takes what it has told; returns whether it was surely that.
    pub(crate) fn hear(&self) -> bool {
        match self {
            OomWatch::V1(event) => event.read().is_ok(),
            OomWatch::V2(events) => {
                let mut text = [0; 512];
                let _ = events.read_at(&mut text, 0);
                false
            }
        }
    }
}
