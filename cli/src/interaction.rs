//! A person, or a pipe, at a container's streams.

use std::io;
use std::io::IsTerminal as _;
use std::io::Read as _;
use std::thread;

use nix::sys::signal::SigSet;
use nix::sys::signal::Signal;
use runtime::attach::Attachment;
use runtime::attach::Heard;
use runtime::attach::Sender;
use rustix::termios::OptionalActions;
use rustix::termios::Termios;

use crate::command_error::CommandError;
use crate::detach_keys::DetachKeys;
use crate::output;

/// How to be at a container's streams.
#[derive(Debug, Clone)]
pub(crate) struct Interaction {
    /// Whether the container has a terminal, which is shown on ours.
    pub(crate) tty: bool,
    /// Whether our standard input is the container's.
    pub(crate) stdin: bool,
    /// Whether our signals are the container's.
    pub(crate) sig_proxy: bool,
    /// The keys to leave with.
    pub(crate) detach_keys: DetachKeys,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The container has ended.
    Exit(i32),
    /// The person has left.
    Detached,
}

/// The terminal in raw mode; dropping it puts it back.
#[derive(Debug)]
struct Raw(Termios);

impl Raw {
    fn enter() -> io::Result<Raw> {
        let before = rustix::termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Returns the terminal's rows and columns; zeroes if standard output is none.
pub(crate) fn window_size() -> (u16, u16) {
    rustix::termios::tcgetwinsize(io::stdout()).map_or((0, 0), |size| (size.ws_row, size.ws_col))
}

/// Refuses to type on a container's terminal from what is none.
pub(crate) fn check_terminal(tty: bool, stdin: bool) -> Result<(), CommandError> {
    match tty && stdin && !io::stdin().is_terminal() {
        true => Err(CommandError::failed("the input device is not a TTY")),
        false => Ok(()),
    }
}

/// The signals that are passed on: all that can be caught and mean something to a program.
fn passed_on() -> SigSet {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGCONT,
        Signal::SIGWINCH,
    ] {
        set.add(signal);
    }
    set
}

/// How many times a person asks for the end until the client gives up on a container that does not listen.
const INTERRUPTS: u32 = 3;

/// Keeps signals for [`Interaction::follow`], so that none is lost while the container is being started.
pub(crate) fn hold_signals() {
    let _ = passed_on().thread_block();
}

impl Interaction {
    /// Passes input, output and signals on until the container ends or the person leaves.
    pub(crate) fn follow(&self, mut attachment: Attachment) -> Result<Outcome, CommandError> {
        let raw = match self.tty && self.stdin {
            true => Some(Raw::enter().map_err(CommandError::failed)?),
            false => None,
        };
        self.pass_signals(attachment.sender());
        let (left, leaving) = std::sync::mpsc::channel();
        if self.stdin {
            let sender = attachment.sender();
            let keys = self.tty.then(|| self.detach_keys.clone());
            thread::spawn(move || {
                if pass_stdin(&sender, keys) {
                    let _ = left.send(());
                    sender.hang_up();
                }
            });
        }
        let outcome = loop {
            match attachment.hear() {
                Ok(Some(Heard::Stdout(bytes))) => output::pass(false, &bytes),
                Ok(Some(Heard::Stderr(bytes))) => output::pass(true, &bytes),
                Ok(Some(Heard::Exit(code))) => break Ok(Outcome::Exit(code)),
                Ok(None) if leaving.try_recv().is_ok() => break Ok(Outcome::Detached),
                Ok(None) => break Err(CommandError::with_code(137, "")),
                Err(error) => break Err(CommandError::failed(error)),
            }
        };
        drop(raw);
        outcome
    }

    fn pass_signals(&self, sender: Sender) {
        let (tty, sig_proxy) = (self.tty, self.sig_proxy);
        let set = passed_on();
        thread::spawn(move || {
            let mut interrupts = 0;
            while let Ok(signal) = set.wait() {
                let _ = match signal {
                    Signal::SIGWINCH if tty => {
                        let (rows, columns) = window_size();
                        sender.resize(rows, columns)
                    }
                    Signal::SIGWINCH => Ok(()),
                    signal if sig_proxy => sender.signal(signal as i32),
                    signal => std::process::exit(128 + signal as i32),
                };
                interrupts += u32::from(matches!(signal, Signal::SIGINT | Signal::SIGTERM));
                // A terminal has keys to leave with, and has to be put back.
                if !tty && interrupts == INTERRUPTS {
                    eprintln!("\ngot {INTERRUPTS} SIGTERM/SIGINTs, forcefully exiting");
                    std::process::exit(1);
                }
            }
        });
    }
}

/// Passes standard input on to its end; returns whether the person has left instead.
fn pass_stdin(sender: &Sender, mut keys: Option<DetachKeys>) -> bool {
    let mut stdin = io::stdin().lock();
    let mut buffer = [0; 16 << 10];
    loop {
        let count = match stdin.read(&mut buffer) {
            Ok(0) => {
                let _ = sender.end_stdin();
                return false;
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return false,
        };
        let typed = &buffer[..count];
        let passed = match &mut keys {
            Some(keys) => match keys.pass(typed) {
                Some(passed) => passed,
                None => return true,
            },
            None => typed.to_vec(),
        };
        if !passed.is_empty() && sender.stdin(&passed).is_err() {
            return false;
        }
    }
}
