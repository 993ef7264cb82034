//! The services, networks, volumes and files of a project, as the engine's side of Compose needs them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::paths;
use super::short_forms;

/// A service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    pub(crate) annotations: BTreeMap<String, Option<String>>,
    pub(crate) attach: Option<bool>,
    pub(crate) blkio_config: Option<Blkio>,
    pub(crate) build: Option<Build>,
    pub(crate) cap_add: Vec<String>,
    pub(crate) cap_drop: Vec<String>,
    pub(crate) cgroup: Option<String>,
    pub(crate) command: Option<Vec<String>>,
    pub(crate) configs: Vec<FileMount>,
    pub(crate) container_name: Option<String>,
    pub(crate) cpu_period: Option<u64>,
    pub(crate) cpu_quota: Option<i64>,
    pub(crate) cpu_shares: Option<u64>,
    pub(crate) cpus: Option<f64>,
    pub(crate) cpuset: Option<String>,
    pub(crate) depends_on: BTreeMap<String, Dependency>,
    pub(crate) deploy: Option<Deploy>,
    pub(crate) device_cgroup_rules: Vec<String>,
    pub(crate) devices: Vec<Device>,
    pub(crate) dns: Vec<String>,
    pub(crate) dns_opt: Vec<String>,
    pub(crate) dns_search: Vec<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) env_file: Vec<EnvFile>,
    pub(crate) environment: BTreeMap<String, Option<String>>,
    pub(crate) expose: Vec<String>,
    pub(crate) external_links: Vec<String>,
    pub(crate) extra_hosts: Vec<String>,
    pub(crate) group_add: Vec<String>,
    pub(crate) healthcheck: Option<Healthcheck>,
    pub(crate) hostname: Option<String>,
    pub(crate) image: Option<String>,
    pub(crate) init: Option<bool>,
    pub(crate) ipc: Option<String>,
    pub(crate) label_file: Vec<String>,
    pub(crate) labels: BTreeMap<String, Option<String>>,
    pub(crate) links: Vec<String>,
    pub(crate) logging: Option<Logging>,
    pub(crate) mac_address: Option<String>,
    #[serde(deserialize_with = "bytes")]
    pub(crate) mem_limit: Option<i64>,
    #[serde(deserialize_with = "bytes")]
    pub(crate) mem_reservation: Option<i64>,
    #[serde(deserialize_with = "bytes")]
    pub(crate) memswap_limit: Option<i64>,
    pub(crate) mem_swappiness: Option<u64>,
    pub(crate) network_mode: Option<String>,
    pub(crate) networks: BTreeMap<String, Option<Attachment>>,
    pub(crate) oom_kill_disable: bool,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) pid: Option<String>,
    pub(crate) pids_limit: Option<i64>,
    pub(crate) platform: Option<String>,
    pub(crate) ports: Vec<Port>,
    pub(crate) post_start: Vec<Hook>,
    pub(crate) pre_stop: Vec<Hook>,
    pub(crate) privileged: bool,
    pub(crate) profiles: Vec<String>,
    pub(crate) pull_policy: Option<String>,
    pub(crate) read_only: bool,
    pub(crate) restart: Option<String>,
    pub(crate) scale: Option<i64>,
    pub(crate) secrets: Vec<FileMount>,
    pub(crate) security_opt: Vec<String>,
    #[serde(deserialize_with = "bytes")]
    pub(crate) shm_size: Option<i64>,
    pub(crate) stdin_open: bool,
    pub(crate) stop_grace_period: Option<String>,
    pub(crate) stop_signal: Option<String>,
    pub(crate) sysctls: BTreeMap<String, Option<String>>,
    pub(crate) tmpfs: Vec<String>,
    pub(crate) tty: bool,
    pub(crate) ulimits: BTreeMap<String, Ulimit>,
    pub(crate) use_api_socket: bool,
    pub(crate) user: Option<String>,
    pub(crate) userns_mode: Option<String>,
    pub(crate) uts: Option<String>,
    pub(crate) volumes: Vec<Mount>,
    pub(crate) volumes_from: Vec<String>,
    pub(crate) working_dir: Option<String>,
}

impl Service {
    /// Returns how many containers it has.
    pub(crate) fn replicas(&self) -> i64 {
        let deployed = self.deploy.as_ref().and_then(|deploy| deploy.replicas);
        self.scale.or(deployed).unwrap_or(1)
    }

    /// Adds ports in their short form.
    pub(crate) fn publish(&mut self, ports: &[String]) -> Result<(), String> {
        for text in ports {
            let long = short_forms::ports(&text.as_str().into());
            let long = long.map_err(|words| format!("port {text:?} {words}"))?;
            for port in long {
                self.ports.push(decoded(port)?);
            }
        }
        Ok(())
    }

    /// Adds mounts in their short form; one on the same place is replaced.
    pub(crate) fn mount(&mut self, mounts: &[String], directory: &Path) -> Result<(), String> {
        for text in mounts {
            let long = short_forms::volume(&text.as_str().into());
            let long = long.map_err(|words| format!("volume {text:?} {words}"))?;
            let mut mount: Mount = decoded(long)?;
            if mount.kind == "bind" {
                let source = mount.source.unwrap_or_default();
                mount.source = Some(paths::absolute(&source, directory));
            }
            self.volumes.retain(|other| other.target != mount.target);
            self.volumes.push(mount);
        }
        Ok(())
    }
}

fn decoded<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// How a service's image is made.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Build {
    pub(crate) additional_contexts: BTreeMap<String, Option<String>>,
    pub(crate) args: BTreeMap<String, Option<String>>,
    pub(crate) cache_from: Vec<String>,
    pub(crate) cache_to: Vec<String>,
    pub(crate) context: String,
    pub(crate) dockerfile: Option<String>,
    pub(crate) dockerfile_inline: Option<String>,
    pub(crate) entitlements: Vec<String>,
    pub(crate) extra_hosts: Vec<String>,
    pub(crate) labels: BTreeMap<String, Option<String>>,
    pub(crate) network: Option<String>,
    pub(crate) no_cache: bool,
    pub(crate) platforms: Vec<String>,
    pub(crate) privileged: bool,
    pub(crate) pull: bool,
    pub(crate) secrets: Vec<FileMount>,
    #[serde(deserialize_with = "bytes")]
    pub(crate) shm_size: Option<i64>,
    pub(crate) ssh: BTreeMap<String, Option<String>>,
    pub(crate) tags: Vec<String>,
    pub(crate) target: Option<String>,
    pub(crate) ulimits: BTreeMap<String, Ulimit>,
}

/// A command that is run in a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Hook {
    pub(crate) command: Option<Vec<String>>,
    pub(crate) environment: BTreeMap<String, Option<String>>,
    pub(crate) privileged: bool,
    pub(crate) user: Option<String>,
    pub(crate) working_dir: Option<String>,
}

/// What a container may do with block devices.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Blkio {
    pub(crate) weight: Option<u64>,
    pub(crate) weight_device: Vec<WeightDevice>,
    pub(crate) device_read_bps: Vec<ThrottleDevice>,
    pub(crate) device_write_bps: Vec<ThrottleDevice>,
    pub(crate) device_read_iops: Vec<ThrottleDevice>,
    pub(crate) device_write_iops: Vec<ThrottleDevice>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WeightDevice {
    pub(crate) path: String,
    pub(crate) weight: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ThrottleDevice {
    pub(crate) path: String,
    #[serde(deserialize_with = "bytes")]
    pub(crate) rate: Option<i64>,
}

/// A secret or config in a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FileMount {
    pub(crate) source: String,
    pub(crate) target: Option<String>,
    pub(crate) uid: Option<String>,
    pub(crate) gid: Option<String>,
    pub(crate) mode: Option<String>,
}

/// What one service needs of another.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) condition: Condition,
    #[serde(default = "yes")]
    pub(crate) required: bool,
    #[serde(default)]
    pub(crate) restart: bool,
}

/// When a dependency is good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Condition {
    #[serde(rename = "service_started")]
    Started,
    #[serde(rename = "service_healthy")]
    Healthy,
    #[serde(rename = "service_completed_successfully")]
    Completed,
}

impl Condition {
    /// Returns the specification's word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Condition::Started => "service_started",
            Condition::Healthy => "service_healthy",
            Condition::Completed => "service_completed_successfully",
        }
    }
}

/// `deploy`, as far as one machine can.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Deploy {
    pub(crate) replicas: Option<i64>,
    pub(crate) resources: Resources,
    pub(crate) restart_policy: Option<RestartPolicy>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Resources {
    pub(crate) limits: Limits,
    pub(crate) reservations: Limits,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Limits {
    pub(crate) cpus: Option<String>,
    #[serde(deserialize_with = "bytes")]
    pub(crate) memory: Option<i64>,
    pub(crate) pids: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RestartPolicy {
    pub(crate) condition: Option<String>,
    pub(crate) max_attempts: Option<u32>,
}

/// A device of the host's.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Device {
    pub(crate) source: String,
    pub(crate) target: Option<String>,
    pub(crate) permissions: Option<String>,
}

/// A file of variables.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct EnvFile {
    pub(crate) path: String,
    #[serde(default = "yes")]
    pub(crate) required: bool,
    pub(crate) format: Option<String>,
}

/// How health is checked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Healthcheck {
    pub(crate) disable: bool,
    pub(crate) test: Vec<String>,
    pub(crate) interval: Option<String>,
    pub(crate) timeout: Option<String>,
    pub(crate) retries: Option<u32>,
    pub(crate) start_period: Option<String>,
    pub(crate) start_interval: Option<String>,
}

/// Where logs go.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Logging {
    pub(crate) driver: Option<String>,
    pub(crate) options: BTreeMap<String, Option<String>>,
}

/// A service on a network.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Attachment {
    pub(crate) aliases: Vec<String>,
    pub(crate) gw_priority: f64,
    pub(crate) ipv4_address: Option<String>,
    pub(crate) ipv6_address: Option<String>,
    pub(crate) mac_address: Option<String>,
    pub(crate) priority: f64,
}

/// A published port.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Port {
    pub(crate) host_ip: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) published: Option<String>,
    pub(crate) target: u16,
}

/// A limit of each process.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Ulimit {
    pub(crate) soft: i64,
    pub(crate) hard: i64,
}

/// A mount.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Mount {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) source: Option<String>,
    pub(crate) target: String,
    pub(crate) read_only: bool,
    pub(crate) bind: BindOptions,
    pub(crate) volume: VolumeOptions,
    pub(crate) tmpfs: TmpfsOptions,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct BindOptions {
    pub(crate) create_host_path: bool,
    pub(crate) propagation: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct VolumeOptions {
    pub(crate) nocopy: bool,
    pub(crate) subpath: Option<String>,
    pub(crate) labels: BTreeMap<String, Option<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TmpfsOptions {
    pub(crate) mode: Option<String>,
    #[serde(deserialize_with = "bytes")]
    pub(crate) size: Option<i64>,
}

/// A network of the project.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Network {
    pub(crate) name: String,
    pub(crate) driver: Option<String>,
    pub(crate) driver_opts: BTreeMap<String, Option<String>>,
    pub(crate) ipam: Ipam,
    pub(crate) attachable: bool,
    pub(crate) external: bool,
    pub(crate) internal: bool,
    pub(crate) enable_ipv4: Option<bool>,
    pub(crate) enable_ipv6: bool,
    pub(crate) labels: BTreeMap<String, Option<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Ipam {
    pub(crate) driver: Option<String>,
    pub(crate) config: Vec<Subnet>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Subnet {
    pub(crate) subnet: Option<String>,
    pub(crate) ip_range: Option<String>,
    pub(crate) gateway: Option<String>,
    pub(crate) aux_addresses: BTreeMap<String, Option<String>>,
}

/// A volume of the project.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) driver: Option<String>,
    pub(crate) driver_opts: BTreeMap<String, Option<String>>,
    pub(crate) external: bool,
    pub(crate) labels: BTreeMap<String, Option<String>>,
}

/// Where a secret's or config's content comes from.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FileSource {
    pub(crate) content: Option<String>,
    pub(crate) environment: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) external: bool,
}

fn yes() -> bool {
    true
}

/// Reads a number of bytes, which the canonical form has as digits in a string.
fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
        Value::Number(number) => Ok(number.as_i64()),
        _ => Ok(None),
    }
}

/// Returns a mapping's pairs, what has no value being empty.
pub(crate) fn filled(map: &BTreeMap<String, Option<String>>) -> BTreeMap<String, String> {
    let pairs = map.iter();
    pairs
        .map(|(name, value)| (name.clone(), value.clone().unwrap_or_default()))
        .collect()
}
