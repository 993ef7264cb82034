//! `/networks`.

use std::collections::BTreeMap;

use runtime::network::Attachment;
use runtime::network::ConnectOptions;
use runtime::network::NetworkError;
use runtime::network::NetworkFilter;
use runtime::network::NetworkOptions;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use super::Server;
use super::api_error::ApiError;
use super::exchange::Answer;
use super::exchange::Exchange;
use super::exchange::Reply;
use crate::moment::moment;

impl From<NetworkError> for ApiError {
    fn from(error: NetworkError) -> ApiError {
        match error {
            NetworkError::Container(error) => ApiError::from(*error),
            error => ApiError::new(status_of(&error), error),
        }
    }
}

/// Returns Docker's status for what keeps a network verb, or a container's network, from what was asked.
pub(super) fn status_of(error: &NetworkError) -> u16 {
    match error {
        NetworkError::NotFound(_) => 404,
        NetworkError::NameInUse(_) => 409,
        NetworkError::Ambiguous(..) | NetworkError::Invalid(_) => 400,
        NetworkError::Predefined(_)
        | NetworkError::InUse { .. }
        | NetworkError::Overlap
        | NetworkError::AddressInUse
        | NetworkError::AlreadyConnected { .. } => 403,
        _ => 500,
    }
}

/// What `POST /networks/create` asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Asked {
    name: Option<String>,
    driver: Option<String>,
    scope: Option<String>,
    internal: Option<bool>,
    attachable: Option<bool>,
    ingress: Option<bool>,
    config_only: Option<bool>,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: Option<bool>,
    #[serde(rename = "IPAM")]
    ipam: Option<Ipam>,
    options: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Ipam {
    driver: Option<String>,
    config: Option<Vec<AskedPool>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AskedPool {
    subnet: Option<String>,
    #[serde(rename = "IPRange")]
    ip_range: Option<String>,
    gateway: Option<String>,
    auxiliary_addresses: Option<BTreeMap<String, String>>,
}

/// Docker's `EndpointSettings`, as far as they can be asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct AskedEndpoint {
    #[serde(rename = "IPAMConfig")]
    ipam: Option<AskedAddresses>,
    links: Option<Vec<String>>,
    aliases: Option<Vec<String>>,
    mac_address: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AskedAddresses {
    #[serde(rename = "IPv4Address")]
    ipv4: Option<String>,
    #[serde(rename = "IPv6Address")]
    ipv6: Option<String>,
    #[serde(rename = "LinkLocalIPs")]
    link_local: Option<Vec<String>>,
}

impl AskedEndpoint {
    /// Returns what a container is to have on this network.
    pub(super) fn attachment(self, network: &str) -> Result<Attachment, ApiError> {
        let addresses = self.ipam.unwrap_or_default();
        if addresses.link_local.is_some_and(|all| !all.is_empty()) {
            return Err(ApiError::bad("LinkLocalIPs is not supported"));
        }
        Ok(Attachment {
            network: network.to_owned(),
            aliases: self.aliases.unwrap_or_default(),
            ipv4: address(addresses.ipv4, 4)?,
            ipv6: address(addresses.ipv6, 6)?,
            mac: self.mac_address.filter(|mac| !mac.is_empty()),
            links: self.links.unwrap_or_default(),
        })
    }
}

fn address<T: std::str::FromStr>(text: Option<String>, family: u8) -> Result<Option<T>, ApiError> {
    let text = text.filter(|text| !text.is_empty());
    let parsed = text.map(|text| {
        let invalid = |_| ApiError::bad(format_args!("invalid IPv{family} address: {text}"));
        text.parse().map_err(invalid)
    });
    parsed.transpose()
}

/// Leads to the endpoint.
pub(super) fn route(
    server: &Server,
    exchange: &mut Exchange<'_>,
    method: &str,
    path: &[&str],
) -> Answer {
    let engine = server.engine();
    match (method, path) {
        ("GET", []) => {
            let networks = engine.networks(&filter(exchange)?)?;
            let shown = networks.iter().map(|network| {
                let mut shown = engine.inspect_network(network)?;
                // Who is on it is shown of one network alone.
                shown["Containers"] = json!({});
                Ok(shown)
            });
            Reply::ok(shown.collect::<Result<Vec<Value>, NetworkError>>()?)
        }
        ("POST", ["create"]) => create(server, exchange),
        ("POST", ["prune"]) => {
            let removed = engine.prune_networks(&filter(exchange)?)?;
            engine.emit_prune("network", 0);
            let removed = (!removed.is_empty()).then_some(removed);
            Reply::ok(json!({ "NetworksDeleted": removed }))
        }
        ("GET", [name]) => {
            let scope = exchange.request.query.get("scope");
            if scope.is_some_and(|scope| scope != "local") {
                return Err(NetworkError::NotFound((*name).to_owned()).into());
            }
            let network = engine.network(name)?;
            Reply::ok(engine.inspect_network(&network)?)
        }
        ("DELETE", [name]) => {
            engine.remove_network(name)?;
            Ok(Reply::Empty(204))
        }
        ("POST", [name, "connect"]) => connect(server, exchange, name),
        ("POST", [name, "disconnect"]) => disconnect(server, exchange, name),
        _ => Err(ApiError::no_page()),
    }
}

fn filter(exchange: &Exchange<'_>) -> Result<NetworkFilter, ApiError> {
    let mut filter = NetworkFilter::default();
    for one in exchange.request.query.filters()? {
        match one.split_once('=') {
            Some(("until", time)) => filter.made_before(moment(time).map_err(ApiError::bad)?),
            _ => filter.add(&one)?,
        }
    }
    Ok(filter)
}

fn create(server: &Server, exchange: &mut Exchange<'_>) -> Answer {
    let asked: Asked = exchange.json()?;
    let is = |flag: Option<bool>| flag.unwrap_or(false);
    if is(asked.config_only) {
        return Err(ApiError::bad(
            "networks of configuration only are not supported",
        ));
    }
    if asked.enable_ipv4 == Some(false) {
        return Err(ApiError::bad("a network without IPv4 is not supported"));
    }
    if is(asked.ingress) || asked.scope.as_deref() == Some("swarm") {
        return Err(ApiError::new(503, super::absent::NO_SWARM));
    }
    let ipam = asked.ipam.unwrap_or_default();
    if let Some(driver) = ipam.driver.as_deref()
        && !matches!(driver, "" | "default")
    {
        return Err(ApiError::bad(format_args!("invalid ipam driver: {driver}")));
    }
    let mut options = NetworkOptions {
        name: asked.name.unwrap_or_default(),
        driver: asked.driver.unwrap_or_default(),
        internal: is(asked.internal),
        ipv6: is(asked.enable_ipv6),
        attachable: is(asked.attachable),
        labels: asked.labels.unwrap_or_default(),
        options: asked.options.unwrap_or_default(),
        ..NetworkOptions::default()
    };
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    for pool in ipam.config.unwrap_or_default() {
        options.subnets.extend(given(pool.subnet));
        options.ip_ranges.extend(given(pool.ip_range));
        options.gateways.extend(given(pool.gateway));
        let auxiliary = pool.auxiliary_addresses.unwrap_or_default();
        options.auxiliary.extend(auxiliary);
    }
    let network = server.engine().create_network(&options)?;
    Ok(Reply::Json(
        201,
        json!({ "Id": network.id.as_str(), "Warning": "" }),
    ))
}

fn connect(server: &Server, exchange: &mut Exchange<'_>, network: &str) -> Answer {
    #[derive(Debug, Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Asked {
        container: String,
        endpoint_config: Option<AskedEndpoint>,
    }
    let asked: Asked = exchange.json()?;
    let options = ConnectOptions {
        attachment: asked
            .endpoint_config
            .unwrap_or_default()
            .attachment(network)?,
    };
    server
        .engine()
        .connect(network, &asked.container, &options)?;
    Ok(Reply::Empty(200))
}

fn disconnect(server: &Server, exchange: &mut Exchange<'_>, network: &str) -> Answer {
    #[derive(Debug, Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Asked {
        container: String,
        force: Option<bool>,
    }
    let asked: Asked = exchange.json()?;
    let force = asked.force.unwrap_or(false);
    server
        .engine()
        .disconnect(network, &asked.container, force)?;
    Ok(Reply::Empty(200))
}
