//! Names of images: `[host[:port]/]name[:tag][@digest]` with Docker's defaults.
//!
//! The grammar is the `reference` package's of the distribution project: a first component is a registry's host when it
//! holds a dot or a colon, is `localhost`, or has an upper-case letter; a name without host is `docker.io`'s, a single
//! component there lives in `library/`.

use std::fmt;
use std::str::FromStr;

use layerfs::Digest;

/// The registry of names that state none.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag of names that state none.
pub const DEFAULT_TAG: &str = "latest";
const OFFICIAL: &str = "library";
const LONGEST_NAME: usize = 255;

/// A full image name: registry, repository, and a tag, a digest, both or neither.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A name that no image can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// It does not fit the grammar.
    #[error("invalid reference format")]
    Format,
    /// A repository's name has upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    UpperCase(String),
    /// The repository's name is too long.
    #[error(
        "invalid reference format: repository name must not be more than {LONGEST_NAME} characters"
    )]
    TooLong,
    /// 64 hex digits are an image's id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
}

impl Reference {
    /// Returns the registry's host and port.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns the repository's path within its registry (`library/debian`).
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the tag, if one is stated.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, if one is stated.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Returns registry and repository (`docker.io/library/debian`).
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Returns the repository as a person writes it (`debian`).
    pub fn familiar_name(&self) -> String {
        familiar_repository(&self.domain, &self.path)
    }

    /// Returns the whole name as a person writes it (`debian:12`).
    pub fn familiar(&self) -> String {
        let mut out = self.familiar_name();
        self.write_suffix(&mut out);
        out
    }

    /// Returns the name with `latest` where neither tag nor digest is stated.
    pub fn or_latest(&self) -> Reference {
        let mut full = self.clone();
        if full.tag.is_none() && full.digest.is_none() {
            full.tag = Some(DEFAULT_TAG.to_owned());
        }
        full
    }

    /// Returns the same repository's `tag`.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, InvalidReference> {
        if !is_tag(tag) {
            return Err(InvalidReference::Format);
        }
        Ok(Reference {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// Returns the repository without tag and digest.
    pub fn without_tag(&self) -> Reference {
        Reference {
            tag: None,
            digest: None,
            ..self.clone()
        }
    }

    /// Returns the same repository's image of that digest.
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// Returns whether a digest, which can never change its image, is stated.
    pub fn is_pinned(&self) -> bool {
        self.digest.is_some()
    }

    fn write_suffix(&self, out: &mut String) {
        if let Some(tag) = &self.tag {
            out.push(':');
            out.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            out.push('@');
            out.push_str(&digest.to_string());
        }
    }
}

/// Returns the repository as a person writes it: without what Docker assumes.
fn familiar_repository(domain: &str, path: &str) -> String {
    if domain != DEFAULT_DOMAIN {
        return format!("{domain}/{path}");
    }
    match path.strip_prefix("library/") {
        Some(name) if !name.contains('/') => name.to_owned(),
        _ => path.to_owned(),
    }
}

/// The full form, with registry and `library/`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = self.repository();
        self.write_suffix(&mut out);
        f.write_str(&out)
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Reference, InvalidReference> {
        if text.len() == 64 && Digest::from_hex(text).is_ok() {
            return Err(InvalidReference::Identifier(text.to_owned()));
        }
        let (domain, remainder) = split_domain(text);
        let name = remainder.split(':').next().unwrap_or_default();
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            // A digest's algorithm sits before the colon too and is not the name's fault.
            let name = name.split('@').next().unwrap_or_default().to_owned();
            return match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                true if is_printable(&name) => Err(InvalidReference::UpperCase(name)),
                _ => Err(InvalidReference::Format),
            };
        }
        let (rest, digest) = match remainder.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| InvalidReference::Format)?;
                (rest, Some(digest))
            }
            None => (remainder.as_str(), None),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        let valid =
            is_domain(&domain) && path.split('/').all(is_path_component) && tag.is_none_or(is_tag);
        if !valid {
            return Err(InvalidReference::Format);
        }
        if domain.len() + 1 + path.len() > LONGEST_NAME {
            return Err(InvalidReference::TooLong);
        }
        Ok(Reference {
            path: path.to_owned(),
            tag: tag.map(str::to_owned),
            domain,
            digest,
        })
    }
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Splits the registry's host from the rest, adding what Docker assumes.
fn split_domain(text: &str) -> (String, String) {
    let host = text.split_once('/').filter(|(first, _)| {
        first.contains(['.', ':'])
            || *first == "localhost"
            || first.bytes().any(|byte| byte.is_ascii_uppercase())
    });
    let (domain, remainder) = match host {
        Some(("index.docker.io", rest)) => (DEFAULT_DOMAIN, rest),
        Some((domain, rest)) => (domain, rest),
        None => (DEFAULT_DOMAIN, text),
    };
    match domain == DEFAULT_DOMAIN && !remainder.contains('/') {
        true => (domain.to_owned(), format!("{OFFICIAL}/{remainder}")),
        false => (domain.to_owned(), remainder.to_owned()),
    }
}

/// Returns whether `text` is a host name, IPv4 address or bracketed IPv6 address, with or without a port.
fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((address, rest)) => {
                let inside = address
                    .bytes()
                    .all(|byte| byte.is_ascii_hexdigit() || byte == b':');
                return inside
                    && !address.is_empty()
                    && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns whether `text` is `[a-z0-9]+` joined by one of `.`, `_`, `__` or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !is_word(*first) || !is_word(*last) {
        return false;
    }
    bytes
        .split(|byte| is_word(*byte))
        .all(|separator| match separator {
            b"" | b"." | b"_" | b"__" => true,
            dashes => dashes.iter().all(|byte| *byte == b'-'),
        })
}

/// Returns whether `text` can be a tag.
pub fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    (1..=128).contains(&bytes.len())
        && is_word(bytes[0])
        && bytes
            .iter()
            .all(|byte| is_word(*byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> String {
        text.parse::<Reference>().unwrap().or_latest().to_string()
    }

    #[test]
    fn a_short_name_gets_dockers_defaults() {
        assert_eq!(full("debian"), "docker.io/library/debian:latest");
        assert_eq!(full("debian:12"), "docker.io/library/debian:12");
        assert_eq!(full("foo/bar"), "docker.io/foo/bar:latest");
        assert_eq!(full("index.docker.io/x"), "docker.io/library/x:latest");
        assert_eq!(full("localhost/x"), "localhost/x:latest");
        assert_eq!(full("127.0.0.1:5000/a/b:c"), "127.0.0.1:5000/a/b:c");
        assert_eq!(full("[::1]:5000/a"), "[::1]:5000/a:latest");
        assert_eq!(full("A/b"), "A/b:latest");
        let digest = Digest::of(b"x");
        assert_eq!(
            full(&format!("x@{digest}")),
            format!("docker.io/library/x@{digest}")
        );
    }

    #[test]
    fn the_familiar_form_leaves_out_what_is_assumed() {
        for name in [
            "debian:12",
            "foo/bar",
            "q.io/library/x:1",
            "localhost:5000/a",
        ] {
            assert_eq!(name.parse::<Reference>().unwrap().familiar(), name);
        }
        let name: Reference = "docker.io/library/debian".parse().unwrap();
        assert_eq!(name.familiar(), "debian");
    }

    #[test]
    fn bad_names_are_refused_in_dockers_words() {
        let words = |text: &str| text.parse::<Reference>().unwrap_err().to_string();
        assert_eq!(
            words("BusyBox:Latest"),
            "invalid reference format: repository name (library/BusyBox) must be lowercase"
        );
        let long_tag = format!("a:{}", "t".repeat(129));
        for bad in [
            "",
            "busybox:a:b",
            "a//b",
            "/a",
            "a/",
            ":x",
            "a:",
            "a@b",
            "a@sha256:00",
            "-a",
            "a-",
            "a___b",
            "a..b",
            "a b",
            "a\nb",
            "..",
            "a/../b",
            "../../etc/passwd",
            "x.y:z/a",
            &long_tag,
            "[::1/a",
            "a:-b",
        ] {
            assert_eq!(words(bad), "invalid reference format", "{bad:?}");
        }
        assert!(words(&"a".repeat(64)).starts_with("invalid repository name"));
        assert!(words(&"ab".repeat(130)).contains("more than 255"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_refused_or_reads_back_as_it_is_shown(text in "[a-zA-Z0-9./:@_\\-\\[\\]é\n]{0,80}|.{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                proptest::prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
                proptest::prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
                proptest::prop_assert!(reference.to_string().bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
