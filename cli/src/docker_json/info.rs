//! What there is, and on what it runs.

use runtime::Engine;
use runtime::container::ContainerError;
use runtime::container::ContainerFilter;
use runtime::container::Status;
use runtime::image::ImageFilter;
use serde_json::Value;
use serde_json::json;

/// Returns `GET /info`.
pub(crate) fn info(engine: &Engine) -> Result<Value, ContainerError> {
    let containers = engine.containers(true, &ContainerFilter::default())?;
    let images = engine.images(&ImageFilter::default())?;
    let count = |wanted: fn(Status) -> bool| {
        let statuses = containers.iter().map(|container| container.state.status);
        statuses.filter(|status| wanted(*status)).count()
    };
    let system = rustix::system::uname();
    let field = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let is_unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let mut info = json!({
        "ID": identity(engine),
        "Containers": containers.len(),
        "ContainersRunning": count(|status| matches!(status, Status::Running | Status::Restarting)),
        "ContainersPaused": count(|status| status == Status::Paused),
        "ContainersStopped": count(|status| !status.is_alive()),
        "Images": images.len(),
        "Driver": "layerfs",
        "DriverStatus": [],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null"],
            "Authorization": null,
            "Log": ["journald", "json-file", "local", "none"],
        },
        "MemoryLimit": true,
        "SwapLimit": true,
        "CpuCfsPeriod": true,
        "CpuCfsQuota": true,
        "CPUShares": true,
        "CPUSet": true,
        "PidsLimit": true,
        "IPv4Forwarding": is_on("/proc/sys/net/ipv4/ip_forward"),
        "Debug": false,
        "NFd": std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        "OomKillDisable": false,
        "NGoroutines": std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count),
        "SystemTime": jiff::Timestamp::now().to_string(),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": if is_unified { "2" } else { "1" },
        "NEventsListener": 0,
    });
    let more = json!({
        "KernelVersion": field(system.release()),
        "OperatingSystem": of_host("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
        "OSVersion": of_host("VERSION_ID").unwrap_or_default(),
        "OSType": "linux",
        "Architecture": field(system.machine()),
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
            "IndexConfigs": {
                "docker.io": { "Name": "docker.io", "Mirrors": [], "Secure": true, "Official": true },
            },
            "Mirrors": [],
        },
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": total_memory(),
        "GenericResources": null,
        "DockerRootDir": engine.root(),
        "HttpProxy": variable("HTTP_PROXY"),
        "HttpsProxy": variable("HTTPS_PROXY"),
        "NoProxy": variable("NO_PROXY"),
        "Name": field(system.nodename()),
        "Labels": [],
        "ExperimentalBuild": false,
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "Runtimes": { "ply": { "path": "ply" } },
        "DefaultRuntime": "ply",
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": false,
            "Error": "",
            "RemoteManagers": null,
        },
        "LiveRestoreEnabled": true,
        "Isolation": "",
        "InitBinary": "ply",
        "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
        "Warnings": null,
    });
    if let (Some(info), Value::Object(more)) = (info.as_object_mut(), more) {
        info.extend(more);
    }
    Ok(info)
}

/// Returns a name of this engine that stays the same: the machine's and the root's, as twelve groups of letters.
fn identity(engine: &Engine) -> String {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let name = format!("{}:{}", machine.trim(), engine.root().display());
    let digest = layerfs::Digest::of(name.as_bytes()).hex();
    let groups = digest.as_bytes().chunks(4).take(12);
    let groups: Vec<String> = groups
        .map(|group| String::from_utf8_lossy(group).to_ascii_uppercase())
        .collect();
    groups.join(":")
}

fn is_on(path: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

/// Returns the bytes of memory that the host has.
pub(crate) fn total_memory() -> u64 {
    let system = rustix::system::sysinfo();
    system.totalram.saturating_mul(u64::from(system.mem_unit))
}

/// Returns what the host says of itself, `os-release(5)`.
fn of_host(key: &str) -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}
