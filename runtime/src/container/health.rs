//! Health checks: what is asked for, and what they have found.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// How many results are kept.
const KEPT: usize = 5;

/// A health check as an image or flags define it: Docker's `Healthcheck`, times in nanoseconds, zero for the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `NONE`, or `CMD` and arguments, or `CMD-SHELL` and a command line; empty is the image's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between the end of a check and the next one; 30 seconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: u64,
    /// How long a check may take; 30 seconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: u64,
    /// How long failures of a container that has just started do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: u64,
    /// The interval in that time; 5 seconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: u64,
    /// How many failures in a row make it unhealthy; 3.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: u64,
}

/// Reads a length of time as Go writes it (`1m30s`, `500ms`, `0`); returns nanoseconds.
pub fn nanoseconds(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let duration: jiff::SignedDuration = text.parse().ok()?;
    u64::try_from(duration.as_nanos()).ok()
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Healthcheck {
    /// Returns what there is of `over` put over this one, the image's.
    pub(crate) fn with(&self, over: &Healthcheck) -> Healthcheck {
        let pick = |over: u64, own: u64| if over == 0 { own } else { over };
        Healthcheck {
            test: match over.test.is_empty() {
                true => self.test.clone(),
                false => over.test.clone(),
            },
            interval: pick(over.interval, self.interval),
            timeout: pick(over.timeout, self.timeout),
            start_period: pick(over.start_period, self.start_period),
            start_interval: pick(over.start_interval, self.start_interval),
            retries: pick(over.retries, self.retries),
        }
    }

    /// Returns the command to execute; `None` is no check.
    pub(crate) fn command(&self) -> Option<Vec<String>> {
        match self.test.split_first()? {
            (form, rest) if form == "CMD" && !rest.is_empty() => Some(rest.to_vec()),
            (form, [line, ..]) if form == "CMD-SHELL" => {
                Some(["/bin/sh", "-c", line].map(str::to_owned).to_vec())
            }
            _ => None,
        }
    }

    pub(crate) fn timeout(&self) -> Duration {
        or(self.timeout, 30)
    }

    pub(crate) fn start_period(&self) -> Duration {
        or(self.start_period, 0)
    }

    /// Returns how long to wait for the next check of a container that has run so long and is of that health.
    pub(crate) fn pause(&self, status: HealthStatus, ran: Duration) -> Duration {
        match status == HealthStatus::Starting && ran < self.start_period() {
            true => or(self.start_interval, 5),
            false => or(self.interval, 30),
        }
    }

    fn retries(&self) -> u32 {
        match self.retries {
            0 => 3,
            retries => u32::try_from(retries).unwrap_or(u32::MAX),
        }
    }
}

fn or(nanoseconds: u64, seconds: u64) -> Duration {
    match nanoseconds {
        0 => Duration::from_secs(seconds),
        nanoseconds => Duration::from_nanos(nanoseconds),
    }
}

/// What the checks have found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Nothing yet.
    #[default]
    Starting,
    /// The last one succeeded.
    Healthy,
    /// Too many failed.
    Unhealthy,
}

impl HealthStatus {
    /// Returns Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        }
    }
}

/// How one check went: an entry of Docker's `Health.Log`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthResult {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// 0 is healthy; -1 took too long.
    pub exit_code: i32,
    /// What it said.
    pub output: String,
}

/// A container's health: Docker's `State.Health`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// What they come to.
    pub status: HealthStatus,
    /// How many failed in a row.
    pub failing_streak: u32,
    /// The last ones.
    pub log: VecDeque<HealthResult>,
}

impl Health {
    /// Counts a result of a container that has run so long.
    pub(crate) fn count(&mut self, check: &Healthcheck, ran: Duration, result: HealthResult) {
        let is_starting = self.status == HealthStatus::Starting && ran < check.start_period();
        match result.exit_code {
            0 => {
                self.failing_streak = 0;
                self.status = HealthStatus::Healthy;
            }
            _ if is_starting => {}
            _ => {
                self.failing_streak += 1;
                if self.failing_streak >= check.retries() {
                    self.status = HealthStatus::Unhealthy;
                }
            }
        }
        self.log.push_back(result);
        while self.log.len() > KEPT {
            self.log.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(exit_code: i32) -> HealthResult {
        HealthResult {
            start: Timestamp::UNIX_EPOCH,
            end: Timestamp::UNIX_EPOCH,
            exit_code,
            output: String::new(),
        }
    }

    #[test]
    fn failures_count_after_the_start_period_and_one_success_ends_them() {
        let check = Healthcheck {
            retries: 2,
            start_period: 10_000_000_000,
            ..Healthcheck::default()
        };
        let mut health = Health::default();
        let (early, late) = (Duration::from_secs(1), Duration::from_secs(11));
        health.count(&check, early, result(1));
        assert_eq!(health.failing_streak, 0);
        health.count(&check, late, result(1));
        assert_eq!(health.status, HealthStatus::Starting);
        health.count(&check, late, result(-1));
        assert_eq!(health.status, HealthStatus::Unhealthy);
        health.count(&check, late, result(0));
        assert_eq!(
            (health.status, health.failing_streak),
            (HealthStatus::Healthy, 0)
        );
        // Once it was healthy, failures count in the start period too.
        health.count(&check, early, result(1));
        assert_eq!(health.failing_streak, 1);
        for _ in 0..10 {
            health.count(&check, late, result(0));
        }
        assert_eq!(health.log.len(), KEPT);
    }

    #[test]
    fn flags_are_put_over_the_image_s_check() {
        let image = Healthcheck {
            test: vec!["CMD-SHELL".into(), "true".into()],
            interval: 1,
            ..Healthcheck::default()
        };
        let over = Healthcheck {
            interval: 2,
            retries: 7,
            ..Healthcheck::default()
        };
        let both = image.with(&over);
        assert_eq!((both.interval, both.retries), (2, 7));
        let command = both.command().expect("a command");
        assert_eq!(command, ["/bin/sh", "-c", "true"]);
        let none = Healthcheck {
            test: vec!["NONE".into()],
            ..Healthcheck::default()
        };
        assert_eq!(image.with(&none).command(), None);
    }
}
