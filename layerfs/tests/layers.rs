//! Layers as people's tools make them: taken apart, folded, and given back byte for byte.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use layerfs::DiffId;
use layerfs::Digest;
use layerfs::Expect;
use layerfs::IngestError;
use layerfs::Kind;
use layerfs::Stack;
use layerfs::Store;
use layerfs::Timespec;

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    (directory, store)
}

fn shell(directory: &Path, script: &str) {
    let status = Command::new("bash")
        .args(["-ec", script])
        .current_dir(directory)
        .status()
        .unwrap();
    assert!(status.success(), "{script}");
}

/// A tar made by hand, entry by entry.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Tar {
        Tar(tar::Builder::new(Vec::new()))
    }

    fn entry(mut self, path: &str, kind: tar::EntryType, link: &str, content: &[u8]) -> Tar {
        let mut header = tar::Header::new_gnu();
        let name = path.as_bytes();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, path: &str, content: &[u8]) -> Tar {
        self.entry(path, tar::EntryType::Regular, "", content)
    }

    fn dir(self, path: &str) -> Tar {
        self.entry(path, tar::EntryType::Directory, "", b"")
    }

    fn symlink(self, path: &str, target: &str) -> Tar {
        self.entry(path, tar::EntryType::Symlink, target, b"")
    }

    fn link(self, path: &str, target: &str) -> Tar {
        self.entry(path, tar::EntryType::Link, target, b"")
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn ingest(store: &Store, tar: &[u8]) -> DiffId {
    let ingested = store.ingest(tar, Expect::default()).unwrap();
    assert_eq!(ingested.diff_id.0, Digest::of(tar));
    let mut rebuilt = Vec::new();
    store
        .layer(&ingested.diff_id)
        .unwrap()
        .tar()
        .read_to_end(&mut rebuilt)
        .unwrap();
    assert!(rebuilt == tar, "the tar does not come back byte for byte");
    ingested.diff_id
}

fn refused(tar: &[u8]) -> String {
    let (_directory, store) = store();
    let error = store
        .ingest(tar, Expect::default())
        .unwrap_err()
        .to_string();
    assert_nothing_left(&store);
    error
}

fn assert_nothing_left(store: &Store) {
    for name in ["tmp", "layers", "objects", "stacks"] {
        let left: Vec<_> = fs::read_dir(store.root().join(name)).unwrap().collect();
        assert!(left.is_empty(), "{name}: {left:?}");
    }
}

fn content(stack: &Stack, path: &str) -> Vec<u8> {
    let node = stack
        .resolve(path.as_bytes())
        .unwrap_or_else(|| panic!("no {path}"));
    let mut buffer = vec![0; stack.meta(node).size as usize + 10];
    let length = stack.read_at(node, &mut buffer, 0).unwrap();
    buffer.truncate(length);
    buffer
}

#[test]
fn gnu_tars_of_every_format_come_back_whole() {
    let work = tempfile::tempdir().unwrap();
    shell(
        work.path(),
        r#"mkdir -p t/deep/$(printf 'n%.0s' {1..120})/$(printf 'm%.0s' {1..120})
        echo small > t/small; head -c 300000 /dev/urandom > t/large; head -c 2000000 /dev/zero > t/zeros
        ln t/large t/deep/hard; ln -s ../small t/deep/soft; mkfifo t/fifo; mknod t/null c 1 3
        truncate -s 5M t/sparse; printf data | dd of=t/sparse bs=1 seek=3000000 conv=notrunc status=none
        truncate -s 1G t/hole
        touch -d '1969-12-31 23:59:58.25 UTC' t/old; chmod 4755 t/small; chown 3000000:12 t/large
        setfattr -n user.binary -v 0x000a0d3d00 t/small
        echo x > $'t/line\nbreak'; printf y > "$(printf 't/\xff\xfe')"
        cp t/small t/deep/$(printf 'n%.0s' {1..120})/$(printf 'm%.0s' {1..120})/file"#,
    );
    for (format, options) in [
        ("gnu", "-S"),
        ("posix", "-S --xattrs"),
        ("posix", "-S --xattrs --sparse-version=0.1"),
        ("posix", "-S --xattrs --sparse-version=0.0"),
    ] {
        shell(
            work.path(),
            &format!("tar -cf t.tar --format={format} {options} -C t ."),
        );
        let tar = fs::read(work.path().join("t.tar")).unwrap();
        let (_directory, store) = store();
        let diff_id = ingest(&store, &tar);
        let stack = store.stack(&[diff_id]).unwrap();
        assert_eq!(content(&stack, "small"), b"small\n");
        assert_eq!(
            content(&stack, "large"),
            fs::read(work.path().join("t/large")).unwrap()
        );
        assert_eq!(content(&stack, "zeros"), vec![0; 2_000_000]);
        assert_eq!(
            content(&stack, "sparse"),
            fs::read(work.path().join("t/sparse")).unwrap()
        );
        let hole = stack.meta(stack.resolve(b"hole").unwrap());
        assert_eq!(hole.size, 1 << 30);
        let large = stack.meta(stack.resolve(b"large").unwrap());
        assert_eq!((large.uid, large.gid, large.nlink), (3_000_000, 12, 2));
        assert_eq!(stack.resolve(b"large"), stack.resolve(b"deep/hard"));
        assert_eq!(
            stack.link_target(stack.resolve(b"deep/soft").unwrap()),
            b"../small"
        );
        assert_eq!(
            stack.meta(stack.resolve(b"null").unwrap()).rdev,
            libc::makedev(1, 3)
        );
        assert_eq!(stack.meta(stack.resolve(b"fifo").unwrap()).kind, Kind::Fifo);
        assert_eq!(stack.meta(stack.resolve(b"small").unwrap()).mode, 0o4755);
        assert_eq!(content(&stack, "line\nbreak"), b"x\n");
        assert!(stack.lookup(Stack::ROOT, b"\xff\xfe").is_some());
        if format == "posix" {
            let old = stack.meta(stack.resolve(b"old").unwrap());
            assert_eq!(
                old.mtime,
                Timespec {
                    secs: -2,
                    nanos: 250_000_000
                }
            );
            let small = stack.resolve(b"small").unwrap();
            assert_eq!(
                stack.xattr(small, b"user.binary"),
                Some(&b"\x00\x0a\x0d\x3d\x00"[..])
            );
        }
        assert!(store.check().unwrap().is_empty());
    }
}

#[test]
fn compressed_blobs_are_told_by_their_first_bytes_and_checked() {
    let tar = Tar::new().dir("d").file("d/a", &[7; 100_000]).bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&tar[..], 1).unwrap();
    for blob in [&gzip, &zstd, &tar] {
        let (_directory, store) = store();
        let right = Expect {
            diff_id: Some(DiffId(Digest::of(&tar))),
            blob: Some(Digest::of(blob)),
            blob_size: Some(blob.len() as u64),
        };
        let wrong = Digest::of(b"wrong");
        let wrongs = [
            Expect {
                diff_id: Some(DiffId(wrong)),
                ..right
            },
            Expect {
                blob: Some(wrong),
                ..right
            },
            Expect {
                blob_size: Some(blob.len() as u64 - 1),
                ..right
            },
            Expect {
                blob_size: Some(blob.len() as u64 + 1),
                ..right
            },
        ];
        for wrong in wrongs {
            store.ingest(&blob[..], wrong).unwrap_err();
            assert_nothing_left(&store);
        }
        let half = &blob[..blob.len() / 2];
        let error = store.ingest(half, Expect::default()).unwrap_err();
        assert!(
            matches!(
                error,
                IngestError::Decompress(_) | IngestError::Truncated(_)
            ),
            "{error}"
        );
        assert_nothing_left(&store);
        let ingested = store.ingest(&blob[..], right).unwrap();
        assert_eq!(ingested.blob_size, blob.len() as u64);
        assert!(store.ingest(&blob[..], right).unwrap().already_present);
    }
    let mut corrupt = gzip;
    let middle = corrupt.len() - 6;
    corrupt[middle] ^= 0xff;
    let error = refused(&corrupt);
    assert!(error.contains("damaged"), "{error}");
}

#[test]
fn whiteouts_of_both_dialects_hide_lower_layers_and_no_siblings() {
    let (_directory, store) = store();
    let lower = ingest(
        &store,
        &Tar::new()
            .file("a", b"1")
            .file("b", b"1")
            .file("d/x", b"1")
            .file("d/y", b"1")
            .file("e/f/g", b"1")
            .bytes(),
    );
    let upper = ingest(
        &store,
        &Tar::new()
            .file("d/.wh..wh..opq", b"")
            .file("d/z", b"2")
            .file(".wh.a", b"")
            .file("a", b"2")
            .file(".wh.b", b"")
            .file(".wh..wh.plnk", b"")
            .entry("e/f/g", tar::EntryType::Char, "", b"")
            .bytes(),
    );
    let stack = store.stack(&[lower, upper]).unwrap();
    let names: Vec<&[u8]> = stack
        .children(Stack::ROOT)
        .map(|child| child.name)
        .collect();
    assert_eq!(names, [&b"a"[..], b"d", b"e"]);
    assert_eq!(content(&stack, "a"), b"2");
    assert!(stack.resolve(b"d/x").is_none() && stack.resolve(b"d/z").is_some());
    assert!(stack.resolve(b"e/f").is_some() && stack.resolve(b"e/f/g").is_none());
}

#[test]
fn hard_links_bind_forwards_backwards_and_into_lower_layers() {
    let (_directory, store) = store();
    let tar = Tar::new()
        .link("early", "a")
        .file("a", b"1")
        .link("late", "a")
        .file("a2", b"2");
    let lower = ingest(&store, &tar.bytes());
    let upper = ingest(
        &store,
        &Tar::new()
            .link("below", "a2")
            .link("chain", "below")
            .bytes(),
    );
    let stack = store.stack(&[lower, upper]).unwrap();
    let node = |path: &str| stack.resolve(path.as_bytes()).unwrap();
    assert_eq!(node("early"), node("a"));
    assert_eq!(node("late"), node("a"));
    assert_eq!(stack.meta(node("a")).nlink, 3);
    assert_eq!(node("below"), node("a2"));
    let dangling = ingest(&store, &Tar::new().link("x", "nowhere").bytes());
    let error = store.stack(&[lower, dangling]).unwrap_err().to_string();
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn hostile_tars_are_refused_with_a_name_and_leave_nothing() {
    for (tar, culprit) in [
        (Tar::new().file("../x", b""), "../x"),
        (Tar::new().file("a/../../x", b""), "a/../../x"),
        (
            Tar::new().symlink("s", "/etc").file("s/passwd", b""),
            "symbolic link",
        ),
        (
            Tar::new().file("f", b"").file("f/x", b""),
            "not a directory",
        ),
        (Tar::new().link("l", "../../etc/shadow"), "../../etc/shadow"),
        (Tar::new().link("a", "b").link("b", "a"), "circle"),
        (Tar::new().link("a", "a"), "itself"),
        (Tar::new().dir("d").link("l", "d"), "directory"),
        (
            Tar::new().entry("odd", tar::EntryType::new(b'~'), "", b""),
            "unknown type",
        ),
    ] {
        let error = refused(&tar.bytes());
        assert!(error.contains(culprit), "{error} does not name {culprit}");
    }
    assert!(
        refused(b"this is no tar at all, only text that goes on for a while").contains("a header")
    );
    assert!(refused(&[b'x'; 4096]).contains("not a tar"));
    let mut cut = Tar::new().file("file", &[1; 5000]).bytes();
    cut.truncate(2000);
    assert!(refused(&cut).contains("file"));
    let mut lying = tar::Header::new_gnu();
    lying.set_path("huge").unwrap();
    lying.set_size(1 << 62);
    lying.set_cksum();
    assert!(refused(lying.as_bytes()).contains("huge"));
}

#[test]
fn repeated_and_unordered_entries_end_as_tar_would_leave_them() {
    let (_directory, store) = store();
    let tar = Tar::new()
        .file("./p/q/file", b"1")
        .dir("p/")
        .file("/p/q/file", b"22")
        .file("was-dir/x", b"")
        .file("was-dir", b"now a file")
        .dir("p/q");
    let diff_id = ingest(&store, &tar.bytes());
    let stack = store.stack(&[diff_id]).unwrap();
    assert_eq!(content(&stack, "p/q/file"), b"22");
    assert_eq!(content(&stack, "was-dir"), b"now a file");
    assert_eq!(
        stack.meta(stack.resolve(b"p").unwrap()).mtime.secs,
        1_000_000_000
    );
}

#[test]
fn damage_is_named_and_garbage_is_collected() {
    let (directory, store) = store();
    let tar = Tar::new().file("big", &[9; 200_000]).bytes();
    let diff_id = ingest(&store, &tar);
    let object = fs::read_dir(directory.path().join("objects"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let mut bytes = fs::read(object.path()).unwrap();
    bytes[77] ^= 1;
    fs::write(object.path(), &bytes).unwrap();
    let faults = store.check().unwrap();
    assert_eq!(faults.len(), 1);
    assert!(
        faults[0]
            .to_string()
            .contains(&*object.file_name().to_string_lossy()),
        "{faults:?}"
    );
    store.remove_layer(&diff_id).unwrap();
    assert!(store.collect_garbage().unwrap() >= 200_000);
    assert_nothing_left(&store);
}
