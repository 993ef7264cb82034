//! What no single value can show: references that lead nowhere, contradictions, cycles.

use std::collections::BTreeMap;

use super::LoadError;
use super::model::Service;
use super::project::Project;

/// Checks a project as a whole.
pub(crate) fn consistency(project: &Project) -> Result<(), LoadError> {
    for (name, service) in &project.services {
        check_service(project, name, service).map_err(LoadError::Inconsistent)?;
    }
    for (name, secret) in &project.secrets {
        if !secret.external && secret.file.is_none() && secret.environment.is_none() {
            return Err(LoadError::Inconsistent(format!(
                "secret {name:?} must declare either `file` or `environment`"
            )));
        }
    }
    no_cycle(project)
}

fn check_service(project: &Project, name: &str, service: &Service) -> Result<(), String> {
    let is_provided = project.tree["services"][name]["provider"].is_object();
    if service.image.is_none() && service.build.is_none() && !is_provided {
        return Err(format!(
            "service {name:?} has neither an image nor a build context specified"
        ));
    }
    if service.network_mode.is_some() && !service.networks.is_empty() {
        return Err(format!(
            "service {name} declares mutually exclusive `network_mode` and `networks`"
        ));
    }
    let undefined = |kind: &str, other: &str| {
        Err(format!(
            "service {name:?} refers to undefined {kind} {other}"
        ))
    };
    for network in service.networks.keys() {
        if !project.networks.contains_key(network) {
            return undefined("network", network);
        }
    }
    for mount in service
        .volumes
        .iter()
        .filter(|mount| mount.kind == "volume")
    {
        if let Some(source) = &mount.source
            && !project.volumes.contains_key(source)
        {
            return undefined("volume", source);
        }
    }
    for secret in &service.secrets {
        if !project.secrets.contains_key(&secret.source) {
            return undefined("secret", &secret.source);
        }
    }
    for config in &service.configs {
        if !project.configs.contains_key(&config.source) {
            return undefined("config", &config.source);
        }
    }
    for (other, dependency) in &service.depends_on {
        if !project.services.contains_key(other)
            && (dependency.required || !project.disabled.contains_key(other))
        {
            return Err(format!(
                "service {name:?} depends on undefined service {other:?}"
            ));
        }
    }
    check_values(name, service)?;
    check_targets(name, service)
}

fn check_values(name: &str, service: &Service) -> Result<(), String> {
    let test = service
        .healthcheck
        .iter()
        .flat_map(|check| check.test.first())
        .next();
    if test.is_some_and(|kind| !["CMD", "CMD-SHELL", "NONE"].contains(&kind.as_str())) {
        return Err(
            "healthcheck.test must start either by \"CMD\", \"CMD-SHELL\" or \"NONE\"".to_owned(),
        );
    }
    let hooks = [
        ("post_start", &service.post_start),
        ("pre_stop", &service.pre_stop),
    ];
    for (key, hooks) in hooks {
        if let Some(number) = hooks.iter().position(|it| it.command.is_none()) {
            return Err(format!(
                "services.{name}.{key}[{number}] missing property 'command'"
            ));
        }
    }
    if let Some(build) = &service.build
        && build.dockerfile.is_some()
        && build.dockerfile_inline.is_some()
    {
        return Err(format!(
            "service {name:?} declares mutualy exclusive dockerfile and dockerfile_inline"
        ));
    }
    let deployed = service.deploy.as_ref();
    let replicas = deployed.and_then(|deploy| deploy.replicas);
    if let (Some(scale), Some(replicas)) = (service.scale, replicas)
        && scale != replicas
    {
        return Err(format!(
            "services.{name}: can't set distinct values on 'scale' and 'deploy.replicas'"
        ));
    }
    if service.replicas() < 0 {
        return Err(format!(
            "services.{name}.scale: must be greater than or equal to 0"
        ));
    }
    if service.replicas() > 1 && service.container_name.is_some() {
        return Err(format!(
            "services.{name}: can't set container_name and scale as container name must be unique"
        ));
    }
    let limit = deployed.and_then(|deploy| deploy.resources.limits.memory);
    if let (Some(own), Some(limit)) = (service.mem_limit, limit)
        && own != limit
    {
        return Err(format!(
            "services.{name}: can't set distinct values on 'mem_limit' and 'deploy.resources.limits.memory'"
        ));
    }
    match service.pull_policy.as_deref() {
        None | Some("always" | "never" | "build" | "missing" | "refresh" | "daily" | "weekly") => {
            Ok(())
        }
        Some(policy) if policy.starts_with("every_") => Ok(()),
        Some(policy) => Err(format!(
            "services.{name}.pull_policy must be one of 'always', 'never', 'build', 'if_not_present', 'missing', \
             not {policy:?}"
        )),
    }
}

fn check_targets(name: &str, service: &Service) -> Result<(), String> {
    let tmpfs = service.tmpfs.iter().enumerate().map(|(number, text)| {
        let target = text.split(':').next().unwrap_or(text);
        (format!("services.{name}.tmpfs[{number}]"), target)
    });
    let mounts = service.volumes.iter().enumerate().map(|(number, mount)| {
        (
            format!("services.{name}.volumes[{number}]"),
            mount.target.as_str(),
        )
    });
    let mut taken: BTreeMap<&str, String> = BTreeMap::new();
    for (place, target) in tmpfs.chain(mounts) {
        if !target.starts_with('/') {
            return Err(format!(
                "{place}.target must be an absolute path, not {target:?}"
            ));
        }
        if let Some(other) = taken.insert(target, place.clone()) {
            return Err(format!(
                "{place}: target {target} already mounted as {other}"
            ));
        }
    }
    for (number, mount) in service.volumes.iter().enumerate() {
        let place = format!("services.{name}.volumes[{number}]");
        match (mount.kind.as_str(), &mount.source) {
            ("", _) => return Err(format!("{place} missing property 'type'")),
            ("bind", None) => {
                return Err(
                    "invalid mount config for type \"bind\": field Source must not be empty".into(),
                );
            }
            _ => {}
        }
    }
    let no_target = service.ports.iter().position(|port| port.target == 0);
    match no_target {
        Some(number) => Err(format!(
            "services.{name}.ports[{number}] missing property 'target'"
        )),
        None => Ok(()),
    }
}

/// Follows every dependency; one that leads back is an error that shows the way.
fn no_cycle(project: &Project) -> Result<(), LoadError> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        Open,
        Done,
    }
    fn visit<'a>(
        project: &'a Project,
        name: &'a str,
        marks: &mut BTreeMap<&'a str, Mark>,
        way: &mut Vec<&'a str>,
    ) -> Result<(), LoadError> {
        way.push(name);
        match marks.get(name) {
            Some(Mark::Done) => {}
            Some(Mark::Open) => {
                let start = way.iter().position(|it| *it == name).unwrap_or(0);
                let cycle = way[start..].join(" -> ");
                return Err(LoadError::Inconsistent(format!(
                    "dependency cycle detected: {cycle}"
                )));
            }
            None => {
                marks.insert(name, Mark::Open);
                let service = project.services.get(name);
                for other in service.into_iter().flat_map(|it| it.depends_on.keys()) {
                    visit(project, other, marks, way)?;
                }
                marks.insert(name, Mark::Done);
            }
        }
        way.pop();
        Ok(())
    }
    let mut marks = BTreeMap::new();
    for name in project.services.keys() {
        visit(project, name, &mut marks, &mut Vec::new())?;
    }
    Ok(())
}
