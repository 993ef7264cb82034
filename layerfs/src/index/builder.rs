//! Building a tree in memory and writing it as an index.
//!
//! Nodes and entries are kept in flat vectors with their names in one arena, so that a tree of a million entries takes
//! about 150 bytes each. Replaced entries are only marked dead; what no live entry reaches is not written.

use std::collections::HashMap;
use std::io;
use std::io::Write;

use hashbrown::HashTable;
use zerocopy::IntoBytes;
use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;

use super::Kind;
use super::Meta;
use super::hash;
use super::records::*;
use crate::digest::Digest;

/// A node while the tree is being built.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct BuildId(u32);

/// Where a file's bytes are, while the tree is being built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    Nothing,
    Packed { layer: u32, offset: u64 },
    Object(u32),
    Host(u32),
}

/// What a node is made from.
#[derive(Clone, Copy)]
pub(crate) struct BuildNode<'a> {
    pub(crate) meta: Meta,
    pub(crate) content: Content,
    /// A symbolic link's target, or the path a link to a lower layer names.
    pub(crate) target: &'a [u8],
    pub(crate) lower_link: bool,
    pub(crate) implicit: bool,
    pub(crate) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// The tree outgrew the format's 32-bit references.
#[derive(Debug, thiserror::Error)]
#[error("the tree is too large for an index")]
pub(crate) struct TooLarge;

const DEAD: u16 = 1 << 15;

/// How many entries a tree may have once directories are copied in it.
const ENTRIES_MAX: usize = 1 << 24;

struct BuildEntry {
    directory: u32,
    name: u32,
    node: u32,
    name_length: u16,
    flags: u16,
}

/// Tables that only some indexes have.
#[derive(Default)]
pub(crate) struct TreeExtras {
    pub(crate) tar_size: u64,
    pub(crate) objects: Vec<[u8; 32]>,
    pub(crate) cuts: Vec<CutRecord>,
    pub(crate) segments: Vec<SegmentRecord>,
    pub(crate) layers: Vec<[u8; 32]>,
}

/// A tree that grows.
pub(crate) struct TreeBuilder {
    nodes: Vec<NodeRecord>,
    entries: Vec<BuildEntry>,
    table: HashTable<u32>,
    strings: Vec<u8>,
    xattrs: Vec<XattrRecord>,
}

/// What an entry of the growing tree leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    Node(BuildId),
    Whiteout,
}

impl TreeBuilder {
    pub(crate) const ROOT: BuildId = BuildId(0);

    /// Starts with a root directory that nothing has named yet.
    pub(crate) fn new() -> TreeBuilder {
        let mut builder = TreeBuilder {
            nodes: Vec::new(),
            entries: Vec::new(),
            table: HashTable::new(),
            strings: Vec::new(),
            xattrs: Vec::new(),
        };
        builder.nodes.push(implicit_directory());
        builder
    }

    /// Adds a node that no entry leads to yet.
    pub(crate) fn add_node(&mut self, node: &BuildNode<'_>) -> Result<BuildId, TooLarge> {
        let record = self.record(node)?;
        let id = u32::try_from(self.nodes.len()).map_err(|_| TooLarge)?;
        self.nodes.push(record);
        Ok(BuildId(id))
    }

    /// Adds a directory for a parent that the tar never named: root's, 0755, the epoch.
    pub(crate) fn add_implicit_directory(&mut self) -> Result<BuildId, TooLarge> {
        let id = u32::try_from(self.nodes.len()).map_err(|_| TooLarge)?;
        self.nodes.push(implicit_directory());
        Ok(BuildId(id))
    }

    /// Gives a node new metadata and keeps its identity; a directory stays opaque if it was.
    pub(crate) fn update_node(
        &mut self,
        id: BuildId,
        node: &BuildNode<'_>,
    ) -> Result<(), TooLarge> {
        let mut record = self.record(node)?;
        record.flags |= self.nodes[id.0 as usize].flags & NODE_OPAQUE;
        self.nodes[id.0 as usize] = record;
        Ok(())
    }

    fn record(&mut self, node: &BuildNode<'_>) -> Result<NodeRecord, TooLarge> {
        let meta = &node.meta;
        let mut record = implicit_directory();
        record.kind = if node.lower_link {
            KIND_LOWER_LINK
        } else {
            kind_number(meta.kind)
        };
        record.flags = if node.implicit { NODE_IMPLICIT } else { 0 };
        record.mode = meta.mode.into();
        record.uid = meta.uid.into();
        record.gid = meta.gid.into();
        record.size = meta.size.into();
        record.mtime_secs = meta.mtime.secs.into();
        record.mtime_nanos = meta.mtime.nanos.into();
        record.rdev_major = libc::major(meta.rdev).into();
        record.rdev_minor = libc::minor(meta.rdev).into();
        match node.content {
            Content::Nothing => {}
            Content::Packed { layer, offset } => {
                record.content_kind = CONTENT_PACKED.into();
                record.layer = layer.into();
                record.content = offset.into();
            }
            Content::Object(object) => {
                record.content_kind = CONTENT_OBJECT.into();
                record.content = u64::from(object).into();
            }
            Content::Host(file) => {
                record.content_kind = CONTENT_HOST.into();
                record.content = u64::from(file).into();
            }
        }
        if node.lower_link || meta.kind == Kind::Symlink {
            record.first = self.add_string(node.target)?.into();
            record.count = u32::try_from(node.target.len())
                .map_err(|_| TooLarge)?
                .into();
        }
        if !node.xattrs.is_empty() {
            record.first_xattr = u32::try_from(self.xattrs.len())
                .map_err(|_| TooLarge)?
                .into();
            record.xattr_count = (node.xattrs.len() as u32).into();
            for (name, value) in node.xattrs {
                let xattr = XattrRecord {
                    name: self.add_string(name)?.into(),
                    name_length: (name.len() as u32).into(),
                    value: self.add_string(value)?.into(),
                    value_length: (value.len() as u32).into(),
                };
                self.xattrs.push(xattr);
            }
        }
        Ok(record)
    }

    fn add_string(&mut self, bytes: &[u8]) -> Result<u32, TooLarge> {
        let at = u32::try_from(self.strings.len()).map_err(|_| TooLarge)?;
        self.strings.extend_from_slice(bytes);
        Ok(at)
    }

    pub(crate) fn kind(&self, id: BuildId) -> Option<Kind> {
        kind_of(self.nodes[id.0 as usize].kind)
    }

    pub(crate) fn is_directory(&self, id: BuildId) -> bool {
        self.nodes[id.0 as usize].kind == KIND_DIRECTORY
    }

    pub(crate) fn set_opaque(&mut self, id: BuildId) {
        self.nodes[id.0 as usize].flags |= NODE_OPAQUE;
    }

    /// Returns the path a link to a lower layer names.
    pub(crate) fn lower_link_target(&self, id: BuildId) -> Option<&[u8]> {
        let node = &self.nodes[id.0 as usize];
        (node.kind == KIND_LOWER_LINK).then(|| {
            let first = node.first.get() as usize;
            &self.strings[first..first + node.count.get() as usize]
        })
    }

    pub(crate) fn get(&self, directory: BuildId, name: &[u8]) -> Option<Found> {
        let entry = &self.entries[self.find(directory, name)? as usize];
        Some(match entry.flags & ENTRY_WHITEOUT {
            0 => Found::Node(BuildId(entry.node)),
            _ => Found::Whiteout,
        })
    }

    fn find(&self, directory: BuildId, name: &[u8]) -> Option<u32> {
        let (entries, strings) = (&self.entries, &self.strings);
        self.table
            .find(hash(directory.0, name), |&at| {
                let entry = &entries[at as usize];
                entry.directory == directory.0 && entry_name(entry, strings) == name
            })
            .copied()
    }

    /// Makes `name` in `directory` lead to `to`, whatever it led to before.
    pub(crate) fn set(
        &mut self,
        directory: BuildId,
        name: &[u8],
        to: Found,
    ) -> Result<(), TooLarge> {
        let (node, flags) = match to {
            Found::Node(node) => (node.0, 0),
            Found::Whiteout => (u32::MAX, ENTRY_WHITEOUT),
        };
        if let Some(at) = self.find(directory, name) {
            let entry = &mut self.entries[at as usize];
            entry.node = node;
            entry.flags = flags;
            return Ok(());
        }
        let at = u32::try_from(self.entries.len()).map_err(|_| TooLarge)?;
        let entry = BuildEntry {
            directory: directory.0,
            name: self.add_string(name)?,
            node,
            name_length: u16::try_from(name.len()).map_err(|_| TooLarge)?,
            flags,
        };
        self.entries.push(entry);
        let (entries, strings) = (&self.entries, &self.strings);
        self.table
            .insert_unique(hash(directory.0, name), at, |&at| {
                let entry = &entries[at as usize];
                hash(entry.directory, entry_name(entry, strings))
            });
        Ok(())
    }

    /// Removes `name` from `directory`.
    pub(crate) fn remove(&mut self, directory: BuildId, name: &[u8]) {
        let (entries, strings) = (&self.entries, &self.strings);
        let found = self.table.find_entry(hash(directory.0, name), |&at| {
            let entry = &entries[at as usize];
            entry.directory == directory.0 && entry_name(entry, strings) == name
        });
        if let Ok(found) = found {
            let (at, _) = found.remove();
            self.entries[at as usize].flags = DEAD;
        }
    }

    /// Returns the names in a directory; reads every entry there is.
    pub(crate) fn child_names(&self, directory: BuildId) -> Vec<Vec<u8>> {
        let live = self.entries.iter().filter(|entry| entry.flags & DEAD == 0);
        let children = live.filter(|entry| entry.directory == directory.0);
        children
            .map(|entry| entry_name(entry, &self.strings).to_vec())
            .collect()
    }

    /// Returns the number of the host file that a node is.
    pub(crate) fn host_file(&self, id: BuildId) -> Option<u32> {
        let node = &self.nodes[id.0 as usize];
        (node.content_kind.get() == CONTENT_HOST).then(|| node.content.get() as u32)
    }

    /// Copies directories with all directories below them; the copies lead to the same files. What is copied in all is
    /// bounded: directories could be copied into one another.
    pub(crate) fn copy_directories(&mut self, roots: &[BuildId]) -> Result<Vec<BuildId>, TooLarge> {
        if roots.is_empty() {
            return Ok(Vec::new());
        }
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for (at, entry) in self.entries.iter().enumerate() {
            if entry.flags == 0 {
                children.entry(entry.directory).or_default().push(at as u32);
            }
        }
        roots
            .iter()
            .map(|root| self.copy_directory(*root, &children))
            .collect()
    }

    fn copy_directory(
        &mut self,
        root: BuildId,
        children: &HashMap<u32, Vec<u32>>,
    ) -> Result<BuildId, TooLarge> {
        let copied = self.duplicate(root)?;
        let mut todo = vec![(root.0, copied)];
        while let Some((from, into)) = todo.pop() {
            for &at in children.get(&from).into_iter().flatten() {
                let entry = &self.entries[at as usize];
                let node = entry.node;
                let name = entry_name(entry, &self.strings).to_vec();
                let child = match self.is_directory(BuildId(node)) {
                    true => {
                        let child = self.duplicate(BuildId(node))?;
                        todo.push((node, child));
                        child
                    }
                    false => BuildId(node),
                };
                self.set(into, &name, Found::Node(child))?;
            }
            if self.entries.len() > ENTRIES_MAX {
                return Err(TooLarge);
            }
        }
        Ok(copied)
    }

    fn duplicate(&mut self, id: BuildId) -> Result<BuildId, TooLarge> {
        let copied = u32::try_from(self.nodes.len()).map_err(|_| TooLarge)?;
        self.nodes.push(self.nodes[id.0 as usize]);
        Ok(BuildId(copied))
    }

    /// Returns every link to a lower layer that a live entry leads to: directory, name, node.
    pub(crate) fn lower_links(&self) -> Vec<(BuildId, Vec<u8>, BuildId)> {
        self.entries
            .iter()
            .filter(|entry| entry.flags == 0)
            .filter(|entry| self.nodes[entry.node as usize].kind == KIND_LOWER_LINK)
            .map(|entry| {
                let name = entry_name(entry, &self.strings).to_vec();
                (BuildId(entry.directory), name, BuildId(entry.node))
            })
            .collect()
    }

    /// Finds the node at `path` from the root, following no links.
    pub(crate) fn resolve(&self, path: &[u8]) -> Option<BuildId> {
        let mut at = TreeBuilder::ROOT;
        for name in path
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
        {
            match self.get(at, name)? {
                Found::Node(node) => at = node,
                Found::Whiteout => return None,
            }
        }
        Some(at)
    }

    /// Writes the tree as an index. Nodes are numbered breadth first by sorted name, so the same tree gives the same
    /// bytes however it was built, and a directory's nodes lie together.
    pub(crate) fn write(
        mut self,
        out: &mut impl Write,
        identity: Digest,
        extras: &TreeExtras,
    ) -> io::Result<()> {
        self.table = HashTable::new();
        let order = self.number();
        let nodes = reorder(std::mem::take(&mut self.nodes), &order.old_of);
        let laid = self.lay_out(nodes, order);
        self.entries = Vec::new();
        let slots = hash_slots(&laid.entries, &self.strings);
        let sections: [&[u8]; SECTIONS] = [
            laid.nodes.as_bytes(),
            laid.entries.as_bytes(),
            slots.as_bytes(),
            &self.strings,
            self.xattrs.as_bytes(),
            extras.objects.as_bytes(),
            extras.cuts.as_bytes(),
            extras.segments.as_bytes(),
            extras.layers.as_bytes(),
        ];
        write_sections(out, identity, extras.tar_size, &sections)
    }

    /// Gives every reachable node its number: returns new number to old, and the live entries by directory.
    fn number(&mut self) -> Order {
        let strings = &self.strings;
        let mut live: Vec<u32> = (0..self.entries.len() as u32)
            .filter(|&at| self.entries[at as usize].flags & DEAD == 0)
            .collect();
        live.sort_unstable_by(|&a, &b| {
            let (a, b) = (&self.entries[a as usize], &self.entries[b as usize]);
            (a.directory, entry_name(a, strings)).cmp(&(b.directory, entry_name(b, strings)))
        });
        let mut starts = vec![(0u32, 0u32); self.nodes.len()];
        for (position, &at) in live.iter().enumerate() {
            let start = &mut starts[self.entries[at as usize].directory as usize];
            if start.1 == 0 {
                start.0 = position as u32;
            }
            start.1 += 1;
        }
        let mut new_of = vec![u32::MAX; self.nodes.len()];
        let mut old_of = vec![0];
        new_of[0] = 0;
        let mut next = 0;
        while let Some(&old) = old_of.get(next) {
            next += 1;
            let (start, count) = starts[old as usize];
            for &at in &live[start as usize..(start + count) as usize] {
                let entry = &self.entries[at as usize];
                if entry.flags & ENTRY_WHITEOUT != 0 || new_of[entry.node as usize] != u32::MAX {
                    continue;
                }
                new_of[entry.node as usize] = old_of.len() as u32;
                old_of.push(entry.node);
            }
        }
        Order {
            live,
            starts,
            new_of,
            old_of,
        }
    }

    fn lay_out(&self, mut nodes: Vec<NodeRecord>, order: Order) -> Laid {
        nodes.iter_mut().for_each(|node| node.nlink = U32::new(0));
        let mut entries = Vec::with_capacity(order.live.len());
        for (new, &old) in order.old_of.iter().enumerate() {
            if nodes[new].kind != KIND_DIRECTORY {
                continue;
            }
            let (start, count) = order.starts[old as usize];
            nodes[new].first = (entries.len() as u32).into();
            nodes[new].count = count.into();
            let mut subdirectories = 0;
            for &at in &order.live[start as usize..(start + count) as usize] {
                let entry = &self.entries[at as usize];
                let is_whiteout = entry.flags & ENTRY_WHITEOUT != 0;
                let node = if is_whiteout {
                    0
                } else {
                    order.new_of[entry.node as usize]
                };
                entries.push(EntryRecord {
                    name: entry.name.into(),
                    name_length: U16::new(entry.name_length),
                    flags: entry.flags.into(),
                    node: node.into(),
                    directory: (new as u32).into(),
                });
                if is_whiteout {
                    continue;
                }
                let record = &mut nodes[node as usize];
                if record.kind == KIND_DIRECTORY {
                    record.parent = (new as u32).into();
                    subdirectories += 1;
                } else {
                    record.nlink = (record.nlink.get() + 1).into();
                }
            }
            nodes[new].nlink = (2 + subdirectories).into();
        }
        Laid { nodes, entries }
    }
}

/// Puts the nodes in order, in place: the number `i` gets what was number `old_of[i]`; the rest is dropped.
fn reorder(mut nodes: Vec<NodeRecord>, old_of: &[u32]) -> Vec<NodeRecord> {
    // Which one lies at a position now, and where each one lies.
    let mut at: Vec<u32> = (0..nodes.len() as u32).collect();
    let mut place_of = at.clone();
    for (position, &wanted) in old_of.iter().enumerate() {
        let from = place_of[wanted as usize];
        let there = at[position];
        nodes.swap(position, from as usize);
        at.swap(position, from as usize);
        place_of[wanted as usize] = position as u32;
        place_of[there as usize] = from;
    }
    nodes.truncate(old_of.len());
    nodes
}

struct Order {
    live: Vec<u32>,
    starts: Vec<(u32, u32)>,
    new_of: Vec<u32>,
    old_of: Vec<u32>,
}

struct Laid {
    nodes: Vec<NodeRecord>,
    entries: Vec<EntryRecord>,
}

fn entry_name<'a>(entry: &BuildEntry, strings: &'a [u8]) -> &'a [u8] {
    let start = entry.name as usize;
    &strings[start..start + usize::from(entry.name_length)]
}

fn implicit_directory() -> NodeRecord {
    let mut record: NodeRecord = zerocopy::FromZeros::new_zeroed();
    record.kind = KIND_DIRECTORY;
    record.flags = NODE_IMPLICIT;
    record.mode = 0o755.into();
    record
}

fn hash_slots(entries: &[EntryRecord], strings: &[u8]) -> Vec<U32> {
    let size = (entries.len() * 2 + 1).next_power_of_two();
    let mask = size - 1;
    let mut slots = vec![U32::new(0); size];
    for (number, entry) in entries.iter().enumerate() {
        let start = entry.name.get() as usize;
        let name = &strings[start..start + usize::from(entry.name_length.get())];
        let mut at = hash(entry.directory.get(), name) as usize & mask;
        while slots[at].get() != 0 {
            at = (at + 1) & mask;
        }
        slots[at] = (number as u32 + 1).into();
    }
    slots
}

fn write_sections(
    out: &mut impl Write,
    identity: Digest,
    tar_size: u64,
    sections: &[&[u8]; SECTIONS],
) -> io::Result<()> {
    let mut header: Header = zerocopy::FromZeros::new_zeroed();
    header.magic = MAGIC;
    header.version = VERSION.into();
    header.identity = identity.0;
    header.tar_size = tar_size.into();
    let mut offset = size_of::<Header>() as u64;
    for (section, place) in sections.iter().zip(&mut header.sections) {
        place.offset = offset.into();
        place.length = (section.len() as u64).into();
        offset += section.len() as u64;
    }
    header.length = U64::new(offset);
    let mut checksum = xxhash_rust::xxh3::Xxh3::new();
    checksum.update(&header.as_bytes()[CHECKED_FROM..]);
    for section in sections {
        checksum.update(section);
    }
    header.checksum = checksum.digest().into();
    out.write_all(header.as_bytes())?;
    for section in sections {
        out.write_all(section)?;
    }
    Ok(())
}
