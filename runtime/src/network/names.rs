//! Names for a container: the sockets at 127.0.0.11 in its network namespace, and what the engine knows of names.
//!
//! The sockets have ports of their own, to which a rule in the container's namespace leads: port 53 is the container's.
//! Every question looks at `state.db`, so what connects, goes or is renamed is known at once. Other names are asked of
//! the host's servers, from the host's network; or of those that were given with `--dns`, from the container's.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::dns;
use super::dns::Upstream;
use super::endpoint::Inside;
use super::files;
use super::firewall;
use super::live::Wanted;
use super::rows;
use crate::container::Config;
use crate::sys::netns;

/// Where containers find their server of names.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

const PORT: u16 = 53;

/// What a container's questions are answered from.
#[derive(Debug)]
pub(crate) struct Names {
    database: PathBuf,
    db: Mutex<Option<Connection>>,
    container: String,
    /// The other names that it knows containers by, and theirs.
    links: Mutex<BTreeMap<String, String>>,
}

/// Starts to serve names in a container's namespace.
pub(super) fn serve(
    wanted: &Wanted<'_>,
    inside: &Inside,
    has_way_out: bool,
) -> io::Result<Arc<Names>> {
    let config = wanted.config;
    let names = Arc::new(Names {
        database: wanted.root.join("state.db"),
        db: Mutex::new(None),
        container: wanted.id.as_str().to_owned(),
        links: Mutex::new(links(config)),
    });
    let own: Vec<IpAddr> = config.dns.iter().filter_map(|it| it.parse().ok()).collect();
    let is_own = !own.is_empty();
    let servers = match (is_own, has_way_out) {
        (true, _) => own,
        (false, true) => files::servers_of_host(),
        (false, false) => Vec::new(),
    };
    let upstream = Upstream {
        servers: servers
            .into_iter()
            .map(|it| SocketAddr::new(it, PORT))
            .collect(),
        keeps_single_labels: false,
    };
    let open = || {
        let udp = UdpSocket::bind((SERVER, 0))?;
        let tcp = TcpListener::bind((SERVER, 0))?;
        firewall::lead_to_names(SERVER, udp.local_addr()?.port(), tcp.local_addr()?.port())?;
        Ok((udp, tcp))
    };
    let served = Arc::clone(&names);
    // A thread stays in the namespace that it was begun in, and asks from there.
    match is_own {
        true => netns::inside(inside.namespace(), || {
            let (udp, tcp) = open()?;
            dns::serve(udp, tcp, served, upstream)
        })?,
        false => {
            let (udp, tcp) = netns::inside(inside.namespace(), open)?;
            dns::serve(udp, tcp, served, upstream)?;
        }
    }
    Ok(names)
}

/// Returns the other names that a container knows others by.
fn links(config: &Config) -> BTreeMap<String, String> {
    let links = config
        .networks
        .iter()
        .flat_map(|attachment| &attachment.links);
    links
        .map(|link| link.split_once(':').unwrap_or((link, link)))
        .map(|(container, alias)| (alias.to_ascii_lowercase(), container.to_ascii_lowercase()))
        .collect()
}

impl Names {
    /// Takes note of a change of what the container wants.
    pub(super) fn update(&self, config: &Config) {
        *self.links.lock() = links(config);
    }

    fn with_db<T>(&self, ask: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Option<T> {
        let mut db = self.db.lock();
        if db.is_none() {
            match crate::state::open(&self.database) {
                Ok(opened) => *db = Some(opened),
                Err(error) => log::error!("{}: {error}", self.database.display()),
            }
        }
        let asked = db.as_ref().map(ask)?;
        asked.map_err(|error| log::error!("state.db: {error}")).ok()
    }
}

impl dns::Names for Names {
    fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let linked = self.links.lock().get(name).cloned();
        let name = linked.as_deref().unwrap_or(name);
        let found = self.with_db(|db| rows::addresses_of_name(db, &self.container, name))?;
        let addresses = found.into_iter().flat_map(|(ipv4, ipv6)| {
            let ipv4 = ipv4.map(IpAddr::V4);
            ipv4.into_iter().chain(ipv6.map(IpAddr::V6))
        });
        let addresses: Vec<IpAddr> = addresses.collect();
        (!addresses.is_empty()).then_some(addresses)
    }

    fn name_of(&self, address: IpAddr) -> Option<String> {
        self.with_db(|db| rows::name_of_address(db, &self.container, address))?
    }
}
