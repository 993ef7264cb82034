//! `ply compose`: projects of several containers, made, changed and taken away.

use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use tests::Output;
use tests::Ply;
use tests::kill_9;

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
fn variables_say_what_flags_leave_open() {
    let both = format!("services:\n  a:\n    {IDLE}  b:\n    {IDLE}");
    let situation = Situation::new(&[("compose.yaml", &both)]);
    situation.compose(&["up", "-d"]).ok();
    situation.write("compose.yaml", &format!("services:\n  a:\n    {IDLE}"));
    situation.write(".env", "COMPOSE_REMOVE_ORPHANS=1\n");
    situation
        .compose(&["up", "-d", "--remove-orphans=false"])
        .ok();
    assert_eq!(situation.names(), ["app-a-1", "app-b-1"]);
    let with = |variables: &[(&str, &str)], arguments: &[&str]| -> Output {
        let mut command = situation.ply.command(&[&["compose"], arguments].concat());
        command.current_dir(situation.ply.path("app"));
        command.envs(variables.iter().copied());
        command.output().expect("ply runs").into()
    };
    let up = with(&[("COMPOSE_STATUS_STDOUT", "1")], &["up", "-d"]);
    assert!(up.ok().contains("Container app-b-1  Removed"), "{up:?}");
    assert_eq!(situation.names(), ["app-a-1"]);
    let refused = with(
        &[("COMPOSE_ANSI", "never"), ("COMPOSE_PROGRESS", "tty")],
        &["ps"],
    );
    assert_eq!(refused.code, 1, "{refused:?}");
    let down = with(&[("COMPOSE_PROGRESS", "quiet")], &["down"]);
    down.ok();
    assert_eq!(down.err, "");
}

#[test]
fn a_file_that_one_service_misses_hinders_no_other() {
    let situation = Situation::new(&[(
        "compose.yaml",
        &format!(
            "services:\n  a:\n    {IDLE}  b:\n    env_file: missing.env\n    {IDLE}  c:\n    volumes: [{{type: image, \
             source: busybox, target: /b}}]\n    {IDLE}"
        ),
    )]);
    situation.compose(&["up", "-d", "a"]).ok();
    assert_eq!(situation.compose(&["ps", "--services"]).ok(), "a");
    situation.compose(&["exec", "-T", "a", "true"]).ok();
    assert_eq!(situation.compose(&["config", "--services"]).ok(), "a\nb\nc");
    for (service, words) in [
        ("b", "missing.env not found"),
        ("c", "volumes of type 'image'"),
    ] {
        let up = situation.compose(&["up", "-d", service]);
        assert_eq!(up.code, 1, "{up:?}");
        assert!(up.err.contains(words), "{up:?}");
    }
    situation.compose(&["down"]).ok();
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
    let situation = Situation::new(&[(
        "compose.yaml",
        &format!("services:\n  a:\n    {IDLE}  b:\n    depends_on: [a]\n    {IDLE}"),
    )]);
    // While the containers are made, while they start, and once they run.
    for pause in [0, 5, 10, 15, 20, 30, 50, 500] {
        let mut command = situation.ply.command(&["compose", "up"]);
        command
            .current_dir(situation.ply.path("app"))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut child = tests::interruptible(&mut command)
            .spawn()
            .expect("ply runs");
        eventually("the containers", || {
            situation.compose(&["ps", "-aq"]).out.lines().count() == 2
        });
        std::thread::sleep(Duration::from_millis(pause));
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it runs");
        assert_eq!(child.wait().expect("it ends").code(), Some(130));
        assert_eq!(
            situation.compose(&["ps", "-q"]).ok(),
            "",
            "after {pause} ms"
        );
        situation.compose(&["down"]).ok();
    }
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
    let file = |number: u32| {
        let one = |name: &str| {
            format!(
                "  {name}:\n    image: busybox\n    init: true\n    command: sleep {}\n    volumes: ['/kept', 'data:/data']\n",
                1000 + number
            )
        };
        // Now and then the network is to be another one.
        format!(
            "services:\n{}{}{}volumes: {{data: }}\nnetworks: {{default: {{labels: {{kind: '{}'}}}}}}\n",
            one("a"),
            one("b"),
            one("c"),
            number / 5
        )
    };
    let situation = Situation::new(&[("compose.yaml", &file(0))]);
    for round in 0..32u32 {
        situation.write("compose.yaml", &file(round));
        let verb: &[&str] = match round % 8 {
            3 | 7 => &["compose", "down", "-v"],
            _ => &["compose", "up", "-d"],
        };
        let mut command = situation.ply.command(verb);
        command.current_dir(situation.ply.path("app"));
        let mut child = command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("ply runs");
        // Each round is killed at another moment.
        let deadline = Instant::now() + Duration::from_millis(u64::from(round * 67 % 251));
        while Instant::now() < deadline && child.try_wait().expect("a child").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = child.kill();
        child.wait().expect("it ends");
        if round % 4 == 1 {
            situation.compose(&["up", "-d"]).ok();
            assert_eq!(
                situation.names(),
                ["app-a-1", "app-b-1", "app-c-1"],
                "{round}"
            );
            let running = situation.compose(&["ps", "-q"]);
            assert_eq!(running.ok().lines().count(), 3, "{round}");
            for name in situation.names() {
                let command = situation.ply.inspect(&name, "{{.Config.Cmd}}");
                assert!(command.contains(&(1000 + round).to_string()), "{command}");
            }
            let template = "{{.Labels.kind}}";
            let kind = ["network", "inspect", "-f", template, "app_default"];
            assert_eq!(situation.ply.run(&kind).ok(), (round / 5).to_string());
        }
    }
    situation.compose(&["down", "-v"]).ok();
    assert!(situation.names().is_empty());
    let networks = situation
        .ply
        .run(&["network", "ls", "--format", "{{.Name}}"]);
    assert!(!networks.ok().contains("app_"), "{networks:?}");
    assert_eq!(situation.ply.run(&["volume", "ls", "-q"]).ok(), "");
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
        "timeout",
        "5",
        "wget",
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

#[test]
fn an_application_waits_for_its_database_whose_rows_outlive_down_and_up() {
    let situation = Situation::new(&[(
        "compose.yaml",
        "services:
  db:
    image: postgres
    init: true
    user: postgres
    environment: &place {PGDATA: /data/db, PATH: '/usr/lib/postgresql/15/bin:/bin'}
    command:
      - sh
      - -c
      - >-
        test -e $$PGDATA/PG_VERSION || initdb --auth=trust --no-sync --locale=C -E UTF8 >/dev/null || exit 1;
        exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp -c hba_file=/etc/hba
    configs: [{source: hba, target: /etc/hba}]
    volumes: ['rows:/data']
    stop_signal: SIGINT
    healthcheck: {test: pg_isready -h 127.0.0.1, interval: 0.2s, timeout: 10s, retries: 300}
  app:
    image: postgres
    user: postgres
    environment:
      <<: *place
      PGHOST: db
      PGOPTIONS: '-c client_min_messages=warning'
    entrypoint: ['psql', '-v', 'ON_ERROR_STOP=1', '-qAt', '-c']
    command:
      - >-
        create table if not exists seen (at serial, what text); insert into seen (what) values ('a row');
        select count(*), min(what) from seen
    depends_on: {db: {condition: service_healthy}}
volumes: {rows: }
configs: {hba: {file: ./hba.conf}}
",
    ), (
        "hba.conf",
        "local all all trust\nhost all all samenet trust\nhost all all 127.0.0.1/32 trust\n",
    )]);
    let tar = tests::postgres_tar().display().to_string();
    situation.ply.run(&["import", &tar, "postgres"]).ok();
    let said = |text: &str| {
        let wanted = format!("app-1  | {text}\n");
        eventually(&wanted, || {
            situation.compose(&["logs", "app"]).out == wanted
        });
    };
    let up = situation.compose(&["up", "-d"]);
    up.ok();
    let position = |words: &str| {
        up.err
            .find(words)
            .unwrap_or_else(|| panic!("{words}: {up:?}"))
    };
    assert!(position("app-db-1  Healthy") < position("app-app-1  Starting"));
    said("1|a row");
    situation.compose(&["down"]).ok();
    situation.compose(&["up", "-d"]).ok();
    said("2|a row");
    // One that was killed recovers.
    kill_9(situation.ply.monitor_of("app-db-1"));
    situation.compose(&["down", "--remove-orphans"]).ok();
    situation.compose(&["up", "-d"]).ok();
    said("3|a row");
    situation.compose(&["down", "-v"]).ok();
    assert_eq!(situation.ply.run(&["volume", "ls", "-q"]).ok(), "");
    situation.compose(&["up", "-d"]).ok();
    said("1|a row");
    situation.compose(&["down", "-v"]).ok();
}

#[test]
fn block_and_memory_settings_reach_the_container() {
    let situation = Situation::new(&[(
        "compose.yaml",
        "services:
  a:
    image: busybox
    command: 'true'
    mem_swappiness: 10
    oom_kill_disable: true
    blkio_config:
      weight: 300
      weight_device: [{path: /dev/null, weight: 400}]
      device_read_bps: [{path: /dev/null, rate: '12mb'}]
      device_write_bps: [{path: /dev/null, rate: 0}]
      device_write_iops: [{path: /dev/null, rate: 30}]
",
    )]);
    situation.compose(&["create"]).ok();
    let shown = situation.ply.inspect("app-a-1", "{{json .HostConfig}}");
    for field in [
        "\"BlkioWeight\":300",
        "\"BlkioWeightDevice\":[{\"Path\":\"/dev/null\",\"Weight\":400}]",
        "\"BlkioDeviceReadBps\":[{\"Path\":\"/dev/null\",\"Rate\":12582912}]",
        "\"BlkioDeviceWriteBps\":null",
        "\"BlkioDeviceWriteIOps\":[{\"Path\":\"/dev/null\",\"Rate\":30}]",
        "\"MemorySwappiness\":10",
        "\"OomKillDisable\":true",
    ] {
        assert!(shown.contains(field), "{field}: {shown}");
    }
    // They are set before it starts: what is no block device has no rates.
    let up = situation.compose(&["up", "-d"]);
    up.fails(1, "/dev/null: block device required");
    situation.compose(&["down"]).ok();
    for (key, words) in [
        (
            "mem_swappiness: 101",
            "Invalid value: 101, valid memory swappiness range is 0-100",
        ),
        (
            "blkio_config: {weight: 5}",
            "Range of blkio weight is from 10 to 1000",
        ),
    ] {
        let file = format!("services:\n  a:\n    {IDLE}    {key}\n");
        situation.write("compose.yaml", &file);
        situation.compose(&["up", "-d"]).fails(1, words);
    }
    situation.compose(&["down"]).ok();
}

#[test]
fn hooks_are_run_after_a_start_and_before_a_stop() {
    let file = |code: u8| {
        format!(
            "services:
  a:
    {IDLE}    volumes: ['data:/data']
    post_start:
      - command: sh -c 'echo $$WHO $$(id -un) $$(pwd)'
        environment: [WHO=hook]
        user: web
        working_dir: /tmp
      - command: ['sh', '-c', 'echo started >> /data/seen']
    pre_stop:
      - {{command: sh -c 'echo stopping >> /data/seen; exit {code}'}}
volumes: {{data: {{name: seen}}}}
"
        )
    };
    let situation = Situation::new(&[("compose.yaml", &file(0))]);
    let seen = || {
        let volume = situation.ply.root().join("volumes/seen/_data/seen");
        fs::read_to_string(volume)
            .expect("a file")
            .replace('\n', " ")
    };
    let up = situation.compose(&["up", "-d"]);
    up.ok();
    assert!(up.err.contains("a-1 ->  | hook web /tmp\n"), "{up:?}");
    assert_eq!(seen(), "started ");
    situation.compose(&["restart"]).ok();
    assert_eq!(seen(), "started stopping started ");
    situation.compose(&["stop"]).ok();
    situation.compose(&["start"]).ok();
    situation.compose(&["up", "-d", "--force-recreate"]).ok();
    let so_far = "started stopping started stopping started stopping started ";
    assert_eq!(seen(), so_far);
    // A stop that its hook forbids does not come about; one of what has ended needs none.
    situation.write("compose.yaml", &file(3));
    let down = situation.compose(&["down"]);
    down.fails(1, "a hook exited with status 3");
    assert_eq!(
        situation.ply.inspect("app-a-1", "{{.State.Status}}"),
        "running"
    );
    situation.compose(&["kill"]).ok();
    situation.compose(&["down"]).ok();
    assert_eq!(seen(), format!("{so_far}stopping "));
    situation.write(
        "compose.yaml",
        &format!("services:\n  a:\n    {IDLE}    post_start: [{{command: sh -c 'exit 4'}}]\n"),
    );
    let up = situation.compose(&["up", "-d"]);
    up.fails(1, "a hook exited with status 4");
    situation.compose(&["down"]).ok();
}

#[test]
fn what_this_engine_has_none_of_is_refused_or_told_of() {
    let situation = Situation::new(&[]);
    let up = |key: &str| {
        let file = format!("services:\n  a:\n    {IDLE}    {key}\n");
        situation.write("compose.yaml", &file);
        situation.compose(&["up", "-d"])
    };
    for (key, words) in [
        (
            "gpus: all",
            "service \"a\": could not select device driver \"\" with capabilities: [[gpu]]",
        ),
        (
            "deploy: {resources: {reservations: {devices: [{driver: nvidia, capabilities: [gpu, utility]}]}}}",
            "could not select device driver \"nvidia\" with capabilities: [[gpu utility]]",
        ),
        ("models: [llm]", "'models' requires a model runner"),
        ("provider: {type: cloud}", "unsupported provider \"cloud\""),
        (
            "storage_opt: {size: 1G}",
            "storage_opt is not supported by the storage driver",
        ),
        (
            "cpu_rt_runtime: 95000",
            "kernel does not support CPU real-time scheduler",
        ),
        ("runtime: kata", "unknown or invalid runtime name: kata"),
        ("isolation: hyperv", "invalid isolation 'hyperv' on linux"),
        ("cgroup_parent: x", "cgroup_parent \"x\" is not supported"),
        (
            "use_api_socket: true",
            "use_api_socket: the engine has no socket to show",
        ),
        (
            "networks: {default: {interface_name: x}}",
            "networks.default.interface_name is not supported",
        ),
        (
            "post_start: [{user: x}]",
            "services.a.post_start[0] missing property 'command'",
        ),
    ] {
        let refused = up(key);
        refused.fails(1, words);
        assert_eq!(refused.err.lines().count(), 1, "{refused:?}");
        assert!(situation.names().is_empty(), "{key}");
    }
    for key in [
        "develop: {watch: []}",
        "cpu_rt_runtime: 0",
        "isolation: default",
        "gpus: []",
    ] {
        let up = up(key);
        up.ok();
        assert!(!up.err.contains("WARN"), "{key}: {up:?}");
    }
    let told = up("cpu_percent: 50");
    told.ok();
    assert!(
        told.err
            .contains("services.a.cpu_percent has no effect here and is ignored"),
        "{told:?}"
    );
    situation.compose(&["down"]).ok();
}

#[test]
fn changed_networks_are_made_anew_and_changed_volumes_asked_about() {
    let file = |subnet: u8, label: u8| {
        format!(
            "services:
  a:
    {IDLE}    networks: [n]
    volumes: ['v:/data']
  b:
    {IDLE}networks: {{n: {{ipam: {{config: [{{subnet: 10.231.{subnet}.0/24, aux_addresses: {{x: 10.231.{subnet}.2}}}}]}}}}}}
volumes: {{v: {{labels: {{made: '{label}'}}}}}}
"
        )
    };
    let situation = Situation::new(&[("compose.yaml", &file(1, 1))]);
    let address = || {
        let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        situation.ply.inspect("app-a-1", template)
    };
    let label = || {
        let shown = ["volume", "inspect", "-f", "{{.Labels.made}}", "app_v"];
        situation.ply.run(&shown).ok().to_owned()
    };
    situation.compose(&["up", "-d"]).ok();
    assert_eq!(address(), "10.231.1.3");
    let before = situation.ids();
    let again = situation.compose(&["up", "-d"]);
    assert!(!again.err.contains("Network"), "{again:?}");

    situation.write("compose.yaml", &file(2, 1));
    let up = situation.compose(&["up", "-d"]);
    up.ok();
    for line in [
        "Network app_n  Removed",
        "Network app_n  Created",
        "app-a-1  Started",
    ] {
        assert!(up.err.contains(line), "{up:?}");
    }
    assert!(!up.err.contains("app-b-1  St"), "{up:?}");
    assert_eq!(address(), "10.231.2.3");
    assert_eq!(situation.ids()[1], before[1]);

    situation
        .compose(&["exec", "-T", "a", "touch", "/data/kept"])
        .ok();
    situation.write("compose.yaml", &file(2, 2));
    let up = situation.compose(&["up", "-d"]);
    up.ok();
    let question = "Volume \"app_v\" exists but doesn't match configuration in compose file. Recreate (data will be \
                    lost)?";
    assert!(up.err.contains(question), "{up:?}");
    assert_eq!(label(), "1");
    situation
        .compose(&["exec", "-T", "a", "test", "-e", "/data/kept"])
        .ok();
    situation.compose(&["up", "-d", "-y"]).ok();
    assert_eq!(label(), "2");
    let kept = situation.compose(&["exec", "-T", "a", "test", "-e", "/data/kept"]);
    assert_eq!(kept.code, 1);

    // Somebody else on the network keeps it.
    let guest = [
        "run",
        "-d",
        "--name",
        "guest",
        "--network",
        "app_n",
        "busybox",
        "sleep",
        "1000",
    ];
    situation.ply.run(&guest).ok();
    situation.write("compose.yaml", &file(3, 2));
    situation
        .compose(&["up", "-d"])
        .fails(1, "error while removing network: network app_n id");
    situation.ply.run(&["rm", "-f", "guest"]).ok();
    situation.compose(&["up", "-d"]).ok();
    assert_eq!(address(), "10.231.3.3");
    situation.compose(&["down", "-v"]).ok();
}

#[test]
fn a_dry_run_tells_of_the_steps_and_takes_none() {
    let file = format!(
        "services:\n  a:\n    {IDLE}    depends_on: {{b: {{condition: service_healthy}}}}\n    networks: [n]\n    volumes: ['v:/v']\n  b:\n    build: nowhere\nnetworks: {{n: }}\nvolumes: {{v: }}\n"
    );
    let situation = Situation::new(&[("compose.yaml", &file)]);
    let up = situation.compose(&["--dry-run", "up", "-d"]);
    up.ok();
    let mut lines: Vec<&str> = up.err.lines().filter(|it| !it.ends_with("ing")).collect();
    lines.sort_unstable();
    let told = |id: &str, text: &str| format!(" DRY-RUN MODE -  {id}  {text}");
    assert_eq!(
        lines,
        [
            told("Container app-a-1", "Created"),
            told("Container app-a-1", "Started"),
            told("Container app-b-1", "Created"),
            told("Container app-b-1", "Started"),
            told("Network app_default", "Created"),
            told("Network app_n", "Created"),
            told("Service b", "Built"),
            told("Volume \"app_v\"", "Created"),
        ]
    );
    assert!(situation.names().is_empty());
    assert_eq!(situation.ply.run(&["volume", "ls", "-q"]).ok(), "");

    situation.write("compose.yaml", &format!("services:\n  a:\n    {IDLE}"));
    situation.compose(&["up", "-d"]).ok();
    let before = situation.ids();
    for (verb, line) in [
        (
            vec!["up", "-d", "--force-recreate"],
            "Container app-a-1  Recreated",
        ),
        (vec!["restart"], "Container app-a-1  Started"),
        (vec!["pause"], "Container app-a-1  Paused"),
        (vec!["kill"], "Container app-a-1  Killed"),
        (vec!["stop"], "Container app-a-1  Stopped"),
        (vec!["down"], "Network app_default  Removed"),
    ] {
        let told = situation.compose(&[vec!["--dry-run"], verb].concat());
        told.ok();
        assert!(told.err.contains(line), "{told:?}");
        assert_eq!(situation.ids(), before);
        assert_eq!(
            situation.ply.inspect("app-a-1", "{{.State.Status}}"),
            "running"
        );
    }
    situation
        .compose(&["--dry-run", "exec", "-T", "a", "true"])
        .fails(1, "--dry-run");
    situation.compose(&["down"]).ok();
}

#[test]
fn names_are_as_of_old_where_that_is_asked_for_and_work_can_be_one_by_one() {
    let file = format!(
        "services:\n  a:\n    {IDLE}  b:\n    {IDLE}  c: {{build: {{dockerfile_inline: FROM busybox}}}}\n"
    );
    let situation = Situation::new(&[("compose.yaml", &file)]);
    let flags = ["--compatibility", "--parallel", "1"];
    situation
        .compose(&[&flags[..], &["up", "-d", "--scale", "b=2"]].concat())
        .ok();
    assert_eq!(
        situation.names(),
        ["app_a_1", "app_b_1", "app_b_2", "app_c_1"]
    );
    let images = situation
        .ply
        .run(&["images", "--format", "{{.Repository}}"]);
    assert!(images.ok().contains("app_c"), "{images:?}");
    situation
        .compose(&[&flags[..], &["down", "--rmi", "local"]].concat())
        .ok();
    assert!(situation.names().is_empty());
    let images = situation
        .ply
        .run(&["images", "--format", "{{.Repository}}"]);
    assert_eq!(images.ok(), "busybox");
    situation
        .compose(&["--parallel", "x", "ps"])
        .fails(125, "invalid argument \"x\" for \"--parallel\" flag");
}

#[test]
fn services_share_namespaces_and_know_each_other_by_links() {
    let file = |seconds: u32| {
        format!(
            "services:
  web:
    image: busybox
    init: true
    command: sh -c 'mkdir /www; echo hello > /www/index.html; httpd -f -p 80 -h /www; sleep {seconds}'
    ipc: shareable
    healthcheck: {{test: wget -qO- http://127.0.0.1/, interval: 0.1s}}
  beside:
    {IDLE}    network_mode: service:web
    pid: service:web
    ipc: service:web
  linked:
    {IDLE}    links: ['web:site', web]
    depends_on: {{web: {{condition: service_healthy}}}}
"
        )
    };
    let situation = Situation::new(&[("compose.yaml", &file(1))]);
    let get = |service: &str, url: &str| {
        let command = ["exec", "-T", service, "wget", "-qO-", url];
        situation.compose(&command).out
    };
    for round in 1..3 {
        situation.write("compose.yaml", &file(round));
        situation.compose(&["up", "-d"]).ok();
        eventually("it serves beside", || {
            get("beside", "http://127.0.0.1/") == "hello\n"
        });
        assert_eq!(get("linked", "http://site/"), "hello\n", "{round}");
        assert_eq!(get("linked", "http://web/"), "hello\n", "{round}");
        assert_eq!(get("beside", "http://site/"), "", "{round}");
        let programs = situation.compose(&["exec", "-T", "beside", "ps", "-o", "args"]);
        assert!(programs.ok().contains("httpd -f"), "{programs:?}");
    }
    // The server's restart leaves the other one in a network that is gone: it is restarted too.
    situation.compose(&["restart", "web"]).ok();
    eventually("it serves beside again", || {
        get("beside", "http://127.0.0.1/") == "hello\n"
    });
    situation.compose(&["down"]).ok();

    situation.write(
        "compose.yaml",
        &format!("services:\n  a:\n    {IDLE}    network_mode: service:nobody\n"),
    );
    situation
        .compose(&["up", "-d"])
        .fails(1, "service \"a\" depends on undefined service \"nobody\"");
}

#[test]
fn a_build_has_what_its_service_asks_for() {
    let situation = Situation::new(&[(
        "compose.yaml",
        "services:
  a:
    image: made
    build:
      context: .
      ssh: ['mine=./agent.sock']
      shm_size: 8m
      ulimits: {nofile: {soft: 111, hard: 222}}
      extra_hosts: ['somewhere=10.1.2.3']
      entitlements: [security.insecure]
      cache_to: ['type=local,dest=cache']
      cache_from: ['type=local,src=cache']
      dockerfile_inline: |
        FROM busybox
        RUN --mount=type=ssh,id=mine test -S $$SSH_AUTH_SOCK && echo agent >> /seen
        RUN df -m /dev/shm | tail -n1 | tr -s ' ' | cut -d' ' -f2 >> /seen
        RUN ulimit -Sn >> /seen; ulimit -Hn >> /seen; grep somewhere /etc/hosts | cut -f1 >> /seen
        RUN --security=insecure test -e /proc/self && echo insecure >> /seen
        CMD [\"cat\", \"/seen\"]
",
    )]);
    let socket = situation.ply.path("app").join("agent.sock");
    let _agent = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    situation.compose(&["build"]).ok();
    let said = situation.ply.run(&["run", "--rm", "made"]);
    assert_eq!(said.ok(), "agent\n8\n111\n222\n10.1.2.3\ninsecure");
    assert!(situation.ply.path("app/cache/index.json").exists());
    fs::remove_file(&socket).expect("removed");
    situation
        .compose(&["build"])
        .fails(1, "agent.sock: no such file or directory");
}

#[test]
fn what_cannot_start_is_told_in_the_foreground_too() {
    let situation = Situation::new(&[(
        "compose.yaml",
        "services:\n  x: {image: busybox, network_mode: none, command: nosuchcmd}\n",
    )]);
    for _ in 0..5 {
        let up = situation.compose(&["up"]);
        assert_eq!(up.code, 1, "{up:?}");
        assert!(up.err.contains("\"nosuchcmd\""), "{up:?}");
        situation.compose(&["down"]).ok();
    }
}

#[test]
fn scripts_find_ports_scale_services_and_start_without_files() {
    let port = tests::free_port();
    let situation = Situation::new(&[(
        "compose.yaml",
        &format!(
            "services:\n  web:\n    {IDLE}    ports: ['{port}:80']\n    expose: ['90']\n  worker:\n    {IDLE}"
        ),
    )]);
    situation.compose(&["up", "-d"]).ok();
    let again = situation.compose(&["up", "-d"]);
    assert!(
        again.err.contains("Container app-web-1  Running"),
        "{again:?}"
    );
    assert_eq!(
        situation.compose(&["port", "web", "80"]).ok(),
        format!("0.0.0.0:{port}")
    );
    situation
        .compose(&["port", "web", "81"])
        .fails(1, "no port 81/tcp for container app-web-1");
    let web = situation.compose(&["ps", "--format", "json", "web"]);
    let web: serde_json::Value = serde_json::from_str(web.ok()).expect("JSON");
    let publisher = |url: &str, target: u16, published: u16| serde_json::json!({"URL": url, "TargetPort": target, "PublishedPort": published, "Protocol": "tcp"});
    assert_eq!(
        web["Publishers"],
        serde_json::json!([
            publisher("", 90, 0),
            publisher("0.0.0.0", 80, port),
            publisher("::", 80, port)
        ])
    );
    situation.compose(&["scale", "worker=3"]).ok();
    let workers = || {
        situation
            .compose(&["ps", "-q", "worker"])
            .out
            .lines()
            .count()
    };
    assert_eq!(workers(), 3);
    situation.compose(&["scale", "worker=1"]).ok();
    assert_eq!(workers(), 1);
    situation
        .compose(&["scale", "worker"])
        .fails(1, "invalid scale specifier: worker");
    situation.compose(&["stop", "web"]).ok();
    assert!(
        situation
            .ply
            .run(&["compose", "ls"])
            .ok()
            .contains("running(1) ")
    );
    assert!(
        situation
            .ply
            .run(&["compose", "ls", "-a"])
            .ok()
            .contains("exited(1), running(1)")
    );
    // Where its files are not.
    situation.ply.run(&["compose", "-p", "app", "start"]).ok();
    assert_eq!(
        situation.ply.inspect("app-web-1", "{{.State.Status}}"),
        "running"
    );
    situation
        .compose(&["down", "nosuch"])
        .fails(1, "no such service: nosuch");
    situation
        .compose(&["run", "--nosuch=1", "web", "true"])
        .fails(125, "unknown flag: --nosuch");
    situation
        .compose(&["nosuch"])
        .fails(1, "unknown command: \"ply compose nosuch\"");
    situation.compose(&["down"]).ok();
}

#[test]
fn commands_have_a_terminal_where_there_is_one_unless_they_are_to_have_none() {
    let situation = Situation::new(&[("compose.yaml", &format!("services:\n  a:\n    {IDLE}"))]);
    situation.compose(&["up", "-d"]).ok();
    let script = "test -t 1 && echo term\\inal || echo pi\\pe";
    let verbs: [&[&str]; 2] = [&["exec"], &["run", "--rm"]];
    for verb in verbs {
        for (flags, said) in [
            (&["-it"][..], "terminal"),
            (&["-i", "-t"], "terminal"),
            (&[], "terminal"),
            (&["-T"], "pipe"),
            (&["--no-TTY"], "pipe"),
            (&["--tty=false", "--interactive=false"], "pipe"),
        ] {
            let command = [verb, flags, &["a", "sh", "-c", script]].concat();
            let mut terminal = tests::Terminal::new(24, 80);
            let mut compose = situation
                .ply
                .command(&[&["compose"], &command[..]].concat());
            let mut child = terminal.spawn(compose.current_dir(situation.ply.path("app")));
            terminal.type_in("", said);
            assert!(child.wait().expect("it ends").success(), "{command:?}");
            // From a script there is none.
            let piped = situation.compose(&command);
            assert_eq!(piped.ok(), "pipe", "{command:?}");
        }
    }
    situation.compose(&["down"]).ok();
}

/// What a command has written so far, to a file, and the command.
struct Running {
    child: std::process::Child,
    said: std::path::PathBuf,
}

impl Situation {
    /// Starts `ply compose` in the project's directory.
    fn start(&self, arguments: &[&str]) -> Running {
        let said = self.ply.path("said");
        let file = fs::File::create(&said).expect("a file");
        let mut command = self.ply.command(&[&["compose"], arguments].concat());
        command
            .current_dir(self.ply.path("app"))
            .stdout(file.try_clone().expect("a file"))
            .stderr(file);
        let child = tests::interruptible(&mut command)
            .spawn()
            .expect("ply runs");
        Running { child, said }
    }

    fn status(&self, name: &str) -> String {
        self.ply.inspect(name, "{{.State.Status}}")
    }
}

impl Running {
    fn said(&self) -> String {
        fs::read_to_string(&self.said).expect("a file")
    }

    #[track_caller]
    fn says(&self, words: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.said().contains(words) {
            assert!(
                Instant::now() < deadline,
                "{words:?} is not in {}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn interrupt(&self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it runs");
    }

    fn code(mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }
}

#[test]
fn the_code_of_the_service_that_is_asked_for_is_its_own_whoever_ends_first() {
    let file = |job: &str, app: &str| {
        format!(
            "services:\n  app:\n    {app}    depends_on: {{job: {{condition: service_completed_successfully}}}}\n  job: {{image: busybox, command: {job}}}\n  other: {{image: busybox, command: 'true'}}\n"
        )
    };
    let situation = Situation::new(&[(
        "compose.yaml",
        &format!("services:\n  app:\n    {IDLE}  other: {{image: busybox, command: sleep 0.2}}\n"),
    )]);
    for _ in 0..3 {
        let up = situation.compose(&["up", "--exit-code-from", "app"]);
        assert_eq!(up.code, 143, "{up:?}");
        assert!(up.out.contains("app-1 exited with code 143\n"), "{up:?}");
        situation.compose(&["down"]).ok();
    }
    // What others wait for may end.
    situation.write(
        "compose.yaml",
        &file("sleep 0.1", "image: busybox\n    command: sh -c 'exit 4'\n")
            .replace("'true'", "sleep 1000"),
    );
    let up = situation.compose(&["up", "-t", "0", "--exit-code-from", "app"]);
    assert_eq!(up.code, 4, "{up:?}");
    situation.compose(&["down"]).ok();
    for (job, words) in [
        (
            "'false'",
            "service \"job\" didn't complete successfully: exit 1",
        ),
        ("nosuchcmd", "\"nosuchcmd\""),
    ] {
        for flags in [
            &["--exit-code-from", "app"][..],
            &["--abort-on-container-exit"],
            &["--abort-on-container-failure"],
            &[],
        ] {
            situation.write("compose.yaml", &file(job, IDLE));
            for _ in 0..3 {
                let up = situation.compose(&[&["up"], flags].concat());
                up.fails(1, words);
                assert_eq!(situation.status("app-app-1"), "created", "{up:?}");
                situation.compose(&["down"]).ok();
            }
        }
    }
}

#[test]
fn a_wait_tells_of_what_does_not_stay_up() {
    let file = |service: &str| {
        format!("services:\n  idle:\n    {IDLE}  x:\n    image: busybox\n    init: true\n{service}")
    };
    let situation = Situation::new(&[("compose.yaml", &file("    command: sleep 1000\n"))]);
    situation.compose(&["up", "--wait"]).ok();
    situation.compose(&["pause", "x"]).ok();
    situation.compose(&["up", "--wait"]).ok();
    situation.compose(&["down"]).ok();
    for (service, code) in [
        ("    command: sh -c 'exit 7'\n", 7),
        ("    command: sh -c 'sleep 0.2; exit 3'\n", 3),
        ("    command: 'true'\n", 0),
        (
            "    command: sh -c 'sleep 0.1; exit 5'\n    restart: always\n",
            5,
        ),
        (
            "    command: sh -c 'exit 6'\n    healthcheck: {test: 'true', interval: 10s}\n",
            6,
        ),
    ] {
        situation.write("compose.yaml", &file(service));
        let words = format!("container app-x-1 exited ({code})");
        situation.compose(&["up", "--wait"]).fails(1, &words);
        situation.compose(&["down"]).ok();
    }
    // What others wait for is to complete.
    let waits = format!(
        "    command: 'true'\n  y:\n    {IDLE}    depends_on: {{x: {{condition: service_completed_successfully}}}}\n"
    );
    situation.write("compose.yaml", &file(&waits));
    situation.compose(&["up", "--wait"]).ok();
    situation.compose(&["down"]).ok();
    let sick = "    command: sleep 1000\n    healthcheck: {test: 'false', interval: 100s, start_period: 100s}\n";
    situation.write("compose.yaml", &file(sick));
    situation
        .compose(&["up", "--wait", "--wait-timeout", "1"])
        .fails(1, "application not healthy after 1s");
    let needs =
        format!("{sick}  y:\n    {IDLE}    depends_on: {{x: {{condition: service_healthy}}}}\n");
    situation.write("compose.yaml", &file(&needs));
    situation
        .compose(&["up", "--wait", "--wait-timeout", "1"])
        .fails(1, "timeout waiting for dependencies");
    situation.compose(&["down"]).ok();
}

#[test]
fn an_interrupt_leaves_what_was_not_asked_for_running() {
    let situation = Situation::new(&[(
        "compose.yaml",
        &format!(
            "services:\n  db:\n    {IDLE}  app:\n    {IDLE}    depends_on: [db]\n  job: {{image: busybox, command: 'true', depends_on: [db]}}\n"
        ),
    )]);
    situation.compose(&["up", "-d", "db"]).ok();
    let up = situation.start(&["up", "app"]);
    eventually("app runs", || {
        situation.compose(&["ps", "-q", "app"]).out.lines().count() == 1
    });
    up.interrupt();
    assert_eq!(up.code(), Some(130));
    assert_eq!(situation.status("app-app-1"), "exited");
    assert_eq!(situation.status("app-db-1"), "running");
    // Nor is it waited for.
    let up = situation.compose(&["up", "job"]);
    assert!(up.ok().contains("job-1 exited with code 0"), "{up:?}");
    assert_eq!(situation.status("app-db-1"), "running");
    situation.compose(&["down"]).ok();
}

#[test]
fn logs_are_followed_of_what_comes_later_too() {
    let file = |words: &str| {
        format!(
            "services:\n  a:\n    image: busybox\n    init: true\n    command: sh -c 'echo {words}; sleep 1000'\n  b:\n    image: busybox\n    init: true\n    command: sh -c 'echo other; sleep 1000'\n"
        )
    };
    let situation = Situation::new(&[("compose.yaml", &file("hello"))]);
    situation.compose(&["up", "-d"]).ok();
    for follow in [&["logs", "-f", "a"][..], &["up", "a"]] {
        let following = situation.start(follow);
        if follow[0] == "logs" {
            following.says("a-1  | hello");
        } else {
            following.says("Attaching to a");
        }
        situation.compose(&["up", "-d", "--scale", "a=2"]).ok();
        following.says("a-2  | hello");
        situation.compose(&["up", "-d", "--scale", "a=1"]).ok();
        following.says("a-2 exited with code 143");
        situation.write("compose.yaml", &file("changed"));
        situation.compose(&["up", "-d", "a"]).ok();
        following.says("a-1  | changed");
        situation.compose(&["restart", "a"]).ok();
        eventually("it says it twice", || {
            following.said().matches("a-1  | changed").count() == 2
        });
        situation.compose(&["stop", "a"]).ok();
        let said = following.said();
        assert_eq!(following.code(), Some(0), "{said}");
        assert!(!said.contains("other"), "{said}");
        situation.write("compose.yaml", &file("hello"));
        situation.compose(&["up", "-d"]).ok();
    }
    situation.compose(&["down"]).ok();
    assert_eq!(situation.compose(&["logs", "-f"]).ok(), "");
}

#[test]
fn nothing_is_written_over_what_containers_say() {
    let situation = Situation::new(&[(
        "compose.yaml",
        "services:
  first: {image: busybox, init: true, command: sh -c 'echo early; sleep 1000'}
  second:
    image: busybox
    init: true
    command: sh -c 'sleep 0.2; echo late; sleep 1000'
    depends_on: [first]
    post_start: [{command: echo hooked}]
",
    )]);
    let mut terminal = tests::Terminal::new(24, 80);
    let mut compose = situation.ply.command(&["compose", "up"]);
    compose.current_dir(situation.ply.path("app"));
    let mut child = terminal.spawn(tests::interruptible(&mut compose));
    let mut screen = String::new();
    let mut shows = |terminal: &mut tests::Terminal, words: &[&str]| {
        for words in words {
            if !screen.contains(words) {
                screen += &terminal.type_in("", words);
            }
        }
    };
    shows(&mut terminal, &["early", "hooked", "late"]);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it runs");
    let ends = [
        "first-1 exited with code 143",
        "second-1 exited with code 143",
    ];
    shows(&mut terminal, &ends);
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    let (made, logs) = screen.split_once("Attaching to").expect("logs");
    assert!(made.contains("\x1b[2K[+] Running"), "{screen:?}");
    for words in ["early", "hooked", "late", "Gracefully Stopping"] {
        assert!(logs.contains(words), "{words}: {screen:?}");
    }
    assert!(!logs.contains("\x1b[2K"), "{screen:?}");
    // A hook's words stand between blocks.
    let mut compose = situation.ply.command(&["compose", "up", "-d"]);
    let mut child = terminal.spawn(compose.current_dir(situation.ply.path("app")));
    let screen = terminal.type_in("", "hooked");
    assert!(child.wait().expect("it ends").success(), "{screen:?}");
    situation.compose(&["down"]).ok();
}

#[test]
fn a_name_alone_means_the_project_whatever_files_are_here() {
    let situation = Situation::new(&[
        (
            "compose.yaml",
            &format!(
                "services:\n  web:\n    {IDLE}    depends_on: {{db: {{condition: service_healthy, restart: true}}}}\n  db:\n    {IDLE}    healthcheck: {{test: 'true', interval: 0.1s}}\n    volumes: ['v:/v']\nvolumes: {{v: }}\n"
            ),
        ),
        (
            "../here/compose.yaml",
            &format!("services:\n  web:\n    {IDLE}  more:\n    {IDLE}volumes: {{w: }}\n"),
        ),
    ]);
    let named =
        |arguments: &[&str]| situation.compose_in("here", &[&["-p", "app"], arguments].concat());
    situation.compose(&["up", "-d"]).ok();
    situation.compose_in("here", &["up", "-d"]).ok();
    assert_eq!(named(&["ps", "--services"]).ok(), "db\nweb");
    named(&["ps", "nobody"]).ok();
    named(&["stop"]).ok();
    assert_eq!(named(&["ps", "-q"]).ok(), "");
    // What it depends on comes first.
    let start = named(&["start", "web"]);
    start.ok();
    assert!(
        start.err.contains("Container app-db-1  Healthy"),
        "{start:?}"
    );
    assert_eq!(named(&["ps", "--services"]).ok(), "db\nweb");
    let restart = named(&["restart", "db"]);
    restart.ok();
    assert!(
        restart.err.contains("Container app-web-1  Started"),
        "{restart:?}"
    );
    named(&["start", "more"]).fails(1, "no such service: more");
    situation
        .compose_in("here", &["-p", "nobody", "start"])
        .fails(1, "no container found for project \"nobody\": not found");
    named(&["down", "more"]).ok();
    named(&["down", "-v"]).ok();
    assert_eq!(situation.names(), ["here-more-1", "here-web-1"]);
    let networks = situation
        .ply
        .run(&["network", "ls", "--format", "{{.Name}}"]);
    assert!(!networks.ok().contains("app_"), "{networks:?}");
    assert_eq!(situation.ply.run(&["volume", "ls", "-q"]).ok(), "");
    // Files that are named count.
    named(&["-f", "compose.yaml", "ps", "nobody"]).fails(1, "no such service: nobody");
    situation.compose_in("here", &["down"]).ok();
}

#[test]
fn a_start_begins_with_what_is_depended_on_and_can_wait() {
    let situation = Situation::new(&[(
        "compose.yaml",
        &format!(
            "services:\n  app:\n    {IDLE}    depends_on: [db]\n  db:\n    {IDLE}  apart:\n    {IDLE}  short: {{image: busybox, command: sh -c 'exit 3'}}\n"
        ),
    )]);
    situation
        .compose(&["start"])
        .fails(1, "has no container to start");
    situation.compose(&["create"]).ok();
    let start = situation.compose(&["start", "app"]);
    start.ok();
    let position = |words: &str| start.err.find(words).unwrap_or_else(|| panic!("{start:?}"));
    assert!(position("app-db-1  Started") < position("app-app-1  Starting"));
    assert_eq!(situation.compose(&["ps", "--services"]).ok(), "app\ndb");
    let start = situation.compose(&["start", "--wait", "--wait-timeout", "30", "apart"]);
    assert!(
        start.err.contains("Container app-apart-1  Healthy"),
        "{start:?}"
    );
    situation
        .compose(&["start", "--wait", "short"])
        .fails(1, "container app-short-1 exited (3)");
    situation.compose(&["down"]).ok();
}

#[test]
fn files_are_copied_to_all_containers_of_a_service_and_from_the_first() {
    let situation = Situation::new(&[
        ("compose.yaml", &format!("services:\n  a:\n    {IDLE}")),
        ("file", "content"),
    ]);
    situation.compose(&["up", "-d", "--scale", "a=3"]).ok();
    let has = |index: &str, path: &str| {
        let test = ["exec", "-T", "--index", index, "a", "test", "-e", path];
        situation.compose(&test).code == 0
    };
    situation.compose(&["cp", "file", "a:/all"]).ok();
    situation
        .compose(&["cp", "--index", "2", "file", "a:/one"])
        .ok();
    for index in ["1", "2", "3"] {
        assert!(has(index, "/all"), "{index}");
        assert_eq!(has(index, "/one"), index == "2", "{index}");
    }
    situation.compose(&["cp", "a:/all", "back"]).ok();
    assert_eq!(
        fs::read_to_string(situation.ply.path("app/back")).expect("a file"),
        "content"
    );
    situation
        .compose(&["cp", "a:/one", "none"])
        .fails(1, "/one");
    situation
        .compose(&["cp", "--index", "2", "a:/one", "from2"])
        .ok();
    situation
        .compose(&["cp", "--index", "7", "file", "a:/x"])
        .fails(1, "is not running container #7");
    situation.compose(&["down"]).ok();
}

#[test]
fn what_scripts_write_for_compose_is_understood() {
    let situation = Situation::new(&[
        (
            "compose.yaml",
            &format!(
                "services:\n  a:\n    {IDLE}  b: {{build: {{dockerfile_inline: FROM busybox}}, command: 'true'}}\n"
            ),
        ),
        ("variables", "FROM_FILE=file\nBOTH=file\n"),
    ]);
    let version = situation.compose(&["version"]).ok().to_owned();
    assert_eq!(situation.compose(&["--version"]).ok(), version);
    assert_eq!(situation.compose(&["-v"]).ok(), version);
    let flags = [
        "build",
        "--progress",
        "plain",
        "-m",
        "1g",
        "--builder",
        "default",
        "--provenance=false",
        "--sbom",
        "false",
        "--compress",
        "--force-rm",
        "--no-rm",
        "--parallel",
        "b",
    ];
    situation.compose(&flags).ok();
    let up = situation.compose(&["up", "--dry-run", "-d", "--menu=false"]);
    up.ok();
    assert!(
        up.err
            .contains("DRY-RUN MODE -  Container app-a-1  Created"),
        "{up:?}"
    );
    assert!(situation.names().is_empty());
    let up = situation.compose(&["--no-ansi", "--verbose", "up", "-d", "a"]);
    up.ok();
    assert!(up.err.contains("'--no-ansi' is DEPRECATED"), "{up:?}");
    situation.compose(&["down", "--dry-run"]).ok();
    assert_eq!(situation.names(), ["app-a-1"]);
    let said = situation.compose(&[
        "run",
        "--rm",
        "-T",
        "--env-from-file",
        "variables",
        "-e",
        "BOTH=line",
        "--volumes",
        "/v",
        "a",
        "sh",
        "-c",
        "echo $FROM_FILE $BOTH; test -d /v",
    ]);
    assert_eq!(said.ok(), "file line");
    situation
        .compose(&["exec", "-T", "a", "touch", "/made"])
        .ok();
    situation
        .compose(&["commit", "-m", "made", "a", "made:1"])
        .ok();
    situation
        .ply
        .run(&["run", "--rm", "made:1", "test", "-e", "/made"])
        .ok();
    situation.compose(&["export", "-o", "a.tar", "a"]).ok();
    let tar = situation.ply.path("app/a.tar");
    let listed = tests::must("tar", &["-tf", &tar.to_string_lossy()]);
    assert!(
        listed
            .lines()
            .any(|line| line.trim_start_matches("./") == "made")
    );
    situation
        .compose(&["export", "nobody"])
        .fails(1, "no such service: nobody");
    assert_eq!(
        situation.compose(&["convert"]).ok(),
        situation.compose(&["config"]).ok()
    );
    let help = situation.compose(&["help", "up"]);
    assert!(
        help.ok().contains("ply compose up [OPTIONS] [SERVICE]..."),
        "{help:?}"
    );
    situation
        .compose(&["-p", "x"])
        .fails(1, "See 'ply compose --help'");
    situation.compose(&["rm", "-fsa"]).ok();
    situation
        .compose(&["down", "--volume", "--rmi", "local"])
        .ok();
}
