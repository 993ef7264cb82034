//! A layer's tree as its tar's entries make it, one after the other.

use std::collections::HashSet;

use super::IngestError;
use super::names::shown;
use crate::index::BuildId;
use crate::index::BuildNode;
use crate::index::Content;
use crate::index::Found;
use crate::index::Kind;
use crate::index::Meta;
use crate::index::Timespec;
use crate::index::TooLarge;
use crate::index::TreeBuilder;

/// Why an entry cannot be placed.
pub(super) enum Misplaced {
    Fault(String),
    TooLarge,
}

impl From<TooLarge> for Misplaced {
    fn from(_: TooLarge) -> Misplaced {
        Misplaced::TooLarge
    }
}

fn fault<T>(fault: impl Into<String>) -> Result<T, Misplaced> {
    Err(Misplaced::Fault(fault.into()))
}

/// A hard link whose target has not come yet.
struct Pending {
    directory: BuildId,
    name: Vec<u8>,
    path: Vec<u8>,
    target: Vec<u8>,
}

/// The tree, and the links that wait for their targets.
pub(super) struct LayerTree {
    builder: TreeBuilder,
    pending: Vec<Pending>,
}

impl LayerTree {
    pub(super) fn new() -> LayerTree {
        LayerTree {
            builder: TreeBuilder::new(),
            pending: Vec::new(),
        }
    }

    /// Finds the directory `path`, making what no entry has named.
    fn directory(&mut self, path: &[&[u8]]) -> Result<BuildId, Misplaced> {
        let mut at = TreeBuilder::ROOT;
        for (depth, name) in path.iter().enumerate() {
            at = match self.builder.get(at, name) {
                Some(Found::Node(node)) if self.builder.is_directory(node) => node,
                Some(Found::Node(node)) => {
                    let what = match self.builder.kind(node) {
                        Some(Kind::Symlink) => "a symbolic link",
                        _ => "not a directory",
                    };
                    let parent = shown(&path[..=depth].join(&b'/'));
                    return fault(format!("its parent {parent} is {what}"));
                }
                found => {
                    let made = self.builder.add_implicit_directory()?;
                    if found == Some(Found::Whiteout) {
                        self.builder.set_opaque(made);
                    }
                    self.builder.set(at, name, Found::Node(made))?;
                    made
                }
            };
        }
        Ok(at)
    }

    /// Places a node; a directory that is named again only gets new metadata.
    pub(super) fn place(&mut self, path: &[&[u8]], node: &BuildNode<'_>) -> Result<(), Misplaced> {
        let is_directory = node.meta.kind == Kind::Directory;
        let Some((name, parents)) = path.split_last() else {
            if !is_directory {
                return fault("the root is not a directory");
            }
            return Ok(self.builder.update_node(TreeBuilder::ROOT, node)?);
        };
        let parent = self.directory(parents)?;
        let before = self.builder.get(parent, name);
        if let Some(Found::Node(old)) = before
            && is_directory
            && self.builder.is_directory(old)
        {
            return Ok(self.builder.update_node(old, node)?);
        }
        let id = self.builder.add_node(node)?;
        if is_directory && before == Some(Found::Whiteout) {
            self.builder.set_opaque(id);
        }
        Ok(self.builder.set(parent, name, Found::Node(id))?)
    }

    /// Returns whether this layer has something that is no directory where `path` needs one: it hides all that lower
    /// layers have there, and a whiteout below it, which some builders write, says nothing more.
    fn is_hidden(&self, path: &[&[u8]]) -> bool {
        let mut at = TreeBuilder::ROOT;
        for name in path {
            match self.builder.get(at, name) {
                Some(Found::Node(node)) if self.builder.is_directory(node) => at = node,
                Some(Found::Node(_)) => return true,
                _ => return false,
            }
        }
        false
    }

    /// Marks the directory as hiding what lower layers have in it.
    pub(super) fn opaque(&mut self, path: &[&[u8]]) -> Result<(), Misplaced> {
        if self.is_hidden(path) {
            return Ok(());
        }
        let directory = self.directory(path)?;
        self.builder.set_opaque(directory);
        Ok(())
    }

    /// Hides `path` in lower layers. What this layer has there itself stays: a whiteout never hides its siblings
    /// (image-spec `layer.md`, "Whiteouts").
    pub(super) fn whiteout(&mut self, path: &[&[u8]]) -> Result<(), Misplaced> {
        let Some((name, parents)) = path.split_last() else {
            return fault("a whiteout of the root");
        };
        if self.is_hidden(parents) {
            return Ok(());
        }
        let parent = self.directory(parents)?;
        match self.builder.get(parent, name) {
            Some(Found::Node(node)) if self.builder.is_directory(node) => {
                self.builder.set_opaque(node);
            }
            Some(_) => {}
            None => self.builder.set(parent, name, Found::Whiteout)?,
        }
        Ok(())
    }

    /// Makes `path` another entry of the node at `target`, now or when that has come.
    pub(super) fn hard_link(&mut self, path: &[&[u8]], target: &[&[u8]]) -> Result<(), Misplaced> {
        let Some((name, parents)) = path.split_last() else {
            return fault("the root is a hard link");
        };
        if path == target {
            return fault("a hard link to itself");
        }
        let directory = self.directory(parents)?;
        let target = target.join(&b'/');
        match self.builder.resolve(&target) {
            Some(node) if self.builder.is_directory(node) => {
                fault(format!("a hard link to the directory {}", shown(&target)))
            }
            Some(node) => Ok(self.builder.set(directory, name, Found::Node(node))?),
            None => {
                self.builder.remove(directory, name);
                let (name, path) = (name.to_vec(), path.join(&b'/'));
                self.pending.push(Pending {
                    directory,
                    name,
                    path,
                    target,
                });
                Ok(())
            }
        }
    }

    /// Resolves the links that came before their targets; what this layer does not have is left to lower layers.
    pub(super) fn finish(&mut self) -> Result<(), IngestError> {
        let pending = std::mem::take(&mut self.pending);
        let waiting = self.bind(pending)?;
        let names: HashSet<Vec<u8>> = waiting.iter().map(|link| link.path.clone()).collect();
        let (chained, lower): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|link| names.contains(&link.target));
        for link in lower {
            let node = self.builder.add_node(&lower_link(&link.target))?;
            self.builder
                .set(link.directory, &link.name, Found::Node(node))?;
        }
        match self.bind(chained)?.first() {
            None => Ok(()),
            Some(link) => {
                let fault = format!("hard links in a circle through {}", shown(&link.target));
                Err(IngestError::Entry {
                    name: shown(&link.path),
                    fault,
                })
            }
        }
    }

    /// Binds the links whose targets are there, until no more can be; returns the rest.
    fn bind(&mut self, mut pending: Vec<Pending>) -> Result<Vec<Pending>, IngestError> {
        loop {
            let before = pending.len();
            let mut waiting = Vec::new();
            for link in pending {
                if self.builder.get(link.directory, &link.name).is_some() {
                    // A later entry of that name has taken its place.
                    continue;
                }
                match self.builder.resolve(&link.target) {
                    Some(node) if self.builder.is_directory(node) => {
                        let fault = format!("a hard link to the directory {}", shown(&link.target));
                        return Err(IngestError::Entry {
                            name: shown(&link.path),
                            fault,
                        });
                    }
                    Some(node) => {
                        self.builder
                            .set(link.directory, &link.name, Found::Node(node))?;
                    }
                    None => waiting.push(link),
                }
            }
            pending = waiting;
            if pending.len() == before {
                return Ok(pending);
            }
        }
    }

    pub(super) fn into_builder(self) -> TreeBuilder {
        self.builder
    }
}

fn lower_link(target: &[u8]) -> BuildNode<'_> {
    BuildNode {
        meta: Meta {
            kind: Kind::File,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            nlink: 1,
            rdev: 0,
            mtime: Timespec::default(),
        },
        content: Content::Nothing,
        target,
        lower_link: true,
        implicit: false,
        xattrs: &[],
    }
}
