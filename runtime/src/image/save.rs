//! `save`: images as an archive, deterministic to the byte.
//!
//! The default form is that of Docker 25 and later: an OCI layout (`oci-layout`, `index.json`, `blobs/`) that also has
//! `manifest.json` and `repositories`, so that both kinds of readers take it. Layers are plain tars, rebuilt as they
//! are written.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::io;
use std::io::Write;

use layerfs::Digest;
use serde_json::Value;
use serde_json::json;

use super::Image;
use super::ImageError;
use super::ImageId;
use super::manifest;
use super::rows;
use crate::Engine;
use crate::reference::Reference;

/// The form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ArchiveFormat {
    /// `docker save`'s, which is an OCI layout too.
    #[default]
    DockerArchive,
    /// An OCI layout only.
    OciArchive,
}

/// An image to save, with the names it is asked under.
struct Wanted {
    image: Image,
    tags: Vec<Reference>,
}

impl Engine {
    /// Writes the images of these names into one archive; a repository without tag stands for all its tags.
    pub fn save(
        &self,
        names: &[String],
        format: ArchiveFormat,
        writer: &mut dyn Write,
    ) -> Result<(), ImageError> {
        let _lease = self.lease()?;
        let wanted = self.wanted(names)?;
        self.save_wanted(&wanted, format, writer)
    }

    /// Writes one image into an archive, under names that it need not have here.
    pub(crate) fn save_as(
        &self,
        id: &ImageId,
        tags: &[Reference],
        format: ArchiveFormat,
        writer: &mut dyn Write,
    ) -> Result<(), ImageError> {
        let wanted = Wanted {
            image: self.image_by_id(id)?,
            tags: tags.iter().map(Reference::or_latest).collect(),
        };
        self.save_wanted(&[wanted], format, writer)
    }

    fn save_wanted(
        &self,
        wanted: &[Wanted],
        format: ArchiveFormat,
        writer: &mut dyn Write,
    ) -> Result<(), ImageError> {
        let mut archive = Archive {
            tar: tar::Builder::new(writer),
            written: HashSet::new(),
        };
        archive.directory("blobs/")?;
        archive.directory("blobs/sha256/")?;
        let mut saved = Vec::new();
        let mut index = Vec::new();
        let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for wanted in wanted {
            let image = &wanted.image;
            let config = self.blob(image.id.0)?;
            archive.blob(image.id.0, &config)?;
            let mut layers = Vec::new();
            let mut sources = serde_json::Map::new();
            for layer in &image.layers {
                let stored = self.store().layer(layer)?;
                if archive.written.insert(layer.0) {
                    let name = blob_name(layer.0);
                    archive.entry(&name, stored.tar_size(), &mut stored.tar())?;
                }
                let descriptor = json!({
                    "mediaType": manifest::OCI_LAYER,
                    "size": stored.tar_size(),
                    "digest": layer.to_string(),
                });
                sources.insert(layer.to_string(), descriptor.clone());
                layers.push(descriptor);
            }
            let oci = json!({
                "schemaVersion": 2,
                "mediaType": manifest::OCI_MANIFEST,
                "config": {
                    "mediaType": manifest::OCI_CONFIG,
                    "size": config.len(),
                    "digest": image.id.to_string(),
                },
                "layers": layers,
            });
            let oci = oci.to_string().into_bytes();
            let digest = Digest::of(&oci);
            archive.blob(digest, &oci)?;
            index.extend(index_entries(digest, oci.len(), &wanted.tags));
            let layer_names: Vec<String> = image
                .layers
                .iter()
                .map(|layer| blob_name(layer.0))
                .collect();
            let tags: Vec<String> = wanted.tags.iter().map(Reference::familiar).collect();
            saved.push(json!({
                "Config": blob_name(image.id.0),
                "RepoTags": if tags.is_empty() { Value::Null } else { json!(tags) },
                "Layers": layer_names,
                "LayerSources": sources,
            }));
            if let Some(top) = image.layers.last() {
                for tag in &wanted.tags {
                    repositories
                        .entry(tag.familiar_name())
                        .or_default()
                        .insert(tag.tag().unwrap_or_default().to_owned(), top.0.hex());
                }
            }
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": manifest::OCI_INDEX,
            "manifests": index,
        });
        archive.file("index.json", index.to_string().as_bytes())?;
        if format == ArchiveFormat::DockerArchive {
            archive.file("manifest.json", json!(saved).to_string().as_bytes())?;
        }
        archive.file("oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#)?;
        if format == ArchiveFormat::DockerArchive && !repositories.is_empty() {
            archive.file("repositories", json!(repositories).to_string().as_bytes())?;
        }
        archive
            .tar
            .into_inner()
            .and_then(|writer| writer.flush())
            .map_err(ImageError::Stream)
    }

    fn wanted(&self, names: &[String]) -> Result<Vec<Wanted>, ImageError> {
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut add = |image: Image, tag: Option<Reference>| {
            let position = match wanted.iter().position(|one| one.image.id == image.id) {
                Some(position) => position,
                None => {
                    wanted.push(Wanted {
                        image,
                        tags: Vec::new(),
                    });
                    wanted.len() - 1
                }
            };
            if let Some(tag) = tag
                && !wanted[position].tags.contains(&tag)
            {
                wanted[position].tags.push(tag);
            }
        };
        for name in names {
            let reference = name.parse::<Reference>().ok();
            if let Some(reference) = &reference
                && reference.tag().is_none()
                && !reference.is_pinned()
            {
                let tags = rows::repository_tags(&self.db(), &reference.repository())?;
                if !tags.is_empty() {
                    for (tag, id) in tags {
                        add(self.image_by_id(&id)?, Some(reference.with_tag(&tag)?));
                    }
                    continue;
                }
            }
            let image = self.image(name)?;
            let tag = reference.filter(|reference| image.tags.contains(reference));
            add(image, tag);
        }
        Ok(wanted)
    }
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Writes a manifest's entries in the index: one for each name, or one without.
fn index_entries(digest: Digest, size: usize, tags: &[Reference]) -> Vec<Value> {
    let plain = json!({
        "mediaType": manifest::OCI_MANIFEST,
        "digest": digest.to_string(),
        "size": size,
    });
    if tags.is_empty() {
        return vec![plain];
    }
    tags.iter()
        .map(|tag| {
            let mut entry = plain.clone();
            entry["annotations"] = json!({
                "io.containerd.image.name": tag.to_string(),
                "org.opencontainers.image.ref.name": tag.tag().unwrap_or_default(),
            });
            entry
        })
        .collect()
}

struct Archive<'a> {
    tar: tar::Builder<&'a mut dyn Write>,
    written: HashSet<Digest>,
}

impl Archive<'_> {
    fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header
    }

    fn directory(&mut self, name: &str) -> Result<(), ImageError> {
        let mut header = Archive::header(tar::EntryType::Directory, 0o755, 0);
        self.tar
            .append_data(&mut header, name, io::empty())
            .map_err(ImageError::Stream)
    }

    fn entry(&mut self, name: &str, size: u64, data: &mut dyn io::Read) -> Result<(), ImageError> {
        let mut header = Archive::header(tar::EntryType::Regular, 0o644, size);
        // `tar` copies 8 KiB at a time; larger pieces halve the time of a save.
        let data = io::BufReader::with_capacity(256 << 10, data);
        self.tar
            .append_data(&mut header, name, data)
            .map_err(ImageError::Stream)
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
        self.entry(name, bytes.len() as u64, &mut { bytes })
    }

    fn blob(&mut self, digest: Digest, bytes: &[u8]) -> Result<(), ImageError> {
        match self.written.insert(digest) {
            true => self.file(&blob_name(digest), bytes),
            false => Ok(()),
        }
    }
}
