//! How a container is.

use runtime::container::Container;
use runtime::container::HealthStatus;
use runtime::container::Status;

use crate::age;

/// Returns a command as `ps` shows it: arguments with blanks in quotes.
pub(crate) fn command_words(arguments: &[String]) -> String {
    let quoted = |argument: &String| match argument.contains(' ') {
        true => format!("'{argument}'"),
        false => argument.clone(),
    };
    arguments.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Returns how a container is, in words: `Up 5 minutes (healthy)`.
pub(crate) fn status_words(container: &Container) -> String {
    let state = &container.state;
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running | Status::Paused => {
            let since = state.started.map(age::since).unwrap_or_default();
            let more = match (state.status, state.health) {
                (Status::Paused, _) => " (Paused)",
                (_, Some(HealthStatus::Healthy)) => " (healthy)",
                (_, Some(HealthStatus::Unhealthy)) => " (unhealthy)",
                (_, Some(HealthStatus::Starting)) => " (health: starting)",
                (_, None) => "",
            };
            format!("Up {since}{more}")
        }
        Status::Restarting => {
            format!(
                "Restarting ({}) {}",
                state.exit_code,
                age::age(state.finished)
            )
        }
        Status::Exited => format!("Exited ({}) {}", state.exit_code, age::age(state.finished)),
        Status::Removing => "Removal In Progress".to_owned(),
    }
}
