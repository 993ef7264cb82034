//! Trees that `COPY` and `ADD` take files from, and paths within them.

use std::io;
use std::sync::Arc;

use layerfs::Kind;
use layerfs::Stack;
use layerfs::Union;

use crate::tree::HostTree;
use crate::tree::Tree;
use crate::tree::UnionTree;
use crate::tree::components;

/// How many links a path may lead through, as in Go's `filepath-securejoin`.
const MOST_LINKS: usize = 255;

/// A tree of files.
#[derive(Debug)]
pub(super) enum Files {
    /// A directory of the host's.
    Host(HostTree),
    /// A stage or an image.
    Layers(UnionTree),
}

/// Does the same with either kind of tree.
macro_rules! with_tree {
    ($files:expr, $tree:ident => $body:expr) => {
        match $files {
            $crate::build::files::Files::Host($tree) => $body,
            $crate::build::files::Files::Layers($tree) => $body,
        }
    };
}
pub(super) use with_tree;

impl Files {
    /// Returns what a stack of layers shows.
    pub(super) fn of_stack(stack: Arc<Stack>) -> io::Result<Files> {
        let union = Union::new(stack, None)?;
        Ok(Files::Layers(UnionTree(Arc::new(union))))
    }

    /// Reads a small file whole, links followed within the tree; none that is not there, no plain file, or too long.
    pub(super) fn read(&self, path: &[u8], limit: u64) -> io::Result<Option<Vec<u8>>> {
        with_tree!(self, tree => read(tree, path, limit))
    }
}

fn read<T: Tree>(tree: &T, path: &[u8], limit: u64) -> io::Result<Option<Vec<u8>>> {
    use crate::tree::Last;
    use std::io::Read as _;
    let node = match tree.resolve(path, Last::Follow) {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)
            ) =>
        {
            return Ok(None);
        }
        node => node?,
    };
    let stat = tree.stat(&node)?;
    if stat.kind != Kind::File || stat.size > limit {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    tree.read(&node)?.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Returns a path's components with `.` and `..` taken away; none if it leads above its root.
pub(super) fn clean(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut clean: Vec<Vec<u8>> = Vec::new();
    for name in components(path) {
        match name {
            b".." => drop(clean.pop()?),
            name => clean.push(name.to_vec()),
        }
    }
    Some(clean)
}

/// Returns the components of where a path leads, links followed within the tree; what is not there is taken as it is
/// written.
pub(super) fn real_path<T: Tree>(tree: &T, path: &[Vec<u8>]) -> io::Result<Vec<Vec<u8>>> {
    let mut real: Vec<Vec<u8>> = Vec::new();
    let mut left: Vec<Vec<u8>> = path.iter().rev().cloned().collect();
    let mut links = 0;
    // Nothing is below what is not there, nor below a file.
    let mut missing_from: Option<usize> = None;
    while let Some(name) = left.pop() {
        if name == b".." {
            real.pop();
            missing_from = missing_from.filter(|from| real.len() > *from);
            continue;
        }
        real.push(name);
        if missing_from.is_some() {
            continue;
        }
        let node = match lookup(tree, &real)? {
            Some(node) => node,
            None => {
                missing_from = Some(real.len() - 1);
                continue;
            }
        };
        if tree.stat(&node)?.kind != Kind::Symlink {
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        let target = tree.link_target(&node)?;
        real.pop();
        if target.first() == Some(&b'/') {
            real.clear();
        }
        let names: Vec<Vec<u8>> = components(&target).map(<[u8]>::to_vec).collect();
        left.extend(names.into_iter().rev());
    }
    Ok(real)
}

/// Finds what is at a path that has no links in it but perhaps at its end.
pub(super) fn lookup<T: Tree>(tree: &T, path: &[Vec<u8>]) -> io::Result<Option<T::Node>> {
    use crate::tree::Last;
    match tree.resolve(&join(path), Last::Keep) {
        Ok(node) => Ok(Some(node)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Returns the path of these components, without a slash before it.
pub(super) fn join(path: &[Vec<u8>]) -> Vec<u8> {
    path.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_above_their_root_are_none() {
        let clean = |path: &str| clean(path.as_bytes()).map(|names| join(&names));
        assert_eq!(clean("/a/./b//../c/"), Some(b"a/c".to_vec()));
        assert_eq!(clean("a/.."), Some(Vec::new()));
        assert_eq!(clean("a/../../b"), None);
    }

    #[test]
    fn links_are_followed_within_the_tree() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(at("real/deep")).expect("directories");
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, at(name)).expect("a link");
        };
        link("/real", "absolute");
        link("../../real/deep", "real/up");
        link("/nowhere/there", "dangling");
        link("round", "round");
        let root = std::fs::File::open(directory.path()).expect("the root");
        let tree = HostTree::of_sources(root.into());
        let real = |path: &str| {
            let names = clean(path.as_bytes()).expect("a path");
            real_path(&tree, &names).map(|names| String::from_utf8(join(&names)).expect("text"))
        };
        assert_eq!(real("absolute/up/x/y").expect("a path"), "real/deep/x/y");
        assert_eq!(real("dangling/z").expect("a path"), "nowhere/there/z");
        assert_eq!(real("no/such/../thing").expect("a path"), "no/thing");
        real("round").expect_err("a circle");
    }
}
