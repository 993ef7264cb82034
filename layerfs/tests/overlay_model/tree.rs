//! What two trees are compared by.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use crate::operations::sum;

/// Whether it matters which names are one file. Of a file with names in lower layers only the union that wrote an upper
/// knows that.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    Compared,
    Ignored,
}

/// All that the two trees must have in common; a directory's size is the filesystem's own business,
/// and so is the number of links: overlayfs counts names of a layer that a higher one hides.
pub(crate) fn tree(root: &Path, links: Links) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut directories = vec![PathBuf::new()];
    let mut groups: BTreeMap<u64, PathBuf> = BTreeMap::new();
    while let Some(directory) = directories.pop() {
        let mut names: Vec<_> = fs::read_dir(root.join(&directory))
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        for name in names {
            let path = directory.join(name);
            let full = root.join(&path);
            let stat = fs::symlink_metadata(&full).unwrap_or_else(|error| {
                if std::env::var_os("KEEP").is_some() {
                    std::thread::sleep(std::time::Duration::from_secs(120));
                }
                panic!("{}: {error}", full.display())
            });
            let mut shown = format!("{:o} {} {}", stat.mode(), stat.uid(), stat.gid());
            if stat.is_dir() {
                directories.push(path.clone());
            } else {
                let first = groups.entry(stat.ino()).or_insert_with(|| path.clone());
                if stat.is_file() {
                    shown.push_str(&format!(" {}", stat.len()));
                }
                if stat.is_file() && links == Links::Compared {
                    shown.push_str(&format!(" as {}", first.display()));
                }
            }
            if stat.is_file() {
                shown.push_str(&format!(" {:x}", sum(&fs::read(&full).expect("read"))));
            }
            if stat.is_symlink() {
                shown.push_str(&format!(" {:?}", fs::read_link(&full).expect("a link")));
            }
            for attribute in [
                "user.note",
                "system.posix_acl_access",
                "system.posix_acl_default",
            ] {
                let mut value = [0; 64];
                if let Ok(length) = rustix::fs::lgetxattr(&full, attribute, &mut value) {
                    shown.push_str(&format!(" {attribute} {:?}", &value[..length]));
                }
            }
            found.insert(path, shown);
        }
    }
    found
}
