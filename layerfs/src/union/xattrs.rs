//! Extended attributes; the union's own are neither shown nor settable.

use super::Ino;
use super::Union;
use crate::errno::Errno;
use crate::marks;

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

impl Union {
    /// Returns whether a name is bookkeeping: the union's own, and in plain directories that of other unions too.
    fn is_hidden(&self, name: &[u8]) -> bool {
        match self.stack.is_of_directories() {
            true => marks::is_bookkeeping(name),
            false => name.starts_with(b"trusted.ply.") || name.starts_with(b"trusted.overlay."),
        }
    }

    /// Returns an attribute's value.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, Errno> {
        if self.is_hidden(name) {
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
            return Ok(names
                .into_iter()
                .filter(|name| !self.is_hidden(name))
                .collect());
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
        if self.is_hidden(name) {
            return Err(Errno::EPERM);
        }
        self.changing(ino, || self.set_xattr_in_upper(ino, name, value, flag))
    }

    fn set_xattr_in_upper(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        flag: XattrFlag,
    ) -> Result<(), Errno> {
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
        if self.is_hidden(name) {
            return Err(Errno::ENODATA);
        }
        self.getxattr(ino, name)?;
        self.changing(ino, || {
            let mut table = self.table.lock();
            self.copy_up(&mut table, ino)?;
            table.get_mut(ino)?.forget_inheritance();
            self.place(&mut table, ino)?.remove_xattr(name)
        })
    }
}
