//! The reference that the stack index is measured and tested against: search the layers from the top down.

use std::sync::Arc;

use crate::digest::DiffId;
use crate::index::Kind;
use crate::index::Meta;
use crate::index::NodeId;
use crate::layer::Layer;
use crate::store::Store;
use crate::store::StoreError;

/// Layers searched one by one at each lookup, as a union without a stack index does.
#[derive(Debug)]
pub struct TopDown {
    /// Highest first.
    layers: Vec<Arc<Layer>>,
}

/// A place in the merged tree: for a directory, its part in each layer that has one, highest first.
#[derive(Debug, Clone)]
pub struct Place {
    parts: Vec<(usize, NodeId)>,
}

impl TopDown {
    /// Opens `layers`, lowest first.
    pub fn open(store: &Store, layers: &[DiffId]) -> Result<TopDown, StoreError> {
        let opened = layers.iter().rev().map(|layer| store.layer(layer));
        Ok(TopDown {
            layers: opened.collect::<Result<_, _>>()?,
        })
    }

    /// Returns the root.
    pub fn root(&self) -> Place {
        self.root_from(0)
    }

    /// Returns the root of the tree that a layer and those below it make.
    fn root_from(&self, top: usize) -> Place {
        let mut parts = Vec::new();
        for (number, layer) in self.layers.iter().enumerate().skip(top) {
            parts.push((number, NodeId(0)));
            if layer.index().node(NodeId(0)).is_opaque() {
                break;
            }
        }
        Place { parts }
    }

    /// Finds the entry `name` of a directory: one probe in each layer until something decides.
    pub fn lookup(&self, dir: &Place, name: &[u8]) -> Option<Place> {
        let mut parts: Vec<(usize, NodeId)> = Vec::new();
        for &(number, node) in &dir.parts {
            let index = self.layers[number].index();
            let Some(entry) = index.lookup(node, name) else {
                continue;
            };
            if entry.is_whiteout() {
                break;
            }
            let found = index.node(entry.node_id());
            if !found.is_directory() {
                if parts.is_empty() && found.is_lower_link() {
                    // A hard link to what layers below have is what that was when this layer was made.
                    return self.resolve_from(number, index.target(found));
                }
                if parts.is_empty() {
                    parts.push((number, entry.node_id()));
                }
                break;
            }
            parts.push((number, entry.node_id()));
            if found.is_opaque() {
                break;
            }
        }
        (!parts.is_empty()).then_some(Place { parts })
    }

    /// Finds the node at `path` from the root, following no links.
    pub fn resolve(&self, path: &[u8]) -> Option<Place> {
        self.resolve_from(0, path)
    }

    fn resolve_from(&self, top: usize, path: &[u8]) -> Option<Place> {
        let names = path
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty());
        names
            .into_iter()
            .try_fold(self.root_from(top), |at, name| self.lookup(&at, name))
    }

    /// Returns a node's metadata; the link count is the top layer's own.
    pub fn meta(&self, place: &Place) -> Meta {
        let named = place
            .parts
            .iter()
            .find(|(number, node)| !self.layers[*number].index().node(*node).is_implicit());
        let (number, node) = named.unwrap_or(&place.parts[0]);
        self.layers[*number].index().node(*node).meta()
    }

    /// Returns a symbolic link's target.
    pub fn link_target(&self, place: &Place) -> &[u8] {
        let (number, node) = place.parts[0];
        let index = self.layers[number].index();
        index.target(index.node(node))
    }

    /// Returns the names in a directory, sorted.
    pub fn names(&self, dir: &Place) -> Vec<Vec<u8>> {
        if self.meta(dir).kind != Kind::Directory {
            return Vec::new();
        }
        let mut seen = std::collections::BTreeMap::new();
        for &(number, node) in &dir.parts {
            let index = self.layers[number].index();
            for entry in index.children(index.node(node)) {
                seen.entry(index.name(entry).to_vec())
                    .or_insert(!entry.is_whiteout());
            }
        }
        seen.into_iter()
            .filter_map(|(name, visible)| visible.then_some(name))
            .collect()
    }
}
