//! The registry client: OCI's distribution protocol over blocking HTTP.
//!
//! `Client` speaks for one repository of one registry. It finds the registry's endpoint as Docker does (https; for
//! loopback and registries configured as insecure https without verification, then plain http), logs in as the
//! registry challenges, retries what may succeed later, and hands a blob out as a [`BlobReader`] that resumes by itself.

mod auth;
mod blob;
mod endpoint;
mod error;
mod http;
mod login_store;
mod proxy;
mod settings;
mod upload;

use std::io::Read as _;

use layerfs::Digest;

use crate::reference::DEFAULT_DOMAIN;
use crate::reference::Reference;
use auth::Authority;
pub use blob::BlobReader;
pub(crate) use blob::Told;
use endpoint::Endpoint;
pub use error::RegistryError;
use http::Exchange;
use http::Http;
use http::Reply;
pub use login_store::LoginStore;
pub use login_store::LoginStoreError;
pub use settings::Login;
pub use settings::Settings;

/// What a client wants to do with its repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
}

impl Access {
    fn actions(self) -> &'static str {
        match self {
            Access::Pull => "pull",
            Access::Push => "push,pull",
        }
    }
}

/// A manifest or index as a registry gave it.
#[derive(Debug, Clone)]
pub(crate) struct FetchedManifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

/// A client of one repository; shared by the threads that move its blobs.
pub(crate) struct Client {
    http: Http,
    endpoint: Endpoint,
    authority: Authority,
    path: String,
    settings: Settings,
}

impl Client {
    /// Finds the registry of `reference` and prepares to log in to it.
    pub(crate) fn connect(
        reference: &Reference,
        access: Access,
        settings: &Settings,
    ) -> Result<Client, RegistryError> {
        let (http, endpoint, challenges) = endpoint::find(host_of(reference.domain()), settings)?;
        let authority = Authority::new(
            reference.domain(),
            reference.path(),
            access,
            challenges,
            settings,
        );
        Ok(Client {
            http,
            endpoint,
            authority,
            path: reference.path().to_owned(),
            settings: settings.clone(),
        })
    }

    /// Lets the login reach another repository of the registry too, for mounting its blobs.
    pub(crate) fn also_pull_from(&self, path: &str) {
        self.authority.add_source(path);
    }

    fn url(&self, rest: &str) -> String {
        format!("{}/v2/{}/{rest}", self.endpoint.base, self.path)
    }

    /// Performs a request with login and retries.
    fn send(&self, exchange: &Exchange<'_>) -> Result<Reply, RegistryError> {
        http::with_retries(&self.settings, exchange, |exchange| {
            self.send_once(exchange)
        })
    }

    /// Performs a request with login; an address elsewhere that the registry sent us to gets no login.
    fn send_once(&self, exchange: &Exchange<'_>) -> Result<Reply, RegistryError> {
        match http::same_origin(exchange.url, &self.endpoint.base) {
            true => self.authority.send(&self.http, exchange),
            false => self.http.send(exchange, None),
        }
    }

    /// Fetches the manifest of a tag or digest; a digest is checked.
    pub(crate) fn manifest(&self, name: &str) -> Result<FetchedManifest, RegistryError> {
        let url = self.url(&format!("manifests/{name}"));
        let mut exchange = Exchange::get(&url);
        for accepted in crate::image::ACCEPT {
            exchange = exchange.header("accept", accepted);
        }
        let reply = self.send(&exchange)?.expect_success()?;
        let media_type = reply.header("content-type").unwrap_or_default().to_owned();
        let stated = reply.header("docker-content-digest").map(str::to_owned);
        let bytes = reply.bytes(crate::image::LARGEST_MANIFEST)?;
        let digest = Digest::of(&bytes);
        let expected = match name.parse::<Digest>() {
            Ok(expected) => Some(expected),
            // A digest of another algorithm says nothing to us.
            Err(_) => stated.and_then(|stated| stated.parse().ok()),
        };
        match expected {
            Some(expected) if expected != digest => Err(RegistryError::ManifestDigest {
                expected,
                found: digest,
            }),
            _ => Ok(FetchedManifest {
                digest,
                media_type,
                bytes,
            }),
        }
    }

    /// Fetches a small blob whole and checks it.
    pub(crate) fn small_blob(
        &self,
        digest: Digest,
        size: u64,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        if size > limit {
            return Err(RegistryError::TooLarge {
                what: digest.to_string(),
                limit,
            });
        }
        let mut bytes = Vec::new();
        let mut reader = self.blob(digest, size)?;
        if let Err(error) = reader.by_ref().take(limit + 1).read_to_end(&mut bytes) {
            return Err(RegistryError::Body {
                digest,
                source: error,
            });
        }
        match Digest::of(&bytes) == digest {
            true => Ok(bytes),
            false => Err(RegistryError::BlobDigest(digest)),
        }
    }

    /// Opens a blob for streaming; the digest is the caller's to check.
    pub(crate) fn blob(&self, digest: Digest, size: u64) -> Result<BlobReader<'_>, RegistryError> {
        BlobReader::open(self, digest, size)
    }

    /// Returns the tags of the repository, following the pages.
    pub(crate) fn tags(&self) -> Result<Vec<String>, RegistryError> {
        const MOST_TAGS: usize = 100_000;
        #[derive(serde::Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let mut url = self.url("tags/list");
        let mut tags = Vec::new();
        loop {
            let reply = self.send(&Exchange::get(&url))?.expect_success()?;
            let next = reply
                .header("link")
                .and_then(|link| link.split_once('<')?.1.split_once('>'))
                .filter(|(_, rest)| rest.contains("next"))
                .map(|(target, _)| http::join(&url, target))
                .transpose()?;
            let bytes = reply.bytes(crate::image::LARGEST_MANIFEST)?;
            let page: Page = serde_json::from_slice(&bytes)
                .map_err(|error| RegistryError::Protocol(format!("invalid tag list: {error}")))?;
            let page = page.tags.unwrap_or_default();
            let ended = page.is_empty();
            tags.extend(page.into_iter().filter(|tag| crate::reference::is_tag(tag)));
            match next {
                Some(next) if next != url && !ended && tags.len() < MOST_TAGS => url = next,
                _ => return Ok(tags),
            }
        }
    }
}

/// Returns where a domain's registry answers.
fn host_of(domain: &str) -> &str {
    match domain {
        DEFAULT_DOMAIN => "registry-1.docker.io",
        other => other,
    }
}

/// Returns the name under which a login for a registry is kept, as Docker has it: its host, or the index's address.
pub fn login_name(server: &str) -> String {
    let bare = server.split_once("://").map_or(server, |(_, rest)| rest);
    match bare.split('/').next().unwrap_or_default() {
        "" | "docker.io" | "index.docker.io" => "https://index.docker.io/v1/".to_owned(),
        host => host.to_owned(),
    }
}

/// Asks a registry whether it knows the login of the settings; `server` is how Docker's login calls it.
pub fn log_in(server: &str, settings: &Settings) -> Result<(), RegistryError> {
    let bare = server.split_once("://").map_or(server, |(_, rest)| rest);
    let domain = match bare.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" => DEFAULT_DOMAIN,
        domain => domain,
    };
    let (http, endpoint, challenges) = endpoint::find(host_of(domain), settings)?;
    let authority = Authority::of_registry(domain, challenges, settings);
    let url = format!("{}/v2/", endpoint.base);
    authority
        .send(&http, &Exchange::get(&url))?
        .expect_success()?;
    Ok(())
}

/// A file of the web.
pub(crate) struct FetchedFile<R> {
    /// The `Last-Modified` header.
    pub(crate) last_modified: Option<String>,
    /// The `Content-Disposition` header.
    pub(crate) disposition: Option<String>,
    pub(crate) body: R,
}

/// Opens any http or https address, with what its server says of it.
pub(crate) fn fetch(
    url: &str,
    settings: &Settings,
) -> Result<FetchedFile<impl std::io::Read + Send + use<>>, RegistryError> {
    let http = Http::new("", false, settings);
    let reply = http::with_retries(settings, &Exchange::get(url), |get| http.send(get, None))?;
    let reply = reply.expect_success()?;
    let header = |name: &str| reply.header(name).map(str::to_owned);
    Ok(FetchedFile {
        last_modified: header("last-modified"),
        disposition: header("content-disposition"),
        body: reply.into_body(),
    })
}

/// Opens any http or https address for reading.
pub(crate) fn download(
    url: &str,
    settings: &Settings,
) -> Result<impl std::io::Read + Send + use<>, RegistryError> {
    Ok(fetch(url, settings)?.body)
}
