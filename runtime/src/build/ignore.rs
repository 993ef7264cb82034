//! `.dockerignore`: what of a context is not part of it.
//!
//! The rules are Docker's (`docs.docker.com/build/concepts/context`, ".dockerignore files"): the last pattern that fits a
//! path, or a directory above it, decides; `!` takes back; `**` is any number of directories.

use regex::RegexSet;
use regex::RegexSetBuilder;

/// Most bytes of the file, and most memory that its patterns may be compiled to.
const LARGEST: usize = 1 << 20;
const LARGEST_COMPILED: usize = 64 << 20;

/// An ignore file.
#[derive(Debug)]
pub struct IgnoreFile {
    patterns: Vec<Pattern>,
    set: RegexSet,
}

#[derive(Debug)]
struct Pattern {
    text: String,
    /// Whether it takes back what others leave out.
    is_exception: bool,
}

/// What the patterns say of a directory, for what is in it.
#[derive(Debug, Clone)]
pub struct Above {
    /// Which patterns fit it or a directory above it.
    fit: Vec<bool>,
}

/// An ignore file that says nothing that can be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// It is larger than any that a person writes.
    #[error("more than {LARGEST} bytes")]
    TooLarge,
    /// It is not text.
    #[error("not valid UTF-8")]
    NotText,
    /// A `!` alone.
    #[error("illegal exclusion pattern: \"!\"")]
    LoneException,
    /// A pattern whose brackets or escapes do not end.
    #[error("syntax error in pattern: {0:?}")]
    Pattern(String),
    /// Patterns that together take too much memory.
    #[error("too many patterns")]
    TooMany,
}

impl IgnoreFile {
    /// Reads an ignore file.
    pub fn parse(bytes: &[u8]) -> Result<IgnoreFile, IgnoreError> {
        if bytes.len() > LARGEST {
            return Err(IgnoreError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| IgnoreError::NotText)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        IgnoreFile::new(lines)
    }

    /// Makes one of single patterns, as `COPY --exclude` has them.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<IgnoreFile, IgnoreError> {
        let mut read = Vec::new();
        for line in patterns {
            let line = line.trim();
            let (text, is_exception) = match line.strip_prefix('!') {
                Some(rest) => (rest.trim(), true),
                None => (line, false),
            };
            match (text.is_empty(), is_exception) {
                (true, true) => return Err(IgnoreError::LoneException),
                (true, false) => continue,
                _ => {}
            }
            read.push(Pattern {
                text: clean(text),
                is_exception,
            });
        }
        let mut expressions = Vec::new();
        for pattern in &read {
            expressions.push(expression(&pattern.text)?);
        }
        let set = RegexSetBuilder::new(&expressions)
            .unicode(true)
            .size_limit(LARGEST_COMPILED)
            .dfa_size_limit(LARGEST_COMPILED)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => IgnoreError::TooMany,
                _ => IgnoreError::Pattern(first_bad(&read)),
            })?;
        Ok(IgnoreFile {
            patterns: read,
            set,
        })
    }

    /// Returns what is said of the context's root, which no pattern leaves out.
    pub fn root(&self) -> Above {
        Above {
            fit: vec![false; self.patterns.len()],
        }
    }

    /// Returns whether `path`, relative to the context, is left out, and what that means for what is in it; `above` is
    /// what was said of its directory.
    pub fn enter(&self, above: &Above, path: &str) -> (bool, Above) {
        let mut fit = above.fit.clone();
        for index in self.set.matches(path).iter() {
            fit[index] = true;
        }
        let last = fit.iter().rposition(|fits| *fits);
        let left_out = last.is_some_and(|index| !self.patterns[index].is_exception);
        (left_out, Above { fit })
    }

    /// Returns whether `path`, relative to the context, is left out.
    pub fn leaves_out(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at);
        let mut above = self.root();
        let mut left_out = false;
        for end in ends.chain([path.len()]) {
            (left_out, above) = self.enter(&above, &path[..end]);
        }
        left_out
    }

    /// Returns whether a directory that is left out may hold something that is taken back.
    pub fn may_take_back_below(&self, directory: &str) -> bool {
        let prefix = format!("{directory}/");
        let mut exceptions = self.patterns.iter().filter(|pattern| pattern.is_exception);
        exceptions.any(|pattern| {
            pattern.text.contains(['*', '?', '[', '\\']) || pattern.text.starts_with(&prefix)
        })
    }
}

/// Returns the first pattern that is no expression by itself.
fn first_bad(patterns: &[Pattern]) -> String {
    let is_bad = |pattern: &&Pattern| {
        expression(&pattern.text).is_ok_and(|expression| regex::Regex::new(&expression).is_err())
    };
    let bad = patterns.iter().find(is_bad);
    bad.map(|pattern| pattern.text.clone()).unwrap_or_default()
}

/// Takes out what leads nowhere, as Go's `path.Clean` does: `a//b/./c/../d` is `a/b/d`. A leading slash means nothing.
fn clean(text: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match (part, parts.last()) {
            ("" | ".", _) => {}
            ("..", Some(last)) if *last != ".." => {
                parts.pop();
            }
            ("..", None) if text.starts_with('/') => {}
            (part, _) => parts.push(part),
        }
    }
    match parts.is_empty() {
        true => ".".to_owned(),
        false => parts.join("/"),
    }
}

/// Translates a pattern into an expression that fits whole paths.
fn expression(pattern: &str) -> Result<String, IgnoreError> {
    let bad = || IgnoreError::Pattern(pattern.to_owned());
    let mut out = String::from("^");
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '*' if characters.next_if_eq(&'*').is_some() => {
                characters.next_if_eq(&'/');
                out.push_str(match characters.peek() {
                    None => ".*",
                    Some(_) => "(?:.*/)?",
                });
            }
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '[' => class(&mut characters, &mut out).ok_or_else(bad)?,
            '\\' => {
                let escaped = characters.next().ok_or_else(bad)?;
                out.push_str(&regex::escape(escaped.encode_utf8(&mut [0; 4])));
            }
            other => out.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    out.push('$');
    // A name may hold any character, a newline too.
    Ok(format!("(?s){out}"))
}

/// Translates what follows a `[`; `None` is a class that does not end or says nothing.
fn class(
    characters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    out: &mut String,
) -> Option<()> {
    out.push('[');
    if characters.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    let mut is_empty = true;
    loop {
        let mut character = characters.next()?;
        match character {
            ']' if !is_empty => break,
            ']' => return None,
            '-' if is_empty || characters.peek() == Some(&']') => return None,
            '-' => {
                out.push('-');
                continue;
            }
            '\\' => character = characters.next()?,
            _ => {}
        }
        is_empty = false;
        out.push_str(&format!("\\x{{{:x}}}", u32::from(character)));
    }
    out.push(']');
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn left_out(patterns: &[&str], path: &str) -> bool {
        let file = IgnoreFile::new(patterns.iter().copied()).expect("patterns");
        file.leaves_out(path)
    }

    #[test]
    fn patterns_fit_as_in_docker() {
        for (pattern, path, expected) in [
            ("a", "a", true),
            ("a", "a/b/c", true),
            ("a", "b/a", false),
            ("/a", "a", true),
            ("a/", "a/b", true),
            ("./a//b/../c", "a/c", true),
            ("*", "a", true),
            ("*.md", "README.md", true),
            ("*.md", "docs/README.md", false),
            ("*/temp*", "dir/temporary.txt", true),
            ("*/*/temp*", "a/b/temp", true),
            ("temp?", "tempa", true),
            ("temp?", "temp", false),
            ("**/*.go", "a.go", true),
            ("**/*.go", "x/y/a.go", true),
            ("**", "any/thing", true),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("**a", "x/a", true),
            ("[ab]c", "bc", true),
            ("[^ab]c", "bc", false),
            ("[a-c]", "b", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            ("a.c", "abc", false),
            ("(a|b)+$", "(a|b)+$", true),
            ("é*", "éa", true),
            ("..", "a", false),
        ] {
            assert_eq!(left_out(&[pattern], path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_pattern_that_fits_decides() {
        assert!(!left_out(&["*.md", "!README.md"], "README.md"));
        assert!(left_out(
            &["*.md", "!README*.md", "README-secret.md"],
            "README-secret.md"
        ));
        assert!(!left_out(&["a", "!a/b"], "a/b/c"));
        assert!(left_out(&["a", "!a/b"], "a/c"));
        assert!(left_out(&["!a/b", "a"], "a/b"));
        assert!(!left_out(&["**", "!**/*.rs"], "x/y.rs"));
    }

    #[test]
    fn a_directory_is_walked_only_if_something_in_it_may_come_back() {
        let plain = IgnoreFile::new(["a", "b", "!a/b/c"]).expect("patterns");
        assert!(plain.may_take_back_below("a"));
        assert!(plain.may_take_back_below("a/b"));
        assert!(!plain.may_take_back_below("b"));
        assert!(!plain.may_take_back_below("a/bb"));
        let wild = IgnoreFile::new(["a", "!*/c"]).expect("patterns");
        assert!(wild.may_take_back_below("b"));
    }

    #[test]
    fn a_file_has_comments_and_a_byte_order_mark() {
        let file = b"\xef\xbb\xbf# a comment\n\n  spaced  \r\n#b\n! kept \nkept/x\n";
        let file = IgnoreFile::parse(file).expect("a file");
        let patterns: Vec<_> = file
            .patterns
            .iter()
            .map(|pattern| (pattern.text.as_str(), pattern.is_exception))
            .collect();
        assert_eq!(
            patterns,
            [("spaced", false), ("kept", true), ("kept/x", false)]
        );
    }

    #[test]
    fn bad_patterns_are_named() {
        let error = |text: &str| IgnoreFile::new([text]).expect_err("an error");
        assert_eq!(error("!"), IgnoreError::LoneException);
        for bad in ["[", "a[]b", "[a", "[-]", "[b-a]", "end\\"] {
            assert_eq!(error(bad), IgnoreError::Pattern(bad.to_owned()), "{bad}");
        }
        assert_eq!(
            IgnoreFile::parse(b"\xff").expect_err("an error"),
            IgnoreError::NotText
        );
    }

    proptest! {
        #[test]
        fn no_file_and_path_is_too_strange(file in any::<Vec<u8>>(), path in ".{0,40}") {
            if let Ok(file) = IgnoreFile::parse(&file) {
                file.leaves_out(&path);
                file.may_take_back_below(&path);
            }
        }

        #[test]
        fn a_walk_says_what_a_look_says(
            patterns in proptest::collection::vec("!?[ab*?/]{1,6}", 0..5),
            path in "[ab]{1,2}(/[ab]{1,2}){0,3}",
        ) {
            let Ok(file) = IgnoreFile::new(patterns.iter().map(String::as_str)) else {
                return Ok(());
            };
            let mut above = file.root();
            let mut said = false;
            let mut reached = String::new();
            for part in path.split('/') {
                let under_ignored = said && !file.may_take_back_below(&reached);
                if !reached.is_empty() {
                    reached.push('/');
                }
                reached.push_str(part);
                let (left_out, next) = file.enter(&above, &reached);
                prop_assert!(!under_ignored || left_out, "{patterns:?} {reached}");
                (said, above) = (left_out, next);
            }
            prop_assert_eq!(said, file.leaves_out(&path));
        }
    }
}
