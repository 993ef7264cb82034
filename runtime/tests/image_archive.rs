//! Images from and to archives: ours, skopeo's, podman's form, and hostile ones.

#![allow(missing_docs)]

mod support;

use std::io::Read;
use std::process::Command;
use std::process::Stdio;

use runtime::Engine;
use runtime::image::ArchiveFormat;
use runtime::image::ImageFilter;
use runtime::image::ImportOptions;
use runtime::image::ImportSource;
use runtime::progress::Silent;
use serde_json::json;
use support::archive;
use support::engine;
use support::layer;
use support::load_small;
use support::name;
use support::noise;
use support::run;

fn save(engine: &Engine, names: &[&str], format: ArchiveFormat) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut bytes = Vec::new();
    engine.save(&names, format, &mut bytes).unwrap();
    bytes
}

fn load(engine: &Engine, mut bytes: &[u8]) -> Result<Vec<String>, String> {
    let loaded = engine
        .load(&mut bytes, &Silent)
        .map_err(|error| error.to_string())?;
    Ok(loaded
        .iter()
        .flat_map(|image| image.tags.iter().map(ToString::to_string))
        .collect())
}

/// Loads what must fail; nothing may be left but garbage that no name leads to.
fn refused(bytes: &[u8]) -> String {
    let fixture = engine();
    let words = load(&fixture.engine, bytes).unwrap_err();
    assert!(
        fixture
            .engine
            .images(&ImageFilter::default())
            .unwrap()
            .is_empty()
    );
    let tmp = fixture.engine.root().join("tmp");
    assert_eq!(std::fs::read_dir(tmp).unwrap().count(), 0, "{words}");
    assert!(!words.contains('\n'), "{words}");
    words
}

#[test]
fn a_saved_image_loads_the_same_in_every_form() {
    let sender = engine();
    load_small(&sender.engine, "small:1");
    let image = sender.engine.image("small:1").unwrap();
    for format in [ArchiveFormat::DockerArchive, ArchiveFormat::OciArchive] {
        let bytes = save(&sender.engine, &["small:1"], format);
        assert_eq!(bytes, save(&sender.engine, &["small:1"], format));
        let zstd = zstd::encode_all(bytes.as_slice(), 1).unwrap();
        for bytes in [&bytes, &support::fake::gzip(&bytes), &zstd] {
            let receiver = engine();
            let tags = load(&receiver.engine, bytes).unwrap();
            assert_eq!(tags, ["docker.io/library/small:1"]);
            assert_eq!(receiver.engine.image("small:1").unwrap().id, image.id);
        }
    }
}

#[test]
fn skopeo_reads_what_is_saved_and_writes_what_is_loaded() {
    let fixture = engine();
    load_small(&fixture.engine, "small:1");
    let image = fixture.engine.image("small:1").unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (format, transport) in [
        (ArchiveFormat::DockerArchive, "docker-archive"),
        (ArchiveFormat::OciArchive, "oci-archive"),
    ] {
        let bytes = save(&fixture.engine, &["small:1"], format);
        let path = dir.path().join(transport);
        std::fs::write(&path, &bytes).unwrap();
        let source = format!("{transport}:{}", path.display());
        for (back, name) in [("docker-archive", ":back:1"), ("oci-archive", ":back:1")] {
            let copy = dir.path().join(format!("{transport}-{back}"));
            let target = format!("{back}:{}{name}", copy.display());
            run("skopeo", &["copy", "--quiet", &source, &target]);
            let receiver = engine();
            let loaded = receiver
                .engine
                .load(&mut std::fs::File::open(&copy).unwrap(), &Silent)
                .unwrap();
            assert_eq!(loaded.len(), 1);
            let copied = receiver.engine.image_by_id(&loaded[0].image).unwrap();
            assert_eq!(copied.layers, image.layers, "{transport} to {back}");
            assert_eq!(
                loaded[0].tags,
                [name.trim_start_matches(':').parse().unwrap()]
            );
        }
    }
    // From standard input too, as long as it is a file: skopeo 1.9 opens it twice, which no pipe can.
    let target = format!("dir:{}", dir.path().join("piped").display());
    let saved = std::fs::File::open(dir.path().join("docker-archive")).unwrap();
    let mut skopeo = Command::new("skopeo")
        .args(["copy", "--quiet", "docker-archive:/dev/stdin", &target])
        .stdin(Stdio::from(saved))
        .spawn()
        .unwrap();
    assert!(skopeo.wait().unwrap().success());
}

#[test]
fn umoci_unpacks_what_is_saved() {
    let fixture = engine();
    load_small(&fixture.engine, "small:1");
    let bytes = save(&fixture.engine, &["small:1"], ArchiveFormat::OciArchive);
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    std::fs::create_dir(&layout).unwrap();
    tar::Archive::new(bytes.as_slice()).unpack(&layout).unwrap();
    let bundle = dir.path().join("bundle");
    run(
        "umoci",
        &[
            "unpack",
            "--rootless",
            "--image",
            &format!("{}:1", layout.display()),
            bundle.to_str().unwrap(),
        ],
    );
    let motd = std::fs::read(bundle.join("rootfs/etc/motd")).unwrap();
    assert_eq!(motd, b"changed\n");
}

#[test]
fn several_images_share_their_layers_in_an_archive() {
    let fixture = engine();
    let base = layer(&[("base", &noise(5, 300_000))]);
    for (tag, top) in [("a:1", b"one"), ("a:2", b"two")] {
        let layers = [base.clone(), layer(&[("top", top)])];
        load(&fixture.engine, &archive(&[tag], &layers)).unwrap();
    }
    let bytes = save(&fixture.engine, &["a"], ArchiveFormat::DockerArchive);
    assert!(bytes.len() < 400_000);
    let receiver = engine();
    assert_eq!(load(&receiver.engine, &bytes).unwrap().len(), 2);
    // By its id an image has no name in the archive.
    let id = fixture.engine.image("a:1").unwrap().id.to_string();
    let receiver = engine();
    assert!(
        load(
            &receiver.engine,
            &save(&fixture.engine, &[&id], ArchiveFormat::DockerArchive)
        )
        .unwrap()
        .is_empty()
    );
    assert!(receiver.engine.image(&id).unwrap().is_dangling());
}

#[test]
fn old_archives_link_to_layers_they_have_twice() {
    let tar = layer(&[("a", b"a")]);
    let config = support::config(&[tar.clone(), tar.clone()])
        .to_string()
        .into_bytes();
    let manifest = json!([{"Config": "c.json", "RepoTags": ["twice:1"], "Layers": ["one/layer.tar", "two/layer.tar"]}]);
    let mut outer = tar::Builder::new(Vec::new());
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    outer
        .append_link(&mut link, "two/layer.tar", "../one/layer.tar")
        .unwrap();
    for (name, bytes) in [
        ("one/layer.tar", tar),
        ("c.json", config),
        ("manifest.json", manifest.to_string().into_bytes()),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        outer
            .append_data(&mut header, name, bytes.as_slice())
            .unwrap();
    }
    let fixture = engine();
    load(&fixture.engine, &outer.into_inner().unwrap()).unwrap();
    assert_eq!(fixture.engine.image("twice:1").unwrap().layers.len(), 2);
}

#[test]
fn a_tag_that_moves_leaves_the_old_image_without_a_name() {
    let fixture = engine();
    load(
        &fixture.engine,
        &archive(&["a:1"], &[layer(&[("x", b"1")])]),
    )
    .unwrap();
    let old = fixture.engine.image("a:1").unwrap().id;
    let events = support::Recorder::default();
    let bytes = archive(&["a:1"], &[layer(&[("x", b"2")])]);
    fixture.engine.load(&mut bytes.as_slice(), &events).unwrap();
    assert_eq!(
        events.messages(),
        [format!(
            "The image a:1 already exists, renaming the old one with ID {old} to empty string"
        )]
    );
    assert!(fixture.engine.image_by_id(&old).unwrap().is_dangling());
}

#[test]
fn archives_that_are_none_are_refused() {
    let good = archive(&["a:1"], &[layer(&[("x", &noise(9, 100_000))])]);
    refused(b"hello world, this is not a tar archive at all");
    assert_eq!(refused(&noise(1, 4096)), "archive/tar: invalid tar header");
    refused(&[]);
    refused(&[0; 10240]);
    for cut in [100, 512, 1000, 50_000, good.len() - 3000] {
        refused(&good[..cut]);
    }
    refused(&support::fake::gzip(&good)[..2000]);
    let entry = |name: &str, bytes: &[u8]| layer(&[(name, bytes)]);
    refused(&entry("manifest.json", b"{}"));
    refused(&entry("manifest.json", b"[{}]"));
    refused(&entry(
        "manifest.json",
        b"[{\"Config\":\"../../../etc/passwd\"}]",
    ));
    refused(&entry("manifest.json", b"[{\"Config\":\"/etc/passwd\"}]"));
    refused(&entry("manifest.json", "[".repeat(100_000).as_bytes()));
    refused(&entry(
        "index.json",
        b"{\"manifests\": [{\"digest\": \"sha256:../x\", \"size\": 1}]}",
    ));
    refused(&entry("oci-layout", b"{}"));
}

#[test]
fn archives_that_lie_are_refused() {
    let tar = layer(&[("x", b"x")]);
    let other = layer(&[("y", b"y")]);
    let config = support::config(std::slice::from_ref(&tar))
        .to_string()
        .into_bytes();
    let with = |layer_bytes: &[u8], manifest: serde_json::Value| {
        layer(&[
            ("l/layer.tar", layer_bytes),
            ("c.json", &config),
            ("manifest.json", manifest.to_string().as_bytes()),
        ])
    };
    let manifest = |layers: &[&str], tag: &str| json!([{"Config": "c.json", "RepoTags": [tag], "Layers": layers}]);
    assert!(
        refused(&with(&other, manifest(&["l/layer.tar"], "a:1")))
            .contains("invalid diffID for layer")
    );
    assert!(
        refused(&with(&tar, manifest(&[], "a:1")))
            .contains("layers length mismatch: expected 1, got 0")
    );
    assert!(refused(&with(&other, manifest(&["nosuch"], "a:1"))).contains("nosuch is not in it"));
    for tag in ["A:1", "a", "a:1:2", "\u{1b}[31m:1", "a@sha256:00"] {
        assert!(
            refused(&with(&tar, manifest(&["l/layer.tar"], tag))).contains("invalid tag"),
            "{tag}"
        );
    }
    // One good image and one bad: none is added.
    let two = json!([
        {"Config": "c.json", "RepoTags": ["good:1"], "Layers": ["l/layer.tar"]},
        {"Config": "c.json", "RepoTags": ["bad:1"], "Layers": []},
    ]);
    refused(&with(&tar, two));
}

#[test]
fn a_tarball_is_imported_with_changes() {
    let fixture = engine();
    let tar = layer(&[("etc/motd", b"imported\n")]);
    for bytes in [
        tar.clone(),
        support::fake::gzip(&tar),
        zstd::encode_all(tar.as_slice(), 1).unwrap(),
    ] {
        let mut reader: &[u8] = &bytes;
        let reader: &mut (dyn Read + Send) = &mut reader;
        let options = ImportOptions {
            reference: Some(name("imported")),
            changes: vec!["CMD [\"cat\", \"/etc/motd\"]".into(), "ENV A=b".into()],
            message: "by hand".into(),
            platform: None,
        };
        let id = fixture
            .engine
            .import(ImportSource::Stream(reader, "-".into()), &options)
            .unwrap();
        let image = fixture.engine.image("imported:latest").unwrap();
        assert_eq!(image.id, id);
        assert_eq!(image.layers.len(), 1);
        let config = image.config.config().clone().unwrap();
        assert_eq!(config.cmd().clone().unwrap(), ["cat", "/etc/motd"]);
        assert_eq!(config.env().clone().unwrap(), ["A=b"]);
        let history = fixture.engine.history("imported").unwrap();
        assert_eq!(history.len(), 1);
        assert_eq!(history[0].comment, "by hand");
        assert_eq!(history[0].size, 9);
    }
    let fake = support::fake::Fake::start(move |_| support::fake::Answer::new(200, tar.clone()));
    fixture
        .engine
        .import(
            ImportSource::Url(format!("http://{}/x.tar", fake.address)),
            &ImportOptions::default(),
        )
        .unwrap();
    let mut garbage: &[u8] = b"no tar";
    let bad = fixture.engine.import(
        ImportSource::Stream(&mut garbage, "-".into()),
        &ImportOptions::default(),
    );
    assert!(bad.is_err());
}
