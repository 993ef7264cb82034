//! What a long verb tells, as Docker's lines of JSON.

use parking_lot::Mutex;
use runtime::progress::LayerStatus;
use runtime::progress::Progress;
use runtime::progress::ProgressEvent;
use serde_json::Value;
use serde_json::json;

use super::api_error::ApiError;
use super::exchange::Answer;
use super::exchange::Stream;
use crate::human_size::precise_size;

/// How wide Docker draws a bar.
const WIDTH: usize = 50;

/// The receiver of a verb's events that sends each as a line.
#[derive(Debug)]
pub(super) struct Lines(Mutex<Stream>);

impl Lines {
    pub(super) fn new(stream: Stream) -> Lines {
        Lines(Mutex::new(stream))
    }

    /// Sends a line of the caller's. A client that went away is noticed at the end; the verb goes on without it.
    pub(super) fn send(&self, line: &Value) {
        if let Err(error) = self.0.lock().line(line) {
            log::debug!("{error}");
        }
    }

    /// Ends the answer after a failure that has a code of its own.
    pub(super) fn fail(self, message: &str, code: Option<i32>) -> Answer {
        let mut stream = self.0.into_inner();
        stream.line(&failure(message, code))?;
        stream.end()
    }

    /// Returns whether something was sent.
    pub(super) fn has_begun(&self) -> bool {
        self.0.lock().has_begun()
    }

    /// Ends the answer: an error becomes one with a status as long as nothing was sent, then a last line.
    pub(super) fn end(self, done: Result<(), ApiError>) -> Answer {
        let mut stream = self.0.into_inner();
        match done {
            Err(error) if !stream.has_begun() => return Err(error),
            Err(error) => stream.line(&failure(&error.to_string(), None))?,
            Ok(()) => {}
        }
        stream.end()
    }
}

/// Returns the line that tells of a failure.
pub(super) fn failure(message: &str, code: Option<i32>) -> Value {
    let mut detail = json!({ "message": message });
    if let Some(code) = code {
        detail = json!({ "code": code, "message": message });
    }
    json!({ "errorDetail": detail, "error": message })
}

impl Progress for Lines {
    fn event(&self, event: ProgressEvent) {
        let line = match event {
            ProgressEvent::Message(text) => json!({ "status": text }),
            ProgressEvent::Named { id, text } => json!({ "status": text, "id": id }),
            ProgressEvent::Layer { id, status } => layer(&id, &status),
        };
        self.send(&line);
    }
}

fn layer(id: &str, status: &LayerStatus) -> Value {
    match status.counts() {
        None => json!({ "status": status.words(), "progressDetail": {}, "id": id }),
        Some((current, Some(total))) if total > 0 => json!({
            "status": status.words(),
            "progressDetail": { "current": current, "total": total },
            "progress": bar(current, total),
            "id": id,
        }),
        Some((current, _)) => json!({
            "status": status.words(),
            "progressDetail": { "current": current },
            "progress": format!("{:>8}", precise_size(current)),
            "id": id,
        }),
    }
}

/// Draws `[====>    ]  1.5MB/3MB`.
fn bar(current: u64, total: u64) -> String {
    let done = (current.min(total) as f64 / total as f64 * WIDTH as f64) as usize;
    format!(
        "[{}>{}] {:>8}/{}",
        "=".repeat(done),
        " ".repeat(WIDTH - done),
        precise_size(current),
        precise_size(total)
    )
}

/// Returns a line of text that stands for itself.
pub(super) fn said(text: &str) -> Value {
    json!({ "stream": text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_docker_s() {
        assert_eq!(
            bar(32768, 1_088_814),
            format!("[=>{}]  32.77kB/1.089MB", " ".repeat(49))
        );
        assert_eq!(
            bar(1_088_814, 1_088_814),
            format!("[{}>]  1.089MB/1.089MB", "=".repeat(50))
        );
    }
}
