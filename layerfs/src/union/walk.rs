//! Paths in the tree, resolved the way the kernel would in a root of its own.

use super::Entry;
use super::Ino;
use super::Union;
use crate::errno::Errno;
use crate::index::Kind;

/// How many symbolic links one path may go through (`path_resolution(7)`).
const LINKS_MAX: usize = 40;

/// Whether a symbolic link that ends a path is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowLast {
    /// It is.
    Yes,
    /// The link itself is meant.
    No,
}

impl Union {
    /// Finds what `path` leads to, beginning at the root, which `..` and absolute links never leave. The inode is
    /// referenced once more.
    pub fn resolve(&self, path: &[u8], last: FollowLast) -> Result<Entry, Errno> {
        let mut todo: Vec<Vec<u8>> = components(path);
        let mut at = vec![self.reference(Ino::ROOT)?];
        let mut links = 0;
        let result = loop {
            let Some(name) = todo.pop() else {
                break Ok(());
            };
            if name == b".." {
                if at.len() > 1
                    && let Some(left) = at.pop()
                {
                    self.forget(left.ino, 1);
                }
                continue;
            }
            let here = at[at.len() - 1];
            let found = match self.lookup(here.ino, &name) {
                Ok(found) => found,
                Err(error) => break Err(error),
            };
            let follows = !todo.is_empty() || last == FollowLast::Yes || path.ends_with(b"/");
            if found.attr.kind != Kind::Symlink || !follows {
                at.push(found);
                continue;
            }
            links += 1;
            let target = self.readlink(found.ino);
            self.forget(found.ino, 1);
            match target {
                Ok(_) if links > LINKS_MAX => break Err(Errno::ELOOP),
                Ok(target) => {
                    if target.starts_with(b"/") {
                        for left in at.drain(1..) {
                            self.forget(left.ino, 1);
                        }
                    }
                    todo.extend(components(&target));
                }
                Err(error) => break Err(error),
            }
        };
        let found = at.pop();
        for left in at {
            self.forget(left.ino, 1);
        }
        match (result, found) {
            (Ok(()), Some(found)) if path.ends_with(b"/") && found.attr.kind != Kind::Directory => {
                self.forget(found.ino, 1);
                Err(Errno::ENOTDIR)
            }
            (Ok(()), Some(found)) => Ok(found),
            (result, found) => {
                if let Some(found) = found {
                    self.forget(found.ino, 1);
                }
                Err(result.err().unwrap_or(Errno::ENOENT))
            }
        }
    }

    /// References an inode once more.
    pub fn reference(&self, ino: Ino) -> Result<Entry, Errno> {
        self.entry(&mut self.table.lock(), ino)
    }
}

/// Splits a path into its components, the first one last.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
        .rev()
        .collect()
}
