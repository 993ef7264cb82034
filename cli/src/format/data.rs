//! The values that templates work on.

use std::rc::Rc;

use serde_json::Value;

use super::number;

/// A value, in Go's terms: what `--format` is written against.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    /// The entry that a map does not have: Go's invalid value.
    Missing,
    /// Go's nil, by what it is a nil of.
    Nil(NilOf),
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Rc<str>),
    List(Rc<[Data]>),
    /// Entries sorted by name; any name may be asked for.
    Map(Rc<[(String, Data)]>),
    /// Fields in their order; only these may be asked for.
    Struct(Rc<[(String, Data)]>),
}

/// What a nil is a nil of; it prints differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NilOf {
    Interface,
    Pointer,
    List,
    Map,
}

/// What JSON's objects stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Objects {
    /// Every object is a map, as where a program knows no more than the JSON.
    Maps,
    /// The objects are structs but for the fields that Docker's types have maps in.
    Typed,
}

/// The fields of Docker's types that are maps.
const MAPS: [&str; 21] = [
    "Annotations",
    "Attributes",
    "AuxiliaryAddresses",
    "Containers",
    "Data",
    "DeviceRequests",
    "DriverOpts",
    "ExposedPorts",
    "IndexConfigs",
    "Label()",
    "Labels",
    "LogConfig.Config",
    "Networks",
    "OnBuild",
    "Options",
    "PortBindings",
    "Ports",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// The fields of Docker's types that are pointers to plain values.
const POINTERS: [&str; 7] = [
    "Health",
    "Healthcheck",
    "Init",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "StopTimeout",
];

impl Data {
    /// Takes a JSON value over.
    pub(super) fn of(value: &Value, objects: Objects) -> Data {
        Data::named(value, "", "", objects, false)
    }

    fn named(value: &Value, parent: &str, name: &str, objects: Objects, in_map: bool) -> Data {
        let qualified = format!("{parent}.{name}");
        let is_map = objects == Objects::Maps
            || (!in_map && (MAPS.contains(&name) || MAPS.contains(&qualified.as_str())));
        match value {
            Value::Null if objects == Objects::Maps => Data::Nil(NilOf::Interface),
            Value::Null if is_map => Data::Nil(NilOf::Map),
            Value::Null if in_map => Data::Nil(NilOf::List),
            Value::Null if POINTERS.contains(&name) => Data::Nil(NilOf::Pointer),
            Value::Null => Data::Nil(NilOf::List),
            Value::Bool(value) => Data::Bool(*value),
            Value::Number(value) => match value.as_i128() {
                Some(value) => Data::Int(value),
                None => Data::Float(value.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(value) => Data::text(value),
            Value::Array(values) => Data::List(
                values
                    .iter()
                    .map(|value| Data::named(value, parent, "", objects, false))
                    .collect(),
            ),
            Value::Object(fields) => {
                let mut entries: Vec<(String, Data)> = fields
                    .iter()
                    .map(|(key, value)| {
                        let data = Data::named(value, name, key, objects, is_map);
                        (key.clone(), data)
                    })
                    .collect();
                if !is_map {
                    return Data::Struct(entries.into());
                }
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                Data::Map(entries.into())
            }
        }
    }

    pub(super) fn text(text: &str) -> Data {
        Data::Text(text.into())
    }

    /// Returns whether `if` takes it for true: it is not zero, empty or nil.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Data::Missing | Data::Nil(_) => false,
            Data::Bool(value) => *value,
            Data::Int(value) => *value != 0,
            Data::Float(value) => *value != 0.0,
            Data::Text(text) => !text.is_empty(),
            Data::List(list) => !list.is_empty(),
            Data::Map(entries) => !entries.is_empty(),
            Data::Struct(_) => true,
        }
    }

    /// Returns the name of its type in Go.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Data::Missing | Data::Nil(_) => "<nil>",
            Data::Bool(_) => "bool",
            Data::Int(_) => "int",
            Data::Float(_) => "float64",
            Data::Text(_) => "string",
            Data::List(_) => "[]interface {}",
            Data::Map(_) => "map[string]interface {}",
            Data::Struct(_) => "struct",
        }
    }

    /// Writes it as an action shows it.
    pub(super) fn shown(&self) -> String {
        match self {
            Data::Missing | Data::Nil(NilOf::Interface) => "<no value>".to_owned(),
            other => other.printed(),
        }
    }

    /// Writes it as Go's `%v` does.
    pub(super) fn printed(&self) -> String {
        let spaced = |parts: Vec<String>| parts.join(" ");
        match self {
            Data::Missing | Data::Nil(NilOf::Interface | NilOf::Pointer) => "<nil>".to_owned(),
            Data::Nil(NilOf::List) => "[]".to_owned(),
            Data::Nil(NilOf::Map) => "map[]".to_owned(),
            Data::Bool(value) => value.to_string(),
            Data::Int(value) => value.to_string(),
            Data::Float(value) => number::float(*value),
            Data::Text(text) => text.to_string(),
            Data::List(list) => format!("[{}]", spaced(list.iter().map(Data::printed).collect())),
            Data::Map(entries) => {
                let entry = |(name, value): &(String, Data)| format!("{name}:{}", value.printed());
                format!("map[{}]", spaced(entries.iter().map(entry).collect()))
            }
            Data::Struct(fields) => {
                let values = fields.iter().filter(|(name, _)| !is_method(name));
                let values = values.map(|(_, value)| value.printed()).collect();
                format!("{{{}}}", spaced(values))
            }
        }
    }

    /// Returns it as JSON.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Data::Missing | Data::Nil(_) => Value::Null,
            Data::Bool(value) => Value::Bool(*value),
            Data::Int(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => value.into(),
                (_, Ok(value)) => value.into(),
                _ => (*value as f64).into(),
            },
            Data::Float(value) => (*value).into(),
            Data::Text(text) => Value::String(text.to_string()),
            Data::List(list) => list.iter().map(Data::to_json).collect(),
            Data::Map(entries) | Data::Struct(entries) => entries
                .iter()
                .filter(|(name, _)| !is_method(name))
                .map(|(name, value)| (name.clone(), value.to_json()))
                .collect(),
        }
    }

    /// Returns the entry `name` of a map or struct. Docker's own types write some fields in other cases than its JSON
    /// does (`.ID`, `.HostConfig.NanoCPUs`), and templates may use either.
    pub(super) fn get(&self, name: &str) -> Option<&Data> {
        let (Data::Map(entries) | Data::Struct(entries)) = self else {
            return None;
        };
        let exact = entries.iter().find(|(known, _)| known == name);
        let found = exact.or_else(|| match self {
            Data::Struct(fields) => fields
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name)),
            _ => None,
        });
        found.map(|(_, value)| value)
    }

    /// Replaces every text in it.
    pub(super) fn map_text(&self, change: &dyn Fn(&str) -> String) -> Data {
        let entries = |entries: &[(String, Data)]| {
            let entry = |(name, value): &(String, Data)| (name.clone(), value.map_text(change));
            entries.iter().map(entry).collect::<Vec<_>>().into()
        };
        match self {
            Data::Text(text) => Data::text(&change(text)),
            Data::List(list) => Data::List(list.iter().map(|one| one.map_text(change)).collect()),
            Data::Map(map) => Data::Map(entries(map)),
            Data::Struct(fields) => Data::Struct(entries(fields)),
            other => other.clone(),
        }
    }
}

/// Returns whether a field is only there to be called with an argument: `{{.Label "name"}}` calls `Label()`.
pub(super) fn is_method(name: &str) -> bool {
    name.ends_with("()")
}
