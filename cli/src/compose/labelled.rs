//! A project as the labels of its containers tell it: what there is of one whose files are not looked at.

use std::collections::BTreeMap;

use serde_json::Value;

use super::environment::Environment;
use super::members::Member;
use super::model::Condition;
use super::model::Dependency;
use super::model::Service;
use super::project::Project;

/// Returns a project of which only the services' names and dependencies are known.
pub(crate) fn project(name: &str, members: &[Member]) -> Project {
    let members = || members.iter().filter(|member| !member.is_one_off);
    let mut services: BTreeMap<String, Service> = BTreeMap::new();
    for member in members() {
        let service = services.entry(member.service.clone()).or_default();
        let needs = member.dependencies();
        let there = needs
            .into_iter()
            .filter(|(other, _)| members().any(|it| &it.service == other));
        service.depends_on.extend(there);
    }
    Project {
        name: name.to_owned(),
        separator: '-',
        directory: "/".into(),
        files: Vec::new(),
        services,
        disabled: BTreeMap::new(),
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
        secrets: BTreeMap::new(),
        configs: BTreeMap::new(),
        environment: Environment::of_process(),
        tree: Value::Null,
    }
}

/// Reads a dependency's label: `db:service_healthy:true`; only the name has always been there.
pub(crate) fn dependency(label: &str) -> Option<(String, Dependency)> {
    let mut parts = label.split(':');
    let name = parts.next().filter(|name| !name.is_empty())?;
    let condition = match parts.next() {
        Some(word) if word == Condition::Healthy.as_str() => Condition::Healthy,
        Some(word) if word == Condition::Completed.as_str() => Condition::Completed,
        _ => Condition::Started,
    };
    let dependency = Dependency {
        condition,
        required: true,
        restart: parts.next().is_none_or(|word| word == "true"),
    };
    Some((name.to_owned(), dependency))
}
