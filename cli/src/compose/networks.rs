//! The networks of a project, what its services have on them, and the ports they publish.

use std::net::IpAddr;

use runtime::container::CreateOptions;
use runtime::network::Attachment;
use runtime::network::NetworkError;
use runtime::network::NetworkFilter;
use runtime::network::NetworkOptions;
use runtime::network::Publish;
use runtime::network::port::parse_exposed;
use runtime::network::port::parse_publish;

use super::composition::Composition;
use super::container;
use super::down::Remains;
use super::labels;
use super::model;
use super::model::Network;
use super::model::Port;
use super::model::Service;
use crate::command_error::CommandError;

impl Composition<'_> {
    /// Makes a network of the project's, if it is not there.
    pub(crate) fn ensure_network(&self, key: &str, network: &Network) -> Result<(), CommandError> {
        let name = &network.name;
        let hash = container::resource_hash(self.project, "networks", key);
        if network.enable_ipv4 == Some(false) {
            return Err(CommandError::failed(format_args!(
                "network {key}: a network without IPv4 is not supported"
            )));
        }
        if let Some(driver) = network.ipam.driver.as_deref()
            && driver != "default"
        {
            return Err(CommandError::failed(format_args!(
                "network {key}: could not find ipam driver {driver:?}"
            )));
        }
        match self.engine.network(name) {
            Ok(there) => {
                let project = there.config.labels.get(labels::PROJECT);
                if !network.external && project != Some(&self.project.name) {
                    super::warn(format_args!(
                        "a network with name {name} exists but was not created for project {:?}.\nSet `external: true` \
                         to use an existing network",
                        self.project.name
                    ));
                    return Ok(());
                }
                let made_of = there.config.labels.get(labels::CONFIG_HASH);
                if network.external || made_of.is_none_or(|it| *it == hash) {
                    return Ok(());
                }
                self.remove_diverged_network(key, network)?;
            }
            Err(NetworkError::NotFound(_)) if network.external => {
                return Err(CommandError::failed(format_args!(
                    "network {name} declared as external, but could not be found"
                )));
            }
            Err(NetworkError::NotFound(_)) => {}
            Err(error) => return Err(CommandError::failed(error)),
        }
        let id = format!("Network {name}");
        self.report.begin(&id, "Creating");
        let pools = &network.ipam.config;
        let options = NetworkOptions {
            name: name.clone(),
            driver: network.driver.clone().unwrap_or_default(),
            subnets: pools
                .iter()
                .filter_map(|pool| pool.subnet.clone())
                .collect(),
            gateways: pools
                .iter()
                .filter_map(|pool| pool.gateway.clone())
                .collect(),
            ip_ranges: pools
                .iter()
                .filter_map(|pool| pool.ip_range.clone())
                .collect(),
            auxiliary: pools
                .iter()
                .flat_map(|pool| model::filled(&pool.aux_addresses))
                .collect(),
            internal: network.internal,
            ipv6: network.enable_ipv6,
            attachable: network.attachable,
            labels: self.labels_of_resource(&network.labels, labels::NETWORK, key, hash),
            options: model::filled(&network.driver_opts),
        };
        if self.report.is_dry_run() {
            self.report.done(&id, "Created");
            return Ok(());
        }
        match self.engine.create_network(&options) {
            // Another `up` has been quicker.
            Ok(_) | Err(NetworkError::NameInUse(_)) => {
                self.report.done(&id, "Created");
                Ok(())
            }
            Err(error) => Err(self.failed(&id, &error)),
        }
    }

    /// Removes a network that is made of other settings by now, its containers being stopped: the next start puts them
    /// on its successor.
    fn remove_diverged_network(&self, key: &str, network: &Network) -> Result<(), CommandError> {
        let mut members = self.members()?;
        members.retain(|member| {
            let service = self.project.services.get(&member.service);
            service.is_some_and(|service| service.networks.contains_key(key))
        });
        self.stop_all(&members, None)?;
        let id = format!("Network {}", network.name);
        self.report.begin(&id, "Removing");
        if self.report.is_dry_run() {
            self.report.done(&id, "Removed");
            return Ok(());
        }
        match self.engine.remove_network(&network.name) {
            Ok(_) | Err(NetworkError::NotFound(_)) => {
                self.report.done(&id, "Removed");
                Ok(())
            }
            Err(error) => Err(self.failed(&id, &error)),
        }
    }

    /// Adds to a container's options the networks that its service is on and the ports that it publishes.
    pub(crate) fn attach_to_networks(
        &self,
        options: &mut CreateOptions,
        name: &str,
        service: &Service,
    ) -> Result<(), CommandError> {
        let mut attached: Vec<_> = service.networks.iter().collect();
        // The first that has a way out is the container's.
        let of = |own: &Option<model::Attachment>, which: fn(&model::Attachment) -> f64| {
            own.as_ref().map_or(0.0, which)
        };
        attached.sort_by(|(a_key, a), (b_key, b)| {
            let by = |which: fn(&model::Attachment) -> f64| of(b, which).total_cmp(&of(a, which));
            by(|it| it.gw_priority)
                .then(by(|it| it.priority))
                .then(a_key.cmp(b_key))
        });
        for (key, own) in attached {
            let own = own.clone().unwrap_or_default();
            let network = self
                .project
                .networks
                .get(key)
                .map_or(key, |network| &network.name);
            let is_first = options.networks.is_empty();
            let mut aliases = vec![name.to_owned()];
            aliases.extend(own.aliases);
            options.networks.push(Attachment {
                network: network.clone(),
                aliases,
                ipv4: address(own.ipv4_address.as_deref())?,
                ipv6: address(own.ipv6_address.as_deref())?,
                mac: own
                    .mac_address
                    .or_else(|| service.mac_address.clone().filter(|_| is_first)),
                links: self.links(service)?,
            });
        }
        for port in &service.ports {
            options.publish.extend(publish(port)?);
        }
        for text in &service.expose {
            options
                .exposed
                .extend(parse_exposed(text).map_err(CommandError::failed)?);
        }
        Ok(())
    }

    /// Returns the containers that a service knows by other names.
    fn links(&self, service: &Service) -> Result<Vec<String>, CommandError> {
        let mut links = service.external_links.clone();
        if service.links.is_empty() {
            return Ok(links);
        }
        let members = self.members()?;
        for link in &service.links {
            let (other, alias) = link.split_once(':').unwrap_or((link, link));
            let own = members
                .iter()
                .filter(|it| it.service == other && !it.is_one_off);
            links.extend(own.map(|member| format!("{}:{alias}", member.name())));
        }
        Ok(links)
    }
}

fn address<T: std::str::FromStr>(text: Option<&str>) -> Result<Option<T>, CommandError> {
    let parsed = text.map(str::parse::<T>).transpose();
    parsed.map_err(|_| {
        CommandError::failed(format_args!(
            "invalid ip address {:?}",
            text.unwrap_or_default()
        ))
    })
}

/// Returns what a port is to the engine.
fn publish(port: &Port) -> Result<Vec<Publish>, CommandError> {
    let ip = match port.host_ip.as_deref().map(|ip| (ip, ip.parse::<IpAddr>())) {
        None => String::new(),
        Some((ip, Ok(IpAddr::V6(_)))) => format!("[{ip}]:"),
        Some((ip, _)) => format!("{ip}:"),
    };
    let published = match (&port.published, ip.is_empty()) {
        (None, true) => String::new(),
        (published, _) => format!("{}:", published.as_deref().unwrap_or_default()),
    };
    let protocol = port.protocol.as_deref().unwrap_or("tcp");
    parse_publish(&format!("{ip}{published}{}/{protocol}", port.target))
        .map_err(CommandError::failed)
}

impl Remains<'_> {
    /// Removes the project's networks; returns whether there were any.
    pub(crate) fn remove_networks(&self) -> Result<bool, CommandError> {
        let mut filter = NetworkFilter::default();
        filter
            .add(&format!("label={}={}", labels::PROJECT, self.name))
            .map_err(CommandError::failed)?;
        let networks = self
            .engine
            .networks(&filter)
            .map_err(CommandError::failed)?;
        for network in &networks {
            let id = format!("Network {}", network.name);
            self.report.begin(&id, "Removing");
            if self.report.is_dry_run() {
                self.report.done(&id, "Removed");
                continue;
            }
            match self.engine.remove_network(network.id.as_str()) {
                Ok(_) | Err(NetworkError::NotFound(_)) => self.report.done(&id, "Removed"),
                Err(NetworkError::InUse { .. }) => {
                    self.report.done(&id, "Resource is still in use")
                }
                Err(error) => {
                    self.report.failed(&id, "Error");
                    return Err(CommandError::failed(error));
                }
            }
        }
        Ok(!networks.is_empty())
    }
}
