//! The short forms of a compose file, each read into its long one.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::shape::scalar_text;

const NO_TEXT: &str = "must be a string or mapping";

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| NO_TEXT.to_owned())
}

pub(super) fn include(value: &Value) -> Result<Value, String> {
    Ok(json!({"path": [text(value)?]}))
}

pub(super) fn build(value: &Value) -> Result<Value, String> {
    Ok(json!({"context": text(value)?}))
}

pub(super) fn extends(value: &Value) -> Result<Value, String> {
    Ok(json!({"service": text(value)?}))
}

pub(super) fn file_mount(value: &Value) -> Result<Value, String> {
    Ok(json!({"source": text(value)?}))
}

pub(super) fn env_file(value: &Value) -> Result<Value, String> {
    Ok(json!({"path": text(value)?}))
}

/// A single item is a list of it.
pub(super) fn list(value: &Value) -> Result<Value, String> {
    match value {
        Value::Array(_) => Ok(value.clone()),
        Value::String(_) => Ok(json!([value])),
        _ => Err("must be a string or list".to_owned()),
    }
}

/// `external: true`; the mapping with a name is the old form.
pub(super) fn external(value: &Value) -> Result<Value, String> {
    match value {
        Value::Bool(_) | Value::String(_) => Ok(json!({"is": value})),
        _ => Err("must be a boolean, mapping or string".to_owned()),
    }
}

pub(super) fn ulimit(value: &Value) -> Result<Value, String> {
    match value {
        Value::Number(_) | Value::String(_) => Ok(json!({"soft": value, "hard": value})),
        _ => Err("must be a integer, mapping or string".to_owned()),
    }
}

/// A file's mode, a number or octal digits, as octal digits.
pub(super) fn mode(value: &Value) -> Result<Value, String> {
    let bits = match value {
        Value::Number(number) => number.as_u64().and_then(|bits| u32::try_from(bits).ok()),
        Value::String(text) => u32::from_str_radix(text.trim_start_matches("0o"), 8).ok(),
        _ => None,
    };
    match bits {
        Some(bits) if bits <= 0o7777 => Ok(format!("0{bits:o}").into()),
        _ => Err("must be a file's mode".to_owned()),
    }
}

/// `HOST[:CONTAINER[:rwm]]`
pub(super) fn device(value: &Value) -> Result<Value, String> {
    let whole = text(value)?;
    let mut fields = whole.split(':');
    let source = fields.next().unwrap_or_default();
    let target = fields.next().unwrap_or(source);
    let permissions = fields.next().unwrap_or("rwm");
    match fields.next() {
        None if !source.is_empty() => {
            Ok(json!({"source": source, "target": target, "permissions": permissions}))
        }
        _ => Err(format!("is no device mapping: {whole:?}")),
    }
}

/// `[SOURCE:]TARGET[:MODE]`
pub(super) fn volume(value: &Value) -> Result<Value, String> {
    let whole = text(value)?;
    let fields: Vec<&str> = whole.split(':').collect();
    let wrong = |words: &str| Err(format!("is an invalid spec: {whole}: {words}"));
    if fields.iter().any(|field| field.is_empty()) {
        return wrong("empty section between colons");
    }
    let (source, target, modes) = match fields.as_slice() {
        [target] => return Ok(json!({"type": "volume", "target": target, "volume": {}})),
        [source, target] => (*source, *target, ""),
        [source, target, modes] => (*source, *target, *modes),
        _ => return wrong("too many colons"),
    };
    let is_path = source.starts_with(['.', '/', '~']);
    let mut mount = Map::new();
    let (kind, mut options) = match is_path {
        true => ("bind", json!({"create_host_path": true})),
        false => ("volume", json!({})),
    };
    mount.insert("type".into(), kind.into());
    mount.insert("source".into(), source.into());
    mount.insert("target".into(), target.into());
    for mode in modes.split(',') {
        match mode {
            "ro" => mount.insert("read_only".into(), true.into()),
            "nocopy" if !is_path => {
                options["nocopy"] = true.into();
                None
            }
            "z" | "Z" if is_path => {
                options["selinux"] = mode.into();
                None
            }
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" if is_path => {
                options["propagation"] = mode.into();
                None
            }
            _ => None,
        };
    }
    mount.insert(kind.into(), options);
    Ok(Value::Object(mount))
}

/// `[[IP:]PUBLISHED:]TARGET[/PROTOCOL]`, with ranges.
pub(super) fn ports(value: &Value) -> Result<Vec<Value>, String> {
    let text = match value {
        Value::String(_) | Value::Number(_) => scalar_text(value).unwrap_or_default(),
        _ => return Err("must be a mapping, number or string".to_owned()),
    };
    let (addresses, protocol) = match text.split_once('/') {
        Some((addresses, protocol)) => (addresses, protocol.to_ascii_lowercase()),
        None => (text.as_str(), "tcp".to_owned()),
    };
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("has an invalid proto: {protocol}"));
    }
    let (head, target) = addresses.rsplit_once(':').unwrap_or(("", addresses));
    let (ip, published) = match head.rsplit_once(':') {
        Some((ip, published)) => (ip, published),
        None => ("", head),
    };
    let ip = ip.trim_start_matches('[').trim_end_matches(']');
    if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("has an invalid IP address: {ip}"));
    }
    let (first, last) =
        port_range(target)?.ok_or_else(|| format!("has no port specified: {text}<empty>"))?;
    let host = port_range(published)?;
    let port = |number: u16| -> Value {
        let published = match host {
            None => None,
            Some((low, high)) if high - low == last - first => {
                Some((low + (number - first)).to_string())
            }
            Some((low, high)) => Some(format!("{low}-{high}")),
        };
        let mut port = Map::new();
        port.insert("mode".into(), "ingress".into());
        if !ip.is_empty() {
            port.insert("host_ip".into(), ip.into());
        }
        port.insert("target".into(), number.into());
        port.extend(published.map(|published| ("published".to_owned(), published.into())));
        port.insert("protocol".into(), protocol.clone().into());
        Value::Object(port)
    };
    match host {
        Some((low, high)) if last > first && high - low != last - first => Err(format!(
            "has invalid ranges specified for container and host Ports: {target} and {published}"
        )),
        _ => Ok((first..=last).map(port).collect()),
    }
}

fn port_range(text: &str) -> Result<Option<(u16, u16)>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |digits: &str| digits.parse::<u16>().ok();
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(Some((first, last))),
        _ => Err(format!("has an invalid port range: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_an_address_a_range_and_a_protocol() {
        let read = |text: &str| ports(&json!(text));
        let port = |target: u16, published: &str| json!({"mode": "ingress", "target": target, "published": published, "protocol": "tcp"});
        assert_eq!(
            ports(&json!(80)),
            Ok(vec![
                json!({"mode": "ingress", "target": 80, "protocol": "tcp"})
            ])
        );
        assert_eq!(read("8080:80"), Ok(vec![port(80, "8080")]));
        assert_eq!(
            read("9090-9091:80-81"),
            Ok(vec![port(80, "9090"), port(81, "9091")])
        );
        assert_eq!(read("9090-9099:80"), Ok(vec![port(80, "9090-9099")]));
        assert_eq!(read("3000-3002").map(|ports| ports.len()), Ok(3));
        let local = read("127.0.0.1:53:5353/udp").expect("a port").remove(0);
        assert_eq!(local["host_ip"], "127.0.0.1");
        assert_eq!(
            (&local["published"], &local["protocol"]),
            (&json!("53"), &json!("udp"))
        );
        assert_eq!(read("[::1]:80:80").expect("a port")[0]["host_ip"], "::1");
        assert_eq!(
            read("127.0.0.1::80").expect("a port")[0].get("published"),
            None
        );
        for bad in ["", "x", "80/foo", "1-2:1-3", "70000:1", "1.2.3:1:1", "2-1"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn volumes_are_binds_if_their_source_is_a_path() {
        let read = |text: &str| volume(&json!(text));
        assert_eq!(
            read("/a"),
            Ok(json!({"type": "volume", "target": "/a", "volume": {}}))
        );
        assert_eq!(
            read("data:/a:ro,nocopy"),
            Ok(
                json!({"type": "volume", "source": "data", "target": "/a", "read_only": true, "volume": {"nocopy": true}})
            )
        );
        assert_eq!(
            read("./x:/a:z,rslave"),
            Ok(json!({"type": "bind", "source": "./x", "target": "/a",
                "bind": {"create_host_path": true, "selinux": "z", "propagation": "rslave"}}))
        );
        for bad in ["", "a::b", "a:b:c:d"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes_are_octal_however_they_are_written() {
        assert_eq!(mode(&json!(0o440)), Ok(json!("0440")));
        assert_eq!(mode(&json!("0440")), Ok(json!("0440")));
        assert!(mode(&json!("9")).is_err());
        assert!(mode(&json!(1 << 20)).is_err());
    }
}
