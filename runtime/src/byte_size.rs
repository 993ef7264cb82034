//! Sizes as people write them.

/// Reads a size as Docker does: a number with `b`, `k`, `m`, `g`, `t` or `p`, powers of 1024.
pub fn parse(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower
        .strip_suffix("ib")
        .or(lower.strip_suffix('b'))
        .unwrap_or(&lower);
    const POWERS: [char; 5] = ['k', 'm', 'g', 't', 'p'];
    let power = POWERS.iter().position(|unit| lower.ends_with(*unit));
    let digits = match power {
        Some(_) => &lower[..lower.len() - 1],
        None => lower,
    };
    let number: f64 = digits.trim().parse().ok()?;
    let scale = power.map_or(1.0, |power| 1024f64.powi(power as i32 + 1));
    (number.is_finite() && number >= 0.0).then_some((number * scale) as u64)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, size) in [
            ("0", Some(0)),
            ("64", Some(64)),
            ("64b", Some(64)),
            ("1k", Some(1024)),
            ("1.5KiB", Some(1536)),
            (" 64MB ", Some(64 << 20)),
            ("2g", Some(2 << 30)),
            ("1p", Some(1 << 50)),
            ("", None),
            ("x", None),
            ("-1", None),
            ("1x", None),
            ("inf", None),
            ("k", None),
        ] {
            assert_eq!(parse(text), size, "{text:?}");
        }
    }
}
