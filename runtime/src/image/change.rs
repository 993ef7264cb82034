//! Dockerfile instructions applied to a config: `import --change` (and `commit --change`).

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::ImageError;

/// Applies one instruction to the `config` object of an image's config.
pub(crate) fn apply(config: &mut Map<String, Value>, instruction: &str) -> Result<(), ImageError> {
    let instruction = instruction.trim();
    let (verb, rest) = instruction
        .split_once(char::is_whitespace)
        .unwrap_or((instruction, ""));
    let rest = rest.trim();
    let verb = verb.to_ascii_uppercase();
    let needs = |what: &str| ImageError::InvalidChange(format!("{verb} requires {what}"));
    match verb.as_str() {
        "CMD" => {
            config.insert("Cmd".into(), command(rest));
        }
        "ENTRYPOINT" => {
            config.insert("Entrypoint".into(), command(rest));
        }
        "ENV" => {
            let pairs = pairs(rest).ok_or_else(|| needs("at least one argument"))?;
            let list = array(config, "Env");
            for (key, value) in pairs {
                let prefix = format!("{key}=");
                list.retain(|one| !one.as_str().is_some_and(|one| one.starts_with(&prefix)));
                list.push(Value::String(format!("{key}={value}")));
            }
        }
        "LABEL" => {
            let pairs = pairs(rest).ok_or_else(|| needs("at least one argument"))?;
            let labels = object(config, "Labels");
            for (key, value) in pairs {
                labels.insert(key, Value::String(value));
            }
        }
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let full = match port.contains('/') {
                    true => port.to_owned(),
                    false => format!("{port}/tcp"),
                };
                let (number, protocol) = full.split_once('/').unwrap_or((&full, ""));
                let valid = number
                    .split('-')
                    .all(|number| number.parse::<u16>().is_ok())
                    && matches!(protocol, "tcp" | "udp" | "sctp");
                if !valid {
                    return Err(ImageError::InvalidChange(format!(
                        "invalid containerPort: {port}"
                    )));
                }
                object(config, "ExposedPorts").insert(full, json!({}));
            }
        }
        "VOLUME" => {
            let volumes: Vec<String> = serde_json::from_str(rest)
                .unwrap_or_else(|_| rest.split_whitespace().map(str::to_owned).collect());
            if volumes.is_empty() {
                return Err(needs("at least one argument"));
            }
            for volume in volumes {
                object(config, "Volumes").insert(volume, json!({}));
            }
        }
        "USER" | "STOPSIGNAL" => {
            if rest.is_empty() || rest.contains(char::is_whitespace) {
                return Err(needs("exactly one argument"));
            }
            let key = if verb == "USER" { "User" } else { "StopSignal" };
            config.insert(key.into(), rest.into());
        }
        "WORKDIR" => {
            if rest.is_empty() {
                return Err(needs("exactly one argument"));
            }
            let before = config
                .get("WorkingDir")
                .and_then(Value::as_str)
                .unwrap_or("/");
            let path = match rest.starts_with('/') {
                true => rest.to_owned(),
                false => format!("{}/{rest}", before.trim_end_matches('/')),
            };
            config.insert("WorkingDir".into(), path.into());
        }
        "ONBUILD" => {
            if rest.is_empty() {
                return Err(needs("at least one argument"));
            }
            array(config, "OnBuild").push(rest.into());
        }
        "HEALTHCHECK" => {
            let check = healthcheck(rest)?;
            config.insert("Healthcheck".into(), check);
        }
        "ADD" | "ARG" | "COPY" | "FROM" | "MAINTAINER" | "RUN" | "SHELL" => {
            return Err(ImageError::InvalidChange(format!(
                "{} is not a valid change command",
                verb.to_ascii_lowercase()
            )));
        }
        other => {
            return Err(ImageError::InvalidChange(format!(
                "dockerfile parse error line 1: unknown instruction: {}",
                super::printable(other)
            )));
        }
    }
    Ok(())
}

/// Reads `NONE`, or flags and `CMD` with a command in either form.
fn healthcheck(text: &str) -> Result<Value, ImageError> {
    let mut check = Map::new();
    let mut rest = text;
    while rest.starts_with("--") {
        let (flag, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        let key = match name {
            "--interval" => "Interval",
            "--timeout" => "Timeout",
            "--start-period" => "StartPeriod",
            "--start-interval" => "StartInterval",
            "--retries" => "Retries",
            other => {
                let other = super::printable(other.trim_start_matches("--"));
                return Err(ImageError::InvalidChange(format!("Unknown flag: {other}")));
            }
        };
        let number = match key {
            "Retries" => value.parse().ok(),
            _ => crate::container::nanoseconds(value),
        };
        let number: u64 = number.ok_or_else(|| {
            let value = super::printable(value);
            ImageError::InvalidChange(format!("invalid value {value:?} of {name} in HEALTHCHECK"))
        })?;
        check.insert(key.into(), number.into());
        rest = after.trim_start();
    }
    let (kind, test) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let test = test.trim();
    let test = match (kind.to_ascii_uppercase().as_str(), test) {
        ("NONE", "") if check.is_empty() => vec!["NONE".to_owned()],
        ("NONE", _) => {
            return Err(ImageError::InvalidChange(
                "HEALTHCHECK NONE takes no arguments".to_owned(),
            ));
        }
        ("CMD", "") => {
            return Err(ImageError::InvalidChange(
                "Missing command after HEALTHCHECK CMD".to_owned(),
            ));
        }
        ("CMD", test) => match serde_json::from_str::<Vec<String>>(test) {
            Ok(words) => [vec!["CMD".to_owned()], words].concat(),
            Err(_) => vec!["CMD-SHELL".to_owned(), test.to_owned()],
        },
        (kind, _) => {
            return Err(ImageError::InvalidChange(format!(
                "Unknown type {kind:?} in HEALTHCHECK (try CMD)"
            )));
        }
    };
    check.insert("Test".into(), json!(test));
    Ok(Value::Object(check))
}

/// Reads the JSON form, else wraps the shell form.
fn command(text: &str) -> Value {
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(words) => json!(words),
        Err(_) => json!(["/bin/sh", "-c", text]),
    }
}

fn array<'a>(config: &'a mut Map<String, Value>, key: &str) -> &'a mut Vec<Value> {
    let slot = config.entry(key).or_insert_with(|| json!([]));
    if !slot.is_array() {
        *slot = json!([]);
    }
    match slot {
        Value::Array(list) => list,
        _ => unreachable!("made an array above"),
    }
}

fn object<'a>(config: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let slot = config.entry(key).or_insert_with(|| json!({}));
    if !slot.is_object() {
        *slot = json!({});
    }
    match slot {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// Reads `key=value "key"="a value" ...`, or `key the whole rest`.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let words = words(text);
    let first = words.first()?;
    if !first.contains('=') {
        let (key, value) = text.split_once(char::is_whitespace)?;
        return Some(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    words
        .iter()
        .map(|word| {
            let (key, value) = word.split_once('=')?;
            (!key.is_empty()).then(|| (key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Splits at white space outside quotes and takes the quotes away.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(characters.next()),
            (c, Some(open)) if c == open => quote = None,
            (c @ ('"' | '\''), None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_change_the_config() {
        let mut config = Map::new();
        for line in [
            "CMD [\"a\", \"b c\"]",
            "entrypoint run it",
            "ENV A=1 B=\"two words\"",
            "ENV A 3 four",
            "LABEL x=y",
            "EXPOSE 80 53/udp",
            "WORKDIR /a",
            "WORKDIR b",
            "VOLUME /v /w",
            "USER me",
            "HEALTHCHECK --interval=1m30s --retries=4 CMD true",
        ] {
            apply(&mut config, line).unwrap();
        }
        assert_eq!(
            Value::Object(config),
            json!({
                "Cmd": ["a", "b c"],
                "Entrypoint": ["/bin/sh", "-c", "run it"],
                "Env": ["B=two words", "A=3 four"],
                "Labels": {"x": "y"},
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
                "WorkingDir": "/a/b",
                "Volumes": {"/v": {}, "/w": {}},
                "User": "me",
                "Healthcheck": {
                    "Test": ["CMD-SHELL", "true"],
                    "Interval": 90_000_000_000u64,
                    "Retries": 4,
                },
            })
        );
        for bad in [
            "RUN x",
            "FOO",
            "EXPOSE x",
            "USER",
            "",
            "ENV",
            "HEALTHCHECK FOO",
            "HEALTHCHECK --nosuch=1 CMD true",
            "HEALTHCHECK --interval=x CMD true",
            "HEALTHCHECK CMD",
            "HEALTHCHECK NONE true",
        ] {
            assert!(apply(&mut Map::new(), bad).is_err(), "{bad}");
        }
    }
}
