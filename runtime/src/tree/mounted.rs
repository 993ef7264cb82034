//! A stopped container's tree with what it has mounted, without mounting anything.
//!
//! Paths are walked name by name over the union; where a mount's place is reached, the walk goes on in what the mount
//! shows. Links are followed here, within the whole, as a process in the container would follow them.

use std::collections::VecDeque;
use std::io;
use std::io::Read;
use std::os::fd::OwnedFd;

use layerfs::Kind;

use super::HostTree;
use super::Last;
use super::Metadata;
use super::New;
use super::Stat;
use super::Tree;
use super::UnionTree;
use super::components;

/// How many links are followed, as the kernel's own bound.
const MOST_LINKS: usize = 40;

/// What is mounted somewhere.
#[derive(Debug)]
pub(crate) struct Mounted {
    /// Where, as it was asked for.
    pub(crate) target: Vec<u8>,
    /// What is shown there.
    pub(crate) root: OwnedFd,
    /// The host's first user of what shows the host's numbers, if the container has other ones.
    pub(crate) first_user: Option<u32>,
    pub(crate) read_only: bool,
}

/// A union and what is mounted over it.
#[derive(Debug)]
pub(crate) struct MountedTree {
    union: UnionTree,
    mounts: Vec<Place>,
}

/// A mount at the place that its target leads to.
#[derive(Debug)]
struct Place {
    path: Vec<u8>,
    root: OwnedFd,
    tree: HostTree,
    read_only: bool,
}

/// A node, and the path without links that led to it.
#[derive(Debug)]
pub(crate) struct Node {
    path: Vec<u8>,
    at: At,
}

#[derive(Debug)]
enum At {
    Union(<UnionTree as Tree>::Node),
    Mount(usize, OwnedFd),
}

fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

impl MountedTree {
    /// Puts mounts over a union, the outer ones first; a place that is not there is made.
    pub(crate) fn new(union: UnionTree, mut mounts: Vec<Mounted>) -> io::Result<MountedTree> {
        let mut tree = MountedTree {
            union,
            mounts: Vec::new(),
        };
        mounts.sort_by_key(|mount| components(&mount.target).count());
        for mount in mounts {
            let place = match tree.resolve(&mount.target, Last::Follow) {
                Ok(place) => place,
                Err(error) if error.kind() == io::ErrorKind::NotFound => tree.make_place(&mount)?,
                // No container could start with it either.
                Err(_) => continue,
            };
            tree.mounts.push(Place {
                path: place.path,
                root: mount.root.try_clone()?,
                tree: HostTree::of_container(mount.root, mount.first_user),
                read_only: mount.read_only,
            });
        }
        Ok(tree)
    }

    fn make_place(&self, mount: &Mounted) -> io::Result<Node> {
        let is_directory = crate::sys::fds::is_directory(&mount.root)?;
        let mut node = self.resolve(b"/", Last::Keep)?;
        let mut names = components(&mount.target).peekable();
        while let Some(name) = names.next() {
            let path = [node.path.as_slice(), b"/", name].concat();
            node = match self.resolve(&path, Last::Follow) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let new = match names.peek().is_none() && !is_directory {
                        true => New::File,
                        false => New::Directory,
                    };
                    let made = self.make(&node, name, new)?;
                    let metadata = Metadata {
                        mode: 0o755,
                        mtime: self.stat(&made)?.mtime,
                        ..Metadata::default()
                    };
                    self.set_metadata(&made, &metadata)?;
                    made
                }
                found => found?,
            };
        }
        Ok(node)
    }

    /// Returns the mount whose place this is.
    fn mount_at(&self, path: &[u8]) -> Option<usize> {
        // The last one lies on top.
        self.mounts.iter().rposition(|mount| mount.path == path)
    }

    fn host(&self, mount: usize) -> &HostTree {
        &self.mounts[mount].tree
    }

    /// Returns the tree of a mount that may be written to.
    fn writable(&self, mount: usize) -> io::Result<&HostTree> {
        match self.mounts[mount].read_only {
            true => Err(error(libc::EROFS)),
            false => Ok(self.host(mount)),
        }
    }

    fn root(&self) -> io::Result<Node> {
        Ok(Node {
            path: Vec::new(),
            at: At::Union(self.union.resolve(b"/", Last::Keep)?),
        })
    }
}

impl Tree for MountedTree {
    type Node = Node;

    fn resolve(&self, path: &[u8], last: Last) -> io::Result<Node> {
        let mut above = Vec::new();
        let mut here = self.root()?;
        let mut left: VecDeque<Vec<u8>> = components(path).map(<[u8]>::to_vec).collect();
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            if self.stat(&here)?.kind != Kind::Directory {
                return Err(error(libc::ENOTDIR));
            }
            if name == b".." {
                here = above.pop().map_or_else(|| self.root(), Ok)?;
                continue;
            }
            let next = self.child(&here, &name)?;
            let is_link = self.stat(&next)?.kind == Kind::Symlink;
            if !is_link || (left.is_empty() && last == Last::Keep) {
                above.push(std::mem::replace(&mut here, next));
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(error(libc::ELOOP));
            }
            let target = self.link_target(&next)?;
            if target.starts_with(b"/") {
                above.clear();
                here = self.root()?;
            }
            for name in components(&target).rev() {
                left.push_front(name.to_vec());
            }
        }
        Ok(here)
    }

    fn child(&self, directory: &Node, name: &[u8]) -> io::Result<Node> {
        let path = [directory.path.as_slice(), b"/", name].concat();
        let at = match (self.mount_at(&path), &directory.at) {
            (Some(mount), _) => At::Mount(mount, self.mounts[mount].root.try_clone()?),
            (None, At::Union(node)) => At::Union(self.union.child(node, name)?),
            (None, At::Mount(mount, node)) => {
                At::Mount(*mount, self.host(*mount).child(node, name)?)
            }
        };
        Ok(Node { path, at })
    }

    fn stat(&self, node: &Node) -> io::Result<Stat> {
        match &node.at {
            At::Union(node) => self.union.stat(node),
            At::Mount(mount, node) => self.host(*mount).stat(node),
        }
    }

    fn names(&self, directory: &Node) -> io::Result<Vec<Vec<u8>>> {
        match &directory.at {
            At::Union(node) => self.union.names(node),
            At::Mount(mount, node) => self.host(*mount).names(node),
        }
    }

    fn link_target(&self, link: &Node) -> io::Result<Vec<u8>> {
        match &link.at {
            At::Union(node) => self.union.link_target(node),
            At::Mount(mount, node) => self.host(*mount).link_target(node),
        }
    }

    fn xattrs(&self, node: &Node) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        match &node.at {
            At::Union(node) => self.union.xattrs(node),
            At::Mount(mount, node) => self.host(*mount).xattrs(node),
        }
    }

    fn is_generated(&self, node: &Node) -> io::Result<bool> {
        match &node.at {
            At::Union(node) => self.union.is_generated(node),
            At::Mount(mount, node) => self.host(*mount).is_generated(node),
        }
    }

    fn read(&self, file: &Node) -> io::Result<Box<dyn Read + Send + '_>> {
        match &file.at {
            At::Union(node) => self.union.read(node),
            At::Mount(mount, node) => self.host(*mount).read(node),
        }
    }

    fn make(&self, directory: &Node, name: &[u8], new: New<'_>) -> io::Result<Node> {
        let path = [directory.path.as_slice(), b"/", name].concat();
        let at = match &directory.at {
            At::Union(node) => At::Union(self.union.make(node, name, new)?),
            At::Mount(mount, node) => {
                At::Mount(*mount, self.writable(*mount)?.make(node, name, new)?)
            }
        };
        Ok(Node { path, at })
    }

    fn write(&self, file: &Node, content: &mut dyn Read) -> io::Result<u64> {
        match &file.at {
            At::Union(node) => self.union.write(node, content),
            At::Mount(mount, node) => self.writable(*mount)?.write(node, content),
        }
    }

    fn link(&self, file: &Node, directory: &Node, name: &[u8]) -> io::Result<()> {
        match (&file.at, &directory.at) {
            (At::Union(file), At::Union(directory)) => self.union.link(file, directory, name),
            (At::Mount(one, file), At::Mount(other, directory)) if one == other => {
                self.writable(*one)?.link(file, directory, name)
            }
            _ => Err(error(libc::EXDEV)),
        }
    }

    fn set_metadata(&self, node: &Node, metadata: &Metadata) -> io::Result<()> {
        match &node.at {
            At::Union(node) => self.union.set_metadata(node, metadata),
            At::Mount(mount, node) => self.writable(*mount)?.set_metadata(node, metadata),
        }
    }

    fn unlink(&self, directory: &Node, name: &[u8]) -> io::Result<bool> {
        match &directory.at {
            At::Union(node) => self.union.unlink(node, name),
            At::Mount(mount, node) => self.writable(*mount)?.unlink(node, name),
        }
    }

    fn remove_directory(&self, directory: &Node, name: &[u8]) -> io::Result<()> {
        match &directory.at {
            At::Union(node) => self.union.remove_directory(node, name),
            At::Mount(mount, node) => self.writable(*mount)?.remove_directory(node, name),
        }
    }

    fn remove(&self, directory: &Node, name: &[u8]) -> io::Result<()> {
        let path = [directory.path.as_slice(), b"/", name].concat();
        let inside = [path.as_slice(), b"/"].concat();
        let mut mounts = self.mounts.iter();
        if mounts.any(|mount| mount.path == path || mount.path.starts_with(&inside)) {
            return Err(error(libc::EBUSY));
        }
        match &directory.at {
            At::Union(node) => self.union.remove(node, name),
            At::Mount(mount, node) => self.writable(*mount)?.remove(node, name),
        }
    }
}
