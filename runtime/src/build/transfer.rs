//! `COPY` and `ADD`: what is taken, where it goes, and the layer that comes of it.
//!
//! Files go from their tree straight into the layer's tar: the base is only asked where the destination leads, which of
//! its directories are there, and what would be hidden. Only archives are unpacked into a union, since what is in them
//! may lead through links of the base and of their own.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use layerfs::DiffId;
use layerfs::Digest;
use layerfs::Kind;
use layerfs::Timespec;
use layerfs::TmpDir;
use layerfs::Union;
use layerfs::Upper;
use sha2::Digest as _;
use sha2::Sha256;

use super::compression;
use super::error::StepError;
use super::files::Files;
use super::files::clean;
use super::files::join;
use super::files::lookup;
use super::files::real_path;
use super::files::with_tree;
use super::layer;
use super::select;
use super::select::Collector;
use super::select::Entry;
use super::select::Excluded;
use super::select::Found;
use super::select::Wanted;
use super::source::Source;
use crate::Engine;
use crate::archive;
use crate::archive::Most;
use crate::archive::Packer;
use crate::archive::Unpack;
use crate::tree::Last;
use crate::tree::Stat;
use crate::tree::Tree;
use crate::tree::UnionTree;

/// What an instruction asks for, its words expanded.
pub(super) struct Request<'a> {
    pub(super) verb: &'static str,
    pub(super) source: Arc<Source>,
    /// Paths in the source.
    pub(super) paths: &'a [String],
    /// Files that come from elsewhere.
    pub(super) loose: Vec<Loose>,
    pub(super) destination: &'a str,
    pub(super) working_dir: &'a str,
    pub(super) wanted: Wanted,
    pub(super) excluded: Excluded<'a>,
    pub(super) parents: bool,
    /// Whether archives among the paths are unpacked.
    pub(super) unpack: bool,
}

/// A file that is in no tree, or a directory that is taken whole.
pub(super) struct Loose {
    pub(super) name: Vec<u8>,
    pub(super) content: Content,
    pub(super) mode: u32,
    pub(super) mtime: Option<i64>,
}

/// What is in it.
pub(super) enum Content {
    /// Text of the Dockerfile.
    Bytes(Vec<u8>),
    /// Something that was fetched.
    Fetched(Fetched),
    /// A tree that was fetched, whose contents are taken.
    Tree(Arc<Source>, Digest),
}

/// A file that was fetched.
pub(super) struct Fetched {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) digest: Digest,
    /// Whether it is an archive to unpack.
    pub(super) unpack: bool,
    pub(super) _held: Arc<TmpDir>,
}

/// An instruction whose sources have been found and looked at.
pub(super) struct Transfer {
    verb: &'static str,
    source: Arc<Source>,
    entries: Vec<Entry>,
    archives: Vec<Entry>,
    loose: Vec<Loose>,
    /// Whether it is one file that may get the destination's name.
    single: bool,
    destination: Vec<Vec<u8>>,
    wanted: Wanted,
    digest: Digest,
    plural: &'static str,
    /// Files looked at, and their bytes.
    pub(super) files: usize,
    pub(super) bytes: u64,
}

impl Transfer {
    /// Finds the sources and digests what is in them.
    pub(super) fn prepare(request: Request<'_>) -> Result<Transfer, StepError> {
        let Request { verb, .. } = request;
        let mut found: Vec<Found> = Vec::new();
        for path in request.paths {
            found.extend(select::find(&request.source, path, verb, request.parents)?);
        }
        let count = found.len() + request.loose.len();
        let ends_in_slash = request.destination.ends_with('/')
            || matches!(request.destination, "." | "..")
            || request.destination.ends_with("/.")
            || request.destination.ends_with("/..");
        if count > 1 && !ends_in_slash {
            return Err(StepError::NotADirectory { verb });
        }
        let mut collector = Collector {
            source: &request.source,
            wanted: &request.wanted,
            excluded: request.excluded,
            entries: Vec::new(),
            bytes: 0,
        };
        let mut archives = Vec::new();
        for found in &found {
            let failed =
                |error| StepError::io(&*String::from_utf8_lossy(&join(&found.path)))(error);
            let is_directory = found.stat.kind == Kind::Directory;
            if request.parents {
                collect_with_parents(&mut collector, found).map_err(failed)?;
            } else if is_directory {
                collector.add(found, b"", b"", true).map_err(failed)?;
            } else {
                let name = found.called.last().map_or(&b""[..], Vec::as_slice);
                let at = collector.entries.len();
                collector.add(found, name, name, false).map_err(failed)?;
                if request.unpack && is_archive(&request.source, found).map_err(failed)? {
                    archives.extend(collector.entries.drain(at..));
                }
            }
        }
        let bytes = collector.bytes;
        // The last one of a name counts, and directories come before what is in them.
        let entries: BTreeMap<Vec<u8>, Entry> = collector
            .entries
            .into_iter()
            .map(|entry| (entry.to.clone(), entry))
            .collect();
        let mut entries: Vec<Entry> = entries.into_values().collect();
        select::digest_contents(&request.source, &mut entries)?;
        select::digest_contents(&request.source, &mut archives)?;
        let files = entries.len() + archives.len();
        let is_tree = |loose: &Loose| matches!(loose.content, Content::Tree(..));
        let single_source = match (found.as_slice(), request.loose.as_slice()) {
            ([found], []) => found.stat.kind != Kind::Directory,
            ([], [loose]) => !is_tree(loose),
            _ => false,
        };
        let plural = match (count, single_source) {
            (1, true) => "file",
            (1, false) => "dir",
            _ => "multi",
        };
        let destination = absolute(request.working_dir, request.destination);
        let mut transfer = Transfer {
            verb,
            source: request.source,
            single: single_source
                && !ends_in_slash
                && !request.parents
                && archives.is_empty()
                && !request.loose.iter().any(is_unpacked),
            entries,
            archives,
            loose: request.loose,
            destination,
            wanted: request.wanted,
            digest: Digest([0; 32]),
            plural,
            files,
            bytes,
        };
        transfer.digest = transfer.content_digest();
        Ok(transfer)
    }

    /// Returns the digest of all that the layer depends on, but the base.
    pub(super) fn key(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(self.digest.0);
        hash.update([u8::from(self.single)]);
        hash.update(join(&self.destination));
        hash.update(self.wanted.latest.unwrap_or(-1).to_le_bytes());
        Digest(hash.finalize().into())
    }

    /// Returns how the history names the sources.
    pub(super) fn summary(&self) -> String {
        format!("{}:{}", self.plural, self.digest.hex())
    }

    fn content_digest(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(select::digest(&self.entries).0);
        hash.update(select::digest(&self.archives).0);
        for loose in &self.loose {
            hash.update((loose.name.len() as u64).to_le_bytes());
            hash.update(&loose.name);
            let stat = self.loose_stat(loose);
            for number in [stat.mode, stat.uid, stat.gid] {
                hash.update(number.to_le_bytes());
            }
            hash.update(match &loose.content {
                Content::Bytes(bytes) => Digest::of(bytes).0,
                Content::Fetched(fetched) => fetched.digest.0,
                Content::Tree(_, digest) => digest.0,
            });
            let unpack = matches!(&loose.content, Content::Fetched(fetched) if fetched.unpack);
            hash.update([u8::from(unpack)]);
        }
        Digest(hash.finalize().into())
    }

    fn loose_stat(&self, loose: &Loose) -> Stat {
        let size = match &loose.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Fetched(fetched) => fetched.size,
            Content::Tree(..) => 0,
        };
        let mode = match &self.wanted.mode {
            Some(change) => change.apply(loose.mode, false),
            None => loose.mode,
        };
        let mtime = loose.mtime.map(|secs| Timespec { secs, nanos: 0 });
        Stat {
            kind: Kind::File,
            size,
            ..self.made(mode, mtime)
        }
    }

    /// Returns the metadata of a directory that is made.
    fn made(&self, mode: u32, mtime: Option<Timespec>) -> Stat {
        let (uid, gid) = self.wanted.owner.unwrap_or((0, 0));
        let now = || Timespec {
            secs: jiff::Timestamp::now().as_second(),
            nanos: 0,
        };
        let mtime = mtime.unwrap_or_else(now);
        Stat {
            kind: Kind::Directory,
            mode,
            uid,
            gid,
            size: 0,
            mtime: match self.wanted.latest {
                Some(latest) => archive::no_later(mtime, latest),
                None => mtime,
            },
            ctime: None,
            rdev: 0,
            nlink: 1,
            identity: (0, 0),
        }
    }

    /// Makes the layer on `base`; none if nothing comes of it.
    pub(super) fn layer(&self, engine: &Engine, base: &Files) -> Result<Option<DiffId>, StepError> {
        let Files::Layers(tree) = base else {
            return Err(self.refused("the base is no stack of layers".to_owned()));
        };
        let place = self.place(tree)?;
        if !self.archives.is_empty() || self.loose.iter().any(is_unpacked) {
            return self.unpack(engine, tree, &place).map(Some);
        }
        let pieces = self.pieces(tree, &place)?;
        if pieces
            .values()
            .all(|piece| matches!(piece, Piece::There(..)))
        {
            return Ok(None);
        }
        let made = layer::ingest(engine, |out| self.pack(&pieces, out))?;
        Ok(Some(made))
    }

    fn refused(&self, words: String) -> StepError {
        StepError::Transfer {
            verb: self.verb,
            words,
        }
    }

    /// Finds where it goes.
    fn place(&self, base: &UnionTree) -> Result<Place, StepError> {
        let shown = || format!("/{}", String::from_utf8_lossy(&join(&self.destination)));
        let failed = |error| StepError::io(shown())(error);
        let at = real_path(base, &self.destination).map_err(failed)?;
        let there = kind_at(base, &at).map_err(failed)?;
        match there {
            Some(Kind::Directory) => Ok(Place {
                directory: at,
                name: None,
            }),
            _ if self.single => {
                let (name, directory) = match at.split_last() {
                    Some((name, directory)) => (Some(name.clone()), directory.to_vec()),
                    None => (None, Vec::new()),
                };
                Ok(Place { directory, name })
            }
            Some(_) => Err(self.refused(format!("cannot copy to non-directory: {}", shown()))),
            None => Ok(Place {
                directory: at,
                name: None,
            }),
        }
    }

    /// Puts together what the layer's tar has in it, sorted by path.
    fn pieces(
        &self,
        base: &UnionTree,
        place: &Place,
    ) -> Result<BTreeMap<Vec<u8>, Piece<'_>>, StepError> {
        let mut pieces = BTreeMap::new();
        let mut is_new = false;
        for depth in 1..=place.directory.len() {
            let path = &place.directory[..depth];
            let joined = join(path);
            let failed = |error| StepError::io(&*String::from_utf8_lossy(&joined))(error);
            let node = match is_new {
                true => None,
                false => lookup(base, path).map_err(failed)?,
            };
            let piece = match node {
                Some(node) => {
                    let stat = base.stat(&node).map_err(failed)?;
                    if stat.kind != Kind::Directory {
                        let shown = String::from_utf8_lossy(&joined);
                        return Err(self.refused(format!("mkdir /{shown}: not a directory")));
                    }
                    let mut xattrs = base.xattrs(&node).map_err(failed)?;
                    xattrs.sort_unstable();
                    Piece::There(stat, xattrs)
                }
                None => {
                    is_new = true;
                    Piece::Made(self.made(0o755, None))
                }
            };
            pieces.insert(joined, piece);
        }
        for entry in &self.entries {
            let path = place.path(&entry.to);
            if !is_new {
                self.may_replace(base, &path, &entry.stat)?;
            }
            pieces.insert(path, Piece::Entry(entry));
        }
        for loose in self.loose.iter().filter(|loose| !is_unpacked(loose)) {
            if loose.name.is_empty() && place.name.is_none() {
                return Err(self.refused("cannot determine filename for the source".to_owned()));
            }
            let (path, stat) = (place.path(&loose.name), self.loose_stat(loose));
            if !is_new {
                self.may_replace(base, &path, &stat)?;
            }
            pieces.insert(path, Piece::Loose(loose, stat));
        }
        Ok(pieces)
    }

    /// Refuses to put a file in a directory's place.
    fn may_replace(&self, base: &UnionTree, path: &[u8], stat: &Stat) -> Result<(), StepError> {
        if stat.kind == Kind::Directory {
            return Ok(());
        }
        let names = clean(path).unwrap_or_default();
        let shown = String::from_utf8_lossy(path);
        let there = kind_at(base, &names).map_err(StepError::io(&*shown))?;
        match there {
            Some(Kind::Directory) => Err(self.refused(format!(
                "cannot overwrite directory /{shown} with non-directory"
            ))),
            _ => Ok(()),
        }
    }

    fn pack(
        &self,
        pieces: &BTreeMap<Vec<u8>, Piece<'_>>,
        out: layer::Out,
    ) -> io::Result<layer::Out> {
        let mut packer = Packer::new(out);
        for (path, piece) in pieces {
            match piece {
                Piece::There(stat, xattrs) => packer.append_empty(path, stat, xattrs)?,
                Piece::Made(stat) => packer.append_empty(path, stat, &[])?,
                Piece::Entry(entry) => with_tree!(&self.source.files, tree => {
                    let node = tree.resolve(&entry.from, Last::Keep)?;
                    packer.append(tree, &node, path, &entry.stat)?;
                }),
                Piece::Loose(loose, stat) => match &loose.content {
                    Content::Bytes(bytes) => packer.append_file(path, stat, &[], &bytes[..])?,
                    Content::Fetched(fetched) => {
                        packer.append_file(path, stat, &[], File::open(&fetched.path)?)?;
                    }
                    Content::Tree(..) => {}
                },
            }
        }
        layer::flushed(packer.finish()?)
    }

    /// Unpacks archives into a union on the base, and the other files with them; returns the layer of its changes.
    fn unpack(
        &self,
        engine: &Engine,
        base: &UnionTree,
        place: &Place,
    ) -> Result<DiffId, StepError> {
        let tmp = engine.store().tmp_dir()?;
        let failed = || StepError::io(tmp.path());
        let most = Cell::new(Most::room(tmp.path()).map_err(failed())?);
        let layers = base.0.stack().layers().to_vec();
        let upper = Upper::open(&tmp.path().join("upper"), &tmp.path().join("work"));
        let union = upper
            .and_then(|upper| {
                let stack = engine.store().stack(&layers).map_err(io::Error::other)?;
                Union::new(stack, Some(upper))
            })
            .map_err(failed())?;
        let tree = UnionTree(Arc::new(union));
        let pieces = self.pieces(base, place)?;
        self.unpack_pieces(&tree, &pieces)?;
        let owner = self.wanted.owner;
        for entry in &self.archives {
            with_tree!(&self.source.files, from => {
                let node = from.resolve(&entry.from, Last::Keep).map_err(failed())?;
                let content = from.read(&node).map_err(failed())?;
                self.unpack_one(&tree, place, content, owner, &most)?;
            });
        }
        for loose in self.loose.iter().filter(|loose| is_unpacked(loose)) {
            match &loose.content {
                Content::Fetched(fetched) => {
                    let file = File::open(&fetched.path).map_err(StepError::io(&fetched.path))?;
                    self.unpack_one(&tree, place, file, owner, &most)?;
                }
                Content::Tree(source, _) => self.unpack_tree(&tree, place, source, &most)?,
                Content::Bytes(_) => {}
            }
        }
        let changes = tree
            .0
            .changes()
            .map_err(io::Error::from)
            .map_err(failed())?;
        let latest = self.wanted.latest;
        layer::ingest(engine, |out| {
            layer::flushed(archive::pack_changes(&tree, &changes, latest, out)?)
        })
    }

    fn unpack_pieces(
        &self,
        tree: &UnionTree,
        pieces: &BTreeMap<Vec<u8>, Piece<'_>>,
    ) -> Result<(), StepError> {
        let (reader, writer) = io::pipe().map_err(StepError::io("pipe"))?;
        let options = Unpack {
            owner: None,
            follow_in: None,
            ..Unpack::default()
        };
        std::thread::scope(|scope| {
            let packing = scope.spawn(move || {
                let out = io::BufWriter::new(writer);
                self.pack(pieces, out).map(drop)
            });
            let unpacked = tree
                .resolve(b"/", Last::Follow)
                .map_err(StepError::io("/"))
                .and_then(|root| {
                    archive::unpack(tree, &root, reader, &options)
                        .map_err(|error| self.refused(error.to_string()))
                });
            match packing.join() {
                Ok(packed) => packed.map_err(StepError::io("/"))?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
            unpacked.map(drop)
        })
    }

    fn unpack_one(
        &self,
        tree: &UnionTree,
        place: &Place,
        from: impl io::Read + Send,
        owner: Option<(u32, u32)>,
        most: &Cell<Most>,
    ) -> Result<(), StepError> {
        let path = [b"/", &join(&place.directory)[..]].concat();
        let shown = String::from_utf8_lossy(&path).into_owned();
        let failed = || StepError::io(&shown);
        let directory = tree.resolve(&path, Last::Follow).map_err(failed())?;
        let options = Unpack {
            owner,
            follow_in: Some(&path),
            most: Some(most),
            ..Unpack::default()
        };
        let decoded = compression::decoded(from).map_err(failed())?;
        archive::unpack(tree, &directory, decoded, &options)
            .map_err(|error| self.refused(error.to_string()))?;
        Ok(())
    }

    /// Copies a whole tree.
    fn unpack_tree(
        &self,
        tree: &UnionTree,
        place: &Place,
        source: &Source,
        most: &Cell<Most>,
    ) -> Result<(), StepError> {
        let (reader, writer) = io::pipe().map_err(StepError::io("pipe"))?;
        std::thread::scope(|scope| {
            let packing = scope.spawn(move || {
                with_tree!(&source.files, from => {
                    let root = from.resolve(b"", Last::Follow)?;
                    archive::pack(from, &root, b"", io::BufWriter::new(writer)).map(drop)
                })
            });
            let owner = self.wanted.owner.unwrap_or((0, 0));
            let unpacked = self.unpack_one(tree, place, reader, Some(owner), most);
            match packing.join() {
                Ok(packed) => packed.map_err(StepError::io("checkout"))?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
            unpacked
        })
    }
}

fn is_unpacked(loose: &Loose) -> bool {
    match &loose.content {
        Content::Fetched(fetched) => fetched.unpack,
        Content::Tree(..) => true,
        Content::Bytes(_) => false,
    }
}

/// Where files go.
struct Place {
    directory: Vec<Vec<u8>>,
    /// The name of the one file, if it is not its own.
    name: Option<Vec<u8>>,
}

impl Place {
    fn path(&self, to: &[u8]) -> Vec<u8> {
        let mut path = self.directory.clone();
        match &self.name {
            Some(name) => path.push(name.clone()),
            None if to.is_empty() => {}
            None => path.push(to.to_vec()),
        }
        join(&path)
    }
}

/// Something in the layer's tar.
enum Piece<'a> {
    /// A directory that is there, with its metadata: readers of layers may not know them from below.
    There(Stat, Vec<(Vec<u8>, Vec<u8>)>),
    /// A directory that is made.
    Made(Stat),
    Entry(&'a Entry),
    Loose(&'a Loose, Stat),
}

fn kind_at(tree: &UnionTree, path: &[Vec<u8>]) -> io::Result<Option<Kind>> {
    let node = lookup(tree, path)?;
    Ok(node
        .map(|node| tree.stat(&node))
        .transpose()?
        .map(|stat| stat.kind))
}

fn is_archive(source: &Source, found: &Found) -> io::Result<bool> {
    if found.stat.kind != Kind::File {
        return Ok(false);
    }
    with_tree!(&source.files, tree => {
        let node = tree.resolve(&join(&found.path), Last::Keep)?;
        let content = tree.read(&node)?;
        Ok(compression::is_archive(content))
    })
}

fn collect_with_parents(collector: &mut Collector<'_>, found: &Found) -> io::Result<()> {
    let kept = &found.called[found.pivot.min(found.called.len())..];
    let is_directory = found.stat.kind == Kind::Directory;
    let parents = match is_directory {
        true => kept.len(),
        false => kept.len().saturating_sub(1),
    };
    for depth in 1..=parents {
        let path = &found.called[..found.pivot + depth];
        collector.add_parent(path, &join(&kept[..depth]))?;
    }
    let whole = join(kept);
    collector.add(found, &whole, &whole, is_directory)
}

/// Returns the components of a path that may be relative to the working directory.
pub(super) fn absolute(working_dir: &str, path: &str) -> Vec<Vec<u8>> {
    let whole = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{working_dir}/{path}"),
    };
    let mut names: Vec<Vec<u8>> = Vec::new();
    for name in crate::tree::components(whole.as_bytes()) {
        match name {
            b".." => drop(names.pop()),
            name => names.push(name.to_vec()),
        }
    }
    names
}

/// Makes the directory that `WORKDIR` names; returns the layer, or none if it is there.
pub(super) fn make_directory(
    engine: &Engine,
    base: &Files,
    path: &str,
    latest: Option<i64>,
) -> Result<Option<DiffId>, StepError> {
    let Files::Layers(tree) = base else {
        return Ok(None);
    };
    let transfer = Transfer {
        verb: "WORKDIR",
        source: Arc::new(Source::empty(engine)?),
        entries: Vec::new(),
        archives: Vec::new(),
        loose: Vec::new(),
        single: false,
        destination: absolute("/", path),
        wanted: Wanted {
            latest,
            ..Wanted::default()
        },
        digest: Digest([0; 32]),
        plural: "dir",
        files: 0,
        bytes: 0,
    };
    // In the words of a container that is to begin there.
    let in_the_way = |error| match error {
        StepError::Transfer { .. } => {
            StepError::Word(format!("Cannot mkdir: {path} is not a directory"))
        }
        error => error,
    };
    let place = transfer.place(tree).map_err(in_the_way)?;
    let pieces = transfer.pieces(tree, &place).map_err(in_the_way)?;
    if pieces
        .values()
        .all(|piece| matches!(piece, Piece::There(..)))
    {
        return Ok(None);
    }
    layer::ingest(engine, |out| transfer.pack(&pieces, out)).map(Some)
}
