//! What of a service refers to something else: namespaces and volumes of other containers, networks, mounts.

use runtime::container::CreateOptions;
use runtime::container::MountSpec;
use runtime::network::Attachment;
use runtime::sandbox::MountSource;

use super::composition::Composition;
use super::files;
use super::members;
use super::members::Member;
use super::model;
use super::model::Mount;
use super::model::Service;
use crate::command_error::CommandError;

impl Composition<'_> {
    /// Adds to a container's options what refers to other things of the project.
    pub(crate) fn join(
        &self,
        options: &mut CreateOptions,
        name: &str,
        service: &Service,
    ) -> Result<(), CommandError> {
        options.pid_mode = self.mode(service.pid.as_deref())?;
        options.ipc_mode = self.mode(service.ipc.as_deref())?;
        match &service.network_mode {
            Some(mode) => options.networks = vec![Attachment::to(self.mode(Some(mode))?)],
            None => self.attach_to_networks(options, name, service)?,
        }
        for from in &service.volumes_from {
            options.volumes_from.push(self.volumes_from(from)?);
        }
        let files = files::mounts(self.project, service)?;
        options.mounts = service
            .volumes
            .iter()
            .chain(&files)
            .map(|it| self.mount(it))
            .collect();
        Ok(())
    }

    /// Resolves `service:NAME` to the container that serves it.
    fn mode(&self, mode: Option<&str>) -> Result<String, CommandError> {
        let mode = mode.unwrap_or_default();
        match mode.strip_prefix("service:") {
            Some(service) => Ok(format!("container:{}", self.server(service)?)),
            None => Ok(mode.to_owned()),
        }
    }

    /// Returns the id of the container that serves a service.
    fn server(&self, service: &str) -> Result<String, CommandError> {
        let members = self.members()?;
        Ok(members::one(&members, service, None)?.id().to_owned())
    }

    /// Resolves `SERVICE[:ro]` and `container:NAME[:ro]`.
    fn volumes_from(&self, from: &str) -> Result<String, CommandError> {
        if let Some(container) = from.strip_prefix("container:") {
            return Ok(container.to_owned());
        }
        let (service, mode) = from.split_once(':').unwrap_or((from, ""));
        let server = self.server(service)?;
        Ok(match mode {
            "" => server,
            mode => format!("{server}:{mode}"),
        })
    }

    fn mount(&self, mount: &Mount) -> MountSpec {
        let source = mount.source.clone().unwrap_or_default();
        let volume = match mount.kind.as_str() {
            "volume" => self.project.volumes.get(&source),
            _ => None,
        };
        let mut tmpfs = Vec::new();
        tmpfs.extend(mount.tmpfs.size.map(|size| format!("size={size}")));
        tmpfs.extend(mount.tmpfs.mode.as_ref().map(|mode| format!("mode={mode}")));
        MountSpec {
            kind: mount.kind.clone(),
            source: volume.map_or(source, |volume| volume.name.clone()),
            target: mount.target.clone(),
            read_only: mount.read_only,
            propagation: mount.bind.propagation.clone().unwrap_or_default(),
            create_source: mount.bind.create_host_path,
            no_copy: mount.volume.nocopy,
            subpath: mount.volume.subpath.clone().unwrap_or_default(),
            labels: model::filled(&mount.volume.labels),
            tmpfs,
            ..MountSpec::default()
        }
    }

    /// Gives a successor the anonymous volumes of the container that it replaces.
    pub(crate) fn inherit_volumes(&self, options: &mut CreateOptions, member: &Member) {
        for mount in &member.container.config.mounts {
            let MountSource::Volume(volume) = &mount.source else {
                continue;
            };
            let is_anonymous = self
                .engine
                .volume(&volume.name)
                .is_ok_and(|it| it.anonymous);
            let target = mount.target.display().to_string();
            if !is_anonymous {
                continue;
            }
            match options.mounts.iter_mut().find(|it| it.target == target) {
                Some(asked) if asked.kind == "volume" && asked.source.is_empty() => {
                    asked.source = volume.name.clone();
                    asked.inherited = true;
                }
                Some(_) => {}
                None => options.mounts.push(MountSpec {
                    kind: "volume".to_owned(),
                    source: volume.name.clone(),
                    target,
                    read_only: mount.read_only,
                    inherited: true,
                    ..MountSpec::default()
                }),
            }
        }
    }
}
