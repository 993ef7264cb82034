//! What a project means without saying so: names, defaults, and dependencies that follow from others.

use std::path::Path;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::environment::Environment;
use super::interpolate::Variables as _;
use super::paths;

/// Completes a project's tree.
pub(crate) fn normalize(tree: &mut Value, name: &str, environment: &Environment) {
    tree["name"] = name.into();
    if tree["services"].is_null() {
        tree["services"] = json!({});
    }
    let mut needs_default = false;
    if let Some(services) = tree["services"].as_object_mut() {
        for service in services.values_mut() {
            if service.is_null() {
                *service = json!({});
            }
            if let Some(service) = service.as_object_mut() {
                needs_default |= join_networks(service);
                complete(service, environment);
                depend(service);
            }
        }
    }
    if needs_default {
        if !tree["networks"].is_object() {
            tree["networks"] = json!({});
        }
        if let Some(networks) = tree["networks"].as_object_mut() {
            networks.entry("default").or_insert(Value::Null);
        }
    }
    for kind in ["networks", "volumes", "secrets", "configs"] {
        let resources = tree.get_mut(kind).and_then(Value::as_object_mut);
        for (key, resource) in resources.into_iter().flatten() {
            name_resource(key, resource, name);
        }
    }
}

/// Puts a service without networks into the default one; tells whether it is in that one.
fn join_networks(service: &mut Map<String, Value>) -> bool {
    if service.contains_key("network_mode") {
        return false;
    }
    let networks = service.entry("networks").or_insert(Value::Null);
    if networks.as_object().is_none_or(Map::is_empty) {
        *networks = json!({"default": null});
    }
    networks.get("default").is_some()
}

fn complete(service: &mut Map<String, Value>, environment: &Environment) {
    if service.get("pull_policy") == Some(&json!("if_not_present")) {
        service.insert("pull_policy".to_owned(), "missing".into());
    }
    if let Some(build) = service.get_mut("build").and_then(Value::as_object_mut) {
        build.entry("context").or_insert_with(|| ".".into());
        if !build.contains_key("dockerfile_inline") {
            build
                .entry("dockerfile")
                .or_insert_with(|| "Dockerfile".into());
        }
        say_labels(build.get_mut("labels"));
        fill(build.get_mut("args"), environment);
        if let Some(Value::Object(args)) = build.get_mut("args") {
            args.retain(|_, value| !value.is_null());
        }
    }
    fill(service.get_mut("environment"), environment);
    say_labels(service.get_mut("labels"));
    if let Some(Value::Array(ports)) = service.get_mut("ports") {
        for port in ports.iter_mut().filter_map(Value::as_object_mut) {
            port.entry("mode").or_insert_with(|| "ingress".into());
            port.entry("protocol").or_insert_with(|| "tcp".into());
        }
    }
    if let Some(Value::Array(mounts)) = service.get_mut("volumes") {
        for mount in mounts {
            if let Some(Value::String(target)) = mount.get_mut("target") {
                *target = paths::clean(Path::new(target)).display().to_string();
            }
        }
    }
    if let Some(Value::Array(secrets)) = service.get_mut("secrets") {
        for secret in secrets {
            let source = secret["source"].as_str().unwrap_or_default();
            let target = match secret["target"].as_str() {
                None => format!("/run/secrets/{source}"),
                Some(target) if target.starts_with('/') => target.to_owned(),
                Some(target) => format!("/run/secrets/{target}"),
            };
            secret["target"] = target.into();
        }
    }
    if let Some(Value::Object(dependencies)) = service.get_mut("depends_on") {
        for dependency in dependencies.values_mut().filter_map(Value::as_object_mut) {
            dependency
                .entry("condition")
                .or_insert_with(|| "service_started".into());
            dependency.entry("required").or_insert(true.into());
        }
    }
}

/// Gives labels without a value an empty one.
fn say_labels(labels: Option<&mut Value>) {
    let labels = labels.and_then(Value::as_object_mut);
    for value in labels.into_iter().flat_map(|labels| labels.values_mut()) {
        if value.is_null() {
            *value = "".into();
        }
    }
}

/// Gives variables without a value the environment's.
fn fill(variables: Option<&mut Value>, environment: &Environment) {
    let variables = variables.and_then(Value::as_object_mut);
    for (name, value) in variables.into_iter().flatten() {
        if value.is_null()
            && let Some(known) = environment.get(name)
        {
            *value = known.into();
        }
    }
}

/// Makes a service depend on those whose namespaces, links or volumes it uses.
fn depend(service: &mut Map<String, Value>) {
    let mut on: Vec<(String, bool)> = Vec::new();
    let texts = |key: &str| -> Vec<String> {
        let items = service
            .get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    for link in texts("links") {
        on.push((first_field(&link), true));
    }
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        let mode = service.get(key).and_then(Value::as_str);
        if let Some(other) = mode.and_then(|mode| mode.strip_prefix("service:")) {
            on.push((other.to_owned(), true));
        }
    }
    for source in texts("volumes_from") {
        if !source.starts_with("container:") {
            on.push((first_field(&source), false));
        }
    }
    if on.is_empty() {
        return;
    }
    let dependencies = service.entry("depends_on").or_insert_with(|| json!({}));
    if let Some(dependencies) = dependencies.as_object_mut() {
        for (name, restart) in on {
            let implied =
                json!({"condition": "service_started", "required": true, "restart": restart});
            dependencies.entry(name).or_insert(implied);
        }
    }
}

fn first_field(text: &str) -> String {
    text.split(':').next().unwrap_or(text).to_owned()
}

/// Gives a resource its name on the engine, and `external` its one form.
fn name_resource(key: &str, resource: &mut Value, project: &str) {
    if resource.is_null() {
        *resource = json!({});
    }
    let Some(fields) = resource.as_object_mut() else {
        return;
    };
    say_labels(fields.get_mut("labels"));
    let external = fields.shift_remove("external");
    let is_external = external.as_ref().is_some_and(|it| it["is"] != json!(false));
    if let Some(name) = external.as_ref().and_then(|it| it.get("name")) {
        fields.insert("name".to_owned(), name.clone());
    }
    if is_external {
        fields.insert("external".to_owned(), true.into());
    }
    fields.entry("name").or_insert_with(|| match is_external {
        true => key.into(),
        false => format!("{project}_{key}").into(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_completed() {
        let mut tree = json!({
            "services": {"web": {"links": ["db:database"], "secrets": [{"source": "s"}], "build": {"context": "/c"}},
                "db": {"network_mode": "service:web"}},
            "volumes": {"data": null, "old": {"external": {"is": true}}, "older": {"external": {"name": "x"}}},
        });
        normalize(&mut tree, "p", &Environment::default());
        let web = &tree["services"]["web"];
        assert_eq!(web["networks"], json!({"default": null}));
        assert_eq!(web["secrets"][0]["target"], "/run/secrets/s");
        assert_eq!(web["build"]["dockerfile"], "Dockerfile");
        assert_eq!(web["depends_on"]["db"]["condition"], "service_started");
        assert_eq!(tree["services"]["db"]["depends_on"]["web"]["restart"], true);
        assert_eq!(tree["networks"]["default"]["name"], "p_default");
        assert_eq!(tree["volumes"]["data"]["name"], "p_data");
        assert_eq!(
            tree["volumes"]["old"],
            json!({"external": true, "name": "old"})
        );
        assert_eq!(
            tree["volumes"]["older"],
            json!({"external": true, "name": "x"})
        );
    }
}
