//! From a service's limits to the engine's.

use std::collections::BTreeMap;

use runtime::cgroup::BlockLimits;
use runtime::cgroup::DeviceRate;
use runtime::cgroup::Resources;
use runtime::sandbox::Limit;

use super::model::Blkio;
use super::model::Service;
use super::model::ThrottleDevice;
use super::model::Ulimit;
use crate::command_error::CommandError;

/// Returns the limits of a service's containers.
pub(super) fn resources(service: &Service) -> Result<Resources, CommandError> {
    let deploy = service.deploy.as_ref().map(|deploy| &deploy.resources);
    let limits = deploy.map(|it| &it.limits);
    let positive = |size: i64| u64::try_from(size).ok().filter(|size| *size > 0);
    let cpus = match limits.and_then(|limits| limits.cpus.as_deref()) {
        Some(text) => Some(text.parse::<f64>().map_err(|_| {
            CommandError::failed(format_args!("failed to parse {text} as a rational number"))
        })?),
        None => service.cpus,
    };
    let memory = service.mem_limit.or(limits.and_then(|it| it.memory));
    let reserved = deploy.and_then(|it| it.reservations.memory);
    let pids = service.pids_limit.or(limits.and_then(|it| it.pids));
    Ok(Resources {
        memory: memory.and_then(positive),
        memory_swap: service.memswap_limit.filter(|swap| *swap != 0),
        memory_reservation: service.mem_reservation.or(reserved).and_then(positive),
        nano_cpus: cpus
            .filter(|cpus| *cpus > 0.0)
            .map(|cpus| (cpus * 1e9).round() as u64),
        cpu_period: service.cpu_period.filter(|period| *period > 0),
        cpu_quota: service.cpu_quota.filter(|quota| *quota != 0),
        cpu_shares: service.cpu_shares.filter(|shares| *shares > 0),
        cpuset_cpus: service.cpuset.clone(),
        pids: pids.and_then(positive),
        block: service
            .blkio_config
            .as_ref()
            .map_or_else(BlockLimits::default, block),
        memory_swappiness: service.mem_swappiness,
        oom_kill_disable: service.oom_kill_disable,
        ..Resources::default()
    })
}

/// Returns what a container may do with block devices; a rate of nothing is no limit.
fn block(blkio: &Blkio) -> BlockLimits {
    let rates = |devices: &[ThrottleDevice]| -> Vec<DeviceRate> {
        let rates = devices.iter().filter_map(|device| {
            let rate = u64::try_from(device.rate?).ok().filter(|rate| *rate > 0)?;
            Some(DeviceRate {
                device: device.path.clone().into(),
                rate,
            })
        });
        rates.collect()
    };
    let weights = blkio.weight_device.iter().map(|device| DeviceRate {
        device: device.path.clone().into(),
        rate: device.weight,
    });
    BlockLimits {
        weight: blkio.weight.filter(|weight| *weight > 0),
        device_weights: weights.collect(),
        read_bps: rates(&blkio.device_read_bps),
        write_bps: rates(&blkio.device_write_bps),
        read_iops: rates(&blkio.device_read_iops),
        write_iops: rates(&blkio.device_write_iops),
    }
}

/// Returns limits of each process.
pub(super) fn ulimits(limits: &BTreeMap<String, Ulimit>) -> Vec<Limit> {
    let number = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
    let limits = limits.iter().map(|(name, limit)| Limit {
        name: name.clone(),
        soft: number(limit.soft),
        hard: number(limit.hard),
    });
    limits.collect()
}
