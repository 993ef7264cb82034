//! Lines: directives, comments, continuation, here-documents.

use super::Directives;
use super::Heredoc;
use super::Mistake;
use super::Source;
use super::expand;

/// Most bytes of a Dockerfile.
const LARGEST: usize = 16 << 20;

/// One instruction's line.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) source: Source,
    /// Its name, as it was written.
    pub(super) keyword: String,
    /// What follows its name, trimmed.
    pub(super) rest: String,
    pub(super) heredocs: Vec<Heredoc>,
    /// The here-documents as they were written, last lines included.
    pub(super) raw_heredocs: String,
}

/// A Dockerfile's lines.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) directives: Directives,
    pub(super) lines: Vec<Line>,
    pub(super) warnings: Vec<String>,
}

/// A mistake, and where it is.
pub(super) type Misplaced = (Source, Mistake);

/// Reads a whole file.
pub(super) fn lines(bytes: &[u8]) -> Result<Lines, Misplaced> {
    let nowhere = |mistake| (Source::default(), mistake);
    if bytes.len() > LARGEST {
        return Err(nowhere(Mistake::TooLarge { limit: LARGEST }));
    }
    if bytes.is_empty() {
        return Err(nowhere(Mistake::Empty));
    }
    // What is no text becomes a replacement character, as it does in Docker on its way into a config.
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let directives = directives(text)?;
    trigger_lines(text, directives)
}

/// Reads lines that have no directives before them.
pub(super) fn trigger_lines(text: &str, directives: Directives) -> Result<Lines, Misplaced> {
    let mut reader = Reader {
        rest: text.split_inclusive('\n'),
        number: 0,
        escape: directives.escape,
        warnings: Vec::new(),
    };
    let mut lines = Vec::new();
    while let Some(line) = reader.line()? {
        lines.push(line);
    }
    if lines.is_empty() {
        return Err((Source::default(), Mistake::NoInstructions));
    }
    Ok(Lines {
        directives,
        lines,
        warnings: reader.warnings,
    })
}

/// Reads the directives, which end with the first line that is none.
fn directives(text: &str) -> Result<Directives, Misplaced> {
    let mut found = Directives::default();
    let mut escape = None;
    for (number, line) in (1..).zip(text.lines()) {
        let Some((name, value)) = directive(line) else {
            break;
        };
        let at = |mistake| {
            let source = Source {
                first_line: number,
                last_line: number,
                text: line.trim().to_owned(),
            };
            (source, mistake)
        };
        let (name, slot) = match name.to_ascii_lowercase().as_str() {
            "syntax" => ("syntax", &mut found.syntax),
            "escape" => ("escape", &mut escape),
            "check" => ("check", &mut found.check),
            _ => break,
        };
        if slot.replace(value.to_owned()).is_some() {
            return Err(at(Mistake::RepeatedDirective(name)));
        }
        if name == "escape" {
            found.escape = match value {
                "\\" => '\\',
                "`" => '`',
                other => return Err(at(Mistake::InvalidEscape(other.to_owned()))),
            };
        }
    }
    Ok(found)
}

/// Splits `# name=value`.
fn directive(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name
            .chars()
            .all(|character| character.is_ascii_alphanumeric());
    (is_name && !value.is_empty()).then_some((name, value))
}

/// Takes line after line.
struct Reader<'a> {
    rest: std::str::SplitInclusive<'a, char>,
    number: u32,
    escape: char,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let line = self.rest.next()?;
        self.number += 1;
        Some(line)
    }

    /// Reads the next instruction, its continuation lines and here-documents.
    fn line(&mut self) -> Result<Option<Line>, Misplaced> {
        // Escape characters and nothing else make no instruction.
        let (first_line, text) = loop {
            match self.joined() {
                None => return Ok(None),
                Some((_, text)) if text.trim().is_empty() => {}
                Some(joined) => break joined,
            }
        };
        let trimmed = text.trim();
        let (keyword, rest) = trimmed
            .split_once(char::is_whitespace)
            .unwrap_or((trimmed, ""));
        let mut line = Line {
            source: Source {
                first_line,
                last_line: self.number,
                text: trimmed.to_owned(),
            },
            keyword: keyword.to_owned(),
            rest: rest.trim().to_owned(),
            heredocs: Vec::new(),
            raw_heredocs: String::new(),
        };
        for start in starts(&line) {
            self.heredoc(&start, &mut line)?;
        }
        line.source.last_line = self.number;
        Ok(Some(line))
    }

    /// Joins a line and those that continue it; comments between them are nothing.
    fn joined(&mut self) -> Option<(u32, String)> {
        let (mut text, mut goes_on) = loop {
            let line = self.next()?;
            let line = without_newline(line).trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (part, goes_on) = self.continued(line);
            if goes_on || !part.trim().is_empty() {
                break (part.to_owned(), goes_on);
            }
        };
        let first_line = self.number;
        let mut has_empty = false;
        while goes_on {
            let Some(line) = self.next() else { break };
            let line = without_newline(line);
            let trimmed = line.trim_start();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                has_empty = true;
                continue;
            }
            let (part, more) = self.continued(line);
            text.push_str(part);
            goes_on = more;
        }
        if has_empty {
            let shown: String = text.trim().chars().take(200).collect();
            self.warnings
                .push(format!("Empty continuation line found in: {shown}"));
        }
        Some((first_line, text))
    }

    /// Takes the escape character off a line's end; one that is escaped itself is none.
    fn continued<'l>(&self, line: &'l str) -> (&'l str, bool) {
        let end = line.trim_end_matches([' ', '\t']);
        match end.strip_suffix(self.escape) {
            Some(part) if !part.ends_with(self.escape) => (part, true),
            _ => (line, false),
        }
    }

    /// Reads a here-document's lines.
    fn heredoc(&mut self, start: &Start, line: &mut Line) -> Result<(), Misplaced> {
        let mut content = String::new();
        while let Some(raw) = self.next() {
            line.raw_heredocs.push_str(raw);
            let written = match start.chomps {
                true => raw.trim_start_matches('\t'),
                false => raw,
            };
            if without_newline(written) == start.name {
                line.heredocs.push(Heredoc {
                    name: start.name.clone(),
                    content,
                    expand: start.expands,
                });
                return Ok(());
            }
            content.push_str(written);
        }
        line.source.last_line = self.number;
        Err((line.source.clone(), Mistake::UnterminatedHeredoc))
    }
}

fn without_newline(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}

/// A word that begins a here-document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// The word that ends it.
    pub(super) name: String,
    /// Whether leading tabs are not part of it (`<<-`).
    chomps: bool,
    /// Whether its variables have values (the word has no quotes).
    expands: bool,
}

/// Returns the here-documents that a line begins: those of `ADD`, `COPY` and `RUN`, and of such triggers.
fn starts(line: &Line) -> Vec<Start> {
    let takes = |keyword: &str| {
        ["ADD", "COPY", "RUN"]
            .iter()
            .any(|name| name.eq_ignore_ascii_case(keyword))
    };
    let (keyword, rest) = match line.keyword.eq_ignore_ascii_case("ONBUILD") {
        true => line
            .rest
            .split_once(char::is_whitespace)
            .unwrap_or((&line.rest, "")),
        false => (line.keyword.as_str(), line.rest.as_str()),
    };
    if !takes(keyword) || !rest.contains("<<") || super::words::json_strings(rest).is_some() {
        return Vec::new();
    }
    let words = expand::raw_words(rest);
    words.iter().filter_map(|word| start(word)).collect()
}

/// Reads a word `<<EOF`, `3<<-"EOF"`.
pub(super) fn start(word: &str) -> Option<Start> {
    let word = word.trim_start_matches(|first: char| first.is_ascii_digit());
    let rest = word.strip_prefix("<<")?;
    let (rest, chomps) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let unset = |_: &str| None;
    let name = expand::word(rest, '\\', &unset).ok()?;
    let is_one_word = !name.is_empty() && !name.contains(char::is_whitespace);
    is_one_word.then(|| Start {
        expands: !rest.contains(['"', '\'']),
        name,
        chomps,
    })
}
