//! Points in time as people and clients write them.

use jiff::Timestamp;

use crate::command_error::CommandError;

/// Reads a time: seconds since the epoch, RFC 3339, a date, or how long ago (`1h30m`).
pub(crate) fn moment(text: &str) -> Result<Timestamp, CommandError> {
    let invalid = || CommandError::failed(format_args!("invalid value for time: {text:?}"));
    if let Ok(seconds) = text.parse::<f64>() {
        return Timestamp::from_nanosecond((seconds * 1e9) as i128).map_err(|_| invalid());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(time) = text.parse::<jiff::civil::DateTime>() {
        let zoned = time
            .to_zoned(jiff::tz::TimeZone::UTC)
            .map_err(|_| invalid())?;
        return Ok(zoned.timestamp());
    }
    let span: jiff::SignedDuration = text.parse().map_err(|_| invalid())?;
    Timestamp::now().checked_sub(span).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form() {
        let at = |text| moment(text).expect("a time").as_second();
        assert_eq!(at("1700000000"), 1_700_000_000);
        assert_eq!(at("2023-11-14T22:13:20Z"), 1_700_000_000);
        assert_eq!(at("2023-11-14T22:13:20"), 1_700_000_000);
        assert!((Timestamp::now().as_second() - at("1h30m") - 5400).abs() < 5);
        assert!(moment("yesterday").is_err());
    }
}
