//! The functions of templates: Go's own and Docker's.

use std::cmp::Ordering;
use std::rc::Rc;

use super::data::Data;
use super::printf;

/// A function and what it takes.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    /// What it must be given.
    pub(super) takes: &'static [Takes],
    /// What it may be given more, any number of times.
    pub(super) more: Option<Takes>,
    pub(super) run: fn(&[Data]) -> Result<Data, String>,
}

/// What an argument must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Anything,
    Text,
    Int,
    Texts,
}

use Takes::Anything;
use Takes::Int;
use Takes::Text;
use Takes::Texts;

macro_rules! functions {
    ($($name:literal $takes:expr, $more:expr => $run:expr;)*) => {
        const FUNCTIONS: &[Function] = &[$(Function {
            name: $name,
            takes: &$takes,
            more: $more,
            run: $run,
        }),*];
    };
}

functions! {
    "eq" [Anything], Some(Anything) => eq;
    "ge" [Anything, Anything], None => |args| Ok(Data::Bool(!less(args)?));
    "gt" [Anything, Anything], None => |args| Ok(Data::Bool(!less(args)? && !equal(&args[0], &args[1])?));
    "html" [], Some(Anything) => |args| Ok(Data::text(&escape_html(&printf::print(args))));
    "index" [Anything], Some(Anything) => |args| args[1..].iter().try_fold(args[0].clone(), |at, key| index(&at, key));
    "join" [Texts, Text], None => join;
    "js" [], Some(Anything) => |args| Ok(Data::text(&escape_js(&printf::print(args))));
    "json" [Anything], None => |args| Ok(Data::text(&args[0].to_json().to_string()));
    "le" [Anything, Anything], None => |args| Ok(Data::Bool(less(args)? || equal(&args[0], &args[1])?));
    "len" [Anything], None => len;
    "lower" [Text], None => |args| Ok(Data::text(&text(&args[0]).to_lowercase()));
    "lt" [Anything, Anything], None => |args| Ok(Data::Bool(less(args)?));
    "ne" [Anything, Anything], None => |args| Ok(Data::Bool(!equal(&args[0], &args[1])?));
    "not" [Anything], None => |args| Ok(Data::Bool(!args[0].is_true()));
    "pad" [Text, Int, Int], None => pad;
    "print" [], Some(Anything) => |args| Ok(Data::text(&printf::print(args)));
    "printf" [Text], Some(Anything) => |args| Ok(Data::text(&printf::printf(text(&args[0]), &args[1..])));
    "println" [], Some(Anything) => |args| {
        let shown: Vec<String> = args.iter().map(Data::printed).collect();
        Ok(Data::text(&format!("{}\n", shown.join(" "))))
    };
    "slice" [Anything], Some(Anything) => slice;
    "split" [Text, Text], None => split;
    "title" [Text], None => |args| Ok(Data::text(&title(text(&args[0]))));
    "truncate" [Text, Int], None => truncate;
    "upper" [Text], None => |args| Ok(Data::text(&text(&args[0]).to_uppercase()));
    "urlquery" [], Some(Anything) => |args| Ok(Data::text(&escape_query(&printf::print(args))));
}

/// Returns the function `name`; `and` and `or` are the evaluator's own.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

/// Returns whether a template may use `name`.
pub(super) fn is_known(name: &str) -> bool {
    matches!(name, "and" | "or") || find(name).is_some()
}

/// Returns whether the function shows one value in another form, so that a table's heading goes through unchanged.
pub(super) fn keeps_headings(name: &str) -> bool {
    matches!(
        name,
        "join" | "json" | "lower" | "pad" | "split" | "title" | "truncate" | "upper"
    )
}

fn text(data: &Data) -> &str {
    match data {
        Data::Text(text) => text,
        _ => "",
    }
}

fn int(data: &Data) -> i128 {
    match data {
        Data::Int(value) => *value,
        _ => 0,
    }
}

fn eq(args: &[Data]) -> Result<Data, String> {
    if args.len() < 2 {
        return Err("missing argument for comparison".to_owned());
    }
    for other in &args[1..] {
        if equal(&args[0], other)? {
            return Ok(Data::Bool(true));
        }
    }
    Ok(Data::Bool(false))
}

const INCOMPATIBLE: &str = "incompatible types for comparison";

fn equal(a: &Data, b: &Data) -> Result<bool, String> {
    let is_nil = |data: &Data| matches!(data, Data::Missing | Data::Nil(_));
    match (a, b) {
        (Data::Bool(a), Data::Bool(b)) => Ok(a == b),
        (Data::Int(a), Data::Int(b)) => Ok(a == b),
        (Data::Float(a), Data::Float(b)) => Ok(a == b),
        (Data::Text(a), Data::Text(b)) => Ok(a == b),
        _ if is_nil(a) || is_nil(b) => Ok(is_nil(a) && is_nil(b)),
        (Data::List(_) | Data::Map(_) | Data::Struct(_), _) => Err(format!(
            "non-comparable type {}: {}",
            a.printed(),
            a.type_name()
        )),
        (_, Data::List(_) | Data::Map(_) | Data::Struct(_)) => Err(format!(
            "non-comparable type {}: {}",
            b.printed(),
            b.type_name()
        )),
        _ => Err(INCOMPATIBLE.to_owned()),
    }
}

fn less(args: &[Data]) -> Result<bool, String> {
    let order = match (&args[0], &args[1]) {
        (Data::Int(a), Data::Int(b)) => Some(a.cmp(b)),
        (Data::Float(a), Data::Float(b)) => a.partial_cmp(b),
        (Data::Text(a), Data::Text(b)) => Some(a.cmp(b)),
        (Data::Bool(_), Data::Bool(_)) => return Err("invalid type for comparison".to_owned()),
        _ => return Err(INCOMPATIBLE.to_owned()),
    };
    Ok(order == Some(Ordering::Less))
}

fn len(args: &[Data]) -> Result<Data, String> {
    let length = match &args[0] {
        Data::Text(text) => text.len(),
        Data::List(list) => list.len(),
        Data::Map(entries) => entries.len(),
        Data::Missing | Data::Nil(super::data::NilOf::Interface | super::data::NilOf::Pointer) => {
            return Err("len of nil pointer".to_owned());
        }
        Data::Nil(_) => 0,
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Data::Int(length as i128))
}

/// Reads a position that must be below `end`, or at it if `last` allows that.
fn position(key: &Data, end: usize, last: bool) -> Result<usize, String> {
    let Data::Int(position) = key else {
        return Err(match key {
            Data::Missing | Data::Nil(_) => "cannot index slice/array with nil".to_owned(),
            other => format!("cannot index slice/array with type {}", other.type_name()),
        });
    };
    let found = usize::try_from(*position).ok();
    found
        .filter(|found| *found < end || (last && *found == end))
        .ok_or_else(|| format!("index out of range: {position}"))
}

fn index(at: &Data, key: &Data) -> Result<Data, String> {
    match at {
        Data::List(list) => Ok(list[position(key, list.len(), false)?].clone()),
        Data::Text(text) => {
            let byte = text.as_bytes()[position(key, text.len(), false)?];
            Ok(Data::Int(i128::from(byte)))
        }
        Data::Map(_) | Data::Nil(super::data::NilOf::Map) => match key {
            Data::Text(name) => Ok(at.get(name).cloned().unwrap_or_else(|| absent(at))),
            Data::Missing | Data::Nil(_) => Err("value is nil; should be of type string".into()),
            other => Err(format!(
                "value has type {}; should be string",
                other.type_name()
            )),
        },
        Data::Nil(super::data::NilOf::List) => position(key, 0, false).map(|_| Data::Missing),
        Data::Missing | Data::Nil(_) => Err("index of untyped nil".to_owned()),
        other => Err(format!("can't index item of type {}", other.type_name())),
    }
}

/// Returns what a map gives for a name it does not have: the zero of its values, as far as they tell.
fn absent(map: &Data) -> Data {
    match map {
        Data::Map(entries) if matches!(entries.first(), Some((_, Data::Text(_)))) => Data::text(""),
        Data::Map(entries) if entries.is_empty() => Data::text(""),
        Data::Nil(_) => Data::text(""),
        _ => Data::Missing,
    }
}

fn slice(args: &[Data]) -> Result<Data, String> {
    if args.len() > 4 {
        return Err(format!("too many slice indexes: {}", args.len() - 1));
    }
    let end = match &args[0] {
        Data::Text(text) => text.len(),
        Data::List(list) => list.len(),
        Data::Nil(super::data::NilOf::List) => 0,
        Data::Missing | Data::Nil(_) => return Err("slice of untyped nil".to_owned()),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let bound = |number: usize, default| match args.get(number) {
        Some(key) => position(key, end, true),
        None => Ok(default),
    };
    let (from, to) = (bound(1, 0)?, bound(2, end)?);
    bound(3, end)?;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match &args[0] {
        Data::Text(text) => Data::text(&String::from_utf8_lossy(&text.as_bytes()[from..to])),
        Data::List(list) => Data::List(list[from..to].into()),
        other => other.clone(),
    })
}

fn join(args: &[Data]) -> Result<Data, String> {
    let Data::List(list) = &args[0] else {
        return Ok(Data::text(""));
    };
    let parts: Vec<String> = list.iter().map(Data::printed).collect();
    Ok(Data::text(&parts.join(text(&args[1]))))
}

fn split(args: &[Data]) -> Result<Data, String> {
    let (whole, separator) = (text(&args[0]), text(&args[1]));
    let parts: Rc<[Data]> = match separator {
        "" => whole
            .chars()
            .map(|one| Data::text(one.encode_utf8(&mut [0; 4])))
            .collect(),
        _ => whole.split(separator).map(Data::text).collect(),
    };
    Ok(Data::List(parts))
}

/// Puts spaces before and after, but leaves nothing alone.
fn pad(args: &[Data]) -> Result<Data, String> {
    const WIDEST: i128 = 4096;
    let whole = text(&args[0]);
    if whole.is_empty() {
        return Ok(args[0].clone());
    }
    let mut spaces = args[1..].iter().map(int);
    if let Some(bad) = spaces.clone().find(|count| !(0..=WIDEST).contains(count)) {
        return Err(format!("cannot pad with {bad} spaces"));
    }
    let mut next = || " ".repeat(spaces.next().unwrap_or(0) as usize);
    let before = next();
    Ok(Data::text(&format!("{before}{whole}{}", next())))
}

fn truncate(args: &[Data]) -> Result<Data, String> {
    let length = usize::try_from(int(&args[1])).map_err(|_| {
        format!(
            "runtime error: slice bounds out of range [:{}]",
            int(&args[1])
        )
    })?;
    let whole = text(&args[0]);
    // Docker counts bytes; a character is kept or dropped whole.
    Ok(Data::text(&whole[..whole.floor_char_boundary(length)]))
}

/// Makes the first letter of each word a capital; a word ends at anything but letters, digits and `_`.
fn title(text: &str) -> String {
    let mut out = String::new();
    let mut starts = true;
    for character in text.chars() {
        match starts {
            true => out.extend(character.to_uppercase()),
            false => out.push(character),
        }
        starts = !(character.is_alphanumeric() || matches!(character, '_' | '\''));
    }
    out
}

fn escape_html(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            other => out.push(other),
        }
    }
    out
}

fn escape_js(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '\\' | '\'' | '"' => out.extend(['\\', character]),
            '<' | '>' | '&' | '=' | '\0'..'\u{20}' => {
                out.push_str(&format!("\\u{:04X}", u32::from(character)));
            }
            other => out.push(other),
        }
    }
    out
}

fn escape_query(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
