//! Situations for the end-to-end tests: the built `ply` with a root of its own, a registry, images, trees to compare.
//!
//! Everything a situation makes goes with it, also when a test fails.

mod docker;
mod image;
mod ply;
mod registry;
pub mod saved;
mod server;
mod terminal;
mod tree;
mod web;

pub use docker::Docker;
pub use image::busybox_tar;
pub use image::debian_tar;
pub use image::postgres_tar;
pub use ply::Output;
pub use ply::Ply;
pub use registry::Registry;
pub use server::Server;
pub use terminal::Terminal;
pub use tree::Entry;
pub use tree::Tree;
pub use tree::differences;
pub use tree::read as read_tree;
pub use web::Web;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

/// Returns the directory that the program was built into, which is above the tests'.
fn target_dir() -> PathBuf {
    let program = std::env::current_exe().expect("this program's path");
    let directory = program.parent().expect("a directory");
    match directory.ends_with("deps") {
        true => directory.parent().expect("a directory").to_owned(),
        false => directory.to_owned(),
    }
}

/// Runs a program that must succeed; returns its standard output.
pub fn must(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until `is_so`; fails after half a minute.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns a port that nobody has at the moment.
pub fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind(("0.0.0.0", 0)).expect("a socket");
    socket.local_addr().expect("an address").port()
}

/// Returns whether some process has exactly these words as its command line.
pub fn is_running(words: &str) -> bool {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let mut lines = processes.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
    lines.any(|line| {
        let line: Vec<&[u8]> = line
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty())
            .collect();
        line.join(&b' ') == words.as_bytes()
    })
}

/// Kills a process that lives.
pub fn kill_9(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it lives");
}

/// Lets a command be interrupted even if we are one that a shell has put in the background, and so deaf to it.
pub fn interruptible(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt as _;
    let hear = || {
        let (signal, default) = (
            nix::sys::signal::Signal::SIGINT,
            nix::sys::signal::SigHandler::SigDfl,
        );
        // SAFETY: the default action runs no code of ours.
        unsafe { nix::sys::signal::signal(signal, default) }?;
        Ok(())
    };
    // SAFETY: between fork and exec there is one system call, which neither allocates nor locks.
    unsafe { command.pre_exec(hear) }
}

/// Has the program ended when the thread that starts it ends, however that ends: an aborted process drops nothing.
pub fn end_with_this_thread(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt as _;
    let die = || {
        let signal = Some(rustix::process::Signal::TERM);
        Ok(rustix::process::set_parent_process_death_signal(signal)?)
    };
    // SAFETY: between fork and exec there is one system call, which neither allocates nor locks.
    unsafe { command.pre_exec(die) }
}
