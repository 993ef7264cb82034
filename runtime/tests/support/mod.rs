//! Builds situations for the image and registry tests: a real registry, small images, an engine of its own.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod fake;

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use runtime::Engine;
use runtime::EngineConfig;
use runtime::image::PullOptions;
use runtime::image::PushOptions;
use runtime::progress::LayerStatus;
use runtime::progress::Progress;
use runtime::progress::ProgressEvent;
use runtime::reference::Reference;
use runtime::registry::Settings;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

/// An engine whose root goes with it.
pub struct Fixture {
    pub engine: Engine,
    pub dir: TempDir,
}

pub fn engine() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    Fixture { engine, dir }
}

pub fn open(dir: &Path) -> Engine {
    Engine::open(&EngineConfig {
        root: dir.join("root"),
        run: dir.join("run"),
    })
    .unwrap()
}

/// Settings that fail fast and read nothing of this host.
pub fn settings() -> Settings {
    Settings {
        idle_timeout: Duration::from_millis(1500),
        retries: 3,
        retry_delay: Duration::from_millis(20),
        insecure: Vec::new(),
        docker_config: None,
        login: None,
        logins: std::collections::BTreeMap::new(),
        certificates: Vec::new(),
        parallel: 3,
    }
}

pub fn pull_options() -> PullOptions {
    PullOptions {
        platform: None,
        registry: settings(),
    }
}

pub fn push_options() -> PushOptions {
    PushOptions {
        registry: settings(),
    }
}

pub fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

/// Keeps every event.
#[derive(Default)]
pub struct Recorder(pub Mutex<Vec<ProgressEvent>>);

impl Progress for Recorder {
    fn event(&self, event: ProgressEvent) {
        self.0.lock().unwrap().push(event);
    }
}

impl Recorder {
    pub fn count(&self, wanted: &LayerStatus) -> usize {
        let events = self.0.lock().unwrap();
        events
            .iter()
            .filter(
                |event| matches!(event, ProgressEvent::Layer { status, .. } if status == wanted),
            )
            .count()
    }

    pub fn messages(&self) -> Vec<String> {
        let events = self.0.lock().unwrap();
        events
            .iter()
            .filter_map(|event| match event {
                ProgressEvent::Message(text) => Some(text.clone()),
                ProgressEvent::Named { id, text } => Some(format!("{id}: {text}")),
                ProgressEvent::Layer { .. } => None,
            })
            .collect()
    }
}

/// Debian's registry on a free loopback port, ended with its own pid.
pub struct Registry {
    pub address: String,
    child: Child,
    dir: TempDir,
}

impl Registry {
    pub fn start() -> Registry {
        Registry::start_with("")
    }

    /// Starts it with more lines of configuration.
    pub fn start_with(extra: &str) -> Registry {
        Registry::start_on("127.0.0.1", extra)
    }

    /// Starts it on an address of its own; `extra` continues the section `http`.
    pub fn start_on(bind: &str, extra: &str) -> Registry {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let address = format!("127.0.0.1:{port}");
            let config = dir.path().join("config.yml");
            let text = format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem:\n    rootdirectory: {}\n  \
                 delete: {{enabled: true}}\nhttp:\n  addr: {bind}:{port}\n{extra}",
                dir.path().join("data").display()
            );
            fs::write(&config, text.replace("$DIR", dir.path().to_str().unwrap())).unwrap();
            let mut child = Command::new("docker-registry")
                .arg("serve")
                .arg(&config)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("Debian's docker-registry is installed");
            let deadline = Instant::now() + Duration::from_secs(20);
            while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
                if TcpStream::connect(&address).is_ok() {
                    return Registry {
                        address,
                        child,
                        dir,
                    };
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("docker-registry does not start");
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn image(&self, rest: &str) -> Reference {
        name(&format!("{}/{rest}", self.address))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program and returns what it printed; it must succeed.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program).args(arguments).output().unwrap();
    assert!(
        status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&stderr)
    );
    String::from_utf8(stdout).unwrap()
}

/// A tar of regular files, with their directories.
pub fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}

/// The config of an image of these layers.
pub fn config(layers: &[Vec<u8>]) -> Value {
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| layerfs::Digest::of(layer).to_string())
        .collect();
    let history: Vec<Value> = (0..layers.len())
        .map(
            |step| json!({"created": "2024-01-02T03:04:05Z", "created_by": format!("step {step}")}),
        )
        .collect();
    json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-02T03:04:05Z",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"], "Labels": {"made": "by hand"}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    })
}

/// A docker-archive, with `manifest.json` first or last.
pub fn archive(tags: &[&str], layers: &[Vec<u8>]) -> Vec<u8> {
    let config = config(layers).to_string().into_bytes();
    let mut entries: Vec<(String, Vec<u8>)> = Vec::new();
    let mut names = Vec::new();
    for (position, layer) in layers.iter().enumerate() {
        let name = format!("layer{position}/layer.tar");
        names.push(name.clone());
        entries.push((name, layer.clone()));
    }
    let config_name = format!("{}.json", layerfs::Digest::of(&config).hex());
    entries.push((config_name.clone(), config));
    let manifest = json!([{"Config": config_name, "RepoTags": tags, "Layers": names}]);
    entries.push(("manifest.json".into(), manifest.to_string().into_bytes()));
    let files: Vec<(&str, &[u8])> = entries
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    layer(&files)
}

/// Loads a small image of two layers into an engine.
pub fn load_small(engine: &Engine, tag: &str) {
    let layers = [
        layer(&[("etc/motd", b"hello\n"), ("bin/tool", &noise(1, 200_000))]),
        layer(&[("etc/motd", b"changed\n")]),
    ];
    let bytes = archive(&[tag], &layers);
    engine
        .load(&mut bytes.as_slice(), &runtime::progress::Silent)
        .unwrap();
}

/// Reads a whole stream.
pub fn read_all(mut reader: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}
