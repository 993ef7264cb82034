//! Writing a layer's pack and objects, and making them visible together.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::fcntl::FlockArg;
use sha2::Digest as _;
use sha2::Sha256;

use super::IngestError;
use super::TarSource;
use super::tree::LayerTree;
use crate::digest::DiffId;
use crate::digest::Digest;
use crate::index::CutRecord;
use crate::index::SegmentRecord;
use crate::index::TreeExtras;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::TmpDir;
use crate::store::at;
use crate::sys;

/// How much is written before its way to the disk is started.
const WRITEBACK: u64 = 8 << 20;
/// Zeros of this length and alignment become a hole.
const HOLE: usize = 4096;

/// A layer being written under `tmp/`.
pub(super) struct LayerWriter<'a> {
    store: &'a Store,
    tmp: TmpDir,
    pack_path: PathBuf,
    pack: File,
    buffer: Vec<u8>,
    pack_length: u64,
    written_back: u64,
    extras: TreeExtras,
    numbers: HashMap<Digest, u32>,
}

impl<'a> LayerWriter<'a> {
    pub(super) fn new(store: &'a Store) -> Result<LayerWriter<'a>, StoreError> {
        let tmp = store.tmp_dir()?;
        let layer = tmp.path().join("layer");
        fs::create_dir(&layer).map_err(at(&layer))?;
        let pack_path = layer.join("pack");
        let pack = File::create_new(&pack_path).map_err(at(&pack_path))?;
        Ok(LayerWriter {
            store,
            tmp,
            pack_path,
            pack,
            buffer: Vec::with_capacity(1 << 20),
            pack_length: 0,
            written_back: 0,
            extras: TreeExtras::default(),
            numbers: HashMap::new(),
        })
    }

    /// Returns where in the pack the next byte will stand.
    pub(super) fn pack_offset(&self) -> u64 {
        self.pack_length
    }

    /// Appends to the pack.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if self.buffer.len() + bytes.len() > self.buffer.capacity() {
            self.flush()?;
        }
        self.pack_length += bytes.len() as u64;
        if bytes.len() >= self.buffer.capacity() {
            return self.pack.write_all(bytes).map_err(at(&self.pack_path));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.pack
            .write_all(&self.buffer)
            .map_err(at(&self.pack_path))?;
        self.buffer.clear();
        if self.pack_length - self.written_back > WRITEBACK {
            let length = self.pack_length - self.written_back;
            sys::store::start_writeback(self.pack.as_fd(), self.written_back, length);
            self.written_back = self.pack_length;
        }
        Ok(())
    }

    /// Appends the next `length` bytes of the tar to the pack.
    pub(super) fn keep_from(
        &mut self,
        source: &mut TarSource,
        length: u64,
        name: &str,
    ) -> Result<(), IngestError> {
        let mut left = length;
        while left > 0 {
            let taken = source.take(left);
            if taken.is_empty() {
                return Err(IngestError::Truncated(name.to_owned()));
            }
            left -= taken.len() as u64;
            self.keep(taken)?;
        }
        Ok(())
    }

    /// Makes an object of the next `length` bytes of the tar, and returns its number. With `segments` the bytes are
    /// the data of a sparse file of `size` bytes.
    pub(super) fn cut(
        &mut self,
        source: &mut TarSource,
        length: u64,
        size: u64,
        segments: &[(u64, u64)],
        name: &str,
    ) -> Result<u32, IngestError> {
        let path = self.tmp.path().join("object");
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(at(&path))?;
        let mut hasher = Sha256::new();
        if !segments.is_empty() {
            // Another domain than plain contents: the name covers the map and the data, not the holes.
            hasher.update(b"ply sparse object\0");
            hasher.update(size.to_le_bytes());
            hasher.update((segments.len() as u64).to_le_bytes());
            for (offset, length) in segments {
                hasher.update(offset.to_le_bytes());
                hasher.update(length.to_le_bytes());
            }
        }
        let whole = [(0, length)];
        let ranges = if segments.is_empty() {
            &whole[..]
        } else {
            segments
        };
        for &(offset, length) in ranges {
            let mut done = 0;
            while done < length {
                let taken = source.take(length - done);
                if taken.is_empty() {
                    return Err(IngestError::Truncated(name.to_owned()));
                }
                hasher.update(taken);
                write_sparsely(&file, taken, offset + done).map_err(at(&path))?;
                done += taken.len() as u64;
            }
        }
        file.set_len(size).map_err(at(&path))?;
        let digest = Digest(hasher.finalize().into());
        let number = self.place_object(&path, digest, &file, size)?;
        let first_segment = self.extras.segments.len();
        let records = segments.iter().map(|&(offset, length)| SegmentRecord {
            offset: offset.into(),
            length: length.into(),
        });
        self.extras.segments.extend(records);
        self.extras.cuts.push(CutRecord {
            pack_offset: self.pack_length.into(),
            length: length.into(),
            object: number.into(),
            first_segment: u32::try_from(first_segment)
                .map_err(|_| IngestError::TooLarge)?
                .into(),
            segment_count: u32::try_from(segments.len())
                .map_err(|_| IngestError::TooLarge)?
                .into(),
            reserved: 0.into(),
        });
        Ok(number)
    }

    fn place_object(
        &mut self,
        path: &std::path::Path,
        digest: Digest,
        file: &File,
        size: u64,
    ) -> Result<u32, IngestError> {
        if let Some(&number) = self.numbers.get(&digest) {
            fs::remove_file(path).map_err(at(path))?;
            return Ok(number);
        }
        sys::store::start_writeback(file.as_fd(), 0, size);
        let named = self.tmp.path().join(digest.hex());
        fs::rename(path, &named).map_err(at(&named))?;
        let number = u32::try_from(self.extras.objects.len()).map_err(|_| IngestError::TooLarge)?;
        self.extras.objects.push(digest.0);
        self.numbers.insert(digest, number);
        Ok(number)
    }

    /// Makes the layer visible when all of it is durable; `false` when somebody else already has.
    pub(super) fn publish(
        mut self,
        tree: LayerTree,
        diff_id: DiffId,
        tar_size: u64,
    ) -> Result<bool, IngestError> {
        if self.store.has_layer(&diff_id) {
            return Ok(false);
        }
        self.flush()?;
        self.extras.tar_size = tar_size;
        let index_path = self.tmp.path().join("layer/index");
        let index = File::create_new(&index_path).map_err(at(&index_path))?;
        let mut out = io::BufWriter::with_capacity(1 << 20, index);
        tree.into_builder()
            .write(&mut out, diff_id.0, &self.extras)
            .and_then(|()| out.flush())
            .map_err(at(&index_path))?;
        self.store.sync_everything()?;
        // Nobody drops objects between the first rename and the layer that names them.
        let _shared = self.store.lock("store", FlockArg::LockShared)?;
        for object in &self.extras.objects {
            let digest = Digest(*object);
            let to = self.store.object_path(&digest);
            if !to.exists() {
                fs::rename(self.tmp.path().join(digest.hex()), &to).map_err(at(&to))?;
            }
        }
        self.store.sync_directory("objects")?;
        let to = self.store.layer_dir(&diff_id);
        match fs::rename(self.tmp.path().join("layer"), &to) {
            Ok(()) => {}
            // A directory that is not empty stands there: another process was first.
            Err(_) if self.store.has_layer(&diff_id) => return Ok(false),
            Err(error) => return Err(at(&to)(error).into()),
        }
        self.store.sync_directory("layers")?;
        Ok(true)
    }
}

/// Writes `bytes` at `offset`, leaving holes where they are zero.
fn write_sparsely(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let is_zero = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
    let mut start = 0;
    let mut end = 0;
    while end < bytes.len() {
        let to_boundary = HOLE - (offset as usize + end) % HOLE;
        let next = (end + to_boundary).min(bytes.len());
        // A piece at either end may be of a block that is a hole as a whole.
        let is_piece = next - end == HOLE || end == 0 || next == bytes.len();
        if is_piece && is_zero(&bytes[end..next]) {
            file.write_all_at(&bytes[start..end], offset + start as u64)?;
            start = next;
        }
        end = next;
    }
    file.write_all_at(&bytes[start..], offset + start as u64)
}
