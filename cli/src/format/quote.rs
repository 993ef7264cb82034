//! Text in quotes, as Go's `strconv.Quote` writes it.

/// Returns the text in double quotes; what cannot be printed is escaped.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            _ if is_printed(character) => out.push(character),
            _ => out.push_str(&match u32::from(character) {
                code @ ..=0x7f => format!("\\x{code:02x}"),
                code @ ..=0xffff => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
        }
    }
    out.push('"');
    out
}

/// Returns whether a character is seen; of blanks only the space is.
fn is_printed(character: char) -> bool {
    let is_blank = character != ' ' && character.is_whitespace();
    !is_blank && (character == '\'' || character.escape_debug().len() == 1)
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn text_is_quoted_as_go_quotes_it() {
        for (text, expected) in [
            ("plain 'text'", r#""plain 'text'""#),
            ("a\n\"b\"\tc\\d", r#""a\n\"b\"\tc\\d""#),
            (
                "\x07\x08\x0b\x0c\r\0\x1b\x7f",
                r#""\a\b\v\f\r\x00\x1b\x7f""#,
            ),
            (
                "é…\u{a0}\u{200b}\u{10ffff}",
                r#""é…\u00a0\u200b\U0010ffff""#,
            ),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }
}
