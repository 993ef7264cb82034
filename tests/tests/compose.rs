//! `ply compose`: projects of several containers, made, changed and taken away.

use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use tests::Output;
use tests::Ply;

/// An engine with busybox, and a directory with a project's files.
struct Situation {
    ply: Ply,
}

impl Situation {
    fn new(files: &[(&str, &str)]) -> Situation {
        let ply = Ply::with_busybox();
        let situation = Situation { ply };
        for (name, text) in files {
            situation.write(name, text);
        }
        situation
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.ply.path("app").join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    /// Runs `ply compose` in the project's directory.
    fn compose(&self, arguments: &[&str]) -> Output {
        self.compose_in("app", arguments)
    }

    fn compose_in(&self, directory: &str, arguments: &[&str]) -> Output {
        let mut command = self.ply.command(&[&["compose"], arguments].concat());
        command.current_dir(self.ply.path(directory));
        command.output().expect("ply runs").into()
    }

    /// Returns the ids of the containers by their names.
    fn ids(&self) -> Vec<(String, String)> {
        let listed = self
            .ply
            .run(&["ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.ID}}"]);
        let mut ids: Vec<(String, String)> = listed
            .ok()
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, id)| (name.to_owned(), id.to_owned()))
            .collect();
        ids.sort();
        ids
    }

    fn names(&self) -> Vec<String> {
        self.ids().into_iter().map(|(name, _)| name).collect()
    }
}

/// Waits until something holds.
#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} has not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A service that does nothing until it is stopped.
const IDLE: &str = "image: busybox\n    init: true\n    command: sleep 1000\n";

#[test]
fn a_project_comes_up_in_order_and_goes_without_a_trace() {
    let situation = Situation::new(&[(
        "compose.yaml",
        "services:
  web:
    image: busybox
    init: true
    command: sh -c 'test -e /shared/ready && echo ready && sleep 1000'
    volumes: ['data:/shared']
    depends_on:
      db: {condition: service_healthy}
      setup: {condition: service_completed_successfully}
  setup:
    image: busybox
    command: touch /shared/ready
    volumes: ['data:/shared']
  db:
    image: busybox
    init: true
    command: sh -c 'sleep 0.2; touch /ok; sleep 1000'
    healthcheck: {test: test -e /ok, interval: 0.1s}
volumes: {data: }
",
    )]);
    let up = situation.compose(&["up", "-d"]);
    up.ok();
    for line in [
        "Container app-db-1  Healthy",
        "Container app-setup-1  Exited",
        "Container app-web-1  Started",
    ] {
        assert!(up.err.contains(line), "{up:?}");
    }
    eventually("what web says", || {
        situation.compose(&["logs", "web"]).out == "web-1  | ready\n"
    });
    assert_eq!(situation.compose(&["ps", "--services"]).ok(), "db\nweb");
    assert_eq!(
        situation.ply.inspect(
            "app-web-1",
            "{{index .Config.Labels \"com.docker.compose.project\"}}"
        ),
        "app"
    );
    situation.compose(&["down"]).ok();
    assert!(situation.names().is_empty());
    assert!(
        situation
            .ply
            .run(&["volume", "ls", "-q"])
            .ok()
            .contains("app_data")
    );
    situation.compose(&["down", "-v"]).ok();
    assert_eq!(situation.ply.run(&["volume", "ls", "-q"]).ok(), "");
}

#[test]
fn up_again_makes_anew_only_what_has_changed() {
    let file = |command: &str| {
        format!(
            "services:\n  a:\n    {IDLE}  b:\n    image: busybox\n    init: true\n    command: {command}\n    volumes: ['/kept']\n"
        )
    };
    let situation = Situation::new(&[("compose.yaml", &file("sleep 1000"))]);
    situation.compose(&["up", "-d"]).ok();
    let first = situation.ids();
    situation
        .compose(&["exec", "-T", "b", "touch", "/kept/file"])
        .ok();
    situation.compose(&["up", "-d"]).ok();
    assert_eq!(situation.ids(), first);

    situation.write("compose.yaml", &file("sleep 2000"));
    let up = situation.compose(&["up", "-d"]);
    up.ok();
    assert!(up.err.contains("Container app-b-1  Recreated"), "{up:?}");
    let second = situation.ids();
    assert_eq!(second[0], first[0]);
    assert_ne!(second[1], first[1]);
    assert_eq!(second[1].0, "app-b-1");
    situation
        .compose(&["exec", "-T", "b", "test", "-e", "/kept/file"])
        .ok();

    situation
        .compose(&["up", "-d", "--force-recreate", "-V"])
        .ok();
    let third = situation.ids();
    assert!(third[0].1 != second[0].1 && third[1].1 != second[1].1);
    assert_eq!(
        situation
            .compose(&["exec", "-T", "b", "test", "-e", "/kept/file"])
            .code,
        1
    );
    situation.compose(&["down", "-v"]).ok();
    assert_eq!(situation.ply.run(&["volume", "ls", "-q"]).ok(), "");
}

#[test]
fn services_are_scaled_up_and_down() {
    let situation = Situation::new(&[("compose.yaml", &format!("services:\n  a:\n    {IDLE}"))]);
    situation.compose(&["up", "-d", "--scale", "a=3"]).ok();
    assert_eq!(situation.names(), ["app-a-1", "app-a-2", "app-a-3"]);
    situation
        .compose(&["exec", "-T", "--index", "2", "a", "true"])
        .ok();
    situation.compose(&["up", "-d"]).ok();
    assert_eq!(situation.names(), ["app-a-1"]);
    situation
        .compose(&["up", "-d", "--scale", "b=2"])
        .fails(1, "no such service: b");
    situation.compose(&["down"]).ok();
}

#[test]
fn two_projects_live_side_by_side_and_orphans_are_told_of() {
    let file = format!("services:\n  a:\n    {IDLE}  b:\n    {IDLE}");
    let situation = Situation::new(&[("compose.yaml", &file), ("../other/compose.yaml", &file)]);
    situation.compose(&["up", "-d"]).ok();
    situation
        .compose_in("other", &["-p", "second", "up", "-d"])
        .ok();
    let listed = situation.compose(&["ls", "-q"]);
    assert_eq!(listed.ok(), "app\nsecond");
    situation.compose(&["down"]).ok();
    assert_eq!(situation.names(), ["second-a-1", "second-b-1"]);

    situation.write(
        "../other/compose.yaml",
        &format!("services:\n  a:\n    {IDLE}"),
    );
    let up = situation.compose_in("other", &["-p", "second", "up", "-d"]);
    up.ok();
    assert!(
        up.err.contains("Found orphan containers ([second-b-1])"),
        "{up:?}"
    );
    situation
        .compose_in("other", &["-p", "second", "up", "-d", "--remove-orphans"])
        .ok();
    assert_eq!(situation.names(), ["second-a-1"]);
    // Its name is enough, its files may be gone.
    situation.compose_in("root", &["-p", "second", "down"]).ok();
    assert!(situation.names().is_empty());
}

#[test]
fn profiles_overrides_includes_and_extensions_work_together() {
    let situation = Situation::new(&[
        (
            "compose.yaml",
            &format!(
                "include: [sub/compose.yaml]\nservices:\n  a:\n    {IDLE}  tool: {{image: busybox, command: 'echo tool', profiles: [tools]}}\n"
            ),
        ),
        (
            "compose.override.yaml",
            "services:\n  a: {environment: {FROM: override}}\n",
        ),
        (
            "sub/compose.yaml",
            "services:\n  b: {extends: {file: base.yaml, service: base}, environment: {FROM: \"${FROM}\"}}\n",
        ),
        (
            "sub/base.yaml",
            &format!("services:\n  base:\n    {IDLE}    labels: {{kind: base}}\n"),
        ),
        ("sub/.env", "FROM=include\n"),
    ]);
    situation.compose(&["up", "-d"]).ok();
    assert_eq!(situation.names(), ["app-a-1", "app-b-1"]);
    assert_eq!(
        situation
            .compose(&["exec", "-T", "a", "sh", "-c", "echo $FROM"])
            .ok(),
        "override"
    );
    assert_eq!(
        situation
            .compose(&["exec", "-T", "b", "sh", "-c", "echo $FROM"])
            .ok(),
        "include"
    );
    assert_eq!(
        situation.ply.inspect("app-b-1", "{{.Config.Labels.kind}}"),
        "base"
    );
    assert_eq!(
        situation.compose(&["run", "--rm", "-T", "tool"]).ok(),
        "tool"
    );
    situation.compose(&["--profile", "tools", "up", "-d"]).ok();
    eventually("the tool's end", || {
        situation
            .compose(&["--profile", "tools", "logs", "tool"])
            .out
            == "tool-1  | tool\n"
    });
    situation.compose(&["--profile", "*", "down"]).ok();
    assert!(situation.names().is_empty());
}

#[test]
fn secrets_and_configs_are_files_in_the_container() {
    let situation = Situation::new(&[
        (
            "compose.yaml",
            &format!(
                "services:
  a:
    {IDLE}    secrets: [file, {{source: variable, target: /etc/token, mode: 0400, uid: '33'}}]
    configs: [{{source: inline, target: /etc/app.conf}}]
secrets:
  file: {{file: ./secret.txt}}
  variable: {{environment: TOKEN}}
configs:
  inline: {{content: 'name=${{COMPOSE_PROJECT_NAME}}'}}
"
            ),
        ),
        ("secret.txt", "from a file"),
        (".env", "TOKEN=from a variable\n"),
    ]);
    situation.compose(&["up", "-d"]).ok();
    let inside = |command: &str| {
        situation
            .compose(&["exec", "-T", "a", "sh", "-c", command])
            .ok()
            .to_owned()
    };
    assert_eq!(inside("cat /run/secrets/file"), "from a file");
    assert_eq!(
        inside("cat /etc/token; stat -c ' %u %a' /etc/token"),
        "from a variable 33 400"
    );
    assert_eq!(inside("cat /etc/app.conf"), "name=app");
    let code = situation
        .compose(&["exec", "-T", "a", "sh", "-c", "echo x > /run/secrets/file"])
        .code;
    assert_ne!(code, 0);
    situation.compose(&["down"]).ok();
}

#[test]
fn the_foreground_ends_with_the_code_of_the_service_that_is_asked_for() {
    let situation = Situation::new(&[(
        "compose.yaml",
        &format!(
            "services:\n  a:\n    {IDLE}  job: {{image: busybox, command: sh -c 'echo done; exit 3'}}\n"
        ),
    )]);
    let up = situation.compose(&["up", "--exit-code-from", "job"]);
    assert_eq!(up.code, 3, "{up:?}");
    assert!(
        up.out.contains("job-1  | done\n") && up.out.contains("job-1 exited with code 3\n"),
        "{up:?}"
    );
    assert_eq!(
        situation.ply.inspect("app-a-1", "{{.State.Status}}"),
        "exited"
    );
    situation.compose(&["down"]).ok();
}

#[test]
fn an_interrupt_stops_what_the_foreground_has_started() {
    let situation = Situation::new(&[("compose.yaml", &format!("services:\n  a:\n    {IDLE}"))]);
    let mut command = situation.ply.command(&["compose", "up"]);
    command.current_dir(situation.ply.path("app"));
    let mut child = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("ply runs");
    eventually("the container", || {
        situation.compose(&["ps", "-q"]).out.len() > 1
    });
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(
        situation.ply.inspect("app-a-1", "{{.State.Status}}"),
        "exited"
    );
    situation.compose(&["down"]).ok();
}

#[test]
fn a_dependency_that_fails_is_told_and_nothing_starts_after_it() {
    let situation = Situation::new(&[(
        "compose.yaml",
        &format!(
            "services:\n  a:\n    {IDLE}    depends_on: {{job: {{condition: service_completed_successfully}}}}\n  job: {{image: busybox, command: 'false'}}\n"
        ),
    )]);
    let up = situation.compose(&["up", "-d"]);
    up.fails(1, "service \"job\" didn't complete successfully: exit 1");
    assert_eq!(
        situation.ply.inspect("app-a-1", "{{.State.Status}}"),
        "created"
    );
    situation.compose(&["down"]).ok();
}

#[test]
fn an_up_or_down_that_is_killed_is_repaired_by_the_next_one() {
    let file = |seconds: u32| {
        let one = |name: &str| {
            format!(
                "  {name}:\n    image: busybox\n    init: true\n    command: sleep {seconds}\n    volumes: ['/kept', 'data:/data']\n"
            )
        };
        format!(
            "services:\n{}{}{}volumes: {{data: }}\n",
            one("a"),
            one("b"),
            one("c")
        )
    };
    let situation = Situation::new(&[("compose.yaml", &file(1000))]);
    for round in 0..12u32 {
        situation.write("compose.yaml", &file(1000 + round));
        let verb: &[&str] = if round % 4 == 3 {
            &["compose", "down"]
        } else {
            &["compose", "up", "-d"]
        };
        let mut command = situation.ply.command(verb);
        command.current_dir(situation.ply.path("app"));
        let mut child = command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("ply runs");
        // Each round is killed a little later.
        let deadline = Instant::now() + Duration::from_millis(u64::from(round) * 17);
        while Instant::now() < deadline && child.try_wait().expect("a child").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = child.kill();
        child.wait().expect("it ends");
    }
    situation.compose(&["up", "-d"]).ok();
    assert_eq!(situation.names(), ["app-a-1", "app-b-1", "app-c-1"]);
    assert_eq!(situation.compose(&["ps", "--services"]).ok(), "a\nb\nc");
    for name in situation.names() {
        assert!(
            situation
                .ply
                .inspect(&name, "{{.Config.Cmd}}")
                .contains("1011")
        );
    }
    situation.compose(&["down", "-v"]).ok();
    assert!(situation.names().is_empty());
}

#[test]
fn bad_files_are_refused_in_one_line_that_names_the_place() {
    let situation = Situation::new(&[(
        "compose.yaml",
        "services:\n  web:\n    image: busybox\n    ports: ['a:b']\n",
    )]);
    let file = situation.ply.path("app").join("compose.yaml");
    let words = format!(
        "validating {}: services.web.ports[0] has an invalid port range: b",
        file.display()
    );
    let refused = situation.compose(&["up", "-d"]);
    refused.fails(1, &words);
    assert_eq!(refused.err.lines().count(), 1, "{refused:?}");
    let empty = situation.ply.directory("empty");
    let refused = situation.compose_in("empty", &["up"]);
    refused.fails(1, "no configuration file provided: not found");
    assert!(Path::new(&empty).exists());
    situation.write("compose.yaml", "services: {web: {image: busybox}}\n");
    situation
        .compose(&["up", "-d", "nobody"])
        .fails(1, "no such service: nobody");
    situation
        .compose(&["exec", "-T", "web", "true"])
        .fails(1, "service \"web\" is not running");
    assert!(situation.names().is_empty());
}

#[test]
fn config_shows_the_whole_model() {
    let situation = Situation::new(&[(
        "compose.yaml",
        "services:\n  web: {image: 'x:${TAG:-1}', ports: ['8080:80'], command: 'echo $$HOME'}\n",
    )]);
    let shown = situation.compose(&["config"]);
    let wanted = "name: app
services:
  web:
    command:
      - echo
      - $$HOME
    image: x:1
    networks:
      default: null
    ports:
      - mode: ingress
        protocol: tcp
        published: \"8080\"
        target: 80
networks:
  default:
    name: app_default";
    assert_eq!(shown.ok(), wanted);
    assert_eq!(situation.compose(&["config", "--images"]).ok(), "x:1");
    let json = situation.compose(&["config", "--format", "json"]);
    assert!(json.ok().contains("\"published\": \"8080\""));
    // What it prints is a project again.
    situation.write("again.yaml", &shown.out);
    assert_eq!(
        situation.compose(&["-f", "again.yaml", "config"]).out,
        shown.out
    );
}

#[test]
fn services_are_built_where_their_images_are_not_here() {
    let situation = Situation::new(&[
        (
            "compose.yaml",
            "services:
  web:
    build: {context: ./web, args: {WHAT: \"${WHAT:-first}\"}}
    command: cat /what
  tool:
    image: tool:mine
    build:
      context: .
      dockerfile_inline: |
        FROM busybox
        RUN echo inline > /what
        CMD [\"cat\", \"/what\"]
",
        ),
        (
            "web/Dockerfile",
            "FROM busybox\nARG WHAT\nCOPY file /file\nRUN echo $WHAT $(cat /file) > /what\n",
        ),
        ("web/file", "content"),
    ]);
    let said = |service: &str, text: &str| {
        let wanted = format!("{service}-1  | {text}\n");
        eventually(&wanted, || {
            situation.compose(&["logs", service]).out == wanted
        });
    };
    situation.compose(&["up", "-d"]).ok();
    said("web", "first content");
    said("tool", "inline");
    let images = situation
        .ply
        .run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert!(
        images.ok().contains("app-web:latest") && images.ok().contains("tool:mine"),
        "{images:?}"
    );
    // A new image is a new container.
    situation
        .compose(&["build", "--build-arg", "WHAT=second", "web"])
        .ok();
    let up = situation.compose(&["up", "-d"]);
    up.ok();
    assert!(
        up.err.contains("Container app-web-1  Recreated")
            && !up.err.contains("app-tool-1  Recreated"),
        "{up:?}"
    );
    said("web", "second content");
    situation.compose(&["down", "--rmi", "local"]).ok();
    let images = situation
        .ply
        .run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert!(
        !images.ok().contains("app-web") && images.ok().contains("tool:mine"),
        "{images:?}"
    );
}

#[test]
fn services_find_each_other_by_name_and_publish_ports() {
    let situation = Situation::new(&[(
        "compose.yaml",
        "services:
  web:
    image: busybox
    init: true
    command: sh -c 'mkdir /www; echo hello > /www/index.html; httpd -f -p 80 -h /www'
    healthcheck: {test: wget -qO- http://127.0.0.1/, interval: 0.1s}
    networks: {front: {aliases: [site]}}
    ports: ['127.0.0.1::80']
  client:
    image: busybox
    init: true
    command: sleep 1000
    networks: [front, back]
    depends_on: {web: {condition: service_healthy}}
  apart:
    image: busybox
    init: true
    command: sleep 1000
    networks: [back]
networks:
  front:
  back: {internal: true}
",
    )]);
    situation.compose(&["up", "-d"]).ok();
    for name in ["web", "site", "app-web-1"] {
        let url = format!("http://{name}/");
        let got = situation.compose(&["exec", "-T", "client", "wget", "-qO-", &url]);
        assert_eq!(got.ok(), "hello", "{name}");
    }
    let got = situation.compose(&["run", "--rm", "-T", "client", "wget", "-qO-", "http://web/"]);
    assert_eq!(got.ok(), "hello");
    let got = situation.compose(&[
        "exec",
        "-T",
        "apart",
        "wget",
        "-T",
        "5",
        "-qO-",
        "http://web/",
    ]);
    assert_ne!(got.code, 0, "{got:?}");
    let address = situation.compose(&["port", "web", "80"]).ok().to_owned();
    let url = format!("http://{address}/");
    assert_eq!(
        tests::must("/bin/busybox", &["wget", "-qO-", &url]).trim(),
        "hello"
    );
    let networks = || {
        situation
            .ply
            .run(&["network", "ls", "--format", "{{.Name}}"])
            .ok()
            .to_owned()
    };
    assert!(networks().contains("app_front") && networks().contains("app_back"));
    situation.compose(&["down"]).ok();
    assert!(!networks().contains("app_"), "{}", networks());
}
