//! A project's containers, as the engine knows them: all state there is.

use std::collections::BTreeMap;

use runtime::Engine;
use runtime::container::Container;
use runtime::container::ContainerFilter;

use super::labelled;
use super::labels;
use super::model::Dependency;
use crate::command_error::CommandError;

/// A container of a service.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) container: Container,
    pub(crate) service: String,
    /// Its number among the service's; 0 for a one-off one.
    pub(crate) number: u32,
    pub(crate) is_one_off: bool,
}

impl Member {
    pub(crate) fn of(container: Container) -> Option<Member> {
        let label = |name: &str| container.config.labels.get(name).cloned();
        let service = label(labels::SERVICE)?;
        let number = label(labels::NUMBER).and_then(|number| number.parse().ok());
        let is_one_off = label(labels::ONE_OFF).is_some_and(|it| it.eq_ignore_ascii_case("true"));
        Some(Member {
            service,
            number: number.unwrap_or(0),
            is_one_off,
            container,
        })
    }

    /// Returns a label.
    pub(crate) fn label(&self, name: &str) -> &str {
        self.container
            .config
            .labels
            .get(name)
            .map_or("", String::as_str)
    }

    /// Returns its name.
    pub(crate) fn name(&self) -> &str {
        &self.container.name
    }

    /// Returns its id, by which it is meant whatever it is renamed to.
    pub(crate) fn id(&self) -> &str {
        self.container.id.as_str()
    }

    /// Returns the name without the project's, for the logs: `web-1`.
    pub(crate) fn short_name(&self) -> String {
        let name = self.name();
        let rest = name.strip_prefix(self.label(labels::PROJECT));
        let rest = rest.and_then(|rest| rest.strip_prefix(['-', '_']));
        rest.unwrap_or(name).to_owned()
    }

    /// Returns what its service needs of others: a label, so that it is known without a file.
    pub(crate) fn dependencies(&self) -> Vec<(String, Dependency)> {
        let entries = self.label(labels::DEPENDS_ON).split(',');
        entries.filter_map(labelled::dependency).collect()
    }
}

/// Returns the containers of a project, by service and number; those that `run` has made last.
pub(crate) fn of_project(engine: &Engine, project: &str) -> Result<Vec<Member>, CommandError> {
    let mut filter = ContainerFilter::default();
    filter
        .add(&format!("label={}={project}", labels::PROJECT))
        .map_err(CommandError::failed)?;
    let containers = engine.containers(true, &filter);
    let mut members: Vec<Member> = containers
        .map_err(CommandError::failed)?
        .into_iter()
        .filter_map(Member::of)
        .collect();
    members.sort_by(|a, b| {
        let key = |member: &Member| (member.is_one_off, member.service.clone(), member.number);
        key(a).cmp(&key(b)).then_with(|| a.name().cmp(b.name()))
    });
    Ok(members)
}

/// Returns the containers of all projects.
pub(crate) fn of_all(engine: &Engine) -> Result<BTreeMap<String, Vec<Member>>, CommandError> {
    let mut filter = ContainerFilter::default();
    filter
        .add(&format!("label={}", labels::PROJECT))
        .map_err(CommandError::failed)?;
    let mut all: BTreeMap<String, Vec<Member>> = BTreeMap::new();
    let containers = engine.containers(true, &filter);
    for member in containers
        .map_err(CommandError::failed)?
        .into_iter()
        .filter_map(Member::of)
    {
        let project = member.label(labels::PROJECT).to_owned();
        all.entry(project).or_default().push(member);
    }
    Ok(all)
}

/// Returns one container of a service: the one with the number, or the first that serves.
pub(crate) fn one<'a>(
    members: &'a [Member],
    service: &str,
    number: Option<u32>,
) -> Result<&'a Member, CommandError> {
    let mut found = members.iter().filter(|member| {
        member.service == service
            && !member.is_one_off
            && number.is_none_or(|number| number == member.number)
    });
    found.next().ok_or_else(|| match number {
        Some(number) => CommandError::failed(format_args!(
            "service {service:?} is not running container #{number}"
        )),
        None => CommandError::failed(format_args!("service {service:?} is not running")),
    })
}
