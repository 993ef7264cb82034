//! The engine as a server: Docker's Engine REST API over the engine that the commands use.
//!
//! ```text
//! listener  ->  connection  ->  routing  ->  containers, exec, images, system, events, ...
//! (tls)         (request, body)              (exchange: JSON, streams, hijacked sockets)
//! ```
//!
//! A thread serves a connection, as everything in the engine waits where it stands. The server keeps nothing that
//! matters: containers have their monitors, the state its database. What it does keep goes with it as with Docker's
//! daemon: commands that were made and not executed, streams that wait for a container's start.

mod absent;
mod api_error;
mod body;
mod build;
mod connection;
mod containers;
mod events;
mod exchange;
mod exec;
mod hijack;
mod images;
mod listener;
mod networks;
mod notify;
mod progress;
mod request;
mod routing;
mod socket;
mod stdcopy;
mod system;
mod tls;
mod volumes;
mod watch;
mod websocket;

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use nix::sys::signal::SigSet;
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use runtime::Engine;

pub(crate) use listener::Address;
pub(crate) use listener::Listener;
pub(crate) use tls::config as tls_config;

use api_error::ApiError;
use containers::attach::Waiting;
use containers::list::Lists;
use exec::Execs;
use socket::Socket;
use watch::Watch;

/// The most clients at once.
const MOST_CLIENTS: usize = 4096;

/// How long a stopping server waits for what it is about to answer.
const GRACE: Duration = Duration::from_secs(5);

/// What all connections share. Cheap to clone.
#[derive(Debug, Clone)]
struct Server(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    engine: Engine,
    /// Streams that were attached to containers that do not run yet.
    waiting: Waiting,
    /// Commands made with `exec`.
    execs: Execs,
    lists: Lists,
    watch: Watch,
    clients: Mutex<HashMap<u64, Socket>>,
    next_client: AtomicU64,
    is_stopping: AtomicBool,
}

impl Server {
    fn engine(&self) -> &Engine {
        &self.0.engine
    }

    fn is_stopping(&self) -> bool {
        self.0.is_stopping.load(Ordering::Relaxed)
    }

    /// Takes clients in, each on a thread of its own.
    fn listen(&self, listener: &Listener) {
        loop {
            match listener.accept() {
                Ok(socket) => self.take_in(socket),
                Err(error) => {
                    // Descriptors are short, most likely; those that are there go on.
                    log::error!("accept: {error}");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    fn take_in(&self, socket: Socket) {
        let mut clients = self.0.clients.lock();
        if clients.len() >= MOST_CLIENTS {
            let _ = exchange::refuse(&socket, &ApiError::new(503, "too many connections"));
            return;
        }
        let number = self.0.next_client.fetch_add(1, Ordering::Relaxed);
        clients.insert(number, socket.clone());
        drop(clients);
        let server = self.clone();
        let served = std::thread::Builder::new().spawn(move || {
            let _leaving = Leaving(&server, number);
            connection::serve(&server, socket);
        });
        if let Err(error) = served {
            log::error!("cannot start a thread: {error}");
            self.0.clients.lock().remove(&number);
        }
    }

    /// Lets answers that have begun end, for a moment. Containers go on.
    fn stop(&self) {
        self.0.is_stopping.store(true, Ordering::Relaxed);
        for client in self.0.clients.lock().values() {
            client.shutdown(Shutdown::Read);
        }
        let began = Instant::now();
        while began.elapsed() < GRACE && !self.0.clients.lock().is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Forgets a client when its thread ends, however it does.
struct Leaving<'a>(&'a Server, u64);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.0.clients.lock().remove(&self.1);
    }
}

/// Returns the newest version of the API that is served.
pub(crate) fn newest_version() -> String {
    request::ApiVersion::NEWEST.to_string()
}

/// Returns the oldest version of the API that is spoken.
pub(crate) fn oldest_version() -> String {
    request::ApiVersion::OLDEST.to_string()
}

/// Serves until somebody asks to stop.
pub(crate) fn run(engine: Engine, listeners: Vec<Listener>) -> io::Result<()> {
    let mut stopping = SigSet::empty();
    stopping.add(Signal::SIGTERM);
    stopping.add(Signal::SIGINT);
    stopping.thread_block()?;
    let lists = Lists::new(&engine).map_err(io::Error::other)?;
    let server = Server(Arc::new(Shared {
        engine,
        waiting: Waiting::default(),
        execs: Execs::default(),
        lists,
        watch: Watch::default(),
        clients: Mutex::default(),
        next_client: AtomicU64::new(0),
        is_stopping: AtomicBool::new(false),
    }));
    // What should run after a reboot, as Docker's daemon starts it.
    for booted in server.engine().boot().map_err(io::Error::other)? {
        match booted {
            Ok(name) => log::info!("started {name}"),
            Err(error) => log::error!("{error}"),
        }
    }
    let listeners: Vec<Arc<Listener>> = listeners.into_iter().map(Arc::new).collect();
    for listener in &listeners {
        eprintln!("API listen on {}", listener.name());
        let (server, listener) = (server.clone(), Arc::clone(listener));
        std::thread::Builder::new().spawn(move || server.listen(&listener))?;
    }
    notify::notify("READY=1");
    stopping.wait()?;
    notify::notify("STOPPING=1");
    server.stop();
    // The threads that accept hold theirs until the process ends.
    listeners.iter().for_each(|listener| listener.remove());
    Ok(())
}
