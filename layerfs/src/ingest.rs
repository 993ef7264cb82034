//! Taking a layer's blob apart in one streaming pass.
//!
//! One thread reads the blob, hashes it and decompresses it; another hashes the tar, parses it and writes pack and
//! objects. A bounded channel of buffers lies between them, so memory does not grow with the layer.

mod header;
mod names;
mod sparse;
mod tree;
mod writer;

use std::io;
use std::io::BufReader;
use std::io::Read;
use std::thread;

use crossbeam_channel::Receiver;
use crossbeam_channel::Sender;
use sha2::Digest as _;
use sha2::Sha256;

pub use self::header::number_field;
use self::tree::LayerTree;
use self::writer::LayerWriter;
use crate::digest::DiffId;
use crate::digest::Digest;
use crate::store::Store;
use crate::store::StoreError;

/// What a blob must turn out to be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expect {
    /// The digest of the uncompressed tar.
    pub diff_id: Option<DiffId>,
    /// The digest of the blob as it comes.
    pub blob: Option<Digest>,
    /// The blob's length in bytes.
    pub blob_size: Option<u64>,
}

/// How a blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip (RFC 1952), possibly of several members.
    Gzip,
    /// zstd (RFC 8878).
    Zstd,
}

/// What a blob turned out to be.
#[derive(Debug, Clone, Copy)]
pub struct Ingested {
    /// The layer's name.
    pub diff_id: DiffId,
    /// The digest of the blob as it came.
    pub blob: Digest,
    /// Its length in bytes.
    pub blob_size: u64,
    /// The length of the tar.
    pub tar_size: u64,
    /// How it was compressed.
    pub compression: Compression,
    /// Whether the layer was here before.
    pub already_present: bool,
}

/// Why a blob is not taken as a layer.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The blob could not be read.
    #[error("reading the layer: {0}")]
    Read(#[source] io::Error),
    /// The compressed data does not decompress.
    #[error("the layer's compressed data is damaged: {0}")]
    Decompress(#[source] io::Error),
    /// The blob has another digest than was promised.
    #[error("layer blob has digest {found}, expected {expected}")]
    BlobDigest {
        /// What was promised.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The blob has another length than was promised.
    #[error("layer blob has {found} bytes, expected {expected}")]
    BlobSize {
        /// What was promised.
        expected: u64,
        /// What came; when longer, how much was read before giving up.
        found: u64,
    },
    /// The tar has another digest than was promised.
    #[error("layer has diff ID {found}, expected {expected}")]
    DiffId {
        /// What was promised.
        expected: DiffId,
        /// What came.
        found: DiffId,
    },
    /// The tar is cut short.
    #[error("the layer's tar ends in the middle of {0}")]
    Truncated(String),
    /// A block is no tar header.
    #[error("not a tar archive: {fault} at byte {offset}")]
    NotTar {
        /// Where in the tar.
        offset: u64,
        /// What does not hold.
        fault: &'static str,
    },
    /// An entry says something that cannot be, or must not.
    #[error("tar entry {name}: {fault}")]
    Entry {
        /// The entry's name, escaped.
        name: String,
        /// What is wrong with it.
        fault: String,
    },
    /// The tree outgrew the index.
    #[error("the layer has too many entries")]
    TooLarge,
    /// The store refused something.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<crate::index::TooLarge> for IngestError {
    fn from(_: crate::index::TooLarge) -> IngestError {
        IngestError::TooLarge
    }
}

/// How much of the tar travels between the threads at once.
const CHUNK: usize = 256 * 1024;
/// How many such pieces there are.
const CHUNKS: usize = 8;

pub(crate) fn ingest(
    store: &Store,
    blob: impl Read + Send,
    expect: Expect,
) -> Result<Ingested, IngestError> {
    let (full, chunks) = crossbeam_channel::bounded(CHUNKS);
    let (spent, empty) = crossbeam_channel::bounded(CHUNKS);
    for _ in 0..CHUNKS {
        let _ = spent.send(Vec::new());
    }
    thread::scope(|scope| {
        let unpacker = scope.spawn(move || unpack(TarSource::new(chunks, spent), store));
        let decompressed = decompress(blob, expect, &full, &empty);
        // The closed channel is the end of the tar; after a failure nobody makes a layer of it.
        match &decompressed {
            Ok(_) => drop(full.send(Chunk::End)),
            Err(_) => drop(full.send(Chunk::Broken)),
        }
        drop(full);
        let unpacked = match unpacker.join() {
            Ok(unpacked) => unpacked,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let (blob, unpacked) = match (decompressed, unpacked) {
            (Ok(Some(blob)), Ok(unpacked)) => (blob, unpacked),
            (Err(error), _) | (Ok(_), Err(error)) => return Err(error),
            (Ok(None), Ok(_)) => return Err(IngestError::Truncated("the blob".to_owned())),
        };
        if let Some(expected) = expect
            .diff_id
            .filter(|&expected| expected != unpacked.diff_id)
        {
            return Err(IngestError::DiffId {
                expected,
                found: unpacked.diff_id,
            });
        }
        let (diff_id, tar_size) = (unpacked.diff_id, unpacked.tar_size);
        let already_present = !unpacked.writer.publish(unpacked.tree, diff_id, tar_size)?;
        Ok(Ingested {
            diff_id,
            blob: blob.digest,
            blob_size: blob.size,
            tar_size,
            compression: blob.compression,
            already_present,
        })
    })
}

enum Chunk {
    Data(Vec<u8>),
    End,
    Broken,
}

struct Blob {
    digest: Digest,
    size: u64,
    compression: Compression,
}

/// Reads the blob to its end and sends the tar in it; `None` when the other side wants no more.
fn decompress(
    blob: impl Read,
    expect: Expect,
    full: &Sender<Chunk>,
    empty: &Receiver<Vec<u8>>,
) -> Result<Option<Blob>, IngestError> {
    let hashing = HashingReader {
        inner: blob,
        hasher: Sha256::new(),
        size: 0,
        failure: None,
        expect,
    };
    let mut input = BufReader::with_capacity(128 * 1024, hashing);
    let magic = match io::BufRead::fill_buf(&mut input) {
        Ok(magic) => magic,
        Err(error) => {
            return Err(input
                .get_mut()
                .failure
                .take()
                .unwrap_or(IngestError::Read(error)));
        }
    };
    let compression = match magic {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        _ => Compression::None,
    };
    let sent = match compression {
        Compression::None => send_all(&mut input, full, empty),
        Compression::Gzip => send_all(
            &mut flate2::bufread::MultiGzDecoder::new(&mut input),
            full,
            empty,
        ),
        Compression::Zstd => zstd::Decoder::with_buffer(&mut input)
            .and_then(|mut decoder| send_all(&mut decoder, full, empty)),
    };
    // What follows the compressed stream still belongs to the blob.
    let drained = match sent {
        Ok(true) => io::copy(&mut input, &mut io::sink()).map(|_| ()),
        _ => Ok(()),
    };
    let mut read = input.into_inner();
    if let Some(failure) = read.failure.take() {
        return Err(failure);
    }
    match sent {
        Err(error) if compression == Compression::None => return Err(IngestError::Read(error)),
        Err(error) => return Err(IngestError::Decompress(error)),
        Ok(false) => return Ok(None),
        Ok(true) => drained.map_err(IngestError::Read)?,
    }
    let found = Digest(read.hasher.finalize().into());
    if let Some(expected) = expect.blob_size.filter(|&expected| expected != read.size) {
        return Err(IngestError::BlobSize {
            expected,
            found: read.size,
        });
    }
    if let Some(expected) = expect.blob.filter(|&expected| expected != found) {
        return Err(IngestError::BlobDigest { expected, found });
    }
    Ok(Some(Blob {
        digest: found,
        size: read.size,
        compression,
    }))
}

/// Sends all that `from` gives; `false` when nobody receives any more.
fn send_all(
    from: &mut impl Read,
    full: &Sender<Chunk>,
    empty: &Receiver<Vec<u8>>,
) -> io::Result<bool> {
    loop {
        let Ok(mut buffer) = empty.recv() else {
            return Ok(false);
        };
        buffer.resize(CHUNK, 0);
        let mut length = 0;
        while length < CHUNK {
            match from.read(&mut buffer[length..]) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(length);
        if length == 0 {
            return Ok(true);
        }
        if full.send(Chunk::Data(buffer)).is_err() {
            return Ok(false);
        }
    }
}

/// Hashes and counts what is read through it, and remembers why reading failed behind a decoder's own error.
struct HashingReader<R> {
    inner: R,
    hasher: Sha256,
    size: u64,
    failure: Option<IngestError>,
    expect: Expect,
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = match self.inner.read(buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                let told = io::Error::new(error.kind(), "the blob cannot be read");
                self.failure = Some(IngestError::Read(error));
                return Err(told);
            }
        };
        self.size += length as u64;
        if let Some(expected) = self
            .expect
            .blob_size
            .filter(|&expected| self.size > expected)
        {
            self.failure = Some(IngestError::BlobSize {
                expected,
                found: self.size,
            });
            return Err(io::Error::other("the blob is longer than promised"));
        }
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}

/// The tar as it comes out of the channel, hashed and counted.
pub(crate) struct TarSource {
    chunks: Receiver<Chunk>,
    spent: Sender<Vec<u8>>,
    current: Vec<u8>,
    used: usize,
    hasher: Sha256,
    /// How many bytes were taken.
    pub(crate) offset: u64,
    ended: bool,
    broken: bool,
}

impl TarSource {
    fn new(chunks: Receiver<Chunk>, spent: Sender<Vec<u8>>) -> TarSource {
        TarSource {
            chunks,
            spent,
            current: Vec::new(),
            used: 0,
            hasher: Sha256::new(),
            offset: 0,
            ended: false,
            broken: false,
        }
    }

    /// Takes up to `limit` bytes, as many as lie ready; none at the end.
    pub(crate) fn take(&mut self, limit: u64) -> &[u8] {
        while self.used == self.current.len() && !self.ended {
            let _ = self.spent.try_send(std::mem::take(&mut self.current));
            self.used = 0;
            match self.chunks.recv() {
                Ok(Chunk::Data(chunk)) => {
                    self.hasher.update(&chunk);
                    self.current = chunk;
                }
                Ok(Chunk::End) => self.ended = true,
                Ok(Chunk::Broken) | Err(_) => (self.ended, self.broken) = (true, true),
            }
        }
        let ready = (self.current.len() - self.used) as u64;
        let length = ready.min(limit) as usize;
        let taken = &self.current[self.used..self.used + length];
        self.used += length;
        self.offset += length as u64;
        taken
    }

    /// Fills `block`; `false` at the end of the tar before its first byte.
    pub(crate) fn fill(&mut self, block: &mut [u8], what: &str) -> Result<bool, IngestError> {
        let mut filled = 0;
        while filled < block.len() {
            let taken = self.take((block.len() - filled) as u64);
            if taken.is_empty() {
                return match filled {
                    0 => Ok(false),
                    _ => Err(IngestError::Truncated(what.to_owned())),
                };
            }
            block[filled..filled + taken.len()].copy_from_slice(taken);
            filled += taken.len();
        }
        Ok(true)
    }
}

struct Unpacked<'a> {
    diff_id: DiffId,
    tar_size: u64,
    tree: LayerTree,
    writer: LayerWriter<'a>,
}

fn unpack(mut source: TarSource, store: &Store) -> Result<Unpacked<'_>, IngestError> {
    let mut writer = LayerWriter::new(store)?;
    let mut tree = LayerTree::new();
    header::read_entries(&mut source, &mut writer, &mut tree)?;
    tree.finish()?;
    if source.broken {
        return Err(IngestError::Truncated("the archive".to_owned()));
    }
    let diff_id = DiffId(Digest(source.hasher.finalize().into()));
    Ok(Unpacked {
        diff_id,
        tar_size: source.offset,
        tree,
        writer,
    })
}
