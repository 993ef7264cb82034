//! `POST /containers/create` and `/update`: Docker's three configurations turned into the engine's options.

use std::collections::BTreeMap;

use runtime::Engine;
use runtime::cgroup::BlockLimits;
use runtime::cgroup::DeviceRate;
use runtime::cgroup::Resources;
use runtime::container::ContainerError;
use runtime::container::CreateOptions;
use runtime::container::Healthcheck;
use runtime::container::LogConfig;
use runtime::container::MountSpec;
use runtime::container::RestartPolicy;
use runtime::image::Platform;
use runtime::network;
use runtime::network::Attachment;
use runtime::network::Publish;
use runtime::network::port;
use runtime::network::port::Port;
use runtime::sandbox::Limit;
use runtime::sandbox::MASKED;
use runtime::sandbox::READ_ONLY;
use runtime::sandbox::Recursion;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::serve::Server;
use crate::serve::api_error::ApiError;
use crate::serve::exchange::Answer;
use crate::serve::exchange::Exchange;
use crate::serve::exchange::Reply;
use crate::serve::networks::AskedEndpoint;

/// What `POST /containers/create` asks for: Docker's `Config`, and the two that go with it. Go writes what is not set
/// as `null` as often as it leaves it out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Asked {
    hostname: Option<String>,
    domainname: Option<String>,
    user: Option<String>,
    attach_stdin: Option<bool>,
    attach_stdout: Option<bool>,
    attach_stderr: Option<bool>,
    tty: Option<bool>,
    open_stdin: Option<bool>,
    stdin_once: Option<bool>,
    env: Option<Vec<String>>,
    cmd: Option<Command>,
    healthcheck: Option<AskedCheck>,
    image: Option<String>,
    exposed_ports: Option<Map<String, Value>>,
    mac_address: Option<String>,
    volumes: Option<Map<String, Value>>,
    working_dir: Option<String>,
    entrypoint: Option<Command>,
    network_disabled: Option<bool>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: Option<String>,
    stop_timeout: Option<i64>,
    host_config: Option<HostConfig>,
    networking_config: Option<NetworkingConfig>,
}

/// The networks, with what is wanted on each.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct NetworkingConfig {
    endpoints_config: Option<BTreeMap<String, Option<AskedEndpoint>>>,
}

/// A command: a list, or one word as old clients send it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Command {
    List(Vec<String>),
    Word(String),
}

impl Command {
    fn into_list(self) -> Vec<String> {
        match self {
            Command::List(list) => list,
            Command::Word(word) => vec![word],
        }
    }
}

/// Docker's `Healthcheck`, whose numbers have signs.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AskedCheck {
    test: Option<Vec<String>>,
    interval: Option<i64>,
    timeout: Option<i64>,
    start_period: Option<i64>,
    start_interval: Option<i64>,
    retries: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct HostConfig {
    binds: Option<Vec<String>>,
    log_config: Option<AskedLog>,
    network_mode: Option<String>,
    port_bindings: Option<BTreeMap<String, Option<Vec<AskedBinding>>>>,
    publish_all_ports: Option<bool>,
    links: Option<Vec<String>>,
    restart_policy: Option<AskedPolicy>,
    auto_remove: Option<bool>,
    volume_driver: Option<String>,
    sysctls: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    volumes_from: Option<Vec<String>>,
    mounts: Option<Vec<AskedMount>>,
    cap_add: Option<Vec<String>>,
    cap_drop: Option<Vec<String>>,
    cgroupns_mode: Option<String>,
    dns: Option<Vec<String>>,
    dns_options: Option<Vec<String>>,
    dns_search: Option<Vec<String>>,
    extra_hosts: Option<Vec<String>>,
    group_add: Option<Vec<String>>,
    ipc_mode: Option<String>,
    oom_score_adj: Option<i32>,
    pid_mode: Option<String>,
    privileged: Option<bool>,
    readonly_rootfs: Option<bool>,
    security_opt: Option<Vec<String>>,
    masked_paths: Option<Vec<String>>,
    readonly_paths: Option<Vec<String>>,
    tmpfs: Option<BTreeMap<String, String>>,
    #[serde(rename = "UTSMode")]
    uts_mode: Option<String>,
    userns_mode: Option<String>,
    shm_size: Option<i64>,
    init: Option<bool>,
    devices: Option<Vec<AskedDevice>>,
    device_cgroup_rules: Option<Vec<String>>,
    ulimits: Option<Vec<AskedLimit>>,
    #[serde(flatten)]
    limits: AskedLimits,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The limits that `create` and `update` share.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AskedLimits {
    memory: Option<i64>,
    memory_swap: Option<i64>,
    memory_reservation: Option<i64>,
    nano_cpus: Option<i64>,
    cpu_period: Option<i64>,
    cpu_quota: Option<i64>,
    cpu_shares: Option<i64>,
    cpuset_cpus: Option<String>,
    cpuset_mems: Option<String>,
    pids_limit: Option<i64>,
    memory_swappiness: Option<i64>,
    oom_kill_disable: Option<bool>,
    blkio_weight: Option<i64>,
    blkio_weight_device: Option<Vec<AskedWeight>>,
    blkio_device_read_bps: Option<Vec<AskedRate>>,
    blkio_device_write_bps: Option<Vec<AskedRate>>,
    #[serde(rename = "BlkioDeviceReadIOps")]
    blkio_device_read_iops: Option<Vec<AskedRate>>,
    #[serde(rename = "BlkioDeviceWriteIOps")]
    blkio_device_write_iops: Option<Vec<AskedRate>>,
}

/// How much of a device may be used in a second.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AskedRate {
    path: String,
    rate: u64,
}

/// A container's part of a device's time.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AskedWeight {
    path: String,
    weight: u64,
}

/// A port of the host's; neither field need be set.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AskedBinding {
    host_ip: Option<String>,
    host_port: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AskedLog {
    r#type: Option<String>,
    config: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AskedPolicy {
    name: Option<String>,
    maximum_retry_count: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AskedDevice {
    path_on_host: String,
    path_in_container: Option<String>,
    cgroup_permissions: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AskedLimit {
    name: String,
    soft: i64,
    hard: i64,
}

/// Docker's `Mount`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AskedMount {
    r#type: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: Option<bool>,
    bind_options: Option<AskedBind>,
    volume_options: Option<AskedVolume>,
    tmpfs_options: Option<AskedTmpfs>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AskedBind {
    propagation: Option<String>,
    non_recursive: Option<bool>,
    create_mountpoint: Option<bool>,
    read_only_non_recursive: Option<bool>,
    read_only_force_recursive: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AskedVolume {
    no_copy: Option<bool>,
    labels: Option<BTreeMap<String, String>>,
    subpath: Option<String>,
    driver_config: Option<AskedDriver>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AskedDriver {
    name: Option<String>,
    options: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AskedTmpfs {
    size_bytes: Option<u64>,
    mode: Option<u32>,
}

fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn positive(number: Option<i64>) -> Option<u64> {
    number
        .and_then(|number| u64::try_from(number).ok())
        .filter(|number| *number > 0)
}

fn rates(asked: Option<Vec<AskedRate>>) -> Vec<DeviceRate> {
    let rate = |asked: AskedRate| DeviceRate {
        device: asked.path.into(),
        rate: asked.rate,
    };
    asked.unwrap_or_default().into_iter().map(rate).collect()
}

impl AskedLimits {
    fn resources(self) -> Resources {
        Resources {
            memory: positive(self.memory),
            memory_swap: self.memory_swap.filter(|swap| *swap != 0),
            memory_reservation: positive(self.memory_reservation),
            nano_cpus: positive(self.nano_cpus),
            cpu_period: positive(self.cpu_period),
            cpu_quota: self.cpu_quota.filter(|quota| *quota != 0),
            cpu_shares: positive(self.cpu_shares),
            cpuset_cpus: given(self.cpuset_cpus),
            cpuset_mems: given(self.cpuset_mems),
            // No limit is zero when it is said, so that it replaces one.
            pids: match self.pids_limit {
                None | Some(0) => None,
                Some(limit) => Some(u64::try_from(limit).unwrap_or(0)),
            },
            // -1 is how clients say that they do not care.
            memory_swappiness: self
                .memory_swappiness
                .and_then(|swappiness| u64::try_from(swappiness).ok()),
            oom_kill_disable: self.oom_kill_disable.unwrap_or(false),
            block: BlockLimits {
                weight: positive(self.blkio_weight),
                device_weights: self
                    .blkio_weight_device
                    .unwrap_or_default()
                    .into_iter()
                    .map(|asked| DeviceRate {
                        device: asked.path.into(),
                        rate: asked.weight,
                    })
                    .collect(),
                read_bps: rates(self.blkio_device_read_bps),
                write_bps: rates(self.blkio_device_write_bps),
                read_iops: rates(self.blkio_device_read_iops),
                write_iops: rates(self.blkio_device_write_iops),
            },
        }
    }
}

impl AskedPolicy {
    fn policy(&self) -> Result<RestartPolicy, ApiError> {
        let name = self.name.as_deref().unwrap_or_default();
        let text = match self.maximum_retry_count {
            Some(count) if count != 0 => format!("{name}:{count}"),
            _ => name.to_owned(),
        };
        text.parse().map_err(ApiError::bad)
    }
}

impl AskedMount {
    fn spec(self) -> MountSpec {
        let bind = self.bind_options.unwrap_or_default();
        let volume = self.volume_options.unwrap_or_default();
        let driver = volume.driver_config.unwrap_or_default();
        let is = |flag: Option<bool>| flag.unwrap_or(false);
        let mut tmpfs = Vec::new();
        if let Some(options) = self.tmpfs_options {
            tmpfs.extend(
                options
                    .size_bytes
                    .filter(|size| *size > 0)
                    .map(|size| format!("size={size}")),
            );
            tmpfs.extend(options.mode.map(|mode| format!("mode={mode:o}")));
        }
        MountSpec {
            kind: self.r#type.unwrap_or_default(),
            source: self.source.unwrap_or_default(),
            target: self.target.unwrap_or_default(),
            read_only: is(self.read_only),
            propagation: bind.propagation.unwrap_or_default(),
            recursion: match () {
                () if is(bind.non_recursive) => Recursion::Disabled,
                () if is(bind.read_only_non_recursive) => Recursion::Writable,
                () if is(bind.read_only_force_recursive) => Recursion::Readonly,
                () => Recursion::Enabled,
            },
            create_source: is(bind.create_mountpoint),
            no_copy: is(volume.no_copy),
            subpath: volume.subpath.unwrap_or_default(),
            driver: driver.name.unwrap_or_default(),
            driver_opts: driver.options.unwrap_or_default(),
            labels: volume.labels.unwrap_or_default(),
            tmpfs,
            mode: String::new(),
            inherited: false,
        }
    }
}

/// What of Docker's `HostConfig` this engine cannot do: asking for it is an error, not something to pass over.
const REFUSED: [&str; 12] = [
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "CpuCount",
    "CpuPercent",
    "IOMaximumIOps",
    "IOMaximumBandwidth",
    "KernelMemory",
    "KernelMemoryTCP",
    "DeviceRequests",
    "CgroupParent",
    "Cgroup",
    "StorageOpt",
];

/// Refuses what is set and cannot be done.
fn check_rest(rest: &Map<String, Value>) -> Result<(), ApiError> {
    let is_nothing = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        Value::Bool(true) => false,
    };
    for name in REFUSED {
        if rest.get(name).is_some_and(|value| !is_nothing(value)) {
            return Err(ApiError::bad(format_args!("{name} is not supported")));
        }
    }
    let text = |name: &str| rest.get(name).and_then(Value::as_str).unwrap_or_default();
    match (text("Runtime"), text("Isolation")) {
        ("" | "ply" | "runc", "" | "default") => {}
        ("" | "ply" | "runc", other) => {
            return Err(ApiError::bad(format_args!(
                "invalid isolation {other:?} on linux"
            )));
        }
        (other, _) => {
            return Err(ApiError::bad(format_args!(
                "unknown or invalid runtime name: {other}"
            )));
        }
    }
    Ok(())
}

/// Adds to the security options that nothing is hidden, if a client says so by listing nothing.
fn security_opt(
    asked: Option<Vec<String>>,
    masked: Option<Vec<String>>,
    read_only: Option<Vec<String>>,
) -> Result<Vec<String>, ApiError> {
    let mut options = asked.unwrap_or_default();
    // What `inspect` shows of an ordinary container may come back.
    let is_usual = |given: &Option<Vec<String>>, usual: &[&str]| {
        given.as_ref().is_none_or(|given| given == usual)
    };
    match (masked.as_deref(), read_only.as_deref()) {
        (Some([]), Some([])) => options.push("systempaths=unconfined".to_owned()),
        _ if is_usual(&masked, MASKED) && is_usual(&read_only, READ_ONLY) => {}
        _ => {
            let words = "MaskedPaths and ReadonlyPaths can only be left out, or both be empty";
            return Err(ApiError::bad(words));
        }
    }
    Ok(options)
}

/// Turns a mapping into `--device`'s argument.
fn device(device: AskedDevice) -> String {
    let container = given(device.path_in_container).unwrap_or_else(|| device.path_on_host.clone());
    let access = given(device.cgroup_permissions).unwrap_or_else(|| "rwm".to_owned());
    format!("{}:{container}:{access}", device.path_on_host)
}

fn limit(limit: AskedLimit) -> Limit {
    // -1 is no limit.
    let number = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
    Limit {
        name: limit.name,
        soft: number(limit.soft),
        hard: number(limit.hard),
    }
}

impl AskedCheck {
    fn healthcheck(self) -> Healthcheck {
        let number = |number: Option<i64>| positive(number).unwrap_or(0);
        Healthcheck {
            test: self.test.unwrap_or_default(),
            interval: number(self.interval),
            timeout: number(self.timeout),
            start_period: number(self.start_period),
            start_interval: number(self.start_interval),
            retries: number(self.retries),
        }
    }
}

/// Returns the networks with what is wanted on each: first that of the mode, which the rest may name or leave out.
fn attachments(
    engine: &Engine,
    mode: &str,
    mut endpoints: BTreeMap<String, Option<AskedEndpoint>>,
) -> Result<Vec<Attachment>, ApiError> {
    let is_default = |name: &str| matches!(name, "" | "default" | network::DEFAULT);
    // A network may be called by its name here and by its id there.
    let known = |name: &str| match is_default(name) {
        true => network::DEFAULT.to_owned(),
        false => engine
            .network(name)
            .map_or_else(|_| name.to_owned(), |it| it.name),
    };
    let of_mode = endpoints
        .keys()
        .find(|key| known(key) == known(mode))
        .cloned();
    // Other networks than the default one stand in its place.
    if of_mode.is_none() && is_default(mode) && !endpoints.is_empty() {
        return endpoints
            .into_iter()
            .map(|(network, endpoint)| endpoint.unwrap_or_default().attachment(&network))
            .collect();
    }
    let of_mode = of_mode.and_then(|key| endpoints.remove(&key));
    let is_lone = matches!(mode, "host" | "none") || mode.starts_with("container:");
    let all = std::iter::once((mode.to_owned(), of_mode.flatten()));
    let all = all.chain(endpoints);
    all.map(|(network, endpoint)| match is_lone {
        // There is nothing to have there.
        true => Ok(Attachment::to(network)),
        false => endpoint.unwrap_or_default().attachment(&network),
    })
    .collect()
}

/// Refuses more ports than there can be, of three protocols.
fn check_count(ports: usize) -> Result<(), ApiError> {
    const MOST: usize = 3 << 16;
    match ports > MOST {
        true => Err(ApiError::bad("too many ports")),
        false => Ok(()),
    }
}

/// Returns the ports that the host is to have.
fn publish(
    bindings: BTreeMap<String, Option<Vec<AskedBinding>>>,
) -> Result<Vec<Publish>, ApiError> {
    let mut all = Vec::new();
    for (port, bindings) in bindings {
        for binding in bindings.unwrap_or_default() {
            let host = binding.host_port.unwrap_or_default();
            let text = match given(binding.host_ip) {
                Some(address) => format!("[{address}]:{host}:{port}"),
                None => format!("{host}:{port}"),
            };
            all.extend(port::parse_publish(&text).map_err(ApiError::bad)?);
            check_count(all.len())?;
        }
    }
    Ok(all)
}

/// Returns the ports that are said to be served.
fn exposed(ports: Map<String, Value>) -> Result<Vec<Port>, ApiError> {
    let mut all = Vec::new();
    for (port, _) in ports {
        all.extend(port::parse_exposed(&port).map_err(ApiError::bad)?);
        check_count(all.len())?;
    }
    Ok(all)
}

impl Asked {
    fn options(self, engine: &Engine, name: Option<String>) -> Result<CreateOptions, ApiError> {
        let host = self.host_config.unwrap_or_default();
        check_rest(&host.rest)?;
        let is = |flag: Option<bool>| flag.unwrap_or(false);
        let auto_remove = is(host.auto_remove);
        let restart = host.restart_policy.unwrap_or_default().policy()?;
        if auto_remove && restart != RestartPolicy::No {
            return Err(ApiError::bad(
                "can't create 'AutoRemove' container with restart policy",
            ));
        }
        let log = host.log_config.unwrap_or_default();
        let mode = match is(self.network_disabled) {
            true => "none".to_owned(),
            false => given(host.network_mode).unwrap_or_else(|| "default".to_owned()),
        };
        let endpoints = self.networking_config.and_then(|it| it.endpoints_config);
        let mut networks = attachments(engine, &mode, endpoints.unwrap_or_default())?;
        let first = &mut networks[0];
        first.mac = first.mac.take().or(given(self.mac_address));
        first.links.extend(host.links.unwrap_or_default());
        let places = self.volumes.unwrap_or_default().into_iter();
        let volumes = host.binds.unwrap_or_default().into_iter();
        Ok(CreateOptions {
            image: self.image.unwrap_or_default(),
            name,
            command: self.cmd.map(Command::into_list).unwrap_or_default(),
            entrypoint: self
                .entrypoint
                .map(Command::into_list)
                .filter(|words| !words.is_empty()),
            env: self.env.unwrap_or_default(),
            working_dir: given(self.working_dir),
            user: given(self.user),
            labels: self.labels.unwrap_or_default(),
            tty: is(self.tty),
            open_stdin: is(self.open_stdin),
            stdin_once: is(self.stdin_once),
            attach: [
                is(self.attach_stdin),
                is(self.attach_stdout),
                is(self.attach_stderr),
            ],
            hostname: given(self.hostname),
            domainname: given(self.domainname),
            networks,
            publish: publish(host.port_bindings.unwrap_or_default())?,
            publish_all: is(host.publish_all_ports),
            exposed: exposed(self.exposed_ports.unwrap_or_default())?,
            volumes: volumes.chain(places.map(|(place, _)| place)).collect(),
            volume_driver: host.volume_driver.unwrap_or_default(),
            volumes_from: host.volumes_from.unwrap_or_default(),
            sysctls: host.sysctls.unwrap_or_default(),
            annotations: host.annotations.unwrap_or_default(),
            tmpfs: host
                .tmpfs
                .unwrap_or_default()
                .into_iter()
                .map(|(target, options)| format!("{target}:{options}"))
                .collect(),
            read_only: is(host.readonly_rootfs),
            init: is(host.init),
            auto_remove,
            privileged: is(host.privileged),
            cap_add: host.cap_add.unwrap_or_default(),
            cap_drop: host.cap_drop.unwrap_or_default(),
            security_opt: security_opt(host.security_opt, host.masked_paths, host.readonly_paths)?,
            resources: host.limits.resources(),
            ulimits: host
                .ulimits
                .unwrap_or_default()
                .into_iter()
                .map(limit)
                .collect(),
            shm_size: positive(host.shm_size),
            group_add: host.group_add.unwrap_or_default(),
            extra_hosts: host.extra_hosts.unwrap_or_default(),
            mounts: host
                .mounts
                .unwrap_or_default()
                .into_iter()
                .map(AskedMount::spec)
                .collect(),
            devices: host
                .devices
                .unwrap_or_default()
                .into_iter()
                .map(device)
                .collect(),
            device_cgroup_rules: host.device_cgroup_rules.unwrap_or_default(),
            pid_mode: host.pid_mode.unwrap_or_default(),
            ipc_mode: host.ipc_mode.unwrap_or_default(),
            uts_mode: host.uts_mode.unwrap_or_default(),
            cgroupns_mode: host.cgroupns_mode.unwrap_or_default(),
            userns_mode: host.userns_mode.unwrap_or_default(),
            dns: host.dns.unwrap_or_default(),
            dns_search: host.dns_search.unwrap_or_default(),
            dns_options: host.dns_options.unwrap_or_default(),
            oom_score_adj: host.oom_score_adj.filter(|score| *score != 0),
            log: LogConfig {
                driver: given(log.r#type).unwrap_or_else(|| LogConfig::default().driver),
                options: log.config.unwrap_or_default(),
            },
            restart,
            healthcheck: self.healthcheck.map(AskedCheck::healthcheck),
            stop_signal: given(self.stop_signal),
            stop_timeout: self.stop_timeout,
        })
    }
}

pub(super) fn create(server: &Server, exchange: &mut Exchange<'_>) -> Answer {
    let engine = server.engine();
    let asked: Asked = exchange.json()?;
    let query = &exchange.request.query;
    let name = query.get("name");
    let name = name.map(|name| name.strip_prefix('/').unwrap_or(name).to_owned());
    let platform = query.get("platform").map(str::parse::<Platform>);
    let options = asked.options(engine, name)?;
    if let Some(platform) = platform.transpose()?
        && !engine.image(&options.image)?.is_for(&platform)
    {
        return Err(ApiError::new(
            404,
            format_args!(
                "image with reference {} was found but does not match the specified platform: wanted {platform}",
                options.image
            ),
        ));
    }
    let id = engine
        .create_container(&options)
        .map_err(|error| match error {
            // Another container: a client that is told 404 takes it for the image's.
            ContainerError::NoSuchContainer(_) => ApiError::bad(error),
            error => error.into(),
        })?;
    let warnings: Vec<&str> = options.warnings().collect();
    Ok(Reply::Json(
        201,
        json!({ "Id": id.as_str(), "Warnings": warnings }),
    ))
}

/// What `POST /containers/NAME/update` asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Update {
    restart_policy: Option<AskedPolicy>,
    #[serde(flatten)]
    limits: AskedLimits,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

pub(super) fn update(server: &Server, exchange: &mut Exchange<'_>, name: &str) -> Answer {
    let asked: Update = exchange.json()?;
    check_rest(&asked.rest)?;
    let policy = asked
        .restart_policy
        .filter(|policy| policy.name.as_deref().is_some_and(|name| !name.is_empty()));
    let policy = policy.map(|policy| policy.policy()).transpose()?;
    let resources = asked.limits.resources();
    server.engine().update_container(name, &resources, policy)?;
    Reply::ok(json!({ "Warnings": null }))
}
