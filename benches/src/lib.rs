//! Situations that the measurements share.

use std::io::Cursor;

use layerfs::DiffId;
use layerfs::Expect;
use layerfs::Store;
use tempfile::TempDir;

/// How many files a measured tree has, whatever the number of its layers.
const FILES: usize = 16_384;
const DIRECTORIES: usize = 128;

/// A store with the layers of one tree, lowest first.
#[derive(Debug)]
pub struct Layered {
    /// The store.
    pub store: Store,
    /// The layers.
    pub layers: Vec<DiffId>,
    _dir: TempDir,
}

/// Returns the path of a file of the tree.
pub fn path(number: usize) -> String {
    format!("usr/share/d{:03}/file-{number:06}", number % DIRECTORIES)
}

/// Returns a path that leads to a directory of the tree and to nothing in it.
pub fn missing_path(number: usize) -> String {
    format!("usr/share/d{:03}/none-{number:06}", number % DIRECTORIES)
}

/// Returns the number of a file picked at random, the same ones in every run.
pub fn pick(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state % FILES as u64) as usize
}

/// Makes a tree of always the same files in `count` layers; each file is in one of them, and every layer has all the
/// directories, so that a plain walk meets them all.
pub fn layered(count: usize) -> Layered {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("a store");
    let layers = (0..count)
        .map(|layer| {
            let mut tar = tar::Builder::new(Vec::new());
            for directory in 0..DIRECTORIES {
                append(&mut tar, &format!("usr/share/d{directory:03}/"), b"");
            }
            for number in (layer..FILES).step_by(count) {
                append(&mut tar, &path(number), b"content");
            }
            let bytes = tar.into_inner().expect("a tar");
            let ingested = store.ingest(Cursor::new(bytes), Expect::default());
            ingested.expect("a layer").diff_id
        })
        .collect();
    Layered {
        store,
        layers,
        _dir: dir,
    }
}

fn append(tar: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    let is_directory = name.ends_with('/');
    header.set_entry_type(match is_directory {
        true => tar::EntryType::Directory,
        false => tar::EntryType::Regular,
    });
    header.set_mode(if is_directory { 0o755 } else { 0o644 });
    header.set_size(content.len() as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    tar.append_data(&mut header, name, content)
        .expect("an entry");
}
