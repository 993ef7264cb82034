//! Networks: their rows, the addresses on them, and how a container is put on one.
//!
//! A network is a row of `state.db`; the bridge that makes it real on the host appears with the first container that
//! runs on it and goes with the last ([`bridge`]). What a container *wants* (names, addresses, ports) is part of its
//! configuration ([`Attachment`], [`port::Publish`]); what it *has* while it runs is a row of `endpoints`, which the
//! starter adds and whoever sees the container's end takes away ([`rows`]). The container's monitor makes the devices
//! ([`endpoint`]), the rules ([`firewall`]), serves names ([`names`]) and passes on what no rule can
//! ([`proxy`], [`outlet`]).

mod announce;
pub(crate) mod bridge;
mod connect;
mod create;
pub(crate) mod device;
pub(crate) mod dns;
pub(crate) mod endpoint;
mod error;
pub(crate) mod files;
pub(crate) mod firewall;
mod inspect;
pub(crate) mod join;
mod list;
pub(crate) mod live;
pub(crate) mod names;
mod outlet;
mod pool;
pub mod port;
pub(crate) mod proxy;
mod refusal;
mod remove;
pub(crate) mod rows;
mod subnet;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

pub use connect::ConnectOptions;
pub use create::NetworkOptions;
pub use error::NetworkError;
pub use list::NetworkFilter;
pub use port::Publish;
pub(crate) use rows::SCHEMA;
pub use subnet::Subnet;

/// The name of the network that a container is on if nothing is said.
pub const DEFAULT: &str = "bridge";

/// A network's name for good: 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NetworkId(pub(crate) String);

impl NetworkId {
    pub(crate) fn random() -> NetworkId {
        let bytes: [u8; 32] = rand::random();
        NetworkId(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Returns all 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first 12 digits.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What makes a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A bridge of its own on the host.
    Bridge,
    /// The host's own devices.
    Host,
    /// Nothing but a loopback device.
    Null,
    /// Devices with addresses of their own on one of the host's.
    Macvlan,
    /// Devices that share one of the host's and its hardware address.
    Ipvlan,
}

impl Driver {
    /// Returns Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Host => "host",
            Driver::Null => "null",
            Driver::Macvlan => "macvlan",
            Driver::Ipvlan => "ipvlan",
        }
    }

    fn parse(name: &str) -> Option<Driver> {
        Some(match name {
            "" | "bridge" => Driver::Bridge,
            "host" => Driver::Host,
            "null" | "none" => Driver::Null,
            "macvlan" => Driver::Macvlan,
            "ipvlan" => Driver::Ipvlan,
            _ => return None,
        })
    }
}

/// A range of addresses and who has those that are no container's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The range.
    pub subnet: Subnet,
    /// The host's address in it, and the containers' way out.
    pub gateway: Option<IpAddr>,
    /// The part that containers' addresses are taken from.
    pub range: Option<Subnet>,
    /// Addresses that are somebody else's.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// Whether the engine has chosen it, and may choose another one while nobody is on the network.
    #[serde(default)]
    pub is_chosen: bool,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its name for good.
    pub id: NetworkId,
    /// Its name for people.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// What it is.
    pub config: NetworkConfig,
}

/// What a network's row says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// What makes it.
    pub driver: Driver,
    /// Its addresses: at most one range of each family is used.
    #[serde(default)]
    pub pools: Vec<Pool>,
    /// Whether there is no way out of it.
    #[serde(default)]
    pub internal: bool,
    /// Whether it has addresses of IPv6.
    #[serde(default)]
    pub ipv6: bool,
    /// Whether containers may be connected by hand where services are.
    #[serde(default)]
    pub attachable: bool,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `-o`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl Network {
    /// Returns whether it was there before anybody made a network.
    pub fn is_predefined(&self) -> bool {
        matches!(self.name.as_str(), "bridge" | "host" | "none")
    }

    /// Returns whether containers find each other on it by name.
    pub fn has_names(&self) -> bool {
        !self.is_predefined()
    }

    pub(crate) fn pool(&self, is_ipv6: bool) -> Option<&Pool> {
        let mut pools = self.config.pools.iter();
        pools.find(|pool| pool.subnet.is_ipv6() == is_ipv6)
    }

    /// Returns what an option says, if it is given and not empty.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        let value = self.config.options.get(name);
        value.map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// What a container is to have on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// The network's name or id; once the container is made, its name.
    pub network: String,
    /// What else the container is called there.
    pub aliases: Vec<String>,
    /// The address of IPv4 it must have.
    pub ipv4: Option<Ipv4Addr>,
    /// The address of IPv6 it must have.
    pub ipv6: Option<Ipv6Addr>,
    /// The hardware address it must have, as `02:42:ac:11:00:02`.
    pub mac: Option<String>,
    /// Containers that it knows by other names: `container:alias`.
    pub links: Vec<String>,
}

impl Attachment {
    /// Returns what is wanted if only the network is named.
    pub fn to(network: impl Into<String>) -> Attachment {
        Attachment {
            network: network.into(),
            ..Attachment::default()
        }
    }
}
