//! What a container is made of, as its row keeps it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::cgroup::Resources;
use crate::network::Attachment;
use crate::network::Publish;
use crate::network::port::Port;
use crate::sandbox::Limit;
use crate::sandbox::Mount;
use crate::sandbox::MountSource;
use crate::sandbox::VolumeMount;

use super::Healthcheck;
use super::MountSpec;
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
    /// `--volume`'s arguments as they were given, but for those without a source.
    pub binds: Vec<String>,
    /// The places of volumes that nobody has named: the image's and those without a source.
    pub volumes: Vec<String>,
    /// `--volumes-from` as given.
    pub volumes_from: Vec<String>,
    /// The driver of the volumes that `binds` made.
    pub volume_driver: String,
    /// `--mount` as given.
    pub asked_mounts: Vec<MountSpec>,
    /// `--tmpfs` as given.
    pub tmpfs: BTreeMap<String, String>,
    /// The kernel's parameters in its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// What is noted for others than the engine.
    pub annotations: BTreeMap<String, String>,
    /// Whether the root is read-only.
    pub read_only: bool,
    /// `default`, `none`, `host`, `container:<id>`, or the name of the first network.
    pub network_mode: String,
    /// The networks it is to be on, the first one first.
    pub networks: Vec<Attachment>,
    /// Its ports that the host is to have.
    pub publish: Vec<Publish>,
    /// Whether the host is to have all of its exposed ports.
    pub publish_all: bool,
    /// Ports that are said to be served.
    pub exposed: Vec<Port>,
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
    /// Which of the host's devices it has.
    pub devices: Vec<DeviceMapping>,
    /// Rules for devices beside the defaults, as `devices.allow` takes them.
    pub device_cgroup_rules: Vec<String>,
    /// `host`, `container:<id>`, or its own.
    pub pid_mode: String,
    /// `host`, `container:<id>`, `shareable`, `none`, or `private`.
    pub ipc_mode: String,
    /// `host` or its own.
    pub uts_mode: String,
    /// `host` or `private`.
    pub cgroupns_mode: String,
    /// `auto` or the host's.
    pub userns_mode: String,
    /// The host's first user and group of its user namespace, if it has one.
    pub first_user: Option<u32>,
    /// The servers of /etc/resolv.conf; the host's if there are none.
    pub dns: Vec<String>,
    /// Its search domains.
    pub dns_search: Vec<String>,
    /// Its options.
    pub dns_options: Vec<String>,
    /// How readily the kernel kills it when memory is short.
    pub oom_score_adj: Option<i32>,
    /// Where what it says is kept.
    pub log: LogConfig,
    /// Whether it is a build's step: shown to nobody, and gone with the build.
    pub of_build: bool,
}

impl Config {
    /// Returns the command line: the entrypoint and the command.
    pub fn arguments(&self) -> Vec<String> {
        let entrypoint = self.entrypoint.iter().flatten();
        entrypoint.chain(&self.command).cloned().collect()
    }

    /// Returns the volumes among what is mounted.
    pub(crate) fn volume_mounts(&self) -> Vec<(&Mount, &VolumeMount)> {
        let mut volumes = Vec::new();
        for mount in &self.mounts {
            if let MountSource::Volume(volume) = &mount.source {
                volumes.push((mount, volume));
            }
        }
        volumes
    }

    /// Returns the names of its networks.
    pub fn network_names(&self) -> Vec<&str> {
        match self.networks.is_empty() {
            true if self.has_network_of_host() => vec!["host"],
            _ => self.networks.iter().map(|it| it.network.as_str()).collect(),
        }
    }

    /// Returns whether it has the host's network devices.
    pub fn has_network_of_host(&self) -> bool {
        self.network_mode == "host"
    }

    /// Returns whose network it shares, if it shares a container's.
    pub fn shares_network_of(&self) -> Option<&str> {
        self.network_mode.strip_prefix("container:")
    }

    /// Returns whether it has a network namespace of its own.
    pub fn has_own_network(&self) -> bool {
        !self.has_network_of_host() && self.shares_network_of().is_none()
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

    /// Returns the seccomp profile of its own, as JSON, if it has one.
    pub(crate) fn seccomp_profile(&self) -> Option<&str> {
        self.security_opt.iter().find_map(|option| {
            let rest = option.strip_prefix("seccomp")?;
            let profile = rest.strip_prefix('=').or(rest.strip_prefix(':'))?;
            profile.starts_with('{').then_some(profile)
        })
    }

    /// Returns whether what the kernel shows of the host is hidden or read-only.
    pub(crate) fn has_masks(&self) -> bool {
        !self.privileged
            && !self.security_opt.iter().any(|option| {
                matches!(
                    option.as_str(),
                    "systempaths=unconfined" | "systempaths:unconfined"
                )
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

/// A device of the host's in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// The host's node.
    pub host: PathBuf,
    /// The container's.
    pub container: PathBuf,
    /// What the container may do with it: `rwm` or less.
    pub access: String,
}

/// What becomes of what a container says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// `json-file`, `local` (the same file, bounded by default), `journald`, `none`.
    pub driver: String,
    /// `--log-opt`.
    pub options: BTreeMap<String, String>,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            driver: "json-file".to_owned(),
            options: BTreeMap::new(),
        }
    }
}

impl LogConfig {
    /// Returns what is wrong with it, if something is.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.driver.as_str() {
            "none" => return Ok(()),
            "journald" => {
                let known = ["labels", "labels-regex", "env", "env-regex", "tag"];
                let mut names = self.options.keys();
                return match names.find(|name| !known.contains(&name.as_str())) {
                    Some(other) => {
                        Err(format!("unknown log opt '{other}' for journald log driver"))
                    }
                    None => Ok(()),
                };
            }
            "json-file" | "local" => {}
            other => {
                return Err(format!(
                    "logger: no log driver named '{other}' is registered"
                ));
            }
        }
        for (name, value) in &self.options {
            match name.as_str() {
                "max-size" => {
                    self.max_size()?;
                }
                "max-file" => {
                    self.max_file()?;
                }
                // What is kept is not compressed; what it says is the same.
                "compress" if self.is_local() && matches!(value.as_str(), "true" | "false") => {}
                "labels" | "labels-regex" | "env" | "env-regex" | "tag" if !self.is_local() => {}
                other => {
                    return Err(format!(
                        "unknown log opt '{other}' for {} log driver",
                        self.driver
                    ));
                }
            }
            if value.is_empty() {
                return Err(format!("log opt '{name}' has no value"));
            }
        }
        Ok(())
    }

    /// Whether the log is bounded unless it is said otherwise.
    fn is_local(&self) -> bool {
        self.driver == "local"
    }

    /// Returns how long a file grows; `None` is without end.
    pub(crate) fn max_size(&self) -> Result<Option<u64>, String> {
        const OF_LOCAL: u64 = 20 << 20;
        let text = match self.options.get("max-size") {
            None => return Ok(self.is_local().then_some(OF_LOCAL)),
            Some(text) if text == "-1" => return Ok(None),
            Some(text) => text,
        };
        let invalid = || format!("invalid value for max-size: {text}");
        let size = crate::byte_size::parse(text).filter(|size| *size > 0);
        size.map(Some).ok_or_else(invalid)
    }

    /// Returns how many files there are at most.
    pub(crate) fn max_file(&self) -> Result<u32, String> {
        match self.options.get("max-file") {
            None if self.is_local() => Ok(5),
            None => Ok(1),
            Some(text) => match text.parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err("max-file cannot be less than 1".to_owned()),
            },
        }
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
