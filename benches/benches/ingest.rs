//! Ingest: a layer's tar into index, pack and objects, against `tar x` of the same bytes.
//!
//! The tar is the host's /usr/share; both sides read it from the page cache.
#![allow(missing_docs)]

use std::fs::File;
use std::io::BufReader;
use std::process::Command;

use criterion::BatchSize;
use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use layerfs::Expect;
use layerfs::Store;

fn ingest(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let tar = dir.path().join("share.tar");
    let status = Command::new("tar")
        .args(["-C", "/usr", "--warning=none", "-cf"])
        .arg(&tar)
        .arg("share")
        .status()
        .expect("tar runs");
    assert!(status.success());
    let listed = Command::new("tar")
        .arg("-tf")
        .arg(&tar)
        .output()
        .expect("tar runs");
    let entries = listed.stdout.iter().filter(|byte| **byte == b'\n').count() as u64;
    let bytes = tar.metadata().expect("a tar").len();
    println!("{entries} entries, {} MB", bytes / 1_000_000);
    for (unit, throughput) in [
        ("bytes", Throughput::Bytes(bytes)),
        ("files", Throughput::Elements(entries)),
    ] {
        let mut group = criterion.benchmark_group(format!("ingest/{unit}"));
        group.throughput(throughput);
        group.bench_function("ply", |bencher| {
            bencher.iter_batched(
                || tempfile::tempdir_in(dir.path()).expect("a directory"),
                |root| {
                    let store = Store::open(root.path()).expect("a store");
                    let file = BufReader::new(File::open(&tar).expect("the tar"));
                    store.ingest(file, Expect::default()).expect("a layer");
                    root
                },
                BatchSize::PerIteration,
            );
        });
        group.bench_function("tar x", |bencher| {
            bencher.iter_batched(
                || tempfile::tempdir_in(dir.path()).expect("a directory"),
                |root| {
                    let status = Command::new("tar")
                        .arg("-C")
                        .arg(root.path())
                        .arg("-xf")
                        .arg(&tar)
                        .status();
                    assert!(status.expect("tar runs").success());
                    root
                },
                BatchSize::PerIteration,
            );
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = ingest
}
criterion_main!(benches);
