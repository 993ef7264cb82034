//! A container's networks: what was asked for, made sure of; its files that depend on them; and links.

use std::net::IpAddr;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Config;
use super::Container;
use super::ContainerError;
use super::ContainerId;
use super::create::CreateOptions;
use super::start::write_readable;
use crate::Engine;
use crate::network;
use crate::network::Attachment;
use crate::network::Network;
use crate::network::NetworkError;
use crate::network::files;
use crate::network::files::Hosts;
use crate::network::files::Served;
use crate::network::rows::Endpoint;

impl Engine {
    /// Finds the networks that a container is to be on.
    pub(super) fn resolve_networks(
        &self,
        options: &CreateOptions,
        config: &mut Config,
        id: &ContainerId,
    ) -> Result<(), ContainerError> {
        let invalid = |words: &str| Err(ContainerError::Invalid(words.to_owned()));
        let mut wanted = options.networks.clone();
        if wanted.is_empty() {
            wanted.push(Attachment::to("default"));
        }
        let mode = wanted[0].network.clone();
        let has_ports = !options.publish.is_empty() || options.publish_all;
        let has_links = wanted.iter().any(|it| !it.links.is_empty());
        if let Some(name) = mode.strip_prefix("container:") {
            if wanted.len() > 1 {
                return invalid(
                    "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
                );
            }
            if options.hostname.is_some() {
                return invalid("conflicting options: hostname and the network mode");
            }
            if has_links {
                return invalid(
                    "conflicting options: container type network can't be used with links. This would result in \
                     undefined behavior",
                );
            }
            if !options.dns.is_empty() {
                return invalid("conflicting options: dns and the network mode");
            }
            if !options.extra_hosts.is_empty() {
                return invalid(
                    "conflicting options: custom host-to-IP mapping and the network mode",
                );
            }
            if has_ports {
                return invalid(
                    "conflicting options: port publishing and the container type network mode",
                );
            }
            if !options.exposed.is_empty() {
                return invalid(
                    "conflicting options: port exposing and the container type network mode",
                );
            }
            if wanted[0].mac.is_some() {
                return invalid("conflicting options: mac-address and the network mode");
            }
            let other = self.container(name)?;
            if other.id == *id {
                return invalid("cannot join own network");
            }
            config.network_mode = format!("container:{}", other.id);
            return Ok(());
        }
        let stands_alone =
            |name: &str| matches!(name, "host" | "none") || name.starts_with("container:");
        if wanted.len() > 1 && wanted.iter().any(|it| stands_alone(&it.network)) {
            return invalid(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            );
        }
        if mode == "host" {
            if has_links {
                return invalid(
                    "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
                );
            }
            self.check_attachment(&self.network(&mode)?, &wanted[0])?;
            config.network_mode = mode;
            return Ok(());
        }
        for (at, attachment) in wanted.iter_mut().enumerate() {
            if matches!(attachment.network.as_str(), "default" | "") {
                network::DEFAULT.clone_into(&mut attachment.network);
            }
            let found = self.network(&attachment.network)?;
            self.check_attachment(&found, attachment)?;
            if at == 0 {
                config.network_mode = match mode.as_str() {
                    "default" | "" => "default".to_owned(),
                    _ => found.name.clone(),
                };
            }
            if config.networks.iter().any(|it| it.network == found.name) {
                return Err(ContainerError::Invalid(format!(
                    "network {:?} is specified multiple times",
                    found.name
                )));
            }
            for link in &mut attachment.links {
                let (name, alias) = link.split_once(':').unwrap_or((link, link));
                let alias = alias.to_owned();
                let linked = self.container(name).map_err(|error| match error {
                    ContainerError::NoSuchContainer(name) => ContainerError::Invalid(format!(
                        "could not get container for {name}: No such container: {name}"
                    )),
                    error => error,
                })?;
                if linked.config.has_network_of_host() {
                    return invalid(
                        "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
                    );
                }
                *link = format!("{}:{}", linked.name, alias.trim_start_matches('/'));
            }
            attachment.network = found.name;
            config.networks.push(attachment.clone());
        }
        Ok(())
    }

    /// Writes /etc/hosts and /etc/resolv.conf as they are with the networks that the container is on now.
    pub(crate) fn write_network_files(&self, container: &Container) -> Result<(), NetworkError> {
        let config = &container.config;
        let directory = self.container_dir(&container.id);
        let places = self.places_of(&container.id)?;
        let networks = || places.values().map(|(network, _)| network);
        let served = match config.has_network_of_host() {
            true => Served::ByHost,
            false if networks().any(network::Network::has_names) => Served::ByMonitor,
            false => Served::FromOutside,
        };
        // The order in which they were asked for.
        let own = config
            .networks
            .iter()
            .filter_map(|it| places.get(&it.network));
        let more = Hosts {
            own: own
                .flat_map(|(_, endpoint)| {
                    let ipv4 = endpoint.ipv4.map(IpAddr::V4);
                    ipv4.into_iter().chain(endpoint.ipv6.map(IpAddr::V6))
                })
                .collect(),
            host: networks().find_map(|network| network::bridge::gateway(network, false)),
            links: self
                .links(container)?
                .into_iter()
                .map(|link| (link.address, link.names))
                .collect(),
        };
        for (name, content) in [
            ("hosts", files::hosts(config, &more)),
            ("resolv.conf", files::resolv_conf(config, served)),
        ] {
            let path = directory.join(name);
            write_readable(&path, &content).map_err(ContainerError::io(&path))?;
        }
        Ok(())
    }

    /// Removes a container's link by its name there: `/container/alias`.
    pub fn remove_link(&self, name: &str) -> Result<(), ContainerError> {
        let missing = || ContainerError::NoSuchContainer(name.to_owned());
        let Some((parent, alias)) = name.trim_start_matches('/').split_once('/') else {
            self.container(name)?;
            let words = "Conflict, cannot remove the default link name of the container";
            return Err(ContainerError::Invalid(words.to_owned()));
        };
        let mut container = self.container(parent).map_err(|_| missing())?;
        let mut is_there = false;
        for attachment in &mut container.config.networks {
            attachment.links.retain(|link| {
                let is_it = link.split_once(':').is_some_and(|(_, it)| it == alias);
                is_there |= is_it;
                !is_it
            });
        }
        if !is_there {
            return Err(missing());
        }
        super::rows::set_config(&self.db(), &container.id, &container.config)?;
        if container.state.status.is_alive() {
            self.write_network_files(&container)?;
        }
        Ok(())
    }

    /// Returns the containers that one is linked to on the default network and that run there.
    fn links(&self, container: &Container) -> Result<Vec<Link>, NetworkError> {
        let mut links = Vec::new();
        let on_default = container
            .config
            .networks
            .iter()
            .filter(|it| it.network == network::DEFAULT);
        for link in on_default.flat_map(|attachment| &attachment.links) {
            let (name, alias) = link.split_once(':').unwrap_or((link, link));
            let Some(linked) = super::rows::by_name(&self.db(), name)? else {
                continue;
            };
            let places = self.places_of(&linked.id)?;
            let place = places.get(network::DEFAULT);
            if let Some(address) = place.and_then(|(_, endpoint)| endpoint.ipv4) {
                let mut names = vec![alias];
                for more in [linked.config.hostname.as_str(), &linked.name] {
                    if !names.contains(&more) {
                        names.push(more);
                    }
                }
                links.push(Link {
                    address: address.into(),
                    names: names.join(" "),
                    alias: alias.to_owned(),
                    linked: Box::new(linked),
                });
            }
        }
        Ok(links)
    }

    /// Returns the variables that tell a container of those it is linked to.
    pub(super) fn link_env(&self, container: &Container) -> Result<Vec<String>, NetworkError> {
        let mut env = Vec::new();
        for Link {
            address,
            alias,
            linked,
            ..
        } in self.links(container)?
        {
            let prefix: String = alias
                .to_ascii_uppercase()
                .chars()
                .map(|it| if it.is_ascii_alphanumeric() { it } else { '_' })
                .collect();
            env.push(format!("{prefix}_NAME=/{}/{alias}", container.name));
            for (at, port) in linked.config.exposed.iter().enumerate() {
                let protocol = port.protocol.as_str();
                let url = format!("{protocol}://{address}:{}", port.number);
                if at == 0 {
                    env.push(format!("{prefix}_PORT={url}"));
                }
                let prefix = format!(
                    "{prefix}_PORT_{}_{}",
                    port.number,
                    protocol.to_ascii_uppercase()
                );
                env.push(format!("{prefix}={url}"));
                env.push(format!("{prefix}_ADDR={address}"));
                env.push(format!("{prefix}_PORT={}", port.number));
                env.push(format!("{prefix}_PROTO={protocol}"));
            }
            for entry in &linked.config.env {
                let name = entry.split('=').next().unwrap_or_default();
                if !matches!(name, "PATH" | "HOME" | "HOSTNAME" | "TERM") {
                    env.push(format!("{prefix}_ENV_{entry}"));
                }
            }
        }
        Ok(env)
    }
}

/// A container that another one knows.
struct Link {
    address: IpAddr,
    /// All that it is called, as a line of /etc/hosts has it.
    names: String,
    alias: String,
    linked: Box<Container>,
}

impl Engine {
    /// Returns Docker's `NetworkSettings`.
    pub fn network_settings(&self, container: &Container) -> Value {
        let config = &container.config;
        let places = self.places_of(&container.id).unwrap_or_default();
        let mut networks = Map::new();
        for attachment in &config.networks {
            let known = self.network(&attachment.network).ok();
            let place = places
                .get(&attachment.network)
                .map(|(_, endpoint)| endpoint);
            networks.insert(
                attachment.network.clone(),
                on_network(container, attachment, known, place),
            );
        }
        if config.has_network_of_host() {
            let id = self
                .network("host")
                .map(|it| it.id.as_str().to_owned())
                .unwrap_or_default();
            networks.insert(
                "host".to_owned(),
                json!({ "NetworkID": id, "EndpointID": "", "IPAddress": "", "Gateway": "" }),
            );
        }
        let mut ports = Map::new();
        if container.state.status.is_alive() && !config.has_network_of_host() {
            for port in &config.exposed {
                ports.insert(port.to_string(), Value::Null);
            }
        }
        for published in &container.state.published {
            let binding = json!({
                "HostIp": published.address.to_string(),
                "HostPort": published.host.to_string(),
            });
            let bound = ports
                .entry(published.port.to_string())
                .or_insert(Value::Null);
            match bound.as_array_mut() {
                Some(bound) => bound.push(binding),
                None => *bound = json!([binding]),
            }
        }
        let of_default = |field: &str| {
            let default = networks.get(network::DEFAULT);
            default
                .and_then(|it| it.get(field))
                .cloned()
                .unwrap_or_else(|| "".into())
        };
        let length_of_default = |field: &str| {
            let default = networks.get(network::DEFAULT);
            default
                .and_then(|it| it.get(field))
                .cloned()
                .unwrap_or_else(|| 0.into())
        };
        let sandbox = match container.state.pid {
            Some(pid) if config.has_own_network() => format!("/proc/{pid}/ns/net"),
            _ => String::new(),
        };
        json!({
            "Bridge": "",
            "HairpinMode": false,
            "LinkLocalIPv6Address": "",
            "LinkLocalIPv6PrefixLen": 0,
            "SecondaryIPAddresses": null,
            "SecondaryIPv6Addresses": null,
            "SandboxID": if sandbox.is_empty() { "" } else { container.id.as_str() },
            "SandboxKey": sandbox,
            "Ports": ports,
            "EndpointID": of_default("EndpointID"),
            "Gateway": of_default("Gateway"),
            "GlobalIPv6Address": of_default("GlobalIPv6Address"),
            "GlobalIPv6PrefixLen": length_of_default("GlobalIPv6PrefixLen"),
            "IPAddress": of_default("IPAddress"),
            "IPPrefixLen": length_of_default("IPPrefixLen"),
            "IPv6Gateway": of_default("IPv6Gateway"),
            "MacAddress": of_default("MacAddress"),
            "Networks": networks,
        })
    }
}

/// Returns what Docker shows of a container on a network.
fn on_network(
    container: &Container,
    attachment: &Attachment,
    known: Option<Network>,
    place: Option<&Endpoint>,
) -> Value {
    let text = |value: Option<String>| value.unwrap_or_default();
    let gateway = |is_ipv6| {
        let network = place.and(known.as_ref())?;
        network::bridge::gateway(network, is_ipv6).map(|it| it.to_string())
    };
    let prefix = |has: bool, is_ipv6| {
        let pool = known.as_ref().and_then(|network| network.pool(is_ipv6));
        pool.filter(|_| has).map_or(0, |pool| pool.subnet.prefix())
    };
    let wants_address = attachment.ipv4.is_some() || attachment.ipv6.is_some();
    let mut asked = Map::new();
    if let Some(ipv4) = attachment.ipv4 {
        asked.insert("IPv4Address".to_owned(), ipv4.to_string().into());
    }
    if let Some(ipv6) = attachment.ipv6 {
        asked.insert("IPv6Address".to_owned(), ipv6.to_string().into());
    }
    let names = match known.as_ref().is_some_and(Network::has_names) {
        true => json!(network::join::names(container, attachment)),
        false => Value::Null,
    };
    let aliases = (!attachment.aliases.is_empty()).then_some(&attachment.aliases);
    let links = (!attachment.links.is_empty()).then_some(&attachment.links);
    let ipv4 = place.and_then(|it| it.ipv4);
    let ipv6 = place.and_then(|it| it.ipv6);
    json!({
        "IPAMConfig": if wants_address { Value::from(asked) } else { Value::Null },
        "Links": links,
        "Aliases": aliases,
        "MacAddress": text(place.map(|it| it.mac.clone())),
        "DriverOpts": null,
        "NetworkID": text(known.as_ref().map(|it| it.id.as_str().to_owned())),
        "EndpointID": text(place.map(|it| it.id.clone())),
        "Gateway": text(gateway(false)),
        "IPAddress": text(ipv4.map(|it| it.to_string())),
        "IPPrefixLen": prefix(ipv4.is_some(), false),
        "IPv6Gateway": text(gateway(true)),
        "GlobalIPv6Address": text(ipv6.map(|it| it.to_string())),
        "GlobalIPv6PrefixLen": prefix(ipv6.is_some(), true),
        "DNSNames": names,
    })
}
