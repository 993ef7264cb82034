//! `RUN --mount=type=ssh`: a socket of the step's own, whose connections go on to the agent.

use std::io;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;

use layerfs::TmpDir;

use crate::Engine;

/// A socket that leads to an agent as long as this lives.
pub(super) struct Forwarding {
    socket: PathBuf,
    ended: Arc<AtomicBool>,
    _held: TmpDir,
}

impl Forwarding {
    /// Makes a socket for who may be another user than the agent's.
    pub(super) fn new(
        engine: &Engine,
        agent: &Path,
        mode: u32,
        (uid, gid): (u32, u32),
    ) -> io::Result<Forwarding> {
        // An agent that is not there is told now, not by the command.
        drop(UnixStream::connect(agent)?);
        let held = engine.store().tmp_dir().map_err(io::Error::other)?;
        let socket = held.path().join("agent");
        let listener = listen(held.path())?;
        std::os::unix::fs::chown(&socket, Some(uid), Some(gid))?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(mode))?;
        let ended = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&ended);
        let agent = agent.to_owned();
        thread::spawn(move || {
            for client in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(client), Ok(agent)) = (client, UnixStream::connect(&agent)) else {
                    continue;
                };
                pass_on(client, agent);
            }
        });
        Ok(Forwarding {
            socket,
            ended,
            _held: held,
        })
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes who accepts.
        let _ = connect(&self.socket);
    }
}

/// Listens by way of the directory: its path may be longer than an address holds.
fn listen(directory: &Path) -> io::Result<UnixListener> {
    use std::os::fd::AsRawFd;
    let directory = std::fs::File::open(directory)?;
    UnixListener::bind(format!("/proc/self/fd/{}/agent", directory.as_raw_fd()))
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    use std::os::fd::AsRawFd;
    let parent = socket.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = std::fs::File::open(parent)?;
    UnixStream::connect(format!("/proc/self/fd/{}/agent", directory.as_raw_fd()))
}

/// Copies both ways until either end is done.
fn pass_on(client: UnixStream, agent: UnixStream) {
    let both = || Ok::<_, io::Error>([(client.try_clone()?, agent.try_clone()?)]);
    let Ok([(mut from_client, mut to_agent)]) = both() else {
        return;
    };
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_agent);
        let _ = to_agent.shutdown(Shutdown::Write);
    });
    let (mut from_agent, mut to_client) = (agent, client);
    thread::spawn(move || {
        let _ = io::copy(&mut from_agent, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::io::Write as _;

    use super::*;
    use crate::EngineConfig;

    #[test]
    fn what_is_said_to_the_socket_reaches_the_agent_and_its_answer_comes_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let config = EngineConfig {
            root: directory.path().join("root"),
            run: directory.path().join("run"),
        };
        let engine = Engine::open(&config).expect("an engine");
        let agent = directory.path().join("agent");
        let listener = UnixListener::bind(&agent).expect("a socket");
        let serving = thread::spawn(move || {
            // The first connection only looks whether somebody is there.
            drop(listener.accept().expect("a look"));
            let (mut client, _) = listener.accept().expect("a client");
            let mut said = String::new();
            client.read_to_string(&mut said).expect("a question");
            client.write_all(b"answer").expect("an answer");
            said
        });
        let owner = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let forwarding = Forwarding::new(&engine, &agent, 0o600, owner).expect("a socket");
        let mut stream = connect(forwarding.socket()).expect("a connection");
        stream.write_all(b"question").expect("a question");
        stream.shutdown(Shutdown::Write).expect("its end");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert_eq!(answer, "answer");
        assert_eq!(serving.join().expect("the agent"), "question");
    }
}
