//! Names of images: finding, tagging, removing, pruning, and what is left on disk.

#![allow(missing_docs)]

mod support;

use runtime::Engine;
use runtime::image::ImageFilter;
use runtime::image::Removal;
use runtime::progress::Silent;
use support::Registry;
use support::archive;
use support::engine;
use support::layer;
use support::load_small;
use support::name;
use support::noise;
use support::pull_options;
use support::push_options;

fn load(engine: &Engine, tags: &[&str], layers: &[Vec<u8>]) {
    engine
        .load(&mut archive(tags, layers).as_slice(), &Silent)
        .unwrap();
}

fn words(engine: &Engine, image: &str) -> String {
    engine.image(image).unwrap_err().to_string()
}

/// What lies under the root beside the database and locks.
fn files(engine: &Engine) -> Vec<String> {
    let mut found = Vec::new();
    for directory in ["layers", "stacks", "objects", "blobs/sha256", "tmp"] {
        for entry in std::fs::read_dir(engine.root().join(directory)).unwrap() {
            found.push(format!(
                "{directory}/{}",
                entry.unwrap().file_name().display()
            ));
        }
    }
    found
}

#[test]
fn an_image_is_found_by_name_id_and_prefix() {
    let fixture = engine();
    let engine = &fixture.engine;
    load_small(engine, "small:latest");
    let id = engine.image("small").unwrap().id;
    let hex = id.0.hex();
    for name in [
        "small",
        "small:latest",
        "docker.io/library/small",
        &id.to_string(),
        &hex,
        &hex[..12],
        &hex[..3],
        &format!("sha256:{}", &hex[..10]),
    ] {
        assert_eq!(engine.image(name).unwrap().id, id, "{name}");
    }
    assert_eq!(
        words(engine, "nosuchimage"),
        "No such image: nosuchimage:latest"
    );
    assert_eq!(words(engine, "small:2"), "No such image: small:2");
    assert_eq!(
        words(engine, "ffffffffffff"),
        "No such image: ffffffffffff:latest"
    );
    assert_eq!(
        words(engine, "Small"),
        "invalid reference format: repository name (library/Small) must be lowercase"
    );
    assert_eq!(words(engine, ""), "invalid reference format");
    assert_eq!(words(engine, "a%"), "invalid reference format");
    // A name wins over an id's start.
    engine.tag("small", &name(&hex[..4])).unwrap();
    load(engine, &["other:1"], &[layer(&[("o", b"o")])]);
    engine.tag("other:1", &name(&hex[..4])).unwrap();
    assert_eq!(
        engine.image(&hex[..4]).unwrap().id,
        engine.image("other:1").unwrap().id
    );
}

#[test]
fn removing_one_of_several_names_only_untags() {
    let fixture = engine();
    let engine = &fixture.engine;
    load_small(engine, "a:1");
    engine.tag("a:1", &name("b:2")).unwrap();
    let id = engine.image("a:1").unwrap().id;
    assert_eq!(
        engine.remove_image("a:1", false).unwrap(),
        [Removal::Untagged("a:1".into())]
    );
    assert_eq!(engine.image("b:2").unwrap().id, id);
    engine.tag("b:2", &name("a:1")).unwrap();
    let error = engine.remove_image(&id.to_string(), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            id.short()
        )
    );
    let removals = engine.remove_image(&id.to_string(), true).unwrap();
    assert_eq!(
        removals[..2],
        [
            Removal::Untagged("a:1".into()),
            Removal::Untagged("b:2".into())
        ]
    );
    assert_eq!(removals[2], Removal::Deleted(id.0));
    assert_eq!(removals.len(), 5);
    assert_eq!(files(engine), Vec::<String>::new());
}

#[test]
fn layers_that_another_image_needs_stay() {
    let fixture = engine();
    let engine = &fixture.engine;
    let base = layer(&[("base", &noise(5, 300_000))]);
    load(engine, &["a:1"], &[base.clone(), layer(&[("top", b"one")])]);
    load(engine, &["a:2"], &[base.clone(), layer(&[("top", b"two")])]);
    engine.remove_image("a:1", false).unwrap();
    assert_eq!(engine.store().layers().unwrap().len(), 2);
    let image = engine.image("a:2").unwrap();
    engine.store().stack(&image.layers).unwrap();
    engine.remove_image("a:2", false).unwrap();
    assert_eq!(files(engine), Vec::<String>::new());
}

#[test]
fn a_pulled_image_goes_with_its_digest() {
    let registry = Registry::start();
    let sender = engine();
    let reference = registry.image("r/x:1");
    load_small(&sender.engine, &reference.to_string());
    let pushed = sender
        .engine
        .push(&reference, &push_options(), &Silent)
        .unwrap();
    let fixture = engine();
    let engine = &fixture.engine;
    engine.pull(&reference, &pull_options(), &Silent).unwrap();
    let pinned = format!("{}/r/x@{}", registry.address, pushed.digest);
    assert_eq!(
        engine.image(&pinned).unwrap().id,
        engine.image(&reference.to_string()).unwrap().id
    );
    let removals = engine.remove_image(&reference.to_string(), false).unwrap();
    assert_eq!(
        removals[..2],
        [
            Removal::Untagged(reference.to_string()),
            Removal::Untagged(pinned)
        ]
    );
    assert_eq!(files(engine), Vec::<String>::new());
    // And by digest alone.
    let by_digest = reference.with_digest(pushed.digest);
    engine.pull(&by_digest, &pull_options(), &Silent).unwrap();
    let image = engine.image(&by_digest.to_string()).unwrap();
    assert!(image.is_dangling());
    engine.remove_image(&by_digest.to_string(), false).unwrap();
    assert_eq!(files(engine), Vec::<String>::new());
}

#[test]
fn images_are_filtered() {
    let fixture = engine();
    let engine = &fixture.engine;
    load(
        engine,
        &["red/one:1", "red/one:2"],
        &[layer(&[("x", b"1")])],
    );
    load(engine, &["blue:1"], &[layer(&[("x", b"2")])]);
    load(engine, &["blue:1"], &[layer(&[("x", b"3")])]);
    let count = |filters: &[&str]| {
        let mut filter = ImageFilter::default();
        for one in filters {
            filter.add(one).unwrap();
        }
        engine.images(&filter).unwrap().len()
    };
    assert_eq!(count(&[]), 3);
    assert_eq!(count(&["dangling=true"]), 1);
    assert_eq!(count(&["dangling=false"]), 2);
    assert_eq!(count(&["reference=red/*"]), 1);
    assert_eq!(count(&["reference=red/one:1"]), 1);
    assert_eq!(count(&["reference=blue"]), 1);
    assert_eq!(count(&["reference=green"]), 0);
    assert_eq!(count(&["label=made"]), 3);
    assert_eq!(count(&["label=made=by hand"]), 3);
    assert_eq!(count(&["label=made=otherwise"]), 0);
    assert_eq!(count(&["before=blue:1"]), 0);
    assert_eq!(count(&["until=2024-01-01"]), 0);
    assert_eq!(count(&["until=24h"]), 3);
}

#[test]
fn prune_takes_what_has_no_name_and_with_all_the_rest() {
    let fixture = engine();
    let engine = &fixture.engine;
    load(engine, &["a:1"], &[layer(&[("x", &noise(2, 1000))])]);
    load(engine, &["a:1"], &[layer(&[("x", &noise(3, 2000))])]);
    let pruned = engine.prune_images(false, &ImageFilter::default()).unwrap();
    assert_eq!(pruned.freed, 1000);
    assert_eq!(pruned.removals.len(), 2);
    engine.image("a:1").unwrap();
    let pruned = engine.prune_images(true, &ImageFilter::default()).unwrap();
    assert_eq!(pruned.freed, 2000);
    assert_eq!(pruned.removals[0], Removal::Untagged("a:1".into()));
    assert_eq!(files(engine), Vec::<String>::new());
}

#[test]
fn removing_beside_pulling_never_leaves_an_image_without_its_layers() {
    let registry = Registry::start();
    let sender = engine();
    for round in 0..3 {
        let base = layer(&[("base", &noise(1, 400_000))]);
        let top = layer(&[("top", &noise(round + 10, 200_000))]);
        let reference = registry.image(&format!("x:{round}"));
        load(&sender.engine, &[&reference.to_string()], &[base, top]);
        sender
            .engine
            .push(&reference, &push_options(), &Silent)
            .unwrap();
    }
    let fixture = engine();
    std::thread::scope(|scope| {
        for round in 0..3 {
            let reference = registry.image(&format!("x:{round}"));
            let dir = fixture.dir.path();
            scope.spawn(move || {
                // Each its own engine, as separate processes have.
                let engine = support::open(dir);
                for _ in 0..8 {
                    engine.pull(&reference, &pull_options(), &Silent).unwrap();
                    let image = engine.image(&reference.to_string()).unwrap();
                    let stack = engine.store().stack(&image.layers).unwrap();
                    assert!(stack.resolve(b"base").is_some());
                    engine.remove_image(&reference.to_string(), false).unwrap();
                }
            });
        }
    });
    let engine = support::open(fixture.dir.path());
    engine.prune_images(true, &ImageFilter::default()).unwrap();
    assert_eq!(files(&engine), Vec::<String>::new());
}

#[test]
fn inspect_has_dockers_shape() {
    let fixture = engine();
    load_small(&fixture.engine, "small:1");
    let shown = fixture.engine.inspect_image("small:1").unwrap();
    let image = fixture.engine.image("small:1").unwrap();
    assert_eq!(shown["Id"], image.id.to_string());
    assert_eq!(shown["RepoTags"], serde_json::json!(["small:1"]));
    assert_eq!(shown["RepoDigests"], serde_json::json!([]));
    assert_eq!(shown["Created"], "2024-01-02T03:04:05Z");
    assert_eq!(shown["Config"]["Cmd"], serde_json::json!(["sh"]));
    assert_eq!(shown["Config"]["Entrypoint"], serde_json::Value::Null);
    assert_eq!(shown["Architecture"], "amd64");
    assert_eq!(shown["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    assert_eq!(shown["Size"], 6 + 200_000 + 8);
}

#[test]
fn history_tells_each_step_with_the_size_of_its_layer() {
    let fixture = engine();
    load_small(&fixture.engine, "small:1");
    let history = fixture.engine.history("small:1").unwrap();
    let steps: Vec<(&str, u64)> = history
        .iter()
        .map(|step| (step.created_by.as_str(), step.size))
        .collect();
    assert_eq!(steps, [("step 1", 8), ("step 0", 200_006)]);
    assert!(history[0].image.is_some() && history[1].image.is_none());
}
