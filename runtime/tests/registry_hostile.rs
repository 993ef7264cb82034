//! Registries that break off, stall, lie and send in circles.

#![allow(missing_docs)]

mod support;

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use layerfs::Digest;
use runtime::Engine;
use runtime::image::ImageFilter;
use runtime::image::PullOptions;
use runtime::progress::LayerStatus;
use runtime::progress::Silent;
use runtime::reference::Reference;
use serde_json::json;
use support::Recorder;
use support::engine;
use support::fake::Answer;
use support::fake::Fake;
use support::fake::Parts;
use support::fake::Request;
use support::fake::gzip;
use support::fake::range_start;
use support::pull_options;
use support::settings;

/// Serves `parts`, except where `odd` has an answer of its own.
fn serve(parts: &Parts, odd: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) -> Fake {
    let parts = parts.clone();
    Fake::start(move |request| odd(request).unwrap_or_else(|| parts.answer(request)))
}

fn pull(engine: &Engine, reference: &Reference) -> Result<(), String> {
    engine
        .pull(reference, &pull_options(), &Silent)
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// Pulls what must fail; checks that nothing is left behind and returns the words.
fn refused(fake: &Fake) -> String {
    let fixture = engine();
    let words = pull(&fixture.engine, &fake.image("x:1")).unwrap_err();
    assert!(
        fixture
            .engine
            .images(&ImageFilter::default())
            .unwrap()
            .is_empty()
    );
    assert!(
        fixture
            .engine
            .image(&fake.image("x:1").to_string())
            .is_err()
    );
    let tmp = fixture.engine.root().join("tmp");
    assert_eq!(std::fs::read_dir(tmp).unwrap().count(), 0, "{words}");
    assert!(!words.contains('\n'), "{words}");
    words
}

#[test]
fn a_blob_that_breaks_off_is_resumed_where_it_broke() {
    let parts = Parts::small();
    let (digest, blob) = (parts.layer_digest(0), parts.layers[0].clone());
    let fake = serve(&parts, move |request| {
        if !request.path.ends_with(&digest) {
            return None;
        }
        let start = range_start(request).unwrap_or(0);
        let piece = blob[start..].to_vec();
        let range = format!("bytes {start}-{}/{}", blob.len() - 1, blob.len());
        let status = if start == 0 { 200 } else { 206 };
        let answer = Answer::new(status, piece).header("Content-Range", range);
        Some(match request.nth {
            0..3 => answer.cut(50_000),
            _ => answer,
        })
    });
    let fixture = engine();
    let events = Recorder::default();
    fixture
        .engine
        .pull(&fake.image("x:1"), &pull_options(), &events)
        .unwrap();
    let starts: Vec<Option<usize>> = fake
        .requests()
        .iter()
        .filter(|request| request.path.ends_with(&parts.layer_digest(0)))
        .map(range_start)
        .collect();
    assert_eq!(starts, [None, Some(50_000), Some(100_000), Some(150_000)]);
    assert_eq!(events.count(&LayerStatus::Retrying { seconds: 1 }), 3);
    assert_eq!(events.count(&LayerStatus::PullComplete), 2);
}

#[test]
fn a_registry_without_ranges_sends_all_again_and_the_known_part_is_skipped() {
    let parts = Parts::small();
    let digest = parts.layer_digest(0);
    let good = parts.clone();
    let fake = serve(&parts, move |request| {
        let breaks = request.path.ends_with(&digest) && request.nth < 2;
        breaks.then(|| good.answer(request).cut(120_000 * (request.nth + 1)))
    });
    let fixture = engine();
    pull(&fixture.engine, &fake.image("x:1")).unwrap();
}

#[test]
fn a_blob_that_breaks_off_at_the_same_byte_each_time_fails() {
    let parts = Parts::small();
    let digest = parts.layer_digest(0);
    let good = parts.clone();
    let fake = serve(&parts, move |request| {
        request
            .path
            .ends_with(&digest)
            .then(|| good.answer(request).cut(1000))
    });
    let words = refused(&fake);
    assert!(words.contains("EOF"), "{words}");
    assert!(fake.count("GET", &parts.layer_digest(0)) <= 8);
}

#[test]
fn another_range_than_asked_for_is_refused() {
    let parts = Parts::small();
    let (digest, blob) = (parts.layer_digest(0), parts.layers[0].clone());
    let fake = serve(&parts, move |request| {
        request.path.ends_with(&digest).then(|| match request.nth {
            0 => Answer::new(200, blob.clone()).cut(1000),
            _ => Answer::new(206, blob[500..].to_vec()).header(
                "Content-Range",
                format!("bytes 500-{}/{}", blob.len() - 1, blob.len()),
            ),
        })
    });
    assert!(refused(&fake).contains("another range"));
}

#[test]
fn a_registry_that_stalls_is_given_up_in_time() {
    let parts = Parts::small();
    let digest = parts.layer_digest(0);
    let good = parts.clone();
    let fake = serve(&parts, move |request| {
        request
            .path
            .ends_with(&digest)
            .then(|| good.answer(request).stall(5000))
    });
    let fixture = engine();
    let options = PullOptions {
        registry: runtime::registry::Settings {
            idle_timeout: Duration::from_millis(200),
            ..settings()
        },
        ..pull_options()
    };
    let start = Instant::now();
    let error = fixture
        .engine
        .pull(&fake.image("x:1"), &options, &Silent)
        .unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(error.to_string().contains("timeout"), "{error}");
}

#[test]
fn a_registry_that_never_answers_is_given_up_in_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let fixture = engine();
    let options = PullOptions {
        registry: runtime::registry::Settings {
            idle_timeout: Duration::from_millis(200),
            ..settings()
        },
        ..pull_options()
    };
    let start = Instant::now();
    let reference = support::name(&format!("{address}/x"));
    let error = fixture
        .engine
        .pull(&reference, &options, &Silent)
        .unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(
        error.to_string(),
        format!("Get \"http://{address}/v2/\": read tcp {address}: i/o timeout")
    );
}

#[test]
fn a_closed_port_is_told_in_dockers_words() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let fixture = engine();
    let words = pull(
        &fixture.engine,
        &support::name(&format!("127.0.0.1:{port}/x")),
    )
    .unwrap_err();
    assert_eq!(
        words,
        format!(
            "Get \"http://127.0.0.1:{port}/v2/\": dial tcp 127.0.0.1:{port}: connect: connection refused"
        )
    );
}

#[test]
fn redirects_in_circles_end() {
    let fake = Fake::start(|request| match request.path.as_str() {
        "/v2/" => Answer::new(200, "{}"),
        path => Answer::new(307, "").header("Location", path.to_owned()),
    });
    assert!(refused(&fake).contains("stopped after 10 redirects"));
    let nowhere = Fake::start(|request| match request.path.as_str() {
        "/v2/" => Answer::new(200, "{}"),
        _ => Answer::new(302, "").header("Location", "file:///etc/passwd"),
    });
    refused(&nowhere);
}

#[test]
fn a_login_is_not_sent_on_to_another_host() {
    let parts = Parts::small();
    let good = parts.clone();
    let storage = Arc::new(Fake::start(move |request| good.answer(request)));
    let elsewhere = storage.address.clone();
    let fake = serve(&parts, move |request| {
        if request.header("authorization") != Some("Basic bWU6c2VjcmV0") {
            return Some(
                Answer::error(401, "UNAUTHORIZED", "authentication required")
                    .header("WWW-Authenticate", "Basic realm=\"x\""),
            );
        }
        request.path.contains("/blobs/").then(|| {
            Answer::new(307, "").header("Location", format!("http://{elsewhere}{}", request.path))
        })
    });
    let fixture = engine();
    let config = fixture.dir.path().join("config.json");
    let auths = json!({"auths": {fake.address.clone(): {"auth": "bWU6c2VjcmV0"}}});
    std::fs::write(&config, auths.to_string()).unwrap();
    let mut options = pull_options();
    options.registry.docker_config = Some(config);
    fixture
        .engine
        .pull(&fake.image("x:1"), &options, &Silent)
        .unwrap();
    let forwarded = storage.requests();
    assert_eq!(forwarded.len(), 3);
    assert!(
        forwarded
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
}

#[test]
fn errors_of_the_registry_are_told_in_dockers_words() {
    let words = |status: u16, code: &'static str, message: &'static str| {
        let fake = Fake::start(move |request| match request.path.as_str() {
            "/v2/" => Answer::new(200, "{}"),
            _ => Answer::error(status, code, message),
        });
        let address = fake.address.clone();
        refused(&fake).replace(&address, "REGISTRY")
    };
    assert_eq!(
        words(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        "manifest for REGISTRY/x:1 not found: manifest unknown: manifest unknown"
    );
    assert_eq!(
        words(404, "NAME_UNKNOWN", "repository name not known to registry"),
        "repository REGISTRY/x not found: name unknown: repository name not known to registry"
    );
    assert_eq!(
        words(403, "DENIED", "requested access to the resource is denied"),
        "pull access denied for REGISTRY/x, repository does not exist or may require 'docker login': \
         denied: requested access to the resource is denied"
    );
    assert_eq!(
        words(400, "EVIL", "\u{1b}[31mred\nline"),
        "evil: \\u{1b}[31mred\\nline"
    );
}

#[test]
fn busy_and_broken_registries_are_tried_again_but_not_for_ever() {
    let parts = Parts::small();
    for (status, header) in [(429, Some("0")), (500, None), (503, Some("0")), (502, None)] {
        let fake = serve(&parts, move |request| {
            (request.nth < 2 && request.path != "/v2/").then(|| {
                let answer = Answer::new(status, "busy");
                match header {
                    Some(value) => answer.header("Retry-After", value),
                    None => answer,
                }
            })
        });
        pull(&engine().engine, &fake.image("x:1")).unwrap();
        let fake = serve(&parts, move |request| {
            (request.path != "/v2/").then(|| Answer::new(status, "busy"))
        });
        let words = refused(&fake);
        let expected = match status {
            429 => "toomanyrequests: too many requests".to_owned(),
            _ => format!("received unexpected HTTP status: {status}"),
        };
        assert!(words.starts_with(&expected), "{words}");
        assert_eq!(fake.count("GET", "/manifests/1"), 4);
    }
    // Nobody waits an hour.
    let fake = serve(&parts, |request| {
        (request.path != "/v2/").then(|| Answer::new(429, "").header("Retry-After", "3600"))
    });
    let start = Instant::now();
    refused(&fake);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn manifests_that_are_not_what_was_asked_for_are_refused() {
    let parts = Parts::small();
    let good = Digest::of(&parts.manifest_bytes());
    let other = Digest::of(b"other");
    // By digest.
    let fake = serve(&parts, |_| None);
    let fixture = engine();
    let words = pull(&fixture.engine, &fake.image("x").with_digest(other)).unwrap_err();
    assert!(words.contains("verification failed"), "{words}");
    pull(&fixture.engine, &fake.image("x").with_digest(good)).unwrap();
    let image = fixture
        .engine
        .image(&fake.image("x").with_digest(good).to_string())
        .unwrap();
    assert!(image.tags.is_empty());
    // By the registry's own word.
    let bytes = parts.manifest_bytes();
    let fake = serve(&parts, move |request| {
        request.path.contains("/manifests/").then(|| {
            Answer::new(200, bytes.clone()).header("Docker-Content-Digest", other.to_string())
        })
    });
    assert!(refused(&fake).contains("verification failed"));
    // Not JSON, too much of it, or of two minds.
    let mut both = parts.manifest.clone();
    both["manifests"] = json!([]);
    let mut many = parts.manifest.clone();
    many["layers"] = json!(vec![parts.manifest["layers"][0].clone(); 2000]);
    let schema1 = json!({"schemaVersion": 1, "name": "x", "fsLayers": []});
    let mut huge_config = parts.manifest.clone();
    huge_config["config"]["size"] = json!(1u64 << 40);
    let mut bad_digest = parts.manifest.clone();
    bad_digest["layers"][0]["digest"] = json!("sha256:../../../etc/passwd");
    let mut artifact = parts.manifest.clone();
    artifact["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
    let mut negative = parts.manifest.clone();
    negative["layers"][0]["size"] = json!(-1);
    for (bytes, expected) in [
        (b"<html>".to_vec(), "invalid manifest"),
        (vec![b' '; (4 << 20) + 1], "larger than"),
        ("[".repeat(100_000).into_bytes(), "invalid manifest"),
        (
            both.to_string().into_bytes(),
            "both an index and a manifest",
        ),
        (many.to_string().into_bytes(), "2000 layers"),
        (schema1.to_string().into_bytes(), "not supported"),
        (huge_config.to_string().into_bytes(), "a config of"),
        (bad_digest.to_string().into_bytes(), "invalid digest"),
        (artifact.to_string().into_bytes(), "unsupported media type"),
        (negative.to_string().into_bytes(), "invalid manifest"),
    ] {
        let fake = serve(&parts, move |request| {
            request
                .path
                .contains("/manifests/")
                .then(|| Answer::new(200, bytes.clone()))
        });
        let words = refused(&fake);
        assert!(words.contains(expected), "{words}");
    }
}

#[test]
fn blobs_that_are_not_what_was_promised_are_refused() {
    let parts = Parts::small();
    let swapped = |position: Option<usize>, change: fn(&mut Vec<u8>)| {
        let digest = match position {
            Some(position) => parts.layer_digest(position),
            None => Digest::of(&parts.config).to_string(),
        };
        let mut bytes = parts.blobs[&digest].clone();
        change(&mut bytes);
        let fake = serve(&parts, move |request| {
            request
                .path
                .ends_with(&digest)
                .then(|| Answer::new(200, bytes.clone()))
        });
        refused(&fake)
    };
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    for position in [Some(0), Some(1), None] {
        let words = swapped(position, flip);
        assert!(!words.is_empty(), "{words}");
        swapped(position, |bytes| bytes.truncate(bytes.len() - 1));
        swapped(position, |bytes| bytes.extend(b"more"));
        swapped(position, Vec::clear);
    }
}

#[test]
fn layers_that_do_not_unpack_are_refused_although_their_digest_is_right() {
    let tar = support::layer(&[("a", &support::noise(3, 100_000))]);
    let good = gzip(&tar);
    let mut corrupt = good.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 0xff;
    let other = gzip(&support::layer(&[("b", b"other")]));
    for layer in [
        good[..good.len() / 2].to_vec(),
        corrupt,
        other,
        b"not a tar at all".to_vec(),
        Vec::new(),
    ] {
        let parts = Parts::with(support::config(std::slice::from_ref(&tar)), vec![layer]);
        let fake = serve(&parts, |_| None);
        refused(&fake);
    }
    // More or fewer layers in the config than in the manifest.
    let parts = Parts::with(
        support::config(&[tar.clone(), tar.clone()]),
        vec![good.clone()],
    );
    assert!(
        refused(&serve(&parts, |_| None)).contains("1 layers in the manifest, 2 in the config")
    );
    for config in [
        json!([]),
        json!({}),
        json!({"rootfs": {"type": "layers", "diff_ids": ["../x"]}}),
    ] {
        let parts = Parts::with(config, vec![good.clone()]);
        assert!(refused(&serve(&parts, |_| None)).contains("invalid image config"));
    }
}

#[test]
fn the_platform_is_chosen_from_an_index() {
    let image = |architecture: &str, content: &[u8]| {
        let tar = support::layer(&[("which", content)]);
        let mut config = support::config(std::slice::from_ref(&tar));
        config["architecture"] = json!(architecture);
        Parts::with(config, vec![gzip(&tar)])
    };
    let (amd, arm) = (image("amd64", b"amd"), image("arm64", b"arm"));
    let entry = |parts: &Parts, architecture: &str| {
        let bytes = parts.manifest_bytes();
        json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "size": bytes.len(),
            "digest": Digest::of(&bytes).to_string(),
            "platform": {"os": "linux", "architecture": architecture},
        })
    };
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry(&arm, "arm64"), entry(&amd, "amd64")],
    })
    .to_string();
    let digest = Digest::of(index.as_bytes());
    let (a, b) = (amd.clone(), arm.clone());
    let fake = Fake::start(move |request| {
        if request.path.ends_with("/manifests/1") {
            return Answer::new(200, index.clone());
        }
        let arm_manifest = Digest::of(&b.manifest_bytes()).to_string();
        let is_arm = request.path.ends_with(&arm_manifest)
            || b.blobs.keys().any(|blob| request.path.ends_with(blob));
        if is_arm {
            b.answer(request)
        } else {
            a.answer(request)
        }
    });
    let fixture = engine();
    let with = |platform: &str| PullOptions {
        platform: Some(platform.parse().unwrap()),
        ..pull_options()
    };
    let reference = fake.image("x:1");
    let pulled = fixture
        .engine
        .pull(&reference, &with("linux/amd64"), &Silent)
        .unwrap();
    assert_eq!(pulled.image.0, Digest::of(&amd.config));
    // The repository's digest is the index's, which was asked for.
    assert_eq!(pulled.digest, digest);
    let pulled = fixture
        .engine
        .pull(&reference, &with("linux/arm64/v8"), &Silent)
        .unwrap();
    assert_eq!(pulled.image.0, Digest::of(&arm.config));
    let error = fixture
        .engine
        .pull(&reference, &with("linux/s390x"), &Silent)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "no matching manifest for linux/s390x in the manifest list entries"
    );
}

#[test]
fn two_pulls_of_the_same_image_download_each_layer_once() {
    let parts = Parts::small();
    let fake = serve(&parts, |_| None);
    let fixture = engine();
    let reference = fake.image("x:1");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            // Each its own engine, as separate processes have.
            scope.spawn(|| {
                let engine = support::open(fixture.dir.path());
                pull(&engine, &reference).unwrap();
            });
        }
    });
    for position in 0..2 {
        assert_eq!(fake.count("GET", &parts.layer_digest(position)), 1);
    }
    // Another image of the same layers downloads nothing but its manifest.
    pull(&fixture.engine, &fake.image("y:2")).unwrap();
    assert_eq!(fake.count("GET", &parts.layer_digest(0)), 1);
}

#[test]
fn tokens_are_fetched_for_the_right_scope_and_again_when_stale() {
    let parts = Parts::small();
    let fake = Arc::new(std::sync::OnceLock::<String>::new());
    let address = fake.clone();
    let server = serve(&parts, move |request| {
        if request.path.starts_with("/token?") {
            let good = request.path.contains("service=the%20service")
                && request.path.contains("scope=repository%3Ax%3Apull")
                && request.path.contains("account=me")
                && request.header("authorization") == Some("Basic bWU6c2VjcmV0");
            return Some(match good {
                true => Answer::new(
                    200,
                    json!({"token": format!("t{}", request.nth)}).to_string(),
                ),
                false => Answer::error(401, "UNAUTHORIZED", "incorrect username or password"),
            });
        }
        // The first token is refused once it has been used for the manifest.
        let wanted = if request.path.contains("/blobs/") {
            "Bearer t1"
        } else {
            "Bearer t0"
        };
        (request.header("authorization") != Some(wanted)).then(|| {
            Answer::error(401, "UNAUTHORIZED", "authentication required").header(
                "WWW-Authenticate",
                format!(
                    "Bearer realm=\"http://{}/token\",service=\"the service\",scope=\"repository:x:pull\"",
                    address.get().unwrap()
                ),
            )
        })
    });
    fake.set(server.address.clone()).unwrap();
    let fixture = engine();
    let config = fixture.dir.path().join("config.json");
    let mut options = pull_options();
    options.registry.docker_config = Some(config.clone());
    for (auth, succeeds) in [("bWU6c2VjcmV0", true), ("bWU6d3Jvbmc=", false)] {
        let auths = json!({"auths": {format!("http://{}/v2/", server.address): {"auth": auth}}});
        std::fs::write(&config, auths.to_string()).unwrap();
        let pulled = fixture.engine.pull(&server.image("x:1"), &options, &Silent);
        match succeeds {
            true => drop(pulled.unwrap()),
            false => assert_eq!(
                pulled.unwrap_err().to_string(),
                "unauthorized: incorrect username or password"
            ),
        }
    }
}
