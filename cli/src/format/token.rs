//! Cutting a template into text and the tokens of its actions.

use super::TemplateError;

/// A token and where it begins in the template.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) text: String,
    pub(super) at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Text,
    Open,
    Close,
    Space,
    Pipe,
    Declare,
    Assign,
    Comma,
    OpenParen,
    CloseParen,
    Dot,
    Field,
    Variable,
    Identifier,
    Keyword,
    Bool,
    Number,
    Character,
    Quoted,
    Raw,
    Other,
    End,
}

const KEYWORDS: [&str; 11] = [
    "block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with",
];

/// Cuts the whole template up.
pub(super) fn tokens(source: &str) -> Result<Vec<Token>, TemplateError> {
    let mut lexer = Lexer {
        source,
        at: 0,
        tokens: Vec::new(),
        depth: 0,
    };
    lexer.run()?;
    lexer.push(TokenKind::End, source.len());
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    tokens: Vec<Token>,
    depth: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// Ends a token that began at `start`.
    fn push(&mut self, kind: TokenKind, start: usize) {
        let text = self.source[start..self.at].to_owned();
        self.tokens.push(Token {
            kind,
            text,
            at: start,
        });
    }

    fn error(&self, message: impl Into<String>) -> TemplateError {
        TemplateError::parse(self.source, self.at, message)
    }

    fn run(&mut self) -> Result<(), TemplateError> {
        let mut trims = false;
        loop {
            let start = self.at;
            let Some(open) = self.rest().find("{{") else {
                self.at = self.source.len();
                self.push_text(start, self.at, trims);
                return Ok(());
            };
            self.at += open;
            let mut inside = self.at + 2;
            let marker = self.source[inside..].strip_prefix('-');
            let trims_before =
                marker.is_some_and(|rest| rest.starts_with(|next: char| is_space(next)));
            let end = match trims_before {
                true => self.source[..self.at].trim_end_matches(is_space).len(),
                false => self.at,
            };
            self.push_text(start, end.max(start), trims);
            if trims_before {
                inside += 2;
            }
            if self.source[inside..].starts_with("/*") {
                trims = self.comment(inside)?;
                continue;
            }
            let start = self.at;
            self.at = inside;
            self.push(TokenKind::Open, start);
            trims = self.action()?;
        }
    }

    fn push_text(&mut self, start: usize, end: usize, trims: bool) {
        let mut text = &self.source[start..end];
        if trims {
            text = text.trim_start_matches(is_space);
        }
        if !text.is_empty() {
            self.tokens.push(Token {
                kind: TokenKind::Text,
                text: text.to_owned(),
                at: start,
            });
        }
    }

    /// Skips a comment; returns whether it trims the text after it.
    fn comment(&mut self, inside: usize) -> Result<bool, TemplateError> {
        let Some(length) = self.source[inside..].find("*/") else {
            return Err(self.error("unclosed comment"));
        };
        let rest = &self.source[inside + length + 2..];
        let (rest, trims) = match rest
            .strip_prefix(is_space)
            .and_then(|rest| rest.strip_prefix("-}}"))
        {
            Some(rest) => (Some(rest), true),
            None => (rest.strip_prefix("}}"), false),
        };
        let Some(rest) = rest else {
            return Err(self.error("comment ends before closing delimiter"));
        };
        self.at = self.source.len() - rest.len();
        Ok(trims)
    }

    /// Cuts one action up to its end; returns whether it trims the text after it.
    fn action(&mut self) -> Result<bool, TemplateError> {
        self.depth = 0;
        loop {
            let start = self.at;
            let trimmed = self
                .rest()
                .strip_prefix(is_space)
                .is_some_and(|rest| rest.starts_with("-}}"));
            if trimmed || self.rest().starts_with("}}") {
                if self.depth > 0 {
                    return Err(self.error("unclosed left paren"));
                }
                self.at += if trimmed { 4 } else { 2 };
                self.push(TokenKind::Close, start);
                return Ok(trimmed);
            }
            let Some(next) = self.rest().chars().next() else {
                return Err(self.error("unclosed action"));
            };
            self.token(next)?;
        }
    }

    fn token(&mut self, next: char) -> Result<(), TemplateError> {
        let start = self.at;
        let take = |lexer: &mut Self, length: usize, kind| {
            lexer.at += length;
            lexer.push(kind, start);
        };
        match next {
            _ if is_space(next) => {
                while self.rest().starts_with(is_space) && !self.at_trim_marker() {
                    self.at += 1;
                }
                self.push(TokenKind::Space, start);
            }
            ':' if self.rest().starts_with(":=") => take(self, 2, TokenKind::Declare),
            ':' => return Err(self.error("expected :=")),
            '=' => take(self, 1, TokenKind::Assign),
            '|' => take(self, 1, TokenKind::Pipe),
            ',' => take(self, 1, TokenKind::Comma),
            '(' => {
                self.depth += 1;
                take(self, 1, TokenKind::OpenParen);
            }
            ')' => {
                if self.depth == 0 {
                    return Err(self.error("unexpected right paren"));
                }
                self.depth -= 1;
                take(self, 1, TokenKind::CloseParen);
            }
            '"' => self.quoted('"', TokenKind::Quoted, "unterminated quoted string")?,
            '\'' => self.quoted(
                '\'',
                TokenKind::Character,
                "unterminated character constant",
            )?,
            '`' => match self.rest()[1..].find('`') {
                Some(length) => take(self, length + 2, TokenKind::Raw),
                None => return Err(self.error("unterminated raw quoted string")),
            },
            '$' => self.word(TokenKind::Variable)?,
            '.' if !self.rest()[1..].starts_with(|digit: char| digit.is_ascii_digit()) => {
                match self.rest()[1..].starts_with(is_word) {
                    true => self.word(TokenKind::Field)?,
                    false => take(self, 1, TokenKind::Dot),
                }
            }
            '.' | '+' | '-' | '0'..='9' => self.number()?,
            _ if is_word(next) => self.word(TokenKind::Identifier)?,
            _ => take(self, next.len_utf8(), TokenKind::Other),
        }
        Ok(())
    }

    fn at_trim_marker(&self) -> bool {
        self.rest().len() > 1 && self.rest()[1..].starts_with("-}}")
    }

    fn quoted(
        &mut self,
        quote: char,
        kind: TokenKind,
        complaint: &str,
    ) -> Result<(), TemplateError> {
        let start = self.at;
        let mut escaped = false;
        for (offset, character) in self.rest().char_indices().skip(1) {
            match character {
                '\n' => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if character == quote => {
                    self.at += offset + 1;
                    self.push(kind, start);
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(self.error(complaint))
    }

    /// Takes a field, variable or identifier; its first character may be `.` or `$`.
    fn word(&mut self, kind: TokenKind) -> Result<(), TemplateError> {
        let start = self.at;
        self.at += self.rest().chars().next().map_or(0, char::len_utf8);
        while let Some(next) = self.rest().chars().next().filter(|next| is_word(*next)) {
            self.at += next.len_utf8();
        }
        let ends = match self.rest().chars().next() {
            None => true,
            Some(next) => {
                is_space(next)
                    || matches!(next, '.' | ',' | '|' | ':' | '=' | '(' | ')')
                    || self.rest().starts_with("}}")
            }
        };
        if !ends {
            let next = self.rest().chars().next().unwrap_or_default();
            return Err(self.error(format!("bad character U+{:04X} {next:?}", u32::from(next))));
        }
        let text = &self.source[start..self.at];
        let kind = match text {
            "true" | "false" => TokenKind::Bool,
            _ if kind == TokenKind::Identifier && KEYWORDS.contains(&text) => TokenKind::Keyword,
            _ => kind,
        };
        self.push(kind, start);
        Ok(())
    }

    fn number(&mut self) -> Result<(), TemplateError> {
        let start = self.at;
        let mut before = ' ';
        while let Some(next) = self.rest().chars().next() {
            let is_sign = matches!(next, '+' | '-');
            let signs_exponent = is_sign && matches!(before, 'e' | 'E' | 'p' | 'P');
            let belongs = is_word(next) || next == '.' || signs_exponent;
            let leads = is_sign && self.at == start;
            if !belongs && !leads {
                break;
            }
            before = next;
            self.at += next.len_utf8();
        }
        let text = &self.source[start..self.at];
        if super::number::Number::parse(text).is_none() {
            return Err(self.error(format!("bad number syntax: {text:?}")));
        }
        self.push(TokenKind::Number, start);
        Ok(())
    }
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

fn is_word(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}
