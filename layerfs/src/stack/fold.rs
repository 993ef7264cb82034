//! Folding layers into one tree.

use std::collections::HashMap;
use std::io::Write;

use crate::digest::ChainId;
use crate::digest::DiffId;
use crate::index::BuildId;
use crate::index::BuildNode;
use crate::index::Content;
use crate::index::ContentAt;
use crate::index::Found;
use crate::index::NodeId;
use crate::index::NodeRecord;
use crate::index::TooLarge;
use crate::index::TreeBuilder;
use crate::index::TreeExtras;
use crate::layer::Layer;
use crate::store::Store;
use crate::store::StoreError;

/// Folds `layers`, lowest first, and writes the index of the stack.
pub(crate) fn fold(
    store: &Store,
    layers: &[DiffId],
    out: &mut impl Write,
) -> Result<(), StoreError> {
    let chain = ChainId::of(layers);
    let too_large = |_: TooLarge| StoreError::TooLarge(chain);
    let mut fold = Fold {
        tree: TreeBuilder::new(),
        objects: Vec::new(),
        numbers: HashMap::new(),
    };
    for (number, diff_id) in layers.iter().enumerate() {
        let layer = store.layer(diff_id)?;
        let mut merge = Merge {
            fold: &mut fold,
            layer: &layer,
            number: number as u32,
            shared: HashMap::new(),
        };
        merge.merge().map_err(too_large)?;
        fold.resolve_links().map_err(|fault| match fault {
            LinkFault::Dangling { link, target } => StoreError::DanglingLink {
                layer: *diff_id,
                link,
                target,
            },
            LinkFault::TooLarge => StoreError::TooLarge(chain),
        })?;
    }
    let extras = TreeExtras {
        objects: fold.objects,
        layers: layers.iter().map(|layer| layer.0.0).collect(),
        ..TreeExtras::default()
    };
    let written = fold.tree.write(out, chain.0, &extras);
    written.map_err(crate::store::at(store.root()))
}

struct Fold {
    tree: TreeBuilder,
    objects: Vec<[u8; 32]>,
    numbers: HashMap<[u8; 32], u32>,
}

enum LinkFault {
    Dangling { link: String, target: String },
    TooLarge,
}

impl Fold {
    fn object(&mut self, digest: [u8; 32]) -> Result<u32, TooLarge> {
        let next = u32::try_from(self.objects.len()).map_err(|_| TooLarge)?;
        let number = *self.numbers.entry(digest).or_insert(next);
        if number == next {
            self.objects.push(digest);
        }
        Ok(number)
    }

    /// Binds the hard links of the layer just merged whose targets lie in layers below it.
    fn resolve_links(&mut self) -> Result<(), LinkFault> {
        for (directory, name, node) in self.tree.lower_links() {
            let target = self
                .tree
                .lower_link_target(node)
                .unwrap_or_default()
                .to_vec();
            match self.tree.resolve(&target) {
                Some(found)
                    if !self.tree.is_directory(found)
                        && self.tree.lower_link_target(found).is_none() =>
                {
                    let set = self.tree.set(directory, &name, Found::Node(found));
                    set.map_err(|_| LinkFault::TooLarge)?;
                }
                _ => {
                    return Err(LinkFault::Dangling {
                        link: String::from_utf8_lossy(&name).into_owned(),
                        target: String::from_utf8_lossy(&target).into_owned(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// One layer on its way into the tree.
struct Merge<'a> {
    fold: &'a mut Fold,
    layer: &'a Layer,
    number: u32,
    /// Nodes with several entries, by their number in the layer.
    shared: HashMap<NodeId, BuildId>,
}

impl Merge<'_> {
    fn merge(&mut self) -> Result<(), TooLarge> {
        let index = self.layer.index();
        let root = index.node(NodeId(0));
        if root.is_opaque() {
            for name in self.fold.tree.child_names(TreeBuilder::ROOT) {
                self.fold.tree.remove(TreeBuilder::ROOT, &name);
            }
        }
        if !root.is_implicit() {
            self.update(TreeBuilder::ROOT, root)?;
        }
        let mut todo = vec![(TreeBuilder::ROOT, NodeId(0))];
        let mut read = 0;
        while let Some((into, from)) = todo.pop() {
            read += 1;
            if read % PAGES_RELEASED_AFTER == 0 {
                index.release_pages();
            }
            for entry in index.children(index.node(from)) {
                let name = index.name(entry);
                if entry.is_whiteout() {
                    self.fold.tree.remove(into, name);
                    continue;
                }
                let node = index.node(entry.node_id());
                if !node.is_directory() {
                    let id = self.leaf(entry.node_id(), node)?;
                    self.fold.tree.set(into, name, Found::Node(id))?;
                    continue;
                }
                let below = match self.fold.tree.get(into, name) {
                    Some(Found::Node(below))
                        if self.fold.tree.is_directory(below) && !node.is_opaque() =>
                    {
                        if !node.is_implicit() {
                            self.update(below, node)?;
                        }
                        below
                    }
                    _ => {
                        let made = self.build(node)?;
                        self.fold.tree.set(into, name, Found::Node(made))?;
                        made
                    }
                };
                todo.push((below, entry.node_id()));
            }
        }
        Ok(())
    }

    /// Returns the node for a file, the same for all its entries.
    fn leaf(&mut self, id: NodeId, node: &NodeRecord) -> Result<BuildId, TooLarge> {
        if node.meta().nlink < 2 {
            return self.build(node);
        }
        if let Some(&known) = self.shared.get(&id) {
            return Ok(known);
        }
        let made = self.build(node)?;
        self.shared.insert(id, made);
        Ok(made)
    }

    fn build(&mut self, node: &NodeRecord) -> Result<BuildId, TooLarge> {
        let (content, xattrs) = self.parts(node)?;
        let target = self.layer.index().target(node);
        self.fold
            .tree
            .add_node(&build_node(node, content, target, &xattrs))
    }

    fn update(&mut self, id: BuildId, node: &NodeRecord) -> Result<(), TooLarge> {
        let (content, xattrs) = self.parts(node)?;
        self.fold
            .tree
            .update_node(id, &build_node(node, content, b"", &xattrs))
    }

    fn parts(&mut self, node: &NodeRecord) -> Result<(Content, Xattrs), TooLarge> {
        let index = self.layer.index();
        let content = match index.content(node) {
            ContentAt::Nothing | ContentAt::Host(_) => Content::Nothing,
            ContentAt::Packed { offset, .. } => Content::Packed {
                layer: self.number,
                offset,
            },
            ContentAt::Object(object) => {
                Content::Object(self.fold.object(index.objects()[object as usize])?)
            }
        };
        let xattrs = index
            .xattrs(node)
            .map(|(name, value)| (name.to_vec(), value.to_vec()));
        Ok((content, xattrs.collect()))
    }
}

/// After how many directories the layer's index gives its pages back.
const PAGES_RELEASED_AFTER: usize = 512;

type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

fn build_node<'a>(
    node: &NodeRecord,
    content: Content,
    target: &'a [u8],
    xattrs: &'a Xattrs,
) -> BuildNode<'a> {
    BuildNode {
        meta: node.meta(),
        content,
        target,
        lower_link: node.is_lower_link(),
        implicit: node.is_implicit(),
        xattrs,
    }
}
