//! Ports of a container, and those of the host's that lead to them: Docker's `-p` and `--expose`.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use serde::Serialize;

/// What speaks on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
    /// Streams of messages.
    Sctp,
}

impl Protocol {
    /// Returns Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// Returns the number that IP gives it.
    pub(crate) fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    fn parse(text: &str) -> Result<Protocol, InvalidPort> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Ok(Protocol::Sctp),
            _ => Err(InvalidPort(format!("invalid proto: {text}"))),
        }
    }
}

/// A port of a container: `80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// What speaks on it.
    pub protocol: Protocol,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol.as_str())
    }
}

/// A port of a container that the host is to have: one of a range, or any that is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// The container's port.
    pub port: Port,
    /// The host's address; all of them if there is none.
    pub address: Option<IpAddr>,
    /// The first and the last of the host's ports it may be; any if there is none.
    pub host: Option<(u16, u16)>,
}

/// A port of the host's that leads to one of a container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Published {
    /// The container's port.
    pub port: Port,
    /// The host's address; `0.0.0.0` and `::` are all of them.
    pub address: IpAddr,
    /// The host's port.
    pub host: u16,
}

/// Not a port, or not a way to publish one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPort(pub String);

/// Reads `80`, `80/udp`, `8000-8010/tcp`.
pub fn parse_exposed(text: &str) -> Result<Vec<Port>, InvalidPort> {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = Protocol::parse(protocol)?;
    let invalid = || InvalidPort(format!("invalid range format for --expose: {text}"));
    let (first, last) = range(numbers).ok_or_else(invalid)?;
    if first == 0 {
        return Err(invalid());
    }
    let ports = first..=last;
    Ok(ports.map(|number| Port { number, protocol }).collect())
}

/// Reads `[[ip:][host]:]container[/protocol]`, where `host` and `container` may be ranges.
pub fn parse_publish(text: &str) -> Result<Vec<Publish>, InvalidPort> {
    let invalid = |words: String| Err(InvalidPort(words));
    let (place, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (address, host, container) = fields(place);
    if container.is_empty() {
        return invalid(format!("no port specified: {text}<empty>"));
    }
    let address = match address.trim_start_matches('[').trim_end_matches(']') {
        "" => None,
        bare => match bare.parse::<IpAddr>() {
            Ok(address) => Some(address),
            Err(_) => return invalid(format!("invalid IP address: {address}")),
        },
    };
    let Some((first, last)) = range(container).filter(|(first, _)| *first > 0) else {
        return invalid(format!("invalid containerPort: {container}"));
    };
    let host = match host {
        "" => None,
        host => match range(host) {
            Some((0, 0)) => None,
            Some(host) => Some(host),
            None => return invalid(format!("invalid hostPort: {host}")),
        },
    };
    let protocol = Protocol::parse(protocol)?;
    let count = last - first;
    if let Some((host_first, host_last)) = host
        && host_last - host_first != count
        && count != 0
    {
        return invalid(format!(
            "invalid ranges specified for container and host Ports: {container} and {host_first}-{host_last}"
        ));
    }
    Ok((0..=count)
        .map(|n| Publish {
            port: Port {
                number: first + n,
                protocol,
            },
            address,
            host: host.map(|(first, last)| match count {
                0 => (first, last),
                _ => (first + n, first + n),
            }),
        })
        .collect())
}

/// Splits `[ip:][host:]container` from its end; an address of IPv6 may stand in brackets or not.
fn fields(place: &str) -> (&str, &str, &str) {
    let Some((rest, container)) = place.rsplit_once(':') else {
        return ("", "", place);
    };
    match rest.rsplit_once(':') {
        // The address alone in brackets, and no port of the host's.
        _ if rest.starts_with('[') && rest.ends_with(']') => (rest, "", container),
        Some((address, host)) => (address, host, container),
        None if rest.contains('.') => (rest, "", container),
        None => ("", rest, container),
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
        is_number.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> String {
        match parse_publish(text) {
            Ok(all) => all
                .iter()
                .map(|it| format!("{:?} {:?} {}", it.address, it.host, it.port))
                .collect::<Vec<_>>()
                .join(", "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn ports_are_published_as_docker_reads_them() {
        for (text, read) in [
            ("80", "None None 80/tcp"),
            ("8080:80", "None Some((8080, 8080)) 80/tcp"),
            ("8080:80/udp", "None Some((8080, 8080)) 80/udp"),
            (
                "127.0.0.1:8080:80",
                "Some(127.0.0.1) Some((8080, 8080)) 80/tcp",
            ),
            ("127.0.0.1::80", "Some(127.0.0.1) None 80/tcp"),
            ("127.0.0.1:80", "Some(127.0.0.1) None 80/tcp"),
            ("[::1]:8080:80", "Some(::1) Some((8080, 8080)) 80/tcp"),
            ("::1:8080:80", "Some(::1) Some((8080, 8080)) 80/tcp"),
            (
                "8000-8001:80-81",
                "None Some((8000, 8000)) 80/tcp, None Some((8001, 8001)) 81/tcp",
            ),
            ("8000-8010:80", "None Some((8000, 8010)) 80/tcp"),
            ("0:80", "None None 80/tcp"),
            ("99999:80", "invalid hostPort: 99999"),
            ("80:99999", "invalid containerPort: 99999"),
            ("8080:", "no port specified: 8080:<empty>"),
            ("80:80/xyz", "invalid proto: xyz"),
            ("a.b:80:80", "invalid IP address: a.b"),
            (
                "8000-8002:80-81",
                "invalid ranges specified for container and host Ports: 80-81 and 8000-8002",
            ),
        ] {
            assert_eq!(one(text), read, "{text}");
        }
    }

    #[test]
    fn exposed_ports_are_numbers_and_ranges() {
        let ports = parse_exposed("8000-8002/udp").expect("ports");
        assert_eq!(ports.len(), 3);
        assert_eq!(ports[2].to_string(), "8002/udp");
        for bad in ["", "x", "9-8", "70000", "80/xyz"] {
            assert!(parse_exposed(bad).is_err(), "{bad}");
        }
    }
}
