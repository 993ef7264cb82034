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

fn tell(server: &Server, story: &str) {
    let script = format!("{}/clients/{story}", env!("CARGO_MANIFEST_DIR"));
    let told = server
        .client(&python(), &[&script])
        // Its reaper is an image of its own.
        .env("TESTCONTAINERS_RYUK_DISABLED", "true")
        .output();
    let told = Output::from(told.expect("python runs"));
    assert_eq!(told.ok(), "told");
}

#[test]
fn docker_py_is_told_what_docker_tells_it() {
    let ply = Ply::with_busybox();
    tell(&Server::start(&ply), "story.py");
    tell(&Server::of_docker(), "story.py");
}

#[test]
fn testcontainers_starts_what_tests_need() {
    let ply = Ply::with_busybox();
    tell(&Server::start(&ply), "testcontainers_story.py");
    tell(&Server::of_docker(), "testcontainers_story.py");
}

#[test]
fn streams_are_attached_over_websockets() {
    let ply = Ply::with_busybox();
    tell(&Server::start(&ply), "websocket_story.py");
    tell(&Server::of_docker(), "websocket_story.py");
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

const NETWORKED: &str = r#"
version: "2.4"
services:
  web:
    build: { context: ., args: { WORD: built } }
    ports: [ "127.0.0.1:${PORT}:80" ]
    networks: { default: { aliases: [ www ] } }
    stop_grace_period: 0s
  client:
    image: busybox
    command: sh -c 'until timeout 5 wget -q -O - http://www/word; do sleep 0.1; done; exec sleep 1000'
    depends_on: [ web ]
    stop_grace_period: 0s
networks:
  default:
    ipam: { config: [ { subnet: 10.213.11.0/24 } ] }
"#;

const NETWORKED_DOCKERFILE: &str = "\
FROM busybox
ARG WORD
RUN mkdir /www && echo $WORD > /www/word
EXPOSE 80
CMD [\"httpd\", \"-f\", \"-p\", \"80\", \"-h\", \"/www\"]
";

fn compose_with_network(server: &Server) {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).expect("written");
    };
    write("docker-compose.yml", NETWORKED);
    write("Dockerfile", NETWORKED_DOCKERFILE);
    let port = tests::free_port();
    let compose = |arguments: &[&str]| {
        let output = server
            .client("docker-compose", &[&["-p", "netted"], arguments].concat())
            // docker-py posts the build itself.
            .env("COMPOSE_DOCKER_CLI_BUILD", "0")
            .env("PORT", port.to_string())
            .current_dir(directory.path())
            .output();
        Output::from(output.expect("docker-compose runs"))
    };
    compose(&["up", "-d", "--build"]).ok();
    eventually("the client has read", || {
        compose(&["logs", "--no-color", "client"])
            .out
            .contains("| built")
    });
    assert_eq!(
        compose(&["port", "web", "80"]).ok(),
        format!("127.0.0.1:{port}")
    );
    let scaled = compose(&["up", "-d", "--scale", "client=2"]);
    scaled.ok();
    assert!(compose(&["ps"]).ok().contains("netted_client_2"));
    let id = || {
        let id = server.docker(&["inspect", "-f", "{{.Id}}", "netted_web_1"]);
        id.ok().to_owned()
    };
    let before = id();
    compose(&["up", "-d"]).ok();
    assert_eq!(id(), before, "nothing has changed");
    compose(&["up", "-d", "--force-recreate", "web"]).ok();
    assert_ne!(id(), before);
    compose(&["down", "--rmi", "local"]).ok();
    assert_eq!(server.docker(&["ps", "-aq"]).ok(), "");
    let networks = server.docker(&["network", "ls", "-q", "-f", "name=netted"]);
    assert_eq!(networks.ok(), "");
    assert_eq!(server.docker(&["images", "-q", "netted_web"]).ok(), "");
}

#[test]
fn docker_compose_builds_and_connects_services() {
    let ply = Ply::with_busybox();
    compose_with_network(&Server::start(&ply));
    compose_with_network(&Server::of_docker());
}
