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
