//! The layer parser against damaged input: valid layers with random bytes changed, cut out, doubled or cut off, plain
//! and compressed. Whatever comes, ingest ends with a layer that is whole or with an error, and leaves nothing else.
//!
//! `PLY_FUZZ_CASES=1000000 cargo test --release -p layerfs --test hostile_layers` goes on for long.

use std::fs;
use std::io::Cursor;
use std::io::Read;
use std::io::Write;

use layerfs::Expect;
use layerfs::Store;
use proptest::prelude::*;

/// A damage to do to bytes; positions are parts of 65536 of the length.
#[derive(Debug, Clone)]
enum Damage {
    Change(u16, u8),
    /// Digits where numbers are: sizes that lie are the parser's worst enemy.
    Digits(u16, u8),
    Remove(u16, u16),
    Double(u16, u16),
    CutOff(u16),
    Insert(u16, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<u16>(), any::<u8>()).prop_map(|(at, byte)| Damage::Change(at, byte)),
        4 => (any::<u16>(), b'0'..=b'9').prop_map(|(at, byte)| Damage::Digits(at, byte)),
        1 => (any::<u16>(), 1u16..2000).prop_map(|(at, length)| Damage::Remove(at, length)),
        1 => (any::<u16>(), 1u16..2000).prop_map(|(at, length)| Damage::Double(at, length)),
        1 => any::<u16>().prop_map(Damage::CutOff),
        1 => (any::<u16>(), prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    let place = |at: u16| usize::from(at) * bytes.len() / 65536;
    match damage {
        Damage::Change(at, byte) | Damage::Digits(at, byte) => {
            let at = place(*at);
            bytes[at] = *byte;
        }
        Damage::Remove(at, length) => {
            let at = place(*at);
            let end = bytes.len().min(at + usize::from(*length));
            bytes.drain(at..end);
        }
        Damage::Double(at, length) => {
            let at = place(*at);
            let end = bytes.len().min(at + usize::from(*length));
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        Damage::CutOff(at) => bytes.truncate(place(*at)),
        Damage::Insert(at, inserted) => {
            let at = place(*at);
            bytes.splice(at..at, inserted.iter().copied());
        }
    }
}

/// A small layer with one of everything: long names, PAX records, links, devices, sparse files, whiteouts.
fn seed() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, link: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(1000);
        header.set_gid(1000);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        header.set_device_major(1).expect("a number");
        header.set_device_minor(3).expect("a number");
        match link {
            "" => tar.append_data(&mut header, name, content),
            link => tar.append_link(&mut header, name, link),
        }
        .expect("an entry");
    };
    use tar::EntryType;
    add("dir/", EntryType::Directory, "", b"");
    add("dir/file", EntryType::Regular, "", b"content");
    add(&"long/".repeat(40), EntryType::Directory, "", b"");
    add("dir/link", EntryType::Symlink, "file", b"");
    add("dir/hard", EntryType::Link, "dir/file", b"");
    add("dir/device", EntryType::Char, "", b"");
    add("dir/pipe", EntryType::Fifo, "", b"");
    add("dir/.wh.gone", EntryType::Regular, "", b"");
    add("dir/.wh..wh..opq", EntryType::Regular, "", b"");
    add("large", EntryType::Regular, "", &[7; 70_000]);
    tar.append_pax_extensions([
        ("SCHILY.xattr.user.note", &b"value\0\xff"[..]),
        ("mtime", b"1700000000.123456789"),
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", b"1000000"),
    ])
    .expect("records");
    let mut header = tar::Header::new_ustar();
    let mut content = b"1\n500000\n5\n".to_vec();
    content.resize(512, 0);
    content.extend_from_slice(b"bytes");
    header.set_size(content.len() as u64);
    header.set_path("GNUSparseFile.0/sparse").expect("a name");
    header.set_cksum();
    tar.append(&header, &content[..]).expect("an entry");
    tar.into_inner().expect("a tar")
}

/// Makes the headers' checksums right again, or nothing behind them would ever be reached.
fn mend_checksums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

fn cases() -> u32 {
    let wanted = std::env::var("PLY_FUZZ_CASES").ok();
    wanted.and_then(|cases| cases.parse().ok()).unwrap_or(1000)
}

fn is_empty(path: &std::path::Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

fn check(bytes: &[u8], plain: Option<&[u8]>) -> Result<(), TestCaseError> {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(directory.path()).expect("a store");
    match store.ingest(Cursor::new(bytes), Expect::default()) {
        Ok(ingested) => {
            let mut back = Vec::new();
            let layer = store.layer(&ingested.diff_id).expect("the layer");
            layer.tar().read_to_end(&mut back).expect("the tar");
            if let Some(plain) = plain {
                prop_assert!(back == plain, "the tar does not come back");
            }
            prop_assert!(store.check().expect("a check").is_empty());
            // A link to what no layer has is found out here.
            let _ = store.stack(&[ingested.diff_id]);
        }
        Err(error) => {
            prop_assert!(!error.to_string().is_empty());
            prop_assert!(is_empty(&directory.path().join("layers")));
            prop_assert!(is_empty(&directory.path().join("objects")));
        }
    }
    prop_assert!(is_empty(&directory.path().join("tmp")));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn a_damaged_tar_is_taken_whole_or_refused(damages in prop::collection::vec(damage(), 1..8), mend in any::<bool>()) {
        let mut bytes = seed();
        damages.iter().for_each(|damage| apply(&mut bytes, damage));
        if mend {
            mend_checksums(&mut bytes);
        }
        // What does not look like a compressed blob is taken as a tar, byte for byte.
        let is_plain = !bytes.starts_with(&[0x1f, 0x8b]) && !bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
        check(&bytes, is_plain.then_some(&bytes[..]))?;
    }

    #[test]
    fn a_damaged_blob_is_taken_whole_or_refused(damages in prop::collection::vec(damage(), 1..4), zstd in any::<bool>()) {
        let tar = seed();
        let mut bytes = match zstd {
            true => zstd::encode_all(&tar[..], 3).expect("zstd"),
            false => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&tar).expect("gzip");
                encoder.finish().expect("gzip")
            }
        };
        damages.iter().for_each(|damage| apply(&mut bytes, damage));
        check(&bytes, None)?;
    }
}
