//! Wildcards of sources, as Go's `filepath.Match` has them: within one name.

/// Returns whether a name has wildcards, or escapes, in it.
pub(super) fn is_pattern(name: &[u8]) -> bool {
    name.iter().any(|byte| b"*?[\\".contains(byte))
}

/// Returns whether a name fits a pattern; a pattern that is malformed is an error.
pub(super) fn matches(pattern: &str, name: &str) -> Result<bool, Malformed> {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    check(&pattern)?;
    Ok(fits(&pattern, &name))
}

/// A pattern that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub(super) struct Malformed;

fn check(pattern: &[char]) -> Result<(), Malformed> {
    let mut at = 0;
    while at < pattern.len() {
        at += match pattern[at] {
            '[' => class(&pattern[at..], '\0').ok_or(Malformed)?.1,
            '\\' if at + 1 == pattern.len() => return Err(Malformed),
            '\\' => 2,
            _ => 1,
        };
    }
    Ok(())
}

/// Goes through the name once, coming back only to the last `*`.
fn fits(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        if n == name.len() && p == pattern.len() {
            return true;
        }
        let step = match (pattern.get(p), name.get(n)) {
            (Some('?'), Some(_)) => Some(1),
            (Some('['), Some(&character)) => match class(&pattern[p..], character) {
                Some((true, length)) => Some(length),
                _ => None,
            },
            (Some('\\'), Some(character)) => (pattern.get(p + 1) == Some(character)).then_some(2),
            (Some(known), Some(character)) => (known == character).then_some(1),
            _ => None,
        };
        match (step, star) {
            (Some(step), _) => (p, n) = (p + step, n + 1),
            (None, Some((after, from))) if from < name.len() => {
                star = Some((after, from + 1));
                (p, n) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// Reads `[a-z]` or `[^a-z]`; returns whether the character is in it, and its length.
fn class(pattern: &[char], character: char) -> Option<(bool, usize)> {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&'^');
    at += usize::from(negated);
    let mut found = false;
    let mut ranges = 0;
    loop {
        if pattern.get(at) == Some(&']') && ranges > 0 {
            return Some((found != negated, at + 1));
        }
        let low = one(pattern, &mut at)?;
        let high = match pattern.get(at) {
            Some('-') => {
                at += 1;
                one(pattern, &mut at)?
            }
            _ => low,
        };
        found |= (low..=high).contains(&character);
        ranges += 1;
    }
}

fn one(pattern: &[char], at: &mut usize) -> Option<char> {
    let character = match *pattern.get(*at)? {
        '-' | ']' => return None,
        '\\' => {
            *at += 1;
            *pattern.get(*at)?
        }
        character => character,
    };
    *at += 1;
    Some(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_go() {
        for (pattern, name, fit) in [
            ("*.go", "a.go", true),
            ("*.go", ".go", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("?", "é", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("*", "", true),
            ("ab", "a", false),
        ] {
            assert_eq!(matches(pattern, name), Ok(fit), "{pattern} {name}");
        }
        for bad in ["[", "[]", "a\\", "[a", "[-]", "[a-]"] {
            assert_eq!(matches(bad, "a"), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn many_stars_take_no_longer_than_the_name_is_long() {
        let pattern = "a*".repeat(2000) + "b";
        let name = "a".repeat(20_000);
        assert_eq!(matches(&pattern, &name), Ok(false));
    }
}
