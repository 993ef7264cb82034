//! Times for people, as Docker writes them.

use jiff::Timestamp;

/// Writes how long ago something was: `About an hour ago`; `N/A` if nobody knows.
pub(crate) fn age(at: Option<Timestamp>) -> String {
    match at {
        Some(at) => format!("{} ago", since(at)),
        None => "N/A".to_owned(),
    }
}

/// Writes the time from `at` until now: `5 minutes`.
pub(crate) fn since(at: Timestamp) -> String {
    human_duration(Timestamp::now().as_second() - at.as_second())
}

/// Writes a number of seconds in the largest unit that says something: `3 days`, `About a minute`.
pub(crate) fn human_duration(seconds: i64) -> String {
    let hours = (seconds as f64 / 3600.0).round() as i64;
    match seconds {
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
    }
}

/// Writes the time as `docker ps --no-trunc` and templates show it: `2024-05-01 12:00:00 +0000 UTC`.
pub(crate) fn written_out(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_docker_says_them() {
        const HOUR: i64 = 3600;
        const DAY: i64 = 24 * HOUR;
        for (seconds, words) in [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (59 * 60, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1799, "About an hour"),
            (HOUR + 1800, "2 hours"),
            (47 * HOUR, "47 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
        ] {
            assert_eq!(human_duration(seconds), words, "{seconds}");
        }
    }

    #[test]
    fn an_unknown_time_has_no_age() {
        assert_eq!(age(None), "N/A");
        assert_eq!(age(Some(Timestamp::now())), "Less than a second ago");
    }
}
