//! Limits of reading and writing block devices: `io` of cgroup v2, `blkio` of v1.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use super::CgroupError;
use super::write;
use super::write_if_there;

/// How fast a block device may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// The device's node.
    pub device: PathBuf,
    /// Bytes or operations a second.
    pub rate: u64,
}

/// What a container may do with block devices; what is empty is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockLimits {
    /// Its part of the devices' time beside others', 10 to 1000.
    pub weight: Option<u64>,
    /// The same for single devices, the weight in the rate's place.
    pub device_weights: Vec<DeviceRate>,
    /// Bytes read a second.
    pub read_bps: Vec<DeviceRate>,
    /// Bytes written a second.
    pub write_bps: Vec<DeviceRate>,
    /// Reads a second.
    pub read_iops: Vec<DeviceRate>,
    /// Writes a second.
    pub write_iops: Vec<DeviceRate>,
}

/// Maps a weight of v1, 10..=1000, to one of v2, 1..=10000, as the OCI runtimes do.
fn on_v2(weight: u64) -> u64 {
    1 + (weight.clamp(10, 1000) - 10) * 9999 / 990
}

impl BlockLimits {
    /// Returns the rates, each with its key in v2's `io.max` and its file in v1.
    fn rates(&self) -> impl Iterator<Item = (&DeviceRate, &'static str, &'static str)> {
        [
            (&self.read_bps, "rbps", "blkio.throttle.read_bps_device"),
            (&self.write_bps, "wbps", "blkio.throttle.write_bps_device"),
            (&self.read_iops, "riops", "blkio.throttle.read_iops_device"),
            (
                &self.write_iops,
                "wiops",
                "blkio.throttle.write_iops_device",
            ),
        ]
        .into_iter()
        .flat_map(|(rates, key, file)| rates.iter().map(move |rate| (rate, key, file)))
    }

    /// Sets the limits in a group of v2.
    pub(super) fn set_on_v2(&self, group: &Path) -> Result<(), CgroupError> {
        if let Some(weight) = self.weight {
            write_if_there(&group.join("io.bfq.weight"), &weight.to_string())?;
            let line = format!("default {}", on_v2(weight));
            write_if_there(&group.join("io.weight"), &line)?;
        }
        for DeviceRate { device, rate } in &self.device_weights {
            let number = number_of(device)?;
            let line = format!("{number} {rate}");
            set_weight(&group.join("io.bfq.weight"), &line, device)?;
            let line = format!("{number} {}", on_v2(*rate));
            set_weight(&group.join("io.weight"), &line, device)?;
        }
        for (rate, key, _) in self.rates() {
            let line = format!("{} {key}={}", number_of(&rate.device)?, rate.rate);
            write(&group.join("io.max"), &line)?;
        }
        Ok(())
    }

    /// Sets the limits in a group of v1.
    pub(super) fn set_on_v1(&self, group: &Path) -> Result<(), CgroupError> {
        if let Some(weight) = self.weight {
            for file in ["blkio.weight", "blkio.bfq.weight"] {
                write_if_there(&group.join(file), &weight.to_string())?;
            }
        }
        for DeviceRate { device, rate } in &self.device_weights {
            let line = format!("{} {rate}", number_of(device)?);
            for file in ["blkio.weight_device", "blkio.bfq.weight_device"] {
                set_weight(&group.join(file), &line, device)?;
            }
        }
        for (rate, _, file) in self.rates() {
            let line = format!("{} {}", number_of(&rate.device)?, rate.rate);
            write(&group.join(file), &line)?;
        }
        Ok(())
    }
}

/// Sets the weight of a device, whose scheduler may know none.
fn set_weight(file: &Path, line: &str, device: &Path) -> Result<(), CgroupError> {
    match write_if_there(file, line) {
        Err(CgroupError::Io { source, .. }) => Err(CgroupError::Device {
            path: device.to_owned(),
            source,
        }),
        written => written,
    }
}

/// Returns a block device's number as the cgroup's files take it.
fn number_of(device: &Path) -> Result<String, CgroupError> {
    let found = std::fs::metadata(device).and_then(|metadata| {
        match metadata.file_type().is_block_device() {
            true => Ok(metadata.rdev()),
            false => Err(io::Error::from_raw_os_error(libc::ENOTBLK)),
        }
    });
    let number = found.map_err(|source| CgroupError::Device {
        path: device.to_owned(),
        source,
    })?;
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    Ok(format!("{major}:{minor}"))
}
