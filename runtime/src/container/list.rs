//! Finding containers.

use std::path::Path;

use jiff::Timestamp;
use regex::Regex;

use super::Container;
use super::ContainerError;
use super::Status;
use super::rows;
use crate::Engine;
use crate::network::Network;
use crate::network::NetworkFilter;
use crate::network::port;
use crate::network::port::Port;
use crate::sandbox::MountSource;

/// Which containers are wanted: each given field must fit; several values of one field are alternatives.
#[derive(Debug, Clone, Default)]
pub struct ContainerFilter {
    ids: Vec<String>,
    names: Vec<Regex>,
    labels: Vec<String>,
    without_labels: Vec<String>,
    statuses: Vec<String>,
    exited: Vec<i32>,
    ancestors: Vec<String>,
    before: Option<String>,
    since: Option<String>,
    health: Vec<String>,
    networks: Vec<String>,
    volumes: Vec<String>,
    published: Vec<Port>,
    exposed: Vec<Port>,
    until: Option<Timestamp>,
}

/// Reads a name in a filter: a pattern, as Docker has it; what is none fits nothing.
pub(crate) fn name_pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|_| nothing())
}

/// Returns a pattern that fits nothing.
fn nothing() -> Regex {
    Regex::new("[^\\s\\S]").expect("it is a pattern")
}

/// Reads the ports of a filter: `80`, `80/udp`, `8000-8010`.
fn ports(text: &str) -> Result<Vec<Port>, ContainerError> {
    port::parse_exposed(text)
        .map_err(|_| ContainerError::Invalid(format!("invalid filter: invalid port '{text}'")))
}

impl ContainerFilter {
    /// Adds one `key=value`.
    pub fn add(&mut self, filter: &str) -> Result<(), ContainerError> {
        let bad = || ContainerError::Invalid(format!("Invalid filter '{filter}'"));
        let (key, value) = filter.split_once('=').ok_or_else(bad)?;
        let value = value.to_owned();
        match key {
            "id" => self.ids.push(value),
            "name" => self.names.push(name_pattern(&value)),
            "label" => self.labels.push(value),
            "status" => match value.as_str() {
                "created" | "restarting" | "running" | "removing" | "paused" | "exited"
                | "dead" => {
                    self.statuses.push(value);
                }
                _ => {
                    return Err(ContainerError::Invalid(format!(
                        "Invalid filter 'status={value}'"
                    )));
                }
            },
            "exited" => self.exited.push(value.parse().map_err(|_| bad())?),
            "ancestor" => self.ancestors.push(value),
            "before" => self.before = Some(value),
            "since" => self.since = Some(value),
            "network" => self.networks.push(value),
            "volume" => self.volumes.push(value),
            "publish" => self.published.extend(ports(&value)?),
            "expose" => self.exposed.extend(ports(&value)?),
            // No container is a task of a swarm.
            "is-task" => match value.as_str() {
                "false" | "0" => {}
                "true" | "1" => self.names.push(nothing()),
                _ => return Err(bad()),
            },
            "health" => match value.as_str() {
                "none" | "starting" | "healthy" | "unhealthy" => self.health.push(value),
                _ => {
                    return Err(ContainerError::Invalid(format!(
                        "Invalid filter 'health={value}'"
                    )));
                }
            },
            key => return Err(ContainerError::Invalid(format!("Invalid filter '{key}'"))),
        }
        Ok(())
    }

    /// Adds one `key=value` of a prune, which knows labels that must not be there (`label!=...`) too.
    pub fn add_of_prune(&mut self, filter: &str) -> Result<(), ContainerError> {
        match filter.split_once('=') {
            Some(("label", value)) => self.labels.push(value.to_owned()),
            Some(("label!", value)) => self.without_labels.push(value.to_owned()),
            _ => {
                let key = filter.split('=').next().unwrap_or_default();
                return Err(ContainerError::Invalid(format!("Invalid filter '{key}'")));
            }
        }
        Ok(())
    }

    /// Leaves only those that were made before this time.
    pub fn made_before(&mut self, time: Timestamp) {
        self.until = Some(time);
    }

    /// Returns whether the filter asks for more than the running ones.
    pub fn wants_all(&self) -> bool {
        !self.statuses.is_empty() || !self.exited.is_empty()
    }

    fn fits(&self, container: &Container, images: &[String], networks: &[String]) -> bool {
        let any = |values: &[String], fits: &dyn Fn(&str) -> bool| {
            values.is_empty() || values.iter().any(|value| fits(value))
        };
        let labels = &container.config.labels;
        let has_label = |label: &String| match label.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|it| it == value),
            None => labels.contains_key(label),
        };
        any(&self.ids, &|id| container.id.as_str().starts_with(id))
            && (self.names.is_empty() || {
                let whole = format!("/{}", container.name);
                let mut names = self.names.iter();
                names.any(|name| name.is_match(&whole) || name.is_match(&container.name))
            })
            && self.labels.iter().all(has_label)
            && !self.without_labels.iter().any(has_label)
            && any(&self.statuses, &|status| {
                container.state.status.as_str() == status
            })
            && self.until.is_none_or(|until| container.created < until)
            && (self.networks.is_empty() || {
                let mut names = container.config.network_names().into_iter();
                names.any(|name| networks.iter().any(|network| network == name))
            })
            && any(&self.volumes, &|volume| {
                let mut mounts = container.config.mounts.iter();
                mounts.any(|mount| {
                    let is_source = match &mount.source {
                        MountSource::Bind(bind) => bind.path == Path::new(volume),
                        MountSource::Volume(mounted) => mounted.name == volume,
                        MountSource::Tmpfs(_) => false,
                    };
                    is_source || mount.target == Path::new(volume)
                })
            })
            && (self.published.is_empty()
                || container.state.published.iter().any(|it| {
                    self.published.contains(&Port {
                        number: it.host,
                        protocol: it.port.protocol,
                    })
                }))
            && (self.exposed.is_empty()
                || container
                    .config
                    .exposed
                    .iter()
                    .any(|port| self.exposed.contains(port)))
            && any(&self.health, &|health| {
                container.state.health.map_or("none", |it| it.as_str()) == health
            })
            && (self.exited.is_empty()
                || (container.state.status == Status::Exited
                    && self.exited.contains(&container.state.exit_code)))
            && (self.ancestors.is_empty() || images.contains(&container.config.image_id))
    }
}

impl Engine {
    /// Finds a container by name, id or the unique beginning of an id.
    pub fn container(&self, name: &str) -> Result<Container, ContainerError> {
        self.bury_the_dead()?;
        let bare = name.strip_prefix('/').unwrap_or(name);
        let mut found = {
            let db = self.db();
            match rows::by_name(&db, bare)? {
                Some(found) => found,
                None => {
                    let is_id =
                        !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
                    let mut found = match is_id {
                        true => rows::by_prefix(&db, &bare.to_ascii_lowercase())?,
                        false => Vec::new(),
                    };
                    match (found.pop(), found.is_empty()) {
                        (Some(found), true) => found,
                        (Some(_), false) => return Err(ContainerError::Ambiguous(name.to_owned())),
                        (None, _) => return Err(ContainerError::NoSuchContainer(name.to_owned())),
                    }
                }
            }
        };
        self.observe(&mut found);
        Ok(found)
    }

    /// Returns the containers that fit, the newest first: the running ones, or all.
    pub fn containers(
        &self,
        all: bool,
        filter: &ContainerFilter,
    ) -> Result<Vec<Container>, ContainerError> {
        self.bury_the_dead()?;
        let choice = self.choice(all, filter)?;
        let mut containers = rows::all(&self.db())?;
        containers
            .iter_mut()
            .for_each(|container| self.observe(container));
        containers.retain(|container| choice.has(container));
        Ok(containers)
    }

    /// Returns which containers fit: of the running ones, or of all.
    pub fn choice<'a>(
        &self,
        all: bool,
        filter: &'a ContainerFilter,
    ) -> Result<Choice<'a>, ContainerError> {
        let images = filter.ancestors.iter();
        let images = images.filter_map(|name| self.image(name).ok());
        let created = |name: &Option<String>| {
            let container = name.as_deref().map(|name| self.container(name)).transpose();
            container.map(|it| it.map(|it| it.created))
        };
        Ok(Choice {
            all: all || filter.wants_all(),
            filter,
            images: images.map(|image| image.id.to_string()).collect(),
            networks: self.network_choice(&filter.networks)?,
            before: created(&filter.before)?,
            since: created(&filter.since)?,
        })
    }
}

impl Engine {
    /// Returns the names of the networks that are called so, or whose ids begin so.
    fn network_choice(&self, wanted: &[String]) -> Result<Vec<String>, ContainerError> {
        let mut names = wanted.to_vec();
        if wanted.is_empty() {
            return Ok(names);
        }
        let networks = self
            .networks(&NetworkFilter::default())
            .map_err(|error| ContainerError::Network(Box::new(error)))?;
        let has_id = |network: &&Network| {
            let id = network.id.as_str();
            wanted.iter().any(|start| id.starts_with(start))
        };
        names.extend(networks.iter().filter(has_id).map(|it| it.name.clone()));
        Ok(names)
    }
}

/// A filter whose names are looked up.
#[derive(Debug)]
pub struct Choice<'a> {
    all: bool,
    filter: &'a ContainerFilter,
    /// The ids of images that a container may be made of.
    images: Vec<String>,
    /// The names of networks, one of which it must be on.
    networks: Vec<String>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl Choice<'_> {
    /// Returns whether a container is chosen.
    pub fn has(&self, container: &Container) -> bool {
        !container.config.of_build
            && (self.all || container.state.status.is_alive())
            && self.filter.fits(container, &self.images, &self.networks)
            && self.before.is_none_or(|before| container.created < before)
            && self.since.is_none_or(|since| container.created > since)
    }
}
