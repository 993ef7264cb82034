//! Docker's words for what the system refuses.

use std::io;

/// Returns the system's words for an error without Rust's number: `no such file or directory`.
pub(crate) fn of(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => text.to_owned(),
    }
}
