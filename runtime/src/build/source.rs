//! What files come from: the build's context, a further one, a stage, an image.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use layerfs::DiffId;
use layerfs::TmpDir;
use layerfs::ingest::Expect;
use parking_lot::Mutex;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use super::compression;
use super::digests::Digests;
use super::error::StepError;
use super::files::Files;
use super::ignore::IgnoreFile;
use crate::Engine;
use crate::archive::Counted;
use crate::archive::Most;
use crate::tree::HostTree;
use crate::tree::Last;
use crate::tree::Tree;

/// Where files come from.
pub(super) struct Source {
    pub(super) files: Files,
    /// What the ignore file says.
    pub(super) ignore: Option<IgnoreFile>,
    /// What is remembered of the files.
    pub(super) digests: Option<Mutex<Digests>>,
    /// The layers that hold it, if layers do.
    pub(super) layers: Option<Vec<DiffId>>,
    is_context: bool,
    _held: Option<TmpDir>,
}

impl Source {
    /// Opens a directory of the host's, read in place.
    pub(super) fn directory(engine: &Engine, path: &Path) -> Result<Source, StepError> {
        let failed = || StepError::io(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(io::Error::from)
            .map_err(failed())?;
        let tree = HostTree::of_sources(root);
        let stat = tree
            .resolve(b"", Last::Follow)
            .and_then(|root| tree.stat(&root))
            .map_err(failed())?;
        let digests = Digests::open(engine.root(), &stat);
        Ok(Source {
            digests: Some(Mutex::new(digests)),
            ..Source::context(Files::Host(tree))
        })
    }

    /// Takes a checkout that goes with the build.
    pub(super) fn checkout(held: TmpDir, directory: OwnedFd) -> Source {
        Source {
            _held: Some(held),
            ..Source::context(Files::Host(HostTree::of_sources(directory)))
        }
    }

    /// Takes in a tar: as a layer, which no image names and the next sweep removes. So nothing of it is ever made a file
    /// of the host's.
    pub(super) fn archive(engine: &Engine, archive: impl Read + Send) -> Result<Source, StepError> {
        let failed = || StepError::io("context");
        let archive = compression::decoded(archive).map_err(failed())?;
        let mut left = Most::room(engine.root()).map_err(failed())?.bytes;
        let archive = Counted {
            inner: archive,
            left: &mut left,
        };
        let layer = engine.store().ingest(archive, Expect::default())?.diff_id;
        Ok(Source {
            is_context: true,
            ..Source::layers(engine, &[layer])?
        })
    }

    /// Opens what layers show together.
    pub(super) fn layers(engine: &Engine, layers: &[DiffId]) -> Result<Source, StepError> {
        let stack = engine.store().stack(layers)?;
        let files = Files::of_stack(stack).map_err(StepError::io("layers"))?;
        Ok(Source {
            layers: Some(layers.to_vec()),
            is_context: false,
            ..Source::context(files)
        })
    }

    /// A context with nothing in it.
    pub(super) fn empty(engine: &Engine) -> Result<Source, StepError> {
        Ok(Source {
            is_context: true,
            ..Source::layers(engine, &[])?
        })
    }

    fn context(files: Files) -> Source {
        Source {
            files,
            ignore: None,
            digests: None,
            layers: None,
            is_context: true,
            _held: None,
        }
    }

    /// Returns whether owners and fractions of seconds mean nothing: it is a context, not a tree of an image's.
    pub(super) fn is_context(&self) -> bool {
        self.is_context
    }

    /// Returns whether a path is not part of it.
    pub(super) fn is_left_out(&self, path: &[u8]) -> bool {
        let ignore = self.ignore.as_ref().filter(|_| !path.is_empty());
        ignore.is_some_and(|ignore| ignore.leaves_out(&String::from_utf8_lossy(path)))
    }

    /// Returns whether something below a directory that is left out may be part of it.
    pub(super) fn may_take_back_below(&self, path: &[u8]) -> bool {
        let ignore = self.ignore.as_ref();
        ignore.is_some_and(|ignore| ignore.may_take_back_below(&String::from_utf8_lossy(path)))
    }

    /// Returns the error that something is not in it.
    pub(super) fn missing(&self, verb: &'static str, path: &str) -> StepError {
        let path = path.trim_start_matches('/').to_owned();
        match self.is_context {
            true => StepError::NotInContext { verb, path },
            false => StepError::NotInSource { verb, path },
        }
    }

    /// Writes down what was found out of the files.
    pub(super) fn save_digests(&self) {
        if let Some(digests) = &self.digests
            && let Err(error) = digests.lock().save()
        {
            log::warn!("the digests of the context: {error}");
        }
    }
}

/// Opens a file that was given as a context: the tar's.
pub(super) fn rewound(file: &File) -> Result<File, StepError> {
    file.try_clone().map_err(StepError::io("context"))
}
