//! What a compose file may ask for and this engine has none of: refused before anything is made, or told of where
//! Docker's engine on Linux goes on without it.

use serde_json::Value;

use super::composition::Composition;
use super::model::Service;
use crate::command_error::CommandError;

impl Composition<'_> {
    /// Refuses services that ask for what cannot be had.
    pub(crate) fn refuse_foreign(&self, services: &[String]) -> Result<(), CommandError> {
        for name in services {
            let Some(service) = self.project.services.get(name) else {
                continue;
            };
            let tree = &self.project.tree["services"][name];
            if let Some(words) = refused(service, tree) {
                return Err(CommandError::failed(format_args!(
                    "service {name:?}: {words}"
                )));
            }
            for place in ignored(tree) {
                super::warn(format_args!(
                    "services.{name}.{place} has no effect here and is ignored"
                ));
            }
        }
        Ok(())
    }
}

/// Returns why a service cannot be had.
fn refused(service: &Service, tree: &Value) -> Option<String> {
    let text = |key: &str| tree[key].as_str().filter(|text| !text.is_empty());
    let amount = |key: &str| text(key).filter(|text| *text != "0");
    let devices = &tree["deploy"]["resources"]["reservations"]["devices"];
    let attachments = || tree["networks"].as_object().into_iter().flatten();
    let of_attachment = |key: &str| {
        attachments().find_map(|(network, own)| has(&own[key]).then(|| network.clone()))
    };
    if has(&tree["provider"]) {
        let kind = tree["provider"]["type"].as_str().unwrap_or_default();
        return Some(format!("unsupported provider {kind:?}"));
    }
    if has(&tree["models"]) {
        return Some("'models' requires a model runner, which this engine has none of".to_owned());
    }
    if has(&tree["gpus"]) || has(devices) {
        let capabilities = devices[0]["capabilities"].as_array().into_iter().flatten();
        let capabilities: Vec<&str> = capabilities.filter_map(Value::as_str).collect();
        let capabilities = match capabilities.is_empty() {
            true => "gpu".to_owned(),
            false => capabilities.join(" "),
        };
        let driver = devices[0]["driver"].as_str().unwrap_or_default();
        return Some(format!(
            "could not select device driver {driver:?} with capabilities: [[{capabilities}]]"
        ));
    }
    if has(&tree["pre_start"]) {
        return Some("'pre_start' is not supported".to_owned());
    }
    if amount("cpu_rt_period")
        .or(amount("cpu_rt_runtime"))
        .is_some()
    {
        return Some("kernel does not support CPU real-time scheduler".to_owned());
    }
    if has(&tree["storage_opt"]) {
        return Some("storage_opt is not supported by the storage driver layerfs".to_owned());
    }
    if let Some(name) = text("runtime").filter(|name| !matches!(*name, "ply" | "runc")) {
        return Some(format!("unknown or invalid runtime name: {name}"));
    }
    if let Some(name) = text("isolation").filter(|name| *name != "default") {
        return Some(format!(
            "invalid isolation '{name}' on linux: only 'default' is supported"
        ));
    }
    if has(&tree["credential_spec"]) {
        return Some("credential_spec is for Windows containers only".to_owned());
    }
    if service.use_api_socket {
        return Some("use_api_socket: the engine has no socket to show".to_owned());
    }
    if let Some(parent) = text("cgroup_parent") {
        return Some(format!("cgroup_parent {parent:?} is not supported"));
    }
    let mut mounts = service.volumes.iter();
    if let Some(mount) = mounts.find(|it| matches!(&*it.kind, "cluster" | "image" | "npipe")) {
        let (kind, target) = (&mount.kind, &mount.target);
        return Some(format!(
            "volumes of type '{kind}' are not supported: {target}"
        ));
    }
    for key in ["interface_name", "link_local_ips", "driver_opts"] {
        if let Some(network) = of_attachment(key) {
            return Some(format!("networks.{network}.{key} is not supported"));
        }
    }
    None
}

/// Returns the places of what is for Windows or BuildKit alone.
fn ignored(tree: &Value) -> Vec<String> {
    let own = ["cpu_count", "cpu_percent"]
        .into_iter()
        .filter(|key| has(&tree[*key]))
        .map(str::to_owned);
    let of_build = ["isolation", "no_cache_filter", "provenance", "sbom"]
        .into_iter()
        .filter(|key| has(&tree["build"][*key]) && tree["build"][*key] != "default")
        .map(|key| format!("build.{key}"));
    own.chain(of_build).collect()
}

/// Whether something is asked for.
fn has(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !matches!(text.as_str(), "" | "false"),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Bool(true) => true,
    }
}
