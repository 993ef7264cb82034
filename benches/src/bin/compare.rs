//! ply beside docker and podman: pull, run, exec, ps, mount, in turns on the same machine, as one table with ratios.
//!
//! `cargo run --release -p benches --bin compare [pull] [run] [mount] [compose] [build]`, as root. It wants Debian's `docker.io`, `podman`,
//! `runc`, `docker-compose`, `docker-registry`, `skopeo`, `umoci`, `mmdebstrap`, `fuse-overlayfs`; all three engines work in directories of
//! their own that go when it ends.

use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use tempfile::TempDir;
use tests::Registry;
use tests::must;

/// How often each thing is measured.
const ROUNDS: usize = 5;
const PORT_ROUNDS: usize = 9;
const RUN_ROUNDS: usize = 20;

/// One way to do it: a name, the command, and what undoes it between rounds.
struct Contender<'a> {
    name: &'a str,
    command: Vec<String>,
    undo: Vec<String>,
    env: Vec<(&'a str, String)>,
}

impl Contender<'_> {
    fn execute(&self, words: &[String]) {
        let Some((program, arguments)) = words.split_first() else {
            return;
        };
        let output = Command::new(program)
            .args(arguments)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(
            output.status.success(),
            "{words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Measures all in turns and prints a line of the table for each: median, fastest, and the ratio to the first.
fn measure(what: &str, rounds: usize, contenders: &[Contender<'_>]) {
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); contenders.len()];
    for round in 0..=rounds {
        for (contender, times) in contenders.iter().zip(&mut times) {
            let start = Instant::now();
            contender.execute(&contender.command);
            // The first round warms up.
            if round > 0 {
                times.push(start.elapsed());
            }
            contender.execute(&contender.undo);
        }
    }
    let mut first = None;
    for (contender, mut times) in contenders.iter().zip(times) {
        times.sort();
        let (median, fastest) = (times[times.len() / 2], times[0]);
        let base = *first.get_or_insert(median);
        println!(
            "| {what} | {} | {:.1} ms | {:.1} ms | {:.2} |",
            contender.name,
            median.as_secs_f64() * 1e3,
            fastest.as_secs_f64() * 1e3,
            median.as_secs_f64() / base.as_secs_f64()
        );
    }
}

/// A dockerd of our own; it ends with this.
struct Docker {
    child: Child,
    host: String,
    dir: PathBuf,
}

impl Docker {
    fn start(dir: &Path, registry: &str) -> Docker {
        let dir = dir.join("docker");
        let at = |name: &str| dir.join(name).display().to_string();
        std::fs::create_dir_all(&dir).expect("a directory");
        let host = format!("unix://{}", at("docker.sock"));
        let mut command = Command::new("dockerd");
        command
            .args([
                "--data-root",
                &at("data"),
                "--exec-root",
                &at("exec"),
                "-H",
                &host,
                "--pidfile",
                &at("pid"),
            ])
            .args(["--insecure-registry", registry])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = tests::end_with_this_thread(&mut command)
            .spawn()
            .expect("dockerd is installed");
        let docker = Docker { child, host, dir };
        tests::eventually("dockerd is up", || {
            let output = Command::new("docker")
                .args(["-H", &docker.host, "version"])
                .output();
            output.is_ok_and(|output| output.status.success())
        });
        docker
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
        // What it leaves mounted.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let ours = self.dir.display().to_string();
        for target in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
            if target.starts_with(&ours) {
                let _ = Command::new("umount").args(["-l", target]).status();
            }
        }
    }
}

struct Machine {
    dir: TempDir,
    registry: Registry,
    docker: Docker,
}

/// Another host: a network namespace that a pair of devices joins to this one.
struct Outside {
    name: String,
}

impl Outside {
    const OURS: &str = "198.18.200.1";

    fn new() -> Outside {
        let name = format!("plyb{}", std::process::id());
        must("ip", &["netns", "add", &name]);
        let outside = Outside { name };
        let name = &outside.name;
        let pair = [
            "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name,
        ];
        must("ip", &pair);
        let ours = format!("{}/24", Outside::OURS);
        must("ip", &["address", "add", &ours, "dev", name]);
        must("ip", &["link", "set", name, "up"]);
        let theirs = [
            "-n",
            name,
            "address",
            "add",
            "198.18.200.2/24",
            "dev",
            "eth0",
        ];
        must("ip", &theirs);
        must("ip", &["-n", name, "link", "set", "eth0", "up"]);
        outside
    }

    /// Returns how many gigabits a second a server at a port of this host takes from there.
    fn throughput(&self, port: u16) -> Option<f64> {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.name, "iperf3", "-J", "-t", "3", "-c"])
            .args([Outside::OURS, "-p", &port.to_string()])
            .output()
            .expect("iperf3 is installed");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let bits = report.pointer("/end/sum_received/bits_per_second")?;
        Some(bits.as_f64()? / 1e9)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.name])
            .status();
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl Machine {
    fn new() -> Machine {
        let dir = tempfile::tempdir().expect("a directory");
        let registry = Registry::start();
        let docker = Docker::start(dir.path(), &registry.image("").replace('/', ""));
        Machine {
            dir,
            registry,
            docker,
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn ply<'a>(&self, command: &str, undo: &str) -> Contender<'a> {
        let ply = tests::Ply::program().display().to_string();
        let with = |text: &str| match text {
            "" => Vec::new(),
            text => words(&format!("{ply} {text}")),
        };
        Contender {
            name: "ply",
            command: with(command),
            undo: with(undo),
            env: vec![
                ("PLY_ROOT", self.path("ply")),
                ("PLY_RUN", self.path("ply-run")),
            ],
        }
    }

    fn docker<'a>(&self, command: &str, undo: &str) -> Contender<'a> {
        let with = |text: &str| match text {
            "" => Vec::new(),
            text => words(&format!("docker -H {} {text}", self.docker.host)),
        };
        Contender {
            name: "docker",
            command: with(command),
            undo: with(undo),
            env: Vec::new(),
        }
    }

    fn podman<'a>(&self, command: &str, undo: &str) -> Contender<'a> {
        let base = format!(
            "podman --root {} --runroot {} --runtime runc --cgroup-manager cgroupfs",
            self.path("podman"),
            self.path("podman-run")
        );
        let with = |text: &str| match text {
            "" => Vec::new(),
            text => words(&format!("{base} {text}")),
        };
        Contender {
            name: "podman",
            command: with(command),
            undo: with(undo),
            env: Vec::new(),
        }
    }

    /// Puts a tar for each layer together as an image of the registry.
    fn push(&self, name: &str, tars: &[&Path]) -> String {
        let layout = self.path("layout");
        let image = format!("{layout}:{}", name.replace([':', '/'], "-"));
        if !Path::new(&layout).exists() {
            must("umoci", &["init", "--layout", &layout]);
        }
        must("umoci", &["new", "--image", &image]);
        for tar in tars {
            must(
                "umoci",
                &[
                    "raw",
                    "add-layer",
                    "--image",
                    &image,
                    &tar.display().to_string(),
                ],
            );
        }
        must(
            "umoci",
            &[
                "config",
                "--image",
                &image,
                "--config.cmd",
                "true",
                "--config.env",
                "PATH=/bin:/usr/bin",
            ],
        );
        self.registry.push(&format!("oci:{image}"), name);
        self.registry.image(name)
    }

    fn pull(&self) {
        let share = PathBuf::from(self.path("share.tar"));
        must(
            "tar",
            &[
                "-C",
                "/",
                "--warning=none",
                "-cf",
                &share.display().to_string(),
                "usr/share",
            ],
        );
        let debian = tests::debian_tar();
        let small = self.push("debian:12", &[&debian]);
        let large = self.push("share:1", &[&debian, &share]);
        for (what, image) in [
            ("pull Debian, 1 layer", small),
            ("pull Debian + /usr/share, 2 layers", large),
        ] {
            let (pull, remove) = (format!("pull -q {image}"), format!("rmi {image}"));
            measure(
                what,
                ROUNDS,
                &[
                    self.ply(&pull, &remove),
                    self.docker(&pull, &remove),
                    self.podman(&format!("pull --tls-verify=false -q {image}"), &remove),
                ],
            );
        }
    }

    fn run(&self) {
        let image = self.push("busybox:1", &[&tests::busybox_tar()]);
        let pull = format!("pull -q {image}");
        for contender in [
            self.ply(&pull, ""),
            self.docker(&pull, ""),
            self.podman(&format!("pull --tls-verify=false -q {image}"), ""),
        ] {
            contender.execute(&contender.command);
        }
        let run = format!("run --rm --network none {image} true");
        let limits = "--ulimit nofile=1024:1024 --ulimit nproc=1000:1000";
        measure(
            "run --rm --network none, `true`",
            RUN_ROUNDS,
            &[
                self.ply(&run, ""),
                self.docker(&run, ""),
                self.podman(&run.replace("run ", &format!("run {limits} ")), ""),
            ],
        );
        let run = format!("run --rm {image} true");
        measure(
            "run --rm on the default bridge, `true`",
            RUN_ROUNDS,
            &[
                self.ply(&run, ""),
                self.docker(&run, ""),
                self.podman(&run.replace("run ", &format!("run {limits} ")), ""),
            ],
        );
        let begin = format!("run -d --name bench --network none {image} sleep 1000");
        let exec = "exec bench true";
        let contenders = [
            self.ply(exec, ""),
            self.docker(exec, ""),
            self.podman(exec, ""),
        ];
        let begun = [
            self.ply(&begin, "rm -f bench"),
            self.docker(&begin, "rm -f bench"),
            self.podman(
                &begin.replace("run ", &format!("run {limits} ")),
                "rm -f bench",
            ),
        ];
        for contender in &begun {
            contender.execute(&contender.command);
        }
        measure("exec, `true`", RUN_ROUNDS, &contenders);
        for contender in &begun {
            contender.execute(&contender.undo);
        }
        self.many(&image);
    }

    /// A hundred containers at once, and their list.
    fn many(&self, image: &str) {
        const MANY: usize = 100;
        let start = |contender: Contender<'_>| {
            let begun = Instant::now();
            let children: Vec<Child> = (0..MANY)
                .map(|_| {
                    let (program, arguments) = contender.command.split_first().expect("a command");
                    let mut command = Command::new(program);
                    command.args(arguments).stdout(Stdio::null());
                    let env = contender.env.iter().map(|(name, value)| (name, value));
                    command.envs(env).spawn().expect("it starts")
                })
                .collect();
            for mut child in children {
                assert!(child.wait().expect("an end").success());
            }
            begun.elapsed()
        };
        let run = format!("run -d --network none --stop-timeout 0 {image} sleep 1000");
        let base = start(self.ply(&run, ""));
        for (name, time) in [("ply", base), ("docker", start(self.docker(&run, "")))] {
            println!(
                "| start {MANY} containers at once | {name} | {:.0} ms | | {:.2} |",
                time.as_secs_f64() * 1e3,
                time.as_secs_f64() / base.as_secs_f64()
            );
        }
        measure(
            "ps -a, 100 containers",
            RUN_ROUNDS,
            &[self.ply("ps -a", ""), self.docker("ps -a", "")],
        );
        for (contender, list) in [
            (self.ply("", ""), self.ply("ps -aq", "")),
            (self.docker("", ""), self.docker("ps -aq", "")),
        ] {
            let (program, arguments) = list.command.split_first().expect("a command");
            let listed = Command::new(program)
                .args(arguments)
                .envs(contender.env.iter().map(|(name, value)| (name, value)))
                .output();
            let ids = String::from_utf8_lossy(&listed.expect("a list").stdout).into_owned();
            let remove: Vec<String> = list
                .command
                .iter()
                .take(list.command.len() - 2)
                .cloned()
                .chain(["rm".to_owned(), "-f".to_owned()])
                .chain(ids.lines().map(str::to_owned))
                .collect();
            contender.execute(&remove);
        }
    }

    /// Ten services that do nothing, made and started; taken away between rounds.
    fn compose(&self) {
        let image = self.push("compose:1", &[&tests::busybox_tar()]);
        let pull = format!("pull -q {image}");
        for contender in [self.ply(&pull, ""), self.docker(&pull, "")] {
            contender.execute(&contender.command);
        }
        let mut text = String::from("version: '3.8'\nservices:\n");
        for number in 0..10 {
            text.push_str(&format!(
                "  s{number}: {{image: '{image}', init: true, command: sleep 1000, stop_grace_period: 1s}}\n"
            ));
        }
        let file = self.path("compose.yaml");
        std::fs::write(&file, text).expect("a file");
        let up = format!("-p bench -f {file} up -d");
        let down = format!("-p bench -f {file} down -t 1");
        let docker = Contender {
            name: "docker-compose",
            command: words(&format!("docker-compose {up}")),
            undo: words(&format!("docker-compose {down}")),
            env: vec![("DOCKER_HOST", self.docker.host.clone())],
        };
        let ply = self.ply(&format!("compose {up}"), &format!("compose {down}"));
        measure("compose up -d, 10 services", ROUNDS, &[ply, docker]);
    }

    /// Ten steps over a context of 10,000 files: again with nothing changed, with nothing kept, and the copy alone.
    fn build(&self) {
        let image = self.push("build:1", &[&tests::busybox_tar()]);
        let pull = format!("pull -q {image}");
        for contender in [self.ply(&pull, ""), self.docker(&pull, "")] {
            contender.execute(&contender.command);
        }
        let context = self.path("context");
        for number in 0..10_000 {
            let directory = format!("{context}/files/{}", number % 100);
            std::fs::create_dir_all(&directory).expect("a directory");
            let content = format!("{number}\n").repeat(200);
            std::fs::write(format!("{directory}/{number}"), content).expect("a file");
        }
        let copy = format!("FROM {image}\nCOPY files /files\n");
        let mut steps = copy.clone();
        for number in 0..8 {
            let fill = "dd if=/dev/zero of=/big bs=1M count=10 2>/dev/null; mv /big";
            steps.push_str(&format!(
                "RUN {fill} /big{number}; cp -r /bin /bin{number}\n"
            ));
        }
        for (name, text) in [("Steps", &steps), ("Copy", &copy)] {
            std::fs::write(format!("{context}/{name}"), text).expect("a Dockerfile");
        }
        let build = |flags: &str, file: &str| {
            let words = format!("build -q {flags} --network none -f {context}/{file} {context}");
            let mut docker = self.docker(&words, "");
            docker.name = "docker, classic builder";
            docker.env.push(("DOCKER_BUILDKIT", "0".to_owned()));
            [self.ply(&words, ""), docker]
        };
        for (what, flags, file) in [
            (
                "build again, 10 steps, 10,000 files, nothing changed",
                "",
                "Steps",
            ),
            ("build 10 steps, nothing kept", "--no-cache", "Steps"),
            ("COPY of 10,000 files", "--no-cache", "Copy"),
        ] {
            measure(what, ROUNDS, &build(flags, file));
        }
    }

    /// What a client on another host gets through a published port, in ten seconds each.
    fn ports(&self) {
        let image = self.push("ports:1", &[&tests::busybox_tar()]);
        let outside = Outside::new();
        println!(
            "| port published to another host | with | Gbit/s | | ratio |\n| --- | --- | ---: | --- | ---: |"
        );
        let binds = "-v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro";
        let run = |name: &str, port: u16| {
            format!("run -d --name {name} -p {port}:5201 {binds} {image} iperf3 -s")
        };
        let contenders = [("ply", 5209), ("docker", 5210)];
        for (name, port) in contenders {
            let start = match name {
                "ply" => self.ply(&run("server", port), ""),
                _ => self.docker(&run("server", port), ""),
            };
            start.execute(&start.command);
            tests::eventually("the server answers", || outside.throughput(port).is_some());
        }
        let mut measured = [Vec::new(), Vec::new()];
        for _ in 0..PORT_ROUNDS {
            for (measured, (_, port)) in measured.iter_mut().zip(contenders) {
                measured.extend(outside.throughput(port));
            }
        }
        for remove in [
            self.ply("rm -f server", ""),
            self.docker("rm -f server", ""),
        ] {
            remove.execute(&remove.command);
        }
        let medians = measured.map(|mut gigabits| {
            gigabits.sort_by(f64::total_cmp);
            gigabits
                .get(gigabits.len() / 2)
                .copied()
                .unwrap_or_default()
        });
        for ((name, _), median) in contenders.into_iter().zip(medians) {
            let ratio = medians[0] / median;
            println!("| iperf3 | {name} | {median:.1} | | {ratio:.2} |");
        }
    }

    fn mount(&self) {
        let image = self.push("mounted:1", &[&tests::debian_tar()]);
        let target = self.path("mounted");
        let lower = self.path("lower");
        for directory in [&target, &lower, &self.path("upper"), &self.path("work")] {
            std::fs::create_dir_all(directory).expect("a directory");
        }
        must(
            "tar",
            &[
                "-C",
                &lower,
                "-xf",
                &tests::debian_tar().display().to_string(),
            ],
        );
        let pull = self.ply(&format!("pull -q {image}"), "");
        pull.execute(&pull.command);
        let options = format!(
            "lowerdir={lower},upperdir={},workdir={}",
            self.path("upper"),
            self.path("work")
        );
        let undo = words(&format!("umount {target}"));
        let mut ply = self.ply(&format!("mount {image} {target}"), "");
        ply.undo.clone_from(&undo);
        let plain = |name, command: String| Contender {
            name,
            command: words(&command),
            undo: undo.clone(),
            env: Vec::new(),
        };
        measure(
            "mount an image that is here",
            RUN_ROUNDS,
            &[
                ply,
                plain(
                    "kernel overlayfs, unpacked",
                    format!("mount -t overlay overlay -o {options} {target}"),
                ),
                plain(
                    "fuse-overlayfs, unpacked",
                    format!("fuse-overlayfs -o {options} {target}"),
                ),
            ],
        );
    }
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|word| word == name);
    let machine = Machine::new();
    println!("| what | with | median | fastest | ratio |\n| --- | --- | ---: | ---: | ---: |");
    if is_wanted("mount") {
        machine.mount();
    }
    if is_wanted("run") {
        machine.run();
    }
    if is_wanted("ports") {
        machine.ports();
    }
    if is_wanted("build") {
        machine.build();
    }
    if is_wanted("compose") {
        machine.compose();
    }
    if is_wanted("pull") {
        machine.pull();
    }
    // Podman keeps its store mounted on itself.
    let _ = Command::new("umount")
        .args(["-l", &machine.path("podman/overlay")])
        .stderr(Stdio::null())
        .status();
}
