//! The volumes and networks of a project: made before its containers, found by their labels when they go.

use std::collections::BTreeMap;

use runtime::volume::VolumeError;
use runtime::volume::VolumeFilter;
use runtime::volume::VolumeOptions;

use super::composition::Composition;
use super::container;
use super::down::Remains;
use super::labels;
use super::model;
use super::model::Volume;
use crate::command_error::CommandError;
use crate::terminal;

impl Composition<'_> {
    /// Makes what of the project's volumes and networks is not there. A volume that has to be made anew is, if that is
    /// agreed to.
    pub(crate) fn ensure_resources(&self, is_agreed: bool) -> Result<(), CommandError> {
        for (key, network) in &self.project.networks {
            self.ensure_network(key, network)?;
        }
        for (key, volume) in &self.project.volumes {
            self.ensure_volume(key, volume, is_agreed)?;
        }
        Ok(())
    }

    pub(crate) fn labels_of_resource(
        &self,
        own: &BTreeMap<String, Option<String>>,
        kind: &str,
        key: &str,
        hash: String,
    ) -> BTreeMap<String, String> {
        let mut all = model::filled(own);
        all.insert(labels::PROJECT.to_owned(), self.project.name.clone());
        all.insert(kind.to_owned(), key.to_owned());
        all.insert(labels::CONFIG_HASH.to_owned(), hash);
        all.insert(labels::VERSION.to_owned(), labels::OUR_VERSION.to_owned());
        all
    }

    /// Removes a volume that is to be made of other settings, with the containers that have it.
    fn remove_diverged_volume(&self, key: &str, volume: &Volume) -> Result<(), CommandError> {
        let mut members = self.members()?;
        members.retain(|member| {
            let service = self.project.services.get(&member.service);
            let mounts = service.into_iter().flat_map(|service| &service.volumes);
            let mut sources = mounts.filter_map(|mount| mount.source.as_deref());
            sources.any(|source| source == key)
        });
        self.stop_all(&members, None)?;
        for member in &members {
            self.remove(member, false)?;
        }
        let id = format!("Volume {}", volume.name);
        self.report.begin(&id, "Removing");
        match self.engine.remove_volume(&volume.name, false) {
            Ok(()) | Err(VolumeError::NoSuchVolume(_)) => {
                self.report.done(&id, "Removed");
                Ok(())
            }
            Err(error) => Err(self.failed(&id, &error)),
        }
    }

    fn ensure_volume(
        &self,
        key: &str,
        volume: &Volume,
        is_agreed: bool,
    ) -> Result<(), CommandError> {
        let name = &volume.name;
        let hash = container::resource_hash(self.project, "volumes", key);
        match self.engine.volume(name) {
            Ok(there) => {
                let project = there.labels.get(labels::PROJECT);
                if !volume.external && project != Some(&self.project.name) {
                    super::warn(format_args!(
                        "volume {name:?} already exists but was created for project {:?} (expected {:?}). Use \
                         `external: true` to use an existing volume",
                        project.map_or("", String::as_str),
                        self.project.name
                    ));
                    return Ok(());
                }
                let made_of = there.labels.get(labels::CONFIG_HASH);
                if volume.external || made_of.is_none_or(|it| *it == hash) {
                    return Ok(());
                }
                let question = format!(
                    "Volume {name:?} exists but doesn't match configuration in compose file. Recreate (data will be \
                     lost)?"
                );
                if self.report.is_dry_run() || !(is_agreed || terminal::agrees(&question)) {
                    return Ok(());
                }
                self.remove_diverged_volume(key, volume)?;
            }
            Err(VolumeError::NoSuchVolume(_)) if volume.external => {
                return Err(CommandError::failed(format_args!(
                    "external volume {name:?} not found"
                )));
            }
            Err(VolumeError::NoSuchVolume(_)) => {}
            Err(error) => return Err(CommandError::failed(error)),
        }
        let id = format!("Volume {name:?}");
        self.report.begin(&id, "Creating");
        let options = VolumeOptions {
            name: Some(name.clone()),
            driver: volume.driver.clone().unwrap_or_default(),
            driver_opts: model::filled(&volume.driver_opts),
            labels: self.labels_of_resource(&volume.labels, labels::VOLUME, key, hash),
        };
        if self.report.is_dry_run() {
            self.report.done(&id, "Created");
            return Ok(());
        }
        let made = self.engine.create_volume(&options);
        made.map_err(|error| self.failed(&id, &error))?;
        self.report.done(&id, "Created");
        Ok(())
    }
}

impl Remains<'_> {
    /// Removes the project's volumes; returns whether there were any.
    pub(crate) fn remove_volumes(&self) -> Result<bool, CommandError> {
        let mut filter = VolumeFilter::default();
        filter
            .add(&format!("label={}={}", labels::PROJECT, self.name))
            .map_err(CommandError::failed)?;
        let volumes = self.engine.volumes(&filter).map_err(CommandError::failed)?;
        for volume in &volumes {
            let id = format!("Volume {}", volume.name);
            self.report.begin(&id, "Removing");
            if self.report.is_dry_run() {
                self.report.done(&id, "Removed");
                continue;
            }
            match self.engine.remove_volume(&volume.name, false) {
                Ok(()) | Err(VolumeError::NoSuchVolume(_)) => self.report.done(&id, "Removed"),
                Err(error) => {
                    self.report.failed(&id, "Error");
                    return Err(CommandError::failed(error));
                }
            }
        }
        Ok(!volumes.is_empty())
    }
}
