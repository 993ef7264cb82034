//! Trees of layers that a build's step is shown: each a union of its own, mounted beside the container's root.

use std::path::PathBuf;
use std::sync::Arc;

use layerfs::DiffId;
use layerfs::Union;
use layerfs::Upper;
use layerfs::fuse;

use super::Failure;
use super::Spec;
use super::failed;
use crate::container::liveness::RunPaths;
use crate::sandbox::LayerTree;
use crate::sandbox::TreeMount;

/// A tree that is mounted and not served yet.
pub(super) struct Tree {
    mounted: fuse::Mounted,
    root: PathBuf,
    tree: LayerTree,
}

impl Tree {
    pub(super) fn shown(&self) -> TreeMount {
        TreeMount {
            root: self.root.clone(),
            tree: self.tree.clone(),
        }
    }

    pub(super) fn serve(self) -> Result<fuse::Serving, Failure> {
        let what = format!("serve {}", self.tree.target.display());
        self.mounted.spawn().map_err(failed(what))
    }
}

/// Mounts the trees in the monitor's mount namespace.
pub(super) fn mount(spec: &Spec, paths: &RunPaths) -> Result<Vec<Tree>, Failure> {
    let trees = spec.shown.trees.iter().enumerate();
    trees
        .map(|(number, tree)| {
            let root = paths.directory.join(format!("tree.{number}"));
            std::fs::create_dir(&root).map_err(failed(root.display()))?;
            let union = open(spec, number, tree)?;
            let options = fuse::MountOptions {
                source: "ply".to_owned(),
                setuid: true,
                ..fuse::MountOptions::default()
            };
            let what = format!("mount {}", tree.target.display());
            let mounted = fuse::mount(Arc::new(union), &root, &options).map_err(failed(what))?;
            Ok(Tree {
                mounted,
                root,
                tree: tree.clone(),
            })
        })
        .collect()
}

fn open(spec: &Spec, number: usize, tree: &LayerTree) -> Result<Union, Failure> {
    let what = || format!("open the layers for {}", tree.target.display());
    let store = layerfs::Store::open(&spec.root).map_err(failed("open the layer store"))?;
    let layers = tree
        .layers
        .iter()
        .map(|layer| layer.parse().map(DiffId))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed(what()))?;
    let stack = store.stack(&layers).map_err(failed(what()))?;
    let upper = match tree.writable {
        false => None,
        true => {
            let directory = spec.container_dir().join(format!("tree.{number}"));
            std::fs::create_dir(&directory).map_err(failed(directory.display()))?;
            let upper = Upper::open(&directory.join("upper"), &directory.join("work"));
            Some(upper.map_err(failed(directory.display()))?)
        }
    };
    Union::new(stack, upper).map_err(failed(what()))
}
