//! Secrets and configs in containers.
//!
//! What lies in a file of the host is a read-only mount of it. What is written in the compose file or in a variable is
//! put into the container's own layer before its first start: it never lies on the host as a file.

use runtime::container::Status;
use runtime::copy::CopyOptions;

use super::composition::Composition;
use super::interpolate::Variables as _;
use super::members::Member;
use super::model::BindOptions;
use super::model::FileMount;
use super::model::FileSource;
use super::model::Mount;
use super::model::Service;
use super::project::Project;
use crate::command_error::CommandError;

/// A secret or config of a service, and where it comes from.
struct Wanted<'a> {
    mount: &'a FileMount,
    source: &'a FileSource,
    target: String,
}

fn wanted<'a>(project: &'a Project, service: &'a Service) -> Vec<Wanted<'a>> {
    let of = |mounts: &'a [FileMount],
              sources: &'a std::collections::BTreeMap<String, FileSource>| {
        mounts.iter().filter_map(|mount| {
            let target = mount
                .target
                .clone()
                .unwrap_or_else(|| format!("/{}", mount.source));
            Some(Wanted {
                mount,
                source: sources.get(&mount.source)?,
                target,
            })
        })
    };
    let secrets = of(&service.secrets, &project.secrets);
    secrets
        .chain(of(&service.configs, &project.configs))
        .collect()
}

/// Returns the mounts of what lies in files of the host.
pub(crate) fn mounts(project: &Project, service: &Service) -> Result<Vec<Mount>, CommandError> {
    let mut mounts = Vec::new();
    for wanted in wanted(project, service) {
        let name = &wanted.mount.source;
        if wanted.source.external {
            return Err(CommandError::failed(format_args!(
                "unsupported external secret or config {name}"
            )));
        }
        if let Some(file) = &wanted.source.file {
            mounts.push(Mount {
                kind: "bind".to_owned(),
                source: Some(file.clone()),
                target: wanted.target,
                read_only: true,
                bind: BindOptions::default(),
                ..Mount::default()
            });
        }
    }
    Ok(mounts)
}

impl Composition<'_> {
    /// Puts secrets and configs that are not files into a container that has never run.
    pub(crate) fn put_files(&self, member: &Member) -> Result<(), CommandError> {
        let service = self.project.services.get(&member.service);
        let Some(service) = service.filter(|_| member.container.state.status == Status::Created)
        else {
            return Ok(());
        };
        let mut archive = tar::Builder::new(Vec::new());
        let mut is_empty = true;
        for wanted in wanted(self.project, service) {
            let content = match (&wanted.source.content, &wanted.source.environment) {
                (Some(content), _) => content.clone(),
                (None, Some(variable)) => {
                    self.project.environment.get(variable).ok_or_else(|| {
                        CommandError::failed(format_args!(
                            "environment variable {variable:?} required by secret or config {:?} is not set",
                            wanted.mount.source
                        ))
                    })?
                }
                _ => continue,
            };
            add(&mut archive, &wanted, content.as_bytes())?;
            is_empty = false;
        }
        if is_empty {
            return Ok(());
        }
        let bytes = archive.into_inner().map_err(CommandError::failed)?;
        let options = CopyOptions {
            archive: true,
            ..CopyOptions::default()
        };
        self.engine
            .extract_to_container(member.id(), b"/", &options, &mut bytes.as_slice())
            .map_err(CommandError::failed)?;
        Ok(())
    }
}

fn add(
    archive: &mut tar::Builder<Vec<u8>>,
    wanted: &Wanted<'_>,
    content: &[u8],
) -> Result<(), CommandError> {
    let number = |what: &str, text: &Option<String>| match text {
        None => Ok(0),
        Some(text) => text.parse::<u64>().map_err(|_| {
            CommandError::failed(format_args!(
                "{what} of {:?} must be a number, not {text:?}",
                wanted.mount.source
            ))
        }),
    };
    let mode = wanted.mount.mode.as_deref();
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_uid(number("uid", &wanted.mount.uid)?);
    header.set_gid(number("gid", &wanted.mount.gid)?);
    header.set_mode(
        mode.and_then(|mode| u32::from_str_radix(mode, 8).ok())
            .unwrap_or(0o444),
    );
    header.set_mtime(0);
    let path = wanted.target.trim_start_matches('/');
    archive
        .append_data(&mut header, path, content)
        .map_err(CommandError::failed)
}
