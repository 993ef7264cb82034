//! `network connect` and `network disconnect`.
//!
//! A running container's monitor does both, and records that it has: who has asked may be killed at any moment. What that
//! can leave is an endpoint's row of somebody who never came to ask; the next `connect` knows it from one that is being
//! made by the lock on `containers/<id>/networks.lock`.

use std::fs::File;

use nix::fcntl::Flock;
use nix::fcntl::FlockArg;

use super::Attachment;
use super::Driver;
use super::Network;
use super::NetworkError;
use super::NetworkId;
use super::bridge::Hold;
use super::join::Joined;
use super::rows;
use crate::Engine;
use crate::container::Container;
use crate::container::ContainerError;
use crate::container::ContainerId;
use crate::frame::Request;

/// How a container is to be connected.
#[derive(Debug, Clone, Default)]
pub struct ConnectOptions {
    /// What it is to have; the network in it is not looked at.
    pub attachment: Attachment,
}

impl Engine {
    /// Connects a container, running or not, to a network.
    pub fn connect(
        &self,
        network: &str,
        container: &str,
        options: &ConnectOptions,
    ) -> Result<(), NetworkError> {
        let (found, _alone) = self.alone_with_networks(container)?;
        let network = self.network(network)?;
        let attachment = Attachment {
            network: network.name.clone(),
            ..options.attachment.clone()
        };
        let mut config = found.config.clone();
        if network.config.driver == Driver::Host {
            return Err(NetworkError::Invalid(
                "cannot connect container to host network - container must be created in host network mode".to_owned(),
            ));
        }
        if !config.has_own_network() {
            return Err(NetworkError::Invalid(
                "container sharing network namespace with another container or host cannot be connected to any other \
                 network"
                    .to_owned(),
            ));
        }
        let is_none = |name: &str| name == "none";
        let has_none = config.networks.iter().any(|it| is_none(&it.network));
        if has_none || (is_none(&network.name) && !config.networks.is_empty()) {
            return Err(NetworkError::Invalid(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode"
                    .to_owned(),
            ));
        }
        if config.networks.iter().any(|it| it.network == network.name) {
            return Err(NetworkError::AlreadyConnected {
                container: found.name,
                network: network.name,
            });
        }
        self.check_attachment(&network, &attachment)?;
        config.networks.push(attachment.clone());
        if found.state.status.is_alive()
            && let Some((joined, _hold)) = self.join_alone(&found, &network, &attachment)?
        {
            let request = Request::Connect(Box::new((joined, attachment)));
            if let Err(error) = self.request_done(&found.id, &request) {
                rows::release(&self.db(), &found.id, Some(&network.id))?;
                return Err(error.into());
            }
            return Ok(());
        }
        self.set_networks(&found, config)
    }

    /// Disconnects a container from a network; with `force`, one that does not exist any more.
    pub fn disconnect(
        &self,
        network: &str,
        container: &str,
        force: bool,
    ) -> Result<(), NetworkError> {
        let network = self.network(network)?;
        let (found, _alone) = match self.alone_with_networks(container) {
            Err(NetworkError::Container(error))
                if force && matches!(*error, ContainerError::NoSuchContainer(_)) =>
            {
                return Err(NetworkError::NotConnected {
                    container: container.to_owned(),
                    network: network.name,
                });
            }
            found => found?,
        };
        let mut config = found.config.clone();
        if network.config.driver == Driver::Host {
            return Err(NetworkError::Invalid(
                "container cannot be disconnected from host network or connected to host network"
                    .to_owned(),
            ));
        }
        let before = config.networks.len();
        config.networks.retain(|it| it.network != network.name);
        if config.networks.len() == before {
            return Err(NetworkError::NotConnected {
                container: found.id.as_str().to_owned(),
                network: network.name,
            });
        }
        if found.state.status.is_alive() {
            self.request_done(&found.id, &Request::Disconnect(network.id.clone()))?;
            self.emit_network("disconnect", &network, Some(&found.id));
            return Ok(());
        }
        self.set_networks(&found, config)
    }

    /// Returns a container whose networks nobody else changes meanwhile, as far as it runs.
    fn alone_with_networks(
        &self,
        name: &str,
    ) -> Result<(Container, Option<Flock<File>>), NetworkError> {
        let found = self.container(name)?;
        if !found.state.status.is_alive() {
            return Ok((found, None));
        }
        let path = self.container_dir(&found.id).join("networks.lock");
        let failed = || NetworkError::kernel(path.display().to_string());
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed())?;
        let locked = Flock::lock(file, FlockArg::LockExclusive);
        let locked = locked.map_err(|(_, errno)| failed()(errno.into()))?;
        Ok((self.container(found.id.as_str())?, Some(locked)))
    }

    /// Gives a container that is not on a network its place there, whatever one who was killed has left of one.
    fn join_alone(
        &self,
        found: &Container,
        network: &Network,
        attachment: &Attachment,
    ) -> Result<Option<(Joined, Option<Hold>)>, NetworkError> {
        match self.join(found, attachment) {
            Err(NetworkError::AlreadyConnected { .. }) => {
                self.request_done(&found.id, &Request::Disconnect(network.id.clone()))?;
                self.join(found, attachment)
            }
            joined => joined,
        }
    }

    /// Records that a running container is on a network; its monitor has put it there.
    pub(crate) fn record_connected(
        &self,
        id: &ContainerId,
        attachment: &Attachment,
    ) -> Result<(), ContainerError> {
        let Some(found) = crate::container::rows::by_id(&self.db(), id)? else {
            return Ok(());
        };
        let mut config = found.config.clone();
        config
            .networks
            .retain(|it| it.network != attachment.network);
        config.networks.push(attachment.clone());
        self.set_networks(&found, config)?;
        Ok(())
    }

    /// Records that a running container is not on a network any more; its monitor has taken it off.
    pub(crate) fn record_disconnected(
        &self,
        id: &ContainerId,
        network: &NetworkId,
    ) -> Result<(), ContainerError> {
        let name = rows::by_id(&self.db(), network)?.map(|network| network.name);
        rows::release(&self.db(), id, Some(network))?;
        let Some(found) = crate::container::rows::by_id(&self.db(), id)? else {
            return Ok(());
        };
        let mut config = found.config.clone();
        config
            .networks
            .retain(|it| Some(&it.network) != name.as_ref());
        self.set_networks(&found, config)?;
        Ok(())
    }

    /// Records a container's networks, and says in its files where it is now.
    fn set_networks(
        &self,
        container: &Container,
        config: crate::container::Config,
    ) -> Result<(), NetworkError> {
        crate::container::rows::set_config(&self.db(), &container.id, &config)?;
        if container.state.status.is_alive() {
            let container = Container {
                config,
                ..container.clone()
            };
            self.write_network_files(&container)?;
        }
        Ok(())
    }

    /// Refuses what a network cannot give.
    pub(crate) fn check_attachment(
        &self,
        network: &Network,
        attachment: &Attachment,
    ) -> Result<(), NetworkError> {
        let invalid = |words: String| Err(NetworkError::Invalid(words));
        for (is_wanted, is_ipv6) in [
            (attachment.ipv4.is_some(), false),
            (attachment.ipv6.is_some(), true),
        ] {
            if !is_wanted {
                continue;
            }
            if network.is_predefined() {
                return invalid(
                    "user specified IP address is supported on user defined networks only"
                        .to_owned(),
                );
            }
            match network.pool(is_ipv6) {
                Some(pool) if !pool.is_chosen => {}
                _ => {
                    return invalid(
                        "user specified IP address is supported only when connecting to networks with user \
                         configured subnets"
                            .to_owned(),
                    );
                }
            }
        }
        let wanted = attachment.ipv4.map(std::net::IpAddr::V4);
        for address in wanted
            .into_iter()
            .chain(attachment.ipv6.map(std::net::IpAddr::V6))
        {
            let is_in = network
                .pool(address.is_ipv6())
                .is_some_and(|it| it.subnet.contains(address));
            if !is_in {
                return invalid(format!(
                    "no configured subnet contains IP address {address}"
                ));
            }
        }
        if !attachment.aliases.is_empty() && network.is_predefined() {
            return invalid(
                "network-scoped alias is supported only for containers in user defined networks"
                    .to_owned(),
            );
        }
        if let Some(mac) = &attachment.mac
            && super::device::parse_mac(mac).is_none()
        {
            return invalid(format!("{mac} is not a valid mac address"));
        }
        Ok(())
    }
}

impl Joined {
    /// Says which network the container is disconnected from.
    pub(crate) fn is_on(&self, id: &super::NetworkId) -> bool {
        self.id == *id
    }
}
