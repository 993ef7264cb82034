//! Networks' events.

use std::collections::BTreeMap;

use super::Network;
use crate::Engine;
use crate::container::ContainerId;

impl Engine {
    /// Tells those who watch what has happened to a network, or to a container on it.
    pub(crate) fn emit_network(
        &self,
        action: &str,
        network: &Network,
        container: Option<&ContainerId>,
    ) {
        let mut attributes = BTreeMap::from([
            ("name".to_owned(), network.name.clone()),
            ("type".to_owned(), network.config.driver.as_str().to_owned()),
        ]);
        if let Some(container) = container {
            attributes.insert("container".to_owned(), container.as_str().to_owned());
        }
        self.emit("network", action, network.id.as_str(), attributes);
    }
}
