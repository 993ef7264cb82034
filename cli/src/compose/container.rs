//! From a service to what the engine makes a container of.

use std::collections::BTreeMap;

use runtime::container::CreateOptions;
use runtime::container::Healthcheck;
use runtime::container::LogConfig;
use runtime::container::RestartPolicy;
use runtime::container::nanoseconds;
use serde_json::Value;
use sha2::Digest as _;

use super::labels;
use super::limits;
use super::model;
use super::model::Service;
use super::project::Project;
use crate::command_error::CommandError;

/// Returns the name of a service's container.
pub(crate) fn name_of(project: &Project, service: &str, number: u32) -> String {
    let own = project
        .services
        .get(service)
        .and_then(|it| it.container_name.clone());
    let separator = project.separator;
    own.unwrap_or_else(|| format!("{}{separator}{service}{separator}{number}", project.name))
}

/// Returns the name of a service's image: its own, or the one that it is built as.
pub(crate) fn image_of(project: &Project, name: &str, service: &Service) -> String {
    let own = service.image.clone();
    own.unwrap_or_else(|| format!("{}{}{name}", project.name, project.separator))
}

/// Returns a digest over all of a service's configuration that its containers are made of.
pub(crate) fn config_hash(project: &Project, name: &str) -> String {
    let mut tree = project.tree["services"][name].clone();
    if let Some(fields) = tree.as_object_mut() {
        for key in [
            "build",
            "pull_policy",
            "scale",
            "depends_on",
            "profiles",
            "develop",
        ] {
            fields.shift_remove(key);
        }
        if let Some(deploy) = fields.get_mut("deploy").and_then(Value::as_object_mut) {
            deploy.shift_remove("replicas");
        }
    }
    let files = |kind: &str| {
        let mounts = tree[kind].as_array().into_iter().flatten();
        let sources = mounts.filter_map(|mount| mount["source"].as_str());
        sources
            .map(|source| project.tree[kind][source].clone())
            .collect::<Vec<Value>>()
    };
    let sources = [files("secrets"), files("configs")].concat();
    digest(&format!(
        "{}{}",
        sorted(&tree),
        sorted(&Value::Array(sources))
    ))
}

/// Returns a digest over a network's or volume's configuration.
pub(crate) fn resource_hash(project: &Project, kind: &str, key: &str) -> String {
    digest(&sorted(&project.tree[kind][key]).to_string())
}

fn digest(text: &str) -> String {
    let digest = sha2::Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a value with the keys of all its mappings in order.
pub(crate) fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, Value> = map
                .iter()
                .map(|(key, value)| (key, self::sorted(value)))
                .collect();
            Value::Object(
                sorted
                    .into_iter()
                    .map(|(key, value)| (key.clone(), value))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

/// Returns the labels that tell whose a container is.
pub(crate) fn labels_of(
    project: &Project,
    name: &str,
    service: &Service,
    image_id: &str,
) -> BTreeMap<String, String> {
    let files: Vec<String> = project
        .files
        .iter()
        .map(|it| it.display().to_string())
        .collect();
    let needs: Vec<String> = service
        .depends_on
        .iter()
        .map(|(name, need)| format!("{name}:{}:{}", need.condition.as_str(), need.restart))
        .collect();
    let mut all = model::filled(&service.labels);
    let own = [
        (labels::PROJECT, project.name.clone()),
        (labels::SERVICE, name.to_owned()),
        (labels::CONFIG_HASH, config_hash(project, name)),
        (labels::IMAGE, image_id.to_owned()),
        (labels::DEPENDS_ON, needs.join(",")),
        (labels::WORKING_DIR, project.directory.display().to_string()),
        (labels::CONFIG_FILES, files.join(",")),
        (labels::VERSION, labels::OUR_VERSION.to_owned()),
    ];
    all.extend(own.map(|(name, value)| (name.to_owned(), value)));
    all
}

/// Returns the engine's options but for name, labels, networks and what refers to other containers.
pub(crate) fn options(service: &Service, image: &str) -> Result<CreateOptions, CommandError> {
    let env = service.environment.iter().filter_map(|(name, value)| {
        let value = value.as_ref()?;
        Some(format!("{name}={value}"))
    });
    let unset = service
        .environment
        .iter()
        .filter(|(_, value)| value.is_none());
    Ok(CreateOptions {
        image: image.to_owned(),
        command: service.command.clone().unwrap_or_default(),
        entrypoint: service.entrypoint.clone(),
        env: env.chain(unset.map(|(name, _)| name.clone())).collect(),
        working_dir: service.working_dir.clone(),
        user: service.user.clone(),
        tty: service.tty,
        open_stdin: service.stdin_open,
        attach: [false, true, true],
        hostname: service.hostname.clone(),
        domainname: service.domainname.clone(),
        tmpfs: service.tmpfs.clone(),
        read_only: service.read_only,
        init: service.init.unwrap_or(false),
        privileged: service.privileged,
        cap_add: service.cap_add.clone(),
        cap_drop: service.cap_drop.clone(),
        security_opt: service
            .security_opt
            .iter()
            .map(|option| crate::commands::with_profile(option))
            .collect::<Result<_, _>>()?,
        resources: limits::resources(service)?,
        ulimits: limits::ulimits(&service.ulimits),
        shm_size: service.shm_size.and_then(|size| u64::try_from(size).ok()),
        group_add: service.group_add.clone(),
        extra_hosts: service.extra_hosts.clone(),
        devices: devices(service),
        device_cgroup_rules: service.device_cgroup_rules.clone(),
        uts_mode: service.uts.clone().unwrap_or_default(),
        cgroupns_mode: service.cgroup.clone().unwrap_or_default(),
        userns_mode: service.userns_mode.clone().unwrap_or_default(),
        dns: service.dns.clone(),
        dns_search: service.dns_search.clone(),
        dns_options: service.dns_opt.clone(),
        oom_score_adj: service.oom_score_adj,
        log: log(service),
        sysctls: model::filled(&service.sysctls),
        annotations: model::filled(&service.annotations),
        restart: restart(service)?,
        healthcheck: healthcheck(service)?,
        stop_signal: service.stop_signal.clone(),
        stop_timeout: match &service.stop_grace_period {
            Some(period) => Some((duration(period)? / 1_000_000_000) as i64),
            None => None,
        },
        ..CreateOptions::default()
    })
}

fn duration(text: &str) -> Result<u64, CommandError> {
    nanoseconds(text).ok_or_else(|| CommandError::failed(format_args!("invalid duration {text:?}")))
}

fn devices(service: &Service) -> Vec<String> {
    let devices = service.devices.iter().map(|device| {
        let target = device.target.as_ref().unwrap_or(&device.source);
        let permissions = device.permissions.as_deref().unwrap_or("rwm");
        format!("{}:{target}:{permissions}", device.source)
    });
    devices.collect()
}

fn log(service: &Service) -> LogConfig {
    let default = LogConfig::default();
    match &service.logging {
        Some(logging) => LogConfig {
            driver: logging.driver.clone().unwrap_or(default.driver),
            options: model::filled(&logging.options),
        },
        None => default,
    }
}

fn restart(service: &Service) -> Result<RestartPolicy, CommandError> {
    if let Some(policy) = &service.restart {
        return policy.parse().map_err(CommandError::failed);
    }
    let policy = service
        .deploy
        .as_ref()
        .and_then(|deploy| deploy.restart_policy.as_ref());
    let Some(policy) = policy else {
        return Ok(RestartPolicy::No);
    };
    match policy.condition.as_deref() {
        None | Some("any") => Ok(RestartPolicy::Always),
        Some("none") => Ok(RestartPolicy::No),
        Some("on-failure") => Ok(RestartPolicy::OnFailure(policy.max_attempts.unwrap_or(0))),
        Some(other) => other.parse().map_err(CommandError::failed),
    }
}

fn healthcheck(service: &Service) -> Result<Option<Healthcheck>, CommandError> {
    let Some(check) = &service.healthcheck else {
        return Ok(None);
    };
    if check.disable {
        return Ok(Some(Healthcheck {
            test: vec!["NONE".to_owned()],
            ..Healthcheck::default()
        }));
    }
    let time = |text: &Option<String>| text.as_deref().map_or(Ok(0), duration);
    Ok(Some(Healthcheck {
        test: check.test.clone(),
        interval: time(&check.interval)?,
        timeout: time(&check.timeout)?,
        start_period: time(&check.start_period)?,
        start_interval: time(&check.start_interval)?,
        retries: check.retries.unwrap_or(0).into(),
    }))
}
