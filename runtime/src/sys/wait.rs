//! Waiting for several descriptors at once.

use std::io;

use rustix::event::PollFd;
use rustix::event::Timespec;

/// Waits until something can be done with one of the descriptors, or for this long; returns whose they are with which
/// something can. `sources` says whose each of `polled` is.
pub(crate) fn ready<S>(
    sources: Vec<S>,
    mut polled: Vec<PollFd<'_>>,
    patience: Option<Timespec>,
) -> io::Result<Vec<S>> {
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, patience.as_ref()))?;
    Ok(sources
        .into_iter()
        .zip(&polled)
        .filter(|(_, polled)| !polled.revents().is_empty())
        .map(|(source, _)| source)
        .collect())
}
