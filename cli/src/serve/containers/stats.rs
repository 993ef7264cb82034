//! `GET /containers/NAME/stats`: what a container uses, each second.

use std::time::Duration;

use runtime::cgroup::Usage;
use runtime::container::Container;
use serde_json::Value;
use serde_json::json;

use crate::docker_json::total_memory;
use crate::serve::Server;
use crate::serve::exchange::Answer;
use crate::serve::exchange::Exchange;
use crate::serve::exchange::Reply;

/// The time between two looks, between which the processors' use is measured.
const INTERVAL: Duration = Duration::from_secs(1);

/// How a moment that never was is written.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// One look at a container.
struct Look {
    /// When, as it is told.
    read: String,
    usage: Usage,
    /// Nanoseconds of all processors' time, idle and busy.
    system: u64,
}

impl Look {
    fn at(server: &Server, container: &Container) -> Option<Look> {
        Some(Look {
            read: jiff::Timestamp::now().to_string(),
            usage: server.engine().usage(container)?,
            system: system_time(),
        })
    }
}

pub(super) fn stats(server: &Server, exchange: &mut Exchange<'_>, name: &str) -> Answer {
    let query = &exchange.request.query;
    let (streams, one_shot) = (query.is_true_or_absent("stream"), query.is_true("one-shot"));
    let container = server.engine().container(name)?;
    let mut before = Look::at(server, &container);
    if !streams {
        if one_shot || before.is_none() {
            return Reply::ok(shown(&container, None, before.as_ref()));
        }
        std::thread::sleep(INTERVAL);
        let now = Look::at(server, &container);
        return Reply::ok(shown(&container, before.as_ref(), now.as_ref()));
    }
    let mut out = exchange.stream(Some("application/json"))?;
    let mut earlier = None;
    loop {
        let container = match server.engine().container(container.id.as_str()) {
            Ok(container) => container,
            Err(_) => return out.end(),
        };
        out.line(&shown(&container, earlier.as_ref(), before.as_ref()))?;
        std::thread::sleep(INTERVAL);
        if exchange.is_abandoned() || server.is_stopping() {
            return out.end();
        }
        earlier = before;
        before = Look::at(server, &container);
    }
}

fn shown(container: &Container, before: Option<&Look>, now: Option<&Look>) -> Value {
    let read = |look: Option<&Look>| look.map_or(NEVER.to_owned(), |look| look.read.clone());
    let mut shown = json!({
        "name": format!("/{}", container.name),
        "id": container.id.as_str(),
        "read": read(now),
        "preread": read(before),
        "num_procs": 0,
        "pids_stats": {},
        "blkio_stats": {
            "io_service_bytes_recursive": null, "io_serviced_recursive": null, "io_queue_recursive": null,
            "io_service_time_recursive": null, "io_wait_time_recursive": null, "io_merged_recursive": null,
            "io_time_recursive": null, "sectors_recursive": null,
        },
        "storage_stats": {},
        "cpu_stats": cpu(now),
        "precpu_stats": cpu(before),
        "memory_stats": {},
    });
    let Some(Look { usage, .. }) = now else {
        return shown;
    };
    let limit = container.config.resources.memory;
    shown["pids_stats"] = json!({ "current": usage.pids });
    if let Some(most) = container.config.resources.pids.filter(|most| *most > 0) {
        shown["pids_stats"]["limit"] = most.into();
    }
    shown["memory_stats"] = json!({
        "usage": usage.memory,
        // What could be dropped is left out of the usage already.
        "stats": { "inactive_file": 0, "total_inactive_file": 0 },
        "limit": limit.unwrap_or_else(total_memory),
    });
    let (read, written) = usage.block;
    shown["blkio_stats"]["io_service_bytes_recursive"] = json!([
        { "major": 0, "minor": 0, "op": "read", "value": read },
        { "major": 0, "minor": 0, "op": "write", "value": written },
    ]);
    let (received, sent) = usage.network;
    if received > 0 || sent > 0 {
        shown["networks"] = json!({
            "eth0": {
                "rx_bytes": received, "rx_packets": 0, "rx_errors": 0, "rx_dropped": 0,
                "tx_bytes": sent, "tx_packets": 0, "tx_errors": 0, "tx_dropped": 0,
            },
        });
    }
    shown
}

fn cpu(look: Option<&Look>) -> Value {
    let mut cpu = json!({
        "cpu_usage": {
            "total_usage": look.map_or(0, |look| look.usage.cpu),
            "usage_in_kernelmode": 0,
            "usage_in_usermode": 0,
        },
        "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 },
    });
    if let Some(look) = look {
        cpu["system_cpu_usage"] = look.system.into();
        cpu["online_cpus"] = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .into();
    }
    cpu
}

/// Returns the nanoseconds that the host's processors have run, `proc_stat(5)`.
fn system_time() -> u64 {
    /// Nanoseconds of a tick, 1/`USER_HZ`.
    const TICK: u64 = 10_000_000;
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    // The guests' time, eighth and ninth, is in the users' already.
    let ticks = line.split_whitespace().skip(1).take(8);
    let sum: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    sum * TICK
}
