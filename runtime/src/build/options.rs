//! What a build is asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use super::cancel::Cancel;
use crate::cgroup::Resources;
use crate::image::ImageId;
use crate::image::Platform;
use crate::reference::Reference;
use crate::registry::Settings;
use crate::sandbox::Limit;

/// A build.
#[derive(Debug, Default)]
pub struct BuildOptions {
    /// What `COPY` and `ADD` take files from.
    pub context: ContextSource,
    /// The Dockerfile.
    pub dockerfile: DockerfileSource,
    /// Further contexts that `FROM` and `--from` may name.
    pub contexts: BTreeMap<String, NamedContext>,
    /// Names for the image.
    pub tags: Vec<Reference>,
    /// The stage to build, by name or number; the last one if none is stated.
    pub target: Option<String>,
    /// Values for `ARG`s.
    pub args: BTreeMap<String, String>,
    /// Labels for the image.
    pub labels: BTreeMap<String, String>,
    /// Whether cached results are ignored.
    pub no_cache: bool,
    /// Stages whose cached results are ignored, by name or number.
    pub no_cache_stages: Vec<String>,
    /// Whether base images are pulled even if they are here.
    pub pull: bool,
    /// The platform of base images that state none.
    pub platform: Option<Platform>,
    /// `--network`'s argument, for every `RUN` that states none.
    pub network: Option<String>,
    /// Files that steps may be shown, by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Agents' sockets that steps may be shown, by id.
    pub agents: BTreeMap<String, PathBuf>,
    /// Whether a `RUN` may ask for `--security=insecure` or `--network=host`.
    pub allow: Allow,
    /// `name:address` for every `RUN`'s /etc/hosts.
    pub extra_hosts: Vec<String>,
    /// Bytes of every `RUN`'s /dev/shm.
    pub shm_size: Option<u64>,
    /// Limits of every `RUN`'s processes.
    pub ulimits: Vec<Limit>,
    /// Limits of every `RUN`.
    pub resources: Resources,
    /// What is made of the result.
    pub outputs: Vec<Output>,
    /// Where results may come from beside the engine's own cache.
    pub cache_from: Vec<CacheStore>,
    /// Where results are also kept.
    pub cache_to: Vec<CacheExport>,
    /// How to speak to registries.
    pub registry: Settings,
    /// What ends the build from outside; each build has its own.
    pub cancel: Cancel,
}

/// What a `RUN` may ask for beyond its walls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allow {
    /// `--allow security.insecure`
    pub insecure: bool,
    /// `--allow network.host`
    pub host_network: bool,
}

/// Where a context comes from.
#[derive(Debug, Default)]
pub enum ContextSource {
    /// Nothing is in it: the Dockerfile came alone.
    #[default]
    Empty,
    /// A directory, read in place.
    Directory(PathBuf),
    /// A tar, compressed or not.
    Archive(File),
    /// The address of a git repository, `#ref:directory` after it.
    Git(String),
    /// An address to fetch: a tar, or else the Dockerfile.
    Url(String),
}

impl ContextSource {
    /// Returns what an address leads to, as Docker tells: a git repository, or something to fetch; `None` if it is none.
    pub fn of_address(address: &str) -> Option<ContextSource> {
        let is_web = address.starts_with("http://") || address.starts_with("https://");
        let repository = address.split('#').next().unwrap_or(address);
        let is_git = ["git://", "ssh://", "github.com/", "git@"]
            .iter()
            .any(|prefix| address.starts_with(prefix));
        match is_web {
            true if repository.ends_with(".git") => Some(ContextSource::Git(address.to_owned())),
            true => Some(ContextSource::Url(address.to_owned())),
            false if is_git => Some(ContextSource::Git(address.to_owned())),
            false => None,
        }
    }
}

/// A further context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory.
    Directory(PathBuf),
    /// An image.
    Image(String),
    /// The address of a git repository.
    Git(String),
    /// The address of a tar.
    Url(String),
}

/// Where the Dockerfile is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerfileSource {
    /// In the context, by its path there.
    InContext(String),
    /// Given as text: it was read from elsewhere. With a `name`, the ignore file beside it is in `ignore`.
    Text {
        /// What errors call it.
        name: String,
        /// It.
        bytes: Vec<u8>,
        /// The ignore file that goes with it, `<name>.dockerignore`.
        ignore: Option<Vec<u8>>,
    },
}

impl Default for DockerfileSource {
    fn default() -> DockerfileSource {
        DockerfileSource::InContext("Dockerfile".to_owned())
    }
}

/// Where a secret comes from; it is read when a step wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file of the host.
    File(PathBuf),
    /// A variable of the calling process's environment.
    Env(String),
}

/// What is made of the result; without any an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An image among the engine's, with further names.
    Image {
        /// The names, beside those of [`BuildOptions::tags`].
        names: Vec<Reference>,
        /// Whether they are pushed.
        push: bool,
    },
    /// Its files, below a directory of the host.
    Local(PathBuf),
    /// Its files as a tar.
    Tar(Destination),
    /// An OCI layout in a tar.
    Oci(Destination),
    /// What `docker load` takes.
    Docker(Destination),
    /// Nothing but what the cache keeps.
    Cache,
}

/// Where a file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To the standard output.
    Stdout,
    /// To a file.
    File(PathBuf),
}

/// A place for cached results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheStore {
    /// A repository of a registry.
    Registry(Reference),
    /// An OCI layout in a directory.
    Local(PathBuf),
}

/// A place that cached results are written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheExport {
    /// Somewhere of its own; `all` writes every step's, not only those of the final stage.
    Store {
        /// Where.
        to: CacheStore,
        /// `mode=max`
        all: bool,
    },
    /// In the image's config, where `--cache-from` with the image's name finds it.
    Inline,
}

/// What a build has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOutcome {
    /// The image's id. It is among the engine's images if an output says so.
    pub image: ImageId,
    /// Its names.
    pub tags: Vec<Reference>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_repositories_are_told_from_other_addresses() {
        let of = ContextSource::of_address;
        for git in [
            "https://example.com/a.git",
            "http://example.com/a.git#main:dir",
            "git@example.com:a/b",
            "git://example.com/a",
            "ssh://git@example.com/a",
            "github.com/a/b",
        ] {
            assert!(matches!(of(git), Some(ContextSource::Git(_))), "{git}");
        }
        for url in ["https://example.com/a.tar", "https://example.com/a"] {
            assert!(matches!(of(url), Some(ContextSource::Url(_))), "{url}");
        }
        assert!(of("dir").is_none());
    }
}
