//! A blob that arrives whole although connections break.

use std::io;
use std::io::Read;
use std::time::Duration;

use layerfs::Digest;

use super::Client;
use super::error::RegistryError;
use super::http;
use super::http::Exchange;

/// How often a blob may break off in all, however far it comes between.
const MOST_BREAKS: u32 = 50;

/// The bytes of one blob in order. When the connection breaks, the rest is asked for from where it broke
/// (RFC 9110, "Range"); a registry that does not know ranges sends all again and the known part is skipped.
pub struct BlobReader<'a> {
    client: &'a Client,
    digest: Digest,
    size: u64,
    offset: u64,
    body: Option<Box<dyn Read + Send>>,
    /// Breaks since the last byte came, and in all.
    idle_breaks: u32,
    breaks: u32,
    told: Option<Box<dyn Fn(Told) + Send + 'a>>,
}

/// What a reader tells about its progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// So many bytes came.
    Bytes(u64),
    /// It broke off and goes on after this wait.
    Retrying(Duration),
}

impl<'a> BlobReader<'a> {
    /// Asks for the blob; the first answer decides whether it exists.
    pub(super) fn open(
        client: &'a Client,
        digest: Digest,
        size: u64,
    ) -> Result<BlobReader<'a>, RegistryError> {
        let mut reader = BlobReader {
            client,
            digest,
            size,
            offset: 0,
            body: None,
            idle_breaks: 0,
            breaks: 0,
            told: None,
        };
        reader.reconnect()?;
        Ok(reader)
    }

    /// Tells progress to `told`.
    pub(crate) fn telling(mut self, told: impl Fn(Told) + Send + 'a) -> BlobReader<'a> {
        self.told = Some(Box::new(told));
        self
    }

    fn reconnect(&mut self) -> Result<(), RegistryError> {
        let url = self.client.url(&format!("blobs/{}", self.digest));
        let mut exchange = Exchange::get(&url);
        if self.offset > 0 {
            exchange = exchange.header("range", format!("bytes={}-", self.offset));
        }
        let reply = self.client.send(&exchange)?.expect_success()?;
        let resumes = reply.status == 206
            && reply
                .header("content-range")
                .and_then(|range| range.strip_prefix("bytes ")?.split_once('-'))
                .is_some_and(|(start, _)| start.trim().parse() == Ok(self.offset));
        if reply.status == 206 && !resumes {
            return Err(RegistryError::Protocol(format!(
                "the registry sent another range of blob {} than asked for",
                self.digest
            )));
        }
        let mut body: Box<dyn Read + Send> = Box::new(reply.into_body());
        if !resumes && self.offset > 0 {
            let skipped = io::copy(&mut body.by_ref().take(self.offset), &mut io::sink())
                .map_err(|error| http::transport_error("Get", &url, &ureq::Error::Io(error)))?;
            if skipped < self.offset {
                return Err(http::transport_error(
                    "Get",
                    &url,
                    &ureq::Error::Io(io::ErrorKind::UnexpectedEof.into()),
                ));
            }
        }
        self.body = Some(body);
        Ok(())
    }

    /// Notes a break and waits; fails when there were too many.
    fn broke(&mut self, why: io::Error) -> io::Result<()> {
        self.body = None;
        self.idle_breaks += 1;
        self.breaks += 1;
        if self.idle_breaks > self.client.settings.retries || self.breaks > MOST_BREAKS {
            return Err(why);
        }
        let delay = http::backoff(&self.client.settings, self.idle_breaks - 1);
        log::debug!(
            "blob {} broke at {}: {why}; again in {delay:?}",
            self.digest,
            self.offset
        );
        if let Some(told) = &self.told {
            told(Told::Retrying(delay));
        }
        std::thread::sleep(delay);
        Ok(())
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(body) = &mut self.body else {
                match self.reconnect() {
                    Ok(()) => continue,
                    Err(error) if error.is_transient() => {
                        self.broke(io::Error::other(error))?;
                        continue;
                    }
                    Err(error) => return Err(io::Error::other(error)),
                }
            };
            if self.offset == self.size {
                // What follows the declared end is a lie about the size; the connection is not kept for it.
                let mut one = [0];
                return match body.read(&mut one) {
                    Ok(0) | Err(_) => Ok(0),
                    Ok(_) => Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("more than the {} bytes that the manifest states", self.size),
                    )),
                };
            }
            let left = usize::try_from(self.size - self.offset).unwrap_or(usize::MAX);
            let wanted = buffer.len().min(left);
            match body.read(&mut buffer[..wanted]) {
                Ok(0) => {
                    let url = self.client.url(&format!("blobs/{}", self.digest));
                    let ended = ureq::Error::Io(io::ErrorKind::UnexpectedEof.into());
                    let error = http::transport_error("Get", &url, &ended);
                    self.broke(io::Error::other(error))?;
                }
                Ok(read) => {
                    self.offset += read as u64;
                    self.idle_breaks = 0;
                    if let Some(told) = &self.told {
                        told(Told::Bytes(self.offset));
                    }
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let url = self.client.url(&format!("blobs/{}", self.digest));
                    let error = http::transport_error("Get", &url, &ureq::Error::Io(error));
                    self.broke(io::Error::other(error))?;
                }
            }
        }
    }
}
