//! A person's terminal, typed on by a test.

use std::fs::File;
use std::io::Read as _;
use std::io::Write as _;
use std::process::Child;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::pty::OpenptFlags;
use rustix::termios::LocalModes;
use rustix::termios::Winsize;

/// How long something is waited for on the screen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pseudo terminal, seen from the keyboard's side.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    slave: File,
}

impl Terminal {
    /// Makes a terminal of this size.
    pub fn new(rows: u16, columns: u16) -> Terminal {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY);
        let master = master.expect("a terminal");
        rustix::pty::grantpt(&master).expect("granted");
        rustix::pty::unlockpt(&master).expect("unlocked");
        let name = rustix::pty::ptsname(&master, Vec::new()).expect("a name");
        let slave = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().expect("a path"))
            .expect("a terminal");
        rustix::termios::tcsetwinsize(&slave, winsize(rows, columns)).expect("a size");
        Terminal {
            master: File::from(master),
            slave,
        }
    }

    /// Starts a program on the terminal.
    pub fn spawn(&self, command: &mut Command) -> Child {
        let slave = || self.slave.try_clone().expect("a terminal");
        command
            .stdin(slave())
            .stdout(slave())
            .stderr(slave())
            .spawn()
            .expect("a program")
    }

    /// Types something and waits until `expected` is on the screen; returns what came there since.
    pub fn type_in(&mut self, text: &str, expected: &str) -> String {
        self.master.write_all(text.as_bytes()).expect("typed");
        let mut screen = String::new();
        let mut buffer = [0; 4096];
        let deadline = Instant::now() + PATIENCE;
        while !screen.contains(expected) {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).expect("half a minute");
            let mut ready = [PollFd::new(&self.master, PollFlags::IN)];
            let ready = rustix::event::poll(&mut ready, Some(&left)).expect("polled");
            assert!(ready > 0, "{expected:?} is not on {screen:?}");
            let count = self.master.read(&mut buffer).expect("a screen");
            screen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        screen
    }

    /// Changes the size and tells the program.
    pub fn resize(&self, rows: u16, columns: u16, program: &Child) {
        rustix::termios::tcsetwinsize(&self.slave, winsize(rows, columns)).expect("a size");
        let pid = nix::unistd::Pid::from_raw(program.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGWINCH).expect("a signal");
    }

    /// Returns whether the terminal echoes what is typed, as it did when it was made.
    pub fn echoes(&self) -> bool {
        let flags = rustix::termios::tcgetattr(&self.slave).expect("a terminal");
        flags.local_modes.contains(LocalModes::ECHO)
    }
}

fn winsize(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
