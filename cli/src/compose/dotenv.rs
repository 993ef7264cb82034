//! `.env` files, by the rules of `docker compose`.
//!
//! A line is `[export] NAME=value` or `NAME: value`; a name alone is taken from the environment. Single quotes keep a
//! value as it is, over several lines; double quotes know escapes and variables; without quotes a value ends before
//! ` #` or with the line and knows variables.

use std::collections::BTreeMap;

use super::interpolate;
use super::interpolate::Variables;
use super::interpolate::Wrong;

/// What is wrong with a file.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {words}")]
pub(crate) struct DotenvError {
    line: usize,
    words: String,
}

/// Reads a file's variables. `outer` is asked before what stands further up in the file.
pub(crate) fn parse(
    text: &str,
    outer: &dyn Variables,
) -> Result<BTreeMap<String, String>, DotenvError> {
    let mut parser = Parser {
        rest: text.strip_prefix('\u{feff}').unwrap_or(text),
        line: 1,
        outer,
        values: BTreeMap::new(),
    };
    while parser.statement()? {}
    Ok(parser.values)
}

/// Reads a file that is `NAME=value` to the end of each line, nothing filled in (`format: raw`).
pub(crate) fn parse_raw(text: &str, outer: &dyn Variables) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with('#')
    });
    lines
        .filter_map(|line| match line.split_once('=') {
            Some((name, value)) => Some((name.trim().to_owned(), value.to_owned())),
            None => Some((line.trim().to_owned(), outer.get(line.trim())?)),
        })
        .collect()
}

struct Parser<'a> {
    rest: &'a str,
    line: usize,
    outer: &'a dyn Variables,
    values: BTreeMap<String, String>,
}

/// The outer variables, then those read so far.
struct Scope<'a> {
    outer: &'a dyn Variables,
    values: &'a BTreeMap<String, String>,
}

impl Variables for Scope<'_> {
    fn get(&self, name: &str) -> Option<String> {
        let outer = self.outer.get(name);
        outer.or_else(|| self.values.get(name).cloned())
    }

    fn missing(&self, name: &str) {
        self.outer.missing(name);
    }
}

fn is_blank(it: char) -> bool {
    it.is_whitespace() && it != '\n'
}

impl Parser<'_> {
    fn wrong(&self, words: impl Into<String>) -> DotenvError {
        DotenvError {
            line: self.line,
            words: words.into(),
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.line += self.rest[..bytes].matches('\n').count();
        self.rest = &self.rest[bytes..];
    }

    /// Reads one assignment; returns false at the end.
    fn statement(&mut self) -> Result<bool, DotenvError> {
        let blank = self.rest.len() - self.rest.trim_start().len();
        self.skip(blank);
        if self.rest.is_empty() {
            return Ok(false);
        }
        if self.rest.starts_with('#') {
            self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
            return Ok(true);
        }
        if let Some(after) = self.rest.strip_prefix("export")
            && after.starts_with(is_blank)
        {
            self.rest = after.trim_start_matches(is_blank);
        }
        let (name, has_value) = self.name()?;
        if !has_value {
            if let Some(value) = self.outer.get(&name) {
                self.values.insert(name, value);
            }
            return Ok(true);
        }
        self.rest = self.rest.trim_start_matches(is_blank);
        let value = match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote)?,
            _ => self.unquoted()?,
        };
        // A name that begins with a digit is no variable's.
        if !name.starts_with(|it: char| it.is_ascii_digit()) {
            self.values.insert(name, value);
        }
        Ok(true)
    }

    /// Reads a name up to its `=`, `:` or the line's end; tells whether a value follows.
    fn name(&mut self) -> Result<(String, bool), DotenvError> {
        let whole = self.rest;
        let is_name = |it: char| it.is_alphanumeric() || "_.-[]".contains(it) || is_blank(it);
        let end = whole.find(|it: char| !is_name(it)).unwrap_or(whole.len());
        let name = whole[..end].trim_end();
        if name.contains(char::is_whitespace) {
            return Err(self.wrong("key cannot contain a space"));
        }
        let has_value = match whole[end..].chars().next() {
            Some('=' | ':') => true,
            Some('\n') | None => false,
            Some(other) => {
                let line = whole.lines().next().unwrap_or_default();
                return Err(self.wrong(format!(
                    "unexpected character {:?} in variable name {line:?}",
                    other.to_string()
                )));
            }
        };
        self.rest = &whole[end + usize::from(has_value)..];
        Ok((name.to_owned(), has_value))
    }

    fn expanded(&self, text: &str) -> Result<String, DotenvError> {
        let scope = Scope {
            outer: self.outer,
            values: &self.values,
        };
        interpolate::substitute(text, &scope).map_err(|wrong| match wrong {
            Wrong::Invalid => self.wrong(format!("invalid template: {text:?}")),
            Wrong::Required { name, words } => self.wrong(format!(
                "required variable {name} is missing a value: {words}"
            )),
        })
    }

    fn unquoted(&mut self) -> Result<String, DotenvError> {
        let line = self.rest.split('\n').next().unwrap_or_default();
        let value = line.split(" #").next().unwrap_or_default().trim_end();
        let value = self.expanded(value)?;
        self.rest = &self.rest[line.len()..];
        Ok(value)
    }

    fn quoted(&mut self, quote: char) -> Result<String, DotenvError> {
        let mut value = String::new();
        let mut is_escaped = false;
        for (at, it) in self.rest.char_indices().skip(1) {
            match it {
                _ if is_escaped => {
                    is_escaped = false;
                    if it != quote {
                        value.push('\\');
                    }
                    value.push(it);
                }
                '\\' => is_escaped = true,
                it if it == quote => {
                    if quote == '"' {
                        value = self.expanded(&unescaped(&value))?;
                    }
                    self.skip(at + 1);
                    return Ok(value);
                }
                it => value.push(it),
            }
        }
        let line = self.rest.lines().next().unwrap_or_default();
        Err(self.wrong(format!("unterminated quoted value {line}")))
    }
}

/// Resolves the escapes of a shell; `\$` becomes `$$`, a dollar that is none of a variable's.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(it) = chars.next() {
        if it != '\\' {
            out.push(it);
            continue;
        }
        match chars.next() {
            Some('$') => out.push_str("$$"),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('a') => out.push('\u{7}'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('v') => out.push('\u{b}'),
            Some(it @ ('"' | '\\')) => out.push(it),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compose::interpolate::tests::Fixed;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        let outer = Fixed::new(&[("HOME", "/root"), ("OUTER", "o")]);
        let values = parse(text, &outer).map_err(|error| error.to_string())?;
        Ok(values.into_iter().collect())
    }

    #[test]
    fn values_are_read_by_their_quotes() {
        for (text, name, value) in [
            ("A=b", "A", "b"),
            ("A = b ", "A", "b"),
            ("export A=b", "A", "b"),
            ("A: b", "A", "b"),
            ("A=b # comment", "A", "b"),
            ("A=b#c", "A", "b#c"),
            ("A=", "A", ""),
            ("A='b $HOME \"x\"'", "A", "b $HOME \"x\""),
            ("A=\"b $HOME\\n\" # c", "A", "b /root\n"),
            ("A=\"x\\$HOME\"", "A", "x$HOME"),
            ("A=\"say \\\"hi\\\"\"", "A", "say \"hi\""),
            ("A='it\\'s'", "A", "it's"),
            ("A='two\nlines'", "A", "two\nlines"),
            ("A=${NO:-d}-$OUTER", "A", "d-o"),
            ("OUTER", "OUTER", "o"),
            ("\u{feff}# c\n\n  A=b\r\n", "A", "b"),
            ("A.b-c=1", "A.b-c", "1"),
            ("A=$(cmd) $2y$10$OUTER", "A", "$(cmd) $2y$10o"),
            ("A=\"$(cmd) $\"", "A", "$(cmd) $"),
        ] {
            let wanted = vec![(name.to_owned(), value.to_owned())];
            assert_eq!(read(text), Ok(wanted), "{text:?}");
        }
        assert_eq!(read("NOT_SET\n1A=b"), Ok(vec![]));
        let later = read("A=1\nB=${A}2\nHOME=x\nC=$HOME").expect("good");
        assert_eq!(later[1], ("B".to_owned(), "12".to_owned()));
        assert_eq!(later[2].1, "/root");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, words) in [
            ("A=1\nB C=2", "line 2: key cannot contain a space"),
            (
                "\n\nA%=1",
                "line 3: unexpected character \"%\" in variable name \"A%=1\"",
            ),
            ("A=1\nB=\"x\n", "line 2: unterminated quoted value \"x"),
            ("A=${", "line 1: invalid template: \"${\""),
        ] {
            assert_eq!(read(text), Err(words.to_owned()), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn hostile_text_does_no_harm(text in "[A-C=:'\"\\\\ \n#${}é\\[]{0,120}") {
            let _ = read(&text);
            let _ = parse_raw(&text, &Fixed::default());
        }
    }
}
