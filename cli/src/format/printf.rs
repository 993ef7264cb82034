//! Go's `fmt`, as far as templates use it.

use super::data::Data;
use super::number::go_exponent;
use super::quote::quoted;

/// Writes the arguments one behind the other, with a space between two of which neither is text.
pub(super) fn print(args: &[Data]) -> String {
    let mut out = String::new();
    let is_text = |data: &Data| matches!(data, Data::Text(_));
    for (number, arg) in args.iter().enumerate() {
        if number > 0 && !is_text(arg) && !is_text(&args[number - 1]) {
            out.push(' ');
        }
        out.push_str(&arg.printed());
    }
    out
}

/// The widest field; a wider one is a mistake.
const WIDEST: usize = 1_000_000;

/// What stands between `%` and the verb.
#[derive(Debug, Default)]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Writes the arguments as `format` says.
pub(super) fn printf(format: &str, args: &[Data]) -> String {
    let mut out = String::new();
    let mut rest = format.chars().peekable();
    let mut next = 0;
    let mut reordered = false;
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(flag) = rest.next_if(|flag| "+-# 0".contains(*flag)) {
            match flag {
                '+' => flags.plus = true,
                '-' => flags.minus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                _ => flags.zero = true,
            }
        }
        let mut number = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>, next: &mut usize| {
            if rest.next_if_eq(&'[').is_some() {
                let digits: String = std::iter::from_fn(|| rest.next_if(|c| *c != ']')).collect();
                rest.next();
                *next = digits
                    .parse::<usize>()
                    .unwrap_or(usize::MAX)
                    .saturating_sub(1);
                reordered = true;
            }
            if rest.next_if_eq(&'*').is_some() {
                let value = match args.get(*next) {
                    Some(Data::Int(value)) => usize::try_from(*value).ok(),
                    _ => None,
                };
                *next += 1;
                return value;
            }
            let digits: String =
                std::iter::from_fn(|| rest.next_if(char::is_ascii_digit)).collect();
            digits.parse().ok()
        };
        flags.width = number(&mut rest, &mut next).map(|width| width.min(WIDEST));
        if rest.next_if_eq(&'.').is_some() {
            let precision = number(&mut rest, &mut next).unwrap_or(0);
            flags.precision = Some(precision.min(WIDEST));
        }
        if rest.peek() == Some(&'[') {
            number(&mut rest, &mut next);
        }
        let Some(verb) = rest.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        match args.get(next) {
            None if reordered => out.push_str(&format!("%!{verb}(BADINDEX)")),
            None => out.push_str(&format!("%!{verb}(MISSING)")),
            Some(arg) => out.push_str(&one(verb, &flags, arg)),
        }
        next += 1;
    }
    if next < args.len() && !reordered {
        let extra: Vec<String> = args[next..].iter().map(described).collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

/// Writes `type=value`, the way `fmt` complains.
fn described(data: &Data) -> String {
    match data {
        Data::Missing | Data::Nil(_) => "<nil>".to_owned(),
        other => format!("{}={}", other.type_name(), other.printed()),
    }
}

fn one(verb: char, flags: &Flags, arg: &Data) -> String {
    if let (Data::List(list), 's' | 'd' | 'q' | 'x' | 'X') = (arg, verb) {
        let parts: Vec<String> = list.iter().map(|arg| one(verb, flags, arg)).collect();
        return format!("[{}]", parts.join(" "));
    }
    let text = match (verb, arg) {
        ('T', _) => return fit(arg.type_name().to_owned(), flags),
        ('v', Data::Text(text)) if flags.sharp => quoted(text),
        ('v' | 's', Data::Text(text)) => cut(text, flags.precision),
        ('v' | 'd', Data::Int(value)) => return integer(*value, 10, false, flags),
        ('v' | 'g' | 'G', Data::Float(value)) => match flags.precision {
            Some(precision) => general(*value, precision.max(1)),
            None => super::number::float(*value),
        },
        ('v', _) | ('t', Data::Bool(_)) => arg.printed(),
        ('q', Data::Text(text)) => quoted(&cut(text, flags.precision)),
        ('q', Data::Int(value)) => format!("{:?}", character(*value)),
        ('x', Data::Text(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('X', Data::Text(text)) => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
        ('x' | 'X', Data::Int(value)) => return integer(*value, 16, verb == 'X', flags),
        ('o', Data::Int(value)) => return integer(*value, 8, false, flags),
        ('b', Data::Int(value)) => return integer(*value, 2, false, flags),
        ('c', Data::Int(value)) => character(*value).to_string(),
        ('U', Data::Int(value)) => format!("U+{value:04X}"),
        ('f' | 'F', Data::Float(value)) => {
            let precision = flags.precision.unwrap_or(6);
            return signed(format!("{:.precision$}", value.abs()), *value < 0.0, flags);
        }
        ('e' | 'E', Data::Float(value)) => {
            let text = exponential(value.abs(), flags.precision.unwrap_or(6));
            let text = if verb == 'E' {
                text.to_uppercase()
            } else {
                text
            };
            return signed(text, *value < 0.0, flags);
        }
        _ => return format!("%!{verb}({})", described(arg)),
    };
    fit(text, flags)
}

fn cut(text: &str, precision: Option<usize>) -> String {
    match precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text.to_owned(),
    }
}

fn character(value: i128) -> char {
    let code = u32::try_from(value).ok();
    code.and_then(char::from_u32).unwrap_or('\u{fffd}')
}

fn integer(value: i128, radix: u32, upper: bool, flags: &Flags) -> String {
    let mut left = value.unsigned_abs();
    let mut digits = Vec::new();
    while left > 0 || digits.is_empty() {
        let digit = (left % u128::from(radix)) as u32;
        digits.push(char::from_digit(digit, radix).unwrap_or('0'));
        left /= u128::from(radix);
    }
    while digits.len() < flags.precision.unwrap_or(0) {
        digits.push('0');
    }
    let mut text: String = digits.iter().rev().collect();
    if upper {
        text = text.to_uppercase();
    }
    if flags.sharp {
        let prefix = match radix {
            16 if upper => "0X",
            16 => "0x",
            8 => "0",
            2 => "0b",
            _ => "",
        };
        text.insert_str(0, prefix);
    }
    signed(text, value < 0, flags)
}

/// Puts the sign before a number and zeros between, if they are asked for.
fn signed(text: String, negative: bool, flags: &Flags) -> String {
    let sign = match (negative, flags.plus, flags.space) {
        (true, _, _) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    };
    let width = flags.width.unwrap_or(0);
    if flags.zero && !flags.minus {
        let zeros = width.saturating_sub(sign.len() + text.chars().count());
        return format!("{sign}{}{text}", "0".repeat(zeros));
    }
    fit(format!("{sign}{text}"), flags)
}

fn fit(text: String, flags: &Flags) -> String {
    let spaces = flags
        .width
        .unwrap_or(0)
        .saturating_sub(text.chars().count());
    match flags.minus {
        true => format!("{text}{}", " ".repeat(spaces)),
        false => format!("{}{text}", " ".repeat(spaces)),
    }
}

fn exponential(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            format!("{digits}{}", go_exponent(exponent.parse().unwrap_or(0)))
        }
        None => text,
    }
}

/// Writes with so many digits in all, with an exponent where that is shorter.
fn general(value: f64, digits: usize) -> String {
    let scientific = exponential(value, digits - 1);
    let exponent = scientific
        .split_once('e')
        .and_then(|(_, exponent)| exponent.parse::<i32>().ok());
    let exponent = exponent.unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || exponent >= digits as i32 {
        let (mantissa, tail) = scientific.split_once('e').unwrap_or((&scientific, ""));
        return format!("{}e{tail}", trim(mantissa));
    }
    let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
    trim(&format!("{value:.decimals$}"))
}
