//! The monitor's ends of a process's streams, and the input that waits for it.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use rustix::fs::OFlags;

use crate::sandbox::Stdio;
use crate::sys;

/// How much input waits for the process before its clients are made to wait.
const BACKLOG: usize = 1 << 20;

/// How much is read at once.
pub(super) const BUFFER: usize = 32 << 10;

/// The monitor's ends. A terminal's master is both its input and its output.
#[derive(Debug, Default)]
pub(super) struct Streams {
    stdin: Option<OwnedFd>,
    /// Standard output and error.
    outputs: [Option<OwnedFd>; 2],
    /// What waits to be taken by the process, and whether its input ends after that.
    input: Vec<u8>,
    input_ends: bool,
}

impl Streams {
    /// Makes pipes: our ends and the process's; without `open_stdin` it has no standard input.
    pub(super) fn pipes(open_stdin: bool) -> io::Result<(Streams, Stdio)> {
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let (stdin, our_stdin) = match open_stdin {
            true => {
                let (read, write) = pipe()?;
                (Some(read), Some(write))
            }
            false => (None, None),
        };
        let (our_stdout, stdout) = pipe()?;
        let (our_stderr, stderr) = pipe()?;
        let streams = Streams {
            stdin: our_stdin,
            outputs: [Some(our_stdout), Some(our_stderr)],
            ..Streams::default()
        };
        streams.never_wait()?;
        let stdio = Stdio::Pipes {
            stdin,
            stdout,
            stderr,
        };
        Ok((streams, stdio))
    }

    /// Takes a terminal's master; without `open_stdin` nothing is typed on it.
    pub(super) fn terminal(master: OwnedFd, open_stdin: bool) -> io::Result<Streams> {
        let stdin = open_stdin.then(|| master.try_clone()).transpose()?;
        let streams = Streams {
            stdin,
            outputs: [Some(master), None],
            ..Streams::default()
        };
        streams.never_wait()?;
        Ok(streams)
    }

    fn never_wait(&self) -> io::Result<()> {
        for fd in self.stdin.iter().chain(self.outputs.iter().flatten()) {
            let flags = rustix::fs::fcntl_getfl(fd)?;
            rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?;
        }
        Ok(())
    }

    /// Returns what to wait for until [`Streams::feed`] can do something.
    pub(super) fn hungry(&self) -> Option<&OwnedFd> {
        self.stdin.as_ref().filter(|_| !self.input.is_empty())
    }

    /// Returns the outputs that may still say something, with their numbers.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (usize, &OwnedFd)> {
        let outputs = self.outputs.iter().enumerate();
        outputs.filter_map(|(number, output)| Some((number, output.as_ref()?)))
    }

    /// Returns whether more input may come.
    pub(super) fn has_room(&self) -> bool {
        self.input.len() < BACKLOG
    }

    /// Passes bytes on to the process, now or when it takes them.
    pub(super) fn give(&mut self, bytes: &[u8]) {
        if self.stdin.is_some() && !self.input_ends {
            self.input.extend_from_slice(bytes);
            self.feed();
        }
    }

    /// Ends the input once what waits has been taken.
    pub(super) fn end_input(&mut self) {
        self.input_ends = true;
        self.feed();
    }

    /// Passes input on as far as the process takes it.
    pub(super) fn feed(&mut self) {
        let Some(stdin) = &self.stdin else {
            self.input.clear();
            return;
        };
        while !self.input.is_empty() {
            match rustix::io::write(stdin, &self.input) {
                Ok(count) => {
                    self.input.drain(..count);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                // Nobody reads any more.
                Err(_) => {
                    self.input.clear();
                    self.input_ends = true;
                }
            }
        }
        if self.input_ends {
            self.stdin = None;
        }
    }

    /// Reads from an output once; `None` when it has nothing to say now.
    pub(super) fn read(&mut self, output: usize, buffer: &mut [u8; BUFFER]) -> Option<usize> {
        let fd = self.outputs[output].as_ref()?;
        match rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut buffer[..])) {
            Err(rustix::io::Errno::AGAIN) => None,
            // A terminal whose last user is gone answers EIO.
            Ok(0) | Err(_) => {
                self.outputs[output] = None;
                None
            }
            Ok(count) => Some(count),
        }
    }

    /// Sets the size of a terminal; what is none refuses.
    pub(super) fn resize(&self, rows: u16, columns: u16) {
        if let [Some(master), _] = &self.outputs {
            let _ = sys::terminal::set_size(master.as_fd(), rows, columns);
        }
    }
}
