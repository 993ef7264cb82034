//! What keeps a network verb from doing what was asked.

use std::io;

use super::NetworkId;
use crate::container::ContainerError;

/// What keeps a network verb from doing what was asked.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No network has that name or id.
    #[error("network {0} not found")]
    NotFound(String),
    /// Several networks' ids start like that.
    #[error("network {0} is ambiguous ({1} matches found based on ID prefix)")]
    Ambiguous(String, usize),
    /// The name is another's.
    #[error("network with name {0} already exists")]
    NameInUse(String),
    /// The options cannot be.
    #[error("{0}")]
    Invalid(String),
    /// It was there before anybody made a network.
    #[error("{0} is a pre-defined network and cannot be removed")]
    Predefined(String),
    /// Containers are on it.
    #[error(
        "error while removing network: network {name} id {id} has active endpoints{}",
        named(endpoints)
    )]
    InUse {
        /// Its name.
        name: String,
        /// Its id.
        id: NetworkId,
        /// Who is on it: names and endpoints' ids.
        endpoints: Vec<(String, String)>,
    },
    /// Its addresses are another one's already.
    #[error("Pool overlaps with other one on this address space")]
    Overlap,
    /// Every range that could be chosen is in use.
    #[error(
        "could not find an available, non-overlapping IPv{0} address pool among the defaults to assign to the network"
    )]
    NoPool(u8),
    /// Every address is somebody's.
    #[error("no available IPv{0} addresses on this network's address pools: {1} ({2})")]
    Exhausted(u8, String, NetworkId),
    /// One of these ports of the host's leads to another container.
    #[error(
        "Bind for {} failed: port is already allocated",
        .0.first().map(ToString::to_string).unwrap_or_default()
    )]
    Allocated(Vec<std::net::SocketAddr>),
    /// The address is another's.
    #[error("Address already in use")]
    AddressInUse,
    /// The container is on it already.
    #[error("endpoint with name {container} already exists in network {network}")]
    AlreadyConnected {
        /// The container's name.
        container: String,
        /// The network's.
        network: String,
    },
    /// The container is not on it.
    #[error("container {container} is not connected to network {network}")]
    NotConnected {
        /// The container's id or name.
        container: String,
        /// The network's name.
        network: String,
    },
    /// The kernel refused something.
    #[error("{what}: {}", crate::image::words(source))]
    Kernel {
        /// What was asked of it.
        what: String,
        /// What it said.
        source: io::Error,
    },
    /// The container is not as it would have to be.
    #[error(transparent)]
    Container(Box<ContainerError>),
    /// The database failed.
    #[error("state.db: {0}")]
    Database(#[from] rusqlite::Error),
}

impl NetworkError {
    pub(crate) fn kernel(what: impl Into<String>) -> impl FnOnce(io::Error) -> NetworkError {
        let what = what.into();
        move |source| NetworkError::Kernel { what, source }
    }
}

impl From<ContainerError> for NetworkError {
    fn from(error: ContainerError) -> NetworkError {
        match error {
            ContainerError::Network(error) => *error,
            error => NetworkError::Container(Box::new(error)),
        }
    }
}

impl From<NetworkError> for ContainerError {
    fn from(error: NetworkError) -> ContainerError {
        match error {
            NetworkError::Container(error) => *error,
            error => ContainerError::Network(Box::new(error)),
        }
    }
}

fn named(endpoints: &[(String, String)]) -> String {
    let named: Vec<String> = endpoints
        .iter()
        .map(|(name, id)| format!("name:{name:?} id:{:?}", id.get(..12).unwrap_or(id)))
        .collect();
    match named.is_empty() {
        true => String::new(),
        false => format!(" ({})", named.join(", ")),
    }
}
