//! A stopped container's tree, by its union, without a mount.

use std::io;
use std::io::Read;
use std::sync::Arc;

use layerfs::Errno;
use layerfs::Ino;
use layerfs::Kind;
use layerfs::Union;
use layerfs::union::Access;
use layerfs::union::Caller;
use layerfs::union::FollowLast;
use layerfs::union::NewMode;
use layerfs::union::SetAttr;
use layerfs::union::SetTime;
use layerfs::union::XattrFlag;

use super::Last;
use super::Metadata;
use super::New;
use super::Stat;
use super::Tree;

/// A union as a tree.
#[derive(Debug)]
pub(crate) struct UnionTree(pub(crate) Arc<Union>);

/// A node that stays referenced as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    union: Arc<Union>,
    ino: Ino,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.union.forget(self.ino, 1);
    }
}

/// An open file of the union, read from start to end.
struct Reader<'a> {
    union: &'a Union,
    handle: u64,
    offset: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self
            .union
            .read(self.handle, buffer, self.offset, layerfs::Wait::Yes)?;
        self.offset += count as u64;
        Ok(count)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.union.release(self.handle);
    }
}

impl UnionTree {
    fn held(&self, ino: Ino) -> Held {
        Held {
            union: Arc::clone(&self.0),
            ino,
        }
    }
}

const OWNER_ONLY: NewMode = NewMode {
    bits: 0o600,
    umask: 0,
};

impl Tree for UnionTree {
    type Node = Held;

    fn resolve(&self, path: &[u8], last: Last) -> io::Result<Held> {
        let last = match last {
            Last::Follow => FollowLast::Yes,
            Last::Keep => FollowLast::No,
        };
        Ok(self.held(self.0.resolve(path, last)?.ino))
    }

    fn child(&self, directory: &Held, name: &[u8]) -> io::Result<Held> {
        Ok(self.held(self.0.lookup(directory.ino, name)?.ino))
    }

    fn stat(&self, node: &Held) -> io::Result<Stat> {
        let attr = self.0.getattr(node.ino)?;
        Ok(Stat {
            kind: attr.kind,
            mode: u32::from(attr.mode),
            uid: attr.uid,
            gid: attr.gid,
            size: attr.size,
            mtime: attr.mtime,
            ctime: None,
            rdev: attr.rdev,
            nlink: u64::from(attr.nlink),
            identity: (0, attr.ino.0),
        })
    }

    fn names(&self, directory: &Held) -> io::Result<Vec<Vec<u8>>> {
        let mut names: Vec<Vec<u8>> = self
            .0
            .entries(directory.ino)?
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn link_target(&self, link: &Held) -> io::Result<Vec<u8>> {
        Ok(self.0.readlink(link.ino)?)
    }

    fn xattrs(&self, node: &Held) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let names = self.0.listxattr(node.ino)?;
        let values = names.into_iter().map(|name| {
            let value = self.0.getxattr(node.ino, &name)?;
            Ok((name, value))
        });
        values.collect()
    }

    fn is_generated(&self, _node: &Held) -> io::Result<bool> {
        Ok(false)
    }

    fn read(&self, file: &Held) -> io::Result<Box<dyn Read + Send + '_>> {
        let opened = self.0.open(file.ino, libc::O_RDONLY, Access::PLAIN)?;
        Ok(Box::new(Reader {
            union: &self.0,
            handle: opened.handle,
            offset: 0,
        }))
    }

    fn make(&self, directory: &Held, name: &[u8], new: New<'_>) -> io::Result<Held> {
        let (root, parent) = (Caller::ROOT, directory.ino);
        let made = match new {
            New::File => self.0.mknod(root, parent, name, Kind::File, OWNER_ONLY, 0),
            New::Directory => {
                let mode = NewMode {
                    bits: 0o700,
                    umask: 0,
                };
                self.0.mkdir(root, parent, name, mode)
            }
            New::Symlink(target) => self.0.symlink(root, parent, name, target),
            New::Special(kind, rdev) => self.0.mknod(root, parent, name, kind, OWNER_ONLY, rdev),
        };
        Ok(self.held(made?.ino))
    }

    fn write(&self, file: &Held, content: &mut dyn Read) -> io::Result<u64> {
        let opened = self.0.open(file.ino, libc::O_WRONLY, Access::PLAIN)?;
        let written = (|| {
            let sized = |size| SetAttr {
                size: Some(size),
                ..SetAttr::default()
            };
            self.0.setattr(file.ino, &sized(0))?;
            let length = super::write_sparsely(content, |mut piece, mut at| {
                while !piece.is_empty() {
                    let written = self.0.write(opened.handle, piece, at)?;
                    at += written as u64;
                    piece = &piece[written..];
                }
                Ok(())
            })?;
            if self.0.getattr(file.ino)?.size != length {
                self.0.setattr(file.ino, &sized(length))?;
            }
            Ok(length)
        })();
        self.0.release(opened.handle);
        written
    }

    fn link(&self, file: &Held, directory: &Held, name: &[u8]) -> io::Result<()> {
        let entry = self.0.link(file.ino, directory.ino, name)?;
        self.0.forget(entry.ino, 1);
        Ok(())
    }

    fn set_metadata(&self, node: &Held, metadata: &Metadata) -> io::Result<()> {
        let is_link = self.0.getattr(node.ino)?.kind == Kind::Symlink;
        // A change of owner clears the setuid bits: the mode comes after it.
        let owner = SetAttr {
            uid: Some(metadata.uid),
            gid: Some(metadata.gid),
            ..SetAttr::default()
        };
        self.0.setattr(node.ino, &owner)?;
        if !is_link {
            for (name, value) in &metadata.xattrs {
                match self.0.setxattr(node.ino, name, value, XattrFlag::Any) {
                    Err(Errno::EOPNOTSUPP | Errno::EPERM) => {
                        log::warn!("attribute {} cannot be set", String::from_utf8_lossy(name));
                    }
                    set => set?,
                }
            }
        }
        let time = Some(SetTime::To(metadata.mtime));
        let rest = SetAttr {
            mode: (!is_link).then_some(metadata.mode),
            atime: time,
            mtime: time,
            ..SetAttr::default()
        };
        self.0.setattr(node.ino, &rest)?;
        Ok(())
    }

    fn unlink(&self, directory: &Held, name: &[u8]) -> io::Result<bool> {
        match self.0.unlink(directory.ino, name) {
            Err(Errno::EISDIR) => Ok(false),
            removed => Ok(removed.map(|()| true)?),
        }
    }

    fn remove_directory(&self, directory: &Held, name: &[u8]) -> io::Result<()> {
        Ok(self.0.rmdir(directory.ino, name)?)
    }
}
