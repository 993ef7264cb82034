//! Sending blobs and manifests (distribution-spec, "Pushing").

use std::fs::File;

use layerfs::Digest;
use ureq::http::Method;

use super::Client;
use super::auth::encode;
use super::error::RegistryError;
use super::http;
use super::http::Exchange;

/// What became of a wish to have a blob in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Started {
    Mounted,
}

impl Client {
    /// Returns whether the repository has the blob.
    pub(crate) fn has_blob(&self, digest: Digest) -> Result<bool, RegistryError> {
        let url = self.url(&format!("blobs/{digest}"));
        let reply = self.send(&Exchange::new(Method::HEAD, &url))?;
        match reply.status {
            404 => Ok(false),
            _ => reply.expect_success().map(|_| true),
        }
    }

    /// Links a blob from another repository of the registry; returns whether the registry did.
    pub(crate) fn mount_blob(&self, digest: Digest, from: &str) -> Result<bool, RegistryError> {
        match self.start_upload(Some((digest, from)))? {
            Ok(Started::Mounted) => Ok(true),
            Err(location) => {
                // The session it opened instead is not wanted.
                if let Ok(reply) = self.send(&Exchange::new(Method::DELETE, &location)) {
                    reply.drain();
                }
                Ok(false)
            }
        }
    }

    /// Opens an upload session, or mounts; returns the session's address.
    fn start_upload(
        &self,
        mount: Option<(Digest, &str)>,
    ) -> Result<Result<Started, String>, RegistryError> {
        let mut url = self.url("blobs/uploads/");
        if let Some((digest, from)) = mount {
            let query = encode(&[("mount", &digest.to_string()), ("from", from)]);
            url = format!("{url}?{query}");
        }
        let reply = self
            .send(&Exchange::new(Method::POST, &url).bytes(b""))?
            .expect_success()?;
        if reply.status == 201 && mount.is_some() {
            reply.drain();
            return Ok(Ok(Started::Mounted));
        }
        let location = reply
            .header("location")
            .ok_or_else(|| {
                RegistryError::Protocol("the registry opened an upload without a location".into())
            })
            .and_then(|location| http::join(&reply.url, location))?;
        reply.drain();
        Ok(Err(location))
    }

    /// Sends a blob of `length` bytes from `file`; a broken try starts a new session.
    pub(crate) fn put_blob(
        &self,
        digest: Digest,
        file: &File,
        length: u64,
        told: &(dyn Fn(u64) + Sync),
    ) -> Result<(), RegistryError> {
        let mut tries = 0;
        loop {
            let sent = self.upload(
                |url| {
                    let exchange = Exchange::new(Method::PUT, url)
                        .header("content-type", "application/octet-stream")
                        .file(file, length, told);
                    self.send_once(&exchange)?.expect_success()
                },
                digest,
            );
            match sent {
                Err(error) if error.is_transient() && tries < self.settings.retries => {
                    log::debug!("blob {digest}: {error}; again");
                    std::thread::sleep(
                        error
                            .retry_after()
                            .unwrap_or_else(|| http::backoff(&self.settings, tries)),
                    );
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    /// Sends a small blob.
    pub(crate) fn put_small_blob(&self, digest: Digest, bytes: &[u8]) -> Result<(), RegistryError> {
        self.upload(
            |url| {
                let exchange = Exchange::new(Method::PUT, url)
                    .header("content-type", "application/octet-stream")
                    .bytes(bytes);
                self.send(&exchange)?.expect_success()
            },
            digest,
        )
    }

    fn upload(
        &self,
        put: impl FnOnce(&str) -> Result<http::Reply, RegistryError>,
        digest: Digest,
    ) -> Result<(), RegistryError> {
        let location = match self.start_upload(None)? {
            Ok(Started::Mounted) => return Ok(()),
            Err(location) => location,
        };
        let separator = if location.contains('?') { '&' } else { '?' };
        let query = encode(&[("digest", &digest.to_string())]);
        let reply = put(&format!("{location}{separator}{query}"))?;
        let stored = reply.header("docker-content-digest").map(str::to_owned);
        reply.drain();
        match stored.and_then(|stored| stored.parse::<Digest>().ok()) {
            Some(stored) if stored != digest => Err(RegistryError::BlobDigest(digest)),
            _ => Ok(()),
        }
    }

    /// Sends a manifest under a tag or digest; returns the digest the registry has it under.
    pub(crate) fn put_manifest(
        &self,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, RegistryError> {
        let url = self.url(&format!("manifests/{name}"));
        let exchange = Exchange::new(Method::PUT, &url)
            .header("content-type", media_type)
            .bytes(bytes);
        let reply = self.send(&exchange)?.expect_success()?;
        reply.drain();
        Ok(Digest::of(bytes))
    }
}
