//! Docker's engine, to compare with.

use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use tempfile::TempDir;

use super::Output;

/// Debian's dockerd with a root and a socket of its own, without networks; it ends with this.
#[derive(Debug)]
pub struct Docker {
    child: Child,
    dir: TempDir,
}

impl Docker {
    /// Starts an engine that has `busybox:latest`, which is the one of [`super::Ply::with_busybox`].
    pub fn with_busybox() -> Docker {
        let dir = tempfile::Builder::new()
            .prefix("ply-dockerd-")
            .tempdir()
            .expect("a directory");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let log = std::fs::File::create(dir.path().join("log")).expect("a file");
        let mut command = Command::new("dockerd");
        command
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--data-root", &path("root"), "--exec-root", &path("run")])
            .args(["--pidfile", &path("pid")])
            .args(["-H", &format!("unix://{}", path("sock"))])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = super::end_with_this_thread(&mut command)
            .spawn()
            .expect("docker.io is installed");
        let docker = Docker { child, dir };
        super::eventually("dockerd is up", || docker.run(&["version"]).code == 0);
        let tar = super::busybox_tar();
        let tar = tar.to_string_lossy();
        docker
            .run(&["import", "--change", "CMD [\"sh\"]", &tar, "busybox"])
            .ok();
        docker
    }

    /// Runs a command of docker's on the engine; `build` is the classic builder's.
    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new("docker")
            .args(arguments)
            .env("DOCKER_HOST", format!("unix://{}", self.socket().display()))
            .env("DOCKER_BUILDKIT", "0")
            .env("DOCKER_CONFIG", self.dir.path())
            .stdin(Stdio::null())
            .output()
            .expect("docker runs")
            .into()
    }

    /// Returns the socket that it listens on.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    /// Returns a directory that goes with the engine.
    pub fn directory(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Its bridges would stay, and be in the way of the next test's.
            let all = self.run(&["ps", "-aq"]).out;
            let all: Vec<&str> = all.lines().collect();
            if !all.is_empty() {
                self.run(&[&["rm", "-f"], &all[..]].concat());
            }
            self.run(&["network", "prune", "-f"]);
        }
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let here = self.dir.path().display().to_string();
        for target in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
            if target.starts_with(&here) {
                let _ = Command::new("umount").args(["-l", target]).status();
            }
        }
    }
}
