//! Images to and from a real registry.

#![allow(missing_docs)]

mod support;

use runtime::image::ImageFilter;
use runtime::progress::LayerStatus;
use runtime::progress::Silent;
use support::Recorder;
use support::Registry;
use support::engine;
use support::load_small;
use support::name;
use support::pull_options;
use support::push_options;
use support::run;

#[test]
fn an_image_that_was_pushed_is_pulled_the_same() {
    let registry = Registry::start();
    let sender = engine();
    let reference = registry.image("team/small:1");
    load_small(&sender.engine, &reference.to_string());
    let pushed = sender
        .engine
        .push(&reference, &push_options(), &Silent)
        .unwrap();
    let shown = run(
        "skopeo",
        &[
            "inspect",
            "--tls-verify=false",
            &format!("docker://{reference}"),
        ],
    );
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["Digest"], pushed.digest.to_string());

    let receiver = engine();
    let events = Recorder::default();
    let pulled = receiver
        .engine
        .pull(&reference, &pull_options(), &events)
        .unwrap();
    assert!(pulled.newer);
    assert_eq!(pulled.digest, pushed.digest);
    assert_eq!(events.count(&LayerStatus::PullComplete), 2);
    assert_eq!(
        events.messages(),
        [
            "1: Pulling from team/small".to_owned(),
            format!("Digest: {}", pushed.digest),
            format!("Status: Downloaded newer image for {reference}"),
        ]
    );
    let image = receiver.engine.image(&reference.to_string()).unwrap();
    assert_eq!(
        image.id,
        sender.engine.image(&reference.to_string()).unwrap().id
    );
    assert_eq!(
        image.repo_digests,
        [format!("{}/team/small@{}", registry.address, pushed.digest)]
    );

    let events = Recorder::default();
    let again = receiver
        .engine
        .pull(&reference, &pull_options(), &events)
        .unwrap();
    assert!(!again.newer);
    assert_eq!(events.count(&LayerStatus::PullComplete), 0);
    assert!(events.messages()[2].starts_with("Status: Image is up to date for "));
    assert_eq!(
        receiver
            .engine
            .images(&ImageFilter::default())
            .unwrap()
            .len(),
        1
    );
    assert!(receiver.engine.image(&name("nosuch").to_string()).is_err());
}

/// Pushes the small image with skopeo in a given form and pulls it.
fn pull_from_skopeo(format: &str, compression: &str) {
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("small.tar");
    let layers = [
        support::layer(&[
            ("etc/motd", b"hello\n"),
            ("bin/tool", &support::noise(1, 200_000)),
        ]),
        support::layer(&[("etc/motd", b"changed\n")]),
    ];
    std::fs::write(&archive, support::archive(&["small:1"], &layers)).unwrap();
    let reference = registry.image("small:1");
    run(
        "skopeo",
        &[
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
            "--format",
            format,
            "--dest-compress-format",
            compression,
            &format!("docker-archive:{}", archive.display()),
            &format!("docker://{reference}"),
        ],
    );
    let fixture = engine();
    let pulled = fixture
        .engine
        .pull(&reference, &pull_options(), &Silent)
        .unwrap();
    let shown = run(
        "skopeo",
        &[
            "inspect",
            "--tls-verify=false",
            &format!("docker://{reference}"),
        ],
    );
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["Digest"], pulled.digest.to_string());
    let image = fixture.engine.image("127.0.0.1").err();
    assert!(image.is_some());
    let image = fixture.engine.image(&reference.to_string()).unwrap();
    for (layer, tar) in image.layers.iter().zip(&layers) {
        let stored = fixture.engine.store().layer(layer).unwrap();
        assert_eq!(support::read_all(stored.tar()), *tar);
    }
}

#[test]
fn dockers_schema_2_is_pulled() {
    pull_from_skopeo("v2s2", "gzip");
}

#[test]
fn oci_manifests_are_pulled() {
    pull_from_skopeo("oci", "gzip");
}

#[test]
fn zstd_layers_are_pulled() {
    pull_from_skopeo("oci", "zstd");
}

#[test]
fn all_tags_of_a_repository_are_pulled() {
    let registry = Registry::start();
    let sender = engine();
    for tag in ["1", "2", "latest"] {
        let reference = registry.image(&format!("many:{tag}"));
        load_small(&sender.engine, &reference.to_string());
    }
    sender
        .engine
        .push_all_tags(&registry.image("many"), &push_options(), &Silent)
        .unwrap();
    let receiver = engine();
    let outcomes = receiver
        .engine
        .pull_all_tags(&registry.image("many"), &pull_options(), &Silent)
        .unwrap();
    assert_eq!(outcomes.len(), 3);
    let images = receiver.engine.images(&ImageFilter::default()).unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].tags.len(), 3);
}

#[test]
fn a_second_push_sends_nothing_and_another_repository_gets_its_layers_mounted() {
    let registry = Registry::start();
    let fixture = engine();
    let first = registry.image("one/small:1");
    load_small(&fixture.engine, &first.to_string());
    let pushed = fixture
        .engine
        .push(&first, &push_options(), &Silent)
        .unwrap();

    let events = Recorder::default();
    let again = fixture
        .engine
        .push(&first, &push_options(), &events)
        .unwrap();
    assert_eq!(again.digest, pushed.digest);
    assert_eq!(events.count(&LayerStatus::LayerAlreadyExists), 2);
    assert_eq!(
        events.messages(),
        [
            format!(
                "The push refers to repository [{}/one/small]",
                registry.address
            ),
            format!("1: digest: {} size: {}", pushed.digest, pushed.size),
        ]
    );

    let second = registry.image("two/small:1");
    fixture.engine.tag(&first.to_string(), &second).unwrap();
    let events = Recorder::default();
    let mounted = fixture
        .engine
        .push(&second, &push_options(), &events)
        .unwrap();
    assert_eq!(
        events.count(&LayerStatus::MountedFrom("one/small".into())),
        2
    );
    assert_eq!(mounted.digest, pushed.digest);
}

#[test]
fn a_pulled_image_is_pushed_elsewhere_under_the_same_digest() {
    let registry = Registry::start();
    let sender = engine();
    let first = registry.image("a:1");
    load_small(&sender.engine, &first.to_string());
    let pushed = sender
        .engine
        .push(&first, &push_options(), &Silent)
        .unwrap();
    let receiver = engine();
    receiver
        .engine
        .pull(&first, &pull_options(), &Silent)
        .unwrap();
    let second = registry.image("b:1");
    receiver.engine.tag(&first.to_string(), &second).unwrap();
    let again = receiver
        .engine
        .push(&second, &push_options(), &Silent)
        .unwrap();
    assert_eq!(again.digest, pushed.digest);
    // A new tag for what is at another registry compresses to the same bytes, whoever does it.
    let other = Registry::start();
    let third = other.image("c:1");
    receiver.engine.tag(&first.to_string(), &third).unwrap();
    let elsewhere = receiver
        .engine
        .push(&third, &push_options(), &Silent)
        .unwrap();
    assert_eq!(elsewhere.digest, pushed.digest);
}

#[test]
fn a_registry_with_a_password_takes_only_the_right_one() {
    let scratch = tempfile::tempdir().unwrap();
    let htpasswd = scratch.path().join("htpasswd");
    // "me" and "secret", by `htpasswd -Bbn me secret`.
    std::fs::write(
        &htpasswd,
        run("python3", &["-c", "import crypt; print('me:' + crypt.crypt('secret', '$2y$05$abcdefghijklmnopqrstuu'))"]),
    )
    .unwrap();
    let registry = Registry::start_with(&format!(
        "auth:\n  htpasswd:\n    realm: here\n    path: {}\n",
        htpasswd.display()
    ));
    let fixture = engine();
    let reference = registry.image("private:1");
    load_small(&fixture.engine, &reference.to_string());
    let error = fixture
        .engine
        .push(&reference, &push_options(), &Silent)
        .unwrap_err();
    assert!(
        error.to_string().ends_with("no basic auth credentials"),
        "{error}"
    );

    let config = scratch.path().join("config.json");
    let login = |password: &str| {
        let auth = run(
            "python3",
            &[
                "-c",
                &format!(
                    "import base64; print(base64.b64encode(b'me:{password}').decode(), end='')"
                ),
            ],
        );
        let auths = serde_json::json!({"auths": {registry.address.clone(): {"auth": auth}}});
        std::fs::write(&config, auths.to_string()).unwrap();
    };
    let mut push = push_options();
    push.registry.docker_config = Some(config.clone());
    login("wrong");
    let error = fixture.engine.push(&reference, &push, &Silent).unwrap_err();
    assert_eq!(error.to_string(), "unauthorized: authentication required");
    login("secret");
    fixture.engine.push(&reference, &push, &Silent).unwrap();
    let mut pull = pull_options();
    pull.registry.docker_config = Some(config);
    engine().engine.pull(&reference, &pull, &Silent).unwrap();
}

#[test]
fn a_credential_helper_is_asked() {
    let scratch = tempfile::tempdir().unwrap();
    let helper = scratch.path().join("docker-credential-plytest");
    std::fs::write(
        &helper,
        "#!/bin/sh\nread server\necho '{\"Username\":\"me\",\"Secret\":\"secret\"}'\n",
    )
    .unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let parts = support::fake::Parts::small();
    let fake = support::fake::Fake::start(move |request| {
        match request.header("authorization") == Some("Basic bWU6c2VjcmV0") {
            true => parts.answer(request),
            false => {
                support::fake::Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\"")
            }
        }
    });
    let config = scratch.path().join("config.json");
    let text = serde_json::json!({"credHelpers": {fake.address.clone(): "plytest"}});
    std::fs::write(&config, text.to_string()).unwrap();
    // The helper is found through PATH, so the pull runs in a process of its own.
    let exe = std::env::current_exe().unwrap();
    let path = format!(
        "{}:{}",
        scratch.path().display(),
        std::env::var("PATH").unwrap()
    );
    let status = std::process::Command::new(exe)
        .args(["--exact", "pull_for_the_helper", "--ignored"])
        .env("PATH", path)
        .env("PLY_TEST_CONFIG", &config)
        .env("PLY_TEST_IMAGE", fake.image("x:1").to_string())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    assert!(fake.count("GET", "/manifests/1") >= 1);
}

#[test]
#[ignore = "run by a_credential_helper_is_asked"]
fn pull_for_the_helper() {
    let mut options = pull_options();
    options.registry.docker_config = Some(std::env::var_os("PLY_TEST_CONFIG").unwrap().into());
    let reference = name(&std::env::var("PLY_TEST_IMAGE").unwrap());
    engine().engine.pull(&reference, &options, &Silent).unwrap();
}

#[test]
fn a_registry_with_tls_is_verified_against_certs_d() {
    let scratch = tempfile::tempdir().unwrap();
    let (key, certificate) = (
        scratch.path().join("key.pem"),
        scratch.path().join("cert.pem"),
    );
    // A name that resolves to loopback without being loopback's own name: only then is the certificate verified.
    let Ok(hostname) = std::fs::read_to_string("/etc/hostname") else {
        return;
    };
    let hostname = hostname.trim().to_owned();
    let resolves = std::net::ToSocketAddrs::to_socket_addrs(&(hostname.as_str(), 0))
        .is_ok_and(|mut addresses| addresses.next().is_some());
    if !resolves {
        return;
    }
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=registry",
            "-addext",
            &format!("subjectAltName=DNS:{hostname},IP:127.0.0.1"),
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            key.to_str().unwrap(),
            "-out",
            certificate.to_str().unwrap(),
        ],
    );
    let registry = Registry::start_on(
        "0.0.0.0",
        &format!(
            "  tls:\n    certificate: {}\n    key: {}\n",
            certificate.display(),
            key.display()
        ),
    );
    let port = registry.address.rsplit(':').next().unwrap().to_owned();
    let host = format!("{hostname}:{port}");
    let reference = name(&format!("{host}/secure:1"));
    let fixture = engine();
    load_small(&fixture.engine, &reference.to_string());
    let error = fixture
        .engine
        .push(&reference, &push_options(), &Silent)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("x509: certificate signed by unknown authority"),
        "{error}"
    );
    let trusted = scratch.path().join("certs.d").join(&host);
    std::fs::create_dir_all(&trusted).unwrap();
    std::fs::copy(&certificate, trusted.join("ca.crt")).unwrap();
    let mut push = push_options();
    push.registry.certificates = vec![scratch.path().join("certs.d")];
    fixture.engine.push(&reference, &push, &Silent).unwrap();
    // Listed as insecure, it needs no certificate; on loopback neither.
    let mut pull = pull_options();
    pull.registry.insecure = vec![host];
    engine().engine.pull(&reference, &pull, &Silent).unwrap();
    let loopback = name(&format!("127.0.0.1:{port}/secure:1"));
    engine()
        .engine
        .pull(&loopback, &pull_options(), &Silent)
        .unwrap();
}

#[test]
fn an_unknown_tag_or_repository_is_told_in_dockers_words() {
    let registry = Registry::start();
    let reference = registry.image("nosuch:1");
    let error = engine()
        .engine
        .pull(&reference, &pull_options(), &Silent)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("manifest for {reference} not found: manifest unknown: manifest unknown")
    );
    let error = engine()
        .engine
        .push(&reference, &push_options(), &Silent)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "An image does not exist locally with the tag: {}/nosuch",
            registry.address
        )
    );
}
