//! Kept results that travel: `--cache-to` and `--cache-from`.
//!
//! What is written is an OCI manifest whose layers are those of the results, and whose config (of a media type of our
//! own) lists the results: key, time, and the diff ID of the layer. It lies in a registry under a name, or in an OCI
//! layout of a directory. Inline, the list is part of the image's config. A result of somebody else's is fetched when a
//! step asks for its key, and its layer is what its diff ID says or nothing; whoever is asked is believed that the key
//! leads to it, as with an image.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use layerfs::DiffId;
use layerfs::Digest;
use layerfs::ingest::Expect;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::builder::Builder;
use super::cache::Kept;
use super::error::StepError;
use super::event::BuildEvent;
use super::options::CacheExport;
use super::options::CacheStore;
use super::state::State;
use crate::image::Descriptor;
use crate::image::Image;
use crate::image::Manifest;
use crate::image::OCI_INDEX;
use crate::image::OCI_LAYER;
use crate::image::OCI_MANIFEST;
use crate::image::Parsed;
use crate::image::PushOptions;
use crate::image::parse_manifest;
use crate::progress::Silent;
use crate::reference::Reference;
use crate::registry::Access;
use crate::registry::Client;

/// The type of the config that lists results.
const CACHE_CONFIG: &str = "application/vnd.ply.build.cache.v1+json";

/// Where the list is in an image's config.
const INLINE: &str = "ply.build.cache";

/// The most that is read of a list.
const LARGEST_LIST: u64 = 16 << 20;

/// The list.
#[derive(Debug, Default, Serialize, Deserialize)]
struct List {
    results: Vec<Listed>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    key: String,
    created: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer: Option<String>,
}

/// Results that may be fetched.
#[derive(Default)]
pub(super) struct Imported {
    results: HashMap<Digest, Remote>,
}

/// A result that is elsewhere.
#[derive(Clone)]
struct Remote {
    created: String,
    layer: Option<(DiffId, Descriptor, Arc<Place>)>,
}

/// Where blobs lie.
enum Place {
    Registry(Box<Client>),
    Local(PathBuf),
}

impl Place {
    fn open(&self, digest: Digest, size: u64) -> Result<Box<dyn Read + Send + '_>, StepError> {
        match self {
            Place::Registry(client) => Ok(Box::new(client.blob(digest, size)?)),
            Place::Local(directory) => {
                let path = blob_path(directory, digest);
                Ok(Box::new(File::open(&path).map_err(StepError::io(&path))?))
            }
        }
    }

    fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>, StepError> {
        let (digest, size) = (descriptor.digest()?, descriptor.size);
        if let Place::Registry(client) = self {
            return Ok(client.small_blob(digest, size, LARGEST_LIST)?);
        }
        let mut bytes = Vec::new();
        let reader = self.open(digest, size)?;
        reader
            .take(LARGEST_LIST)
            .read_to_end(&mut bytes)
            .map_err(StepError::io("cache"))?;
        Ok(bytes)
    }
}

fn blob_path(directory: &Path, digest: Digest) -> PathBuf {
    directory.join("blobs/sha256").join(digest.hex())
}

fn invalid(words: impl std::fmt::Display) -> StepError {
    StepError::Word(format!("invalid cache: {words}"))
}

/// Reads the lists of results that the build may fetch; one that is not there is only worth a warning.
pub(super) fn import(builder: &Builder<'_>) -> Imported {
    let mut imported = Imported::default();
    for store in &builder.options.cache_from {
        if let Err(error) = import_one(builder, store, &mut imported) {
            let name = match store {
                CacheStore::Registry(reference) => reference.familiar(),
                CacheStore::Local(directory) => directory.display().to_string(),
            };
            let words = format!("failed to import cache from {name}: {error}");
            builder.progress.event(BuildEvent::Warning(words));
        }
    }
    imported
}

fn import_one(
    builder: &Builder<'_>,
    store: &CacheStore,
    imported: &mut Imported,
) -> Result<(), StepError> {
    let (place, bytes, stated) = match store {
        CacheStore::Registry(reference) => {
            let reference = reference.or_latest();
            let client = Client::connect(&reference, Access::Pull, &builder.options.registry)?;
            let name = match (reference.digest(), reference.tag()) {
                (Some(digest), _) => digest.to_string(),
                (None, tag) => tag.unwrap_or(crate::reference::DEFAULT_TAG).to_owned(),
            };
            let fetched = client.manifest(&name)?;
            (
                Place::Registry(Box::new(client)),
                fetched.bytes,
                fetched.media_type,
            )
        }
        CacheStore::Local(directory) => {
            let path = directory.join("index.json");
            let bytes = fs::read(&path).map_err(StepError::io(&path))?;
            let Parsed::Index(entries) = parse_manifest(&bytes, OCI_INDEX)? else {
                return Err(invalid("index.json is no index"));
            };
            let entry = entries.first().ok_or_else(|| invalid("nothing in it"))?;
            let place = Place::Local(directory.clone());
            let bytes = place.read(entry)?;
            (place, bytes, entry.media_type.clone())
        }
    };
    let Parsed::Manifest(manifest) = parse_manifest(&bytes, &stated)? else {
        return Err(invalid("an index of images"));
    };
    let config = place.read(&manifest.config)?;
    let list = read_list(&manifest, &config)?;
    let layers = layers_of(&manifest, &list, &config)?;
    let place = Arc::new(place);
    for listed in list.results {
        let key: Digest = listed.key.parse().map_err(invalid)?;
        let layer = match listed.layer {
            None => None,
            Some(layer) => {
                let layer = DiffId(layer.parse().map_err(invalid)?);
                let Some(descriptor) = layers.get(&layer) else {
                    continue;
                };
                Some((layer, descriptor.clone(), Arc::clone(&place)))
            }
        };
        imported.results.entry(key).or_insert(Remote {
            created: listed.created,
            layer,
        });
    }
    Ok(())
}

fn read_list(manifest: &Manifest, config: &[u8]) -> Result<List, StepError> {
    if manifest.config.media_type == CACHE_CONFIG {
        return serde_json::from_slice(config).map_err(invalid);
    }
    // An image: its list is in its config, if it has one.
    let config: Value = serde_json::from_slice(config).map_err(invalid)?;
    match config.get(INLINE) {
        Some(list) => List::deserialize(list).map_err(invalid),
        None => Ok(List::default()),
    }
}

/// Returns the blobs of the layers: of an image those of its config, of a list of results in its order.
fn layers_of(
    manifest: &Manifest,
    list: &List,
    config: &[u8],
) -> Result<HashMap<DiffId, Descriptor>, StepError> {
    let diff_ids: Vec<String> = match manifest.config.media_type == CACHE_CONFIG {
        true => distinct_layers(list),
        false => {
            let config: Value = serde_json::from_slice(config).map_err(invalid)?;
            let all = config["rootfs"]["diff_ids"].as_array();
            let all = all.into_iter().flatten().filter_map(Value::as_str);
            all.map(str::to_owned).collect()
        }
    };
    if diff_ids.len() != manifest.layers.len() {
        return Err(invalid("another number of layers than it says"));
    }
    let pairs = diff_ids.iter().zip(&manifest.layers);
    pairs
        .map(|(diff_id, descriptor)| {
            Ok((
                DiffId(diff_id.parse().map_err(invalid)?),
                descriptor.clone(),
            ))
        })
        .collect()
}

fn distinct_layers(list: &List) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let layers = list
        .results
        .iter()
        .filter_map(|listed| listed.layer.clone());
    layers.filter(|layer| seen.insert(layer.clone())).collect()
}

impl Builder<'_> {
    /// Fetches a result of somebody else's, if there is one under the key; one whose layer does not come is none.
    pub(super) fn fetched(&self, key: &Digest) -> Option<Kept> {
        let remote = self.imported.get()?.results.get(key)?.clone();
        let kept = Kept {
            layer: remote.layer.as_ref().map(|(layer, ..)| *layer),
            created: remote.created,
        };
        let brought = match &remote.layer {
            None => Ok(()),
            Some((layer, descriptor, place)) => self.fetch_layer(layer, descriptor, place),
        };
        let kept = brought.and_then(|()| {
            self.engine.keep_step(key, &kept, "imported")?;
            Ok(kept)
        });
        match kept {
            Ok(kept) => Some(kept),
            Err(error) => {
                let words = format!("failed to fetch a cached layer: {error}");
                self.progress.event(BuildEvent::Warning(words));
                None
            }
        }
    }

    fn fetch_layer(
        &self,
        layer: &DiffId,
        descriptor: &Descriptor,
        place: &Place,
    ) -> Result<(), StepError> {
        if self.engine.store().has_layer(layer) {
            return Ok(());
        }
        let blob = descriptor.digest()?;
        let expect = Expect {
            diff_id: Some(*layer),
            blob: Some(blob),
            blob_size: Some(descriptor.size),
        };
        let reader = place.open(blob, descriptor.size)?;
        self.engine.store().ingest(reader, expect)?;
        Ok(())
    }
}

/// Returns the results to be written: all, or those whose layers the image has.
fn results(builder: &Builder<'_>, state: &State, all: bool) -> List {
    let mut seen = std::collections::HashSet::new();
    let results = builder.results.lock();
    let wanted = results.iter().filter(|(key, kept)| {
        let is_of_image = kept.layer.is_none_or(|layer| state.layers.contains(&layer));
        (all || is_of_image) && seen.insert(*key)
    });
    List {
        results: wanted
            .map(|(key, kept)| Listed {
                key: key.to_string(),
                created: kept.created.clone(),
                layer: kept.layer.map(|layer| layer.to_string()),
            })
            .collect(),
    }
}

/// Returns the image's config, with the list of its results if that is wanted.
pub(super) fn with_inline_cache(builder: &Builder<'_>, state: &State) -> Map<String, Value> {
    let mut image = state.image.clone();
    image.remove(INLINE);
    if builder.options.cache_to.contains(&CacheExport::Inline) {
        image.insert(INLINE.into(), json!(results(builder, state, false)));
    }
    image
}

/// Writes the build's results to where they are wanted.
pub(super) fn export(builder: &Builder<'_>, state: &State) -> Result<(), StepError> {
    for export in &builder.options.cache_to {
        let CacheExport::Store { to, all } = export else {
            continue;
        };
        builder
            .progress
            .event(BuildEvent::Exporting("exporting cache".to_owned()));
        let list = results(builder, state, *all);
        match to {
            CacheStore::Registry(reference) => push(builder, reference, &list)?,
            CacheStore::Local(directory) => {
                write(builder, directory, &list).map_err(StepError::io(directory))?;
            }
        }
    }
    Ok(())
}

fn layers(list: &List) -> Vec<DiffId> {
    let layers = distinct_layers(list);
    let parsed = layers.iter().filter_map(|layer| layer.parse().ok());
    parsed.map(DiffId).collect()
}

fn manifest(config: &[u8], layers: Vec<Value>) -> Vec<u8> {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": CACHE_CONFIG,
            "size": config.len(),
            "digest": Digest::of(config).to_string(),
        },
        "layers": layers,
    });
    manifest.to_string().into_bytes()
}

fn push(builder: &Builder<'_>, reference: &Reference, list: &List) -> Result<(), StepError> {
    let reference = reference.or_latest();
    let registry = &builder.options.registry;
    let client = Client::connect(&reference, Access::Push, registry)?;
    let image = Image::of_layers(&layers(list));
    let options = PushOptions {
        registry: registry.clone(),
    };
    let engine = builder.engine;
    let blobs = engine.push_layers(&client, &reference, &image, &options, &Silent)?;
    let config = serde_json::to_vec(list).map_err(invalid)?;
    let digest = Digest::of(&config);
    if !client.has_blob(digest)? {
        client.put_small_blob(digest, &config)?;
    }
    let layers = blobs.iter().map(|blob| {
        json!({
            "mediaType": format!("{OCI_LAYER}+gzip"),
            "size": blob.size,
            "digest": blob.blob.to_string(),
        })
    });
    let bytes = manifest(&config, layers.collect());
    let tag = reference.tag().unwrap_or(crate::reference::DEFAULT_TAG);
    client.put_manifest(tag, OCI_MANIFEST, &bytes)?;
    Ok(())
}

/// Writes an OCI layout; the index, which makes it one, last.
fn write(builder: &Builder<'_>, directory: &Path, list: &List) -> io::Result<()> {
    fs::create_dir_all(directory.join("blobs/sha256"))?;
    let store = builder.engine.store();
    let mut described = Vec::new();
    for layer in layers(list) {
        let stored = store.layer(&layer).map_err(io::Error::other)?;
        put(
            &blob_path(directory, layer.0),
            stored.tar_size(),
            &mut stored.tar(),
        )?;
        described.push(json!({
            "mediaType": OCI_LAYER,
            "size": stored.tar_size(),
            "digest": layer.to_string(),
        }));
    }
    let config = serde_json::to_vec(list)?;
    let bytes = manifest(&config, described);
    for blob in [&config, &bytes] {
        let path = blob_path(directory, Digest::of(blob));
        put(&path, blob.len() as u64, &mut &blob[..])?;
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [{
            "mediaType": OCI_MANIFEST,
            "size": bytes.len(),
            "digest": Digest::of(&bytes).to_string(),
        }],
    });
    fs::write(
        directory.join("oci-layout"),
        br#"{"imageLayoutVersion": "1.0.0"}"#,
    )?;
    let fresh = directory.join("index.json.new");
    fs::write(&fresh, index.to_string())?;
    fs::rename(&fresh, directory.join("index.json"))
}

fn put(path: &Path, size: u64, from: &mut dyn Read) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|there| there.len() == size) {
        return Ok(());
    }
    let fresh = path.with_extension("new");
    let mut file = io::BufWriter::with_capacity(1 << 20, File::create(&fresh)?);
    io::copy(from, &mut file)?;
    file.flush()?;
    fs::rename(&fresh, path)
}
