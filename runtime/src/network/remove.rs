//! `network rm` and `network prune`.

use super::Network;
use super::NetworkError;
use super::NetworkFilter;
use super::bridge;
use super::rows;
use crate::Engine;

impl Engine {
    /// Removes a network that nobody is on; returns it.
    pub fn remove_network(&self, name: &str) -> Result<Network, NetworkError> {
        self.bury_the_dead()?;
        let network = self.network(name)?;
        if network.is_predefined() {
            return Err(NetworkError::Predefined(network.name));
        }
        if !rows::delete_unused(&self.db(), &network.id)? {
            let there = rows::endpoints_on(&self.db(), &network.id)?;
            let endpoints = there
                .iter()
                .map(|endpoint| {
                    let container = self.container(endpoint.container.as_str());
                    let name = container.map(|it| it.name).unwrap_or_default();
                    (name, endpoint.id.clone())
                })
                .collect();
            return Err(NetworkError::InUse {
                name: network.name,
                id: network.id,
                endpoints,
            });
        }
        bridge::sweep(self.run_dir());
        self.emit_network("destroy", &network, None);
        Ok(network)
    }

    /// Removes the networks that no container is on nor will be on; returns their names.
    pub fn prune_networks(&self, filter: &NetworkFilter) -> Result<Vec<String>, NetworkError> {
        let used = self.networks_in_use()?;
        let mut removed = Vec::new();
        for network in self.networks(filter)? {
            if network.is_predefined() || used.contains(&network.name) {
                continue;
            }
            match self.remove_network(network.id.as_str()) {
                Ok(network) => removed.push(network.name),
                // Somebody has come, or somebody else has removed it.
                Err(NetworkError::InUse { .. } | NetworkError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }
}
