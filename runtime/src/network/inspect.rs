//! `network inspect`: a network in Docker's JSON.

use std::net::IpAddr;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Network;
use super::NetworkError;
use super::Pool;
use super::rows;
use crate::Engine;

impl Engine {
    /// Returns a network as Docker's `network inspect` shows it.
    pub fn inspect_network(&self, network: &Network) -> Result<Value, NetworkError> {
        let mut containers = Map::new();
        let prefix = |is_ipv6| network.pool(is_ipv6).map_or(0, |pool| pool.subnet.prefix());
        let endpoints = rows::endpoints_on(&self.db(), &network.id)?;
        for endpoint in endpoints {
            let Ok(container) = self.container(endpoint.container.as_str()) else {
                continue;
            };
            let with_prefix = |address: Option<IpAddr>| match address {
                Some(address) => format!("{address}/{}", prefix(address.is_ipv6())),
                None => String::new(),
            };
            containers.insert(
                endpoint.container.as_str().to_owned(),
                json!({
                    "Name": container.name,
                    "EndpointID": endpoint.id,
                    "MacAddress": endpoint.mac,
                    "IPv4Address": with_prefix(endpoint.ipv4.map(IpAddr::V4)),
                    "IPv6Address": with_prefix(endpoint.ipv6.map(IpAddr::V6)),
                }),
            );
        }
        let config = &network.config;
        Ok(json!({
            "Name": network.name,
            "Id": network.id.as_str(),
            "Created": network.created.to_string(),
            "Scope": "local",
            "Driver": config.driver.as_str(),
            "EnableIPv4": true,
            "EnableIPv6": config.ipv6,
            "IPAM": {
                "Driver": "default",
                "Options": {},
                "Config": config.pools.iter().map(pool).collect::<Vec<_>>(),
            },
            "Internal": config.internal,
            "Attachable": config.attachable,
            "Ingress": false,
            "ConfigFrom": { "Network": "" },
            "ConfigOnly": false,
            "Containers": containers,
            "Options": config.options,
            "Labels": config.labels,
        }))
    }
}

fn pool(pool: &Pool) -> Value {
    let mut value = json!({ "Subnet": pool.subnet.to_string() });
    if let Some(range) = &pool.range {
        value["IPRange"] = range.to_string().into();
    }
    if let Some(gateway) = pool.gateway {
        value["Gateway"] = gateway.to_string().into();
    }
    if !pool.auxiliary.is_empty() {
        value["AuxiliaryAddresses"] = json!(pool.auxiliary);
    }
    value
}
