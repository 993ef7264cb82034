//! What a container's /etc/hosts and /etc/resolv.conf say.

use std::fs;
use std::net::IpAddr;

use super::names;
use crate::container::Config;

const LOCAL_HOSTS: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// What `--add-host` calls the address that the container reaches the host by.
pub(crate) const HOST_GATEWAY: &str = "host-gateway";

/// Returns the host's servers of names.
pub(crate) fn servers_of_host() -> Vec<IpAddr> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    servers(&text).collect()
}

fn servers(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words
            .next()
            .filter(|key| *key == "nameserver")
            .and(words.next())?;
        // A zone means nothing elsewhere.
        address.split('%').next()?.parse().ok()
    })
}

/// Whose a container's servers of names are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// Its monitor's.
    ByMonitor,
    /// The host's, which it reaches by its bridge: loopback addresses are nobody's there.
    FromOutside,
    /// The host's, as it has its network.
    ByHost,
}

/// Returns what /etc/resolv.conf says: the host's, with what was asked for in place of its own.
pub(crate) fn resolv_conf(config: &Config, served: Served) -> Vec<u8> {
    let of_host = fs::read("/etc/resolv.conf").unwrap_or_default();
    resolv_conf_of(&String::from_utf8_lossy(&of_host), config, served).into_bytes()
}

fn resolv_conf_of(of_host: &str, config: &Config, served: Served) -> String {
    let is_ordinary =
        config.dns.is_empty() && config.dns_search.is_empty() && config.dns_options.is_empty();
    let is_reachable = |address: &IpAddr| !address.is_loopback();
    if is_ordinary
        && match served {
            Served::ByMonitor => false,
            Served::FromOutside => servers(of_host).all(|it| is_reachable(&it)),
            Served::ByHost => true,
        }
    {
        return of_host.to_owned();
    }
    let servers: Vec<String> = match served {
        Served::ByMonitor => vec![names::SERVER.to_string()],
        _ if !config.dns.is_empty() => config.dns.clone(),
        Served::FromOutside => {
            let servers = servers(of_host).filter(is_reachable);
            servers.map(|it| it.to_string()).collect()
        }
        Served::ByHost => servers(of_host).map(|it| it.to_string()).collect(),
    };
    let mut text: String = servers
        .iter()
        .map(|it| format!("nameserver {it}\n"))
        .collect();
    let mut options = config.dns_options.clone();
    if options.is_empty() {
        options = words_of(of_host, "options");
    }
    // A container's name has no dot, and is to be asked for as it is.
    if served == Served::ByMonitor && !options.iter().any(|it| it.starts_with("ndots:")) {
        options.push("ndots:0".to_owned());
    }
    let search = match config.dns_search.is_empty() {
        true => words_of(of_host, "search"),
        false => config.dns_search.clone(),
    };
    if !search.is_empty() && search.iter().all(|it| it != ".") {
        text += &format!("search {}\n", search.join(" "));
    }
    if !options.is_empty() {
        text += &format!("options {}\n", options.join(" "));
    }
    text
}

/// Returns the words behind the last line with this key.
fn words_of(text: &str, key: &str) -> Vec<String> {
    let mut lines = text.lines().rev().map(|line| line.split_whitespace());
    let words = lines.find_map(|mut words| (words.next() == Some(key)).then_some(words));
    words
        .map(|words| words.map(str::to_owned).collect())
        .unwrap_or_default()
}

/// What a container's /etc/hosts has beside its own lines.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    /// The container's own addresses.
    pub(crate) own: Vec<IpAddr>,
    /// The address that it reaches the host by.
    pub(crate) host: Option<IpAddr>,
    /// Addresses of others and what they are called.
    pub(crate) links: Vec<(IpAddr, String)>,
}

/// Returns what /etc/hosts says.
pub(crate) fn hosts(config: &Config, more: &Hosts) -> Vec<u8> {
    let mut text = match config.has_network_of_host() {
        true => String::from_utf8_lossy(&fs::read("/etc/hosts").unwrap_or_default()).into_owned(),
        false => LOCAL_HOSTS.to_owned(),
    };
    for host in &config.extra_hosts {
        let Some((name, address)) = host.split_once([':', '=']) else {
            continue;
        };
        let address = address.trim_start_matches('[').trim_end_matches(']');
        match (address, more.host) {
            (HOST_GATEWAY, Some(host)) => text += &format!("{host}\t{name}\n"),
            (HOST_GATEWAY, None) => {}
            (address, _) => text += &format!("{address}\t{name}\n"),
        }
    }
    for (address, names) in &more.links {
        text += &format!("{address}\t{names}\n");
    }
    for address in &more.own {
        let name = &config.hostname;
        match config.domainname.as_str() {
            "" => text += &format!("{address}\t{name}\n"),
            domain => text += &format!("{address}\t{name}.{domain} {name}\n"),
        }
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_HOST: &str = "# made by hand\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch a.example b.example\noptions edns0\n";

    #[test]
    fn servers_that_a_container_cannot_reach_are_left_out() {
        let config = Config::default();
        assert_eq!(
            resolv_conf_of(OF_HOST, &config, Served::FromOutside),
            "nameserver 10.0.0.1\nsearch a.example b.example\noptions edns0\n"
        );
        assert_eq!(resolv_conf_of(OF_HOST, &config, Served::ByHost), OF_HOST);
        assert_eq!(
            resolv_conf_of(OF_HOST, &config, Served::ByMonitor),
            "nameserver 127.0.0.11\nsearch a.example b.example\noptions edns0 ndots:0\n"
        );
    }

    #[test]
    fn what_is_asked_for_stands_in_the_place_of_the_hosts() {
        let config = Config {
            dns: vec!["1.1.1.1".into()],
            dns_search: vec![".".into()],
            dns_options: vec!["ndots:2".into()],
            ..Config::default()
        };
        assert_eq!(
            resolv_conf_of(OF_HOST, &config, Served::FromOutside),
            "nameserver 1.1.1.1\noptions ndots:2\n"
        );
        assert_eq!(
            resolv_conf_of(OF_HOST, &config, Served::ByMonitor),
            "nameserver 127.0.0.11\noptions ndots:2\n"
        );
    }

    #[test]
    fn hosts_has_the_container_and_whom_it_knows() {
        let config = Config {
            hostname: "web".into(),
            domainname: "example".into(),
            extra_hosts: vec!["a:1.2.3.4".into(), "host:host-gateway".into()],
            ..Config::default()
        };
        let more = Hosts {
            own: vec![[172, 17, 0, 2].into()],
            host: Some([172, 17, 0, 1].into()),
            links: vec![([172, 17, 0, 3].into(), "db data".into())],
        };
        let text = String::from_utf8(hosts(&config, &more)).expect("text");
        assert!(text.ends_with(
            "1.2.3.4\ta\n172.17.0.1\thost\n172.17.0.3\tdb data\n172.17.0.2\tweb.example web\n"
        ));
    }
}
