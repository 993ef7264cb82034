//! What goes wrong between here and a registry, in the words of Docker's client.

use std::io;
use std::time::Duration;

use layerfs::Digest;

use crate::image::printable;

/// A failed exchange with a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry could not be reached or broke off.
    #[error("{method} \"{url}\": {words}")]
    Transport {
        /// `Get`, `Head`, ...
        method: String,
        /// The address asked for.
        url: String,
        /// What happened, in Go's words.
        words: String,
        /// Whether another try may fare better.
        transient: bool,
    },
    /// The registry answered with its own error.
    #[error("{}", api_words(.errors))]
    Api {
        /// The HTTP status.
        status: u16,
        /// `CODE` and message of each.
        errors: Vec<(String, String)>,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The registry answered with a status that means nothing here.
    #[error("received unexpected HTTP status: {status} {}", reason(*.status))]
    Status {
        /// The HTTP status.
        status: u16,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The manifest asked for does not exist.
    #[error("manifest for {name} not found: {source}")]
    ManifestUnknown {
        /// What was asked for.
        name: String,
        /// What the registry said.
        source: Box<RegistryError>,
    },
    /// The repository asked for does not exist.
    #[error("repository {name} not found: {source}")]
    NameUnknown {
        /// What was asked for.
        name: String,
        /// What the registry said.
        source: Box<RegistryError>,
    },
    /// The repository may not be read.
    #[error(
        "pull access denied for {name}, repository does not exist or may require 'docker login': {source}"
    )]
    Denied {
        /// What was asked for.
        name: String,
        /// What the registry said.
        source: Box<RegistryError>,
    },
    /// The registry wants a login and none is known.
    #[error("{method} \"{url}\": no basic auth credentials")]
    NoCredentials {
        /// `Get`, `Head`, ...
        method: String,
        /// The address asked for.
        url: String,
    },
    /// A credential helper failed.
    #[error("error getting credentials for {server}: {words}")]
    Credentials {
        /// The registry.
        server: String,
        /// What the helper said.
        words: String,
    },
    /// A redirect leads round or nowhere.
    #[error("{method} \"{url}\": stopped after 10 redirects")]
    Redirects {
        /// `Get`, `Head`, ...
        method: String,
        /// The address asked for.
        url: String,
    },
    /// The manifest is not the one asked for.
    #[error("manifest verification failed for digest {expected}: the registry sent {found}")]
    ManifestDigest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// A blob is not what its digest says.
    #[error("filesystem layer verification failed for digest {0}")]
    BlobDigest(Digest),
    /// A blob's bytes stopped coming.
    #[error("blob {digest}: {source}")]
    Body {
        /// The blob.
        digest: Digest,
        /// What happened.
        source: io::Error,
    },
    /// More bytes than anything of the kind has.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What is.
        what: String,
        /// The bound.
        limit: u64,
    },
    /// An answer that the protocol does not know.
    #[error("{0}")]
    Protocol(String),
    /// The host's certificates cannot be used.
    #[error("{0}")]
    Certificates(String),
    /// A file of ours failed while it was sent.
    #[error("{0}")]
    Local(#[source] io::Error),
}

impl RegistryError {
    /// Returns whether the same request may succeed later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            RegistryError::Transport { transient, .. } => *transient,
            RegistryError::Api { status, .. } | RegistryError::Status { status, .. } => {
                matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
            }
            _ => false,
        }
    }

    /// Returns how long the registry asked to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            RegistryError::Api { retry_after, .. } | RegistryError::Status { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// Says what the failure means for a pull of `reference`, as Docker's engine does.
    pub(crate) fn for_pull(self, reference: &crate::reference::Reference) -> RegistryError {
        let code = match &self {
            RegistryError::Api { errors, .. } => errors
                .first()
                .map(|(code, _)| code.clone())
                .unwrap_or_default(),
            RegistryError::Status { status: 404, .. } => "MANIFEST_UNKNOWN".to_owned(),
            _ => return self,
        };
        let source = Box::new(self);
        match code.as_str() {
            "MANIFEST_UNKNOWN" => RegistryError::ManifestUnknown {
                name: reference.familiar(),
                source,
            },
            "NAME_UNKNOWN" => RegistryError::NameUnknown {
                name: reference.familiar_name(),
                source,
            },
            "DENIED" => RegistryError::Denied {
                name: reference.familiar_name(),
                source,
            },
            _ => *source,
        }
    }
}

/// Writes a registry's errors as Docker does: `manifest unknown: manifest unknown`.
fn api_words(errors: &[(String, String)]) -> String {
    let one = |(code, message): &(String, String)| {
        let code = code.to_ascii_lowercase().replace('_', " ");
        let mut line = printable(&format!("{code}: {message}"));
        if let Some((cut, _)) = line.char_indices().nth(1000) {
            line.truncate(cut);
            line.push_str("...");
        }
        line
    };
    match errors {
        [error] => one(error),
        several => {
            let lines: Vec<String> = several.iter().take(10).map(one).collect();
            format!("errors: {}", lines.join("; "))
        }
    }
}

/// Returns HTTP's own words for a status.
fn reason(status: u16) -> &'static str {
    ureq::http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("")
}

/// Returns Go's words for a broken exchange, and whether it may fare better later.
pub(super) fn describe(error: &ureq::Error, address: &str) -> (String, bool) {
    match error {
        ureq::Error::Io(error) => describe_io(error, address),
        ureq::Error::Timeout(ureq::Timeout::Connect) => {
            (format!("dial tcp {address}: i/o timeout"), true)
        }
        ureq::Error::Timeout(_) => (format!("read tcp {address}: i/o timeout"), true),
        ureq::Error::HostNotFound => {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            (format!("dial tcp: lookup {host}: no such host"), false)
        }
        ureq::Error::Rustls(error) => tls_words(&error.to_string()),
        ureq::Error::Tls(words) => tls_words(words),
        ureq::Error::Protocol(error) => (
            format!("malformed HTTP response: {}", printable(&error.to_string())),
            false,
        ),
        other => (printable(&other.to_string()), false),
    }
}

fn tls_words(words: &str) -> (String, bool) {
    let not_tls = words.contains("InvalidMessage")
        || words.contains("corrupt message")
        || words.contains("InvalidContentType");
    let words = match not_tls {
        true => "http: server gave HTTP response to HTTPS client".to_owned(),
        false if words.contains("UnknownIssuer") => {
            "x509: certificate signed by unknown authority".to_owned()
        }
        false if words.contains("CaUsedAsEndEntity") => {
            "x509: the server's certificate is a certificate authority's own (make it with \
             basicConstraints=CA:FALSE, or list the registry under insecure-registries)"
                .to_owned()
        }
        false => format!("tls: {words}"),
    };
    (words, false)
}

fn describe_io(error: &io::Error, address: &str) -> (String, bool) {
    use io::ErrorKind;
    if let Some(inner) = error.get_ref() {
        if let Some(inner) = inner.downcast_ref::<ureq::Error>() {
            return describe(inner, address);
        }
        let words = inner.to_string();
        if words.contains("InvalidMessage")
            || words.contains("corrupt message")
            || words.contains("invalid peer")
        {
            return tls_words(&words);
        }
    }
    let words = match error.kind() {
        ErrorKind::ConnectionRefused => {
            return (
                format!("dial tcp {address}: connect: connection refused"),
                false,
            );
        }
        ErrorKind::NetworkUnreachable => "connect: network is unreachable",
        ErrorKind::HostUnreachable => "connect: no route to host",
        ErrorKind::ConnectionReset => "read: connection reset by peer",
        ErrorKind::BrokenPipe => "write: broken pipe",
        ErrorKind::UnexpectedEof => return ("unexpected EOF".into(), true),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            return (format!("read tcp {address}: i/o timeout"), true);
        }
        _ => return (printable(&error.to_string()), true),
    };
    let transient = matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    );
    (format!("dial tcp {address}: {words}"), transient)
}
