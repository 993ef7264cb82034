//! Projects of several files, loaded from a directory.

use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use super::project::Options;
use super::project::Place;
use super::project::Project;

/// Writes files into a directory of their own.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }
    directory
}

fn options(directory: &Path) -> Options {
    Options {
        directory: Some(directory.to_owned()),
        name: Some("p".to_owned()),
        ..Options::default()
    }
}

fn load(files: &[(&str, &str)]) -> Result<Project, String> {
    let directory = directory(files);
    let options = options(directory.path());
    let place = Place::find(&options).map_err(|error| error.to_string())?;
    let loaded = place.load(&options, &[]).and_then(|mut project| {
        let all = project.selected(&[])?;
        project.read_env_files(&all)?;
        Ok(project)
    });
    loaded.map_err(|error| {
        let shown = format!("{}/", directory.path().display());
        error.to_string().replace(&shown, "")
    })
}

fn service(files: &[(&str, &str)]) -> Value {
    load(files).expect("a project").tree["services"]["web"].clone()
}

fn refused(text: &str) -> String {
    load(&[("compose.yaml", text)]).expect_err("not a project")
}

#[test]
fn a_file_says_what_is_wrong_with_which_key_of_it() {
    for (text, words) in [
        (
            "services:\n  web:\n    imag: x\n",
            "validating compose.yaml: services.web additional properties 'imag' not allowed",
        ),
        (
            "services:\n  web:\n    image: x\n    ports: 80\n",
            "validating compose.yaml: services.web.ports must be a list",
        ),
        (
            "services:\n  web:\n    image: x\n    ports: [[80]]\n",
            "validating compose.yaml: services.web.ports[0] must be a mapping, number or string",
        ),
        (
            "services:\n  web:\n    image: x\n    ports: ['99999:1']\n",
            "validating compose.yaml: services.web.ports[0] has an invalid port range: 99999",
        ),
        (
            "services:\n  web:\n    image: [x]\n",
            "validating compose.yaml: services.web.image must be a string",
        ),
        (
            "services: [web]\n",
            "validating compose.yaml: services must be a mapping",
        ),
        (
            "service:\n  web: {}\n",
            "validating compose.yaml: additional properties 'service' not allowed",
        ),
        ("- a\n", "compose.yaml: top-level object must be a mapping"),
        ("a: b: c\n", "failed to parse compose.yaml: yaml: line 1: "),
        (
            "services:\n  web:\n    image: x\n    image: y\n",
            "failed to parse compose.yaml: yaml: line 4: mapping key \"image\" already defined at line 3",
        ),
        (
            "services:\n  web:\n    image: x\n    depends_on: {db: {condition: ready}}\n",
            "services.web.depends_on.db.condition must be one of 'service_started', 'service_healthy'",
        ),
        (
            "services:\n  web:\n    image: x\n    mem_limit: lots\n",
            "services.web.mem_limit invalid size: 'lots'",
        ),
        (
            "services:\n  web:\n    image: ${NOT_SET_HERE:?set it}\n",
            "error while interpolating services.web.image: required variable NOT_SET_HERE is missing a value: set it",
        ),
        (
            "services:\n  web: {}\n",
            "service \"web\" has neither an image nor a build context specified",
        ),
        (
            "services:\n  web: {image: x, networks: [a]}\n",
            "service \"web\" refers to undefined network a",
        ),
        (
            "services:\n  web: {image: x, volumes: ['a:/b']}\n",
            "service \"web\" refers to undefined volume a",
        ),
        (
            "services:\n  web: {image: x, depends_on: [db]}\n",
            "service \"web\" depends on undefined service \"db\"",
        ),
        (
            "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n",
            "dependency cycle detected: a -> b -> a",
        ),
        (
            "services:\n  web: {image: x, volumes: ['/a:/b', '/c:/b']}\n",
            "services.web.volumes[1]: target /b already mounted as services.web.volumes[0]",
        ),
        (
            "services:\n  web: {image: x, extends: nobody}\n",
            "cannot extend service \"web\" in compose.yaml: service \"nobody\" not found in compose.yaml",
        ),
        (
            "services:\n  a: {extends: b}\n  b: {extends: a}\n",
            "Circular reference:",
        ),
        (
            "services:\n  web: {image: x, scale: 2, container_name: n}\n",
            "can't set container_name and scale",
        ),
        ("", "empty compose file"),
    ] {
        let error = refused(text);
        assert!(error.contains(words), "{text}\n{error}");
    }
}

#[test]
fn short_forms_become_long_ones() {
    let web = service(&[
        (
            "compose.yaml",
            "services:
  web:
    image: x
    command: sh -c 'echo hi'
    environment: [A=1, B=]
    ports: ['8080:80']
    volumes: ['./d:/d:ro', 'v:/v']
    depends_on: [db]
    networks: [default, back]
    env_file: a.env
    mem_limit: 64m
    stop_grace_period: 90s
    ulimits: {nofile: 1024}
    extra_hosts: ['a:1.2.3.4', 'b=::1']
    healthcheck: {test: exit 0, interval: 5s}
    secrets: [s]
    tmpfs: /t
  db: {image: y}
volumes: {v: }
networks: {back: }
secrets: {s: {environment: HOME}}
",
        ),
        ("a.env", "A=0\nC=3\n"),
    ]);
    assert_eq!(web["command"], json!(["sh", "-c", "echo hi"]));
    assert_eq!(web["environment"], json!({"A": "1", "B": "", "C": "3"}));
    assert_eq!(web["ports"][0]["published"], "8080");
    assert_eq!(web["volumes"][0]["type"], "bind");
    assert!(
        web["volumes"][0]["source"]
            .as_str()
            .is_some_and(|it| it.starts_with('/'))
    );
    assert_eq!(
        web["depends_on"],
        json!({"db": {"condition": "service_started", "required": true}})
    );
    assert_eq!(web["networks"], json!({"default": null, "back": null}));
    assert_eq!(
        (&web["mem_limit"], &web["stop_grace_period"]),
        (&json!("67108864"), &json!("1m30s"))
    );
    assert_eq!(
        web["ulimits"]["nofile"],
        json!({"soft": 1024, "hard": 1024})
    );
    assert_eq!(web["extra_hosts"], json!(["a=1.2.3.4", "b=::1"]));
    assert_eq!(web["healthcheck"]["test"], json!(["CMD-SHELL", "exit 0"]));
    assert_eq!(web["secrets"][0]["target"], "/run/secrets/s");
    assert_eq!(web["tmpfs"], json!(["/t"]));
}

#[test]
fn an_override_file_lies_over_the_first_one() {
    let web = service(&[
        (
            "compose.yaml",
            "services: {web: {image: x, command: [a], ports: ['80:80'], environment: {A: 1}, cap_add: [X]}}",
        ),
        (
            "compose.override.yaml",
            "services:\n  web:\n    image: y\n    command: [b]\n    ports: !override ['81:80']\n    environment: [B=2]\n    cap_add: !reset []\n",
        ),
    ]);
    assert_eq!(web["image"], "y");
    assert_eq!(web["command"], json!(["b"]));
    assert_eq!(web["ports"].as_array().map(Vec::len), Some(1));
    assert_eq!(web["ports"][0]["published"], "81");
    assert_eq!(web["environment"], json!({"A": "1", "B": "2"}));
    assert_eq!(web.get("cap_add"), None);
}

#[test]
fn a_service_extends_another_one_of_this_or_another_file() {
    let files = [
        (
            "compose.yaml",
            "services:\n  base: {image: x, labels: {a: 1}}\n  web:\n    extends: {file: sub/common.yaml, service: web}\n    labels: {c: 3}\n  other: {extends: base, labels: {b: 2}}\n",
        ),
        (
            "sub/common.yaml",
            "services:\n  root: {image: r, volumes: ['./data:/data']}\n  web: {extends: {service: root}, labels: {c: 1, d: 4}}\n",
        ),
    ];
    let project = load(&files).expect("a project");
    let web = &project.services["web"];
    assert_eq!(web.image.as_deref(), Some("r"));
    assert_eq!(web.labels["c"].as_deref(), Some("3"));
    assert_eq!(web.labels["d"].as_deref(), Some("4"));
    let source = web.volumes[0].source.as_deref().unwrap_or_default();
    assert!(source.ends_with("/sub/data"), "{source}");
    let other = &project.tree["services"]["other"];
    assert_eq!(
        (&other["image"], &other["labels"]),
        (&json!("x"), &json!({"a": "1", "b": "2"}))
    );
}

#[test]
fn an_included_file_has_its_own_directory_and_variables() {
    let files = [
        (
            "compose.yaml",
            "include: [sub/compose.yaml]\nservices:\n  web: {image: x, depends_on: [db]}\n",
        ),
        (
            "sub/compose.yaml",
            "services:\n  db:\n    image: \"db:${TAG}\"\n    volumes: ['./data:/data', 'v:/v']\nvolumes: {v: }\n",
        ),
        ("sub/.env", "TAG=7\n"),
    ];
    let project = load(&files).expect("a project");
    let db = &project.services["db"];
    assert_eq!(db.image.as_deref(), Some("db:7"));
    let source = db.volumes[0].source.as_deref().unwrap_or_default();
    assert!(source.ends_with("/sub/data"), "{source}");
    assert_eq!(project.volumes["v"].name, "p_v");
    let cycle = load(&[
        (
            "compose.yaml",
            "include: [a.yaml]\nservices: {web: {image: x}}\n",
        ),
        ("a.yaml", "include: [compose.yaml]\n"),
    ]);
    assert!(
        cycle
            .expect_err("a cycle")
            .contains("include cycle detected")
    );
}

#[test]
fn a_mount_that_the_engine_has_none_of_is_no_fault_of_the_file() {
    let text = "services:\n  web: {image: x, volumes: [{type: image, source: y, target: /y}]}\n";
    let project = load(&[("compose.yaml", text)]).expect("a project");
    assert_eq!(project.services["web"].volumes[0].kind, "image");
}

#[test]
fn a_missing_env_file_is_missed_by_who_needs_its_service() {
    let directory = directory(&[
        (
            "compose.yaml",
            "services:\n  web: {image: x, env_file: web.env}\n  db: {image: y, env_file: missing.env}\n",
        ),
        ("web.env", "A=1\n"),
    ]);
    let options = options(directory.path());
    let place = Place::find(&options).expect("a place");
    let mut project = place.load(&options, &[]).expect("a project");
    project
        .read_env_files(&["web".to_owned()])
        .expect("its file is there");
    assert_eq!(
        project.services["web"].environment["A"].as_deref(),
        Some("1")
    );
    let error = project.read_env_files(&["db".to_owned()]);
    let error = error.expect_err("its file is missing").to_string();
    assert!(error.contains("missing.env not found"), "{error}");
}

#[test]
fn a_profile_or_its_name_enables_a_service() {
    let directory = directory(&[(
        "compose.yaml",
        "services:\n  web: {image: x}\n  debug: {image: y, profiles: [dev]}\n",
    )]);
    let names = |profiles: &[&str], selected: &[&str]| {
        let mut options = options(directory.path());
        let owned = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        options.profiles = owned(profiles);
        let place = Place::find(&options).expect("a place");
        let project = place.load(&options, &owned(selected)).expect("a project");
        project.services.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(names(&[], &[]), ["web"]);
    assert_eq!(names(&["dev"], &[]), ["debug", "web"]);
    assert_eq!(names(&["*"], &[]), ["debug", "web"]);
    assert_eq!(names(&[], &["debug"]), ["debug", "web"]);
}

#[test]
fn a_projects_name_comes_from_the_option_the_file_or_the_directory() {
    let directory = directory(&[
        ("My.App_1/compose.yaml", "services: {web: {image: x}}\n"),
        (
            "b/compose.yaml",
            "name: from-file\nservices: {web: {image: x}}\n",
        ),
    ]);
    let name = |sub: &str, asked: Option<&str>| {
        let mut options = options(&directory.path().join(sub));
        options.name = asked.map(str::to_owned);
        let place = Place::find(&options).expect("a place");
        place.name(&options).map_err(|error| error.to_string())
    };
    assert_eq!(name("My.App_1", None), Ok("myapp_1".to_owned()));
    assert_eq!(name("b", None), Ok("from-file".to_owned()));
    assert_eq!(name("b", Some("asked")), Ok("asked".to_owned()));
    let error = name("b", Some("Bad Name")).expect_err("a bad name");
    assert!(
        error.starts_with("invalid project name \"Bad Name\""),
        "{error}"
    );
}

const KEYS: [&str; 24] = [
    "services",
    "web",
    "image",
    "build",
    "ports",
    "volumes",
    "networks",
    "environment",
    "command",
    "depends_on",
    "healthcheck",
    "deploy",
    "resources",
    "limits",
    "secrets",
    "configs",
    "include",
    "extends",
    "ulimits",
    "logging",
    "x-a",
    "<<",
    "external",
    "profiles",
];

fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i32>().prop_map(Value::from),
        "[a-z0-9:/.$\\{\\}-]{0,8}".prop_map(Value::from),
        proptest::sample::select(&KEYS[..]).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        let key = proptest::sample::select(&KEYS[..]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::hash_map(key, inner, 0..6).prop_map(|map| {
                let pairs = map.into_iter().map(|(key, value)| (key.to_owned(), value));
                Value::Object(pairs.collect())
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn hostile_projects_do_no_harm(a in documents(), b in documents(), service in documents()) {
        let a = super::yaml::write(&json!({"services": {"web": a}, "volumes": b.clone()}));
        let whole = super::yaml::write(&b);
        let web = super::yaml::write(&json!({"services": {"web": service}}));
        let _ = load(&[("compose.yaml", &a), ("compose.override.yml", &web)]);
        let _ = load(&[("compose.yaml", &whole)]);
    }
}
