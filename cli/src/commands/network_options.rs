//! The options of `run` and `create` that say how a container is reached.

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use clap::Args as ClapArgs;
use runtime::network::Attachment;
use runtime::network::Publish;
use runtime::network::port;
use runtime::network::port::InvalidPort;
use runtime::network::port::Port;

use crate::command_error::CommandError;

/// How a container is reached.
#[derive(Debug, ClapArgs)]
pub(crate) struct NetworkOptions {
    /// Say that a port is served (`80`, `53/udp`, `8000-8010`)
    #[arg(long, value_name = "PORT")]
    expose: Vec<String>,
    /// Address of IPv4 on the first network
    #[arg(long, value_name = "IP", value_parser = parse_address::<Ipv4Addr>)]
    ip: Option<Ipv4Addr>,
    /// Address of IPv6 on the first network
    #[arg(long, value_name = "IP", value_parser = parse_address::<Ipv6Addr>)]
    ip6: Option<Ipv6Addr>,
    /// Know a container by another name too
    #[arg(long, value_name = "CONTAINER[:ALIAS]", value_parser = parse_link)]
    link: Vec<String>,
    /// Hardware address on the first network
    #[arg(long, value_name = "MAC")]
    mac_address: Option<String>,
    /// Network to be on: a name, `host`, `none`, `container:NAME`, or `name=NAME,alias=ALIAS,ip=IP`
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Vec<String>,
    /// What the container is called on its network, beside its name
    #[arg(long, visible_alias = "net-alias", value_name = "ALIAS")]
    network_alias: Vec<String>,
    /// Publish a port of the container's on the host
    #[arg(short, long, value_name = "[[IP:]PORT:]PORT[/PROTOCOL]")]
    publish: Vec<String>,
    /// Publish all exposed ports on ports that are free
    #[arg(short = 'P', long)]
    pub(super) publish_all: bool,
}

pub(super) fn parse_address<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "invalid IP address".to_owned())
}

fn refused(error: &InvalidPort) -> CommandError {
    CommandError::with_code(125, format_args!("ply: {error}"))
}

impl NetworkOptions {
    /// Returns the networks with what is wanted on each.
    pub(super) fn attachments(&self) -> Result<Vec<Attachment>, CommandError> {
        let invalid = |words: String| CommandError::with_code(125, format_args!("ply: {words}"));
        let mut attachments = self
            .network
            .iter()
            .map(|text| parse_network(text).map_err(invalid))
            .collect::<Result<Vec<_>, _>>()?;
        if attachments.is_empty() {
            attachments.push(Attachment::to("default"));
        }
        let first = &mut attachments[0];
        let conflict = |is_twice: bool, what: &str| match is_twice {
            true => Err(invalid(format!(
                "conflicting options: cannot specify both --{what} and per-network {what}"
            ))),
            false => Ok(()),
        };
        conflict(self.ip.is_some() && first.ipv4.is_some(), "ip")?;
        conflict(self.ip6.is_some() && first.ipv6.is_some(), "ip6")?;
        conflict(
            self.mac_address.is_some() && first.mac.is_some(),
            "mac-address",
        )?;
        first.ipv4 = first.ipv4.or(self.ip);
        first.ipv6 = first.ipv6.or(self.ip6);
        first.mac = first.mac.take().or_else(|| self.mac_address.clone());
        first.aliases.extend(self.network_alias.iter().cloned());
        first.links.extend(self.link.iter().cloned());
        Ok(attachments)
    }

    /// Returns the ports that the host is to have.
    pub(super) fn publish(&self) -> Result<Vec<Publish>, CommandError> {
        let mut all = Vec::new();
        for text in &self.publish {
            all.extend(port::parse_publish(text).map_err(|error| refused(&error))?);
        }
        Ok(all)
    }

    /// Returns the ports that are said to be served.
    pub(super) fn exposed(&self) -> Result<Vec<Port>, CommandError> {
        let mut all = Vec::new();
        for text in &self.expose {
            all.extend(port::parse_exposed(text).map_err(|error| refused(&error))?);
        }
        Ok(all)
    }
}

/// Reads `NAME`, or `name=NAME,alias=ALIAS,ip=IP,ip6=IP,mac-address=MAC`.
fn parse_network(text: &str) -> Result<Attachment, String> {
    if !text.contains('=') {
        return Ok(Attachment::to(text));
    }
    let mut attachment = Attachment::default();
    let bad = |field: &str| format!("invalid field {field}");
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| bad(field))?;
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => value.clone_into(&mut attachment.network),
            "alias" => attachment.aliases.push(value.to_ascii_lowercase()),
            "ip" => attachment.ipv4 = Some(value.parse().map_err(|_| bad(field))?),
            "ip6" => attachment.ipv6 = Some(value.parse().map_err(|_| bad(field))?),
            "mac-address" => attachment.mac = Some(value.to_owned()),
            // Nothing of ours has any.
            "driver-opt" | "gw-priority" => {}
            key => return Err(format!("invalid field key {key}")),
        }
    }
    match attachment.network.is_empty() {
        true => Err("network name is required".to_owned()),
        false => Ok(attachment),
    }
}

/// Reads `CONTAINER[:ALIAS]`.
pub(super) fn parse_link(text: &str) -> Result<String, String> {
    match text.split(':').count() {
        _ if text.is_empty() => Err("empty string specified for links".to_owned()),
        1 | 2 => Ok(text.to_owned()),
        _ => Err(format!("bad format for links: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_a_name_or_fields() {
        assert_eq!(parse_network("front"), Ok(Attachment::to("front")));
        let read = parse_network("name=front,alias=Web,alias=www,ip=10.0.0.2").expect("a network");
        assert_eq!(read.network, "front");
        assert_eq!(read.aliases, ["web", "www"]);
        assert_eq!(read.ipv4, Some(Ipv4Addr::new(10, 0, 0, 2)));
        for bad in [
            "name=",
            "name=a,ip=x",
            "name=a,nosuch=1",
            "alias=a",
            "name=a,b",
        ] {
            assert!(parse_network(bad).is_err(), "{bad}");
        }
    }
}
