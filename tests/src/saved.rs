//! Images as `save` writes them, flattened: the configuration, and the tree that all layers make together.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;
use sha2::Digest as _;

/// An image out of an archive.
#[derive(Debug)]
pub struct Saved {
    /// The image's configuration.
    pub config: Value,
    /// The entries by path, without a leading slash.
    pub tree: BTreeMap<String, SavedEntry>,
    /// The names in each layer's tar, lowest layer first.
    pub layers: Vec<Vec<String>>,
}

/// What is known of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedEntry {
    /// The tar's type.
    pub kind: u8,
    /// Permissions.
    pub mode: u32,
    /// User and group.
    pub owner: (u64, u64),
    /// The length.
    pub size: u64,
    /// The content's digest, or a link's target.
    pub content: String,
    /// A device's numbers.
    pub device: (u32, u32),
    /// Attributes by name.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Seconds.
    pub mtime: u64,
    /// The first path of the same file.
    pub same_as: String,
}

/// Names and the files they lead to.
#[derive(Debug, Default)]
struct Tree {
    names: BTreeMap<String, usize>,
    nodes: Vec<SavedEntry>,
}

/// Reads the archive of one image.
pub fn read(archive: &Path) -> Saved {
    let mut files = HashMap::new();
    let mut links = HashMap::new();
    let mut outer = tar::Archive::new(std::fs::File::open(archive).expect("an archive"));
    for entry in outer.entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        let name = name_of(&entry.path_bytes());
        if let Some(target) = entry.link_name_bytes() {
            // A layer that is there before: `../<id>/layer.tar`.
            let target = String::from_utf8_lossy(&target).replace("../", "");
            links.insert(name, target);
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("read");
        files.insert(name, bytes);
    }
    let file = |name: &str| -> &Vec<u8> {
        let name = links.get(name).map_or(name, String::as_str);
        files.get(name).unwrap_or_else(|| panic!("no {name}"))
    };
    let manifest: Value = serde_json::from_slice(file("manifest.json")).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let config = serde_json::from_slice(file(&text(&manifest[0]["Config"]))).expect("JSON");
    let mut tree = Tree::default();
    let layers = manifest[0]["Layers"].as_array().expect("an array");
    let layers = layers.iter().map(|layer| tree.add(file(&text(layer))));
    Saved {
        config,
        layers: layers.collect(),
        tree: tree.entries(),
    }
}

fn name_of(bytes: &[u8]) -> String {
    let name = String::from_utf8_lossy(bytes);
    let name = name.trim_start_matches("./").trim_matches('/');
    if name == "." {
        String::new()
    } else {
        name.to_owned()
    }
}

impl Tree {
    /// Puts a layer on top; returns the names in it.
    fn add(&mut self, layer: &[u8]) -> Vec<String> {
        let mut entries = Vec::new();
        let mut archive = tar::Archive::new(layer);
        for entry in archive.entries().expect("entries") {
            let mut entry = entry.expect("an entry");
            let name = name_of(&entry.path_bytes());
            let link = entry.link_name_bytes().map(|link| link.into_owned());
            let entry = read_entry(&mut entry);
            entries.push((name, link, entry));
        }
        for (name, ..) in &entries {
            let (directory, last) = name.rsplit_once('/').unwrap_or(("", name));
            let within = |name: &str| match directory {
                "" => name.to_owned(),
                directory => format!("{directory}/{name}"),
            };
            match last.strip_prefix(".wh.") {
                Some(".wh..opq") => self.remove(&within(""), false),
                Some(hidden) => self.remove(&within(hidden), true),
                None => {}
            }
        }
        for (name, link, entry) in &entries {
            let last = name.rsplit('/').next().unwrap_or_default();
            if name.is_empty() || last.starts_with(".wh.") {
                continue;
            }
            let is_directory = entry.kind == b'5';
            self.remove(name, !is_directory);
            let node = match (entry.kind, link) {
                (b'1', Some(target)) => self.names[&name_of(target)],
                _ => {
                    self.nodes.push(entry.clone());
                    self.nodes.len() - 1
                }
            };
            self.names.insert(name.clone(), node);
        }
        entries.into_iter().map(|(name, ..)| name).collect()
    }

    /// Removes a name and what is below it, or only the name if it is to be a directory again.
    fn remove(&mut self, name: &str, below: bool) {
        let is_directory = |node: &usize| self.nodes[*node].kind == b'5';
        if !below && self.names.get(name).is_some_and(is_directory) {
            return;
        }
        let prefix = format!("{}/", name.trim_end_matches('/'));
        self.names.remove(name);
        self.names.retain(|other, _| !other.starts_with(&prefix));
    }

    fn entries(self) -> BTreeMap<String, SavedEntry> {
        let mut first: HashMap<usize, String> = HashMap::new();
        let names = self.names.into_iter();
        let entry = |(name, node): (String, usize)| {
            let same_as = first.entry(node).or_insert_with(|| name.clone()).clone();
            let entry = SavedEntry {
                same_as,
                ..self.nodes[node].clone()
            };
            (name, entry)
        };
        names.map(entry).collect()
    }
}

fn read_entry(entry: &mut tar::Entry<'_, &[u8]>) -> SavedEntry {
    let mut xattrs = BTreeMap::new();
    for extension in entry
        .pax_extensions()
        .expect("records")
        .into_iter()
        .flatten()
    {
        let extension = extension.expect("a record");
        let name = String::from_utf8_lossy(extension.key_bytes()).into_owned();
        if let Some(name) = name.strip_prefix("SCHILY.xattr.") {
            xattrs.insert(name.to_owned(), extension.value_bytes().to_vec());
        }
    }
    let link = entry.link_name_bytes();
    let link = link.map(|link| String::from_utf8_lossy(&link).into_owned());
    let header = entry.header().clone();
    let kind = match header.entry_type().as_byte() {
        0 => b'0',
        kind => kind,
    };
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).expect("read");
    let content = match (kind, link) {
        (b'0', _) => format!("{:x?}", sha2::Sha256::digest(&bytes).as_slice()),
        (_, link) => link.unwrap_or_default(),
    };
    let number = |number: Option<u32>| number.unwrap_or_default();
    SavedEntry {
        kind,
        mode: header.mode().expect("a mode") & 0o7777,
        owner: (
            entry.header().uid().expect("a user"),
            header.gid().expect("a group"),
        ),
        size: if kind == b'0' { bytes.len() as u64 } else { 0 },
        content,
        device: match kind {
            b'3' | b'4' => (
                number(header.device_major().ok().flatten()),
                number(header.device_minor().ok().flatten()),
            ),
            _ => (0, 0),
        },
        xattrs,
        mtime: header.mtime().expect("a time"),
        same_as: String::new(),
    }
}
