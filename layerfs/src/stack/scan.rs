//! Reading plain directories into a tree: each layer is read whole, then merged onto those below it.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Statx;
use rustix::fs::StatxFlags;
use rustix::fs::StatxTimestamp;

use super::directories::DirectoriesError;
use super::directories::Gathered;
use super::directories::HostFile;
use super::directories::HostTimes;
use super::directories::Identity;
use crate::index::BuildId;
use crate::index::BuildNode;
use crate::index::Content;
use crate::index::Found;
use crate::index::Kind;
use crate::index::Meta;
use crate::index::Timespec;
use crate::index::TooLarge;
use crate::index::TreeBuilder;
use crate::marks;
use crate::marks::Namespace;
use crate::marks::Redirect;

/// A name of a layer that is not a whiteout.
struct Entry {
    /// The number of its file.
    file: u32,
    /// The position of its directory among the entries; the root's is its own.
    directory: usize,
    meta: Meta,
    /// Files of this inode number with other names.
    shared: Option<u64>,
    target: Vec<u8>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    is_opaque: bool,
    redirect: Option<Redirect>,
    is_metacopy: bool,
}

/// What a layer has: directories before what is in them.
#[derive(Default)]
struct Layer {
    entries: Vec<Entry>,
    /// Hidden names, with the position of their directory.
    whiteouts: Vec<(usize, Vec<u8>)>,
}

/// Reads `layers`, lowest first, and merges them in `tree`; the files are gathered in the order they are found.
pub(super) fn read(
    layers: Vec<(&Path, &OwnedFd)>,
    namespace: Namespace,
    tree: &mut TreeBuilder,
    gathered: &mut Gathered,
) -> Result<(), DirectoriesError> {
    for (number, (path, root)) in layers.into_iter().enumerate() {
        let mut scan = Scan {
            path,
            root,
            number: number as u32,
            namespace,
            filesystem: filesystem_id(root),
            gathered: &mut *gathered,
            layer: Layer::default(),
        };
        scan.read()?;
        let layer = scan.layer;
        merge(layer, tree, gathered)?;
    }
    Ok(())
}

fn filesystem_id(root: &OwnedFd) -> u64 {
    rustix::fs::fstatvfs(root).map_or(0, |found| found.f_fsid)
}

/// One layer that is being read.
struct Scan<'a> {
    path: &'a Path,
    root: &'a OwnedFd,
    number: u32,
    namespace: Namespace,
    filesystem: u64,
    gathered: &'a mut Gathered,
    layer: Layer,
}

impl Scan<'_> {
    fn read(&mut self) -> Result<(), DirectoriesError> {
        let root = self.add(self.root, b"", None, 0);
        let root = root.map_err(|source| self.failed(None, source))?;
        let mut todo: Vec<usize> = root.into_iter().collect();
        while let Some(directory) = todo.pop() {
            let file = self.layer.entries[directory].file;
            self.read_directory(directory, &mut todo)
                .map_err(|source| self.failed(Some(file), source))?;
        }
        Ok(())
    }

    fn failed(&self, file: Option<u32>, source: io::Error) -> DirectoriesError {
        let names = file
            .map(|file| self.gathered.path(file))
            .unwrap_or_default();
        let mut path = PathBuf::from(self.path);
        path.extend(names.into_iter().map(std::ffi::OsStr::from_bytes));
        DirectoriesError::Io { path, source }
    }

    fn read_directory(&mut self, directory: usize, todo: &mut Vec<usize>) -> io::Result<()> {
        let file = self.layer.entries[directory].file;
        let opened = self.gathered.open_directory(self.root.as_fd(), file)?;
        for name in names(&opened)? {
            if name == marks::OPAQUE_MARKER {
                self.layer.entries[directory].is_opaque = true;
            } else if let Some(hidden) = name.strip_prefix(marks::WHITEOUT_PREFIX) {
                self.layer.whiteouts.push((directory, hidden.to_vec()));
            } else if let Some(added) = self.add(&opened, &name, Some(file), directory)?
                && self.layer.entries[added].meta.kind == Kind::Directory
            {
                todo.push(added);
            }
        }
        Ok(())
    }

    /// Adds what a directory has under a name, which is empty for the directory itself; nothing if it is gone.
    fn add(
        &mut self,
        directory: &OwnedFd,
        name: &[u8],
        parent: Option<u32>,
        position: usize,
    ) -> io::Result<Option<usize>> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let stat = match rustix::fs::statx(directory, name, flags, mask) {
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            stat => stat?,
        };
        let mode = u32::from(stat.stx_mode);
        let rdev = libc::makedev(stat.stx_rdev_major, stat.stx_rdev_minor);
        if marks::is_whiteout(mode, rdev) {
            self.layer.whiteouts.push((position, name.to_vec()));
            return Ok(None);
        }
        let Some(kind) = kind_of(mode) else {
            return Ok(None);
        };
        let target = match kind {
            Kind::Symlink => rustix::fs::readlinkat(directory, name, Vec::new())?.into_bytes(),
            _ => Vec::new(),
        };
        let xattrs = xattrs(directory, name, kind)?;
        let marked = |wanted: &str| {
            let found = xattrs.iter().find(|(name, _)| name == wanted.as_bytes());
            found.map(|(_, value)| &value[..])
        };
        let redirect = marked(self.namespace.redirect()).and_then(Redirect::parse);
        let is_metacopy = kind == Kind::File && marked(self.namespace.metacopy()).is_some();
        let is_opaque = marks::OPAQUE_ATTRIBUTES
            .iter()
            .any(|attribute| marked(attribute) == Some(b"y"));
        let names = &mut self.gathered.names;
        let file = u32::try_from(self.gathered.files.len()).map_err(io::Error::other)?;
        let at = u32::try_from(names.len()).map_err(io::Error::other)?;
        names.extend_from_slice(name);
        self.gathered.files.push(HostFile {
            layer: self.number,
            parent,
            name: at,
            name_length: name.len() as u16,
            data: (!is_metacopy).then_some(file),
            identity: Identity::default(),
            times: HostTimes {
                atime: timespec(stat.stx_atime),
                ctime: timespec(stat.stx_ctime),
                blocks: stat.stx_blocks,
            },
        });
        let identity = self.identity(file, &stat);
        self.gathered.files[file as usize].identity = identity;
        let added = self.layer.entries.len();
        self.layer.entries.push(Entry {
            file,
            directory: position,
            meta: Meta {
                kind,
                mode: stat.stx_mode & 0o7777,
                uid: stat.stx_uid,
                gid: stat.stx_gid,
                size: match kind {
                    Kind::File | Kind::Symlink => stat.stx_size,
                    _ => 0,
                },
                nlink: 1,
                rdev,
                mtime: timespec(stat.stx_mtime),
            },
            shared: (kind != Kind::Directory && stat.stx_nlink > 1).then_some(stat.stx_ino),
            target,
            is_opaque,
            redirect,
            is_metacopy,
            xattrs: (xattrs.into_iter())
                .filter(|(name, _)| !marks::is_bookkeeping(name))
                .collect(),
        });
        Ok(Some(added))
    }

    fn identity(&self, file: u32, stat: &Statx) -> Identity {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        hash.update(&self.filesystem.to_le_bytes());
        hash.update(&stat.stx_ino.to_le_bytes());
        hash.update(&stat.stx_btime.tv_sec.to_le_bytes());
        hash.update(&stat.stx_btime.tv_nsec.to_le_bytes());
        for name in self.gathered.path(file) {
            hash.update(b"/");
            hash.update(name);
        }
        hash.digest128().to_le_bytes()
    }
}

fn names(directory: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Reads the extended attributes of a name, sorted; what the host keeps to itself is left out.
fn xattrs(directory: &OwnedFd, name: &[u8], kind: Kind) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    use rustix::io::Errno;
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(if name.is_empty() { b"." } else { name });
    let mut list = [0; 1024];
    let listed = match rustix::fs::llistxattr(&path[..], &mut list[..]) {
        Ok(0) | Err(Errno::OPNOTSUPP | Errno::NOENT | Errno::ACCESS | Errno::PERM) => {
            return Ok(Vec::new());
        }
        Ok(length) => list[..length].to_vec(),
        Err(Errno::RANGE) => {
            let mut list = vec![0; 65536];
            let length = rustix::fs::llistxattr(&path[..], &mut list[..])?;
            list.truncate(length);
            list
        }
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for attribute in listed
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        if attribute == b"system.posix_acl_default" && kind != Kind::Directory {
            continue;
        }
        let mut value = vec![0; 65536];
        match rustix::fs::lgetxattr(&path[..], attribute, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                value.shrink_to_fit();
                found.push((attribute.to_vec(), value));
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.sort();
    Ok(found)
}

fn timespec(time: StatxTimestamp) -> Timespec {
    Timespec {
        secs: time.tv_sec,
        nanos: time.tv_nsec,
    }
}

fn kind_of(mode: u32) -> Option<Kind> {
    Some(match FileType::from_raw_mode(mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        _ => return None,
    })
}

/// Merges a layer onto the tree of those below it.
fn merge(layer: Layer, tree: &mut TreeBuilder, gathered: &mut Gathered) -> Result<(), TooLarge> {
    let moved = redirected(&layer, tree, gathered);
    // What a redirect leads to is what was there before this layer changed anything.
    let copies =
        tree.copy_directories(&moved.iter().map(|(_, below)| *below).collect::<Vec<_>>())?;
    let moved: HashMap<usize, BuildId> = moved
        .into_iter()
        .zip(copies)
        .map(|((position, _), copy)| (position, copy))
        .collect();
    let mut whiteouts: HashMap<usize, Vec<Vec<u8>>> = HashMap::new();
    for (directory, name) in layer.whiteouts {
        whiteouts.entry(directory).or_default().push(name);
    }
    let mut nodes: Vec<BuildId> = Vec::with_capacity(layer.entries.len());
    let mut shared: HashMap<u64, BuildId> = HashMap::new();
    for (position, entry) in layer.entries.iter().enumerate() {
        let node = BuildNode {
            meta: entry.meta,
            content: Content::Host(entry.file),
            target: &entry.target,
            lower_link: false,
            implicit: false,
            xattrs: &entry.xattrs,
        };
        let file = &gathered.files[entry.file as usize];
        let start = file.name as usize;
        let name = &gathered.names[start..start + usize::from(file.name_length)];
        let into = nodes.get(entry.directory).copied();
        let id = match (entry.meta.kind, into) {
            (_, None) => {
                tree.update_node(TreeBuilder::ROOT, &node)?;
                TreeBuilder::ROOT
            }
            (Kind::Directory, Some(into)) => {
                let there = match moved.get(&position) {
                    Some(&copy) => Some(copy),
                    None if entry.is_opaque || entry.redirect.is_some() => None,
                    None => directory_at(tree, into, name),
                };
                let id = match there {
                    Some(there) => {
                        tree.update_node(there, &node)?;
                        there
                    }
                    None => tree.add_node(&node)?,
                };
                tree.set(into, name, Found::Node(id))?;
                id
            }
            (_, Some(into)) => {
                let known = entry.shared.and_then(|inode| shared.get(&inode).copied());
                let id = match known {
                    Some(known) => known,
                    None => tree.add_node(&node)?,
                };
                if let Some(inode) = entry.shared {
                    shared.insert(inode, id);
                }
                tree.set(into, name, Found::Node(id))?;
                id
            }
        };
        nodes.push(id);
        for hidden in whiteouts.remove(&position).unwrap_or_default() {
            tree.remove(id, &hidden);
        }
    }
    Ok(())
}

fn directory_at(tree: &TreeBuilder, directory: BuildId, name: &[u8]) -> Option<BuildId> {
    match tree.get(directory, name)? {
        Found::Node(found) if tree.is_directory(found) => Some(found),
        _ => None,
    }
}

/// Finds what the layer's redirected directories are merged with, and gives its metacopies their data.
fn redirected(layer: &Layer, tree: &TreeBuilder, gathered: &mut Gathered) -> Vec<(usize, BuildId)> {
    let mut moved = Vec::new();
    if !(layer.entries.iter()).any(|entry| entry.redirect.is_some() || entry.is_metacopy) {
        return moved;
    }
    // What each directory of the layer has below it.
    let mut below: Vec<Option<BuildId>> = Vec::with_capacity(layer.entries.len());
    for (position, entry) in layer.entries.iter().enumerate() {
        let Some(parent) = below.get(entry.directory).copied() else {
            below.push(Some(TreeBuilder::ROOT));
            continue;
        };
        let file = &gathered.files[entry.file as usize];
        let start = file.name as usize;
        let own = &gathered.names[start..start + usize::from(file.name_length)];
        let found = match &entry.redirect {
            _ if entry.is_opaque => None,
            Some(Redirect::Absolute(path)) => tree.resolve(path).map(Found::Node),
            Some(Redirect::Beside(name)) => parent.and_then(|parent| tree.get(parent, name)),
            None => parent.and_then(|parent| tree.get(parent, own)),
        };
        let found = match found {
            Some(Found::Node(found)) => Some(found),
            _ => None,
        };
        let directory =
            found.filter(|&found| entry.meta.kind == Kind::Directory && tree.is_directory(found));
        if let (Some(directory), true) = (directory, entry.redirect.is_some()) {
            moved.push((position, directory));
        }
        if entry.is_metacopy {
            let data = found
                .filter(|&found| tree.kind(found) == Some(Kind::File))
                .and_then(|found| tree.host_file(found))
                .and_then(|file| gathered.files[file as usize].data);
            gathered.files[entry.file as usize].data = data;
        }
        below.push(directory);
    }
    moved
}
