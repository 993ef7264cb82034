//! The flags between an instruction's name and what it is about: `COPY --from=build --link a b`.

use super::Mistake;

/// The flags of one instruction; each is taken out by who knows it, and the first that is left is unknown.
#[derive(Debug, Default)]
pub(super) struct Flags {
    flags: Vec<(String, Option<String>)>,
}

impl Flags {
    /// Takes the flags off the beginning of a line; returns the rest.
    pub(super) fn take(line: &str, escape: char) -> (Flags, &str) {
        let mut flags = Flags::default();
        let mut rest = line.trim_start();
        while rest.starts_with("--") {
            let (word, after) = first_word(rest, escape);
            rest = after.trim_start();
            match word.strip_prefix("--").unwrap_or_default() {
                // It ends the flags.
                "" => break,
                flag => flags.flags.push(match flag.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (flag.to_owned(), None),
                }),
            }
        }
        (flags, rest)
    }

    /// Returns whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    /// Takes a flag that has a value and may be there once; an empty value is as good as none.
    pub(super) fn value(&mut self, name: &str) -> Result<Option<String>, Mistake> {
        let mut values = self.values(name)?;
        match values.len() {
            0 | 1 => Ok(values.pop().filter(|value| !value.is_empty())),
            _ => Err(Mistake::DuplicateFlag(name.to_owned())),
        }
    }

    /// Takes a flag that has a value and may be there any number of times.
    pub(super) fn values(&mut self, name: &str) -> Result<Vec<String>, Mistake> {
        let (own, others) = self.flags.drain(..).partition(|(flag, _)| flag == name);
        self.flags = others;
        let own: Vec<(String, Option<String>)> = own;
        let value =
            |(name, value): (String, Option<String>)| value.ok_or(Mistake::FlagWithoutValue(name));
        own.into_iter().map(value).collect()
    }

    /// Takes a flag that is true or false; without a value it is true.
    pub(super) fn boolean(&mut self, name: &str) -> Result<Option<bool>, Mistake> {
        let (own, others) = self.flags.drain(..).partition(|(flag, _)| flag == name);
        self.flags = others;
        let own: Vec<(String, Option<String>)> = own;
        match &own[..] {
            [] => Ok(None),
            [(_, None)] => Ok(Some(true)),
            [(_, Some(value))] => match value.to_ascii_lowercase().as_str() {
                "true" | "" => Ok(Some(true)),
                "false" => Ok(Some(false)),
                _ => Err(Mistake::NotBoolean {
                    flag: name.to_owned(),
                    value: value.clone(),
                }),
            },
            _ => Err(Mistake::DuplicateFlag(name.to_owned())),
        }
    }

    /// Refuses what nobody has taken.
    pub(super) fn finish(self) -> Result<(), Mistake> {
        match self.flags.into_iter().next() {
            Some((name, _)) => Err(Mistake::UnknownFlag(name)),
            None => Ok(()),
        }
    }
}

/// Splits off the first word, without its quotes and escapes.
fn first_word(text: &str, escape: char) -> (String, &str) {
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match (character, quote) {
            (character, None) if character.is_whitespace() => return (word, &text[at..]),
            (character, Some(open)) if character == open => quote = None,
            ('"' | '\'', None) => quote = Some(character),
            (character, None | Some('"')) if character == escape => {
                word.extend(characters.next().map(|(_, escaped)| escaped));
            }
            (character, _) => word.push(character),
        }
    }
    (word, "")
}
