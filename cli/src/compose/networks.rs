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
        match self.engine.network(name) {
            Ok(there) => {
                let project = there.config.labels.get(labels::PROJECT);
                if !network.external && project != Some(&self.project.name) {
                    super::warn(format_args!(
                        "a network with name {name} exists but was not created for project {:?}.\nSet `external: true` \
                         to use an existing network",
                        self.project.name
                    ));
                }
                return Ok(());
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
            internal: network.internal,
            ipv6: network.enable_ipv6,
            labels: self.labels_of_resource(&network.labels, labels::NETWORK, key),
            options: model::filled(&network.driver_opts),
            ..NetworkOptions::default()
        };
        match self.engine.create_network(&options) {
            // Another `up` has been quicker.
            Ok(_) | Err(NetworkError::NameInUse(_)) => {
                self.report.done(&id, "Created");
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
        let priority = |own: &Option<model::Attachment>| own.as_ref().map_or(0.0, |it| it.priority);
        attached.sort_by(|a, b| priority(b.1).total_cmp(&priority(a.1)).then(a.0.cmp(b.0)));
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
