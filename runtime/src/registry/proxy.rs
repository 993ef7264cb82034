//! Proxies from the environment, by Go's rules: `HTTP_PROXY` for http, `HTTPS_PROXY` for https, `NO_PROXY`, never for loopback.

use std::net::IpAddr;

use ureq::http::Uri;

use super::error::RegistryError;

/// Returns the proxy for an address, if one is configured and not excepted.
pub(super) fn for_url(url: &Uri) -> Result<Option<ureq::Proxy>, RegistryError> {
    let env = |name: &str| {
        [name.to_owned(), name.to_ascii_lowercase()]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    };
    let host = url.host().unwrap_or_default();
    let name = match url.scheme_str() {
        Some("https") => "HTTPS_PROXY",
        _ => "HTTP_PROXY",
    };
    let Some(proxy) = env(name) else {
        return Ok(None);
    };
    if is_loopback(host) || is_excepted(host, url.port_u16(), &env("NO_PROXY").unwrap_or_default())
    {
        return Ok(None);
    }
    ureq::Proxy::new(&proxy)
        .map(Some)
        .map_err(|_| RegistryError::Protocol(format!("{name} is not a valid proxy address")))
}

/// Returns whether `host` is this machine, as its name or address says.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost"
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Returns whether `NO_PROXY` names the host: `*`, a domain (and what is under it), an address or a range.
fn is_excepted(host: &str, port: Option<u16>, list: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    list.split(',').map(str::trim).any(|entry| {
        if entry.is_empty() {
            return false;
        }
        if entry == "*" || in_range(bare, entry) {
            return true;
        }
        let (name, wanted) = match entry.rsplit_once(':') {
            Some((name, wanted)) if wanted.parse::<u16>().is_ok() && !name.contains(':') => {
                (name, wanted.parse::<u16>().ok())
            }
            _ => (entry, None),
        };
        let name = name.trim_start_matches('*').trim_start_matches('.');
        (wanted.is_none() || wanted == port)
            && (bare.eq_ignore_ascii_case(name)
                || bare
                    .to_ascii_lowercase()
                    .ends_with(&format!(".{}", name.to_ascii_lowercase())))
    })
}

/// Returns whether `address` lies in the CIDR range `range`.
pub(super) fn in_range(address: &str, range: &str) -> bool {
    let Some((base, length)) = range.split_once('/') else {
        return false;
    };
    let (Ok(address), Ok(base), Ok(length)) = (
        address.parse::<IpAddr>(),
        base.parse::<IpAddr>(),
        length.parse::<u32>(),
    ) else {
        return false;
    };
    match (address, base) {
        (IpAddr::V4(address), IpAddr::V4(base)) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            address.to_bits() & mask == base.to_bits() & mask
        }
        (IpAddr::V6(address), IpAddr::V6(base)) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            address.to_bits() & mask == base.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_names_domains_addresses_and_ranges() {
        assert!(is_excepted("a.example.org", None, "x, .example.org"));
        assert!(is_excepted("example.org", None, "example.org"));
        assert!(!is_excepted("notexample.org", None, "example.org"));
        assert!(is_excepted("10.1.2.3", None, "10.0.0.0/8"));
        assert!(!is_excepted("11.1.2.3", None, "10.0.0.0/8"));
        assert!(is_excepted("r", Some(5000), "r:5000"));
        assert!(!is_excepted("r", Some(5001), "r:5000"));
        assert!(is_excepted("anything", None, "*"));
        assert!(is_loopback("127.9.9.9") && is_loopback("[::1]") && !is_loopback("128.0.0.1"));
    }
}
