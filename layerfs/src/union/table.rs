//! The inodes that somebody refers to.

use std::collections::HashMap;
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use indexmap::IndexMap;
use lru::LruCache;
use parking_lot::Mutex;

use super::Ino;
use super::copy_up::Built;
use super::data::Backing;
use super::directory::Listing;
use crate::errno::Errno;
use crate::index::Kind;
use crate::index::NodeId;
use crate::index::Timespec;

/// How many directories of the upper are kept open.
const OPEN_DIRECTORIES: usize = 1024;

/// How many names of directories that were read are kept; one directory may have more.
const LISTED_NAMES: usize = 1 << 16;

/// An inode: what it is made of and by which name it was reached last.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// The number that `stat(2)` shows.
    pub(super) number: Ino,
    pub(super) parent: Ino,
    pub(super) name: Box<[u8]>,
    /// The node of the stack: what a file was copied up from, what a directory is merged with.
    pub(super) lower: Option<NodeId>,
    pub(super) in_upper: bool,
    /// Only the metadata are in the upper; the data still come from `lower`.
    pub(super) metacopy: bool,
    /// Holds what has no name any more, or whose name here was removed.
    pub(super) orphan: Option<Arc<OwnedFd>>,
    /// No name leads to it any more.
    pub(super) unlinked: bool,
    pub(super) lookups: u64,
    /// Nodes of the table that have this one as their parent.
    pub(super) children: u32,
    pub(super) opens: u32,
    /// The backing file of all present opens, if they are by passthrough.
    pub(super) backing: Option<Arc<Backing>>,
    rare: Option<Box<Rare>>,
}

/// What few nodes have, kept apart because there may be very many nodes.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// Nodes of the same inode that go by older ids. As long as there are any, this one is what the name must lead to.
    pub(super) elders: u32,
    /// Held while the file's data are copied up.
    pub(super) filling: Arc<Mutex<()>>,
    /// What was built of the file under `work/tmp`, to be put in place.
    pub(super) built: Option<Built>,
    /// What is made in this directory gets from it, once that is known.
    pub(super) inheritance: Option<Inheritance>,
    /// Handles whose writes pass through unseen and whose holders lack CAP_FSETID.
    pub(super) weak_writers: u32,
    /// When the file was modified last, noted when it had such writers and privileges.
    pub(super) armed: Option<Timespec>,
}

/// What a directory gives to what is made in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inheritance {
    /// The group, if the directory is set-group-ID.
    pub(super) group: Option<u32>,
    pub(super) has_default_acl: bool,
}

impl Node {
    pub(super) fn new(kind: Kind, number: Ino, parent: Ino, name: &[u8]) -> Node {
        Node {
            kind,
            number,
            parent,
            name: name.into(),
            lower: None,
            in_upper: false,
            metacopy: false,
            orphan: None,
            unlinked: false,
            lookups: 0,
            children: 0,
            opens: 0,
            backing: None,
            rare: None,
        }
    }

    pub(super) fn root(in_upper: bool) -> Node {
        let mut root = Node::new(Kind::Directory, Ino::ROOT, Ino::ROOT, b"");
        root.lower = Some(NodeId(0));
        root.in_upper = in_upper;
        root.lookups = 1;
        root
    }

    /// Returns whether the data are in the upper.
    pub(super) fn has_upper_data(&self) -> bool {
        self.in_upper && !self.metacopy
    }

    fn is_needed(&self) -> bool {
        let elders = self.rare().map_or(0, |rare| rare.elders);
        self.lookups > 0 || self.children > 0 || self.opens > 0 || elders > 0
    }

    pub(super) fn rare(&self) -> Option<&Rare> {
        self.rare.as_deref()
    }

    pub(super) fn take_built(&mut self) -> Option<Built> {
        self.rare.as_mut()?.built.take()
    }

    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Notes that the directory's mode, group or default ACL may have changed.
    pub(super) fn forget_inheritance(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.inheritance = None;
        }
    }

    /// Returns whether handles write the file unseen whose holders lack CAP_FSETID.
    pub(super) fn has_weak_writers(&self) -> bool {
        self.rare().is_some_and(|rare| rare.weak_writers > 0)
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) nodes: IndexMap<Ino, Node>,
    /// Numbers whose node goes by a fresh id.
    pub(super) fresh: HashMap<Ino, Ino>,
    pub(super) next_fresh: u64,
    /// Nodes of the stack with several entries that are in the upper's link index.
    pub(super) copied: HashSet<NodeId>,
    pub(super) directories: LruCache<Ino, Arc<OwnedFd>>,
    /// What the upper has in directories that were read lately.
    listings: LruCache<Ino, KeptListing>,
    listed_names: usize,
}

#[derive(Debug)]
struct KeptListing {
    listing: Arc<Listing>,
    is_stale: bool,
}

impl Table {
    pub(super) fn new() -> Table {
        let open = NonZeroUsize::new(OPEN_DIRECTORIES).unwrap_or(NonZeroUsize::MIN);
        Table {
            nodes: IndexMap::new(),
            fresh: HashMap::new(),
            next_fresh: 1 << 56,
            copied: HashSet::new(),
            directories: LruCache::new(open),
            listings: LruCache::unbounded(),
            listed_names: 0,
        }
    }

    pub(super) fn get(&self, ino: Ino) -> Result<&Node, Errno> {
        self.nodes.get(&ino).ok_or(Errno::ESTALE)
    }

    pub(super) fn get_mut(&mut self, ino: Ino) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&ino).ok_or(Errno::ESTALE)
    }

    /// Returns the id that the inode `number` goes by.
    pub(super) fn current(&self, number: Ino) -> Ino {
        self.fresh.get(&number).copied().unwrap_or(number)
    }

    /// Adds a node, or finds the one that is there under its number and moves it to the name it was reached by.
    pub(super) fn insert(&mut self, node: Node) -> Ino {
        let ino = self.current(node.number);
        if let Some(known) = self.nodes.get_mut(&ino) {
            if known.unlinked && !node.in_upper {
                return ino;
            }
            if known.kind == Kind::Directory {
                known.lower = node.lower;
                known.in_upper |= node.in_upper;
            } else if node.in_upper {
                known.in_upper = true;
                known.metacopy = node.metacopy;
                known.orphan = node.orphan;
                known.unlinked = false;
            }
            let old = std::mem::replace(&mut known.parent, node.parent);
            known.name = node.name;
            if ino != Ino::ROOT && old != node.parent {
                self.add_child(node.parent);
                self.drop_child(old);
            }
            return ino;
        }
        self.add_child(node.parent);
        self.nodes.insert(ino, node);
        ino
    }

    /// Returns what the upper had in a directory when it was read last, unless it must be read anew.
    pub(super) fn listing(&mut self, ino: Ino, stale_too: bool) -> Option<Arc<Listing>> {
        let kept = self.listings.get(&ino)?;
        (stale_too || !kept.is_stale).then(|| kept.listing.clone())
    }

    /// Keeps what a directory has, at the cost of those that were read longest ago.
    pub(super) fn keep_listing(&mut self, ino: Ino, listing: Arc<Listing>) {
        self.drop_listing(ino);
        self.listed_names += listing.size();
        while self.listed_names > LISTED_NAMES
            && let Some((_, oldest)) = self.listings.pop_lru()
        {
            self.listed_names -= oldest.listing.size();
        }
        let is_stale = false;
        self.listings.put(ino, KeptListing { listing, is_stale });
    }

    /// Notes that the names of a directory have changed: who reads on may go on with the old ones.
    pub(super) fn names_changed(&mut self, ino: Ino) {
        if let Some(kept) = self.listings.peek_mut(&ino) {
            kept.is_stale = true;
        }
    }

    fn drop_listing(&mut self, ino: Ino) {
        if let Some(kept) = self.listings.pop(&ino) {
            self.listed_names -= kept.listing.size();
        }
    }

    fn add_child(&mut self, parent: Ino) {
        if let Some(parent) = self.nodes.get_mut(&parent) {
            parent.children += 1;
        }
    }

    fn drop_child(&mut self, parent: Ino) {
        if let Some(node) = self.nodes.get_mut(&parent) {
            node.children = node.children.saturating_sub(1);
        }
        self.collect(parent);
    }

    /// Moves a node to another name.
    pub(super) fn moved(&mut self, ino: Ino, parent: Ino, name: &[u8]) {
        let Some(node) = self.nodes.get_mut(&ino) else {
            return;
        };
        let old = node.parent;
        node.parent = parent;
        node.name = name.into();
        if old != parent {
            self.add_child(parent);
            self.drop_child(old);
        }
    }

    pub(super) fn forget(&mut self, ino: Ino, count: u64) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.lookups = node.lookups.saturating_sub(count);
        }
        self.collect(ino);
    }

    /// Drops the node if nobody needs it, and then perhaps its parents.
    pub(super) fn collect(&mut self, ino: Ino) {
        let mut at = ino;
        while at != Ino::ROOT {
            let Some(node) = self.nodes.get(&at) else {
                return;
            };
            if node.is_needed() {
                return;
            }
            let Some(node) = self.nodes.swap_remove(&at) else {
                return;
            };
            self.directories.pop(&at);
            self.drop_listing(at);
            match self.fresh.get(&node.number).copied() {
                Some(fresh) if fresh == at => {
                    self.fresh.remove(&node.number);
                }
                Some(fresh) => {
                    if let Some(fresh) = self.nodes.get_mut(&fresh) {
                        let elders = &mut fresh.rare_mut().elders;
                        *elders = elders.saturating_sub(1);
                    }
                    self.collect(fresh);
                }
                None => {}
            }
            match self.nodes.get_mut(&node.parent) {
                Some(parent) => parent.children = parent.children.saturating_sub(1),
                None => return,
            }
            at = node.parent;
        }
    }

    /// Lets the inode go on under a fresh id; the old one keeps what its holders see.
    pub(super) fn renew(&mut self, ino: Ino) -> Result<(), Errno> {
        let old = self.get_mut(ino)?;
        let mut node = Node::new(old.kind, old.number, old.parent, &old.name);
        node.lower = old.lower;
        node.in_upper = old.in_upper;
        node.metacopy = old.metacopy;
        node.orphan = old.orphan.take();
        node.unlinked = old.unlinked;
        node.rare_mut().elders = 1 + std::mem::take(&mut old.rare_mut().elders);
        // The old holders go on with the lower file.
        old.in_upper = false;
        old.metacopy = false;
        let (number, parent) = (node.number, node.parent);
        let fresh = Ino(self.next_fresh);
        self.next_fresh += 1;
        self.fresh.insert(number, fresh);
        self.add_child(parent);
        self.nodes.insert(fresh, node);
        Ok(())
    }
}
