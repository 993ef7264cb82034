//! Numbers as templates write and show them.

/// A number constant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    /// Without a point or exponent.
    Int(i128),
    /// With one.
    Float(f64),
}

impl Number {
    /// Reads a constant: `42`, `-3`, `0x1F`, `1_000`, `1.5`, `1e3`.
    pub(super) fn parse(text: &str) -> Option<Number> {
        let (sign, digits) = match text.as_bytes().first()? {
            b'-' => (-1, &text[1..]),
            b'+' => (1, &text[1..]),
            _ => (1, text),
        };
        if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
            return None;
        }
        let lower = digits.to_ascii_lowercase().replace('_', "");
        for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
            if let Some(digits) = lower.strip_prefix(prefix) {
                let value = i128::from_str_radix(digits, radix).ok()?;
                return Some(Number::Int(sign * value));
            }
        }
        if lower.contains(['.', 'e']) {
            let value: f64 = lower.parse().ok()?;
            return Some(Number::Float(value * sign as f64));
        }
        let radix = if lower.len() > 1 && lower.starts_with('0') {
            8
        } else {
            10
        };
        Some(Number::Int(
            sign * i128::from_str_radix(&lower, radix).ok()?,
        ))
    }
}

/// Writes a float as Go's `%v` does: the shortest digits, with an exponent below 1e-4 and from 1e+06 on.
pub(super) fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    match (-4..6).contains(&exponent) {
        true => format!("{value}"),
        false => format!("{digits}{}", go_exponent(exponent)),
    }
}

/// Writes an exponent with a sign and at least two digits.
pub(super) fn go_exponent(exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_read_as_go_reads_them() {
        for (text, number) in [
            ("42", Number::Int(42)),
            ("-3", Number::Int(-3)),
            ("0x1F", Number::Int(31)),
            ("010", Number::Int(8)),
            ("1_000", Number::Int(1000)),
            ("1.5", Number::Float(1.5)),
            (".5", Number::Float(0.5)),
            ("1e3", Number::Float(1000.0)),
        ] {
            assert_eq!(Number::parse(text), Some(number), "{text}");
        }
        for text in ["", "-", "3x", "0x", "1.2.3", "e", "3.x"] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }

    #[test]
    fn floats_are_written_as_go_writes_them() {
        for (value, text) in [
            (5.0, "5"),
            (2.5, "2.5"),
            (1e6, "1e+06"),
            (100_000.0, "100000"),
            (12_345_678.9, "1.23456789e+07"),
            (0.00001, "1e-05"),
            (0.0001, "0.0001"),
            (1e100, "1e+100"),
        ] {
            assert_eq!(float(value), text);
        }
    }
}
