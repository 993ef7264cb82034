//! The patterns of `${name#pattern}` and its like: `*`, `?`, and characters; brackets mean nothing special.

use super::expand::ExpandCause;

/// Most steps of one search: the product of the pattern's and the value's lengths.
const MOST_STEPS: usize = 1 << 28;

/// A pattern: pieces with `*` between them.
#[derive(Debug)]
pub(super) struct Pattern {
    pieces: Vec<Vec<Piece>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Any,
    Exactly(char),
}

impl Pattern {
    /// Reads a pattern that is to be searched in a value of that length.
    pub(super) fn parse(text: &str, value: usize) -> Result<Pattern, ExpandCause> {
        if text.len().saturating_mul(value) > MOST_STEPS {
            return Err(ExpandCause::TooLong);
        }
        let mut pieces = vec![Vec::new()];
        let mut add = |piece| match piece {
            None => pieces.push(Vec::new()),
            Some(piece) => pieces.last_mut().expect("there is always one").push(piece),
        };
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '*' => add(None),
                '?' => add(Some(Piece::Any)),
                '\\' => match characters.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => {
                        add(Some(Piece::Exactly(escaped)));
                    }
                    escaped => {
                        return Err(ExpandCause::InvalidPattern {
                            pattern: text.to_owned(),
                            escaped: escaped.map(String::from).unwrap_or_default(),
                        });
                    }
                },
                other => add(Some(Piece::Exactly(other))),
            }
        }
        Ok(Pattern { pieces })
    }

    /// Returns `value` without the shortest or longest beginning that fits.
    pub(super) fn without_prefix(&self, value: &str, longest: bool) -> String {
        let value: Vec<char> = value.chars().collect();
        let end = self.fit(&value, longest).unwrap_or(0);
        value[end..].iter().collect()
    }

    /// Returns `value` without the shortest or longest end that fits.
    pub(super) fn without_suffix(&self, value: &str, longest: bool) -> String {
        let value: Vec<char> = value.chars().rev().collect();
        let backwards = |piece: &Vec<Piece>| piece.iter().rev().copied().collect();
        let reversed = Pattern {
            pieces: self.pieces.iter().rev().map(backwards).collect(),
        };
        let end = reversed.fit(&value, longest).unwrap_or(0);
        value[end..].iter().rev().collect()
    }

    /// Returns `value` with the first or every longest part that fits replaced; `None` is one longer than `most`.
    pub(super) fn replace(
        &self,
        value: &str,
        replacement: &str,
        all: bool,
        most: usize,
    ) -> Option<String> {
        let value: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let mut at = 0;
        while let Some((start, end)) = self.find(&value, at) {
            out.extend(&value[at..start]);
            out.push_str(replacement);
            at = end;
            if start == end {
                // An empty part fits everywhere: behind the next character is the next one.
                out.extend(value.get(at));
                at += 1;
            }
            if out.len() > most {
                return None;
            }
            if !all || at > value.len() || (start != end && at == value.len()) {
                break;
            }
        }
        out.extend(value.get(at..).unwrap_or_default());
        (out.len() <= most).then_some(out)
    }

    /// Returns the first and longest part at or after `from` that fits.
    fn find(&self, value: &[char], from: usize) -> Option<(usize, usize)> {
        // Where the first piece fits first, the others fit if they fit after any later place.
        let start = find(&self.pieces[0], value, from)?;
        let end = self.fit(&value[start..], true)?;
        Some((start, start + end))
    }

    /// Returns the end of the shortest or longest beginning of `value` that fits.
    fn fit(&self, value: &[char], longest: bool) -> Option<usize> {
        let (first, others) = self.pieces.split_first()?;
        if !fits(first, value) {
            return None;
        }
        let mut at = first.len();
        let Some((last, between)) = others.split_last() else {
            return Some(at);
        };
        for piece in between {
            at = find(piece, value, at)? + piece.len();
        }
        let at = match longest {
            true => {
                let most = value.len().checked_sub(last.len())?;
                (at..=most).rev().find(|at| fits(last, &value[*at..]))?
            }
            false => find(last, value, at)?,
        };
        Some(at + last.len())
    }
}

fn find(piece: &[Piece], value: &[char], from: usize) -> Option<usize> {
    let most = value.len().checked_sub(piece.len())?;
    (from..=most).find(|at| fits(piece, &value[*at..]))
}

fn fits(piece: &[Piece], value: &[char]) -> bool {
    let fits = |(piece, character): (&Piece, &char)| match piece {
        Piece::Any => true,
        Piece::Exactly(exactly) => exactly == character,
    };
    piece.len() <= value.len() && piece.iter().zip(value).all(fits)
}
