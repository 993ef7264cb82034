//! Variables and quotes of words, as BuildKit reads them (`docs.docker.com/reference/dockerfile`, "Environment
//! replacement").
//!
//! Whatever is read ends: words nest so deep and results grow so long, not more.

use std::iter::Peekable;
use std::str::Chars;

use super::pattern::Pattern;

/// How deep `${a:-${b:-...}}` may go.
const DEEPEST: usize = 64;
/// Most bytes of a result; the kernel takes no longer variable than 128 KiB.
const LONGEST: usize = 8 << 20;

/// Gives a variable's value; `None` is one that is not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A word that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {word:?}: {cause}")]
pub struct ExpandError {
    /// The word.
    pub word: String,
    /// What is wrong with it.
    pub cause: ExpandCause,
}

/// What is wrong with a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandCause {
    /// A quote is not closed.
    #[error("unexpected end of statement while looking for matching {0}")]
    Unclosed(&'static str),
    /// A `${` is not closed.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// A `${name/pattern` goes no further.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}` and the like.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// What follows the name in `${name...}` means nothing.
    #[error("unsupported modifier ({0}) in substitution")]
    UnsupportedModifier(String),
    /// `${name?...}` of a variable without value.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What is said.
        message: String,
    },
    /// A backslash in a pattern before what needs none.
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'")]
    InvalidPattern {
        /// The pattern.
        pattern: String,
        /// What is escaped.
        escaped: String,
    },
    /// It goes too deep.
    #[error("more than {DEEPEST} substitutions within each other")]
    TooDeep,
    /// It grows too long.
    #[error("result is longer than {LONGEST} bytes")]
    TooLong,
}

/// Expands a word to one string: variables replaced, quotes and escapes taken away.
pub fn word(text: &str, escape: char, lookup: Lookup<'_>) -> Result<String, ExpandError> {
    Ok(expand(text, Quoting::Taken, escape, lookup)?.text)
}

/// Expands a word to any number of them: what comes from variables is split at white space where it is not quoted.
pub fn words(text: &str, escape: char, lookup: Lookup<'_>) -> Result<Vec<String>, ExpandError> {
    Ok(expand(text, Quoting::Taken, escape, lookup)?.into_words())
}

/// Expands the lines of a here-document: quotes are characters like others, backslashes escape.
pub fn heredoc(text: &str, lookup: Lookup<'_>) -> Result<String, ExpandError> {
    Ok(expand(text, Quoting::None, '\\', lookup)?.text)
}

/// Splits a line into words that keep their quotes, escapes and variables; for a line whose quotes do not end, none.
pub(super) fn raw_words(line: &str) -> Vec<String> {
    // A variable stands for itself: the scanner writes what it has read.
    expand(line, Quoting::Kept, '\\', &|_| None)
        .map(Expanded::into_words)
        .unwrap_or_default()
}

/// What becomes of quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quoting {
    /// They quote, and are taken away.
    Taken,
    /// They quote, and stay, as escapes and variables do.
    Kept,
    /// They are characters.
    None,
}

fn expand(
    text: &str,
    quoting: Quoting,
    escape: char,
    lookup: Lookup<'_>,
) -> Result<Expanded, ExpandError> {
    let mut scanner = Scanner {
        rest: text.chars().peekable(),
        quoting,
        escape,
        lookup,
        depth: 0,
    };
    scanner
        .until(None, quoting == Quoting::Kept)
        .map_err(|cause| ExpandError {
            word: shortened(text),
            cause,
        })
}

/// Returns the text as an error shows it.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 256;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// What a text has become: one string, and the words in it.
#[derive(Debug, Default)]
struct Expanded {
    text: String,
    words: Vec<String>,
    word: String,
}

impl Expanded {
    /// Adds what may be split.
    fn add(&mut self, character: char) {
        self.text.push(character);
        match character.is_whitespace() {
            true => self.end_word(),
            false => self.word.push(character),
        }
    }

    /// Adds what was quoted.
    fn add_quoted(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
    }

    fn end_word(&mut self) {
        if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn into_words(mut self) -> Vec<String> {
        self.end_word();
        self.words
    }

    fn bounded(&self) -> Result<(), ExpandCause> {
        bounded(self.text.len())
    }
}

fn bounded(length: usize) -> Result<(), ExpandCause> {
    match length <= LONGEST {
        true => Ok(()),
        false => Err(ExpandCause::TooLong),
    }
}

struct Scanner<'a> {
    rest: Peekable<Chars<'a>>,
    quoting: Quoting,
    escape: char,
    lookup: Lookup<'a>,
    depth: usize,
}

impl Scanner<'_> {
    /// Reads up to `stop`, or to the end. With `raw_escapes` escape characters stay before what they escape.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<Expanded, ExpandCause> {
        let mut out = Expanded::default();
        while let Some(&character) = self.rest.peek() {
            match character {
                _ if Some(character) == stop => {
                    self.rest.next();
                    return Ok(out);
                }
                '$' => self.dollar()?.chars().for_each(|value| out.add(value)),
                '\'' if self.quoting != Quoting::None => out.add_quoted(&self.single_quoted()?),
                '"' if self.quoting != Quoting::None => {
                    out.add_quoted(&self.double_quoted(raw_escapes)?);
                }
                _ => {
                    self.rest.next();
                    if character != self.escape {
                        out.add(character);
                        continue;
                    }
                    let mut buffer = [0; 4];
                    if raw_escapes {
                        out.add_quoted(character.encode_utf8(&mut buffer));
                    }
                    if let Some(escaped) = self.rest.next() {
                        out.add_quoted(escaped.encode_utf8(&mut buffer));
                    }
                }
            }
            out.bounded()?;
        }
        match stop {
            Some('/') => Err(ExpandCause::MissingSlash),
            Some(_) => Err(ExpandCause::MissingBrace),
            None => Ok(out),
        }
    }

    fn single_quoted(&mut self) -> Result<String, ExpandCause> {
        let mut out = String::new();
        self.quote(&mut out);
        loop {
            match self.rest.peek() {
                None => return Err(ExpandCause::Unclosed("single-quote")),
                Some('\'') => {
                    self.quote(&mut out);
                    return Ok(out);
                }
                Some(_) => out.extend(self.rest.next()),
            }
        }
    }

    /// Reads up to the next double quote; `\` is special only before `"`, `$` and itself.
    fn double_quoted(&mut self, raw_escapes: bool) -> Result<String, ExpandCause> {
        let mut out = String::new();
        self.quote(&mut out);
        loop {
            match self.rest.peek() {
                None => return Err(ExpandCause::Unclosed("double-quote")),
                Some('"') => {
                    self.quote(&mut out);
                    return Ok(out);
                }
                Some('$') => {
                    let value = self.dollar()?;
                    out.push_str(&value);
                }
                Some(&character) => {
                    self.rest.next();
                    let next = self.rest.peek().copied();
                    let escapes = character == self.escape
                        && (next.is_none()
                            || matches!(next, Some('"' | '$'))
                            || next == Some(self.escape));
                    if !escapes || raw_escapes {
                        out.push(character);
                    }
                    if escapes {
                        out.extend(self.rest.next());
                    }
                }
            }
            bounded(out.len())?;
        }
    }

    /// Reads a quote, which stays where quotes are kept.
    fn quote(&mut self, out: &mut String) {
        let quote = self.rest.next();
        if self.quoting == Quoting::Kept {
            out.extend(quote);
        }
    }

    /// Reads `$name` or `${...}`; returns its value.
    fn dollar(&mut self) -> Result<String, ExpandCause> {
        self.rest.next();
        if self.rest.peek() != Some(&'{') {
            let name = self.name();
            return Ok(match name.is_empty() || self.quoting == Quoting::Kept {
                true => format!("${name}"),
                false => (self.lookup)(&name).unwrap_or_default(),
            });
        }
        self.rest.next();
        match self.rest.peek() {
            None => return Err(ExpandCause::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandCause::BadSubstitution),
            Some(_) => {}
        }
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(ExpandCause::TooDeep);
        }
        let name = self.name();
        let value = self.substitution(&name)?;
        self.depth -= 1;
        Ok(value)
    }

    /// Reads what follows the name in `${name...}`.
    fn substitution(&mut self, name: &str) -> Result<String, ExpandCause> {
        let kept = self.quoting == Quoting::Kept;
        let value = (self.lookup)(name);
        let modifier = self.rest.next().ok_or(ExpandCause::MissingBrace)?;
        match modifier {
            '}' if kept => Ok(format!("${{{name}}}")),
            '}' => Ok(value.unwrap_or_default()),
            '-' | '+' | '?' => self.alternative(name, value, modifier, false),
            ':' => match self.rest.next() {
                Some(modifier @ ('-' | '+' | '?')) => self.alternative(name, value, modifier, true),
                Some(other) => Err(ExpandCause::UnsupportedModifier(format!(":{other}"))),
                None => Err(ExpandCause::MissingBrace),
            },
            '#' | '%' => {
                let longest = self.rest.next_if_eq(&modifier).is_some();
                let text = self.until(Some('}'), true)?.text;
                if kept {
                    let twice = if longest {
                        modifier.to_string()
                    } else {
                        String::new()
                    };
                    return Ok(format!("${{{name}{modifier}{twice}{text}}}"));
                }
                let value = value.unwrap_or_default();
                let pattern = Pattern::parse(&text, value.len())?;
                Ok(match modifier {
                    '#' => pattern.without_prefix(&value, longest),
                    _ => pattern.without_suffix(&value, longest),
                })
            }
            '/' => {
                let all = self.rest.next_if_eq(&'/').is_some();
                let text = self.until(Some('/'), true)?.text;
                let replacement = self.until(Some('}'), true)?.text;
                if kept {
                    let twice = if all { "/" } else { "" };
                    return Ok(format!("${{{name}/{twice}{text}/{replacement}}}"));
                }
                let value = value.unwrap_or_default();
                let pattern = Pattern::parse(&text, value.len())?;
                let replaced = pattern.replace(&value, &replacement, all, LONGEST);
                replaced.ok_or(ExpandCause::TooLong)
            }
            other => Err(ExpandCause::UnsupportedModifier(other.to_string())),
        }
    }

    /// Reads the word of `${name-word}` and its like; with a colon an empty value is as good as none.
    fn alternative(
        &mut self,
        name: &str,
        value: Option<String>,
        modifier: char,
        colon: bool,
    ) -> Result<String, ExpandCause> {
        let word = self.until(Some('}'), false)?.text;
        if self.quoting == Quoting::Kept {
            let colon = if colon { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let is_set = value.is_some();
        let value = value.filter(|value| !(colon && value.is_empty()));
        match (modifier, value) {
            ('-', None) => Ok(word),
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            ('?', None) => Err(ExpandCause::Required {
                name: name.to_owned(),
                message: match (word.is_empty(), is_set) {
                    (false, _) => word,
                    (true, false) => "is not allowed to be unset".to_owned(),
                    (true, true) => "is not allowed to be empty".to_owned(),
                },
            }),
            (_, Some(value)) => Ok(value),
            (other, None) => Err(ExpandCause::UnsupportedModifier(other.to_string())),
        }
    }

    /// Reads a variable's name: letters, digits and underscores, or digits alone, or one of the shell's own.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let Some(&first) = self.rest.peek() else {
            return name;
        };
        if "@*#?-$!".contains(first) {
            name.extend(self.rest.next());
            return name;
        }
        let is_number = first.is_numeric();
        let belongs = |character: &char| match is_number {
            true => character.is_numeric(),
            false => character.is_alphanumeric() || *character == '_',
        };
        while let Some(character) = self.rest.next_if(belongs) {
            name.push(character);
        }
        name
    }
}
