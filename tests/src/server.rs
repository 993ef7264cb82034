//! Engines that are reached by a socket: `ply serve`, and Docker's own daemon to compare it with.

use std::fs::File;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::Docker;
use super::Output;
use super::Ply;
use super::eventually;

/// A server on a Unix socket, which ends with this.
#[derive(Debug)]
pub struct Server {
    engine: Engine,
    socket: PathBuf,
    config: PathBuf,
}

#[derive(Debug)]
enum Engine {
    Ply(Child),
    /// Kept for its end.
    Docker(#[expect(dead_code)] Docker),
}

impl Server {
    /// Serves an engine.
    pub fn start(ply: &Ply) -> Server {
        let socket = ply.path("ply.sock");
        let host = format!("unix://{}", socket.display());
        let log = File::options()
            .append(true)
            .create(true)
            .open(ply.path("serve.log"))
            .expect("a file");
        let mut command = ply.command(&["serve", "-H", &host]);
        let child = super::end_with_this_thread(command.stderr(log))
            .spawn()
            .expect("ply runs");
        Server::ready(Engine::Ply(child), socket, ply.path("docker"))
    }

    /// Starts Docker's engine, which has `busybox` too.
    pub fn of_docker() -> Server {
        let docker = Docker::with_busybox();
        let (socket, config) = (docker.socket(), docker.directory().to_owned());
        Server::ready(Engine::Docker(docker), socket, config)
    }

    fn ready(engine: Engine, socket: PathBuf, config: PathBuf) -> Server {
        let server = Server {
            engine,
            socket,
            config,
        };
        eventually("the server answers", || {
            UnixStream::connect(&server.socket).is_ok()
                && server.ask("GET", "/_ping", "").starts_with("HTTP/1.1 200")
        });
        server
    }

    /// Returns the socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns the process of `ply serve`.
    pub fn pid(&self) -> i32 {
        match &self.engine {
            Engine::Ply(child) => child.id().cast_signed(),
            Engine::Docker(_) => panic!("Docker's engine is not ours"),
        }
    }

    /// Returns `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Returns a client's command that was not started yet.
    pub fn client(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("DOCKER_HOST", self.host())
            .env("DOCKER_CONFIG", &self.config)
            .env("DOCKER_BUILDKIT", "0")
            .stdin(Stdio::null());
        command
    }

    /// Runs Docker's client.
    pub fn docker(&self, arguments: &[&str]) -> Output {
        let output = self.client("docker", arguments).output();
        output.expect("docker runs").into()
    }

    /// Runs Docker's client with something to read.
    pub fn docker_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .client("docker", arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("docker ends").into();
        let _ = writer.join();
        output
    }

    /// Connects to the socket.
    pub fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).expect("the server listens")
    }

    /// Sends a request with a JSON body, or none; returns the whole answer.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = self.connect();
        // A server that refuses may close before it has read all.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Kills the server on the spot.
    pub fn kill(mut self) {
        if let Engine::Ply(child) = &mut self.engine {
            child.kill().expect("killed");
            child.wait().expect("dead");
        }
    }

    /// Asks the server to stop and waits until it has.
    pub fn stop(&mut self) {
        if let Engine::Ply(child) = &mut self.engine {
            let pid = Pid::from_raw(child.id().cast_signed());
            let _ = nix::sys::signal::kill(pid, Signal::SIGTERM);
            let _ = child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Engine::Ply(child) = &mut self.engine
            && !matches!(child.try_wait(), Ok(Some(_)))
        {
            self.stop();
        }
    }
}
