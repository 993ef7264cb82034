//! Other clients than Docker's own on `ply serve`: docker-py, and docker-compose as Debian has it. What they assert is
//! told to Docker's engine too.

use std::path::PathBuf;

use tests::Output;
use tests::Ply;
use tests::Server;
use tests::eventually;

/// Returns a Python that has docker-py; `tests/run` makes it.
fn python() -> String {
    let made = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/venv/bin/python");
    assert!(
        made.exists(),
        "{} is not there: tests/run makes it",
        made.display()
    );
    made.to_string_lossy().into_owned()
}

fn tell(server: &Server) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/story.py");
    let told = server.client(&python(), &[script]).output();
    let told = Output::from(told.expect("python runs"));
    assert_eq!(told.ok(), "told");
}

#[test]
fn docker_py_is_told_what_docker_tells_it() {
    let ply = Ply::with_busybox();
    tell(&Server::start(&ply));
    tell(&Server::of_docker());
}

const COMPOSITION: &str = r#"
version: "2.4"
services:
  writer:
    image: busybox
    network_mode: none
    command: sh -c 'echo from-the-writer > /shared/f; echo written; trap "exit 0" TERM; while :; do sleep 0.05; done'
    environment: { WORD: value }
    volumes: [ "shared:/shared" ]
  reader:
    image: busybox
    network_mode: none
    command: sh -c 'until [ -f /shared/f ]; do sleep 0.05; done; cat /shared/f'
    depends_on: [ writer ]
    volumes: [ "shared:/shared:ro" ]
volumes:
  shared: {}
"#;

fn compose(server: &Server) {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("docker-compose.yml"), COMPOSITION).expect("written");
    let compose = |arguments: &[&str]| {
        let output = server
            .client("docker-compose", &[&["-p", "told"], arguments].concat())
            .current_dir(directory.path())
            .output();
        Output::from(output.expect("docker-compose runs"))
    };
    compose(&["up", "-d"]).ok();
    eventually("the reader has read", || {
        compose(&["logs", "--no-color", "reader"])
            .out
            .contains("from-the-writer")
    });
    let listed = compose(&["ps"]);
    assert!(listed.ok().contains("told_writer_1"), "{listed:?}");
    let said = compose(&["exec", "-T", "writer", "sh", "-c", "echo $WORD"]);
    assert_eq!(said.ok(), "value");
    // Nothing has changed, so nothing is made anew.
    let id = || {
        server
            .docker(&["inspect", "-f", "{{.Id}}", "told_writer_1"])
            .ok()
            .to_owned()
    };
    let before = id();
    compose(&["up", "-d"]).ok();
    assert_eq!(id(), before);
    compose(&["stop"]).ok();
    let code = server.docker(&["inspect", "-f", "{{.State.ExitCode}}", "told_writer_1"]);
    assert_eq!(code.ok(), "0");
    compose(&["down", "-v"]).ok();
    assert_eq!(server.docker(&["ps", "-aq"]).ok(), "");
    assert_eq!(server.docker(&["volume", "ls", "-q"]).ok(), "");
}

#[test]
fn docker_compose_brings_a_project_up_and_down() {
    let ply = Ply::with_busybox();
    compose(&Server::start(&ply));
    compose(&Server::of_docker());
}
