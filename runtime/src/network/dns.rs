//! The resolver that a container finds at 127.0.0.11: the names of its networks, and the host's servers for all others.
//!
//! One thread answers datagrams ([`server`]): a name of the engine's at once ([`answer`]), any other when one of the
//! host's servers has ([`forward`]); it never waits for one of them. Clients that come by TCP, which ask again what was
//! cut off, have a thread each, and there are few of these at a time. What a container sends is hostile: it is parsed by
//! a library, and everything that it can make wait is bounded.

mod answer;
mod forward;
mod server;

use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::UdpSocket;
use std::sync::Arc;

/// What the engine knows of names.
pub(crate) trait Names: Send + Sync {
    /// Returns the addresses of a name, lower case and without the last dot; `None` is not a name of the engine's, and
    /// an empty list is one that has no address at the moment.
    fn addresses(&self, name: &str) -> Option<Vec<IpAddr>>;

    /// Returns the name of an address.
    fn name_of(&self, address: IpAddr) -> Option<String>;
}

/// Who is asked for all other names, in this order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upstream {
    /// The servers; without one, every other name is an error.
    pub(crate) servers: Vec<SocketAddr>,
    /// Whether names without a dot are not asked for: the container's resolv.conf sets `ndots`, so it asks again with a
    /// search domain.
    pub(crate) keeps_single_labels: bool,
}

/// Answers what arrives at these sockets, from now until the process ends.
pub(crate) fn serve(
    datagrams: UdpSocket,
    streams: TcpListener,
    names: Arc<dyn Names>,
    upstream: Upstream,
) -> std::io::Result<()> {
    let upstream = Arc::new(upstream);
    server::start_streams(streams, Arc::clone(&names), Arc::clone(&upstream))?;
    server::start_datagrams(datagrams, names, upstream)
}

#[cfg(test)]
mod tests;
