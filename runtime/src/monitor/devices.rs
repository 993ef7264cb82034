//! The host's devices that a container has.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FileType;

use super::Failure;
use crate::cgroup::DeviceRules;
use crate::container::Config;
use crate::sandbox::Device;

/// What of the host's /dev is never a container's: it has its own.
const OWN: [&str; 7] = ["console", "fd", "mqueue", "pts", "ptmx", "shm", ".udev"];

/// Returns the nodes to make and the rules for devices.
pub(super) fn of(config: &Config) -> Result<(Vec<Device>, DeviceRules), Failure> {
    let mut devices = Vec::new();
    let mut rules = DeviceRules::default();
    for mapping in &config.devices {
        let found = found(&mapping.host, &mapping.container);
        if found.is_empty() {
            return Err(Failure {
                code: 125,
                words: format!(
                    "error gathering device information while adding custom device {:?}: {}",
                    mapping.host.display().to_string(),
                    match mapping.host.exists() {
                        true => "not a device node",
                        false => "no such file or directory",
                    }
                ),
            });
        }
        for device in &found {
            let is_block = FileType::from_raw_mode(device.mode) == FileType::BlockDevice;
            let (major, minor) = (
                rustix::fs::major(device.number),
                rustix::fs::minor(device.number),
            );
            rules.allow(is_block, major, minor, &mapping.access);
        }
        devices.extend(found);
    }
    for rule in &config.device_cgroup_rules {
        rules.add(rule);
    }
    if config.privileged {
        for entry in fs::read_dir("/dev").into_iter().flatten().flatten() {
            let name = entry.file_name();
            if !OWN.iter().any(|own| name == *own) {
                devices.extend(found(&entry.path(), &Path::new("/dev").join(&name)));
            }
        }
    }
    Ok((devices, rules))
}

/// Returns the device at `host`, or those in the directory there.
fn found(host: &Path, container: &Path) -> Vec<Device> {
    let Ok(metadata) = fs::symlink_metadata(host) else {
        return Vec::new();
    };
    // A link of the host's leads to a device; those within a directory only name the same ones again.
    let metadata = match metadata.is_symlink() {
        true => match fs::metadata(host) {
            Ok(metadata) if !metadata.is_dir() => metadata,
            _ => return Vec::new(),
        },
        false => metadata,
    };
    if metadata.is_dir() {
        let entries = fs::read_dir(host).into_iter().flatten().flatten();
        return entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()))
            .flat_map(|entry| found(&entry.path(), &container.join(entry.file_name())))
            .collect();
    }
    match FileType::from_raw_mode(metadata.mode()) {
        FileType::BlockDevice | FileType::CharacterDevice => vec![Device {
            host: PathBuf::from(host),
            path: PathBuf::from(container),
            mode: metadata.mode(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            number: metadata.rdev(),
        }],
        _ => Vec::new(),
    }
}
