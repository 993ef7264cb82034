//! A command line in one string, split as a shell splits it.

/// Splits by blanks, with quotes and backslashes.
pub(crate) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(it) = chars.next() {
        match it {
            it if it.is_whitespace() => words.extend(word.take()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some(inner) if inner == it => break,
                        Some('\\') if it == '"' => match chars.next() {
                            Some(inner @ ('"' | '\\' | '$' | '`')) => word.push(inner),
                            Some(inner) => word.extend(['\\', inner]),
                            None => return Err("has a quote that is not closed".to_owned()),
                        },
                        Some(inner) => word.push(inner),
                        None => return Err("has a quote that is not closed".to_owned()),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            it => word.get_or_insert_default().push(it),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_as_a_shell_would() {
        for (text, words) in [
            ("a b  c", vec!["a", "b", "c"]),
            (
                "sh -c 'echo \"x y\" $Z'",
                vec!["sh", "-c", "echo \"x y\" $Z"],
            ),
            ("a \"b \\\"c\\\" d\" ''", vec!["a", "b \"c\" d", ""]),
            ("a\\ b", vec!["a b"]),
            ("--x='1 2'y", vec!["--x=1 2y"]),
            ("", vec![]),
        ] {
            assert_eq!(split(text).expect("good"), words, "{text}");
        }
        assert!(split("a 'b").is_err());
    }
}
