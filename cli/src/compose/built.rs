//! Building the images of services.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;

use runtime::build::Allow;
use runtime::build::BuildEvent;
use runtime::build::BuildOptions;
use runtime::build::BuildProgress;
use runtime::build::ContextSource;
use runtime::build::DockerfileSource;
use runtime::build::NamedContext;
use runtime::build::SecretSource;
use runtime::image::ImageError;
use runtime::reference::Reference;

use super::composition::Composition;
use super::container;
use super::limits;
use super::model::Build;
use super::model::Service;
use super::model::filled;
use super::paths;
use crate::command_error::CommandError;
use crate::commands::build_fields;

/// What `build` adds to what the files say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) args: BTreeMap<String, String>,
    pub(crate) no_cache: bool,
    pub(crate) pull: bool,
    pub(crate) quiet: bool,
    /// Agents by id, as `--ssh` takes them.
    pub(crate) ssh: Vec<String>,
}

impl Composition<'_> {
    /// Builds the images of those services that have a build, one after the other.
    pub(crate) fn build(&self, services: &[String], asked: &Asked) -> Result<(), CommandError> {
        for name in services {
            if let Some(service) = self.project.services.get(name)
                && let Some(build) = &service.build
            {
                self.build_one(name, service, build, asked)?;
            }
        }
        Ok(())
    }

    /// Builds what of the services is built and not here, or all of it if that is asked for.
    pub(crate) fn ensure_built(
        &self,
        services: &[String],
        is_asked_for: bool,
        is_forbidden: bool,
    ) -> Result<(), CommandError> {
        let mut missing = Vec::new();
        for name in services {
            let Some(service) = self.project.services.get(name) else {
                continue;
            };
            let image = container::image_of(self.project, name, service);
            let is_wanted = is_asked_for || service.pull_policy.as_deref() == Some("build");
            if service.build.is_none() || (!is_wanted && self.is_here(&image, service)?) {
                continue;
            }
            match is_forbidden {
                false => missing.push(name.clone()),
                true if self.is_here(&image, service)? => {}
                true => return Err(CommandError::failed(ImageError::NoSuchImage(image))),
            }
        }
        self.build(&missing, &Asked::default())
    }

    fn build_one(
        &self,
        name: &str,
        service: &Service,
        build: &Build,
        asked: &Asked,
    ) -> Result<(), CommandError> {
        let image = container::image_of(self.project, name, service);
        let id = format!("Service {name}");
        self.report.begin(&id, "Building");
        if self.report.is_dry_run() {
            self.report.done(&id, "Built");
            return Ok(());
        }
        self.report.end();
        let mut args = filled(&build.args);
        args.extend(asked.args.clone());
        let platform = service.platform.as_ref().or(build.platforms.first());
        let options = BuildOptions {
            context: match paths::is_remote(&build.context) {
                true => ContextSource::Git(build.context.clone()),
                false => ContextSource::Directory(PathBuf::from(&build.context)),
            },
            dockerfile: dockerfile(build)?,
            contexts: self.contexts(build)?,
            tags: tags(&image, build)?,
            target: build.target.clone(),
            args,
            labels: filled(&build.labels),
            no_cache: build.no_cache || asked.no_cache,
            pull: build.pull || asked.pull,
            platform: platform
                .map(|platform| platform.parse())
                .transpose()
                .map_err(CommandError::failed)?,
            network: build.network.clone(),
            secrets: self.build_secrets(build),
            agents: agents(build, asked)?,
            allow: allowed(build)?,
            extra_hosts: each(&build.extra_hosts, build_fields::extra_host)?,
            shm_size: build.shm_size.and_then(|size| u64::try_from(size).ok()),
            ulimits: limits::ulimits(&build.ulimits),
            cache_from: each(&build.cache_from, build_fields::cache_from)?,
            cache_to: each(&build.cache_to, build_fields::cache_to)?,
            ..BuildOptions::default()
        };
        let told = Told {
            name: name.to_owned(),
            is_quiet: asked.quiet,
            line: Mutex::default(),
        };
        let built = self.engine.build(&options, &told);
        built.map_err(|error| {
            self.failed(
                &id,
                &format_args!("failed to solve service {name:?}: {error}"),
            )
        })?;
        self.report.done(&id, "Built");
        Ok(())
    }

    fn contexts(&self, build: &Build) -> Result<BTreeMap<String, NamedContext>, CommandError> {
        let mut contexts = BTreeMap::new();
        for (name, source) in filled(&build.additional_contexts) {
            let context = if let Some(image) = source.strip_prefix("docker-image://") {
                NamedContext::Image(image.to_owned())
            } else if let Some(other) = source.strip_prefix("service:") {
                let service = self.project.services.get(other).ok_or_else(|| {
                    CommandError::failed(format_args!(
                        "unknown service {other:?} as additional context {name}"
                    ))
                })?;
                NamedContext::Image(container::image_of(self.project, other, service))
            } else if paths::is_remote(&source) {
                NamedContext::Git(source)
            } else {
                NamedContext::Directory(PathBuf::from(source))
            };
            contexts.insert(name, context);
        }
        Ok(contexts)
    }

    fn build_secrets(&self, build: &Build) -> BTreeMap<String, SecretSource> {
        let secrets = build.secrets.iter().filter_map(|mount| {
            let source = self.project.secrets.get(&mount.source)?;
            let id = mount.target.as_deref().unwrap_or(&mount.source);
            let id = id.strip_prefix("/run/secrets/").unwrap_or(id).to_owned();
            let source = match (&source.file, &source.environment) {
                (Some(file), _) => SecretSource::File(PathBuf::from(file)),
                (None, Some(variable)) => SecretSource::Env(variable.clone()),
                (None, None) => return None,
            };
            Some((id, source))
        });
        secrets.collect()
    }
}

fn each<T>(
    values: &[String],
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, CommandError> {
    let read = values.iter().map(|value| read(value));
    read.collect::<Result<_, _>>().map_err(CommandError::failed)
}

/// Returns the sockets of agents that steps may be shown.
fn agents(build: &Build, asked: &Asked) -> Result<BTreeMap<String, PathBuf>, CommandError> {
    let stated = build.ssh.iter().map(|(id, socket)| match socket {
        Some(socket) if !socket.is_empty() => format!("{id}={socket}"),
        _ => id.clone(),
    });
    let all: Vec<String> = stated.chain(asked.ssh.iter().cloned()).collect();
    Ok(each(&all, build_fields::agent)?.into_iter().collect())
}

/// Returns what steps may ask for beyond their walls.
fn allowed(build: &Build) -> Result<Allow, CommandError> {
    let mut allow = Allow {
        insecure: build.privileged,
        host_network: false,
    };
    for entitlement in &build.entitlements {
        match entitlement.as_str() {
            "network.host" => allow.host_network = true,
            "security.insecure" => allow.insecure = true,
            other => {
                return Err(CommandError::failed(format_args!(
                    "unknown entitlement {other:?}"
                )));
            }
        }
    }
    Ok(allow)
}

fn tags(image: &str, build: &Build) -> Result<Vec<Reference>, CommandError> {
    let names = std::iter::once(image).chain(build.tags.iter().map(String::as_str));
    let parsed = names.map(|name| {
        let reference: Result<Reference, _> = name.parse();
        reference.map(|reference| reference.or_latest())
    });
    parsed
        .collect::<Result<_, _>>()
        .map_err(CommandError::failed)
}

/// Returns where the Dockerfile is: in the compose file, in the context, or beside it.
fn dockerfile(build: &Build) -> Result<DockerfileSource, CommandError> {
    if let Some(text) = &build.dockerfile_inline {
        return Ok(DockerfileSource::Text {
            name: "Dockerfile".to_owned(),
            bytes: text.clone().into_bytes(),
            ignore: None,
        });
    }
    let name = build.dockerfile.as_deref().unwrap_or("Dockerfile");
    let context = Path::new(&build.context);
    let path = paths::clean(&context.join(name));
    match path.strip_prefix(context) {
        Ok(inside) => Ok(DockerfileSource::InContext(inside.display().to_string())),
        Err(_) => {
            let bytes = std::fs::read(&path).map_err(|error| {
                let words = crate::words::of(&error);
                CommandError::failed(format_args!("open {}: {words}", path.display()))
            })?;
            let ignore = path.with_file_name(format!(
                "{}.dockerignore",
                path.file_name().unwrap_or_default().to_string_lossy()
            ));
            Ok(DockerfileSource::Text {
                name: path.display().to_string(),
                bytes,
                ignore: std::fs::read(ignore).ok(),
            })
        }
    }
}

/// Tells of a service's build on standard error, each line behind the service's name.
#[derive(Debug)]
struct Told {
    name: String,
    is_quiet: bool,
    line: Mutex<Vec<u8>>,
}

impl Told {
    fn tell(&self, line: &str) {
        if !self.is_quiet {
            eprintln!("[{}] {}", self.name, crate::terminal::escaped(line));
        }
    }
}

impl BuildProgress for Told {
    fn event(&self, event: BuildEvent) {
        match event {
            BuildEvent::Began { text, .. } => self.tell(&text),
            BuildEvent::Warning(words) => self.tell(&words),
            BuildEvent::Cached { .. } => self.tell("---> Using cache"),
            BuildEvent::Output { bytes, .. } => {
                let mut line = self
                    .line
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                line.extend(bytes);
                while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                    let whole: Vec<u8> = line.drain(..=end).collect();
                    self.tell(String::from_utf8_lossy(&whole).trim_end());
                }
            }
            _ => {}
        }
    }
}
