//! `POST /containers/NAME/wait`: the head at once, the exit code when there is one.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use std::time::Instant;

use runtime::container::Container;
use runtime::container::ContainerError;
use runtime::container::Status;
use runtime::events::Event;
use serde_json::json;

use crate::serve::Server;
use crate::serve::api_error::ApiError;
use crate::serve::events::ROUND;
use crate::serve::exchange::Answer;
use crate::serve::exchange::Exchange;

/// How soon the row is looked at first; each next look takes twice as long to come, up to [`ROUND`].
const FIRST_ROUND: Duration = Duration::from_millis(10);

/// How long a monitor may take to write down the end that it has told of.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// That it does not run, which may be so already.
    NotRunning,
    /// The end of the run that it is in, or of the next one.
    NextExit,
    /// That it is gone.
    Removed,
}

pub(super) fn wait(server: &Server, exchange: &mut Exchange<'_>, name: &str) -> Answer {
    let condition = match exchange.request.query.get("condition") {
        None | Some("not-running") => Condition::NotRunning,
        Some("next-exit") => Condition::NextExit,
        Some("removed") => Condition::Removed,
        Some(other) => {
            return Err(ApiError::bad(format_args!("invalid condition: {other:?}")));
        }
    };
    // Subscribed first: no end falls between the look and the wait.
    let events = server.0.watch.subscribe(server.engine())?;
    let container = server.engine().container(name)?;
    let mut out = exchange.stream(Some("application/json"))?;
    let ended = !container.state.status.is_alive();
    let code = match condition {
        Condition::NotRunning if ended => Some(container.state.exit_code),
        _ => wait_for(server, exchange, &container, condition, &events)?,
    };
    if let Some(code) = code {
        out.line(&json!({ "StatusCode": code, "Error": null }))?;
    }
    out.end()
}

/// Returns the exit code; nothing if the client has gone or the server stops.
fn wait_for(
    server: &Server,
    exchange: &Exchange<'_>,
    container: &Container,
    condition: Condition,
    events: &Receiver<Arc<Event>>,
) -> Result<Option<i32>, ApiError> {
    let id = container.id.as_str();
    let was_alive = container.state.status.is_alive();
    let mut code = 0;
    // An end is told of before it is written down: one that was told of just before we listened shows in the row only.
    let mut patience = FIRST_ROUND;
    loop {
        match events.recv_timeout(patience) {
            Ok(event) if event.kind == "container" && event.id == id => match &event.action[..] {
                "die" => {
                    let attribute = event.attributes.get("exitCode");
                    code = attribute.and_then(|code| code.parse().ok()).unwrap_or(0);
                    if condition != Condition::Removed {
                        settle(server, &event)?;
                        return Ok(Some(code));
                    }
                }
                "destroy" => return Ok(Some(code)),
                _ => {}
            },
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => {
                if exchange.is_abandoned() || server.is_stopping() {
                    return Ok(None);
                }
                patience = (patience * 2).min(ROUND);
                match server.engine().container(id) {
                    // One that was removed with its traces has told nobody.
                    Err(ContainerError::NoSuchContainer(_)) => return Ok(Some(code)),
                    Ok(now) if was_alive && !now.state.status.is_alive() => {
                        code = now.state.exit_code;
                        if condition != Condition::Removed {
                            return Ok(Some(code));
                        }
                    }
                    _ => {}
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(ApiError::internal("too many events to follow"));
            }
        }
    }
}

/// Waits until the end that was told of is written down, so that whoever hears of it finds it so.
fn settle(server: &Server, end: &Event) -> Result<(), ApiError> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let state = match server.engine().container(&end.id) {
            Ok(container) => container.state,
            Err(ContainerError::NoSuchContainer(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let is_another_run = state.started.is_some_and(|started| started > end.time);
        if !matches!(state.status, Status::Running | Status::Paused) || is_another_run {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
