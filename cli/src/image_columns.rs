//! Columns, sizes and ages as Docker's lists of images have them.

use jiff::Timestamp;

/// Lays rows out as Go's tabwriter does for Docker: columns of at least 10, three spaces between.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.chars().count()).max();
            (widest.unwrap_or(0) + 3).max(10)
        })
        .collect();
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if column + 1 < row.len() {
                let padding = widths[column] - cell.chars().count();
                out.extend(std::iter::repeat_n(' ', padding));
            }
        }
        out.push('\n');
    }
    out
}

/// Writes bytes in decimal units with three digits: `1.98MB`.
pub(crate) fn human_size(bytes: u64) -> String {
    let mut size = bytes as f64;
    let mut unit = 0;
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    let decimals = match size {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let mut digits = format!("{size:.decimals$}");
    if digits.contains('.') {
        digits.truncate(digits.trim_end_matches('0').trim_end_matches('.').len());
    }
    match digits.as_str() {
        // Three digits of 999.6 are 1e+03 in Go.
        "1000" => format!("1e+03{}", UNITS[unit]),
        digits => format!("{digits}{}", UNITS[unit]),
    }
}

/// Writes how long ago something was: `About an hour ago`.
pub(crate) fn age(at: Option<Timestamp>) -> String {
    let Some(at) = at else {
        return "N/A".to_owned();
    };
    let seconds = Timestamp::now().as_second() - at.as_second();
    let hours = (seconds + 1800) / 3600;
    let words = match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{} minutes", seconds / 60),
        _ => match hours {
            ..=1 => "About an hour".to_owned(),
            2..48 => format!("{hours} hours"),
            48..336 => format!("{} days", hours / 24),
            336..1440 => format!("{} weeks", hours / 24 / 7),
            1440..17520 => format!("{} months", hours / 24 / 30),
            _ => format!("{} years", seconds / 3600 / 24 / 365),
        },
    };
    format!("{words} ago")
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
            (1_982_863, "1.98MB"),
            (117_400_000, "117MB"),
            (55_700_000, "55.7MB"),
            (999_999, "1e+03kB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
    }

    #[test]
    fn columns_are_as_wide_as_gos() {
        let rows = [
            vec!["TAG".into(), "ID".into()],
            vec!["a-long-tag".into(), "1".into()],
        ];
        assert_eq!(columns(&rows), "TAG          ID\na-long-tag   1\n");
    }
}
