//! `network create`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;

use super::Driver;
use super::Network;
use super::NetworkConfig;
use super::NetworkError;
use super::NetworkId;
use super::Pool;
use super::Subnet;
use super::bridge;
use super::pool;
use super::rows;
use crate::Engine;

/// What a network is to be.
#[derive(Debug, Clone, Default)]
pub struct NetworkOptions {
    /// Its name.
    pub name: String,
    /// `bridge` if it is empty.
    pub driver: String,
    /// Its ranges of addresses; one is chosen if there is none.
    pub subnets: Vec<String>,
    /// The host's addresses in them; the first ones if there are none.
    pub gateways: Vec<String>,
    /// The parts of them that containers' addresses are taken from.
    pub ip_ranges: Vec<String>,
    /// Addresses that are somebody else's, with names; one in each range may have the same.
    pub auxiliary: Vec<(String, String)>,
    /// Whether there is no way out of it.
    pub internal: bool,
    /// Whether it has addresses of IPv6 too.
    pub ipv6: bool,
    /// Whether containers may be connected by hand where services are.
    pub attachable: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `-o`.
    pub options: BTreeMap<String, String>,
}

impl Engine {
    /// Makes a network; returns it.
    pub fn create_network(&self, options: &NetworkOptions) -> Result<Network, NetworkError> {
        self.bury_the_dead()?;
        let invalid = |words: String| Err(NetworkError::Invalid(words));
        let name = options.name.as_str();
        if name.is_empty() || !crate::container::is_name(name) {
            return invalid(format!(
                "{name:?} includes invalid characters for a network name, only \
                \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed"
            ));
        }
        if matches!(name, "default" | "bridge" | "host" | "none" | "container") {
            return invalid(format!(
                "operation is not permitted on predefined {name} network"
            ));
        }
        let Some(driver) = Driver::parse(&options.driver) else {
            return invalid(format!(
                "could not resolve driver {0} in registry: plugin {0:?} not found",
                options.driver
            ));
        };
        if matches!(driver, Driver::Host | Driver::Null) {
            return invalid(format!(
                "only one instance of {:?} network is allowed",
                driver.as_str()
            ));
        }
        if options.internal && driver == Driver::Host {
            return invalid("host network cannot be internal".to_owned());
        }
        let mut config = NetworkConfig {
            driver,
            pools: asked_for(options)?,
            internal: options.internal,
            ipv6: options.ipv6,
            attachable: options.attachable,
            labels: options.labels.clone(),
            options: options.options.clone(),
        };
        bridge::check_options(&config)?;
        config.ipv6 |= config.pools.iter().any(|pool| pool.subnet.is_ipv6());
        // What others have on the host is looked at, and the choice made known, with no one else choosing.
        let _choice = bridge::lock_machine()?;
        let others = rows::all(&self.db())?;
        for pool in &config.pools {
            pool::check_free(pool, others.iter())?;
        }
        let on_host = pool::on_host()?;
        for is_ipv6 in [false, true] {
            let is_wanted = !is_ipv6 || config.ipv6;
            if is_wanted && !config.pools.iter().any(|it| it.subnet.is_ipv6() == is_ipv6) {
                config
                    .pools
                    .push(pool::choose(is_ipv6, others.iter(), &on_host)?);
            }
        }
        let network = Network {
            id: NetworkId::random(),
            name: name.to_owned(),
            created: Timestamp::now(),
            config,
        };
        rows::insert(&self.db(), &network)?;
        self.emit_network("create", &network, None);
        Ok(network)
    }
}

/// Puts ranges, gateways and the rest together as they belong.
fn asked_for(options: &NetworkOptions) -> Result<Vec<Pool>, NetworkError> {
    let invalid = |words: String| NetworkError::Invalid(words);
    let mut pools: Vec<Pool> = Vec::new();
    for text in &options.subnets {
        let subnet: Subnet = text.parse().map_err(|_| {
            invalid(format!(
                "invalid subnet {text}: invalid CIDR block notation"
            ))
        })?;
        if pools.iter().any(|pool| pool.subnet.overlaps(&subnet)) {
            return Err(invalid(
                "multiple overlapping subnet configuration is not supported".to_owned(),
            ));
        }
        if pools
            .iter()
            .any(|pool| pool.subnet.is_ipv6() == subnet.is_ipv6())
        {
            return Err(invalid(
                "bridge driver doesn't support multiple subnets".to_owned(),
            ));
        }
        pools.push(Pool {
            subnet,
            gateway: None,
            range: None,
            auxiliary: BTreeMap::new(),
            is_chosen: false,
        });
    }
    for text in &options.ip_ranges {
        let unmatched = || invalid(format!("no matching subnet for range {text}"));
        let range: Subnet = text.parse().map_err(|_| {
            invalid(format!(
                "invalid ip-range {text}: invalid CIDR block notation"
            ))
        })?;
        let pool = pools
            .iter_mut()
            .find(|pool| pool.subnet.contains(range.first()) && pool.subnet.contains(range.last()));
        pool.ok_or_else(unmatched)?.range = Some(range);
    }
    for text in &options.gateways {
        let address: IpAddr = text
            .parse()
            .map_err(|_| invalid(format!("invalid gateway address: {text}")))?;
        let pool = pools.iter_mut().find(|pool| pool.subnet.contains(address));
        let pool = pool.ok_or_else(|| invalid(format!("no matching subnet for gateway {text}")))?;
        if pool.gateway.is_some() {
            return Err(invalid(
                "cannot configure multiple gateways for a single subnet".to_owned(),
            ));
        }
        pool.gateway = Some(address);
    }
    for (name, text) in &options.auxiliary {
        let address: IpAddr = text
            .parse()
            .map_err(|_| invalid(format!("invalid auxiliary address: {text}")))?;
        let pool = pools.iter_mut().find(|pool| pool.subnet.contains(address));
        let pool =
            pool.ok_or_else(|| invalid(format!("no matching subnet for aux-address {text}")))?;
        pool.auxiliary.insert(name.clone(), address);
    }
    for pool in &mut pools {
        pool::give_gateway(pool);
    }
    Ok(pools)
}
