//! The stack index against its definition: a plain walk from the top layer down, over random layers with whiteouts,
//! opaque directories, types that change, hard links, entries out of order and repeated.

use std::io::Cursor;

use layerfs::DiffId;
use layerfs::Expect;
use layerfs::Kind;
use layerfs::Meta;
use layerfs::NodeId;
use layerfs::Stack;
use layerfs::Store;
use layerfs::StoreError;
use layerfs::TopDown;
use proptest::prelude::*;

/// One entry of a random layer.
#[derive(Debug, Clone)]
enum Entry {
    File(Path, u8),
    Directory(Path, u32),
    Symlink(Path, Path),
    Whiteout(Path),
    Opaque(Path),
    /// To an entry of the same layer, if it is one that may be linked to.
    HardLink(Path, Path),
}

/// Few names and little depth, so that layers meet.
type Path = Vec<u8>;

fn path() -> impl Strategy<Value = Path> {
    prop::collection::vec(0u8..3, 1..4)
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        4 => (path(), any::<u8>()).prop_map(|(path, content)| Entry::File(path, content)),
        3 => (path(), 0u32..0o1000).prop_map(|(path, mode)| Entry::Directory(path, mode)),
        1 => (path(), path()).prop_map(|(path, target)| Entry::Symlink(path, target)),
        3 => path().prop_map(Entry::Whiteout),
        2 => path().prop_map(Entry::Opaque),
        2 => (path(), path()).prop_map(|(path, target)| Entry::HardLink(path, target)),
    ]
}

fn text(path: &[u8]) -> String {
    let names: Vec<&str> = path
        .iter()
        .map(|name| ["a", "b", "c"][usize::from(*name)])
        .collect();
    names.join("/")
}

fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (number, entry) in entries.iter().enumerate() {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600 + number as u32 % 8);
        header.set_uid(number as u64);
        header.set_gid(0);
        header.set_mtime(1_000_000 + number as u64);
        header.set_size(0);
        let mut content = Vec::new();
        let (name, target) = match entry {
            Entry::File(path, byte) => {
                content = vec![*byte; usize::from(*byte)];
                header.set_size(content.len() as u64);
                (text(path), None)
            }
            Entry::Directory(path, mode) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                (format!("{}/", text(path)), None)
            }
            Entry::Symlink(path, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                (text(path), Some(text(target)))
            }
            Entry::Whiteout(path) => {
                let (name, parents) = path.split_last().expect("a name");
                let prefix = parents
                    .iter()
                    .map(|name| text(&[*name]) + "/")
                    .collect::<String>();
                (format!("{prefix}.wh.{}", text(&[*name])), None)
            }
            Entry::Opaque(path) => (format!("{}/.wh..wh..opq", text(path)), None),
            Entry::HardLink(path, target) => {
                header.set_entry_type(tar::EntryType::Link);
                (text(path), Some(text(target)))
            }
        };
        match target {
            Some(target) => tar.append_link(&mut header, name, target),
            None => tar.append_data(&mut header, name, &content[..]),
        }
        .expect("an entry");
    }
    tar.into_inner().expect("a tar")
}

/// Takes the layers in; one whose entries contradict each other is left out.
fn ingest(store: &Store, layers: &[Vec<Entry>]) -> Vec<DiffId> {
    layers
        .iter()
        .filter_map(|entries| {
            let ingested = store.ingest(Cursor::new(tar(entries)), Expect::default());
            ingested.ok().map(|ingested| ingested.diff_id)
        })
        .collect()
}

/// What must be the same on both sides: all but the count of names, which a single layer cannot know.
fn comparable(meta: Meta) -> Meta {
    Meta { nlink: 0, ..meta }
}

fn compare(
    stack: &Stack,
    directory: NodeId,
    top_down: &TopDown,
    place: &layerfs::stack::Place,
    path: &str,
) -> Result<(), TestCaseError> {
    let mut names: Vec<Vec<u8>> = stack
        .children(directory)
        .map(|child| child.name.to_vec())
        .collect();
    let mut expected = top_down.names(place);
    names.sort();
    expected.sort();
    prop_assert_eq!(&names, &expected, "names in {}", path);
    for name in [&b"a"[..], b"b", b"c", b".wh.a", b"none"] {
        let found = stack.lookup(directory, name);
        let wanted = top_down.lookup(place, name);
        let path = format!("{path}/{}", String::from_utf8_lossy(name));
        prop_assert_eq!(found.is_some(), wanted.is_some(), "{}", &path);
        let (Some(found), Some(wanted)) = (found, wanted) else {
            continue;
        };
        let meta = stack.meta(found);
        prop_assert_eq!(
            comparable(meta),
            comparable(top_down.meta(&wanted)),
            "{}",
            &path
        );
        match meta.kind {
            Kind::Directory => compare(stack, found, top_down, &wanted, &path)?,
            Kind::Symlink => {
                prop_assert_eq!(stack.link_target(found), top_down.link_target(&wanted));
            }
            _ => {}
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_stack_shows_what_a_walk_from_the_top_finds(
        layers in prop::collection::vec(prop::collection::vec(entry(), 0..12), 1..6)
    ) {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("a store");
        let layers = ingest(&store, &layers);
        prop_assume!(!layers.is_empty());
        let stack = match store.stack(&layers) {
            // A link to what no layer has: refused by name, and no tree to compare.
            Err(StoreError::DanglingLink { .. }) => return Ok(()),
            stack => stack.expect("a stack"),
        };
        let top_down = TopDown::open(&store, &layers).expect("the layers");
        compare(&stack, Stack::ROOT, &top_down, &top_down.root(), "")?;
    }

    #[test]
    fn every_layer_comes_back_byte_for_byte(entries in prop::collection::vec(entry(), 0..12)) {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("a store");
        let bytes = tar(&entries);
        if let Ok(ingested) = store.ingest(Cursor::new(bytes.clone()), Expect::default()) {
            let mut back = Vec::new();
            let layer = store.layer(&ingested.diff_id).expect("the layer");
            std::io::Read::read_to_end(&mut layer.tar(), &mut back).expect("the tar");
            prop_assert_eq!(back, bytes);
        }
    }
}
