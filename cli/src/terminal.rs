//! What is different when a person's terminal is at the other end.

use std::borrow::Cow;
use std::io;
use std::io::IsTerminal as _;

use rustix::termios::LocalModes;
use rustix::termios::OptionalActions;
use rustix::termios::Termios;

/// Returns whether standard output is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Returns whether standard error is a terminal.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Returns whether standard input is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Asks a person whether to go on; an answer other than yes, or none, is no.
pub(crate) fn confirm(warning: &str) -> bool {
    crate::output::out!("{warning}\nAre you sure you want to continue? [y/N] ");
    let _ = io::Write::flush(&mut io::stdout());
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y")
}

/// Asks a person a question on standard error; an answer other than yes, or none, is no.
pub(crate) fn agrees(question: &str) -> bool {
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    let is_read = io::stdin().read_line(&mut answer).is_ok();
    if !stdin_is_terminal() {
        eprintln!();
    }
    is_read && matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES")
}

/// Asks the person at the terminal for a line; what they type is only seen if `is_shown`.
pub(crate) fn asked(question: &str, is_shown: bool) -> io::Result<String> {
    eprint!("{question}");
    let hidden = match is_shown {
        true => None,
        false => Some(Hidden::enter()?),
    };
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if hidden.is_some() {
        eprintln!();
    }
    Ok(answer.trim_end_matches(['\r', '\n']).to_owned())
}

/// A terminal that does not show what is typed; dropping it puts it back.
struct Hidden(Termios);

impl Hidden {
    fn enter() -> io::Result<Hidden> {
        let before = rustix::termios::tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &hidden)?;
        Ok(Hidden(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Writes control characters as `\n`, `\u{1b}` and the like: a name from an image or registry must not steer a terminal.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    escaped_but(text, &[])
}

/// Escapes a message of several lines for a terminal.
pub(crate) fn escaped_lines(text: &str) -> Cow<'_, str> {
    escaped_but(text, &['\n', '\t'])
}

fn escaped_but<'a>(text: &'a str, harmless: &[char]) -> Cow<'a, str> {
    let steers = |character: char| {
        let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        (character.is_control() || turns) && !harmless.contains(&character)
    };
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match steers(character) {
            true => out.extend(character.escape_default()),
            false => out.push(character),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_not_sent() {
        assert_eq!(escaped("a\x1b[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(escaped("a\nb"), "a\\nb");
        assert_eq!(escaped("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(escaped("häßlich"), "häßlich");
        assert_eq!(escaped("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn the_lines_of_a_message_stay_lines() {
        assert_eq!(escaped_lines("a\n\tb\r"), "a\n\tb\\r");
    }
}
