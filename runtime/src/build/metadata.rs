//! Instructions that change only the image's config, and the words that the history has for them: the classic builder's.

use serde_json::Value;
use serde_json::json;

use super::dockerfile::CommandLine;
use super::dockerfile::Health;
use super::error::StepError;
use super::state::State;
use super::transfer::absolute;

/// Returns what a list of words looks like in Go's `%q`: `["a" "b"]`.
pub(super) fn quoted(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| json!(word).to_string()).collect();
    format!("[{}]", quoted.join(" "))
}

/// Returns the history's line of a step that makes no layer.
pub(super) fn created_by(shell: &[String], comment: &str) -> String {
    format!("{} #(nop)  {comment}", shell.join(" "))
}

fn arguments(state: &State, command: &CommandLine) -> Vec<String> {
    match command {
        CommandLine::Shell(line) => [state.shell(), vec![line.clone()]].concat(),
        CommandLine::Exec(words) => words.clone(),
    }
}

pub(super) fn cmd(state: &mut State, command: &CommandLine) -> String {
    let words = arguments(state, command);
    state.config().insert("Cmd".into(), json!(words));
    state.cmd_is_set = true;
    format!("CMD {}", quoted(&words))
}

/// Sets the entrypoint; a command that comes from the base was for another one.
pub(super) fn entrypoint(state: &mut State, command: &CommandLine) -> String {
    let words = arguments(state, command);
    let value = match words.is_empty() {
        true => Value::Null,
        false => json!(words),
    };
    state.config().insert("Entrypoint".into(), value);
    if !state.cmd_is_set {
        state.config().remove("Cmd");
    }
    format!("ENTRYPOINT {}", quoted(&words))
}

pub(super) fn env(state: &mut State, pairs: &[(String, String)]) -> String {
    let mut comment = "ENV".to_owned();
    for (name, value) in pairs {
        state.set_env(name, value);
        comment += &format!(" {name}={value}");
    }
    comment
}

pub(super) fn label(state: &mut State, pairs: &[(String, String)]) -> String {
    let mut comment = "LABEL".to_owned();
    for (name, value) in pairs {
        state.object("Labels").insert(name.clone(), json!(value));
        comment += &format!(" {name}={value}");
    }
    comment
}

pub(super) fn expose(state: &mut State, ports: &[String]) -> Result<String, StepError> {
    for port in ports {
        let invalid = || StepError::Word(format!("Invalid containerPort: {port}"));
        let (numbers, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            return Err(StepError::Word(format!("Invalid proto: {protocol}")));
        }
        let numbers = numbers.rsplit(':').next().unwrap_or_default();
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let number = |text: &str| text.parse::<u16>().map_err(|_| invalid());
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(invalid());
        }
        for number in first..=last {
            let exposed = state.object("ExposedPorts");
            exposed.insert(format!("{number}/{protocol}"), json!({}));
        }
    }
    Ok(format!("EXPOSE {}", ports.join(" ")))
}

pub(super) fn healthcheck(state: &mut State, health: &Health) -> String {
    let check = match health {
        Health::None => json!({ "Test": ["NONE"] }),
        Health::Check(check) => json!(check),
    };
    let duration = |key: &str| {
        let nanos = check.get(key).and_then(Value::as_u64).unwrap_or(0);
        format!("{:?}", go_duration(nanos))
    };
    let test: Vec<String> = check["Test"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let retries = check.get("Retries").and_then(Value::as_u64).unwrap_or(0);
    let comment = format!(
        "HEALTHCHECK &{{{} {} {} {} '\\x{retries:02x}'}}",
        quoted(&test),
        duration("Interval"),
        duration("Timeout"),
        duration("StartPeriod"),
    );
    state.config().insert("Healthcheck".into(), check);
    comment
}

/// Returns a duration as Go writes it.
fn go_duration(nanos: u64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let fraction = |value: f64, unit: &str| format!("{value}{unit}");
    if nanos < 1_000_000_000 {
        return match nanos {
            0..1_000 => format!("{nanos}ns"),
            1_000..1_000_000 => fraction(nanos as f64 / 1e3, "µs"),
            _ => fraction(nanos as f64 / 1e6, "ms"),
        };
    }
    let total = nanos / 1_000_000_000;
    let seconds = (total % 60) as f64 + (nanos % 1_000_000_000) as f64 / 1e9;
    let (hours, minutes) = (total / 3600, total / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

pub(super) fn maintainer(state: &mut State, name: &str) -> String {
    state.image.insert("author".into(), json!(name));
    format!("MAINTAINER {name}")
}

pub(super) fn onbuild(state: &mut State, trigger: &str) -> String {
    let mut triggers = state.words("OnBuild");
    triggers.push(trigger.to_owned());
    state.config().insert("OnBuild".into(), json!(triggers));
    format!("ONBUILD {trigger}")
}

pub(super) fn shell(state: &mut State, words: &[String]) -> String {
    state.config().insert("Shell".into(), json!(words));
    format!("SHELL [{}]", words.join(" "))
}

pub(super) fn stopsignal(state: &mut State, signal: &str) -> Result<String, StepError> {
    if crate::container::signal_number(signal).is_none() {
        return Err(StepError::Word(format!("Invalid signal: {signal}")));
    }
    state.config().insert("StopSignal".into(), json!(signal));
    Ok(format!("STOPSIGNAL {signal}"))
}

pub(super) fn user(state: &mut State, user: &str) -> String {
    state.config().insert("User".into(), json!(user));
    format!("USER {user}")
}

pub(super) fn volume(state: &mut State, paths: &[String]) -> String {
    for path in paths {
        state.object("Volumes").insert(path.clone(), json!({}));
    }
    format!("VOLUME [{}]", paths.join(" "))
}

/// Sets the working directory; returns it, absolute.
pub(super) fn workdir(state: &mut State, path: &str) -> String {
    let names = absolute(state.working_dir(), path);
    let path = String::from_utf8_lossy(&super::files::join(&names)).into_owned();
    let path = format!("/{path}");
    state
        .config()
        .insert("WorkingDir".into(), json!(path.as_str()));
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Platform;

    #[test]
    fn an_entrypoint_forgets_the_command_of_the_base_and_not_the_stage_s_own() {
        let exec = |word: &str| CommandLine::Exec(vec![word.to_owned()]);
        let mut state = State::scratch(&Platform::host());
        state.config().insert("Cmd".into(), json!(["base"]));
        assert_eq!(entrypoint(&mut state, &exec("e")), "ENTRYPOINT [\"e\"]");
        assert!(state.words("Cmd").is_empty());
        assert_eq!(cmd(&mut state, &exec("own")), "CMD [\"own\"]");
        entrypoint(&mut state, &exec("f"));
        assert_eq!(state.words("Cmd"), ["own"]);
    }

    #[test]
    fn ports_are_checked_and_ranges_spread_out() {
        let mut state = State::scratch(&Platform::host());
        let expose = |state: &mut State, port: &str| expose(state, &[port.to_owned()]);
        expose(&mut state, "80-82/UDP").expect("a range");
        expose(&mut state, "443").expect("a port");
        let ports: Vec<&String> = state.object("ExposedPorts").keys().collect();
        assert_eq!(ports, ["80/udp", "81/udp", "82/udp", "443/tcp"]);
        for bad in ["x", "70000", "5-3", "80/icmp"] {
            assert!(expose(&mut state, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanos, text) in [
            (0, "0s"),
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (1_500_000_000, "1.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (250_000_000, "250ms"),
        ] {
            assert_eq!(go_duration(nanos), text);
        }
    }

    #[test]
    fn working_directories_add_up() {
        let mut state = State::scratch(&Platform::host());
        assert_eq!(workdir(&mut state, "/a"), "/a");
        assert_eq!(workdir(&mut state, "b/../c/"), "/a/c");
        assert_eq!(workdir(&mut state, "/"), "/");
    }
}
