//! A container's health checks, as its monitor runs them.

use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;

use crate::container::Config;
use crate::container::Health;
use crate::container::HealthResult;
use crate::container::HealthStatus;
use crate::container::Healthcheck;

/// How much of what a check says is kept, as Docker keeps it.
const LONGEST_OUTPUT: usize = 4096;

/// The exit code of a check that took too long.
const LATE: i32 = -1;

#[derive(Debug)]
pub(super) struct Prober {
    check: Healthcheck,
    /// What is executed.
    pub(super) command: Vec<String>,
    health: Health,
    began: Instant,
    next: Instant,
    running: Option<Probe>,
    file: PathBuf,
}

/// A check that runs.
#[derive(Debug)]
struct Probe {
    session: u32,
    start: Timestamp,
    deadline: Instant,
    output: Vec<u8>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// A check is to begin.
    Begin,
    /// The check of this session takes too long.
    Kill(u32),
    /// Nothing before this.
    At(Instant),
}

impl Prober {
    /// Returns the checks of a container that has just started, if it has any; results go to `file`.
    pub(super) fn new(config: &Config, file: PathBuf) -> Option<Prober> {
        let check = config.healthcheck.clone()?;
        let command = check.command()?;
        let began = Instant::now();
        let prober = Prober {
            next: began + check.pause(HealthStatus::Starting, Duration::ZERO),
            check,
            command,
            health: Health::default(),
            began,
            running: None,
            file,
        };
        prober.write();
        Some(prober)
    }

    pub(super) fn status(&self) -> HealthStatus {
        self.health.status
    }

    pub(super) fn due(&self) -> Due {
        let now = Instant::now();
        match &self.running {
            Some(probe) if now >= probe.deadline => Due::Kill(probe.session),
            Some(probe) => Due::At(probe.deadline),
            None if now >= self.next => Due::Begin,
            None => Due::At(self.next),
        }
    }

    /// Takes note that a check runs as this session.
    pub(super) fn began(&mut self, session: u32) {
        self.running = Some(Probe {
            session,
            start: Timestamp::now(),
            deadline: Instant::now() + self.check.timeout(),
            output: Vec::new(),
        });
    }

    /// Returns whether the session is the check that runs.
    pub(super) fn is_probe(&self, session: u32) -> bool {
        self.running
            .as_ref()
            .is_some_and(|probe| probe.session == session)
    }

    /// Keeps what the check says.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        if let Some(probe) = &mut self.running {
            let room = LONGEST_OUTPUT - probe.output.len();
            probe
                .output
                .extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    /// Takes note that the check took too long.
    pub(super) fn is_late(&mut self) {
        let words = format!(
            "Health check exceeded timeout ({})",
            seconds(self.check.timeout())
        );
        if let Some(probe) = &mut self.running {
            probe.output = words.into_bytes();
        }
        self.end(LATE);
    }

    /// Takes note of how the check ended.
    pub(super) fn end(&mut self, code: i32) {
        let Some(probe) = self.running.take() else {
            return;
        };
        let result = HealthResult {
            start: probe.start,
            end: Timestamp::now(),
            exit_code: code,
            output: String::from_utf8_lossy(&probe.output).into_owned(),
        };
        let ran = self.began.elapsed();
        self.health.count(&self.check, ran, result);
        self.next = Instant::now() + self.check.pause(self.health.status, ran);
        self.write();
    }

    /// Begins to wait anew, the container having been frozen.
    pub(super) fn put_off(&mut self) {
        self.next = Instant::now() + self.check.pause(self.health.status, self.began.elapsed());
    }

    /// Writes the results down for `inspect`.
    fn write(&self) {
        let temporary = self.file.with_extension("new");
        let written = serde_json::to_vec(&self.health)
            .map_err(std::io::Error::from)
            .and_then(|json| std::fs::write(&temporary, json))
            .and_then(|()| std::fs::rename(&temporary, &self.file));
        if let Err(error) = written {
            log::warn!("{}: {error}", self.file.display());
        }
    }
}

fn seconds(time: Duration) -> String {
    match time.as_millis() {
        whole if whole % 1000 == 0 => format!("{}s", whole / 1000),
        short if short < 1000 => format!("{short}ms"),
        other => format!("{}s", other as f64 / 1000.0),
    }
}
