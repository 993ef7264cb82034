//! When a container that has ended is started again.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

/// The first restart's delay; it doubles until [`LONGEST_DELAY`].
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// A run of this length was a success: the delay begins anew.
const SUCCESS: Duration = Duration::from_secs(10);

/// `--restart`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// Whatever its exit code, and at boot even if a person has stopped it.
    Always,
    /// Whatever its exit code, unless a person has stopped it.
    UnlessStopped,
    /// When it failed, at most so many times in a row; 0 is no bound.
    OnFailure(u32),
}

impl RestartPolicy {
    /// Returns Docker's name of it.
    pub fn name(self) -> &'static str {
        match self {
            RestartPolicy::No => "no",
            RestartPolicy::Always => "always",
            RestartPolicy::UnlessStopped => "unless-stopped",
            RestartPolicy::OnFailure(_) => "on-failure",
        }
    }

    /// Returns how many restarts in a row it allows; 0 is no bound.
    pub fn maximum(self) -> u32 {
        match self {
            RestartPolicy::OnFailure(maximum) => maximum,
            _ => 0,
        }
    }

    /// Returns whether a container that ended by itself with `code`, after `count` restarts, is started again.
    pub(crate) fn wants(self, code: i32, count: u32) -> bool {
        match self {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure(maximum) => code != 0 && (maximum == 0 || count < maximum),
        }
    }
}

impl FromStr for RestartPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<RestartPolicy, String> {
        let (name, maximum) = match text.split_once(':') {
            Some((name, maximum)) => (name, Some(maximum)),
            None => (text, None),
        };
        let maximum = match maximum.map(str::parse::<i64>) {
            None => None,
            Some(Ok(maximum)) => Some(maximum),
            Some(Err(_)) => {
                return Err(
                    "invalid restart policy format: maximum retry count must be an integer"
                        .to_owned(),
                );
            }
        };
        let policy = match name {
            "on-failure" => {
                let maximum = u32::try_from(maximum.unwrap_or(0)).map_err(|_| {
                    "invalid restart policy: maximum retry count cannot be negative".to_owned()
                })?;
                return Ok(RestartPolicy::OnFailure(maximum));
            }
            "" | "no" => RestartPolicy::No,
            "always" => RestartPolicy::Always,
            "unless-stopped" => RestartPolicy::UnlessStopped,
            other => {
                return Err(format!(
                    "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or \
                     'unless-stopped'"
                ));
            }
        };
        match maximum {
            None => Ok(policy),
            Some(_) => Err(
                "invalid restart policy: maximum retry count can only be used with 'on-failure'"
                    .to_owned(),
            ),
        }
    }
}

/// Returns how long to wait before the next start, after a run of length `ran` that began after `before`.
pub(crate) fn delay(before: Option<Duration>, ran: Duration) -> Duration {
    match before {
        Some(before) if ran < SUCCESS => (before * 2).min(LONGEST_DELAY),
        _ => FIRST_DELAY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_docker_reads_them() {
        for (text, policy) in [
            ("no", Ok(RestartPolicy::No)),
            ("always", Ok(RestartPolicy::Always)),
            ("unless-stopped", Ok(RestartPolicy::UnlessStopped)),
            ("on-failure", Ok(RestartPolicy::OnFailure(0))),
            ("on-failure:3", Ok(RestartPolicy::OnFailure(3))),
            ("on-failure:x", Err("must be an integer")),
            ("on-failure:-1", Err("cannot be negative")),
            ("always:2", Err("can only be used with 'on-failure'")),
            ("sometimes", Err("unknown policy 'sometimes'")),
        ] {
            match (text.parse::<RestartPolicy>(), policy) {
                (Ok(read), Ok(policy)) => assert_eq!(read, policy, "{text}"),
                (Err(words), Err(expected)) => assert!(words.contains(expected), "{words}"),
                (read, _) => panic!("{text}: {read:?}"),
            }
        }
    }

    #[test]
    fn only_failures_within_the_bound_are_retried() {
        assert!(!RestartPolicy::No.wants(1, 0));
        assert!(RestartPolicy::Always.wants(0, 1000));
        assert!(!RestartPolicy::OnFailure(0).wants(0, 0));
        assert!(RestartPolicy::OnFailure(0).wants(1, 1000));
        assert!(RestartPolicy::OnFailure(2).wants(1, 1));
        assert!(!RestartPolicy::OnFailure(2).wants(1, 2));
    }

    #[test]
    fn the_delay_doubles_up_to_a_minute_and_begins_anew_after_success() {
        let quick = Duration::from_secs(1);
        let mut waited = delay(None, quick);
        assert_eq!(waited, FIRST_DELAY);
        for _ in 0..20 {
            waited = delay(Some(waited), quick);
        }
        assert_eq!(waited, LONGEST_DELAY);
        assert_eq!(delay(Some(waited), SUCCESS), FIRST_DELAY);
    }
}
