//! A container's place on its networks, from the start of a run to its end.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Deserialize;
use serde::Serialize;

use super::Attachment;
use super::Driver;
use super::Network;
use super::NetworkError;
use super::NetworkId;
use super::bridge;
use super::bridge::Hold;
use super::firewall;
use super::rows;
use super::rows::Endpoint;
use crate::Engine;
use crate::container::Container;
use crate::container::ContainerId;

/// A container's place on a network: what its monitor needs to know to make it real.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Joined {
    pub(crate) id: NetworkId,
    pub(crate) name: String,
    pub(crate) config: super::NetworkConfig,
    /// The host's device: the network's bridge, or the one that is shared.
    pub(crate) device: String,
    pub(crate) endpoint: Endpoint,
}

impl Joined {
    /// Returns the network as it was when it was joined.
    pub(crate) fn network(&self) -> Network {
        Network {
            id: self.id.clone(),
            name: self.name.clone(),
            created: jiff::Timestamp::UNIX_EPOCH,
            config: self.config.clone(),
        }
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let ipv4 = self.endpoint.ipv4.map(IpAddr::V4);
        ipv4.into_iter().chain(self.endpoint.ipv6.map(IpAddr::V6))
    }
}

/// Places that were given, and what keeps the bridges there until a monitor does.
#[derive(Debug, Default)]
pub(crate) struct Places {
    pub(crate) joined: Vec<Joined>,
    _holds: Vec<Hold>,
}

impl Engine {
    /// Gives a container that is about to run its places on its networks.
    pub(crate) fn join_networks(&self, container: &Container) -> Result<Places, NetworkError> {
        // Whoever was killed in the middle of this has left some.
        rows::release(&self.db(), &container.id, None)?;
        let mut places = Places::default();
        for attachment in &container.config.networks {
            if let Some((joined, hold)) = self.join(container, attachment)? {
                places.joined.push(joined);
                places._holds.extend(hold);
            }
        }
        Ok(places)
    }

    /// Gives a container a place on a network; none on one without devices.
    pub(super) fn join(
        &self,
        container: &Container,
        attachment: &Attachment,
    ) -> Result<Option<(Joined, Option<Hold>)>, NetworkError> {
        let mut network = self.network(&attachment.network)?;
        let (device, hold) = match network.config.driver {
            Driver::Host | Driver::Null => return Ok(None),
            Driver::Bridge => {
                let hold = self.hold_bridge(&mut network)?;
                (bridge::name_of(&network, self.run_dir()), Some(hold))
            }
            Driver::Macvlan | Driver::Ipvlan => {
                let parent = network.option("parent").unwrap_or_default();
                (parent.to_owned(), None)
            }
        };
        let names = names(container, attachment);
        let mut db = self.db();
        let endpoint = rows::allot(&mut db, &network, &container.id, attachment, &names);
        let endpoint = endpoint.map_err(|error| match error {
            NetworkError::AlreadyConnected { network, .. } => NetworkError::AlreadyConnected {
                container: container.name.clone(),
                network,
            },
            error => error,
        })?;
        drop(db);
        self.emit_network("connect", &network, Some(&container.id));
        Ok(Some((
            Joined {
                id: network.id,
                name: network.name,
                config: network.config,
                device,
                endpoint,
            },
            hold,
        )))
    }

    /// Takes a container that does not run any more off its networks.
    pub(crate) fn leave_networks(&self, id: &ContainerId) -> Result<(), NetworkError> {
        let endpoints = rows::endpoints_of(&self.db(), id)?;
        if endpoints.is_empty() {
            return Ok(());
        }
        let addresses: Vec<IpAddr> = endpoints.iter().flat_map(addresses_of).collect();
        {
            let _alone = bridge::lock_machine()?;
            if let Err(error) = firewall::forget(&addresses) {
                log::warn!("ports of {id}: {error}");
            }
        }
        self.release(id, &endpoints)
    }

    /// As [`Engine::leave_networks`], for who has taken the rules away.
    pub(crate) fn release(&self, id: &ContainerId, there: &[Endpoint]) -> Result<(), NetworkError> {
        rows::release(&self.db(), id, None)?;
        for endpoint in there {
            let network = rows::by_id(&self.db(), &endpoint.network)?;
            if let Some(network) = network {
                self.emit_network("disconnect", &network, Some(id));
            }
        }
        Ok(())
    }

    /// Takes those off their networks who are on them although they do not run: their starter was killed.
    pub(crate) fn release_strays(&self) -> Result<(), NetworkError> {
        let strays = rows::strays(&self.db())?;
        for id in strays.iter().filter(|id| !self.is_alive(id)) {
            self.leave_networks(id)?;
        }
        Ok(())
    }

    /// Returns what a running container has on its networks, by their names.
    pub(crate) fn places_of(
        &self,
        id: &ContainerId,
    ) -> Result<BTreeMap<String, (Network, Endpoint)>, NetworkError> {
        let db = self.db();
        let mut places = BTreeMap::new();
        for endpoint in rows::endpoints_of(&db, id)? {
            if let Some(network) = rows::by_id(&db, &endpoint.network)? {
                places.insert(network.name.clone(), (network, endpoint));
            }
        }
        Ok(places)
    }
}

pub(super) fn addresses_of(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> + use<> {
    let ipv4 = endpoint.ipv4.map(IpAddr::V4);
    ipv4.into_iter().chain(endpoint.ipv6.map(IpAddr::V6))
}

/// Returns what a container is called on a network.
pub(crate) fn names(container: &Container, attachment: &Attachment) -> BTreeSet<String> {
    let own = [container.name.clone(), container.id.short().to_owned()];
    own.into_iter()
        .chain([container.config.hostname.clone()])
        .chain(attachment.aliases.iter().cloned())
        .filter(|name| !name.is_empty())
        .collect()
}
