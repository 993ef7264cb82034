//! Reading an image archive as a stream, in whatever order its entries come.
//!
//! Names in the archive are keys of a map and never paths of the host. What looks like a layer (gzip, zstd, a tar
//! header) is taken into the store as it passes; what looks like JSON is kept; the rest is passed over.

use std::collections::HashMap;
use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read;

use crossbeam_channel::Receiver;
use crossbeam_channel::Sender;
use layerfs::DiffId;
use layerfs::Digest;
use layerfs::ingest::Expect;
use layerfs::ingest::IngestError;

use super::ImageError;
use super::config::LARGEST_CONFIG;
use super::rows;
use crate::Engine;
use crate::archive::Bound;
use crate::archive::LONGEST_PATH;
use crate::progress::LayerStatus;
use crate::progress::Progress;
use crate::progress::ProgressEvent;

/// All JSON of one archive together.
const LARGEST_JSON: u64 = 32 << 20;
/// More entries than any image needs.
const MOST_ENTRIES: usize = 100_000;
/// Bytes handed to the store at once, and how many such pieces may wait.
const PIECE: usize = 256 << 10;
const PIECES: usize = 8;

/// What was found in an archive.
#[derive(Default)]
pub(super) struct Contents {
    json: HashMap<String, Vec<u8>>,
    layers: HashMap<String, DiffId>,
    links: HashMap<String, String>,
    /// Bytes of the JSON.
    json_bytes: u64,
}

impl Contents {
    /// Takes what is needed of an entry.
    fn take(
        &mut self,
        engine: &Engine,
        entry: &mut tar::Entry<'_, impl Read>,
        progress: &dyn Progress,
    ) -> Result<(), ImageError> {
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(name) = normalize(&name) else {
            return Ok(());
        };
        let kind = entry.header().entry_type();
        if kind.is_symlink() || kind.is_hard_link() {
            let target = entry.link_name_bytes().unwrap_or_default();
            let target = String::from_utf8_lossy(&target).into_owned();
            let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
            let full = match kind.is_symlink() && !target.starts_with('/') {
                true => normalize(&format!("{parent}/{target}")),
                false => normalize(&target),
            };
            self.links.extend(full.map(|full| (name, full)));
            return Ok(());
        }
        if !kind.is_file() {
            return Ok(());
        }
        let size = entry.size();
        let mut head = Vec::with_capacity(512);
        let read = entry.by_ref().take(512).read_to_end(&mut head);
        read.map_err(not_an_archive)?;
        if is_layer(&name, &head) {
            let layer = match known_layer(engine, &name)? {
                Some(layer) => layer,
                None => store_layer(engine, head.as_slice().chain(entry), &name, size, progress)?,
            };
            self.layers.insert(name, layer);
        } else if matches!(head.trim_ascii_start().first(), Some(b'{' | b'[')) {
            self.json_bytes = self.json_bytes.saturating_add(size);
            if size > LARGEST_CONFIG || self.json_bytes > LARGEST_JSON {
                return Err(ImageError::Archive(format!(
                    "invalid archive: {} is too large",
                    super::printable(&name)
                )));
            }
            entry.read_to_end(&mut head).map_err(not_an_archive)?;
            self.json.insert(name, head);
        }
        Ok(())
    }

    /// Returns the JSON under a name, through links.
    pub(super) fn json(&self, name: &str) -> Option<&[u8]> {
        self.follow(name, |name| self.json.get(name))
            .map(Vec::as_slice)
    }

    /// Returns the layer under a name, through links.
    pub(super) fn layer(&self, name: &str) -> Option<DiffId> {
        self.follow(name, |name| self.layers.get(name)).copied()
    }

    fn follow<'a, T>(&'a self, name: &str, get: impl Fn(&str) -> Option<&'a T>) -> Option<&'a T> {
        let mut name = normalize(name)?;
        for _ in 0..16 {
            if let Some(found) = get(&name) {
                return Some(found);
            }
            name = self.links.get(&name)?.clone();
        }
        None
    }
}

/// Returns a name without `.`, `..` and empty components; nothing if it climbs out or is longer than any path.
fn normalize(name: &str) -> Option<String> {
    if name.len() > LONGEST_PATH {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            other => parts.push(other),
        }
    }
    Some(parts.join("/"))
}

/// Reads a whole archive, storing its layers.
pub(super) fn read(
    engine: &Engine,
    reader: &mut dyn Read,
    progress: &dyn Progress,
) -> Result<Contents, ImageError> {
    let bound = Bound::default();
    let mut archive = tar::Archive::new(bound.reader(decompressed(reader)?));
    let mut contents = Contents::default();
    let mut entries = archive.entries().map_err(ImageError::Stream)?;
    let mut count = 0;
    while let Some(entry) = bound.next(&mut entries) {
        let mut entry = entry.map_err(not_an_archive)?;
        count += 1;
        if count > MOST_ENTRIES {
            return Err(ImageError::Archive(format!(
                "invalid archive: more than {MOST_ENTRIES} entries"
            )));
        }
        contents.take(engine, &mut entry, progress)?;
        io::copy(&mut entry, &mut io::sink()).map_err(not_an_archive)?;
    }
    if contents.json.is_empty() && contents.layers.is_empty() {
        return Err(ImageError::Archive(
            "invalid archive: neither manifest.json nor index.json is in it".into(),
        ));
    }
    Ok(contents)
}

fn not_an_archive(error: io::Error) -> ImageError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ImageError::Archive("unexpected EOF".into()),
        io::ErrorKind::Other | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            log::debug!("{error}");
            ImageError::Archive("archive/tar: invalid tar header".into())
        }
        _ => ImageError::Stream(error),
    }
}

/// Takes the archive's own compression off.
pub fn decompressed<'a>(reader: &'a mut dyn Read) -> Result<Box<dyn Read + 'a>, ImageError> {
    let mut reader = BufReader::with_capacity(PIECE, reader);
    let head = reader.fill_buf().map_err(ImageError::Stream)?;
    Ok(match head {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = zstd::stream::read::Decoder::with_buffer(reader);
            Box::new(decoder.map_err(ImageError::Stream)?)
        }
        _ => Box::new(reader),
    })
}

/// Returns whether an entry's first bytes, or its name, say that it is a layer.
fn is_layer(name: &str, head: &[u8]) -> bool {
    let is_tar = head.get(257..262) == Some(b"ustar")
        || (head.len() == 512 && head.iter().all(|byte| *byte == 0));
    head.starts_with(&[0x1f, 0x8b])
        || head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        || is_tar
        || name.ends_with("/layer.tar")
}

/// Returns the layer that an entry must be by its name, if it is here: the name is a diff ID or a known blob's digest.
/// The archive's bytes are then never looked at, so they cannot lie.
fn known_layer(engine: &Engine, name: &str) -> Result<Option<DiffId>, ImageError> {
    let file = name.rsplit('/').next().unwrap_or(name);
    let hex = file.split('.').next().unwrap_or(file);
    let Ok(digest) = Digest::from_hex(hex) else {
        return Ok(None);
    };
    let layer = match engine.store().has_layer(&DiffId(digest)) {
        true => Some(DiffId(digest)),
        false => rows::layer_of_blob(&engine.db(), digest)?,
    };
    Ok(layer.filter(|layer| engine.store().has_layer(layer)))
}

/// Feeds a layer to the store, which reads in a thread of its own while this one reads the archive.
fn store_layer(
    engine: &Engine,
    mut layer: impl Read,
    name: &str,
    size: u64,
    progress: &dyn Progress,
) -> Result<DiffId, ImageError> {
    let file = name
        .trim_end_matches("/layer.tar")
        .rsplit('/')
        .next()
        .unwrap_or(name);
    let id: String = super::printable(file).chars().take(12).collect();
    let tell = |status| {
        progress.event(ProgressEvent::Layer {
            id: id.clone(),
            status,
        });
    };
    let (sender, receiver) = crossbeam_channel::bounded::<io::Result<Vec<u8>>>(PIECES);
    let ingested = std::thread::scope(|scope| {
        let pieces = Pieces {
            receiver,
            piece: Vec::new(),
            at: 0,
        };
        let ingesting = scope.spawn(move || engine.store().ingest(pieces, Expect::default()));
        send_pieces(&mut layer, &sender, |current| {
            let total = Some(size);
            tell(LayerStatus::Extracting { current, total });
        });
        drop(sender);
        ingesting.join()
    });
    let ingested = match ingested {
        Ok(Ok(ingested)) => ingested,
        Ok(Err(IngestError::Read(error))) => return Err(not_an_archive(error)),
        Ok(Err(error)) => return Err(error.into()),
        Err(panic) => std::panic::resume_unwind(panic),
    };
    Ok(ingested.diff_id)
}

/// Sends what `layer` gives until it ends, breaks, or nobody takes it any more.
fn send_pieces(layer: &mut impl Read, sender: &Sender<io::Result<Vec<u8>>>, told: impl Fn(u64)) {
    let mut sent = 0;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let read = layer.by_ref().take(PIECE as u64).read_to_end(&mut piece);
        let ended = piece.is_empty();
        sent += piece.len() as u64;
        let piece = read.map(|_| piece);
        let broke = piece.is_err();
        if ended && !broke {
            return;
        }
        if sender.send(piece).is_err() || broke {
            return;
        }
        told(sent);
    }
}

/// The other end: a reader of the pieces.
struct Pieces {
    receiver: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            match self.receiver.recv() {
                Ok(piece) => self.piece = piece?,
                Err(_) => return Ok(0),
            }
            self.at = 0;
        }
        let length = buffer.len().min(self.piece.len() - self.at);
        buffer[..length].copy_from_slice(&self.piece[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_climb_out_of_the_archive() {
        assert_eq!(normalize("./a//b/../c").as_deref(), Some("a/c"));
        assert_eq!(normalize("../../etc/passwd"), None);
        assert_eq!(normalize("/etc/passwd").as_deref(), Some("etc/passwd"));
    }

    #[test]
    fn links_that_run_in_circles_end() {
        let mut contents = Contents::default();
        contents.links.insert("a".into(), "b".into());
        contents.links.insert("b".into(), "a".into());
        assert!(contents.json("a").is_none());
    }
}
