//! One layer: its index, its pack, and its tar rebuilt from both.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::digest::DiffId;
use crate::digest::Digest;
use crate::index::Index;
use crate::index::Kind;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::at;

/// An opened layer.
#[derive(Debug)]
pub struct Layer {
    diff_id: DiffId,
    index: Index,
    pack: File,
    pack_path: PathBuf,
    store: Store,
}

impl Layer {
    pub(crate) fn open(store: &Store, diff_id: DiffId) -> Result<Layer, StoreError> {
        let directory = store.layer_dir(&diff_id);
        let index_path = directory.join("index");
        let index = Index::open(&index_path)?;
        if index.identity() != diff_id.0 {
            return Err(crate::index::IndexError::Damaged {
                path: index_path,
                fault: "written for another layer",
            }
            .into());
        }
        let pack_path = directory.join("pack");
        let pack = File::open(&pack_path).map_err(at(&pack_path))?;
        Ok(Layer {
            diff_id,
            index,
            pack,
            pack_path,
            store: store.clone(),
        })
    }

    /// Returns the layer's name.
    pub fn diff_id(&self) -> DiffId {
        self.diff_id
    }

    /// Returns the length of the layer's tar.
    pub fn tar_size(&self) -> u64 {
        self.index.tar_size()
    }

    /// Returns how many names the layer has, whiteouts included.
    pub fn entry_count(&self) -> usize {
        self.index.entries().len()
    }

    /// Returns the sum of the lengths of the layer's files, each counted once.
    pub fn content_size(&self) -> u64 {
        let files = self.index.nodes().iter().map(|node| node.meta());
        files
            .filter(|meta| meta.kind == Kind::File)
            .map(|meta| meta.size)
            .sum()
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Returns the objects that hold the layer's large contents.
    pub fn object_digests(&self) -> impl Iterator<Item = Digest> + '_ {
        self.index.objects().iter().map(|object| Digest(*object))
    }

    /// Returns the objects that are named by the digest of just their bytes.
    pub(crate) fn plain_object_digests(&self) -> impl Iterator<Item = Digest> + '_ {
        let plain = self
            .index
            .cuts()
            .iter()
            .filter(|cut| cut.segment_count.get() == 0);
        plain.map(|cut| Digest(self.index.objects()[cut.object.get() as usize]))
    }

    /// Returns the layer's tar, byte for byte as it was ingested.
    pub fn tar(&self) -> Tar<'_> {
        Tar {
            layer: self,
            pack_at: 0,
            next_cut: 0,
            payload: None,
        }
    }
}

/// A layer's tar, read from its pack with the large payloads put back.
#[derive(Debug)]
pub struct Tar<'a> {
    layer: &'a Layer,
    pack_at: u64,
    next_cut: usize,
    payload: Option<Payload>,
}

/// What is left of a payload that was cut out: ranges of an object.
#[derive(Debug)]
struct Payload {
    object: File,
    ranges: std::vec::IntoIter<(u64, u64)>,
    offset: u64,
    left: u64,
}

impl Payload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            let Some((offset, length)) = self.ranges.next() else {
                return Ok(0);
            };
            (self.offset, self.left) = (offset, length);
        }
        let wanted = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let length = self.object.read_at(&mut buffer[..wanted], self.offset)?;
        if length == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "an object is too short",
            ));
        }
        self.offset += length as u64;
        self.left -= length as u64;
        Ok(length)
    }
}

impl Read for Tar<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(payload) = &mut self.payload {
                match payload.read(buffer)? {
                    0 => self.payload = None,
                    length => return Ok(length),
                }
            }
            let cut = self.layer.index.cuts().get(self.next_cut);
            let room = cut.map_or(u64::MAX, |cut| cut.pack_offset.get() - self.pack_at);
            if room > 0 {
                let wanted = buffer
                    .len()
                    .min(usize::try_from(room).unwrap_or(usize::MAX));
                let length = self
                    .layer
                    .pack
                    .read_at(&mut buffer[..wanted], self.pack_at)?;
                self.pack_at += length as u64;
                if length == 0 && cut.is_some() {
                    let path = self.layer.pack_path.display();
                    let short = format!("{path}: the pack is too short");
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, short));
                }
                return Ok(length);
            }
            self.payload = Some(self.open_payload()?);
            self.next_cut += 1;
        }
    }
}

impl Tar<'_> {
    fn open_payload(&self) -> io::Result<Payload> {
        let index = &self.layer.index;
        let cut = &index.cuts()[self.next_cut];
        let digest = Digest(index.objects()[cut.object.get() as usize]);
        let path = self.layer.store.object_path(&digest);
        let object = File::open(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        let first = cut.first_segment.get() as usize;
        let segments = &index.segments()[first..first + cut.segment_count.get() as usize];
        let ranges: Vec<(u64, u64)> = match segments {
            [] => vec![(0, cut.length.get())],
            _ => segments
                .iter()
                .map(|s| (s.offset.get(), s.length.get()))
                .collect(),
        };
        Ok(Payload {
            object,
            ranges: ranges.into_iter(),
            offset: 0,
            left: 0,
        })
    }
}
