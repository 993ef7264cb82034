//! What a registry has under a name, without fetching it.

use layerfs::Digest;

use super::ImageError;
use super::config;
use super::manifest;
use super::manifest::Parsed;
use crate::Engine;
use crate::reference::Reference;
use crate::registry::Access;
use crate::registry::Client;
use crate::registry::Settings;

/// A manifest or index in a registry.
#[derive(Debug, Clone)]
pub struct Distribution {
    /// Its type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// What it is for: architecture, system, variant.
    pub platforms: Vec<(String, String, Option<String>)>,
}

impl Engine {
    /// Asks the registry what it has under that name.
    pub fn distribution(
        &self,
        reference: &Reference,
        settings: &Settings,
    ) -> Result<Distribution, ImageError> {
        let reference = reference.or_latest();
        let client = Client::connect(&reference, Access::Pull, settings)?;
        let name = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or(crate::reference::DEFAULT_TAG).to_owned(),
        };
        let fetched = client
            .manifest(&name)
            .map_err(|error| error.for_pull(&reference))?;
        let platforms = match manifest::parse(&fetched.bytes, &fetched.media_type)? {
            Parsed::Index(entries) => entries
                .into_iter()
                .filter_map(|entry| entry.platform)
                .map(|it| (it.architecture, it.os, it.variant))
                .collect(),
            Parsed::Manifest(manifest) => {
                let descriptor = &manifest.config;
                let limit = config::LARGEST_CONFIG;
                let bytes = client.small_blob(descriptor.digest()?, descriptor.size, limit)?;
                let raw = config::parse(&bytes)?.raw;
                let text = |key: &str| raw[key].as_str().map(str::to_owned);
                vec![(
                    text("architecture").unwrap_or_default(),
                    text("os").unwrap_or_default(),
                    text("variant"),
                )]
            }
        };
        Ok(Distribution {
            media_type: fetched.media_type,
            digest: fetched.digest,
            size: fetched.bytes.len() as u64,
            platforms,
        })
    }
}
