//! `inspect`: a container in Docker's JSON.

use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use super::Config;
use super::Container;
use super::Health;
use super::MountSpec;
use super::Status;
use crate::Engine;
use crate::cgroup::DeviceRate;
use crate::sandbox;
use crate::sandbox::Mount;
use crate::sandbox::MountSource;
use crate::volume;

/// How Docker writes a time that is none.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| NEVER.to_owned(), |time| time.to_string())
}

impl Engine {
    /// Returns a container as Docker's `inspect` shows it.
    pub fn inspect_container(&self, container: &Container) -> Value {
        let Container {
            id,
            name,
            created,
            config,
            state,
        } = container;
        let directory = self.container_dir(id);
        let in_directory = |file: &str| directory.join(file).to_string_lossy().into_owned();
        let arguments = config.arguments();
        let (path, arguments) = arguments
            .split_first()
            .map_or(("", &[][..]), |(path, rest)| (path, rest));
        let is_running = state.status.is_alive();
        let mut value = json!({
            "Id": id.as_str(),
            "Created": created.to_string(),
            "Path": path,
            "Args": arguments,
            "State": {
                "Status": state.status.as_str(),
                "Running": is_running,
                "Paused": state.status == Status::Paused,
                "Restarting": state.status == Status::Restarting,
                "OOMKilled": state.oom_killed,
                "Dead": false,
                "Pid": state.pid.unwrap_or(0),
                "ExitCode": match state.status {
                    Status::Running | Status::Paused => 0,
                    _ => state.exit_code,
                },
                "Error": state.error,
                "StartedAt": time(state.started),
                "FinishedAt": time(state.finished),
            },
            "Image": config.image_id,
            "ResolvConfPath": in_directory("resolv.conf"),
            "HostnamePath": in_directory("hostname"),
            "HostsPath": in_directory("hosts"),
            "LogPath": in_directory("log"),
            "Name": format!("/{name}"),
            "RestartCount": state.restart_count,
            "Driver": "layerfs",
            "Platform": "linux",
            "MountLabel": "",
            "ProcessLabel": "",
            "AppArmorProfile": "",
            "ExecIDs": null,
            "HostConfig": with_network(config, host_config(config)),
            "GraphDriver": {
                "Name": "layerfs",
                "Data": { "UpperDir": in_directory("upper"), "WorkDir": in_directory("work") },
            },
            "Mounts": self.mounts_of(config),
            "Config": container_config(config),
            "NetworkSettings": self.network_settings(container),
        });
        if let Some(health) = self.health(container) {
            value["State"]["Health"] = json!(health);
        }
        if let Some(check) = &config.healthcheck {
            value["Config"]["Healthcheck"] = json!(check);
        }
        value
    }

    /// Returns a container's mounts as Docker shows them.
    pub fn mounts_of(&self, config: &Config) -> Value {
        let mounts = config.mounts.iter().filter(|mount| {
            // `--tmpfs` is shown in HostConfig alone.
            let is_tmpfs = matches!(mount.source, MountSource::Tmpfs(_));
            !(is_tmpfs && config.tmpfs.contains_key(&*mount.target.to_string_lossy()))
        });
        mounts.map(|it| mount(it, self.root())).collect()
    }

    /// Returns what the last run's health checks have found, if it has any.
    pub fn health(&self, container: &Container) -> Option<Health> {
        container.config.healthcheck.as_ref()?.command()?;
        let path = self.container_dir(&container.id).join("health");
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }
}

/// Returns what was asked for: `{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}`.
fn port_bindings(config: &Config) -> Value {
    let mut bindings = serde_json::Map::new();
    for publish in &config.publish {
        let host = match publish.host {
            None => String::new(),
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first}-{last}"),
        };
        let address = publish.address.map(|it| it.to_string()).unwrap_or_default();
        let binding = json!({ "HostIp": address, "HostPort": host });
        let bound = bindings
            .entry(publish.port.to_string())
            .or_insert_with(|| json!([]));
        if let Some(bound) = bound.as_array_mut() {
            bound.push(binding);
        }
    }
    bindings.into()
}

/// Adds what was asked for of the networks.
fn with_network(config: &Config, mut value: Value) -> Value {
    value["PublishAllPorts"] = config.publish_all.into();
    value["Links"] = json!(links(config));
    value
}

fn links(config: &Config) -> Option<Vec<&str>> {
    let links = config.networks.iter().flat_map(|it| &it.links);
    let links: Vec<&str> = links.map(String::as_str).collect();
    (!links.is_empty()).then_some(links)
}

fn exposed(config: &Config) -> Value {
    let exposed = config
        .exposed
        .iter()
        .map(|port| (port.to_string(), json!({})));
    let exposed: serde_json::Map<String, Value> = exposed.collect();
    match exposed.is_empty() {
        true => Value::Null,
        false => exposed.into(),
    }
}

fn host_config(config: &Config) -> Value {
    let mut value = limits_and_walls(config);
    let asked = &config.asked_mounts;
    value["Binds"] = json!(nullable(&config.binds));
    if !asked.is_empty() {
        value["Mounts"] = asked.iter().map(asked_mount).collect();
    }
    if !config.tmpfs.is_empty() {
        value["Tmpfs"] = json!(config.tmpfs);
    }
    let rates = |rates: &[DeviceRate]| -> Option<Vec<Value>> {
        let rate = |it: &DeviceRate| json!({ "Path": it.device, "Rate": it.rate });
        (!rates.is_empty()).then(|| rates.iter().map(rate).collect())
    };
    let block = &config.resources.block;
    value["BlkioWeight"] = json!(block.weight.unwrap_or(0));
    let weight = |it: &DeviceRate| json!({ "Path": it.device, "Weight": it.rate });
    let weights: Vec<Value> = block.device_weights.iter().map(weight).collect();
    value["BlkioWeightDevice"] = json!(weights);
    value["BlkioDeviceReadBps"] = json!(rates(&block.read_bps));
    value["BlkioDeviceWriteBps"] = json!(rates(&block.write_bps));
    value["BlkioDeviceReadIOps"] = json!(rates(&block.read_iops));
    value["BlkioDeviceWriteIOps"] = json!(rates(&block.write_iops));
    value["MemorySwappiness"] = json!(config.resources.memory_swappiness);
    value["OomKillDisable"] = json!(config.resources.oom_kill_disable);
    if !config.sysctls.is_empty() {
        value["Sysctls"] = json!(config.sysctls);
    }
    if !config.annotations.is_empty() {
        value["Annotations"] = json!(config.annotations);
    }
    value["VolumesFrom"] = json!(nullable(&config.volumes_from));
    value["VolumeDriver"] = json!(config.volume_driver);
    // What containers here never have.
    let fields = [
        ("ConsoleSize", json!([0, 0])),
        ("Isolation", json!("")),
        ("Cgroup", json!("")),
        ("CgroupParent", json!("")),
        ("CpuRealtimePeriod", json!(0)),
        ("CpuRealtimeRuntime", json!(0)),
        ("DeviceRequests", Value::Null),
        ("CpuCount", json!(0)),
        ("CpuPercent", json!(0)),
        ("IOMaximumIOps", json!(0)),
        ("IOMaximumBandwidth", json!(0)),
    ];
    for (name, zero) in fields {
        value[name] = zero;
    }
    value
}

fn limits_and_walls(config: &Config) -> Value {
    let (masked, read_only): (&[&str], &[&str]) = match config.has_masks() {
        true => (sandbox::MASKED, sandbox::READ_ONLY),
        false => (&[], &[]),
    };
    let ulimits: Vec<Value> = config
        .ulimits
        .iter()
        .map(|limit| json!({ "Name": limit.name, "Soft": limit.soft, "Hard": limit.hard }))
        .collect();
    let devices: Vec<Value> = config
        .devices
        .iter()
        .map(|device| {
            json!({
                "PathOnHost": device.host,
                "PathInContainer": device.container,
                "CgroupPermissions": device.access,
            })
        })
        .collect();
    json!({
        "ContainerIDFile": "",
        "LogConfig": { "Type": config.log.driver, "Config": config.log.options },
        "NetworkMode": config.network_mode,
        "PortBindings": port_bindings(config),
        "RestartPolicy": {
            "Name": config.restart.name(),
            "MaximumRetryCount": config.restart.maximum(),
        },
        "AutoRemove": config.auto_remove,
        "CapAdd": nullable(&config.cap_add),
        "CapDrop": nullable(&config.cap_drop),
        "ExtraHosts": nullable(&config.extra_hosts),
        "GroupAdd": nullable(&config.group_add),
        "IpcMode": config.ipc_mode,
        "PidMode": config.pid_mode,
        "UTSMode": config.uts_mode,
        "CgroupnsMode": config.cgroupns_mode,
        "UsernsMode": config.userns_mode,
        "Dns": config.dns,
        "DnsSearch": config.dns_search,
        "DnsOptions": config.dns_options,
        "OomScoreAdj": config.oom_score_adj.unwrap_or(0),
        "DeviceCgroupRules": nullable(&config.device_cgroup_rules),
        "Devices": devices,
        "Privileged": config.privileged,
        "ReadonlyRootfs": config.read_only,
        "SecurityOpt": nullable(&config.security_opt),
        "ShmSize": config.shm_size,
        "Runtime": "ply",
        "Memory": config.resources.memory.unwrap_or(0),
        "MemoryReservation": config.resources.memory_reservation.unwrap_or(0),
        "MemorySwap": config.resources.memory_and_swap().unwrap_or(0),
        "NanoCpus": config.resources.nano_cpus.unwrap_or(0),
        "CpuShares": config.resources.cpu_shares.unwrap_or(0),
        "CpuPeriod": config.resources.cpu_period.unwrap_or(0),
        "CpuQuota": config.resources.cpu_quota.unwrap_or(0),
        "CpusetCpus": config.resources.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": config.resources.cpuset_mems.clone().unwrap_or_default(),
        "PidsLimit": config.resources.pids.filter(|pids| *pids > 0),
        "Ulimits": ulimits,
        "Init": config.init,
        "MaskedPaths": masked,
        "ReadonlyPaths": read_only,
    })
}

fn container_config(config: &Config) -> Value {
    json!({
        "Hostname": config.hostname,
        "Domainname": config.domainname,
        "User": config.user,
        "AttachStdin": config.attach[0],
        "AttachStdout": config.attach[1],
        "AttachStderr": config.attach[2],
        "Tty": config.tty,
        "OpenStdin": config.open_stdin,
        "StdinOnce": config.stdin_once,
        "Env": config.env,
        "Cmd": nullable(&config.command),
        "ExposedPorts": exposed(config),
        "Image": config.image,
        "Volumes": (!config.volumes.is_empty()).then(|| {
            let places = config.volumes.iter();
            places.map(|place| (place.clone(), json!({}))).collect::<serde_json::Map<_, _>>()
        }),
        "WorkingDir": config.working_dir,
        "Entrypoint": config.entrypoint,
        "OnBuild": null,
        "Labels": config.labels,
        "StopSignal": config.stop_signal,
        "StopTimeout": config.stop_timeout,
    })
}

fn nullable(values: &[String]) -> Option<&[String]> {
    (!values.is_empty()).then_some(values)
}

fn mount(mount: &Mount, root: &Path) -> Value {
    let mut value = match &mount.source {
        MountSource::Bind(bind) => json!({
            "Type": "bind",
            "Source": bind.path.to_string_lossy(),
            "Propagation": bind.propagation.as_str(),
        }),
        MountSource::Tmpfs(_) => json!({ "Type": "tmpfs", "Source": "", "Propagation": "" }),
        MountSource::Volume(volume) => json!({
            "Type": "volume",
            "Name": volume.name,
            "Source": volume::data_path(root, &volume.name).to_string_lossy(),
            "Driver": volume::DRIVER,
            "Propagation": "",
        }),
    };
    let is_named = matches!(&mount.source, MountSource::Volume(volume) if !volume.anonymous);
    value["Destination"] = json!(mount.target.to_string_lossy());
    value["Mode"] = match is_named && mount.mode.is_empty() {
        // So Docker calls it.
        true => json!("z"),
        false => json!(mount.mode),
    };
    value["RW"] = json!(!mount.read_only);
    value
}

/// Returns a mount as it was asked for, as Docker's HostConfig shows it.
fn asked_mount(spec: &MountSpec) -> Value {
    let mut value = json!({ "Type": spec.kind, "Target": spec.target });
    if !spec.source.is_empty() {
        value["Source"] = json!(spec.source);
    }
    if spec.read_only {
        value["ReadOnly"] = json!(true);
    }
    if !spec.propagation.is_empty() {
        value["BindOptions"]["Propagation"] = json!(spec.propagation);
    }
    if spec.recursion == sandbox::Recursion::Disabled {
        value["BindOptions"]["NonRecursive"] = json!(true);
    }
    if spec.no_copy {
        value["VolumeOptions"]["NoCopy"] = json!(true);
    }
    if !spec.subpath.is_empty() {
        value["VolumeOptions"]["Subpath"] = json!(spec.subpath);
    }
    if !spec.labels.is_empty() {
        value["VolumeOptions"]["Labels"] = json!(spec.labels);
    }
    if !spec.driver_opts.is_empty() {
        value["VolumeOptions"]["DriverConfig"]["Options"] = json!(spec.driver_opts);
    }
    value
}
