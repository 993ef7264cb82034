//! `load`: images from an archive: `docker save`'s (old and new form), podman's, an OCI layout in a tar.

use std::io::Read;

use layerfs::Digest;

use super::ImageError;
use super::ImageId;
use super::archive;
use super::archive::Contents;
use super::config;
use super::config::ParsedConfig;
use super::manifest;
use super::manifest::Descriptor;
use super::manifest::Parsed;
use super::platform::Platform;
use super::rows;
use crate::Engine;
use crate::progress::Progress;
use crate::progress::ProgressEvent;
use crate::reference::Reference;

/// An image that was loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Its id.
    pub image: ImageId,
    /// The names the archive gave it.
    pub tags: Vec<Reference>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// An image of the archive, complete in the store.
struct Found {
    bytes: Vec<u8>,
    config: ParsedConfig,
    tags: Vec<Reference>,
}

impl Engine {
    /// Adds every image of the archive, all or none, reading it once from start to end.
    pub fn load(
        &self,
        reader: &mut dyn Read,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>, ImageError> {
        let _lease = self.lease()?;
        let contents = archive::read(self, reader, progress)?;
        let found = match (contents.json("manifest.json"), contents.json("index.json")) {
            (Some(manifest), _) => self.saved_images(manifest, &contents)?,
            (None, Some(index)) => self.layout_images(index, &contents)?,
            (None, None) => {
                return Err(ImageError::Archive(
                    "invalid archive: neither manifest.json nor index.json is in it".into(),
                ));
            }
        };
        let mut prepared = Vec::new();
        for found in found {
            let row = self.prepare_image(&found.bytes, &found.config)?;
            prepared.push((row, found));
        }
        let mut renamed = Vec::new();
        let mut loaded = Vec::new();
        let mut db = self.db();
        let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for (row, found) in prepared {
            rows::add_image(&transaction, &row, &found.config.layers)?;
            for reference in &found.tags {
                let (repository, tag) =
                    (reference.repository(), reference.tag().unwrap_or_default());
                match rows::tagged(&transaction, &repository, tag)? {
                    Some(old) if old == row.id => continue,
                    Some(old) => renamed.push((reference.familiar(), old)),
                    None => {}
                }
                rows::set_tag(&transaction, &repository, tag, &row.id)?;
            }
            loaded.push(Loaded {
                image: row.id,
                tags: found.tags,
            });
        }
        transaction.commit()?;
        drop(db);
        for (name, old) in renamed {
            progress.event(ProgressEvent::Message(format!(
                "The image {name} already exists, renaming the old one with ID {old} to empty string"
            )));
        }
        for image in &loaded {
            let id = image.image.to_string();
            let name = image.tags.first().map(|tag| tag.familiar());
            self.emit_image("load", &id, &name.unwrap_or_else(|| id.clone()));
        }
        Ok(loaded)
    }

    /// Reads `manifest.json`, what `docker save` writes.
    fn saved_images(&self, manifest: &[u8], contents: &Contents) -> Result<Vec<Found>, ImageError> {
        let images: Vec<SavedImage> = serde_json::from_slice(manifest)
            .map_err(|error| ImageError::Archive(format!("invalid manifest.json: {error}")))?;
        let mut found = Vec::new();
        for image in images {
            let bytes = contents
                .json(&image.config)
                .ok_or_else(|| missing(&image.config))?;
            let config = config::parse(bytes)?;
            let layers = image.layers.unwrap_or_default();
            if layers.len() != config.layers.len() {
                return Err(ImageError::Archive(format!(
                    "invalid manifest, layers length mismatch: expected {}, got {}",
                    config.layers.len(),
                    layers.len()
                )));
            }
            for (name, expected) in layers.iter().zip(&config.layers) {
                match contents.layer(name) {
                    Some(layer) if layer == *expected => {}
                    Some(layer) => {
                        return Err(ImageError::Archive(format!(
                            "invalid diffID for layer {}: expected {expected:?}, got {layer:?}",
                            super::printable(name)
                        )));
                    }
                    None if self.store().has_layer(expected) => {}
                    None => return Err(missing(name)),
                }
            }
            let mut tags = Vec::new();
            for tag in image.repo_tags.unwrap_or_default() {
                let reference: Reference = tag.parse().map_err(|_| {
                    ImageError::Archive(format!("invalid tag {:?}", super::printable(&tag)))
                })?;
                if reference.tag().is_none() || reference.is_pinned() {
                    return Err(ImageError::Archive(format!(
                        "invalid tag {:?}",
                        super::printable(&tag)
                    )));
                }
                tags.push(reference);
            }
            found.push(Found {
                bytes: bytes.to_vec(),
                config,
                tags,
            });
        }
        Ok(found)
    }

    /// Reads `index.json` of an OCI layout (image-spec `image-layout.md`).
    fn layout_images(&self, index: &[u8], contents: &Contents) -> Result<Vec<Found>, ImageError> {
        let Parsed::Index(entries) = manifest::parse(index, manifest::OCI_INDEX)? else {
            return Err(ImageError::Archive("invalid index.json".into()));
        };
        let mut found: Vec<Found> = Vec::new();
        for entry in &entries {
            let Some((bytes, config)) = self.layout_image(entry, contents, 0)? else {
                continue;
            };
            let tags: Vec<Reference> = layout_name(entry).into_iter().collect();
            // `save` writes one entry for each name of an image.
            match found
                .iter_mut()
                .find(|one| one.config.digest == config.digest)
            {
                Some(known) => known.tags.extend(tags),
                None => found.push(Found {
                    bytes,
                    config,
                    tags,
                }),
            }
        }
        match found.is_empty() {
            true => Err(ImageError::Archive(
                "invalid archive: no image for this platform in it".into(),
            )),
            false => Ok(found),
        }
    }

    fn layout_image(
        &self,
        entry: &Descriptor,
        contents: &Contents,
        depth: usize,
    ) -> Result<Option<(Vec<u8>, ParsedConfig)>, ImageError> {
        let bytes = layout_blob(contents, entry.digest()?)?;
        match manifest::parse(bytes, &entry.media_type)? {
            Parsed::Index(entries) if depth < 4 => {
                match manifest::select(&entries, &Platform::host()) {
                    Ok(entry) => self.layout_image(entry, contents, depth + 1),
                    Err(_) => Ok(None),
                }
            }
            Parsed::Index(_) => Err(ImageError::Archive(
                "invalid index.json: indexes within indexes".into(),
            )),
            Parsed::Manifest(manifest) => {
                let bytes = layout_blob(contents, manifest.config.digest()?)?;
                let config = config::parse(bytes)?;
                if manifest.layers.len() != config.layers.len() {
                    return Err(ImageError::Archive(format!(
                        "invalid manifest, layers length mismatch: expected {}, got {}",
                        config.layers.len(),
                        manifest.layers.len()
                    )));
                }
                for (layer, expected) in manifest.layers.iter().zip(&config.layers) {
                    let name = blob_name(layer.digest()?);
                    match contents.layer(&name) {
                        Some(layer) if layer == *expected => {}
                        Some(_) => return Err(ImageError::DigestMismatch(expected.0)),
                        None if self.store().has_layer(expected) => {}
                        None => return Err(missing(&name)),
                    }
                }
                Ok(Some((bytes.to_vec(), config)))
            }
        }
    }
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Returns a blob of a layout, checked.
fn layout_blob(contents: &Contents, digest: Digest) -> Result<&[u8], ImageError> {
    let name = blob_name(digest);
    let bytes = contents.json(&name).ok_or_else(|| missing(&name))?;
    match Digest::of(bytes) == digest {
        true => Ok(bytes),
        false => Err(ImageError::DigestMismatch(digest)),
    }
}

/// Returns the name that an index's entry states in an annotation: containerd's and Docker's full one, else OCI's, which
/// may be only a tag and then names nothing.
fn layout_name(entry: &Descriptor) -> Option<Reference> {
    let annotations = entry.annotations.as_ref()?;
    let full = annotations.get("io.containerd.image.name");
    let name = full.or_else(|| {
        annotations
            .get("org.opencontainers.image.ref.name")
            .filter(|name| name.contains([':', '/']))
    })?;
    let reference = name.parse::<Reference>().ok()?.or_latest();
    reference.tag()?;
    Some(match reference.is_pinned() {
        true => reference.with_tag(reference.tag()?).ok()?,
        false => reference,
    })
}

fn missing(name: &str) -> ImageError {
    ImageError::Archive(format!(
        "invalid archive: {} is not in it",
        super::printable(name)
    ))
}
