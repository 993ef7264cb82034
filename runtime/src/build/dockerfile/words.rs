//! Splitting what follows an instruction's name into words that keep their quotes, escapes and variables.

/// Splits a line at white space outside of quotes; an escape character keeps the next one from meaning anything.
///
/// A quote that is not closed goes to the end of the line: the expansion of the word says so.
pub(super) fn split(line: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match quote {
            None if character.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if matches!(character, '"' | '\'') => quote = Some(character),
            Some(open) if character == open => quote = None,
            _ => {}
        }
        word.push(character);
        // Between single quotes the escape character means nothing.
        if character == escape && quote != Some('\'') {
            word.extend(characters.next());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Returns the strings of a line that begins with a JSON array: the exec form. A line that does not is `None`, and so is
/// one whose JSON is not well-formed, which is the shell's then.
pub(super) fn json_strings(line: &str) -> Option<Result<Vec<String>, NotStrings>> {
    let line = line.trim_start();
    if !line.starts_with('[') {
        return None;
    }
    // What follows the array is not looked at, as in the classic builder.
    let mut values = serde_json::Deserializer::from_str(line).into_iter::<serde_json::Value>();
    let serde_json::Value::Array(array) = values.next()?.ok()? else {
        return None;
    };
    let strings = array.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(NotStrings),
    });
    Some(strings.collect())
}

/// An array of something else than strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotStrings;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_end_at_space_outside_of_quotes() {
        for (line, words) in [
            ("a  b\tc ", &["a", "b", "c"][..]),
            (r#"a="b c" d"#, &[r#"a="b c""#, "d"]),
            (r"a=b\ c d", &[r"a=b\ c", "d"]),
            (r"a='\' b", &[r"a='\'", "b"]),
            (r#"a="\" b" c"#, &[r#"a="\" b""#, "c"]),
            (r#""open b"#, &[r#""open b"#]),
            ("end\\", &["end\\"]),
            ("", &[]),
        ] {
            assert_eq!(split(line, '\\'), words, "{line}");
        }
        assert_eq!(split(r"a` b \ c", '`'), [r"a` b", r"\", "c"]);
    }

    #[test]
    fn only_an_array_of_strings_is_the_exec_form() {
        assert_eq!(
            json_strings(r#" ["a", "b c"]"#),
            Some(Ok(vec!["a".into(), "b c".into()]))
        );
        assert_eq!(json_strings(r#"["a"] rest"#), Some(Ok(vec!["a".into()])));
        assert_eq!(json_strings("[]"), Some(Ok(vec![])));
        assert_eq!(json_strings(r#"["a", 1]"#), Some(Err(NotStrings)));
        for shell in [r#"["a", b]"#, "['a']", "[ -e x ]", "echo", ""] {
            assert_eq!(json_strings(shell), None, "{shell}");
        }
        assert_eq!(json_strings(&"[".repeat(100_000)), None);
    }
}
