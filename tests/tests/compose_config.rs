//! `ply compose config` beside docker-compose 1.29's: what that resolves files to means the same as the files.
#![allow(missing_docs)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tests::Output;
use tests::Ply;

/// A project's files, and what is said before `config`.
struct Case {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
    flags: &'static [&'static str],
}

/// Variables of the process that both see.
const VARIABLES: [(&str, &str); 4] = [
    ("FROM_SHELL", "of the shell"),
    ("EMPTY", ""),
    ("TAG", "9.9"),
    ("HOME", "/home/somebody"),
];

const CASES: &[Case] = &[
    Case {
        name: "everything at once",
        files: &[
            (
                "docker-compose.yml",
                r#"
x-common: &common
  restart: always
  environment: &env
    A: "${A:-default a}"
    C: "$$literal"
services:
  web:
    <<: *common
    image: "nginx:${TAG}"
    command: sh -c 'echo "hi  there" $$X'
    ports: ["80:8080", "127.0.0.1:90-91:90-91/udp", "1234", "8000-8002:9000-9002"]
    env_file: [a.env, b.env]
    environment:
      <<: *env
      D: 3
      T: "true"
      E:
      FROM_SHELL:
    volumes: ["./data:/data:ro", "named:/n", "/anon", "~/x:/x", "/abs/../y:/y:rw"]
    networks: {front: {aliases: [w], ipv4_address: 10.0.0.5}, default: }
    depends_on: [db]
    labels: [a=b, c=, "d=e=f", g]
    logging: {driver: json-file, options: {max-size: 10m}}
    healthcheck: {test: "true", interval: 1m30s, timeout: 500ms, retries: 3, start_period: 1h}
    ulimits: {nproc: 65535, nofile: {soft: 1, hard: 2}}
    deploy: {resources: {limits: {cpus: "0.5", memory: 50M}}, replicas: 2}
    sysctls: [net.core.somaxconn=1024]
    extra_hosts: ["h:1.2.3.4"]
    dns: 8.8.8.8
    dns_search: [a.example, b.example]
    tmpfs: /run
    cap_add: [ALL]
    stop_grace_period: 1m
    security_opt: [no-new-privileges]
    devices: ["/dev/null:/dev/x:r", "/dev/zero"]
    shm_size: 64m
    user: "1000:1000"
    build: {context: ./src, args: [X=1, FROM_SHELL], dockerfile: D, target: t, labels: {q: r}}
  db:
    image: pg
    entrypoint: [a, b c]
    init: true
    expose: [5432, "80-81"]
    secrets: [s, {source: s, target: t, mode: 0400}]
    pid: host
volumes: {named: {driver_opts: {type: none}, labels: [l=1]}, other: {external: true, name: somewhere}}
networks: {front: {ipam: {config: [{subnet: 10.0.0.0/24}]}, internal: true, driver: bridge, driver_opts: {a: 1}}}
secrets: {s: {file: ./s.txt}}
"#,
            ),
            ("a.env", "X=1\nY=\"q u\"\n"),
            ("b.env", "X=2\n#c\nW=a # b\nV=a#b\nU='single $TAG'\n"),
            (".env", "TAG=1.2\nE=from dotenv\n"),
            ("s.txt", ""),
            ("src/D", ""),
        ],
        flags: &[],
    },
    Case {
        name: "variables",
        files: &[
            (
                "docker-compose.yml",
                r#"
services:
  a:
    image: "${IMAGE}"
    command: ["$ONE", "${ONE}", "${NONE:-d}", "${NONE-d}", "${EMPTY:-d}", "${EMPTY-d}", "${ONE:?no}", "${EMPTY?no}",
      "$${ONE}", "$$$$", "a${ONE}b$ONE.c", "${NONE:-}", "${NONE:-a b}", "${NONE:-/x/y:z}", "$${NONE:?x}"]
    environment:
      KEY: "${FROM_SHELL}"
    ports: ["${PORT}:80"]
    tty: "${YES}"
    privileged: "${YES}"
    cpus: "${HALF}"
"#,
            ),
            (
                ".env",
                "IMAGE=of-dotenv\nONE=1\nPORT=8080\nYES=true\nHALF=0.5\nEMPTY=not empty\n",
            ),
        ],
        flags: &[],
    },
    Case {
        name: "the lines of .env",
        files: &[
            (
                "docker-compose.yml",
                r#"
services:
  a:
    image: i
    command: ["$A", "$B", "$C", "$D", "$E", "$F", "$G", "$H", "$I"]
"#,
            ),
            (
                ".env",
                "# comment\n\nA=plain\nB=\"double quoted\"\nC='single quoted'\nexport D=exported\nE = spaced\nF=a=b=c\n\
                 G=with # comment\nH=hash#inside\nI=\n",
            ),
        ],
        flags: &[],
    },
    Case {
        name: "another env file",
        files: &[
            (
                "docker-compose.yml",
                "services: {a: {image: \"i:${V}\", command: [\"${W:-none}\"]}}\n",
            ),
            (".env", "V=default\nW=seen\n"),
            ("other.env", "V=other\n"),
        ],
        flags: &["--env-file", "other.env"],
    },
    Case {
        name: "one file over another",
        files: &[
            (
                "base.yml",
                r#"
services:
  a:
    image: base
    command: echo base
    entrypoint: [e, f]
    environment: {A: 1, B: 2}
    labels: [x=1, y=2]
    ports: ["80:80"]
    expose: ["1"]
    volumes: ["./one:/one", "two:/two", "./three:/three:ro"]
    dns: [1.1.1.1]
    networks: [n]
    depends_on: [b]
    extra_hosts: ["h:1.2.3.4"]
    healthcheck: {test: [CMD, x], interval: 5s}
    logging: {driver: json-file, options: {max-size: 1m}}
    build: {context: ., args: {X: 1, Y: 2}}
    ulimits: {nofile: 5}
  b: {image: b}
  c: {image: c}
volumes: {two: }
networks: {n: }
"#,
            ),
            (
                "over.yml",
                r#"
services:
  a:
    image: over
    command: [echo, over]
    environment: [B=3, C=4]
    labels: {y: "3", z: "4"}
    ports: ["81:81"]
    expose: ["2"]
    volumes: ["./other:/one", "four:/four"]
    dns: 2.2.2.2
    networks: {m: {aliases: [q]}}
    depends_on: [c]
    extra_hosts: ["i:1.2.3.4"]
    healthcheck: {interval: 6s, retries: 2}
    logging: {options: {max-file: "3"}}
    build: {args: {Y: 3}, dockerfile: other}
    ulimits: {nproc: {soft: 1, hard: 2}}
  d: {image: d}
volumes: {four: }
networks: {m: {driver: bridge}}
"#,
            ),
        ],
        flags: &["-f", "base.yml", "-f", "over.yml"],
    },
    Case {
        name: "the usual override",
        files: &[
            (
                "docker-compose.yml",
                "services: {a: {image: i, environment: {X: '1', Y: '1'}}}\n",
            ),
            (
                "docker-compose.override.yml",
                "services: {a: {environment: [X=2], tty: true, stdin_open: true}}\n",
            ),
        ],
        flags: &[],
    },
    Case {
        name: "extensions",
        files: &[
            (
                "docker-compose.yml",
                r#"
services:
  base:
    image: base
    environment: {A: base, B: base}
    volumes: ["./d:/d"]
    cap_add: [NET_ADMIN]
    labels: {l: base}
  a:
    extends: base
    environment: {B: own}
    command: x
  b:
    extends: {file: sub/other.yml, service: far}
    environment: {B: own}
    labels: [m=own]
  c:
    extends: {service: a}
    image: other
"#,
            ),
            (
                "sub/other.yml",
                r#"
services:
  far:
    extends: {file: deep.yml, service: deep}
    volumes: ["./rel:/rel"]
    build: ./ctx
    env_file: far.env
    environment: [A=far]
"#,
            ),
            (
                "sub/deep.yml",
                "services: {deep: {image: deep, environment: {A: deep, D: deep}, dns: [9.9.9.9]}}\n",
            ),
            ("sub/ctx/Dockerfile", ""),
            ("sub/far.env", "B=file\nF=file\n"),
        ],
        flags: &[],
    },
    Case {
        name: "anchors",
        files: &[(
            "docker-compose.yml",
            r#"
x-env: &env {A: '1', B: '2'}
x-more: &more {B: '3', C: '4'}
x-list: &list [a, b]
x-service: &service
  image: shared
  environment:
    <<: [*env, *more]
    D: '5'
services:
  a:
    <<: *service
    command: *list
  b:
    <<: *service
    image: own
    environment: {<<: *more, E: '6'}
    command: &text "folded"
    working_dir: &dir /w
  c:
    image: *text
    command: |
      one
      two
    entrypoint: >-
      three
      four
    working_dir: *dir
"#,
        )],
        flags: &[],
    },
    Case {
        name: "profiles",
        files: &[(
            "docker-compose.yml",
            r#"
services:
  always: {image: i}
  wanted: {image: i, profiles: [x, y]}
"#,
        )],
        flags: &["--profile", "y"],
    },
    Case {
        name: "values that YAML reads otherwise",
        files: &[(
            "docker-compose.yml",
            r#"
services:
  a:
    image: "i"
    environment: {IS_OFF: "off", NUMBER: 010, FLOAT: 1.50, IS_YES: "yes", NOTHING: null, TIME: "12:30:45",
      DATE: "2001-01-01", TILDE: "~", LONG: 12345678901234567890}
    command: ["yes", "0x10", "1_000", "null"]
    stop_signal: SIGINT
    oom_score_adj: -500
    mem_swappiness: 0
    cpu_shares: 73
    cpuset: 0,1
    pids_limit: -1
"#,
        )],
        flags: &[],
    },
    Case {
        name: "a directory of the project's own",
        files: &[
            (
                "sub/compose.yml",
                "services: {a: {image: \"i:${V}\", volumes: [\"./d:/d\"], build: ctx, env_file: x.env}}\n",
            ),
            (".env", "V=here\n"),
            ("sub/.env", "V=there\n"),
            ("x.env", "A=1\n"),
            ("ctx/Dockerfile", ""),
        ],
        flags: &["-f", "sub/compose.yml", "--project-directory", "."],
    },
];

/// Files that neither takes.
const REFUSED: &[Case] = &[
    Case {
        name: "a variable that has to be set",
        files: &[(
            "docker-compose.yml",
            "services: {a: {image: \"${NONE:?set it}\"}}\n",
        )],
        flags: &[],
    },
    Case {
        name: "a variable that may not be empty",
        files: &[(
            "docker-compose.yml",
            "services: {a: {image: \"${EMPTY:?set it}\"}}\n",
        )],
        flags: &[],
    },
    Case {
        name: "an unfinished variable",
        files: &[("docker-compose.yml", "services: {a: {image: \"${NONE\"}}\n")],
        flags: &[],
    },
    Case {
        name: "an unknown key",
        files: &[(
            "docker-compose.yml",
            "services: {a: {image: i, imgae: i}}\n",
        )],
        flags: &[],
    },
    Case {
        name: "a dependency on nobody",
        files: &[(
            "docker-compose.yml",
            "services: {a: {image: i, depends_on: [b]}}\n",
        )],
        flags: &[],
    },
    Case {
        name: "a circle of dependencies",
        files: &[(
            "docker-compose.yml",
            "services: {a: {image: i, depends_on: [b]}, b: {image: i, depends_on: [a]}}\n",
        )],
        flags: &[],
    },
    Case {
        name: "an extension of nobody",
        files: &[(
            "docker-compose.yml",
            "services: {a: {extends: {service: b}}}\n",
        )],
        flags: &[],
    },
    Case {
        name: "a volume that is none of the project's",
        files: &[(
            "docker-compose.yml",
            "services: {a: {image: i, volumes: ['v:/v']}}\n",
        )],
        flags: &[],
    },
    Case {
        name: "no image and no build",
        files: &[("docker-compose.yml", "services: {a: {command: x}}\n")],
        flags: &[],
    },
    Case {
        name: "a bad port",
        files: &[(
            "docker-compose.yml",
            "services: {a: {image: i, ports: ['x:y']}}\n",
        )],
        flags: &[],
    },
    Case {
        name: "a missing env file",
        files: &[(
            "docker-compose.yml",
            "services: {a: {image: i, env_file: nosuch.env}}\n",
        )],
        flags: &[],
    },
    Case {
        name: "two modes of one network",
        files: &[(
            "docker-compose.yml",
            "services: {a: {image: i, network_mode: host, networks: [n]}}\nnetworks: {n: }\n",
        )],
        flags: &[],
    },
];

fn with_variables(mut command: Command, directory: &Path) -> Output {
    command
        .current_dir(directory)
        .envs(VARIABLES)
        .env_remove("A")
        .env_remove("E")
        .output()
        .expect("it runs")
        .into()
}

fn written(ply: &Ply, case: &Case) -> std::path::PathBuf {
    let directory = ply.directory("app");
    fs::remove_dir_all(&directory).expect("removed");
    for (name, text) in case.files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("written");
    }
    directory
}

fn by_ply(ply: &Ply, case: &Case, directory: &Path) -> Output {
    let begin = ["compose", "-p", "app"];
    let end = ["config", "--format", "json"];
    with_variables(ply.command(&[&begin, case.flags, &end].concat()), directory)
}

fn by_docker(case: &Case, directory: &Path) -> Output {
    let mut command = Command::new("docker-compose");
    command
        .args(["-p", "app", "--log-level", "ERROR"])
        .args(case.flags)
        .arg("config");
    with_variables(command, directory)
}

/// Returns a model without what docker-compose does not tell: extensions, the order of mounts, and whether what is empty
/// is a mapping.
fn told(model: &str) -> String {
    fn settle(value: &mut Value) {
        match value {
            Value::Object(map) if map.is_empty() => *value = Value::Null,
            Value::Object(map) => map.values_mut().for_each(settle),
            Value::Array(items) => items.iter_mut().for_each(settle),
            _ => {}
        }
    }
    let mut model: Value = serde_json::from_str(model).expect("JSON");
    if let Some(fields) = model.as_object_mut() {
        fields.retain(|name, _| !name.starts_with("x-"));
    }
    for service in model["services"]
        .as_object_mut()
        .expect("services")
        .values_mut()
    {
        if let Some(mounts) = service.get_mut("volumes").and_then(Value::as_array_mut) {
            mounts.sort_by_key(|mount| mount["target"].to_string());
        }
    }
    settle(&mut model);
    serde_json::to_string_pretty(&model).expect("JSON")
}

#[test]
fn files_mean_what_docker_compose_resolves_them_to() {
    let ply = Ply::new();
    let mut differing = Vec::new();
    for case in CASES {
        let directory = written(&ply, case);
        let ours = by_ply(&ply, case, &directory);
        let ours = ours.ok();
        let resolved = by_docker(case, &directory);
        // All is resolved: the same must come of it, with no other file and no variable.
        fs::write(directory.join("resolved.yml"), resolved.ok()).expect("written");
        let again = Case {
            flags: &[
                "-f",
                "resolved.yml",
                "--profile",
                "*",
                "--env-file",
                "/dev/null",
            ],
            ..*case
        };
        let theirs = by_ply(&ply, &again, &directory);
        let theirs = theirs.ok();
        let (ours, theirs) = (told(ours), told(theirs));
        if ours != theirs {
            let (a, b) = (directory.join("ours"), directory.join("theirs"));
            fs::write(&a, ours).expect("written");
            fs::write(&b, theirs).expect("written");
            let shown = Command::new("diff").arg("-u").args([&a, &b]).output();
            let shown = shown.expect("diff runs").stdout;
            let shown = String::from_utf8_lossy(&shown).into_owned();
            differing.push(format!("{}:\n{shown}", case.name));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn what_docker_compose_refuses_is_refused() {
    let ply = Ply::new();
    for case in REFUSED {
        let directory = written(&ply, case);
        let theirs = by_docker(case, &directory);
        assert_ne!(theirs.code, 0, "{}: {theirs:?}", case.name);
        let ours = by_ply(&ply, case, &directory);
        assert_eq!(ours.code, 1, "{}: {ours:?}", case.name);
        // Of a variable Docker's words are three lines.
        let lines = if case.name == "an unfinished variable" {
            3
        } else {
            1
        };
        assert_eq!(ours.err.lines().count(), lines, "{}: {ours:?}", case.name);
    }
}

#[test]
fn variables_that_are_left_as_they_stand_keep_their_dollars() {
    let ply = Ply::new();
    let case = Case {
        name: "dollars",
        files: &[(
            "compose.yaml",
            "services: {a: {image: \"i:${TAG}\", command: [\"$$A\", \"$(b) $1\"]}}\n",
        )],
        flags: &[],
    };
    let directory = written(&ply, &case);
    let command = ply.command(&["compose", "config", "--no-interpolate"]);
    let shown = with_variables(command, &directory);
    let shown = shown.ok();
    assert!(shown.ends_with("image: i:${TAG}"), "{shown}");
    assert!(shown.contains("- $$A\n"), "{shown}");
    assert!(shown.contains("- $(b) $1\n"), "{shown}");
    let shown = with_variables(ply.command(&["compose", "config"]), &directory);
    let shown = shown.ok();
    assert!(shown.contains("- $$A\n"), "{shown}");
    assert!(shown.contains("- $$(b) $$1\n"), "{shown}");
}

#[test]
fn each_step_from_files_to_what_is_shown_can_be_left_out() {
    let ply = Ply::new();
    let case = Case {
        name: "steps",
        files: &[
            (
                "compose.yaml",
                "services:\n  a:\n    image: \"i:${TAG:-1}\"\n    env_file: a.env\n    volumes: ['./d:/d']\n    \
                 environment: {V: 1.0, W: 1e3}\n    depends_on: [a2]\n  a2: {image: \"${IMAGE:?name one}\"}\n",
            ),
            ("a.env", "FROM_FILE=x\n"),
            (".env", "IMAGE=of-dotenv\n"),
            (
                "broken.yaml",
                "services: {a: {image: i, networks: [none]}}\n",
            ),
        ],
        flags: &[],
    };
    let directory = written(&ply, &case);
    let config = |arguments: &[&str]| {
        let command = ply.command(&[&["compose", "-p", "app"], arguments].concat());
        let shown = with_variables(command, &directory);
        shown.ok().to_owned()
    };
    let whole = config(&["config", "a"]);
    for line in [
        "FROM_FILE: x",
        "V: \"1\"",
        "W: \"1000\"",
        "name: app_default",
    ] {
        assert!(whole.contains(line), "{whole}");
    }
    assert!(!whole.contains("env_file"), "{whole}");
    let unread = config(&["config", "--no-env-resolution"]);
    assert!(unread.contains("env_file:") && !unread.contains("FROM_FILE"));
    let relative = config(&["config", "--no-path-resolution"]);
    assert!(relative.contains("source: ./d\n"), "{relative}");
    assert!(relative.contains("FROM_FILE: x"), "{relative}");
    let raw = config(&["config", "--no-normalize"]);
    assert!(
        raw.starts_with("name: app\n") && !raw.contains("app_default"),
        "{raw}"
    );
    let loose = config(&["-f", "broken.yaml", "config", "--no-consistency"]);
    assert!(loose.contains("none:"), "{loose}");
    let environment = config(&["config", "--environment"]);
    let lines: Vec<&str> = environment.lines().collect();
    assert!(lines.is_sorted(), "{environment}");
    for line in ["TAG=9.9", "IMAGE=of-dotenv", "COMPOSE_PROJECT_NAME=app"] {
        assert!(lines.contains(&line), "{environment}");
    }
    let variables = config(&["config", "--variables"]);
    let rows: Vec<Vec<&str>> = variables
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows,
        [
            vec!["NAME", "REQUIRED", "DEFAULT", "VALUE", "ALTERNATE", "VALUE"],
            vec!["IMAGE", "true"],
            vec!["TAG", "false", "1"],
        ]
    );
}
