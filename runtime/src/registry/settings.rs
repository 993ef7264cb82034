//! What the client is told from outside: time-outs, insecure registries, where credentials lie.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A login that whoever asks has brought along.
#[derive(Clone)]
pub enum Login {
    /// A name and its password.
    Password {
        /// The name.
        user: String,
        /// Its password.
        password: String,
    },
    /// What a registry has given in exchange for one.
    IdentityToken(String),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(..)")
    }
}

/// The client's settings.
///
/// Insecure registries are read as Docker states them, from the key `insecure-registries` (names, `host:port`s and
/// CIDR ranges) of `/etc/docker/daemon.json` and `/etc/ply/config.json`, and from `PLY_INSECURE_REGISTRIES` (separated
/// by commas). 127.0.0.0/8, ::1 and `localhost` always are.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long one wait for the network may take (`PLY_REGISTRY_TIMEOUT`, seconds; 30).
    pub idle_timeout: Duration,
    /// How often a request is tried again.
    pub retries: u32,
    /// The wait before the first of them; each next one doubles it.
    pub retry_delay: Duration,
    /// Registries that may be spoken to without a verified certificate, or plainly.
    pub insecure: Vec<String>,
    /// `config.json` with logins and credential helpers, if there is one.
    pub docker_config: Option<PathBuf>,
    /// A login to use in place of what is stored there.
    pub login: Option<Login>,
    /// Logins to use in place of what is stored there, by the registry's name, where `login` is none.
    pub logins: BTreeMap<String, Login>,
    /// Directories with `<host>/*.crt`, as `/etc/docker/certs.d`.
    pub certificates: Vec<PathBuf>,
    /// How many layers move at once.
    pub parallel: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let idle_timeout = env("PLY_REGISTRY_TIMEOUT")
            .and_then(|value| value.parse::<f64>().ok())
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .filter(|timeout| !timeout.is_zero())
            .unwrap_or(Duration::from_secs(30));
        let mut insecure: Vec<String> = env("PLY_INSECURE_REGISTRIES")
            .map(|list| list.split(',').map(|name| name.trim().to_owned()).collect())
            .unwrap_or_default();
        for file in ["/etc/docker/daemon.json", "/etc/ply/config.json"] {
            insecure.extend(insecure_registries(file));
        }
        insecure.retain(|name| !name.is_empty());
        let docker_config = env("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| env("HOME").map(|home| PathBuf::from(home).join(".docker")))
            .map(|directory| directory.join("config.json"));
        Settings {
            idle_timeout,
            retries: 5,
            retry_delay: Duration::from_millis(500),
            insecure,
            docker_config,
            login: None,
            logins: BTreeMap::new(),
            certificates: vec!["/etc/docker/certs.d".into(), "/etc/ply/certs.d".into()],
            parallel: 3,
        }
    }
}

/// Reads the list from one file; what is not there or not JSON configures nothing.
fn insecure_registries(file: &str) -> Vec<String> {
    let Ok(bytes) = std::fs::read(file) else {
        return Vec::new();
    };
    match serde_json::from_slice::<serde_json::Value>(&bytes) {
        Ok(value) => value["insecure-registries"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
        Err(error) => {
            log::warn!("{file}: {error}");
            Vec::new()
        }
    }
}
