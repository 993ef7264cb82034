//! Docker's words for what the system refuses.

use std::io;

use runtime::container::ContainerError;

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

/// Returns why a command could not be executed in a container, as Docker says it.
pub(crate) fn of_exec(error: &ContainerError) -> String {
    match error {
        ContainerError::Start { words, .. } if words.starts_with("unable to start") => {
            format!("OCI runtime exec failed: exec failed: {words}: unknown")
        }
        error => error.to_string(),
    }
}
