//! One HTTP exchange: redirects, answers, and when to try again.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;
use std::time::Duration;

use rand::Rng as _;
use ureq::Agent;
use ureq::http::Method;
use ureq::http::Uri;
use ureq::tls::Certificate;
use ureq::tls::PemItem;
use ureq::tls::RootCerts;
use ureq::tls::TlsConfig;

use super::error;
use super::error::RegistryError;
use super::proxy;
use super::settings::Settings;

/// As many as Go's client follows.
const MOST_REDIRECTS: usize = 10;
/// The longest a registry may make us wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// As much of an error's body as is read.
const LARGEST_ERROR: u64 = 64 << 10;

/// A request that can be sent again.
#[derive(Clone)]
pub(super) struct Exchange<'a> {
    pub(super) method: Method,
    pub(super) url: &'a str,
    headers: Vec<(&'static str, String)>,
    payload: Payload<'a>,
}

/// A request's body.
#[derive(Clone)]
enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    File {
        file: &'a File,
        length: u64,
        told: &'a (dyn Fn(u64) + Sync),
    },
}

impl<'a> Exchange<'a> {
    pub(super) fn new(method: Method, url: &'a str) -> Exchange<'a> {
        Exchange {
            method,
            url,
            headers: Vec::new(),
            payload: Payload::None,
        }
    }

    pub(super) fn get(url: &'a str) -> Exchange<'a> {
        Exchange::new(Method::GET, url)
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Exchange<'a> {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends `bytes`; empty ones state a length of 0.
    pub(super) fn bytes(mut self, bytes: &'a [u8]) -> Exchange<'a> {
        self.payload = Payload::Bytes(bytes);
        self
    }

    /// Sends `length` bytes of `file` from its start, telling how many went.
    pub(super) fn file(
        mut self,
        file: &'a File,
        length: u64,
        told: &'a (dyn Fn(u64) + Sync),
    ) -> Exchange<'a> {
        self.payload = Payload::File { file, length, told };
        self
    }

    /// Returns the method as Go's client writes it: `Get`.
    pub(super) fn method_words(&self) -> String {
        let name = self.method.as_str();
        name[..1].to_owned() + &name[1..].to_ascii_lowercase()
    }
}

/// Reads a file from its start without moving its own position.
struct FileBody<'a> {
    file: &'a File,
    offset: u64,
    length: u64,
    told: &'a (dyn Fn(u64) + Sync),
}

impl Read for FileBody<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length - self.offset;
        let wanted = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..wanted], self.offset)?;
        self.offset += read as u64;
        (self.told)(self.offset);
        Ok(read)
    }
}

/// An answer.
pub(super) struct Reply {
    pub(super) status: u16,
    /// The address that answered, after redirects.
    pub(super) url: String,
    headers: ureq::http::HeaderMap,
    body: ureq::Body,
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the body for streaming.
    pub(super) fn into_body(self) -> impl Read + Send + use<> {
        self.body.into_reader()
    }

    /// Reads the body whole.
    pub(super) fn bytes(self, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let url = self.url.clone();
        let mut bytes = Vec::new();
        self.into_body()
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| transport_error("Get", &url, &ureq::Error::Io(source)))?;
        match bytes.len() as u64 > limit {
            true => Err(RegistryError::TooLarge { what: url, limit }),
            false => Ok(bytes),
        }
    }

    /// Reads what is left, so that the connection can serve again.
    pub(super) fn drain(self) {
        let _ = io::copy(&mut self.into_body().take(LARGEST_ERROR), &mut io::sink());
    }

    /// Turns an answer that is not a success into the registry's error.
    pub(super) fn expect_success(self) -> Result<Reply, RegistryError> {
        match self.is_success() {
            true => Ok(self),
            false => Err(self.into_error()),
        }
    }

    /// Returns the error an answer states.
    pub(super) fn into_error(self) -> RegistryError {
        #[derive(serde::Deserialize)]
        struct Errors {
            errors: Vec<One>,
        }
        #[derive(serde::Deserialize)]
        struct One {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: Option<String>,
        }
        let status = self.status;
        let retry_after = self
            .header("retry-after")
            .and_then(|value| value.trim().parse().ok())
            .map(Duration::from_secs);
        let mut bytes = Vec::new();
        let _ = self.into_body().take(LARGEST_ERROR).read_to_end(&mut bytes);
        match serde_json::from_slice::<Errors>(&bytes) {
            Ok(Errors { errors }) if !errors.is_empty() => RegistryError::Api {
                status,
                errors: errors
                    .into_iter()
                    .map(|one| (one.code, one.message.unwrap_or_default()))
                    .collect(),
                retry_after,
            },
            _ if status == 401 => RegistryError::Api {
                status,
                errors: vec![("UNAUTHORIZED".into(), "authentication required".into())],
                retry_after,
            },
            _ if status == 429 => RegistryError::Api {
                status,
                errors: vec![("TOOMANYREQUESTS".into(), "too many requests".into())],
                retry_after,
            },
            _ => RegistryError::Status {
                status,
                retry_after,
            },
        }
    }
}

/// The connections: one set for the registry itself, one for wherever it redirects to.
pub(super) struct Http {
    settings: Settings,
    /// `host:port` that may be spoken to without a verified certificate.
    lenient: Option<String>,
    lenient_agent: Agent,
    verified: OnceLock<Agent>,
    proxied: OnceLock<Agent>,
    host: String,
}

impl Http {
    /// Prepares connections to `host` (`name[:port]`).
    pub(super) fn new(host: &str, lenient: bool, settings: &Settings) -> Http {
        let config = agent_config(
            settings,
            TlsConfig::builder().disable_verification(true).build(),
        );
        Http {
            settings: settings.clone(),
            lenient: lenient.then(|| host.to_owned()),
            lenient_agent: config.build().into(),
            verified: OnceLock::new(),
            proxied: OnceLock::new(),
            host: host.to_owned(),
        }
    }

    /// Chooses the connections for an address.
    fn agent(&self, url: &Uri) -> Result<Agent, RegistryError> {
        let authority = url.authority().map(|authority| authority.as_str());
        if self.lenient.is_some() && self.lenient.as_deref() == authority {
            return Ok(self.lenient_agent.clone());
        }
        let proxy = proxy::for_url(url)?;
        let cell = match &proxy {
            Some(_) => &self.proxied,
            None => &self.verified,
        };
        if let Some(agent) = cell.get() {
            return Ok(agent.clone());
        }
        let is_https = url.scheme_str() == Some("https");
        let config = agent_config(&self.settings, verified_tls(&self.host, &self.settings)?);
        let agent: Agent = config.proxy(proxy).build().into();
        // A plain request may come before the first https one and differ in its proxy: keep only the common case.
        if is_https {
            let _ = cell.set(agent.clone());
        }
        Ok(agent)
    }

    /// Sends a request once, following redirects of what has no body; a login is never sent on to another host.
    pub(super) fn send(
        &self,
        exchange: &Exchange<'_>,
        authorization: Option<&str>,
    ) -> Result<Reply, RegistryError> {
        let mut url = exchange.url.to_owned();
        let origin = origin(&url)?;
        for _ in 0..=MOST_REDIRECTS {
            let uri: Uri = url.parse().map_err(|_| invalid_url(&url))?;
            let agent = self.agent(&uri)?;
            let mut request = ureq::http::Request::builder()
                .method(exchange.method.clone())
                .uri(uri)
                .header("accept-encoding", "identity");
            for (name, value) in &exchange.headers {
                request = request.header(*name, value);
            }
            if let Some(authorization) = authorization
                && self::origin(&url)? == origin
            {
                request = request.header("authorization", authorization);
            }
            let failed =
                |error: ureq::Error| transport_error(&exchange.method_words(), &url, &error);
            let build = |error: ureq::http::Error| failed(ureq::Error::Http(error));
            let result = match exchange.payload {
                Payload::None => agent.run(request.body(()).map_err(build)?),
                Payload::Bytes(bytes) => {
                    let request = request.header("content-length", bytes.len());
                    agent.run(request.body(bytes).map_err(build)?)
                }
                Payload::File { file, length, told } => {
                    let mut body = FileBody {
                        file,
                        offset: 0,
                        length,
                        told,
                    };
                    let request = request.header("content-length", length);
                    let body = ureq::SendBody::from_reader(&mut body);
                    agent.run(request.body(body).map_err(build)?)
                }
            };
            let (parts, body) = result.map_err(failed)?.into_parts();
            let reply = Reply {
                status: parts.status.as_u16(),
                url: url.clone(),
                headers: parts.headers,
                body,
            };
            let follows = matches!(exchange.method, Method::GET | Method::HEAD)
                && matches!(reply.status, 301 | 302 | 303 | 307 | 308);
            match reply.header("location").map(str::to_owned) {
                Some(location) if follows => {
                    url = join(&url, &location)?;
                    reply.drain();
                }
                _ => return Ok(reply),
            }
        }
        Err(RegistryError::Redirects {
            method: exchange.method_words(),
            url: exchange.url.to_owned(),
        })
    }
}

fn agent_config(
    settings: &Settings,
    tls: TlsConfig,
) -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(concat!("ply/", env!("CARGO_PKG_VERSION")))
        .max_idle_connections_per_host(8)
        .timeout_resolve(Some(settings.idle_timeout))
        .timeout_connect(Some(settings.idle_timeout))
        .timeout_per_read(Some(settings.idle_timeout))
        .timeout_per_write(Some(settings.idle_timeout))
        .tls_config(tls)
}

/// Returns the trust of the host's store plus what `certs.d` adds for this registry.
fn verified_tls(host: &str, settings: &Settings) -> Result<TlsConfig, RegistryError> {
    let mut roots: Vec<Certificate<'static>> = rustls_native_certs::load_native_certs()
        .certs
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .collect();
    let mut client = None;
    for directory in &settings.certificates {
        let Ok(entries) = std::fs::read_dir(directory.join(host)) else {
            continue;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let broken = |error: &dyn std::fmt::Display| {
                RegistryError::Certificates(format!("{}: {error}", path.display()))
            };
            let read = |path: &std::path::Path| std::fs::read(path).map_err(|error| broken(&error));
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => roots.extend(certificates(&read(&path)?).map_err(|e| broken(&e))?),
                Some("cert") => {
                    let chain = certificates(&read(&path)?).map_err(|error| broken(&error))?;
                    let key = ureq::tls::PrivateKey::from_pem(&read(&path.with_extension("key"))?)
                        .map_err(|error| broken(&error))?;
                    client = Some(ureq::tls::ClientCert::new_with_certs(&chain, key));
                }
                _ => {}
            }
        }
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::from(roots))
        .client_cert(client)
        .build())
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, ureq::Error> {
    ureq::tls::parse_pem(pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
        .collect()
}

/// Sends with `send` until it succeeds, fails for good, or the tries are used up.
pub(super) fn with_retries(
    settings: &Settings,
    exchange: &Exchange<'_>,
    send: impl Fn(&Exchange<'_>) -> Result<Reply, RegistryError>,
) -> Result<Reply, RegistryError> {
    let mut tries = 0;
    loop {
        let error = match send(exchange) {
            Ok(reply) if matches!(reply.status, 408 | 429 | 500 | 502 | 503 | 504) => {
                reply.into_error()
            }
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        if !error.is_transient() || tries >= settings.retries {
            return Err(error);
        }
        let delay = error
            .retry_after()
            .unwrap_or_else(|| backoff(settings, tries));
        if delay > LONGEST_WAIT {
            return Err(error);
        }
        log::debug!("{error}; again in {delay:?}");
        std::thread::sleep(delay);
        tries += 1;
    }
}

/// Returns the wait before try `tries + 1`: doubled each time, spread so that several clients do not march in step.
pub(super) fn backoff(settings: &Settings, tries: u32) -> Duration {
    let delay = settings.retry_delay.saturating_mul(1 << tries.min(6));
    let delay = delay.mul_f64(rand::rng().random_range(0.75..1.25));
    delay.min(Duration::from_secs(10))
}

pub(super) fn transport_error(method: &str, url: &str, error: &ureq::Error) -> RegistryError {
    let address = url
        .parse::<Uri>()
        .ok()
        .and_then(|uri| {
            let default = if uri.scheme_str() == Some("https") {
                443
            } else {
                80
            };
            Some(format!(
                "{}:{}",
                uri.host()?,
                uri.port_u16().unwrap_or(default)
            ))
        })
        .unwrap_or_default();
    let (words, transient) = error::describe(error, &address);
    RegistryError::Transport {
        method: method.to_owned(),
        url: crate::image::printable(url),
        words,
        transient,
    }
}

fn invalid_url(url: &str) -> RegistryError {
    RegistryError::Protocol(format!(
        "the registry redirects to {:?}, which is no address",
        url.chars().take(200).collect::<String>()
    ))
}

/// Returns scheme, host and port of an address.
fn origin(url: &str) -> Result<(String, String), RegistryError> {
    let uri: Uri = url.parse().map_err(|_| invalid_url(url))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some(scheme @ ("http" | "https")), Some(authority)) => {
            Ok((scheme.to_owned(), authority.as_str().to_ascii_lowercase()))
        }
        _ => Err(invalid_url(url)),
    }
}

/// Returns whether two addresses are the same scheme, host and port.
pub(super) fn same_origin(left: &str, right: &str) -> bool {
    matches!((origin(left), origin(right)), (Ok(left), Ok(right)) if left == right)
}

/// Resolves a `Location` against the address that sent it.
pub(super) fn join(base: &str, target: &str) -> Result<String, RegistryError> {
    let (scheme, authority) = origin(base)?;
    let joined = if target.starts_with("http://") || target.starts_with("https://") {
        target.to_owned()
    } else if let Some(rest) = target.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if target.starts_with('/') {
        format!("{scheme}://{authority}{target}")
    } else {
        let path = base.split(['?', '#']).next().unwrap_or(base);
        let parent = path.rsplit_once('/').map_or(path, |(parent, _)| parent);
        format!("{parent}/{target}")
    };
    let joined = joined.split('#').next().unwrap_or_default().to_owned();
    origin(&joined)?;
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_may_be_absolute_or_relative() {
        let base = "http://r:5000/v2/a/blobs/uploads/?x=1";
        for (target, expected) in [
            ("https://cdn/x?y", "https://cdn/x?y"),
            ("//cdn/x", "http://cdn/x"),
            ("/v2/q", "http://r:5000/v2/q"),
            ("id", "http://r:5000/v2/a/blobs/uploads/id"),
        ] {
            assert_eq!(join(base, target).unwrap(), expected);
        }
        for bad in ["file:///etc/passwd", "http://", "http:///x"] {
            assert!(
                join(base, bad).is_err() || join(base, bad).unwrap().starts_with("http://r:5000/"),
                "{bad}"
            );
        }
    }
}
