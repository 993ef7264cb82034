//! Signals, stopping, waiting, new names.

use std::time::Duration;
use std::time::Instant;

use super::Container;
use super::ContainerError;
use super::ContainerId;
use super::RestartPolicy;
use super::StartOptions;
use super::Status;
use super::names;
use super::rows;
use crate::Engine;
use crate::cgroup::Resources;
use crate::frame;
use crate::frame::Kind;
use crate::frame::Request;

/// How many seconds `stop` waits before it kills.
const GRACE: i64 = 10;

/// Returns a signal's number by its number or its name, with or without `SIG`, in any case.
pub fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = bare.strip_prefix("RTMIN+") {
        return offset
            .parse::<i32>()
            .ok()
            .map(|n| 34 + n)
            .filter(|n| *n <= 64);
    }
    if let Some(offset) = bare.strip_prefix("RTMAX-") {
        return offset
            .parse::<i32>()
            .ok()
            .map(|n| 64 - n)
            .filter(|n| *n >= 34);
    }
    match bare {
        "RTMIN" => return Some(34),
        "RTMAX" => return Some(64),
        "CLD" => return Some(libc::SIGCHLD),
        "POLL" => return Some(libc::SIGIO),
        _ => {}
    }
    format!("SIG{bare}")
        .parse::<nix::sys::signal::Signal>()
        .ok()
        .map(|signal| signal as i32)
}

impl Engine {
    /// Sends a signal to a running container's first process.
    pub fn kill_container(&self, name: &str, signal: &str) -> Result<(), ContainerError> {
        let number = signal_number(signal)
            .ok_or_else(|| ContainerError::Invalid(format!("Invalid signal: {signal}")))?;
        let container = self.container(name)?;
        let refused = || ContainerError::CannotKill {
            name: name.to_owned(),
            id: container.id.clone(),
        };
        if !container.state.status.is_alive() {
            return Err(refused());
        }
        let request = match container.config.is_ended_by(number) {
            true => Request::Stop(number),
            false => Request::Signal(number),
        };
        let sent = self.request_done(&container.id, &request);
        if sent.is_ok() {
            self.emit_of(&container, "kill", &[("signal", number.to_string())]);
        }
        match sent {
            Err(ContainerError::NotRunning(_)) => Err(refused()),
            Ok(()) if number == libc::SIGKILL => self.wait_for_end(&container.id, None).map(|_| ()),
            sent => sent,
        }
    }

    /// Asks a container to end and kills it if it has not after `timeout` seconds (-1: never); one that does not run is
    /// stopped already.
    pub fn stop_container(
        &self,
        name: &str,
        signal: Option<&str>,
        timeout: Option<i64>,
    ) -> Result<(), ContainerError> {
        let container = self.container(name)?;
        if !container.state.status.is_alive() {
            rows::set_stopped(&self.db(), &container.id)?;
            return Ok(());
        }
        let signal = signal
            .or(container.config.stop_signal.as_deref())
            .unwrap_or("SIGTERM");
        let number = signal_number(signal)
            .ok_or_else(|| ContainerError::Invalid(format!("Invalid signal: {signal}")))?;
        let timeout = timeout.or(container.config.stop_timeout).unwrap_or(GRACE);
        let patience = u64::try_from(timeout).ok().map(Duration::from_secs);
        let ended = |sent| match sent {
            Err(ContainerError::NotRunning(_)) => Ok(()),
            sent => sent,
        };
        let stop = |number: i32| {
            self.emit_of(&container, "kill", &[("signal", number.to_string())]);
            ended(self.request_done(&container.id, &Request::Stop(number)))
        };
        stop(number)?;
        if !self.wait_for_end(&container.id, patience)? {
            stop(libc::SIGKILL)?;
            self.wait_for_end(&container.id, None)?;
        }
        // Had its monitor been killed meanwhile, its policy would have started it again.
        while self.is_alive(&container.id) {
            stop(libc::SIGKILL)?;
            self.wait_for_end(&container.id, None)?;
            self.wait_for_death(&container.id);
        }
        self.emit_of(&container, "stop", &[]);
        Ok(())
    }

    /// Stops a container and starts it again.
    pub fn restart_container(
        &self,
        name: &str,
        signal: Option<&str>,
        timeout: Option<i64>,
    ) -> Result<(), ContainerError> {
        let container = self.container(name)?;
        // From its end to its start it is in nobody else's hands: one of `--rm` would be erased.
        let busy = self.keep_busy(&container.id)?;
        if container.config.auto_remove && container.state.status.is_alive() {
            match self.request_done(&container.id, &Request::Keep) {
                Err(ContainerError::NotRunning(_)) => {}
                kept => kept?,
            }
        }
        self.stop_container(container.id.as_str(), signal, timeout)?;
        self.start_busy(name, &container.id, busy, &StartOptions::default())?;
        self.emit_of(&self.container(container.id.as_str())?, "restart", &[]);
        Ok(())
    }

    /// Freezes a running container's processes where they are.
    pub fn pause_container(&self, name: &str) -> Result<(), ContainerError> {
        let container = self.container(name)?;
        match container.state.status {
            Status::Running => self.request_done(&container.id, &Request::Pause),
            Status::Paused => Err(ContainerError::AlreadyPaused(container.id)),
            Status::Restarting => Err(ContainerError::Restarting(container.id)),
            _ => Err(ContainerError::NotRunning(container.id)),
        }
    }

    /// Lets a frozen container's processes go on.
    pub fn unpause_container(&self, name: &str) -> Result<(), ContainerError> {
        let container = self.container(name)?;
        match container.state.status {
            Status::Paused => self.request_done(&container.id, &Request::Unpause),
            _ => Err(ContainerError::NotPaused(container.id)),
        }
    }

    /// Sets the size of a running container's terminal.
    pub fn resize_container(
        &self,
        name: &str,
        rows: u16,
        columns: u16,
    ) -> Result<(), ContainerError> {
        let container = self.container(name)?;
        self.request_done(&container.id, &Request::Resize(rows, columns))
    }

    /// Sets new limits, and a new restart policy if there is one, at once if the container runs.
    pub fn update_container(
        &self,
        name: &str,
        resources: &Resources,
        restart: Option<RestartPolicy>,
    ) -> Result<(), ContainerError> {
        let container = self.container(name)?;
        let mut config = container.config.clone();
        config.resources = config.resources.with(resources);
        super::create::check_resources(&config.resources)?;
        if let Some(restart) = restart {
            if config.auto_remove && restart != RestartPolicy::No {
                return Err(ContainerError::Invalid(
                    "Restart policy cannot be updated because AutoRemove is enabled for the container"
                        .to_owned(),
                ));
            }
            config.restart = restart;
        }
        if container.state.status.is_alive() {
            let request = Request::Update(Box::new(config.resources.clone()), restart);
            match self.request_done(&container.id, &request) {
                Ok(()) | Err(ContainerError::NotRunning(_)) => {}
                Err(error) => {
                    return Err(ContainerError::Invalid(format!(
                        "Cannot update container {}: {error}",
                        container.id
                    )));
                }
            }
        }
        rows::set_config(&self.db(), &container.id, &config)?;
        self.emit_of(&container, "update", &[]);
        Ok(())
    }

    /// Waits until a container does not run; returns its exit code.
    pub fn wait_container(&self, name: &str) -> Result<i32, ContainerError> {
        let container = self.container(name)?;
        let id = container.id;
        let mut state = container.state;
        while state.status.is_alive() {
            match self.ask(&id, &Request::Wait) {
                Ok(stream) => {
                    // Else its monitor was killed: burying it tells the code, or starts the container again.
                    if let Some((Kind::Exit, code)) =
                        frame::read(&stream).map_err(ContainerError::Monitor)?
                    {
                        return frame::number(&code).map_err(ContainerError::Monitor);
                    }
                }
                Err(ContainerError::NotRunning(_)) => self.wait_for_death(&id),
                Err(error) => return Err(error),
            }
            state = match self.container(id.as_str()) {
                Ok(container) => container.state,
                // Removed with its end, which nobody has seen.
                Err(ContainerError::NoSuchContainer(_)) => return Ok(137),
                Err(error) => return Err(error),
            };
        }
        Ok(state.exit_code)
    }

    /// Waits until a monitor that no longer listens has recorded its container's end and is gone, which takes it
    /// milliseconds, or until another one listens in its place.
    fn wait_for_death(&self, id: &ContainerId) {
        while self.is_alive(id) && self.ask(id, &Request::Wait).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until the container's monitor has let go of it; returns whether it has in time.
    fn wait_for_end(
        &self,
        id: &ContainerId,
        patience: Option<Duration>,
    ) -> Result<bool, ContainerError> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        let stream = match self.ask(id, &Request::Wait) {
            Err(ContainerError::NotRunning(_)) => {
                self.wait_for_death(id);
                self.bury_the_dead()?;
                return Ok(true);
            }
            stream => stream?,
        };
        let left = deadline.map(|deadline| {
            // Zero would wait for ever.
            deadline
                .saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1))
        });
        stream
            .set_read_timeout(left)
            .map_err(ContainerError::Monitor)?;
        match frame::read(&stream) {
            Ok(_) => {
                self.bury_the_dead()?;
                Ok(true)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(ContainerError::Monitor(error)),
        }
    }

    /// Asks the monitor for something that has no answer but that it is done.
    pub(crate) fn request_done(
        &self,
        id: &ContainerId,
        request: &Request,
    ) -> Result<(), ContainerError> {
        let stream = self.ask(id, request)?;
        match frame::read(&stream).map_err(ContainerError::Monitor)? {
            Some((Kind::Done, _)) => Ok(()),
            Some((Kind::Failed, words)) => {
                let words =
                    String::from_utf8_lossy(words.get(1..).unwrap_or_default()).into_owned();
                Err(ContainerError::Invalid(words))
            }
            _ => Err(ContainerError::NotRunning(id.clone())),
        }
    }

    /// Gives a container another name.
    pub fn rename_container(&self, name: &str, to: &str) -> Result<(), ContainerError> {
        let container = self.container(name)?;
        let to = to.strip_prefix('/').unwrap_or(to);
        if !names::is_valid(to) {
            return Err(ContainerError::Invalid(format!(
                "Invalid container name ({to}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )));
        }
        if container.name == to {
            return Err(ContainerError::Invalid(
                "Renaming a container with the same name as its current name".to_owned(),
            ));
        }
        let mut db = self.db();
        match rows::rename(&mut db, &container.id, &container.name, to) {
            Ok(()) => {
                drop(db);
                // What does not run hears nothing.
                let _ = self.request_done(&container.id, &Request::Rename(to.to_owned()));
                let old = [("oldName", format!("/{}", container.name))];
                self.emit_container("rename", &container.id, to, &container.config, &old);
                Ok(())
            }
            Err(error) => match rows::by_name(&db, to)? {
                Some(Container { id, .. }) => {
                    let conflict = ContainerError::NameInUse {
                        name: to.to_owned(),
                        by: id,
                    };
                    Err(ContainerError::Rename(Box::new(conflict)))
                }
                None => Err(error.into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (name, number) in [
            ("9", Some(9)),
            ("KILL", Some(9)),
            ("sigterm", Some(15)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("0", None),
            ("65", None),
            ("NOSUCH", None),
            ("", None),
        ] {
            assert_eq!(signal_number(name), number, "{name}");
        }
    }
}
