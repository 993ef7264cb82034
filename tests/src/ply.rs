//! The built binary with a root of its own.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use tempfile::TempDir;

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code; 128 and the signal if one ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Output {
    /// Returns standard output without the last newline, the command having succeeded.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{self:?}");
        self.out.strip_suffix('\n').unwrap_or(&self.out)
    }

    /// Checks a failure: its code, and that one line of standard error has these words.
    #[track_caller]
    pub fn fails(&self, code: i32, words: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.contains(words), "{words:?} is not in {self:?}");
    }
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Output {
        use std::os::unix::process::ExitStatusExt as _;
        Output {
            code: output
                .status
                .code()
                .unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// An engine's root and the commands on it. Dropped, it removes its containers, unmounts, and checks that nothing of it
/// is left on the host.
#[derive(Debug)]
pub struct Ply {
    dir: TempDir,
}

impl Default for Ply {
    fn default() -> Ply {
        Ply::new()
    }
}

impl Ply {
    /// Makes an engine without images.
    pub fn new() -> Ply {
        let dir = tempfile::Builder::new()
            .prefix("ply-test-")
            .tempdir()
            .expect("a directory");
        Ply { dir }
    }

    /// Makes an engine that has `busybox:latest`.
    pub fn with_busybox() -> Ply {
        let ply = Ply::new();
        let tar = super::busybox_tar();
        ply.run(&[
            "import",
            "--change",
            "CMD [\"sh\"]",
            &tar.to_string_lossy(),
            "busybox",
        ])
        .ok();
        ply
    }

    /// Returns a path in a directory that goes with the engine.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a directory that goes with the engine.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).expect("a directory");
        path
    }

    /// Returns the engine's root.
    pub fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// Returns the built program.
    pub fn program() -> PathBuf {
        let target = super::target_dir();
        let program = target.join("ply");
        assert!(
            program.is_file(),
            "{} is not there: build it first, as tests/run does",
            program.display()
        );
        program
    }

    /// Returns a command on the engine that was not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(Ply::program());
        command
            .args(arguments)
            .env("PLY_ROOT", self.root())
            .env("PLY_RUN", self.path("run"))
            .env("DOCKER_CONFIG", self.path("docker"))
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("ply runs").into()
    }

    /// Runs a command with something to read.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ply runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        let input = input.to_vec();
        // It may not read all, or not before it writes.
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("ply ends").into();
        let _ = writer.join();
        output
    }

    /// Runs a script of bash in a mount namespace of its own, in which `$PLY` is the program on this engine.
    pub fn run_apart(&self, script: &str) -> Output {
        Command::new("unshare")
            .args(["-m", "bash", "-c", script])
            .env("PLY", Ply::program())
            .env("PLY_ROOT", self.root())
            .env("PLY_RUN", self.path("run"))
            .stdin(Stdio::null())
            .output()
            .expect("unshare runs")
            .into()
    }

    /// Starts a command.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ply runs")
    }

    /// Returns one field of a container's `inspect`.
    #[track_caller]
    pub fn inspect(&self, name: &str, template: &str) -> String {
        self.run(&["inspect", "-f", template, name]).ok().to_owned()
    }

    /// Returns the process id of a running container's monitor.
    pub fn monitor_of(&self, name: &str) -> i32 {
        let pid = self.inspect(name, "{{.State.Pid}}");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        parent
            .and_then(|parent| parent.trim().parse().ok())
            .expect("a parent")
    }

    /// Returns every process on the host that belongs to the engine: its commands, monitors and their containers.
    pub fn processes(&self) -> Vec<i32> {
        let mark = format!("PLY_ROOT={}\0", self.root().display());
        let is_ours = |pid: &i32| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environ| String::from_utf8_lossy(&environ).contains(&mark))
        };
        let pids = fs::read_dir("/proc")
            .expect("/proc")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(is_ours).collect()
    }

    /// Returns what the engine has left on the host: cgroups, mounts, files of containers.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        let entries = |path: &Path| -> Vec<PathBuf> {
            let read = fs::read_dir(path).into_iter().flatten();
            read.filter_map(|entry| Some(entry.ok()?.path())).collect()
        };
        for path in entries(&self.root().join("containers"))
            .into_iter()
            .chain(entries(&self.path("run/containers")))
            .chain(entries(&self.root().join("tmp")))
        {
            left.push(path.display().to_string());
        }
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        let here = self.dir.path().display().to_string();
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&here))
                .map(str::to_owned),
        );
        left.extend(self.processes().iter().map(|pid| format!("process {pid}")));
        left.extend(self.networks_on_host());
        left
    }

    /// Returns what the engine has made on the host for its networks: bridges, their files, and rules that name them.
    pub fn networks_on_host(&self) -> Vec<String> {
        let mut left = Vec::new();
        let records = fs::read_dir(self.path("run/networks"));
        for record in records.into_iter().flatten().flatten() {
            left.push(record.path().display().to_string());
        }
        let ids = self.run(&["network", "ls", "-q", "--no-trunc"]).out;
        let bridges: Vec<String> = ids
            .lines()
            .filter_map(|id| Some(format!("ply-{}", id.get(..11)?)))
            .collect();
        let rules = Command::new("nft")
            .args(["list", "table", "inet", "ply"])
            .output();
        let rules = rules.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
        let rules = rules.unwrap_or_default();
        for bridge in bridges {
            if Path::new("/sys/class/net").join(&bridge).exists() {
                left.push(format!("device {bridge}"));
            }
            if rules.contains(&bridge) {
                left.push(format!("rules for {bridge}"));
            }
        }
        left
    }

    /// Returns the cgroups of a container.
    pub fn cgroups_of(id: &str) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        mounts
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(' ');
                let (target, kind) = (fields.nth(1)?, fields.next()?);
                kind.starts_with("cgroup")
                    .then(|| Path::new(target).join("ply").join(id))
            })
            .filter(|path| path.exists())
            .collect()
    }

    /// Removes every container.
    pub fn remove_all(&self) {
        let ids = self.run(&["ps", "-aq", "--no-trunc"]);
        let ids: Vec<&str> = ids.out.lines().collect();
        if !ids.is_empty() {
            self.run(&[&["rm", "-f"], ids.as_slice()].concat()).ok();
        }
        for id in ids {
            assert_eq!(Ply::cgroups_of(id), Vec::<PathBuf>::new());
        }
    }
}

impl Drop for Ply {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let here = self.dir.path().display().to_string();
        for target in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
            if target.starts_with(&here) {
                let _ = Command::new("umount").args(["-l", target]).status();
            }
        }
        if std::thread::panicking() {
            let ids = self.run(&["ps", "-aq"]).out;
            for id in ids.lines() {
                self.run(&["rm", "-f", id]);
            }
            // A bridge goes with the command that finds it unused.
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
            while !self.networks_on_host().is_empty() && std::time::Instant::now() < deadline {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            return;
        }
        self.remove_all();
        // A monitor whose container was just removed, or a mount's server, may be on its way out.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let left = self.leftovers();
            if left.is_empty() {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "left: {left:#?}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
