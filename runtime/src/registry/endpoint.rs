//! Where a registry answers, and whether its certificate matters.

use std::net::ToSocketAddrs as _;
use std::time::Duration;

use super::auth::Challenge;
use super::error::RegistryError;
use super::http;
use super::http::Exchange;
use super::http::Http;
use super::http::Reply;
use super::proxy;
use super::settings::Settings;

/// How long a TLS handshake with what may speak plain HTTP may take, as Docker has it.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A registry's address.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// Scheme, host and port.
    pub(super) base: String,
}

/// Finds how `host` is spoken to, and what login it asks for.
pub(super) fn find(
    host: &str,
    settings: &Settings,
) -> Result<(Http, Endpoint, Vec<Challenge>), RegistryError> {
    let insecure = is_insecure(host, settings);
    if insecure {
        let hasty = Settings {
            idle_timeout: settings.idle_timeout.min(HANDSHAKE),
            ..settings.clone()
        };
        let base = format!("https://{host}");
        match ping(&Http::new(host, true, &hasty), &base) {
            Ok(reply) => {
                let challenges = challenges(reply);
                let http = Http::new(host, true, settings);
                return Ok((http, Endpoint { base }, challenges));
            }
            Err(error) => log::debug!("{error}; trying plain http"),
        }
    }
    let scheme = if insecure { "http" } else { "https" };
    let base = format!("{scheme}://{host}");
    let http = Http::new(host, insecure, settings);
    let url = format!("{base}/v2/");
    let reply = http::with_retries(settings, &Exchange::get(&url), |_| ping(&http, &base))?;
    let challenges = challenges(reply);
    Ok((http, Endpoint { base }, challenges))
}

fn ping(http: &Http, base: &str) -> Result<Reply, RegistryError> {
    http.send(&Exchange::get(&format!("{base}/v2/")), None)
}

fn challenges(reply: Reply) -> Vec<Challenge> {
    let challenges = match reply.status {
        401 => Challenge::of(&reply),
        _ => Vec::new(),
    };
    reply.drain();
    challenges
}

/// Returns whether Docker would speak to `host` without a verified certificate.
fn is_insecure(host: &str, settings: &Settings) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if proxy::is_loopback(bare) {
        return true;
    }
    let listed = |entry: &String| entry == host || entry == name;
    if settings.insecure.iter().any(listed) {
        return true;
    }
    let ranges: Vec<&String> = settings
        .insecure
        .iter()
        .filter(|entry| entry.contains('/'))
        .collect();
    if ranges.is_empty() {
        return false;
    }
    let addresses: Vec<String> = match (bare, 0).to_socket_addrs() {
        Ok(addresses) => addresses.map(|address| address.ip().to_string()).collect(),
        Err(_) => return false,
    };
    addresses
        .iter()
        .any(|address| ranges.iter().any(|range| proxy::in_range(address, range)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_listed_registries_are_insecure() {
        let settings = Settings {
            insecure: vec!["reg.example:5000".into(), "10.0.0.0/8".into()],
            ..Settings::default()
        };
        for host in [
            "127.0.0.1:5000",
            "localhost",
            "[::1]:5000",
            "127.1.2.3",
            "reg.example:5000",
            "10.1.1.1:443",
        ] {
            assert!(is_insecure(host, &settings), "{host}");
        }
        for host in ["reg.example", "11.0.0.1", "128.0.0.1:5000"] {
            assert!(!is_insecure(host, &settings), "{host}");
        }
    }
}
