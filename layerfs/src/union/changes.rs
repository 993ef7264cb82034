//! What the upper changes of the stack below.

use super::Ino;
use super::Union;
use super::data::Access;
use super::metadata::Attr;
use crate::errno::Errno;
use crate::index::Kind;
use crate::index::NodeId;
use crate::stack::Stack;
use crate::stack::Wait;

/// How much of two files is compared at once.
const COMPARED: usize = 128 << 10;

/// Appends a name to the path of a directory. A path that no system call would take (`PATH_MAX`) is none that can be told
/// of, and deeper trees are not descended into.
fn join(path: &[u8], name: &[u8]) -> Result<Vec<u8>, Errno> {
    let path = [path, b"/", name].concat();
    match path.len() < libc::PATH_MAX as usize {
        true => Ok(path),
        false => Err(Errno::ENAMETOOLONG),
    }
}

/// How a path differs from the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The stack has nothing there.
    Added,
    /// It is another one or has other metadata or data; a directory also if something in it changed.
    Modified,
    /// The stack's is hidden.
    Deleted,
}

/// A difference between the union and its stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// How it differs.
    pub kind: ChangeKind,
    /// Where, from the root, with a leading slash.
    pub path: Vec<u8>,
}

impl Union {
    /// Returns the differences, sorted by path. One whose path is longer than `PATH_MAX` is `ENAMETOOLONG`.
    pub fn changes(&self) -> Result<Vec<Change>, Errno> {
        let mut changes = Vec::new();
        if self.upper.is_some() {
            self.compare(Ino::ROOT, Stack::ROOT, b"", &mut changes)?;
        }
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(changes)
    }

    /// Compares a directory with the stack's at the same path; returns whether anything differs.
    fn compare(
        &self,
        ino: Ino,
        below: NodeId,
        path: &[u8],
        changes: &mut Vec<Change>,
    ) -> Result<bool, Errno> {
        {
            let table = self.table.lock();
            let node = table.get(ino)?;
            if !node.in_upper && node.lower == Some(below) {
                return Ok(false);
            }
        }
        let before = changes.len();
        let entries = self.entries(ino)?;
        for entry in &entries {
            let path = join(path, &entry.name)?;
            let child = self.lookup(ino, &entry.name)?;
            let counterpart = self.stack.lookup(below, &entry.name);
            self.compare_entry(child.ino, &child.attr, counterpart, path, changes)?;
            self.forget(child.ino, 1);
        }
        let names: std::collections::HashSet<&[u8]> =
            entries.iter().map(|entry| &entry.name[..]).collect();
        for child in self.stack.children(below) {
            if !names.contains(child.name) {
                let path = [path, b"/", child.name].concat();
                changes.push(Change {
                    kind: ChangeKind::Deleted,
                    path,
                });
            }
        }
        Ok(changes.len() > before)
    }

    fn compare_entry(
        &self,
        ino: Ino,
        attr: &Attr,
        counterpart: Option<NodeId>,
        path: Vec<u8>,
        changes: &mut Vec<Change>,
    ) -> Result<(), Errno> {
        let Some(below) = counterpart else {
            changes.push(Change {
                kind: ChangeKind::Added,
                path: path.clone(),
            });
            return self.all_added(ino, attr, &path, changes);
        };
        let was = self.stack.meta(below).kind;
        if attr.kind == Kind::Directory && was == Kind::Directory {
            let inner = self.compare(ino, below, &path, changes)?;
            if inner || self.metadata_differs(ino, attr, below)? {
                changes.push(Change {
                    kind: ChangeKind::Modified,
                    path,
                });
            }
        } else if self.file_differs(ino, attr, below)? {
            changes.push(Change {
                kind: ChangeKind::Modified,
                path: path.clone(),
            });
            self.all_added(ino, attr, &path, changes)?;
        }
        Ok(())
    }

    fn all_added(
        &self,
        ino: Ino,
        attr: &Attr,
        path: &[u8],
        changes: &mut Vec<Change>,
    ) -> Result<(), Errno> {
        if attr.kind != Kind::Directory {
            return Ok(());
        }
        for entry in self.entries(ino)? {
            let path = join(path, &entry.name)?;
            let child = self.lookup(ino, &entry.name)?;
            changes.push(Change {
                kind: ChangeKind::Added,
                path: path.clone(),
            });
            self.all_added(child.ino, &child.attr, &path, changes)?;
            self.forget(child.ino, 1);
        }
        Ok(())
    }

    fn file_differs(&self, ino: Ino, attr: &Attr, below: NodeId) -> Result<bool, Errno> {
        let (in_upper, has_data, lower) = {
            let table = self.table.lock();
            let node = table.get(ino)?;
            (node.in_upper, node.has_upper_data(), node.lower)
        };
        if lower != Some(below) {
            return Ok(true);
        }
        let was = self.lower_attr(below);
        if !in_upper {
            return Ok(false);
        }
        if attr.size != was.size || self.metadata_differs(ino, attr, below)? {
            return Ok(true);
        }
        // A time can be set back.
        Ok(has_data && attr.kind == Kind::File && self.data_differ(ino, below)?)
    }

    /// Compares a file's data with a lower file's of the same length.
    fn data_differ(&self, ino: Ino, below: NodeId) -> Result<bool, Errno> {
        let opened = self.open(ino, libc::O_RDONLY, Access::PLAIN)?;
        let compared = (|| {
            let (mut ours, mut theirs) = (vec![0; COMPARED], vec![0; COMPARED]);
            let mut offset = 0;
            loop {
                let length = self.read(opened.handle, &mut ours, offset, Wait::Yes)?;
                let mut same = 0;
                while same < length {
                    let at = offset + same as u64;
                    match self.stack.read_at(below, &mut theirs[same..length], at)? {
                        0 => return Ok(true),
                        count => same += count,
                    }
                }
                if ours[..length] != theirs[..length] {
                    return Ok(true);
                }
                if length == 0 {
                    return Ok(false);
                }
                offset += length as u64;
            }
        })();
        self.release(opened.handle);
        compared
    }

    fn metadata_differs(&self, ino: Ino, attr: &Attr, below: NodeId) -> Result<bool, Errno> {
        if !self.table.lock().get(ino)?.in_upper {
            return Ok(false);
        }
        let was = self.lower_attr(below);
        if (attr.mode, attr.uid, attr.gid, attr.rdev) != (was.mode, was.uid, was.gid, was.rdev) {
            return Ok(true);
        }
        if attr.kind != Kind::Directory && attr.mtime != was.mtime {
            return Ok(true);
        }
        let mut names = self.listxattr(ino)?;
        names.retain(|name| name != b"security.selinux");
        let known = self.stack.xattrs(below);
        if names.len() != known.len() {
            return Ok(true);
        }
        for (name, value) in known {
            if self.getxattr(ino, name).ok().as_deref() != Some(value) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
