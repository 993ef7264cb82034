//! `blobs/sha256/<hex>`: manifests and configs, byte for byte as they came.

use std::fs;
use std::io::Read as _;
use std::io::Write as _;
use std::path::PathBuf;

use layerfs::Digest;

use super::ImageError;
use super::config::LARGEST_CONFIG;
use crate::Engine;

impl Engine {
    fn blob_path(&self, digest: Digest) -> PathBuf {
        self.root().join("blobs/sha256").join(digest.hex())
    }

    /// Keeps `bytes` under their digest: durable when this returns, visible by one rename.
    pub(crate) fn put_blob(&self, bytes: &[u8]) -> Result<Digest, ImageError> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(digest);
        if fs::metadata(&path).is_ok_and(|meta| meta.len() == bytes.len() as u64) {
            return Ok(digest);
        }
        let directory = self.root().join("blobs/sha256");
        fs::create_dir_all(&directory).map_err(ImageError::io(&directory))?;
        let tmp = self.store().tmp_dir()?;
        let fresh = tmp.path().join(digest.hex());
        let write = || {
            let mut file = fs::File::create_new(&fresh)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            fs::File::open(&directory)?.sync_all()
        };
        write().map_err(ImageError::io(&path))?;
        Ok(digest)
    }

    /// Returns the bytes kept under `digest`, checked against it.
    pub(crate) fn blob(&self, digest: Digest) -> Result<Vec<u8>, ImageError> {
        let path = self.blob_path(digest);
        let mut bytes = Vec::new();
        fs::File::open(&path)
            .and_then(|file| file.take(LARGEST_CONFIG + 1).read_to_end(&mut bytes))
            .map_err(ImageError::io(&path))?;
        match Digest::of(&bytes) == digest {
            true => Ok(bytes),
            false => Err(ImageError::DigestMismatch(digest)),
        }
    }

    /// Removes the blob; one that is not there is fine.
    pub(super) fn remove_blob(&self, digest: Digest) -> Result<(), ImageError> {
        let path = self.blob_path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(ImageError::io(&path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Returns the digests of all blobs kept.
    pub(super) fn blob_digests(&self) -> Result<Vec<Digest>, ImageError> {
        let directory = self.root().join("blobs/sha256");
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(ImageError::io(&directory)(error)),
        };
        Ok(entries
            .flatten()
            .filter_map(|entry| Digest::from_hex(entry.file_name().to_str()?).ok())
            .collect())
    }
}
