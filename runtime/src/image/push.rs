//! `push`: an image to a registry.
//!
//! Compressed blobs are not kept, so a layer is compressed again, always to the same bytes, into a temporary file, which
//! gives its digest before anything is sent and lets a broken upload start over. A layer whose blob the registry has
//! already (as this image's pull or an earlier push knows it) costs one question.

use std::fs::File;
use std::io;
use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use layerfs::DiffId;
use layerfs::Digest;
use parking_lot::Mutex;
use serde_json::json;
use sha2::Digest as _;
use sha2::Sha256;

use super::Image;
use super::ImageError;
use super::config;
use super::manifest;
use super::manifest::Parsed;
use super::rows;
use super::rows::BlobRow;
use crate::Engine;
use crate::progress::LayerStatus;
use crate::progress::Progress;
use crate::progress::ProgressEvent;
use crate::reference::Reference;
use crate::registry::Access;
use crate::registry::Client;
use crate::registry::Settings;

/// Fast enough to keep up with a disk, small enough for a registry: what Docker uses.
const LEVEL: u32 = 6;
/// Progress is told after so many bytes.
const TELL_EVERY: u64 = 512 << 10;

/// How to push.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// How to speak to the registry.
    pub registry: Settings,
}

/// What a push did.
#[derive(Debug, Clone)]
pub struct PushOutcome {
    /// The reference with its tag.
    pub reference: Reference,
    /// The digest of the manifest.
    pub digest: Digest,
    /// The manifest's size.
    pub size: u64,
}

impl Engine {
    /// Sends the image of that name to the registry the name states.
    pub fn push(
        &self,
        reference: &Reference,
        options: &PushOptions,
        progress: &dyn Progress,
    ) -> Result<PushOutcome, ImageError> {
        let reference = reference.or_latest();
        self.announce(&reference, progress);
        let tag = self.pushed_tag(&reference)?;
        let client = Client::connect(&reference, Access::Push, &options.registry)?;
        let outcome = self.push_with(&client, &reference, &tag, options, progress)?;
        self.emit_image("push", &reference.familiar(), &reference.familiar_name());
        Ok(outcome)
    }

    /// Sends every tag of the repository.
    pub fn push_all_tags(
        &self,
        reference: &Reference,
        options: &PushOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<PushOutcome>, ImageError> {
        self.announce(reference, progress);
        let tags = rows::repository_tags(&self.db(), &reference.repository())?;
        if tags.is_empty() {
            return Err(ImageError::NothingToPush(reference.repository()));
        }
        let client = Client::connect(reference, Access::Push, &options.registry)?;
        tags.iter()
            .map(|(tag, _)| {
                let reference = reference.with_tag(tag)?;
                self.push_with(&client, &reference, tag, options, progress)
            })
            .collect()
    }

    fn announce(&self, reference: &Reference, progress: &dyn Progress) {
        progress.event(ProgressEvent::Message(format!(
            "The push refers to repository [{}]",
            reference.repository()
        )));
    }

    fn pushed_tag(&self, reference: &Reference) -> Result<String, ImageError> {
        let Some(tag) = reference.tag().filter(|_| !reference.is_pinned()) else {
            return Err(ImageError::Malformed(
                "cannot push a digest reference".into(),
            ));
        };
        match rows::tagged(&self.db(), &reference.repository(), tag)? {
            Some(_) => Ok(tag.to_owned()),
            None => Err(ImageError::NothingToPush(reference.repository())),
        }
    }

    fn push_with(
        &self,
        client: &Client,
        reference: &Reference,
        tag: &str,
        options: &PushOptions,
        progress: &dyn Progress,
    ) -> Result<PushOutcome, ImageError> {
        let _lease = self.lease()?;
        let image = self.image(&reference.to_string())?;
        let blobs = self.push_layers(client, reference, &image, options, progress)?;
        let config = self.blob(image.id.0)?;
        if !client.has_blob(image.id.0)? {
            client.put_small_blob(image.id.0, &config)?;
        }
        let (bytes, media_type) = self.pushed_manifest(&image, &config, &blobs)?;
        let digest = client.put_manifest(tag, &media_type, &bytes)?;
        self.put_blob(&bytes)?;
        {
            let mut db = self.db();
            let transaction =
                db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            if rows::is_present(&transaction, &image.id)? {
                rows::add_manifest(&transaction, &image.id, digest, &media_type)?;
                rows::set_digest(&transaction, &reference.repository(), digest, &image.id)?;
            }
            transaction.commit()?;
        }
        let size = bytes.len() as u64;
        progress.event(ProgressEvent::Named {
            id: tag.to_owned(),
            text: format!("digest: {digest} size: {size}"),
        });
        Ok(PushOutcome {
            reference: reference.clone(),
            digest,
            size,
        })
    }

    /// Brings every layer to the registry; returns their blobs, lowest layer first.
    pub(crate) fn push_layers(
        &self,
        client: &Client,
        reference: &Reference,
        image: &Image,
        options: &PushOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<BlobRow>, ImageError> {
        let mut jobs: Vec<DiffId> = Vec::new();
        for layer in image.layers.iter().rev() {
            if !jobs.contains(layer) {
                jobs.push(*layer);
                tell(progress, layer, LayerStatus::Preparing);
            }
        }
        let done: Mutex<Vec<(DiffId, BlobRow)>> = Mutex::new(Vec::new());
        let failure: Mutex<Option<ImageError>> = Mutex::new(None);
        let failed = AtomicBool::new(false);
        let next = AtomicUsize::new(0);
        let work = || {
            while !failed.load(Ordering::Relaxed)
                && let Some(layer) = jobs.get(next.fetch_add(1, Ordering::Relaxed))
            {
                match self.push_layer(client, reference, layer, progress) {
                    Ok(blob) => done.lock().push((*layer, blob)),
                    Err(error) => {
                        failed.store(true, Ordering::Relaxed);
                        failure.lock().get_or_insert(error);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..options.registry.parallel.min(jobs.len()) {
                scope.spawn(work);
            }
            work();
        });
        if let Some(error) = failure.into_inner() {
            return Err(error);
        }
        let done = done.into_inner();
        image
            .layers
            .iter()
            .map(|layer| {
                done.iter()
                    .find(|(known, _)| known == layer)
                    .map(|(_, blob)| *blob)
                    .ok_or(ImageError::Store(layerfs::store::StoreError::NoSuchLayer(
                        *layer,
                    )))
            })
            .collect()
    }

    fn push_layer(
        &self,
        client: &Client,
        reference: &Reference,
        layer: &DiffId,
        progress: &dyn Progress,
    ) -> Result<BlobRow, ImageError> {
        let repository = reference.repository();
        let known = rows::blobs(&self.db(), layer)?;
        for blob in &known {
            if client.has_blob(blob.blob)? {
                tell(progress, layer, LayerStatus::LayerAlreadyExists);
                rows::add_source(&self.db(), blob.blob, &repository)?;
                return Ok(*blob);
            }
        }
        for blob in &known {
            let sources = rows::sources(&self.db(), blob.blob, reference.domain())?;
            for source in sources
                .iter()
                .filter(|source| *source != reference.path())
                .take(3)
            {
                client.also_pull_from(source);
                if client.mount_blob(blob.blob, source).unwrap_or(false) {
                    tell(progress, layer, LayerStatus::MountedFrom(source.clone()));
                    rows::add_source(&self.db(), blob.blob, &repository)?;
                    return Ok(*blob);
                }
            }
        }
        let tmp = self.store().tmp_dir()?;
        let path = tmp.path().join("blob");
        let file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(ImageError::io(&path))?;
        let blob = self.compress(layer, &file).map_err(|error| match error {
            Broken::Store(error) => ImageError::Store(error),
            Broken::Io(error) => ImageError::io(&path)(error),
        })?;
        if client.has_blob(blob.blob)? {
            tell(progress, layer, LayerStatus::LayerAlreadyExists);
        } else {
            let told = AtomicU64::new(0);
            client.put_blob(blob.blob, &file, blob.size, &|current| {
                let before = told.load(Ordering::Relaxed);
                if current < before || current - before >= TELL_EVERY || current == blob.size {
                    told.store(current, Ordering::Relaxed);
                    let total = Some(blob.size);
                    tell(progress, layer, LayerStatus::Pushing { current, total });
                }
            })?;
            tell(progress, layer, LayerStatus::Pushed);
        }
        let db = self.db();
        rows::add_blob(&db, layer, &blob)?;
        rows::add_source(&db, blob.blob, &repository)?;
        Ok(blob)
    }

    /// Writes a layer's tar, compressed, into `file`.
    fn compress(&self, layer: &DiffId, file: &File) -> Result<BlobRow, Broken> {
        let stored = self.store().layer(layer).map_err(Broken::Store)?;
        let hashing = Hashing {
            inner: io::BufWriter::with_capacity(256 << 10, file),
            hash: Sha256::new(),
            size: 0,
        };
        // No name and no time in the header: the same layer gives the same bytes on every machine.
        let mut gzip = flate2::GzBuilder::new()
            .mtime(0)
            .write(hashing, flate2::Compression::new(LEVEL));
        let mut tar = io::BufReader::with_capacity(256 << 10, stored.tar());
        io::copy(&mut tar, &mut gzip).map_err(Broken::Io)?;
        let mut hashing = gzip.finish().map_err(Broken::Io)?;
        hashing.inner.flush().map_err(Broken::Io)?;
        Ok(BlobRow {
            blob: Digest(hashing.hash.finalize().into()),
            size: hashing.size,
        })
    }

    /// Returns the manifest to push: one that the image came with if it names these very blobs, else Docker's form.
    fn pushed_manifest(
        &self,
        image: &Image,
        config: &[u8],
        blobs: &[BlobRow],
    ) -> Result<(Vec<u8>, String), ImageError> {
        let known = rows::manifests(&self.db(), &image.id)?;
        for row in known {
            let Ok(bytes) = self.blob(row.digest) else {
                continue;
            };
            let Ok(Parsed::Manifest(manifest)) = manifest::parse(&bytes, &row.media_type) else {
                continue;
            };
            let same = manifest.config.digest().ok() == Some(image.id.0)
                && manifest.layers.len() == blobs.len()
                && manifest
                    .layers
                    .iter()
                    .zip(blobs)
                    .all(|(layer, blob)| layer.digest().ok() == Some(blob.blob));
            if same {
                let media_type = match manifest.media_type.is_empty() {
                    true => row.media_type,
                    false => manifest.media_type,
                };
                return Ok((bytes, media_type));
            }
        }
        let layers: Vec<_> = blobs
            .iter()
            .map(|blob| {
                json!({
                    "mediaType": manifest::DOCKER_LAYER,
                    "size": blob.size,
                    "digest": blob.blob.to_string(),
                })
            })
            .collect();
        debug_assert!(config.len() as u64 <= config::LARGEST_CONFIG);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest::DOCKER_MANIFEST,
            "config": {
                "mediaType": manifest::DOCKER_CONFIG,
                "size": config.len(),
                "digest": image.id.to_string(),
            },
            "layers": layers,
        });
        Ok((
            as_docker_writes(&manifest),
            manifest::DOCKER_MANIFEST.to_owned(),
        ))
    }
}

/// Writes a manifest with Docker's indent, so that the same image has the same digest whichever of the two pushed it.
fn as_docker_writes(manifest: &serde_json::Value) -> Vec<u8> {
    use serde::Serialize as _;
    let mut bytes = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, indent);
    match manifest.serialize(&mut serializer) {
        Ok(()) => bytes,
        Err(_) => manifest.to_string().into_bytes(),
    }
}

enum Broken {
    Store(layerfs::store::StoreError),
    Io(io::Error),
}

fn tell(progress: &dyn Progress, layer: &DiffId, status: LayerStatus) {
    progress.event(ProgressEvent::Layer {
        id: layer.0.hex()[..12].to_owned(),
        status,
    });
}

/// Counts and hashes what is written.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
