//! Which files a `COPY` or `ADD` takes, and a digest over all that matters of them.
//!
//! The digest covers names, kinds, modes, owners as they will be, link targets, attributes, which names are one file, and
//! contents; no times.

use std::collections::HashMap;
use std::io;
use std::io::Read as _;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use layerfs::Digest;
use layerfs::Kind;
use parking_lot::Mutex;
use sha2::Digest as _;
use sha2::Sha256;

use super::digests::Version;
use super::error::StepError;
use super::files::clean;
use super::files::join;
use super::files::lookup;
use super::files::real_path;
use super::files::with_tree;
use super::glob;
use super::ignore::IgnoreFile;
use super::mode::ModeChange;
use super::source::Source;
use crate::tree::Last;
use crate::tree::Stat;
use crate::tree::Tree;

/// How deep a source may be.
const DEEPEST: usize = 4096;
/// How many files are hashed at once.
const HASHERS: usize = 2;

/// Metadata that the instruction gives to all it copies.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// `--chown`
    pub(super) owner: Option<(u32, u32)>,
    /// `--chmod`
    pub(super) mode: Option<ModeChange>,
    /// `SOURCE_DATE_EPOCH`
    pub(super) latest: Option<i64>,
}

/// What `--exclude` leaves out, by paths relative to their source.
pub(super) type Excluded<'a> = Option<&'a IgnoreFile>;

/// One source, found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Where it is, links followed.
    pub(super) path: Vec<Vec<u8>>,
    /// As it was called.
    pub(super) called: Vec<Vec<u8>>,
    /// How many of `called`'s first components `--parents` leaves away.
    pub(super) pivot: usize,
    pub(super) stat: Stat,
}

/// A node to copy.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Where it is in its tree.
    pub(super) from: Vec<u8>,
    /// Where it goes, relative to the destination; empty is the destination itself.
    pub(super) to: Vec<u8>,
    /// Its metadata as they will be.
    pub(super) stat: Stat,
    /// What it is known by.
    version: Option<Version>,
    digest: Option<Digest>,
}

/// Finds what a source means: one thing, or what fits its wildcards, sorted. With `parents`, a name `**` fits any number
/// of directories, none included, as in Docker's `COPY --parents`.
pub(super) fn find(
    source: &Source,
    text: &str,
    verb: &'static str,
    parents: bool,
) -> Result<Vec<Found>, StepError> {
    let pivot_at = text.find("/./").map(|at| &text[..at]);
    let outside = || StepError::OutsideContext {
        verb,
        path: text.to_owned(),
    };
    let called = clean(text.as_bytes()).ok_or_else(outside)?;
    let pivot = pivot_at
        .and_then(|before| clean(before.as_bytes()))
        .map_or(0, |before| before.len());
    let is_pattern = called.iter().any(|name| glob::is_pattern(name));
    with_tree!(&source.files, tree => {
        let candidates = match is_pattern {
            true => expand(tree, &called, verb, parents)?,
            false => vec![called],
        };
        let mut found = Vec::new();
        for called in candidates {
            let failed = |error: io::Error| StepError::io(&*String::from_utf8_lossy(&join(&called)))(error);
            let missing = || source.missing(verb, text);
            let path = real_path(tree, &called).map_err(failed)?;
            let node = lookup(tree, &path).map_err(failed)?;
            let stat = node.map(|node| tree.stat(&node)).transpose().map_err(failed)?;
            let Some(stat) = stat else {
                match is_pattern {
                    // A link that leads nowhere.
                    true => continue,
                    false => return Err(missing()),
                }
            };
            let joined = join(&path);
            if source.is_left_out(&joined)
                && !(stat.kind == Kind::Directory && source.may_take_back_below(&joined))
            {
                match is_pattern {
                    true => continue,
                    false => return Err(missing()),
                }
            }
            found.push(Found { path, called, pivot, stat });
        }
        match found.is_empty() {
            true => Err(StepError::NoSources { verb }),
            false => Ok(found),
        }
    })
}

/// Returns the paths that fit a path with wildcards, sorted.
fn expand<T: Tree>(
    tree: &T,
    pattern: &[Vec<u8>],
    verb: &'static str,
    parents: bool,
) -> Result<Vec<Vec<Vec<u8>>>, StepError> {
    let mut paths: Vec<Vec<Vec<u8>>> = vec![Vec::new()];
    for part in pattern {
        let mut next = Vec::new();
        for path in paths {
            if !glob::is_pattern(part) {
                next.push([path, vec![part.clone()]].concat());
                continue;
            }
            if parents && part == b"**" {
                directories(tree, path, &mut next)?;
                continue;
            }
            let failed = |error| StepError::io(&*String::from_utf8_lossy(&join(&path)))(error);
            let Ok(directory) = tree.resolve(&join(&path), Last::Follow) else {
                continue;
            };
            if tree.stat(&directory).map_err(failed)?.kind != Kind::Directory {
                continue;
            }
            let part = String::from_utf8_lossy(part);
            for name in tree.names(&directory).map_err(failed)? {
                let fits =
                    glob::matches(&part, &String::from_utf8_lossy(&name)).map_err(|error| {
                        StepError::Transfer {
                            verb,
                            words: error.to_string(),
                        }
                    })?;
                if fits {
                    next.push([path.clone(), vec![name]].concat());
                }
            }
        }
        next.sort();
        next.dedup();
        paths = next;
    }
    Ok(paths)
}

/// Adds a directory and all that are below it, following no links.
fn directories<T: Tree>(
    tree: &T,
    top: Vec<Vec<u8>>,
    to: &mut Vec<Vec<Vec<u8>>>,
) -> Result<(), StepError> {
    let mut left = vec![top];
    while let Some(path) = left.pop() {
        let joined = join(&path);
        let failed = |error| StepError::io(&*String::from_utf8_lossy(&joined))(error);
        let Ok(node) = tree.resolve(&joined, Last::Keep) else {
            continue;
        };
        if tree.stat(&node).map_err(failed)?.kind != Kind::Directory || path.len() == DEEPEST {
            continue;
        }
        for name in tree.names(&node).map_err(failed)? {
            left.push([path.clone(), vec![name]].concat());
        }
        to.push(path);
    }
    Ok(())
}

/// Collects the nodes of one source.
pub(super) struct Collector<'a> {
    pub(super) source: &'a Source,
    pub(super) wanted: &'a Wanted,
    pub(super) excluded: Excluded<'a>,
    pub(super) entries: Vec<Entry>,
    /// Bytes of the files, for those who like numbers.
    pub(super) bytes: u64,
}

impl Collector<'_> {
    /// Adds what was found under `to`: itself, or what is in it. `relative` is what it is called for `--exclude`.
    pub(super) fn add(
        &mut self,
        found: &Found,
        to: &[u8],
        relative: &[u8],
        contents: bool,
    ) -> io::Result<()> {
        with_tree!(&self.source.files, tree => {
            let path = join(&found.path);
            let node = tree.resolve(&path, Last::Keep)?;
            match contents {
                true => self.directory(tree, &node, &path, to, relative, 0),
                false if self.is_excluded(relative) => Ok(()),
                false => self.node(tree, &node, &path, to, b"", 0),
            }
        })
    }

    /// Adds a directory of the source's own, for `--parents`.
    pub(super) fn add_parent(&mut self, path: &[Vec<u8>], to: &[u8]) -> io::Result<()> {
        if self.entries.iter().any(|entry| entry.to == to) {
            return Ok(());
        }
        with_tree!(&self.source.files, tree => {
            let path = join(&real_path(tree, path)?);
            let node = tree.resolve(&path, Last::Keep)?;
            let stat = tree.stat(&node)?;
            self.push(path, to.to_vec(), stat);
            Ok(())
        })
    }

    fn is_excluded(&self, path: &[u8]) -> bool {
        self.excluded
            .is_some_and(|excluded| excluded.leaves_out(&String::from_utf8_lossy(path)))
    }

    fn directory<T: Tree>(
        &mut self,
        tree: &T,
        node: &T::Node,
        path: &[u8],
        to: &[u8],
        relative: &[u8],
        depth: usize,
    ) -> io::Result<()> {
        if depth == DEEPEST {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        for name in tree.names(node)? {
            let below = |path: &[u8]| match path {
                b"" => name.clone(),
                path => [path, b"/", &name].concat(),
            };
            let child = match tree.child(node, &name) {
                // Gone since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                child => child?,
            };
            self.node(
                tree,
                &child,
                &below(path),
                &below(to),
                &below(relative),
                depth,
            )?;
        }
        Ok(())
    }

    /// Adds a node and what is below it. A directory that is left out shows again if something in it is not.
    fn node<T: Tree>(
        &mut self,
        tree: &T,
        node: &T::Node,
        path: &[u8],
        to: &[u8],
        relative: &[u8],
        depth: usize,
    ) -> io::Result<()> {
        let stat = tree.stat(node)?;
        let is_directory = stat.kind == Kind::Directory;
        let left_out = self.source.is_left_out(path);
        if stat.kind == Kind::Socket
            || (left_out && !(is_directory && self.source.may_take_back_below(path)))
            || (!relative.is_empty() && self.is_excluded(relative))
        {
            return Ok(());
        }
        let at = self.entries.len();
        self.push(path.to_vec(), to.to_vec(), stat);
        if is_directory {
            self.directory(tree, node, path, to, relative, depth + 1)?;
            if left_out && self.entries.len() == at + 1 {
                self.entries.pop();
            }
        }
        Ok(())
    }

    fn push(&mut self, from: Vec<u8>, to: Vec<u8>, stat: Stat) {
        let version = Version::of(&stat);
        let mut stat = stat;
        if self.source.is_context() {
            (stat.uid, stat.gid) = (0, 0);
            // As in the context that Docker sends.
            stat.mtime.nanos = 0;
        }
        if let Some((uid, gid)) = self.wanted.owner {
            (stat.uid, stat.gid) = (uid, gid);
        }
        if let Some(mode) = self
            .wanted
            .mode
            .as_ref()
            .filter(|_| stat.kind != Kind::Symlink)
        {
            stat.mode = mode.apply(stat.mode, stat.kind == Kind::Directory);
        }
        if let Some(latest) = self.wanted.latest {
            stat.mtime = crate::archive::no_later(stat.mtime, latest);
        }
        if stat.kind == Kind::File {
            self.bytes += stat.size;
        }
        self.entries.push(Entry {
            from,
            to,
            stat,
            version,
            digest: None,
        });
    }
}

/// Fills in the digests of the entries' contents: what is remembered of files that have not changed, else what is read.
pub(super) fn digest_contents(source: &Source, entries: &mut [Entry]) -> Result<(), StepError> {
    if let Some(digests) = &source.digests {
        let digests = digests.lock();
        for entry in entries.iter_mut() {
            entry.digest = entry.version.and_then(|version| digests.known(&version));
        }
    }
    let unknown: Vec<Mutex<&mut Entry>> = entries
        .iter_mut()
        .filter(|entry| entry.digest.is_none())
        .map(Mutex::new)
        .collect();
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<StepError>> = Mutex::new(None);
    let work = || {
        while let Some(entry) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut entry = entry.lock();
            match content_digest(source, &entry) {
                Ok(digest) => entry.digest = Some(digest),
                Err(error) => {
                    next.store(unknown.len(), Ordering::Relaxed);
                    let path = String::from_utf8_lossy(&entry.from).into_owned();
                    failure.lock().get_or_insert(StepError::io(path)(error));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        if unknown.len() > 16 {
            for _ in 1..HASHERS {
                scope.spawn(work);
            }
        }
        work();
    });
    drop(unknown);
    if let Some(failure) = failure.into_inner() {
        return Err(failure);
    }
    if let Some(digests) = &source.digests {
        let mut digests = digests.lock();
        for entry in entries.iter() {
            if let (Some(version), Some(digest)) = (entry.version, entry.digest) {
                digests.remember(version, digest);
            }
        }
    }
    Ok(())
}

/// Returns the digest of a node's content, link target and attributes.
fn content_digest(source: &Source, entry: &Entry) -> io::Result<Digest> {
    with_tree!(&source.files, tree => {
        let node = tree.resolve(&entry.from, Last::Keep)?;
        let mut hash = Sha256::new();
        match entry.stat.kind {
            Kind::File => {
                let mut content = tree.read(&node)?;
                let mut buffer = vec![0; 64 << 10];
                loop {
                    match content.read(&mut buffer) {
                        Ok(0) => break,
                        Ok(count) => hash.update(&buffer[..count]),
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Kind::Symlink => hash.update(tree.link_target(&node)?),
            _ => {}
        }
        let mut xattrs = tree.xattrs(&node)?;
        xattrs.sort_unstable();
        if xattrs.is_empty() {
            return Ok(Digest(hash.finalize().into()));
        }
        let mut whole = Sha256::new();
        whole.update(hash.finalize());
        for (name, value) in &xattrs {
            field(&mut whole, name);
            field(&mut whole, value);
        }
        Ok(Digest(whole.finalize().into()))
    })
}

/// Returns the digest of all that is in a source.
pub(super) fn tree_digest(source: &Source) -> Result<Digest, StepError> {
    let wanted = Wanted::default();
    let mut collector = Collector {
        source,
        wanted: &wanted,
        excluded: None,
        entries: Vec::new(),
        bytes: 0,
    };
    for found in find(source, "/", "ADD", false)? {
        let added = collector.add(&found, b"", b"", true);
        added.map_err(StepError::io("checkout"))?;
    }
    let mut entries = collector.entries;
    digest_contents(source, &mut entries)?;
    Ok(digest(&entries))
}

/// Returns the digest of all entries, in their order.
pub(super) fn digest(entries: &[Entry]) -> Digest {
    let mut hash = Sha256::new();
    let mut links: HashMap<(u64, u64), &[u8]> = HashMap::new();
    for entry in entries {
        let stat = &entry.stat;
        field(&mut hash, &entry.to);
        let kind = match stat.kind {
            Kind::File => b'f',
            Kind::Directory => b'd',
            Kind::Symlink => b'l',
            Kind::CharDevice => b'c',
            Kind::BlockDevice => b'b',
            Kind::Fifo => b'p',
            Kind::Socket => b's',
        };
        hash.update([kind]);
        for number in [stat.mode, stat.uid, stat.gid] {
            hash.update(number.to_le_bytes());
        }
        hash.update(stat.rdev.to_le_bytes());
        if stat.kind != Kind::Directory && stat.nlink > 1 {
            match links.get(&stat.identity) {
                Some(first) => field(&mut hash, first),
                None => drop(links.insert(stat.identity, &entry.to)),
            }
        }
        hash.update(entry.digest.unwrap_or(Digest([0; 32])).0);
    }
    Digest(hash.finalize().into())
}

fn field(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}
