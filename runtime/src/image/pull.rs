//! `pull`: from a reference to an image that is here.

use std::collections::HashSet;
use std::io;
use std::io::Read;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use layerfs::DiffId;
use layerfs::Digest;
use layerfs::ingest::Expect;
use layerfs::ingest::IngestError;
use layerfs::store::Claim;
use parking_lot::Mutex;

use super::ImageError;
use super::ImageId;
use super::config;
use super::config::ParsedConfig;
use super::manifest;
use super::manifest::Descriptor;
use super::manifest::Manifest;
use super::manifest::Parsed;
use super::platform::Platform;
use super::rows;
use super::rows::BlobRow;
use super::rows::ImageRow;
use crate::Engine;
use crate::progress::LayerStatus;
use crate::progress::Progress;
use crate::progress::ProgressEvent;
use crate::reference::Reference;
use crate::registry::Access;
use crate::registry::Client;
use crate::registry::FetchedManifest;
use crate::registry::RegistryError;
use crate::registry::Settings;
use crate::registry::Told;

/// Indexes may name indexes, but not without end.
const DEEPEST_INDEX: usize = 4;
/// Progress is told after so many bytes.
const TELL_EVERY: u64 = 512 << 10;

/// How to pull.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// The platform to choose from an index; this machine's if none is stated.
    pub platform: Option<Platform>,
    /// How to speak to the registry.
    pub registry: Settings,
}

/// What a pull did.
#[derive(Debug, Clone)]
pub struct PullOutcome {
    /// The image that the reference now stands for.
    pub image: ImageId,
    /// The reference with its default tag.
    pub reference: Reference,
    /// The digest of the manifest or index that was asked for.
    pub digest: Digest,
    /// Whether anything changed.
    pub newer: bool,
}

/// What a reference led to: every manifest on the way, the last one read.
struct Resolved {
    chain: Vec<FetchedManifest>,
    manifest: Manifest,
}

impl Engine {
    /// Brings the image here, downloading the layers that are missing.
    pub fn pull(
        &self,
        reference: &Reference,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<PullOutcome, ImageError> {
        let reference = reference.or_latest();
        let client = Client::connect(&reference, Access::Pull, &options.registry)?;
        let outcome = self.pull_with(&client, &reference, options, progress)?;
        self.emit_image("pull", &reference.familiar(), &reference.familiar_name());
        tell_status(progress, outcome.newer, &reference.familiar());
        Ok(outcome)
    }

    /// Brings every tag of the repository here.
    pub fn pull_all_tags(
        &self,
        reference: &Reference,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<PullOutcome>, ImageError> {
        let client = Client::connect(reference, Access::Pull, &options.registry)?;
        let tags = client.tags().map_err(|error| error.for_pull(reference))?;
        let mut outcomes = Vec::new();
        for tag in tags {
            let reference = reference.with_tag(&tag)?;
            outcomes.push(self.pull_with(&client, &reference, options, progress)?);
            self.emit_image("pull", &reference.familiar(), &reference.familiar_name());
        }
        let newer = outcomes.iter().any(|outcome| outcome.newer);
        tell_status(progress, newer, &reference.familiar_name());
        Ok(outcomes)
    }

    fn pull_with(
        &self,
        client: &Client,
        reference: &Reference,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<PullOutcome, ImageError> {
        let _lease = self.lease()?;
        let name = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or(crate::reference::DEFAULT_TAG).to_owned(),
        };
        let resolved = resolve(client, &name, options).map_err(|error| match error {
            ImageError::Registry(error) => ImageError::Registry(error.for_pull(reference)),
            other => other,
        })?;
        progress.event(ProgressEvent::Named {
            id: name,
            text: format!("Pulling from {}", reference.path()),
        });
        let config = self.fetch_config(client, &resolved.manifest.config)?;
        check_platform(&config, reference, options)?;
        if config.parsed.layers.len() != resolved.manifest.layers.len() {
            return Err(ImageError::Malformed(format!(
                "invalid image: {} layers in the manifest, {} in the config",
                resolved.manifest.layers.len(),
                config.parsed.layers.len()
            )));
        }
        let id = ImageId(config.parsed.digest);
        self.fetch_layers(
            client,
            reference,
            &resolved.manifest,
            &config.parsed,
            &options.registry,
            progress,
        )?;
        let newer = self.add_pulled(reference, &resolved, &config, &id)?;
        let asked = resolved.chain[0].digest;
        progress.event(ProgressEvent::Message(format!("Digest: {asked}")));
        Ok(PullOutcome {
            image: id,
            reference: reference.clone(),
            digest: asked,
            newer,
        })
    }

    fn fetch_config(
        &self,
        client: &Client,
        descriptor: &Descriptor,
    ) -> Result<FetchedConfig, ImageError> {
        let is_image = matches!(
            descriptor.media_type.as_str(),
            "" | manifest::OCI_CONFIG | manifest::DOCKER_CONFIG | "application/octet-stream"
        );
        if !is_image {
            return Err(ImageError::Malformed(format!(
                "unsupported media type {}: not an image",
                super::printable(&descriptor.media_type)
            )));
        }
        let digest = descriptor.digest()?;
        let bytes = match self.blob(digest) {
            Ok(bytes) => bytes,
            Err(_) => client.small_blob(digest, descriptor.size, config::LARGEST_CONFIG)?,
        };
        Ok(FetchedConfig {
            parsed: config::parse(&bytes)?,
            bytes,
        })
    }

    /// Downloads what is missing, several layers at once.
    fn fetch_layers(
        &self,
        client: &Client,
        reference: &Reference,
        manifest: &Manifest,
        config: &ParsedConfig,
        settings: &Settings,
        progress: &dyn Progress,
    ) -> Result<(), ImageError> {
        let mut seen = HashSet::new();
        let mut missing = Vec::new();
        for (descriptor, layer) in manifest.layers.iter().zip(&config.layers) {
            let blob = descriptor.digest()?;
            if !seen.insert(*layer) {
                continue;
            }
            let job = Job {
                blob,
                size: descriptor.size,
                layer: *layer,
                id: blob.hex()[..12].to_owned(),
            };
            if self.store().has_layer(layer) {
                job.tell(progress, LayerStatus::AlreadyExists);
            } else {
                missing.push(job);
            }
        }
        for job in &missing {
            job.tell(progress, LayerStatus::PullingFsLayer);
        }
        let next = AtomicUsize::new(0);
        let cancelled = AtomicBool::new(false);
        let failure: Mutex<Option<ImageError>> = Mutex::new(None);
        let work = || {
            while !cancelled.load(Ordering::Relaxed)
                && let Some(job) = missing.get(next.fetch_add(1, Ordering::Relaxed))
            {
                if let Err(error) = self.fetch_layer(client, reference, job, &cancelled, progress) {
                    cancelled.store(true, Ordering::Relaxed);
                    failure.lock().get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..settings.parallel.min(missing.len()) {
                scope.spawn(work);
            }
            work();
        });
        match failure.into_inner() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn fetch_layer(
        &self,
        client: &Client,
        reference: &Reference,
        job: &Job,
        cancelled: &AtomicBool,
        progress: &dyn Progress,
    ) -> Result<(), ImageError> {
        let claim = self.store().claim(&job.layer)?;
        if let Claim::Present = claim {
            job.tell(progress, LayerStatus::AlreadyExists);
            return Ok(());
        }
        let told = Mutex::new(0);
        let reader = client.blob(job.blob, job.size)?.telling(|what| match what {
            Told::Bytes(current) => {
                let mut told = told.lock();
                if current - *told >= TELL_EVERY || current == job.size {
                    *told = current;
                    let total = Some(job.size);
                    job.tell(progress, LayerStatus::Downloading { current, total });
                }
            }
            Told::Retrying(delay) => {
                let seconds = delay.as_secs_f64().ceil() as u64;
                job.tell(progress, LayerStatus::Retrying { seconds });
            }
        });
        let expect = Expect {
            diff_id: Some(job.layer),
            blob: Some(job.blob),
            blob_size: Some(job.size),
        };
        let reader = Cancellable { reader, cancelled };
        let ingested = self.store().ingest(reader, expect).map_err(blame)?;
        job.tell(progress, LayerStatus::DownloadComplete);
        drop(claim);
        let db = self.db();
        let blob = BlobRow {
            blob: job.blob,
            size: ingested.blob_size,
        };
        rows::add_blob(&db, &job.layer, &blob)?;
        rows::add_source(&db, job.blob, &reference.repository())?;
        drop(db);
        job.tell(progress, LayerStatus::PullComplete);
        Ok(())
    }

    /// Makes the image visible in one transaction; returns whether the reference stood for another one before.
    fn add_pulled(
        &self,
        reference: &Reference,
        resolved: &Resolved,
        config: &FetchedConfig,
        id: &ImageId,
    ) -> Result<bool, ImageError> {
        for fetched in &resolved.chain {
            self.put_blob(&fetched.bytes)?;
        }
        let row = self.prepare_image(&config.bytes, &config.parsed)?;
        let repository = reference.repository();
        let asked = resolved.chain[0].digest;
        let mut db = self.db();
        let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let before = match reference.tag() {
            Some(tag) => rows::tagged(&transaction, &repository, tag)?,
            None => rows::digested(&transaction, &repository, asked)?,
        };
        rows::add_image(&transaction, &row, &config.parsed.layers)?;
        for fetched in &resolved.chain {
            rows::add_manifest(&transaction, id, fetched.digest, &fetched.media_type)?;
        }
        if let Some(tag) = reference.tag().filter(|_| !reference.is_pinned())
            && before != Some(*id)
        {
            rows::set_tag(&transaction, &repository, tag, id)?;
        }
        rows::set_digest(&transaction, &repository, asked, id)?;
        transaction.commit()?;
        Ok(before != Some(*id))
    }

    /// Makes an image's config durable and its stack folded; returns the row that will show it.
    pub(super) fn prepare_image(
        &self,
        bytes: &[u8],
        config: &ParsedConfig,
    ) -> Result<ImageRow, ImageError> {
        self.put_blob(bytes)?;
        self.store().stack(&config.layers)?;
        let mut size = 0;
        for layer in &config.layers {
            size += self.store().layer(layer)?.content_size();
        }
        Ok(ImageRow {
            id: ImageId(config.digest),
            size,
            created: config.config.created().clone(),
            last_tagged: None,
        })
    }
}

fn tell_status(progress: &dyn Progress, newer: bool, name: &str) {
    let status = match newer {
        true => "Downloaded newer image",
        false => "Image is up to date",
    };
    progress.event(ProgressEvent::Message(format!(
        "Status: {status} for {name}"
    )));
}

struct FetchedConfig {
    parsed: ParsedConfig,
    bytes: Vec<u8>,
}

/// One layer to fetch.
struct Job {
    blob: Digest,
    size: u64,
    layer: DiffId,
    id: String,
}

impl Job {
    fn tell(&self, progress: &dyn Progress, status: LayerStatus) {
        progress.event(ProgressEvent::Layer {
            id: self.id.clone(),
            status,
        });
    }
}

/// A reader that ends with an error when another layer of the pull has failed.
struct Cancellable<'a, R> {
    reader: R,
    cancelled: &'a AtomicBool,
}

impl<R: Read> Read for Cancellable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.cancelled.load(Ordering::Relaxed) {
            true => Err(io::Error::other("cancelled: another layer failed")),
            false => self.reader.read(buffer),
        }
    }
}

/// Finds the fault in the registry's bytes behind a layer that was not taken.
fn blame(error: IngestError) -> ImageError {
    match error {
        IngestError::BlobDigest { expected, .. } => ImageError::DigestMismatch(expected),
        IngestError::Read(error) => {
            let known = error
                .get_ref()
                .is_some_and(|inner| inner.is::<RegistryError>());
            match error.into_inner() {
                Some(inner) if known => match inner.downcast::<RegistryError>() {
                    Ok(inner) => ImageError::Registry(*inner),
                    Err(inner) => ImageError::Stream(io::Error::other(inner)),
                },
                Some(inner) => ImageError::Stream(io::Error::other(inner)),
                None => ImageError::Stream(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        other => ImageError::Layer(other),
    }
}

/// Follows indexes to the manifest of the platform.
fn resolve(client: &Client, name: &str, options: &PullOptions) -> Result<Resolved, ImageError> {
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let mut chain = vec![client.manifest(name)?];
    loop {
        let last = &chain[chain.len() - 1];
        match manifest::parse(&last.bytes, &last.media_type)? {
            Parsed::Manifest(manifest) => return Ok(Resolved { chain, manifest }),
            Parsed::Index(entries) => {
                if chain.len() > DEEPEST_INDEX {
                    return Err(ImageError::Malformed(
                        "invalid manifest: indexes within indexes".into(),
                    ));
                }
                let digest = manifest::select(&entries, &platform)?.digest()?;
                chain.push(client.manifest(&digest.to_string())?);
            }
        }
    }
}

/// Refuses an image for another platform than was asked for.
fn check_platform(
    config: &FetchedConfig,
    reference: &Reference,
    options: &PullOptions,
) -> Result<(), ImageError> {
    let os = config.parsed.raw["os"].as_str().unwrap_or("linux");
    if os != "linux" {
        return Err(ImageError::Malformed(format!(
            "image operating system {:?} cannot be used on this platform: operating system is not supported",
            super::printable(os)
        )));
    }
    let Some(wanted) = &options.platform else {
        return Ok(());
    };
    let architecture = config.parsed.raw["architecture"]
        .as_str()
        .unwrap_or_default();
    let variant = config.parsed.config.variant().as_deref();
    match architecture.is_empty() || wanted.fit(os, architecture, variant).is_some() {
        true => Ok(()),
        false => Err(ImageError::Malformed(format!(
            "image with reference {} was found but does not match the specified platform: \
             wanted {wanted}, actual: {os}/{}",
            reference.familiar(),
            super::printable(architecture)
        ))),
    }
}
