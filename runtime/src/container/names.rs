//! Names for containers that were given none: `adjective_surname`, as Docker makes them.

use rand::seq::IndexedRandom;

const LEFT: &[&str] = &[
    "able", "agile", "amber", "ample", "astute", "blithe", "bold", "brave", "breezy", "bright",
    "brisk", "calm", "candid", "cheery", "clever", "cosmic", "crisp", "curious", "daring", "deft",
    "dreamy", "eager", "earnest", "elated", "epic", "fervent", "festive", "fond", "frosty",
    "gentle", "gifted", "glad", "golden", "graceful", "happy", "hardy", "hopeful", "humble",
    "jolly", "jovial", "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry", "modest",
    "neat", "nimble", "noble", "patient", "placid", "plucky", "polite", "proud", "quick", "quiet",
    "quirky", "ready", "serene", "sharp", "silent", "sleepy", "snug", "sturdy", "sunny", "swift",
    "tender", "thirsty", "tidy", "trusting", "upbeat", "valiant", "vivid", "warm", "wise", "witty",
    "wry", "zealous",
];

const RIGHT: &[&str] = &[
    "abel",
    "ampere",
    "avogadro",
    "babbage",
    "banach",
    "bardeen",
    "bell",
    "bernoulli",
    "bohr",
    "boltzmann",
    "boole",
    "bose",
    "cantor",
    "carnot",
    "carson",
    "cerf",
    "chandrasekhar",
    "cori",
    "curie",
    "darwin",
    "dijkstra",
    "dirac",
    "edison",
    "einstein",
    "elion",
    "engelbart",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "franklin",
    "galileo",
    "galois",
    "gauss",
    "germain",
    "goodall",
    "hamilton",
    "haslett",
    "hawking",
    "heisenberg",
    "hermann",
    "hertz",
    "hilbert",
    "hodgkin",
    "hopper",
    "hypatia",
    "jackson",
    "jang",
    "kalam",
    "keller",
    "kepler",
    "kilby",
    "knuth",
    "kovalevskaya",
    "lamport",
    "leakey",
    "leavitt",
    "lichterman",
    "liskov",
    "lovelace",
    "mayer",
    "mccarthy",
    "mcclintock",
    "meitner",
    "mendel",
    "mirzakhani",
    "morse",
    "nash",
    "newton",
    "noether",
    "pascal",
    "pasteur",
    "planck",
    "ramanujan",
    "ride",
    "ritchie",
    "rosalind",
    "rubin",
    "shannon",
    "tesla",
    "thompson",
    "torvalds",
    "turing",
    "volta",
    "wiles",
    "wright",
    "wu",
    "yonath",
];

/// Returns a name; after some tries that were taken, with a digit behind.
pub(super) fn generate(tries: u32) -> String {
    let mut random = rand::rng();
    let pick = |words: &[&'static str], random: &mut rand::rngs::ThreadRng| {
        words.choose(random).copied().unwrap_or("plain")
    };
    let left = pick(LEFT, &mut random);
    let right = pick(RIGHT, &mut random);
    match tries {
        0..3 => format!("{left}_{right}"),
        _ => format!(
            "{left}_{right}{}",
            rand::random_range(0..10u32.pow(tries.min(8) - 2))
        ),
    }
}

/// Returns whether people may call a container that.
pub(crate) fn is_valid(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() >= 2
        && bytes[0].is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_are_valid_and_get_longer_when_taken() {
        for tries in 0..20 {
            assert!(is_valid(&generate(tries)));
        }
        assert!(generate(9).ends_with(|last: char| last.is_ascii_digit()));
    }

    #[test]
    fn names_with_other_characters_are_not_valid() {
        for name in ["", "a", "-a", "a b", "a/b", "é", "a\n"] {
            assert!(!is_valid(name), "{name:?}");
        }
        assert!(is_valid("web-1.example_x"));
    }
}
