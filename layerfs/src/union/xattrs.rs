//! Extended attributes; the union's own are neither shown nor settable.

use super::Ino;
use super::Union;
use crate::errno::Errno;

/// Whether an attribute must be new or must exist (`setxattr(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrFlag {
    /// Either.
    Any,
    /// `XATTR_CREATE`.
    Create,
    /// `XATTR_REPLACE`.
    Replace,
}

/// Returns whether a name is the union's own bookkeeping.
fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(b"trusted.ply.") || name.starts_with(b"trusted.overlay.")
}

impl Union {
    /// Returns an attribute's value.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, Errno> {
        if is_hidden(name) {
            return Err(Errno::ENODATA);
        }
        let mut table = self.table.lock();
        let node = table.get(ino)?;
        if node.in_upper {
            return self.place(&mut table, ino)?.xattr(name);
        }
        let lower = node.lower.ok_or(Errno::ESTALE)?;
        self.stack
            .xattr(lower, name)
            .map(<[u8]>::to_vec)
            .ok_or(Errno::ENODATA)
    }

    /// Returns the names of the attributes.
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<Vec<u8>>, Errno> {
        let mut table = self.table.lock();
        let node = table.get(ino)?;
        if node.in_upper {
            let names = self.place(&mut table, ino)?.list_xattrs()?;
            return Ok(names.into_iter().filter(|name| !is_hidden(name)).collect());
        }
        let lower = node.lower.ok_or(Errno::ESTALE)?;
        Ok(self
            .stack
            .xattrs(lower)
            .map(|(name, _)| name.to_vec())
            .collect())
    }

    /// Sets an attribute.
    pub fn setxattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        flag: XattrFlag,
    ) -> Result<(), Errno> {
        if is_hidden(name) {
            return Err(Errno::EPERM);
        }
        let mut table = self.table.lock();
        self.copy_up(&mut table, ino)?;
        table.get_mut(ino)?.forget_inheritance();
        let flag = match flag {
            XattrFlag::Any => rustix::fs::XattrFlags::empty(),
            XattrFlag::Create => rustix::fs::XattrFlags::CREATE,
            XattrFlag::Replace => rustix::fs::XattrFlags::REPLACE,
        };
        self.place(&mut table, ino)?.set_xattr(name, value, flag)
    }

    /// Removes an attribute.
    pub fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<(), Errno> {
        if is_hidden(name) {
            return Err(Errno::ENODATA);
        }
        self.getxattr(ino, name)?;
        let mut table = self.table.lock();
        self.copy_up(&mut table, ino)?;
        table.get_mut(ino)?.forget_inheritance();
        self.place(&mut table, ino)?.remove_xattr(name)
    }
}
