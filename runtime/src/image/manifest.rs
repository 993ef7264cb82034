//! Manifests and indexes, Docker's and OCI's: one shape under two names each.

use layerfs::Digest;
use serde::Deserialize;
use serde::Serialize;

use super::ImageError;
use super::config::LARGEST_CONFIG;
use super::config::MOST_LAYERS;
use super::platform::Platform;

pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The largest manifest a registry must take, and the largest that is read (distribution-spec, "Pushing Manifests").
pub(crate) const LARGEST_MANIFEST: u64 = 4 << 20;

/// What an `Accept` header lists.
pub(crate) const ACCEPT: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

/// A blob by digest, size and type.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) size: u64,
    pub(crate) digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<DescribedPlatform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// The platform an index's entry is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DescribedPlatform {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

/// An image's manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

/// What bytes under a manifest's digest can be.
#[derive(Debug)]
pub(crate) enum Parsed {
    Manifest(Manifest),
    Index(Vec<Descriptor>),
}

impl Descriptor {
    /// Returns the digest, if it is a sha256.
    pub(crate) fn digest(&self) -> Result<Digest, ImageError> {
        self.digest
            .parse()
            .map_err(|error| ImageError::Malformed(format!("invalid manifest: {error}")))
    }
}

/// Reads a manifest or index; the bytes decide, the type stated beside them (a header's) only breaks a tie.
pub(crate) fn parse(bytes: &[u8], stated: &str) -> Result<Parsed, ImageError> {
    let malformed =
        |what: &dyn std::fmt::Display| ImageError::Malformed(format!("invalid manifest: {what}"));
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Probe {
        #[serde(default)]
        schema_version: u32,
        #[serde(default)]
        media_type: String,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
        #[serde(default)]
        layers: Option<serde::de::IgnoredAny>,
    }
    let probe: Probe = serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
    if probe.schema_version == 1 || stated.contains("docker.distribution.manifest.v1+") {
        return Err(ImageError::Malformed(
            "Docker Image Format v1 and Docker Image manifest version 2, schema 1 are not supported: \
             push the image again with a newer tool"
                .into(),
        ));
    }
    // Both at once is a known trick to be two images under one digest (CVE-2021-41190).
    if probe.manifests.is_some() && probe.layers.is_some() {
        return Err(malformed(&"both an index and a manifest"));
    }
    let media_type = match probe.media_type.as_str() {
        "" => stated.split(';').next().unwrap_or_default().trim(),
        stated => stated,
    };
    let is_index = match media_type {
        OCI_INDEX | DOCKER_LIST => true,
        OCI_MANIFEST | DOCKER_MANIFEST => false,
        _ => probe.manifests.is_some(),
    };
    if is_index {
        let index: Index = serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
        return Ok(Parsed::Index(index.manifests));
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
    if manifest.layers.len() > MOST_LAYERS {
        return Err(malformed(&format_args!(
            "{} layers, more than {MOST_LAYERS}",
            manifest.layers.len()
        )));
    }
    if manifest.config.size > LARGEST_CONFIG {
        return Err(malformed(&format_args!(
            "a config of {} bytes, more than {LARGEST_CONFIG}",
            manifest.config.size
        )));
    }
    Ok(Parsed::Manifest(manifest))
}

/// Returns the entry of an index that fits `platform` best, the first of equals.
pub(crate) fn select<'a>(
    entries: &'a [Descriptor],
    platform: &Platform,
) -> Result<&'a Descriptor, ImageError> {
    let mut best: Option<(u32, &Descriptor)> = None;
    for entry in entries {
        let is_manifest = matches!(
            entry.media_type.as_str(),
            "" | OCI_MANIFEST | DOCKER_MANIFEST | OCI_INDEX | DOCKER_LIST
        );
        let fit = match &entry.platform {
            _ if !is_manifest => None,
            Some(offered) => platform.fit(
                &offered.os,
                &offered.architecture,
                offered.variant.as_deref(),
            ),
            // An index of one that says nothing: its config will tell.
            None => Some(1),
        };
        if let Some(fit) = fit
            && best.is_none_or(|(known, _)| fit > known)
        {
            best = Some((fit, entry));
        }
    }
    best.map(|(_, entry)| entry)
        .ok_or_else(|| ImageError::NoPlatform(platform.clone()))
}
