//! The union: a stack of read-only layers with a copy-on-write upper on it, seen as one tree.
//!
//! Plain Rust over [`Stack`] and [`Upper`], with POSIX error numbers and no FUSE type, so that a container's tree can
//! be read and written without a mount. The upper is a real directory in overlayfs's conventions (`overlayfs.rst`,
//! "whiteouts and opaque directories"): a whiteout is a character device 0/0, an opaque directory has
//! `trusted.overlay.opaque`, a file with only its metadata copied up has `trusted.overlay.metacopy`.
//!
//! # Inode numbers
//!
//! Node `N` of the stack is inode `N + 1`, before and after copy-up: what is copied up records its origin in
//! `trusted.ply.origin`. What only the upper has is `2^40` plus the host's inode number. Both survive remounts and
//! crashes without any memory of them. What the kernel calls a node id is the same number, but for a file that was
//! copied up while a reader held its lower part by passthrough: it goes on under a fresh one.
//!
//! # Locks
//!
//! `table` protects the nodes that are referenced, and orders every change to names and metadata; it is held across
//! calls on the upper, which only this union changes. A file's data are copied up outside it, under that file's own
//! `filling` lock, which is taken before `table` and never the other way round. `handles` and a handle's own locks
//! are leaves.

mod changes;
mod copy_up;
mod data;
mod directory;
mod metadata;
mod names;
mod privileges;
mod remove;
mod rename;
mod table;
mod umask;
mod upper;
mod walk;
mod xattrs;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use parking_lot::RwLock;

pub use self::changes::Change;
pub use self::changes::ChangeKind;
pub use self::data::Access;
pub use self::data::Backing;
pub use self::data::Opened;
pub use self::directory::Detail;
pub use self::directory::DirEntry;
pub use self::directory::Listed;
pub use self::metadata::Attr;
pub use self::metadata::SetAttr;
pub use self::metadata::SetTime;
pub use self::privileges::WeakWriter;
use self::table::Node;
use self::table::Table;
pub use self::upper::Upper;
pub use self::upper::UpperOptions;
pub use self::walk::FollowLast;
pub use self::xattrs::XattrFlag;
use crate::errno::Errno;
use crate::index::NodeId;
use crate::stack::Stack;

/// An inode of the union, as the kernel names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory.
    pub const ROOT: Ino = Ino(1);

    fn of_lower(node: NodeId) -> Ino {
        Ino(u64::from(node.0) + 1)
    }

    fn of_upper(host: u64) -> Ino {
        Ino((1 << 40) + host)
    }
}

/// Who asks: the owner of what is made.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Caller {
    /// The superuser.
    pub const ROOT: Caller = Caller { uid: 0, gid: 0 };
}

/// The permission bits of what is made, and those that the caller's umask takes away unless a default ACL decides.
#[derive(Clone, Copy, Debug)]
pub struct NewMode {
    /// The twelve permission bits asked for.
    pub bits: u32,
    /// The caller's umask.
    pub umask: u32,
}

/// An answer to a lookup: an inode with one more reference, and its attributes.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The inode, referenced once more until [`Union::forget`].
    pub ino: Ino,
    /// Its attributes; `attr.ino` is the number that `stat(2)` shows.
    pub attr: Attr,
}

/// The union of a stack and an upper.
#[derive(Debug)]
pub struct Union {
    stack: Arc<Stack>,
    upper: Option<Upper>,
    table: Mutex<Table>,
    handles: RwLock<HashMap<u64, Arc<data::Handle>>>,
    next_handle: AtomicU64,
}

impl Union {
    /// Puts `upper` on `stack`; without one the union is read-only.
    pub fn new(stack: Arc<Stack>, upper: Option<Upper>) -> io::Result<Union> {
        let mut table = Table::new();
        if let Some(upper) = &upper {
            table.copied = upper.copied_links(&stack)?;
        }
        let root = Node::root(upper.is_some());
        table.nodes.insert(Ino::ROOT, root);
        let union = Union {
            stack,
            upper,
            table: Mutex::new(table),
            handles: RwLock::new(HashMap::new()),
            next_handle: AtomicU64::new(1),
        };
        union.copy_up_root()?;
        Ok(union)
    }

    /// Gives a fresh upper's root the metadata of the stack's.
    fn copy_up_root(&self) -> Result<(), Errno> {
        let Some(upper) = &self.upper else {
            return Ok(());
        };
        let place = upper::Place::Named(upper.root(), Box::from(&b""[..]));
        if upper.options().foreign || upper.origin(&self.stack, &place).is_some() {
            return Ok(());
        }
        self.apply_metadata(Stack::ROOT, &place)?;
        let origin = upper::Origin {
            node: Stack::ROOT,
            metacopy: false,
        };
        upper.set_origin(&self.stack, &place, origin)
    }

    /// Returns the stack below.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Returns whether nothing can be changed.
    pub fn is_read_only(&self) -> bool {
        self.upper.is_none()
    }

    fn upper(&self) -> Result<&Upper, Errno> {
        self.upper.as_ref().ok_or(Errno::EROFS)
    }

    fn next_handle(&self) -> u64 {
        self.next_handle.fetch_add(1, Ordering::Relaxed)
    }

    /// Finds `name` in the directory `parent` and references what it leads to.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Entry, Errno> {
        let mut table = self.table.lock();
        let ino = self.find(&mut table, parent, name)?.ok_or(Errno::ENOENT)?;
        self.entry(&mut table, ino)
    }

    /// Gives back `count` references.
    pub fn forget(&self, ino: Ino, count: u64) {
        self.table.lock().forget(ino, count);
    }

    /// References `ino` once more and answers with its attributes.
    fn entry(&self, table: &mut Table, ino: Ino) -> Result<Entry, Errno> {
        let attr = self.attr_of(table, ino)?;
        table.get_mut(ino)?.lookups += 1;
        Ok(Entry { ino, attr })
    }

    /// Returns how many inodes are held.
    pub fn node_count(&self) -> usize {
        self.table.lock().nodes.len()
    }
}
