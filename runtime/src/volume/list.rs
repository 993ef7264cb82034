//! Finding volumes, and removing those that nobody needs.

use std::collections::HashSet;

use regex::Regex;

use super::DRIVER;
use super::Volume;
use super::VolumeError;
use super::rows;
use crate::Engine;
use crate::container::DiskUsage;
use crate::container::name_pattern;
use crate::container::size_of;

/// Which volumes are wanted: each given field must fit; several values of one field are alternatives.
#[derive(Debug, Clone, Default)]
pub struct VolumeFilter {
    dangling: Option<bool>,
    drivers: Vec<String>,
    labels: Vec<String>,
    without_labels: Vec<String>,
    names: Vec<Regex>,
}

/// What a prune has removed.
#[derive(Debug, Clone, Default)]
pub struct VolumesPruned {
    /// The volumes' names.
    pub names: Vec<String>,
    /// The bytes they took.
    pub freed: u64,
}

impl VolumeFilter {
    /// Adds one `key=value` of `volume ls`.
    pub fn add(&mut self, filter: &str) -> Result<(), VolumeError> {
        let (key, value) = filter.split_once('=').unwrap_or((filter, ""));
        match key {
            "dangling" => {
                self.dangling =
                    Some(bool_of(value).ok_or_else(|| {
                        VolumeError::InvalidFilter(format!("dangling=[{value}]"))
                    })?);
            }
            "driver" => self.drivers.push(value.to_owned()),
            "label" => self.labels.push(value.to_owned()),
            "name" => self.names.push(name_pattern(value)),
            key => return Err(VolumeError::InvalidFilter(key.to_owned())),
        }
        Ok(())
    }

    /// Adds one `key=value` of `volume prune`; returns whether it asks for named volumes too.
    pub fn add_of_prune(&mut self, filter: &str) -> Result<bool, VolumeError> {
        let (key, value) = filter.split_once('=').unwrap_or((filter, ""));
        match (filter.split_once("!="), key) {
            (Some(("label", value)), _) => self.without_labels.push(value.to_owned()),
            (_, "label") => self.labels.push(value.to_owned()),
            (_, "all") => {
                return bool_of(value)
                    .ok_or_else(|| VolumeError::InvalidFilter(format!("all=[{value}]")));
            }
            _ => {
                let key = key.trim_end_matches('!');
                return Err(VolumeError::InvalidFilter(key.to_owned()));
            }
        }
        Ok(false)
    }

    fn fits(&self, volume: &Volume) -> bool {
        let has = |label: &String| match label.split_once('=') {
            Some((key, value)) => volume.labels.get(key).is_some_and(|it| it == value),
            None => volume.labels.contains_key(label),
        };
        let any = |values: &[String], fits: &dyn Fn(&str) -> bool| {
            values.is_empty() || values.iter().any(|value| fits(value))
        };
        self.dangling
            .is_none_or(|dangling| dangling == volume.containers.is_empty())
            && any(&self.drivers, &|driver| driver == DRIVER)
            && (self.names.is_empty() || self.names.iter().any(|name| name.is_match(&volume.name)))
            && self.labels.iter().all(has)
            && !self.without_labels.iter().any(has)
    }
}

fn bool_of(value: &str) -> Option<bool> {
    match value {
        "1" | "true" | "t" | "T" | "True" | "TRUE" => Some(true),
        "0" | "false" | "f" | "F" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

impl Engine {
    /// Returns the volumes that fit, by name.
    pub fn volumes(&self, filter: &VolumeFilter) -> Result<Vec<Volume>, VolumeError> {
        self.sweep_volumes()?;
        let rows = rows::all(&self.db())?;
        let mut volumes: Vec<Volume> = rows.into_iter().map(|row| self.with_place(row)).collect();
        volumes.retain(|volume| filter.fits(volume));
        Ok(volumes)
    }

    /// Removes the volumes that fit and no container has: the anonymous ones, or all.
    pub fn prune_volumes(
        &self,
        all: bool,
        filter: &VolumeFilter,
    ) -> Result<VolumesPruned, VolumeError> {
        let mut pruned = VolumesPruned::default();
        for volume in self.volumes(filter)? {
            if !volume.containers.is_empty() || !(all || volume.anonymous) {
                continue;
            }
            let size = self.volume_size(&volume);
            // One that a container has got meanwhile stays.
            if self.take_volume_away(&volume.name)? {
                pruned.names.push(volume.name);
                pruned.freed += size;
            }
        }
        self.emit_prune("volume", pruned.freed);
        Ok(pruned)
    }

    /// Returns the bytes that a volume's files take; what its options show lies elsewhere.
    pub fn volume_size(&self, volume: &Volume) -> u64 {
        match volume.driver_opts.is_empty() {
            true => size_of(&volume.mountpoint, &mut HashSet::new()),
            false => 0,
        }
    }

    /// Returns what volumes take.
    pub fn volume_usage(&self) -> Result<DiskUsage, VolumeError> {
        let mut usage = DiskUsage::default();
        for volume in self.volumes(&VolumeFilter::default())? {
            let size = self.volume_size(&volume);
            usage.total += 1;
            usage.size += size;
            match volume.containers.is_empty() {
                true => usage.reclaimable += size,
                false => usage.active += 1,
            }
        }
        Ok(usage)
    }
}
