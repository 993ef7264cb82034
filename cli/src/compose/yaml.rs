//! YAML, read into JSON's values and written from them.
//!
//! A file comes from a person, but also from whoever wrote the project: what is read is bounded in depth and in the
//! number of nodes that aliases expand to. A key that stands twice in one mapping is refused. `<<` is merged, and the
//! tags `!reset` and `!override` of the Compose specification are remembered with their paths.

use saphyr_parser::Event;
use saphyr_parser::Parser;
use saphyr_parser::ScalarStyle;
use saphyr_parser::Span;
use saphyr_parser::StrInput;
use saphyr_parser::Tag;
use serde_json::Map;
use serde_json::Number;
use serde_json::Value;

use std::borrow::Cow;
use std::collections::HashMap;

const DEEPEST: usize = 100;
const MOST_NODES: usize = 200_000;
const MOST_EASED: usize = 1_000;
const WIDEST_MARGIN: usize = 1_000;

/// A document, and where it takes away what earlier files said.
#[derive(Debug, Default)]
pub(crate) struct Document {
    /// What it says.
    pub(crate) value: Value,
    /// Places that are emptied (`!reset`) or filled anew (`!override`) instead of being merged.
    pub(crate) resets: Vec<Vec<String>>,
}

/// What is wrong with a text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {words}")]
pub(crate) struct YamlError {
    line: usize,
    words: String,
    /// Where the scanner stands, in characters, if it is the scanner's.
    at: Option<usize>,
}

/// Reads the documents of a file.
pub(crate) fn parse(text: &str) -> Result<Vec<Document>, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut read = documents(text);
    let mut eased = Cow::Borrowed(text);
    for _ in 0..MOST_EASED {
        let Some(next) = read.as_ref().err().and_then(|error| ease(&eased, error)) else {
            break;
        };
        read = documents(&next);
        eased = Cow::Owned(next);
    }
    read
}

/// Changes white space that YAML 1.2 refuses and Go's library takes, so that it is read as Go's library reads it.
///
/// Within a flow collection lines may stand further left than the block around it: they are moved to the right. The
/// scanner complains of them in words that it has for no other place, and white space at the beginning of such a line
/// means nothing. Tabs may separate a key from its value: they become spaces.
fn ease(text: &str, error: &YamlError) -> Option<String> {
    let at = match text.char_indices().nth(error.at?) {
        Some((at, _)) => at,
        None => text.len(),
    };
    let (before, after) = text.split_at(at);
    match error.words.as_str() {
        "invalid indentation" | "invalid indentation in flow construct" => {
            let margins = text.lines().map(|line| {
                let rest = line.trim_start_matches([' ', '-', '?']);
                line.len() - rest.len() + 1
            });
            let margin = margins.max().filter(|margin| *margin <= WIDEST_MARGIN)?;
            let line = before.rfind(['\n', '\r']).map_or(0, |end| end + 1);
            // A line that has been moved is not moved again.
            (at - line < margin).then(|| {
                let (above, line) = text.split_at(line);
                format!("{above}{}{line}", " ".repeat(margin))
            })
        }
        "':' must be followed by a valid YAML whitespace" => {
            let kept = before.trim_end_matches('\t');
            let spaces = " ".repeat(before.len() - kept.len());
            (!spaces.is_empty()).then(|| format!("{kept}{spaces}{after}"))
        }
        _ => None,
    }
}

fn documents(text: &str) -> Result<Vec<Document>, YamlError> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        keys: HashMap::new(),
        nodes: 0,
        path: Vec::new(),
        resets: Vec::new(),
    };
    let mut documents = Vec::new();
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return Ok(documents),
            (Event::DocumentStart(_), _) => {
                let (event, span) = reader.next()?;
                let value = reader.node(event, span)?.unwrap_or_default();
                documents.push(Document {
                    value,
                    resets: std::mem::take(&mut reader.resets),
                });
            }
            _ => {}
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// What anchors stand for, with the number of nodes.
    anchors: HashMap<usize, (Value, usize)>,
    /// Lines of the keys of the mappings that are being read, by depth.
    keys: HashMap<(usize, String), usize>,
    nodes: usize,
    path: Vec<String>,
    resets: Vec<Vec<String>>,
}

fn wrong(span: Span, words: impl Into<String>) -> YamlError {
    YamlError {
        line: span.start.line(),
        words: words.into(),
        at: None,
    }
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), YamlError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(YamlError {
                line: error.marker().line(),
                words: error.info().to_owned(),
                at: Some(error.marker().index()),
            }),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), YamlError> {
        self.nodes = self.nodes.saturating_add(nodes);
        match self.nodes > MOST_NODES {
            true => Err(wrong(span, "document contains excessive aliasing")),
            false => Ok(()),
        }
    }

    /// Reads one node; `None` is one that is reset.
    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Option<Value>, YamlError> {
        if self.path.len() > DEEPEST {
            return Err(wrong(span, "exceeded max depth"));
        }
        let before = self.nodes;
        self.count(1, span)?;
        let (value, anchor, tag) = match event {
            Event::Alias(anchor) => {
                let (value, nodes) = self
                    .anchors
                    .get(&anchor)
                    .cloned()
                    .ok_or_else(|| wrong(span, "an anchor's value contains itself"))?;
                self.count(nodes, span)?;
                return Ok(Some(value));
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref());
                (value, anchor, tag)
            }
            Event::SequenceStart(anchor, tag) => (self.sequence()?, anchor, tag),
            Event::MappingStart(anchor, tag) => (self.mapping()?, anchor, tag),
            _ => return Err(wrong(span, "unexpected end of the document")),
        };
        if anchor > 0 {
            let nodes = self.nodes - before;
            self.anchors.insert(anchor, (value.clone(), nodes));
        }
        match custom(tag.as_ref()) {
            Some("reset") => {
                self.resets.push(self.path.clone());
                Ok(None)
            }
            Some("override") => {
                self.resets.push(self.path.clone());
                Ok(Some(value))
            }
            _ => Ok(Some(value)),
        }
    }

    fn sequence(&mut self) -> Result<Value, YamlError> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Value::Array(items));
            }
            self.path.push(format!("[{}]", items.len()));
            let item = self.node(event, span)?;
            self.path.pop();
            items.extend(item);
        }
    }

    fn mapping(&mut self) -> Result<Value, YamlError> {
        let depth = self.path.len();
        let mut map = Map::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let (key, plain) = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, style, anchor, _) => {
                    if anchor > 0 {
                        let value = Value::String(text.to_string());
                        self.anchors.insert(anchor, (value, 1));
                    }
                    (text.into_owned(), style == ScalarStyle::Plain)
                }
                Event::Alias(anchor) => match self.anchors.get(&anchor) {
                    Some((Value::String(text), _)) => (text.clone(), false),
                    _ => return Err(wrong(span, "a mapping's key must be a string")),
                },
                _ => return Err(wrong(span, "a mapping's key must be a string")),
            };
            let (event, value_span) = self.next()?;
            if plain && key == "<<" {
                let value = self.node(event, value_span)?.unwrap_or_default();
                merged.push((value, value_span));
                continue;
            }
            let line = span.start.line();
            if map.contains_key(&key) || self.keys.contains_key(&(depth, key.clone())) {
                let first = self.keys.get(&(depth, key.clone())).copied().unwrap_or(0);
                let words = format!("mapping key {key:?} already defined at line {first}");
                return Err(wrong(span, words));
            }
            self.keys.insert((depth, key.clone()), line);
            self.path.push(key.clone());
            let value = self.node(event, value_span)?;
            self.path.pop();
            if let Some(value) = value {
                map.insert(key, value);
            }
        }
        self.keys.retain(|(level, _), _| *level < depth);
        for (value, span) in merged {
            merge_into(&mut map, value, span)?;
        }
        Ok(Value::Object(map))
    }
}

/// Adds what `<<` names and what is not there yet: of several mappings the first one wins.
fn merge_into(map: &mut Map<String, Value>, value: Value, span: Span) -> Result<(), YamlError> {
    let sources = match value {
        Value::Array(sources) => sources,
        source => vec![source],
    };
    for source in sources {
        let Value::Object(source) = source else {
            return Err(wrong(
                span,
                "map merge requires map or sequence of maps as the value",
            ));
        };
        for (key, value) in source {
            map.entry(key).or_insert(value);
        }
    }
    Ok(())
}

/// Returns a tag's name, if it is not one of YAML's own.
fn custom<'a>(tag: Option<&'a Cow<'_, Tag>>) -> Option<&'a str> {
    tag.filter(|tag| !tag.is_yaml_core_schema())
        .map(|tag| tag.suffix.as_str())
}

/// Returns what a scalar means by the core schema, with the octal numbers and the underscores of YAML 1.1.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let tag = tag.filter(|tag| tag.is_yaml_core_schema());
    if style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.suffix == "str") {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    match integer(text).or_else(|| float(text)) {
        Some(number) => Value::Number(number),
        None => Value::String(text.to_owned()),
    }
}

fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|it: char| it.is_ascii_digit()) || digits.ends_with('_') {
        return None;
    }
    let digits = digits.replace('_', "");
    let (digits, radix) = match digits.as_str() {
        it if it.starts_with("0x") => (&it[2..], 16),
        it if it.starts_with("0o") => (&it[2..], 8),
        it if it.starts_with("0b") => (&it[2..], 2),
        it if it.len() > 1 && it.starts_with('0') => (&it[1..], 8),
        it => (it, 10),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let number = i128::from(u64::from_str_radix(digits, radix).ok()?);
    let number = if negative { -number } else { number };
    match (i64::try_from(number), u64::try_from(number)) {
        (Ok(number), _) => Some(number.into()),
        (_, Ok(number)) => Some(number.into()),
        _ => None,
    }
}

fn float(text: &str) -> Option<Number> {
    let is_number = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
        && text.bytes().any(|byte| byte.is_ascii_digit())
        && text.contains(['.', 'e', 'E']);
    match is_number {
        true => Number::from_f64(text.parse().ok()?),
        false => None,
    }
}

/// Writes a value as a document of YAML, in the style of Compose: lists are indented, no document's mark.
pub(crate) fn write(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_map(&mut text, map, 0),
        Value::Array(items) if !items.is_empty() => write_items(&mut text, items, 0),
        value => write_inline(&mut text, value, 0),
    }
    text
}

fn indent(text: &mut String, depth: usize) {
    text.extend(std::iter::repeat_n("  ", depth));
}

fn write_map(text: &mut String, map: &Map<String, Value>, depth: usize) {
    for (number, (key, value)) in map.iter().enumerate() {
        // The first key of a list's item stands behind its dash.
        if number > 0 || !text.ends_with("- ") {
            indent(text, depth);
        }
        text.push_str(&string(key));
        text.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                text.push('\n');
                write_map(text, inner, depth + 1);
            }
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                write_items(text, items, depth + 1);
            }
            value => {
                text.push(' ');
                write_inline(text, value, depth + 1);
            }
        }
    }
}

fn write_items(text: &mut String, items: &[Value], depth: usize) {
    for item in items {
        indent(text, depth);
        text.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => write_map(text, map, depth + 1),
            Value::Array(inner) if !inner.is_empty() => {
                text.truncate(text.len() - 1);
                text.push('\n');
                write_items(text, inner, depth + 1);
            }
            value => write_inline(text, value, depth + 1),
        }
    }
}

fn write_inline(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Object(_) => text.push_str("{}"),
        Value::Array(_) => text.push_str("[]"),
        Value::String(value) if is_block(value) => {
            text.push_str(match value.ends_with('\n') {
                true => "|",
                false => "|-",
            });
            for line in value.lines() {
                text.push('\n');
                if !line.is_empty() {
                    indent(text, depth);
                    text.push_str(line);
                }
            }
        }
        Value::String(value) => text.push_str(&string(value)),
        other => text.push_str(&other.to_string()),
    }
    text.push('\n');
}

/// Whether a text of several lines can stand as it is below a `|`.
fn is_block(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    body.contains('\n')
        && !body.ends_with('\n')
        && !body.starts_with([' ', '\n', '\t'])
        && body
            .chars()
            .all(|it| it == '\n' || it == '\t' || !is_special(it))
}

fn is_special(it: char) -> bool {
    it.is_control() || matches!(it, '\u{feff}' | '\u{2028}' | '\u{2029}')
}

/// Returns a text as a scalar that reads as that text again.
fn string(text: &str) -> String {
    let is_plain = matches!(scalar(text, ScalarStyle::Plain, None), Value::String(_))
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "y" | "n" | "yes" | "no" | "on" | "off" | "<<" | "="
        )
        && !text
            .starts_with(|it: char| "!&*-?:,[]{}#|>@`\"'% \t".contains(it) || it.is_ascii_digit())
        && !text.ends_with([' ', ':', '\t'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.chars().any(is_special);
    if is_plain || is_plain_flag(text) {
        return text.to_owned();
    }
    if text.chars().any(is_special) {
        return quoted(text);
    }
    match text.contains('\'') && !text.contains(['"', '\\']) {
        true => format!("\"{text}\""),
        false if needs_double(text) => format!("\"{text}\""),
        false => format!("'{}'", text.replace('\'', "''")),
    }
}

/// Whether a text would be another type without quotes; such ones get double quotes, as Go's library gives them.
fn needs_double(text: &str) -> bool {
    !matches!(scalar(text, ScalarStyle::Plain, None), Value::String(_))
        && !text.contains(['"', '\\'])
}

/// `-x` and `--flag` and `1.2.3.4:80`-like texts need no quotes.
fn is_plain_flag(text: &str) -> bool {
    text.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
        && text.len() > 1
        && text != "---"
        && !text.starts_with("- ")
        && !text.starts_with("--- ")
        && matches!(scalar(text, ScalarStyle::Plain, None), Value::String(_))
        && text
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || "-_./=+".contains(it))
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for it in text.chars() {
        match it {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            it if is_special(it) && u32::from(it) > 0xffff => {
                out.push_str(&format!("\\U{:08x}", u32::from(it)));
            }
            it if is_special(it) => out.push_str(&format!("\\u{:04x}", u32::from(it))),
            it => out.push(it),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn one(text: &str) -> Value {
        parse(text).expect("a document").remove(0).value
    }

    fn error(text: &str) -> String {
        parse(text).expect_err("wrong").to_string()
    }

    #[test]
    fn scalars_mean_what_the_core_schema_says() {
        let read = one(
            "[1, -2, 0x1f, 0o17, 0600, 1_000, 1.5, 1e3, yes, 'no', ~, null, True, 1.2.3, 22:22, !!str 5]",
        );
        let wanted = json!([
            1, -2, 31, 15, 384, 1000, 1.5, 1000.0, "yes", "no", null, null, true, "1.2.3", "22:22",
            "5"
        ]);
        assert_eq!(read, wanted);
    }

    #[test]
    fn a_merge_key_adds_what_is_not_there() {
        let read = one(
            "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc:\n  <<: *a\n  x: 9\nd:\n  <<: [*a, *b]\n",
        );
        assert_eq!(read["c"], json!({"x": 9, "y": 2}));
        assert_eq!(read["d"], json!({"x": 1, "y": 2, "z": 4}));
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_with_both_lines() {
        let words = error("services:\n  web:\n    image: a\n    image: b\n");
        assert_eq!(
            words,
            "line 4: mapping key \"image\" already defined at line 3"
        );
        assert!(parse("a: {x: 1}\nb: {x: 1}\nc: {a: {x: 1}, x: 2}").is_ok());
    }

    #[test]
    fn aliases_do_not_expand_without_end() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            let list = [before.as_str(); 9].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{list}]\n"));
        }
        assert!(error(&text).contains("excessive aliasing"));
        assert!(error("a: &a [*a]").contains("contains itself"));
        assert!(error(&"- ".repeat(150)).contains("max depth"));
        assert!(parse(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn flow_collections_may_hang_out_of_their_blocks() {
        for text in [
            "a:\n  b: [\n    x, \"y z\"\n  ]\n  c: {\n    d: 1\n  }\n",
            "a:\n  b: [\r\n  x,\r\n'y\r\n    z'\r\n]\r\n  c: {\r\n d: 1\r\n}\r\n",
            "a:\n  b: [ # [é\nx\n, \"y z\"\n# ]\n  ]\n  c:\n    {\nd: 1\n}\n",
        ] {
            let wanted = json!({"a": {"b": ["x", "y z"], "c": {"d": 1}}});
            assert_eq!(one(text), wanted, "{text:?}");
        }
        let text =
            "a:\n- - b: [\nx\n]\n    c: |\n      [\n       x\n      ]\n    d: 'e [\n\n      f'\n";
        let wanted = json!({"a": [[{"b": ["x"], "c": "[\n x\n]\n", "d": "e [\nf"}]]});
        assert_eq!(one(text), wanted);
        // Blocks must keep to their margins, and lines keep their numbers.
        assert!(error("a:\n  b: 1\n c: 2\n").starts_with("line 3: "));
        assert!(error("a:\n  b: [\n  ]\n  c: [\n").starts_with("line 5: "));
        let many = format!("a:\n  b: [\n{}]\n", "x,\n".repeat(MOST_EASED + 1));
        assert!(error(&many).contains("invalid indentation"));
    }

    #[test]
    fn tabs_may_separate_keys_from_values() {
        let read = one("é: x\na:\tb\nc:\t\td\te\nf: 'x:\ty'\n");
        let wanted = json!({"é": "x", "a": "b", "c": "d\te", "f": "x:\ty"});
        assert_eq!(read, wanted);
        assert!(parse("a:\n\tb: 1\n").is_err());
        assert!(parse("a:\t- b\n").is_err());
    }

    #[test]
    fn tags_of_compose_are_remembered_with_their_places() {
        let document = parse("a: !reset null\nb:\n  c: !override [1]\n").expect("a document");
        let document = &document[0];
        assert_eq!(document.value, json!({"b": {"c": [1]}}));
        assert_eq!(document.resets, [vec!["a"], vec!["b", "c"]]);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            "[ -~\n\t'\"#:\u{e9}]{0,12}".prop_map(Value::from),
            "(0[0-7x]|-|--|yes|1e3|~|<<|- |a: b|null|\\.5)[a-f0-9]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::hash_map("[a-z -:#'0-9]{0,6}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(value in values()) {
            let text = write(&value);
            let read = parse(&text);
            let read = read.map(|mut documents| documents.remove(0).value);
            prop_assert_eq!(read, Ok(value), "{}", text);
        }

        #[test]
        fn hostile_text_does_no_harm(text in "[ \n\t:\\-&*!<>{}\\[\\],'\"|#a-c0-9$%@?~]{0,200}") {
            let _ = parse(&text);
        }
    }
}
