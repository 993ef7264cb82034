//! Trees of files as values, to be compared entry by entry.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FileType;
use sha2::Digest as _;
use sha2::Sha256;

/// All that is known of a name in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Type and permissions.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// The length; a directory's says nothing.
    pub size: u64,
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// A device's number.
    pub rdev: u64,
    /// Attributes by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The digest of a file's content, or a link's target.
    pub content: Vec<u8>,
    /// The first name of the same file.
    pub same_as: Option<PathBuf>,
}

/// Names and what they are; paths are relative.
pub type Tree = BTreeMap<PathBuf, Entry>;

/// Reads the tree below `root`, whose own entry is not part of it.
pub fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut first = HashMap::new();
    add(root, Path::new(""), &mut tree, &mut first);
    tree
}

fn add(root: &Path, below: &Path, tree: &mut Tree, first: &mut HashMap<(u64, u64), PathBuf>) {
    let mut names: Vec<_> = fs::read_dir(root.join(below))
        .unwrap_or_else(|error| panic!("{}: {error}", root.join(below).display()))
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    for name in names {
        let relative = below.join(name);
        let path = root.join(&relative);
        let stat = fs::symlink_metadata(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let is = |kind| FileType::from_raw_mode(stat.mode()) == kind;
        let content = match () {
            () if is(FileType::RegularFile) => digest(&path),
            () if is(FileType::Symlink) => fs::read_link(&path)
                .expect("a link")
                .as_os_str()
                .as_bytes()
                .to_vec(),
            () => Vec::new(),
        };
        let is_directory = is(FileType::Directory);
        let same_as = match !is_directory && stat.nlink() > 1 {
            true => first
                .insert((stat.dev(), stat.ino()), relative.clone())
                .inspect(|known| {
                    first.insert((stat.dev(), stat.ino()), known.clone());
                }),
            false => None,
        };
        let entry = Entry {
            mode: stat.mode(),
            owner: (stat.uid(), stat.gid()),
            size: if is_directory { 0 } else { stat.size() },
            mtime: (stat.mtime(), stat.mtime_nsec()),
            rdev: stat.rdev(),
            xattrs: xattrs(&path),
            content,
            same_as,
        };
        tree.insert(relative.clone(), entry);
        if is_directory {
            add(root, &relative, tree, first);
        }
    }
}

fn digest(path: &Path) -> Vec<u8> {
    let mut file =
        fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = std::io::Read::read(&mut file, &mut buffer)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if count == 0 {
            return hash.finalize().to_vec();
        }
        hash.update(&buffer[..count]);
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap_or(0);
    names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 1 << 16];
            let length = rustix::fs::lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value)
                .expect("an attribute");
            value.truncate(length);
            (name.to_vec(), value)
        })
        .collect()
}

impl Entry {
    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

/// Returns in words what is different, at most twenty entries of it.
pub fn differences(left: &Tree, right: &Tree) -> Vec<String> {
    let mut words = Vec::new();
    for (path, entry) in left {
        match right.get(path) {
            None => words.push(format!("only left: {}", path.display())),
            Some(other) if other != entry => words.push(format!(
                "{}:\n  left  {}\n  right {}",
                path.display(),
                entry.shown(),
                other.shown()
            )),
            Some(_) => {}
        }
    }
    for path in right.keys().filter(|path| !left.contains_key(*path)) {
        words.push(format!("only right: {}", path.display()));
    }
    words.truncate(20);
    words
}
