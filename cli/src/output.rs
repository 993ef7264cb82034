//! Standard output: a reader that went away ends the program quietly, as it ends every other program in a pipe.

use std::fmt;
use std::io;
use std::io::Write as _;

/// The exit code of a program that SIGPIPE has ended.
pub(crate) const BROKEN_PIPE: u8 = 128 + 13;

/// Prints a line on standard output.
macro_rules! outln {
    () => {
        $crate::output::write(format_args!("\n"))
    };
    ($($argument:tt)*) => {
        $crate::output::write(format_args!("{}\n", format_args!($($argument)*)))
    };
}

/// Prints on standard output.
macro_rules! out {
    ($($argument:tt)*) => {
        $crate::output::write(format_args!($($argument)*))
    };
}

pub(crate) use out;
pub(crate) use outln;

/// Prints text on standard output.
pub(crate) fn write(text: fmt::Arguments<'_>) {
    if let Err(error) = io::stdout().write_fmt(text)
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        std::process::exit(i32::from(BROKEN_PIPE));
    }
}

/// Passes bytes on to standard output or standard error at once.
pub(crate) fn pass(is_error: bool, bytes: &[u8]) {
    let passed = match is_error {
        false => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        }
        true => io::stderr().write_all(bytes),
    };
    if let Err(error) = passed
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        std::process::exit(i32::from(BROKEN_PIPE));
    }
}
