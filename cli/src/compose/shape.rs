//! What stands where in a compose file: checks a tree and brings short forms into the long ones, in one walk.
//!
//! The tables are in [`super::schema`]. After the walk a value has one form only: lists of `A=b` are mappings, a
//! command is a list, a size is bytes, a port is a mapping. Merging and decoding need to know no other form.

use serde_json::Map;
use serde_json::Number;
use serde_json::Value;

use super::words;

/// What a value may be, and what becomes of it.
#[derive(Debug)]
pub(crate) enum Shape {
    /// Anything.
    Any,
    /// A string.
    Text,
    /// One of some strings.
    Word(&'static [&'static str]),
    /// A string or a number; becomes a string.
    TextOrNumber,
    /// A boolean, also as a string.
    Boolean,
    /// A whole number, also as a string.
    Integer,
    /// A number, also as a string.
    Number,
    /// A number of bytes, also as `64m`; becomes a string of digits.
    Bytes,
    /// `1m30s`.
    Duration,
    /// A command line: null, a list, or a string that is split as a shell splits it.
    Command,
    /// A health check's test: a list, or a string for the shell.
    Test,
    /// A list of strings, or one string.
    TextOrList,
    /// A list of strings or numbers.
    Texts,
    /// `A=b` in a list, or a mapping of scalars; becomes a mapping of strings or nulls.
    Pairs,
    /// `host=address` or `host:address` in a list, or a mapping; becomes a list of `host=address`.
    Hosts,
    /// A mapping with names of one's own.
    Names(&'static Shape),
    /// The same, or a list of the names; a name alone gets the value that the function gives.
    NamesOrList(&'static Shape, fn() -> Value),
    /// A list.
    List(&'static Shape),
    /// A mapping with these keys, and with `x-` keys.
    Object(&'static [(&'static str, Shape)]),
    /// The same or null.
    Optional(&'static Shape),
    /// The shape, or a scalar that the function makes one of.
    Short(Reader, &'static Shape),
    /// A list in which a scalar may stand for several items.
    ShortList(ManyReader, &'static Shape),
}

type Reader = fn(&Value) -> Result<Value, String>;
type ManyReader = fn(&Value) -> Result<Vec<Value>, String>;

/// Why a value is none of its shape.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{path} {words}")]
pub(crate) struct ShapeError {
    path: String,
    words: String,
}

/// Walks through a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk {
    /// Whether a string with a `$` may stand anywhere, since nothing has been filled in.
    pub(crate) has_variables: bool,
}

fn wrong<T>(path: &str, words: impl Into<String>) -> Result<T, ShapeError> {
    Err(ShapeError {
        path: path.to_owned(),
        words: words.into(),
    })
}

fn below(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

/// Whether it can be a service's, a network's or a volume's key.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

impl Walk {
    /// Checks a value and gives it its one form.
    pub(crate) fn apply(
        self,
        shape: &Shape,
        value: &mut Value,
        path: &str,
    ) -> Result<(), ShapeError> {
        if let Value::String(text) = &*value
            && self.has_variables
            && text.contains('$')
        {
            return Ok(());
        }
        match shape {
            Shape::Any => Ok(()),
            Shape::Optional(_) if value.is_null() => Ok(()),
            Shape::Optional(inner) => self.apply(inner, value, path),
            Shape::Short(read, inner) => {
                if !value.is_object() && !value.is_null() {
                    *value = read(value).or_else(|words| wrong(path, words))?;
                }
                self.apply(inner, value, path)
            }
            Shape::ShortList(read, inner) => self.short_list(*read, inner, value, path),
            Shape::List(inner) => {
                let Value::Array(items) = value else {
                    return wrong(path, "must be a list");
                };
                for (number, item) in items.iter_mut().enumerate() {
                    self.apply(inner, item, &format!("{path}[{number}]"))?;
                }
                Ok(())
            }
            Shape::NamesOrList(inner, default) => {
                if let Value::Array(items) = value {
                    *value = named(items, *default, path)?;
                }
                self.apply(&Shape::Names(inner), value, path)
            }
            Shape::Names(inner) => {
                let Value::Object(map) = value else {
                    return wrong(path, "must be a mapping");
                };
                for (key, item) in map {
                    if key.starts_with("x-") && path.is_empty() {
                        continue;
                    }
                    if !is_name(key) {
                        return wrong(path, format!("additional properties '{key}' not allowed"));
                    }
                    self.apply(inner, item, &below(path, key))?;
                }
                Ok(())
            }
            Shape::Object(fields) => self.object(fields, value, path),
            scalar => {
                let read = canonical(scalar, value).or_else(|words| wrong(path, words))?;
                if let Some(read) = read {
                    *value = read;
                }
                Ok(())
            }
        }
    }

    fn object(
        self,
        fields: &[(&str, Shape)],
        value: &mut Value,
        path: &str,
    ) -> Result<(), ShapeError> {
        let Value::Object(map) = value else {
            return wrong(path, "must be a mapping");
        };
        // What is empty says nothing, whatever it would have to be.
        map.retain(|key, item| !item.is_null() || key.starts_with("x-"));
        for (key, item) in map.iter_mut() {
            if key.starts_with("x-") {
                continue;
            }
            let Some((_, shape)) = fields.iter().find(|(name, _)| name == key) else {
                return wrong(path, format!("additional properties '{key}' not allowed"));
            };
            self.apply(shape, item, &below(path, key))?;
        }
        Ok(())
    }

    fn short_list(
        self,
        read: ManyReader,
        inner: &Shape,
        value: &mut Value,
        path: &str,
    ) -> Result<(), ShapeError> {
        let Value::Array(items) = value else {
            return wrong(path, "must be a list");
        };
        let mut long = Vec::with_capacity(items.len());
        for (number, mut item) in std::mem::take(items).into_iter().enumerate() {
            let path = format!("{path}[{number}]");
            let has_variables = item.as_str().is_some_and(|text| text.contains('$'));
            if item.is_object() || (self.has_variables && has_variables) {
                self.apply(inner, &mut item, &path)?;
                long.push(item);
                continue;
            }
            for mut item in read(&item).or_else(|words| wrong(&path, words))? {
                self.apply(inner, &mut item, &path)?;
                long.push(item);
            }
        }
        *items = long;
        Ok(())
    }
}

fn named(items: &[Value], default: fn() -> Value, path: &str) -> Result<Value, ShapeError> {
    let mut map = Map::new();
    for (number, item) in items.iter().enumerate() {
        match item {
            Value::String(name) => map.insert(name.clone(), default()),
            _ => return wrong(&format!("{path}[{number}]"), "must be a string"),
        };
    }
    Ok(Value::Object(map))
}

/// Returns a scalar's or a list's one form; `None` leaves it as it is.
fn canonical(shape: &Shape, value: &Value) -> Result<Option<Value>, String> {
    match (shape, value) {
        (Shape::Text, Value::String(_)) => Ok(None),
        (Shape::Text, _) => Err("must be a string".into()),
        (Shape::Word(known), Value::String(word)) if known.contains(&word.as_str()) => Ok(None),
        (Shape::Word(known), _) => {
            let known: Vec<String> = known.iter().map(|word| format!("'{word}'")).collect();
            Err(format!("must be one of {}", known.join(", ")))
        }
        (Shape::TextOrNumber, Value::String(_)) => Ok(None),
        (Shape::TextOrNumber, Value::Number(number)) => Ok(Some(number_text(number).into())),
        (Shape::TextOrNumber, _) => Err("must be a number or string".into()),
        (Shape::Boolean, value) => boolean(value).map(Some),
        (Shape::Integer, value) => integer(value).map(Some),
        (Shape::Number, Value::Number(_)) => Ok(None),
        (Shape::Number, Value::String(text)) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number.into())),
            _ => Err(format!("must be a number, not {text:?}")),
        },
        (Shape::Number, _) => Err("must be a number or string".into()),
        (Shape::Bytes, value) => bytes(value).map(Some),
        (Shape::Duration, Value::String(text)) => match runtime::container::nanoseconds(text) {
            Some(span) => Ok(Some(go_duration(span).into())),
            None => Err(format!("must be a duration, not {text:?}")),
        },
        (Shape::Duration, _) => Err("must be a string".into()),
        (Shape::Command, Value::Null) => Ok(None),
        (Shape::Command, Value::String(text)) => words::split(text).map(|words| Some(words.into())),
        (Shape::Test, Value::String(text)) => {
            Ok(Some(vec!["CMD-SHELL".to_owned(), text.clone()].into()))
        }
        (Shape::TextOrList, Value::String(text)) => Ok(Some(vec![text.clone()].into())),
        (Shape::Command | Shape::Test | Shape::TextOrList | Shape::Texts, Value::Array(items)) => {
            texts(items).map(Some)
        }
        (Shape::Texts, _) => Err("must be a list".into()),
        (Shape::Pairs, value) => pairs(value).map(Some),
        (Shape::Hosts, value) => hosts(value).map(Some),
        _ => Err("must be a string or list".into()),
    }
}

fn boolean(value: &Value) -> Result<Value, String> {
    let text = match value {
        Value::Bool(_) => return Ok(value.clone()),
        Value::String(text) => text.to_ascii_lowercase(),
        _ => return Err("must be a boolean or string".into()),
    };
    match text.as_str() {
        "true" | "y" | "yes" | "on" | "1" => Ok(true.into()),
        "false" | "n" | "no" | "off" | "0" => Ok(false.into()),
        _ => Err(format!("must be a boolean, not {text:?}")),
    }
}

fn integer(value: &Value) -> Result<Value, String> {
    match value {
        Value::Number(number) if number.is_i64() || number.is_u64() => Ok(value.clone()),
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => Ok((float as i64).into()),
            _ => Err("must be a integer".into()),
        },
        Value::String(text) => match text.trim().parse::<i64>() {
            Ok(number) => Ok(number.into()),
            Err(_) => Err(format!("must be a integer, not {text:?}")),
        },
        _ => Err("must be a integer or string".into()),
    }
}

fn bytes(value: &Value) -> Result<Value, String> {
    let size = match value {
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(size), _) => size,
            (None, Some(size)) if size.abs() < 1e18 => size as i64,
            _ => return Err("must be a number of bytes".into()),
        },
        Value::String(text) if text.trim() == "-1" => -1,
        Value::String(text) => {
            let size = crate::commands::parse_bytes(text)?;
            i64::try_from(size).map_err(|_| format!("invalid size: '{text}'"))?
        }
        _ => return Err("must be a number or string".into()),
    };
    Ok(size.to_string().into())
}

fn texts(items: &[Value]) -> Result<Value, String> {
    let text = |(number, item): (usize, &Value)| match item {
        Value::String(_) => Ok(item.clone()),
        Value::Number(number) => Ok(number_text(number).into()),
        Value::Bool(truth) => Ok(truth.to_string().into()),
        _ => Err(format!("must be a list of strings: item {number} is none")),
    };
    let items: Result<Vec<Value>, String> = items.iter().enumerate().map(text).collect();
    items.map(Value::Array)
}

/// Writes a number as Go does: the shortest digits, with an exponent only for what is very large or small.
fn number_text(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    let shortest = format!("{float:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        exponent @ ..-4 => format!("{digits}e-{:02}", -exponent),
        exponent @ 21.. => format!("{digits}e+{exponent:02}"),
        _ => float.to_string(),
    }
}

/// Returns a scalar's text; null has none.
pub(super) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number_text(number)),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

fn pairs(value: &Value) -> Result<Value, String> {
    let mut map = Map::new();
    match value {
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                let text = scalar_text(item)
                    .ok_or_else(|| format!("must be a list of strings: item {number} is none"))?;
                match text.split_once('=') {
                    Some((name, value)) => map.insert(name.to_owned(), value.into()),
                    None => map.insert(text, Value::Null),
                };
            }
        }
        Value::Object(entries) => {
            for (name, value) in entries {
                match (value, scalar_text(value)) {
                    (_, Some(text)) => map.insert(name.clone(), text.into()),
                    (Value::Null, None) => map.insert(name.clone(), Value::Null),
                    _ => return Err(format!("must be a mapping of scalars: {name} is none")),
                };
            }
        }
        _ => return Err("must be a list or mapping".into()),
    }
    Ok(Value::Object(map))
}

fn hosts(value: &Value) -> Result<Value, String> {
    let mut lines = Vec::new();
    let mut add = |host: &str, address: &Value| match address {
        Value::String(address) => {
            let address = address.trim().trim_start_matches('[').trim_end_matches(']');
            lines.push(format!("{}={address}", host.trim()));
            Ok(())
        }
        _ => Err(format!("must have addresses: that of {host} is none")),
    };
    match value {
        Value::Array(items) => {
            for item in items {
                let text = item.as_str().unwrap_or_default();
                let (host, address) = text
                    .split_once('=')
                    .or_else(|| text.split_once(':'))
                    .ok_or_else(|| format!("must be 'host=address', not {item}"))?;
                add(host, &address.into())?;
            }
        }
        Value::Object(entries) => {
            for (host, addresses) in entries {
                match addresses {
                    Value::Array(addresses) => {
                        addresses
                            .iter()
                            .try_for_each(|address| add(host, address))?;
                    }
                    address => add(host, address)?,
                }
            }
        }
        _ => return Err("must be a list or mapping".into()),
    }
    Ok(lines.into())
}

/// Writes a time span as Go does: `1m30s`.
pub(crate) fn go_duration(nanoseconds: u64) -> String {
    let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    let trimmed = |whole: u64, fraction: u64, width: usize, unit: &str| {
        let fraction = format!("{fraction:0width$}");
        match fraction.trim_end_matches('0') {
            "" => format!("{whole}{unit}"),
            fraction => format!("{whole}.{fraction}{unit}"),
        }
    };
    match (seconds, rest) {
        (0, 0) => "0s".to_owned(),
        (0, rest) if rest >= 1_000_000 => trimmed(rest / 1_000_000, rest % 1_000_000, 6, "ms"),
        (0, rest) if rest >= 1_000 => trimmed(rest / 1_000, rest % 1_000, 3, "µs"),
        (0, rest) => format!("{rest}ns"),
        (seconds, rest) => {
            let tail = trimmed(seconds % 60, rest, 9, "s");
            match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => tail,
                (0, minutes) => format!("{minutes}m{tail}"),
                (hours, minutes) => format!("{hours}h{minutes}m{tail}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        for (number, text) in [
            (1.0, "1"),
            (1e3, "1000"),
            (0.5, "0.5"),
            (-1.25, "-1.25"),
            (0.0001, "0.0001"),
            (0.000_015, "1.5e-05"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-1.5e100, "-1.5e+100"),
            (0.0, "0"),
        ] {
            let number = Number::from_f64(number).expect("finite");
            assert_eq!(number_text(&number), text);
        }
        assert_eq!(number_text(&u64::MAX.into()), "18446744073709551615");
    }
}
