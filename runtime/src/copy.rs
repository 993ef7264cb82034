//! `cp` and `export`: files between a host and its containers, by Docker's rules.
//!
//! All goes through a tar ([`crate::archive`]): one side packs it in a thread, the other unpacks it. The rules about
//! names are `docker cp`'s: a source directory goes into a destination that is there and becomes one that is not; `/.`
//! at its end means what is in it; a destination that ends in `/` must be a directory.

use std::cell::Cell;
use std::io;
use std::io::PipeReader;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use jiff::Timestamp;
use layerfs::Kind;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;

use crate::Engine;
use crate::archive;
use crate::archive::Most;
use crate::archive::Unpack;
use crate::archive::UnpackError;
use crate::container::ContainerError;
use crate::container::ContainerTree;
use crate::image::words;
use crate::sandbox::MountSource;
use crate::tree::HostTree;
use crate::tree::Last;
use crate::tree::Metadata;
use crate::tree::Stat;
use crate::tree::Tree;
use crate::tree::UnionTree;
use crate::tree::components;

/// How many links are followed, as the kernel's own bound.
const MOST_LINKS: usize = 40;

/// How to copy.
#[derive(Debug, Clone, Copy, Default)]
pub struct CopyOptions {
    /// Whether copies on the host keep their owners instead of being the caller's; those in a container always do.
    pub archive: bool,
    /// Whether a source that is a link stands for what it leads to.
    pub follow_link: bool,
    /// Whether [`Engine::extract_to_container`] replaces a directory by what is none, and the other way round.
    pub replaces: bool,
}

/// What a path of a container leads to.
#[derive(Debug, Clone)]
pub struct PathStat {
    /// Its last name.
    pub name: Vec<u8>,
    /// Bytes of a file.
    pub size: u64,
    /// What it is.
    pub kind: Kind,
    /// The twelve permission bits.
    pub mode: u32,
    /// When it was last changed.
    pub modified: Timestamp,
    /// What a link leads to.
    pub link_target: Vec<u8>,
}

/// What keeps files from being copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The container is not there, or its tree cannot be reached.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// A path of a container leads nowhere.
    #[error("Could not find the file {path} in container {container}")]
    NotInContainer {
        /// The path.
        path: String,
        /// The container, as it was called.
        container: String,
    },
    /// A path of the host leads nowhere, or to what cannot be used.
    #[error("{path}: {}", words(source))]
    Host {
        /// The path.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The destination says that it is a directory, and is none.
    #[error("destination directory {0:?} must exist")]
    NoDirectory(String),
    /// A directory cannot become a file.
    #[error("cannot copy directory to file {0:?}")]
    DirectoryToFile(String),
    /// The container may only read its root.
    #[error("container rootfs is marked read-only")]
    ReadOnly,
    /// The tar could not be packed.
    #[error("cannot read {path}: {}", words(source))]
    Pack {
        /// What was to be packed.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The tar could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
}

/// Where a path of one side stands in errors.
struct Place<'a> {
    path: &'a [u8],
    /// The container's name; the host has none.
    container: Option<&'a str>,
}

impl Place<'_> {
    fn shown(&self) -> String {
        String::from_utf8_lossy(self.path).into_owned()
    }

    fn failed(&self, source: io::Error) -> CopyError {
        match self.container {
            Some(container)
                if matches!(
                    source.raw_os_error(),
                    Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)
                ) =>
            {
                CopyError::NotInContainer {
                    path: self.shown(),
                    container: container.to_owned(),
                }
            }
            _ => CopyError::Host {
                path: self.shown(),
                source,
            },
        }
    }
}

/// Returns whether the path means what is in the directory it leads to.
fn means_contents(path: &[u8]) -> bool {
    path == b"." || path.ends_with(b"/.") || components(path).next().is_none()
}

fn base_name(path: &[u8]) -> &[u8] {
    components(path).next_back().unwrap_or(b"")
}

/// Where a copy goes.
struct Target<N> {
    directory: N,
    /// What the copy is called there; empty: its contents go right in.
    name: Vec<u8>,
    /// A file that is there already and gets the content of the one that is copied.
    file: Option<N>,
}

/// Finds where a copy of what `source` is goes.
fn find_target<T: Tree>(
    tree: &T,
    place: &Place<'_>,
    source: &Stat,
    source_path: &[u8],
) -> Result<Target<T::Node>, CopyError> {
    let mut path = place.path.to_vec();
    // A link that leads nowhere yet is where its target will be.
    for _ in 0..MOST_LINKS {
        match dangling(tree, &path) {
            Some(target) => path = target,
            None => break,
        }
    }
    let place = &Place {
        path: &path,
        container: place.container,
    };
    find_place(tree, place, source, source_path)
}

/// Returns what a path leads to that ends in a link without a target.
fn dangling<T: Tree>(tree: &T, path: &[u8]) -> Option<Vec<u8>> {
    let missing = tree.resolve(path, Last::Follow).err()?;
    if missing.kind() != io::ErrorKind::NotFound {
        return None;
    }
    let link = tree.resolve(path, Last::Keep).ok()?;
    let target = tree.link_target(&link).ok()?;
    if target.starts_with(b"/") {
        return Some(target);
    }
    let end = path.iter().rposition(|byte| *byte == b'/')?;
    Some([&path[..=end], &target].concat())
}

/// Returns the last name of what a path leads to when links that end it are followed.
fn followed_name<T: Tree>(tree: &T, path: &[u8]) -> Vec<u8> {
    let mut followed = path.to_vec();
    for _ in 0..MOST_LINKS {
        let target = tree.resolve(&followed, Last::Keep);
        let Ok(target) = target.and_then(|link| tree.link_target(&link)) else {
            break;
        };
        followed = beside(&followed, target);
    }
    match base_name(&followed) {
        // What that is called is not in the link.
        b"" | b".." => base_name(path).to_vec(),
        name => name.to_vec(),
    }
}

/// Returns the path that a link's target stands for.
fn beside(link: &[u8], target: Vec<u8>) -> Vec<u8> {
    match link.iter().rposition(|byte| *byte == b'/') {
        Some(end) if !target.starts_with(b"/") => [&link[..=end], &target].concat(),
        _ => target,
    }
}

fn find_place<T: Tree>(
    tree: &T,
    place: &Place<'_>,
    source: &Stat,
    source_path: &[u8],
) -> Result<Target<T::Node>, CopyError> {
    let path = place.path;
    let source_is_directory = source.kind == Kind::Directory;
    match tree.resolve(path, Last::Follow) {
        Ok(node) => {
            let kind = tree.stat(&node).map_err(|error| place.failed(error))?.kind;
            if kind == Kind::Directory {
                let name = match source_is_directory && means_contents(source_path) {
                    true => Vec::new(),
                    false => base_name(source_path).to_vec(),
                };
                return Ok(Target {
                    directory: node,
                    name,
                    file: None,
                });
            }
            if source_is_directory {
                return Err(CopyError::DirectoryToFile(place.shown()));
            }
            let (directory, name) = parent_of(tree, place)?;
            let file = (kind == Kind::File && source.kind == Kind::File).then_some(node);
            Ok(Target {
                directory,
                name,
                file,
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !source_is_directory && path.ends_with(b"/") {
                return Err(CopyError::NoDirectory(place.shown()));
            }
            let (directory, name) = parent_of(tree, place)?;
            Ok(Target {
                directory,
                name,
                file: None,
            })
        }
        Err(error) => Err(place.failed(error)),
    }
}

fn parent_of<T: Tree>(tree: &T, place: &Place<'_>) -> Result<(T::Node, Vec<u8>), CopyError> {
    let mut names: Vec<&[u8]> = components(place.path).collect();
    let name = names.pop().unwrap_or(b"").to_vec();
    let mut path = match place.path.starts_with(b"/") {
        true => b"/".to_vec(),
        false => b"./".to_vec(),
    };
    path.extend(names.join(&b'/'));
    let directory = tree
        .resolve(&path, Last::Follow)
        .map_err(|error| place.failed(error))?;
    let kind = tree
        .stat(&directory)
        .map_err(|error| place.failed(error))?
        .kind;
    match kind {
        Kind::Directory => Ok((directory, name)),
        _ => Err(place.failed(io::Error::from_raw_os_error(libc::ENOTDIR))),
    }
}

fn find_source<T: Tree>(
    tree: &T,
    place: &Place<'_>,
    options: &CopyOptions,
) -> Result<(T::Node, Stat), CopyError> {
    let follows = options.follow_link || place.path.ends_with(b"/") || place.path.ends_with(b"/.");
    let last = if follows { Last::Follow } else { Last::Keep };
    let node = tree
        .resolve(place.path, last)
        .map_err(|error| place.failed(error))?;
    let stat = tree.stat(&node).map_err(|error| place.failed(error))?;
    if tree
        .is_generated(&node)
        .map_err(|error| place.failed(error))?
    {
        match place.container {
            // Docker does not see what the kernel shows in a container either.
            Some(_) => return Err(place.failed(io::Error::from_raw_os_error(libc::ENOENT))),
            None if stat.kind == Kind::File => {
                let words = "its length is not known before it is read";
                return Err(place.failed(io::Error::other(words)));
            }
            None => {}
        }
    }
    if place.path.ends_with(b"/") && stat.kind != Kind::Directory {
        return Err(place.failed(io::Error::from_raw_os_error(libc::ENOTDIR)));
    }
    Ok((node, stat))
}

/// Copies from one tree to another; returns the bytes of the files.
fn copy<S: Tree, D: Tree>(
    (source, from): (&S, Place<'_>),
    (target, to): (&D, Place<'_>),
    options: &CopyOptions,
    owner: Option<(u32, u32)>,
) -> Result<u64, CopyError>
where
    S::Node: Send,
{
    let (node, stat) = find_source(source, &from, options)?;
    let found = find_target(target, &to, &stat, from.path)?;
    if let Some(file) = &found.file {
        let mut content = source.read(&node).map_err(|error| from.failed(error))?;
        let written = target
            .write(file, &mut content)
            .map_err(|error| to.failed(error))?;
        let (uid, gid) = owner.unwrap_or((stat.uid, stat.gid));
        let metadata = Metadata {
            mode: stat.mode,
            uid,
            gid,
            mtime: stat.mtime,
            xattrs: Vec::new(),
        };
        target
            .set_metadata(file, &metadata)
            .map_err(|error| to.failed(error))?;
        return Ok(written);
    }
    let (reader, writer) = io::pipe().map_err(|error| from.failed(error))?;
    let unpack = Unpack {
        owner,
        follow_in: None,
        ..Unpack::default()
    };
    let (packed, unpacked) = std::thread::scope(|scope| {
        let name = &found.name;
        let packing = scope.spawn(move || archive::pack(source, &node, name, writer).map(drop));
        let unpacked = unpack_all(target, &found.directory, reader, &unpack);
        (packing.join(), unpacked)
    });
    let packed = packed.unwrap_or_else(|_| Err(io::Error::other("the packing thread died")));
    match (packed, unpacked) {
        // Packing stops where unpacking did.
        (Err(error), Err(unpacked)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(unpacked.into())
        }
        (Err(source), _) => Err(CopyError::Pack {
            path: from.shown(),
            source,
        }),
        (Ok(()), unpacked) => Ok(unpacked?),
    }
}

fn unpack_all<T: Tree>(
    tree: &T,
    directory: &T::Node,
    reader: PipeReader,
    options: &Unpack<'_>,
) -> Result<u64, UnpackError> {
    archive::unpack(tree, directory, reader, options)
}

/// Runs generic code on a container's tree, whichever it is.
macro_rules! with_tree {
    ($engine:expr, $opened:expr, |$tree:ident| $body:expr) => {
        match $opened {
            ContainerTree::Running(running) => {
                let $tree = &HostTree::of_running(running.root, running.first_user);
                $body
            }
            ContainerTree::Stopped(stopped) => {
                let $tree = &$engine.mounted_tree(&stopped)?;
                $body
            }
        }
    };
}

fn host() -> Result<HostTree, CopyError> {
    HostTree::of_process().map_err(|source| CopyError::Host {
        path: "/".to_owned(),
        source,
    })
}

/// Makes a host's path absolute and keeps what its end says.
fn absolute(path: &Path) -> Result<Vec<u8>, CopyError> {
    let bytes = path.as_os_str().as_bytes();
    let failed = |source| CopyError::Host {
        path: path.display().to_string(),
        source,
    };
    if bytes.starts_with(b"/") {
        return Ok(bytes.to_vec());
    }
    let here = std::env::current_dir().map_err(failed)?;
    let mut absolute = [here.as_os_str().as_bytes(), b"/", bytes].concat();
    if bytes == b".." || bytes.ends_with(b"/..") {
        // A name to copy it under is that of what it leads to.
        let found = std::fs::canonicalize(path).map_err(failed)?;
        absolute = found.as_os_str().as_bytes().to_vec();
    }
    Ok(absolute)
}

fn caller() -> (u32, u32) {
    (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    )
}

impl Engine {
    /// Copies a file or directory of a container to the host; returns the bytes of the files.
    pub fn copy_from_container(
        &self,
        container: &str,
        from: &[u8],
        to: &Path,
        options: &CopyOptions,
    ) -> Result<u64, CopyError> {
        let opened = self.container_tree(container)?;
        self.tell_of_copy(container, "archive-path", from)?;
        let host = host()?;
        let to = absolute(to)?;
        let from = Place {
            path: from,
            container: Some(container),
        };
        let to = Place {
            path: &to,
            container: None,
        };
        let owner = (!options.archive).then(caller);
        with_tree!(self, opened, |tree| copy(
            (tree, from),
            (&host, to),
            options,
            owner
        ))
    }

    /// Copies a file or directory of the host to a container; returns the bytes of the files.
    pub fn copy_to_container(
        &self,
        from: &Path,
        container: &str,
        to: &[u8],
        options: &CopyOptions,
    ) -> Result<u64, CopyError> {
        let from = absolute(from)?;
        let host = host()?;
        let opened = self.writable_tree(container)?;
        self.tell_of_copy(container, "extract-to-dir", to)?;
        let from = Place {
            path: &from,
            container: None,
        };
        let to = Place {
            path: to,
            container: Some(container),
        };
        with_tree!(self, opened, |tree| copy(
            (&host, from),
            (tree, to),
            options,
            None
        ))
    }

    /// Writes a file or directory of a container as a tar.
    pub fn archive_from_container(
        &self,
        container: &str,
        from: &[u8],
        options: &CopyOptions,
        out: &mut dyn Write,
    ) -> Result<(), CopyError> {
        let opened = self.container_tree(container)?;
        self.tell_of_copy(container, "archive-path", from)?;
        let place = Place {
            path: from,
            container: Some(container),
        };
        with_tree!(self, opened, |tree| {
            let (node, _) = find_source(tree, &place, options)?;
            let name = match (means_contents(from), options.follow_link) {
                (true, _) => b".".to_vec(),
                (false, true) => followed_name(tree, from),
                (false, false) => base_name(from).to_vec(),
            };
            archive::pack(tree, &node, &name, out)
                .and_then(|out| out.flush())
                .map_err(|source| CopyError::Pack {
                    path: place.shown(),
                    source,
                })
        })
    }

    /// Tells what a path of a container leads to; a link that ends it is told of itself.
    pub fn stat_in_container(&self, container: &str, path: &[u8]) -> Result<PathStat, CopyError> {
        let opened = self.container_tree(container)?;
        let place = Place {
            path,
            container: Some(container),
        };
        let name = base_name(path);
        with_tree!(self, opened, |tree| {
            let (node, stat) = find_source(tree, &place, &CopyOptions::default())?;
            let link_target = match stat.kind {
                Kind::Symlink => tree
                    .link_target(&node)
                    .map_err(|error| place.failed(error))?,
                _ => Vec::new(),
            };
            Ok(PathStat {
                name: if name.is_empty() { b"/" } else { name }.to_vec(),
                size: stat.size,
                kind: stat.kind,
                mode: stat.mode,
                modified: Timestamp::new(stat.mtime.secs, stat.mtime.nanos as i32)
                    .unwrap_or(Timestamp::UNIX_EPOCH),
                link_target,
            })
        })
    }

    /// Unpacks a tar in a directory of a container; returns the bytes of the files.
    pub fn extract_to_container(
        &self,
        container: &str,
        to: &[u8],
        options: &CopyOptions,
        input: &mut dyn Read,
    ) -> Result<u64, CopyError> {
        let opened = self.writable_tree(container)?;
        self.tell_of_copy(container, "extract-to-dir", to)?;
        let place = Place {
            path: to,
            container: Some(container),
        };
        let most = Cell::new(self.most_to_extract(container, &opened, to)?);
        let unpack = Unpack {
            owner: None,
            follow_in: Some(to),
            replaces: options.replaces,
            most: Some(&most),
        };
        with_tree!(self, opened, |tree| {
            let directory = tree
                .resolve(to, Last::Follow)
                .map_err(|error| place.failed(error))?;
            let kind = tree
                .stat(&directory)
                .map_err(|error| place.failed(error))?
                .kind;
            match kind {
                Kind::Directory => Ok(archive::unpack(tree, &directory, input, &unpack)?),
                _ => Err(CopyError::NoDirectory(place.shown())),
            }
        })
    }

    /// Returns what an archive may bring that is unpacked in a container: no more than the disk can hold at all, so that a
    /// few bytes that stand for an endless hole are refused.
    fn most_to_extract(
        &self,
        name: &str,
        opened: &ContainerTree,
        to: &[u8],
    ) -> Result<Most, CopyError> {
        let failed = |source| CopyError::Host {
            path: self.root().display().to_string(),
            source,
        };
        let mut most = Most::on_disk_of(self.root()).map_err(failed)?;
        // Elsewhere may be more.
        let mut allow = |path: &Path| {
            if let Ok(there) = Most::on_disk_of(path) {
                most.bytes = most.bytes.max(there.bytes);
            }
        };
        match opened {
            ContainerTree::Running(running) => {
                let directory = crate::sys::fds::open_resolved(
                    &running.root,
                    to,
                    OFlags::PATH | OFlags::CLOEXEC,
                    ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
                );
                if let Ok(directory) = directory {
                    allow(Path::new(&format!(
                        "/proc/self/fd/{}",
                        directory.as_raw_fd()
                    )));
                }
            }
            ContainerTree::Stopped(_) => {
                for mount in &self.container(name)?.config.mounts {
                    if let MountSource::Bind(bind) = &mount.source {
                        allow(&bind.path);
                    }
                }
            }
        }
        Ok(most)
    }

    /// Writes a container's whole tree, without what is mounted in it, as a tar.
    pub fn export_container(&self, container: &str, out: &mut dyn Write) -> Result<(), CopyError> {
        let failed = |source| CopyError::Pack {
            path: container.to_owned(),
            source,
        };
        self.emit_of(&self.container(container)?, "export", &[]);
        let packed = match self.container_tree(container)? {
            ContainerTree::Running(running) => {
                let tree = HostTree::of_container(running.bare, running.first_user);
                tree.resolve(b"/", Last::Follow)
                    .and_then(|root| archive::pack(&tree, &root, b"", out))
            }
            ContainerTree::Stopped(stopped) => {
                let tree = UnionTree(stopped.union().clone());
                tree.resolve(b"/", Last::Follow)
                    .and_then(|root| archive::pack(&tree, &root, b"", out))
            }
        };
        packed.and_then(|out| out.flush()).map_err(failed)
    }

    fn tell_of_copy(&self, name: &str, action: &str, path: &[u8]) -> Result<(), CopyError> {
        let container = self.container(name)?;
        let path = String::from_utf8_lossy(path).into_owned();
        self.emit_of(&container, action, &[("path", path)]);
        Ok(())
    }

    /// Opens a container's tree to write to it.
    fn writable_tree(&self, container: &str) -> Result<ContainerTree, CopyError> {
        match self.container(container)?.config.read_only {
            true => Err(CopyError::ReadOnly),
            false => Ok(self.container_tree(container)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(source: &Path, from: &str, target: &Path, to: &str) -> Result<u64, String> {
        let open = |path: &Path| {
            HostTree::of_container(
                rustix::fs::open(path, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())
                    .expect("a directory"),
                None,
            )
        };
        let place = |path: &'static str| Place {
            path: path.as_bytes(),
            container: None,
        };
        let (from, to) = (from.to_owned().leak(), to.to_owned().leak());
        copy(
            (&open(source), place(from)),
            (&open(target), place(to)),
            &CopyOptions::default(),
            None,
        )
        .map_err(|error| error.to_string())
    }

    #[test]
    fn names_follow_docker_s_rules() {
        let directory = tempfile::tempdir().expect("a directory");
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        std::fs::create_dir_all(a.join("dir/sub")).expect("made");
        std::fs::create_dir_all(b.join("there")).expect("made");
        std::fs::write(a.join("dir/sub/file"), "content").expect("made");
        std::fs::write(a.join("file"), "plain").expect("made");
        std::fs::write(b.join("old"), "something longer").expect("made");

        assert_eq!(copied(&a, "/dir", &b, "/there"), Ok(7));
        assert!(b.join("there/dir/sub/file").is_file());
        assert_eq!(copied(&a, "/dir/.", &b, "/there"), Ok(7));
        assert!(b.join("there/sub/file").is_file());
        assert_eq!(copied(&a, "/dir", &b, "/new"), Ok(7));
        assert!(b.join("new/sub/file").is_file());
        assert_eq!(copied(&a, "/file", &b, "/there"), Ok(5));
        assert!(b.join("there/file").is_file());
        assert_eq!(copied(&a, "/file", &b, "/old"), Ok(5));
        assert_eq!(std::fs::read(b.join("old")).expect("read"), b"plain");
        assert_eq!(copied(&a, "/file", &b, "/renamed"), Ok(5));
        assert!(b.join("renamed").is_file());

        assert!(
            copied(&a, "/dir", &b, "/old").is_err_and(|words| words.contains("directory to file"))
        );
        assert!(copied(&a, "/file", &b, "/no/").is_err_and(|words| words.contains("must exist")));
        assert!(
            copied(&a, "/file", &b, "/no/file").is_err_and(|words| words.contains("no such file"))
        );
        assert!(
            copied(&a, "/none", &b, "/there").is_err_and(|words| words.contains("no such file"))
        );
    }

    #[test]
    fn links_are_copied_as_links_and_never_followed_when_unpacking() {
        let directory = tempfile::tempdir().expect("a directory");
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        std::fs::create_dir_all(a.join("dir/away")).expect("made");
        std::fs::create_dir_all(b.join("dir")).expect("made");
        std::fs::create_dir_all(b.join("outside")).expect("made");
        std::fs::write(a.join("dir/away/file"), "x").expect("made");
        std::os::unix::fs::symlink("../outside", b.join("dir/away")).expect("made");
        std::os::unix::fs::symlink("/etc/passwd", a.join("dir/link")).expect("made");
        copied(&a, "/dir/.", &b, "/dir").expect("copied");
        assert!(!b.join("outside/file").exists());
        assert!(
            b.join("dir/away/file").is_file(),
            "the directory has replaced the link"
        );
        assert_eq!(
            std::fs::read_link(b.join("dir/link")).expect("a link"),
            Path::new("/etc/passwd")
        );
    }
}
