//! `$X`, `${X:-default}` and their like in a file's strings.

use std::collections::BTreeMap;

use serde_json::Value;

/// Looks a variable up.
pub(crate) trait Variables {
    /// Returns its value, if it is set.
    fn get(&self, name: &str) -> Option<String>;

    /// Hears that a variable without a default is not set.
    fn missing(&self, name: &str);
}

/// Why a text cannot be filled in.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum TemplateError {
    #[error(
        "invalid interpolation format for {path}.\nYou may need to escape any $ with another $.\n{text}"
    )]
    Invalid { path: String, text: String },
    #[error("error while interpolating {path}: required variable {name} is missing a value{words}")]
    Required {
        path: String,
        name: String,
        words: String,
    },
}

const DEEPEST: usize = 32;

/// Fills in every string of a tree; keys stay as they are.
pub(crate) fn tree(
    value: &mut Value,
    path: &str,
    variables: &dyn Variables,
) -> Result<(), TemplateError> {
    match value {
        Value::String(text) if text.contains('$') => {
            *text = substitute(text, variables).map_err(|error| error.at(path, text))?;
        }
        Value::Array(items) => {
            for (number, item) in items.iter_mut().enumerate() {
                tree(item, &format!("{path}[{number}]"), variables)?;
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                let path = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                tree(item, &path, variables)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// What is wrong within one text, before its place is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    Invalid,
    Required { name: String, words: String },
}

impl Wrong {
    pub(crate) fn at(self, path: &str, text: &str) -> TemplateError {
        let path = path.to_owned();
        match self {
            Wrong::Invalid => TemplateError::Invalid {
                path,
                text: text.to_owned(),
            },
            Wrong::Required { name, words } => TemplateError::Required {
                path,
                name,
                words: match words.is_empty() {
                    true => words,
                    false => format!(": {words}"),
                },
            },
        }
    }
}

/// A variable that a file names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// Whether it must be set.
    pub(crate) required: bool,
    /// What stands for it if it is not.
    pub(crate) default: String,
    /// What stands for it if it is.
    pub(crate) alternate: String,
}

/// Collects the variables that a tree's strings name, by their names.
pub(crate) fn collect(value: &Value, named: &mut BTreeMap<String, Named>) {
    match value {
        Value::String(text) => collect_from(text, named, 0),
        Value::Array(items) => items.iter().for_each(|item| collect(item, named)),
        Value::Object(map) => map.values().for_each(|item| collect(item, named)),
        _ => {}
    }
}

fn collect_from(text: &str, named: &mut BTreeMap<String, Named>, depth: usize) {
    if depth > DEEPEST {
        return;
    }
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let (inside, after) = match rest.strip_prefix('{') {
            Some(open) => match closing_brace(open) {
                Some(end) => (&open[..end], &open[end + 1..]),
                None => continue,
            },
            None => rest.split_at(name_length(rest)),
        };
        rest = after;
        let (name, rest) = inside.split_at(name_length(inside));
        if name.is_empty() {
            continue;
        }
        let variable = named.entry(name.to_owned()).or_default();
        let rest = rest.strip_prefix(':').unwrap_or(rest);
        let argument = rest.get(1..).unwrap_or_default();
        match rest.as_bytes().first() {
            Some(b'?') => variable.required = true,
            Some(b'-') => variable.default = argument.to_owned(),
            Some(b'+') => variable.alternate = argument.to_owned(),
            _ => {}
        }
        collect_from(argument, named, depth + 1);
    }
}

/// Fills in one text.
pub(crate) fn substitute(text: &str, variables: &dyn Variables) -> Result<String, Wrong> {
    expand(text, variables, 0)
}

fn expand(text: &str, variables: &dyn Variables, depth: usize) -> Result<String, Wrong> {
    if depth > DEEPEST {
        return Err(Wrong::Invalid);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = closing_brace(after).ok_or(Wrong::Invalid)?;
            out.push_str(&braced(&after[..end], variables, depth)?);
            rest = &after[end + 1..];
        } else {
            match rest.split_at(name_length(rest)) {
                // A dollar that begins no variable is one.
                ("", _) => out.push('$'),
                (name, after) => {
                    out.push_str(&value_of(name, variables));
                    rest = after;
                }
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn value_of(name: &str, variables: &dyn Variables) -> String {
    variables.get(name).unwrap_or_else(|| {
        variables.missing(name);
        String::new()
    })
}

fn name_length(text: &str) -> usize {
    match text.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_') {
        true => text
            .find(|it: char| !it.is_ascii_alphanumeric() && it != '_')
            .unwrap_or(text.len()),
        false => 0,
    }
}

/// Returns where the brace that is open ends; those of inner expressions are passed over.
fn closing_brace(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                depth += 1;
                at += 1;
            }
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Returns what stands for the inside of `${...}`.
fn braced(inside: &str, variables: &dyn Variables, depth: usize) -> Result<String, Wrong> {
    let (name, rest) = inside.split_at(name_length(inside));
    if name.is_empty() {
        return Err(Wrong::Invalid);
    }
    let value = variables.get(name);
    let (operator, argument, counts_empty) = match rest.as_bytes() {
        [] => return Ok(value_of(name, variables)),
        [b':', operator @ (b'-' | b'?' | b'+'), ..] => (*operator, &rest[2..], false),
        [operator @ (b'-' | b'?' | b'+'), ..] => (*operator, &rest[1..], true),
        _ => return Err(Wrong::Invalid),
    };
    let set = value.filter(|value| counts_empty || !value.is_empty());
    match (operator, set) {
        (b'+', None) => Ok(String::new()),
        (b'-', Some(value)) | (b'?', Some(value)) => Ok(value),
        (b'?', None) => Err(Wrong::Required {
            name: name.to_owned(),
            words: expand(argument, variables, depth + 1)?,
        }),
        _ => expand(argument, variables, depth + 1),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Variables of a test, and which ones were missed.
    #[derive(Default)]
    pub(crate) struct Fixed(
        pub(crate) BTreeMap<String, String>,
        pub(crate) RefCell<Vec<String>>,
    );

    impl Fixed {
        pub(crate) fn new(variables: &[(&str, &str)]) -> Fixed {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            Fixed(variables.iter().map(owned).collect(), RefCell::default())
        }
    }

    impl Variables for Fixed {
        fn get(&self, name: &str) -> Option<String> {
            self.0.get(name).cloned()
        }

        fn missing(&self, name: &str) {
            self.1.borrow_mut().push(name.to_owned());
        }
    }

    #[test]
    fn expressions_are_filled_in_as_the_specification_says() {
        let variables = Fixed::new(&[("X", "x"), ("EMPTY", ""), ("_a1", "u")]);
        for (text, wanted) in [
            ("$X", "x"),
            ("${X}y", "xy"),
            ("$X$_a1-$X.", "xu-x."),
            ("a$$b$${X}", "a$b${X}"),
            ("${X:-d}", "x"),
            ("${NO:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NO-d}", "d"),
            ("${X:+y}", "y"),
            ("${EMPTY:+y}", ""),
            ("${EMPTY+y}", "y"),
            ("${NO+y}", ""),
            ("${NO:-${X}}", "x"),
            ("${NO:-a${NO:-${X:+z}}b}", "azb"),
            ("${NO:-}", ""),
            ("${NO:-a:b-c?d}", "a:b-c?d"),
            ("${X:?words}", "x"),
            ("${EMPTY?words}", ""),
            ("{X} %X", "{X} %X"),
            ("$", "$"),
            ("$(date) $1 a$ $X$", "$(date) $1 a$ x$"),
            ("$2y$10$X", "$2y$10x"),
            ("${NO:-$1}", "$1"),
        ] {
            assert_eq!(
                substitute(text, &variables).as_deref(),
                Ok(wanted),
                "{text}"
            );
        }
        assert!(variables.1.borrow().is_empty());
        for text in ["${", "${}", "${X", "${X!y}", "${1}", "a ${NO:-${X}"] {
            assert_eq!(substitute(text, &variables), Err(Wrong::Invalid), "{text}");
        }
        assert_eq!(substitute("<$NO>", &variables).as_deref(), Ok("<>"));
        assert_eq!(*variables.1.borrow(), ["NO"]);
    }

    #[test]
    fn the_variables_of_a_tree_are_collected_with_what_is_said_of_them() {
        let tree = json!({"a": ["$A$$B ${C:-${D?no}}", "$1 ${E+x} ${é"], "b": {"c": "${C}"}});
        let mut named = BTreeMap::new();
        collect(&tree, &mut named);
        let rows: Vec<_> = named
            .iter()
            .map(|(name, it)| (name.as_str(), it.required, &*it.default, &*it.alternate))
            .collect();
        assert_eq!(
            rows,
            [
                ("A", false, "", ""),
                ("C", false, "${D?no}", ""),
                ("D", true, "", ""),
                ("E", false, "", "x"),
            ]
        );
    }

    #[test]
    fn a_required_variable_is_missed_with_its_words_and_place() {
        let variables = Fixed::new(&[("EMPTY", "")]);
        let mut value = json!({"services": {"web": {"ports": ["1", "${EMPTY:?set it}"]}}});
        let error = tree(&mut value, "", &variables).expect_err("missing");
        assert_eq!(
            error.to_string(),
            "error while interpolating services.web.ports[1]: required variable EMPTY is missing a value: set it"
        );
        let mut value = json!({"a": "${"});
        let error = tree(&mut value, "", &variables).expect_err("invalid");
        assert!(
            error
                .to_string()
                .starts_with("invalid interpolation format for a.\n")
        );
    }

    proptest! {
        #[test]
        fn hostile_text_does_no_harm(text in "[$\\{\\}:?+A-C-]{0,80}") {
            let _ = substitute(&text, &Fixed::new(&[("A", "1")]));
            collect(&text.into(), &mut BTreeMap::new());
        }
    }
}
