//! Sizes for people, as Docker writes them.

/// Writes bytes in decimal units with three significant digits: `7.8MB`, `117MB`.
pub(crate) fn human_size(bytes: u64) -> String {
    with_digits(bytes, 3)
}

/// Writes bytes in decimal units with four significant digits: `2.048kB`; `cp`, `prune` and builds say it so.
pub(crate) fn precise_size(bytes: u64) -> String {
    with_digits(bytes, 4)
}

/// Returns a size in powers of 1024 with four significant digits: `1.324MiB`.
pub(crate) fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{}{}", significant(size, 4), UNITS[unit])
}

/// Writes a number as C's `%.<digits>g` does, where that takes no exponent.
fn significant(number: f64, digits: usize) -> String {
    let whole = match number {
        number if number >= 1000.0 => 4,
        number if number >= 100.0 => 3,
        number if number >= 10.0 => 2,
        _ => 1,
    };
    let decimals = digits.saturating_sub(whole);
    let mut text = format!("{number:.decimals$}");
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    text
}

const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// Divides by 1000 until it fits, then writes as C's `%.<digits>g`.
fn with_digits(bytes: u64, digits: usize) -> String {
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    let mut text = significant(size, digits);
    // Rounded up to four digits: `%.3g` has only three to say it with.
    if digits == 3 && text == "1000" {
        text = "1e+03".to_owned();
    }
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1024, "1.02kB"),
            (7_800_000, "7.8MB"),
            (1_982_863, "1.98MB"),
            (117_400_000, "117MB"),
            (55_700_000, "55.7MB"),
            (999_999, "1e+03kB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
    }

    #[test]
    fn binary_sizes_are_powers_of_1024() {
        for (bytes, text) in [
            (0, "0B"),
            (1536, "1.5KiB"),
            (1_388_314, "1.324MiB"),
            (25_233_000_000, "23.5GiB"),
            (1023, "1023B"),
        ] {
            assert_eq!(binary_size(bytes), text);
        }
    }

    #[test]
    fn precise_sizes_have_four() {
        for (bytes, text) in [
            (2048, "2.048kB"),
            (2560, "2.56kB"),
            (0, "0B"),
            (123_456, "123.5kB"),
        ] {
            assert_eq!(precise_size(bytes), text);
        }
    }
}
