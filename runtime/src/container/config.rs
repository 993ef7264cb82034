//! What a container is made of, as its row keeps it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::cgroup::Resources;
use crate::sandbox::Limit;
use crate::sandbox::Mount;
use crate::sandbox::Network;

use super::Healthcheck;
use super::RestartPolicy;

/// A container's configuration: Docker's `Config` and `HostConfig`, with the image's share resolved.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The image as it was called.
    pub image: String,
    /// The image's id, `sha256:...`.
    pub image_id: String,
    /// The diff IDs of its layers, lowest first.
    pub layers: Vec<String>,
    /// The name of the container's host.
    pub hostname: String,
    /// Its NIS domain.
    pub domainname: String,
    /// Who the command runs as: `user[:group]`, names or numbers.
    pub user: String,
    /// The image's environment and what was set over it.
    pub env: Vec<String>,
    /// What the command is passed to.
    pub entrypoint: Option<Vec<String>>,
    /// The command.
    pub command: Vec<String>,
    /// Where it starts.
    pub working_dir: String,
    /// Labels, the image's and its own.
    pub labels: BTreeMap<String, String>,
    /// Whether its streams are a terminal.
    pub tty: bool,
    /// Whether its standard input is kept open.
    pub open_stdin: bool,
    /// Whether its standard input ends with its first client.
    pub stdin_once: bool,
    /// Which streams `start -a` attaches: input, output, error.
    pub attach: [bool; 3],
    /// What `stop` sends.
    pub stop_signal: Option<String>,
    /// How many seconds `stop` waits; -1 for ever.
    pub stop_timeout: Option<i64>,
    /// What is mounted.
    pub mounts: Vec<Mount>,
    /// `--volume`'s arguments as they were given.
    pub binds: Vec<String>,
    /// Whether the root is read-only.
    pub read_only: bool,
    /// The network, and what it was called.
    pub network: Network,
    /// `default`, `none` or `host`.
    pub network_mode: String,
    /// Whether a reaper is pid 1.
    pub init: bool,
    /// Whether its end is its removal.
    pub auto_remove: bool,
    /// Whether it has no walls but the namespaces.
    pub privileged: bool,
    /// Capabilities beyond the defaults.
    pub cap_add: Vec<String>,
    /// Defaults it lacks.
    pub cap_drop: Vec<String>,
    /// `--security-opt` as given.
    pub security_opt: Vec<String>,
    /// Limits.
    pub resources: Resources,
    /// Limits of each process.
    pub ulimits: Vec<Limit>,
    /// Bytes of /dev/shm.
    pub shm_size: u64,
    /// Groups beyond the user's.
    pub group_add: Vec<String>,
    /// `name:address` for /etc/hosts.
    pub extra_hosts: Vec<String>,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// How its health is checked.
    pub healthcheck: Option<Healthcheck>,
}

impl Config {
    /// Returns the command line: the entrypoint and the command.
    pub fn arguments(&self) -> Vec<String> {
        let entrypoint = self.entrypoint.iter().flatten();
        entrypoint.chain(&self.command).cloned().collect()
    }

    /// Returns whether a person who sends the signal wants the container to end, so that no policy starts it again.
    pub(crate) fn is_ended_by(&self, signal: i32) -> bool {
        let own = self.stop_signal.as_deref();
        matches!(
            signal,
            libc::SIGKILL | libc::SIGTERM | libc::SIGINT | libc::SIGQUIT
        ) || own.and_then(super::signal_number) == Some(signal)
    }

    /// Returns whether the seccomp profile is switched off.
    pub(crate) fn is_unconfined(&self) -> bool {
        self.privileged
            || self.security_opt.iter().any(|option| {
                matches!(option.as_str(), "seccomp=unconfined" | "seccomp:unconfined")
            })
    }

    /// Returns whether no program may gain privileges by being executed.
    pub(crate) fn no_new_privileges(&self) -> bool {
        self.security_opt.iter().any(|option| {
            matches!(
                option.as_str(),
                "no-new-privileges" | "no-new-privileges=true" | "no-new-privileges:true"
            )
        })
    }
}

/// Puts `over` on `base`: the same name is replaced where it stands, a new one comes last.
pub(crate) fn merge_env(base: &[String], over: &[String]) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut merged = base.to_vec();
    for entry in over {
        match merged.iter_mut().find(|there| name(there) == name(entry)) {
            Some(there) => there.clone_from(entry),
            None => merged.push(entry.clone()),
        }
    }
    merged.retain(|entry| entry.contains('='));
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|entry| (*entry).to_owned()).collect()
    }

    #[test]
    fn a_variable_set_again_keeps_its_place_and_one_without_value_goes() {
        let merged = merge_env(&owned(&["A=1", "B=2"]), &owned(&["A=3", "C=4", "B"]));
        assert_eq!(merged, owned(&["A=3", "C=4"]));
    }
}
