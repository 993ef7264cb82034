//! One file over another, by the specification's rules. Both trees are in their canonical form.
//!
//! Mappings are merged, lists are appended, anything else is replaced; commands and tests are replaced as a whole.
//! What has an identity (a port, a mount's target) is replaced where it stands.

use std::collections::HashMap;

use serde_json::Map;
use serde_json::Value;

/// Takes away what a file resets in those before it.
pub(crate) fn reset(value: &mut Value, path: &[String]) {
    let Some((key, rest)) = path.split_first() else {
        *value = Value::Null;
        return;
    };
    let index = key
        .strip_prefix('[')
        .and_then(|key| key.strip_suffix(']'))
        .and_then(|key| key.parse::<usize>().ok());
    match (value, index) {
        (Value::Object(map), _) if rest.is_empty() => {
            map.shift_remove(key);
        }
        (Value::Object(map), _) => {
            if let Some(inner) = map.get_mut(key) {
                reset(inner, rest);
            }
        }
        (Value::Array(items), Some(index)) if index < items.len() => match rest {
            [] => {
                items.remove(index);
            }
            rest => reset(&mut items[index], rest),
        },
        _ => {}
    }
}

/// Merges `over` into `base`; `path` is where they stand.
pub(crate) fn merge(base: &mut Value, over: Value, path: &mut Vec<String>) {
    let here: Vec<&str> = path.iter().map(String::as_str).collect();
    let is_replaced = matches!(
        here.as_slice(),
        ["services", _, "command" | "entrypoint"] | ["services", _, "healthcheck", "test"]
    );
    let is_other_driver = matches!(here.as_slice(), ["services", _, "logging"])
        && matches!((base.get("driver"), over.get("driver")), (Some(a), Some(b)) if a != b);
    match (base, over) {
        (_, Value::Null) if !is_replaced => {}
        (Value::Object(base), Value::Object(over)) if !is_replaced && !is_other_driver => {
            merge_maps(base, over, path);
        }
        (Value::Array(base), Value::Array(over)) if !is_replaced => {
            base.extend(over);
            make_unique(base, path);
        }
        (base, over) => *base = over,
    }
}

fn merge_maps(base: &mut Map<String, Value>, over: Map<String, Value>, path: &mut Vec<String>) {
    for (key, value) in over {
        match base.get_mut(&key) {
            None => {
                base.insert(key, value);
            }
            Some(there) => {
                path.push(key);
                merge(there, value, path);
                path.pop();
            }
        }
    }
}

/// Returns what a list's item is known by; `None` where items have no identity.
fn identity(path: &[String], item: &Value) -> Option<String> {
    let here: Vec<&str> = path.iter().map(String::as_str).collect();
    let field = |name: &str, default: &str| match &item[name] {
        Value::String(text) => text.clone(),
        Value::Null => default.to_owned(),
        other => other.to_string(),
    };
    match here.as_slice() {
        ["services", _, "ports"] => Some(format!(
            "{}:{}:{}/{}",
            field("host_ip", "0.0.0.0"),
            field("published", ""),
            field("target", ""),
            field("protocol", "tcp")
        )),
        ["services", _, "volumes" | "devices"] => Some(field("target", "")),
        ["services", _, kind @ ("secrets" | "configs")] => {
            let directory = if *kind == "secrets" {
                "/run/secrets"
            } else {
                ""
            };
            let default = format!("{directory}/{}", field("source", ""));
            Some(field("target", &default))
        }
        ["services", _, "env_file"] => Some(field("path", "")),
        ["networks", _, "ipam", "config"] => Some(field("subnet", "")),
        ["services", _, "build", "tags"] => item.as_str().map(str::to_owned),
        ["services", _, "tmpfs"] => {
            let text = item.as_str()?;
            Some(text.split(':').next().unwrap_or(text).to_owned())
        }
        [
            "services",
            _,
            "cap_add" | "cap_drop" | "dns" | "dns_opt" | "dns_search" | "expose" | "links"
            | "profiles" | "extra_hosts" | "security_opt" | "group_add",
        ]
        | ["services", _, "networks", _, "aliases" | "link_local_ips"] => {
            item.as_str().map(str::to_owned)
        }
        _ => None,
    }
}

fn make_unique(items: &mut Vec<Value>, path: &[String]) {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut unique: Vec<Value> = Vec::with_capacity(items.len());
    for item in items.drain(..) {
        match identity(path, &item) {
            Some(identity) => match places.get(&identity) {
                Some(&place) => unique[place] = item,
                None => {
                    places.insert(identity, unique.len());
                    unique.push(item);
                }
            },
            None => unique.push(item),
        }
    }
    *items = unique;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(base: Value, over: Value) -> Value {
        let mut base = json!({"services": {"web": base}});
        let over = json!({"services": {"web": over}});
        merge(&mut base, over, &mut Vec::new());
        base["services"]["web"].take()
    }

    #[test]
    fn mappings_merge_lists_grow_and_commands_are_replaced() {
        let base = json!({"image": "a", "command": ["x", "y"], "environment": {"A": "1", "B": "2"},
            "healthcheck": {"test": ["CMD", "a"], "retries": 1}, "cap_add": ["X"], "security_opt": ["a"]});
        let over = json!({"image": "b", "command": ["z"], "environment": {"B": "3", "C": null},
            "healthcheck": {"test": ["NONE"]}, "cap_add": ["Y", "X"]});
        let wanted = json!({"image": "b", "command": ["z"], "environment": {"A": "1", "B": "3", "C": null},
            "healthcheck": {"test": ["NONE"], "retries": 1}, "cap_add": ["X", "Y"], "security_opt": ["a"]});
        assert_eq!(merged(base, over), wanted);
    }

    #[test]
    fn what_has_an_identity_is_replaced_where_it_stands() {
        let volume = |source: &str, target: &str| json!({"type": "bind", "source": source, "target": target});
        let base = json!({"volumes": [volume("/a", "/x"), volume("/b", "/y")],
            "ports": [{"target": 80, "published": "8080"}]});
        let over = json!({"volumes": [volume("/c", "/x")],
            "ports": [{"target": 80, "published": "8081"}, {"target": 80, "published": "8080", "name": "n"}]});
        let wanted = json!({"volumes": [volume("/c", "/x"), volume("/b", "/y")],
            "ports": [{"target": 80, "published": "8080", "name": "n"}, {"target": 80, "published": "8081"}]});
        assert_eq!(merged(base, over), wanted);
    }

    #[test]
    fn options_of_another_log_driver_are_not_merged() {
        let base = json!({"logging": {"driver": "json-file", "options": {"max-size": "1m"}}});
        let same = json!({"logging": {"options": {"max-file": "2"}}});
        let other = json!({"logging": {"driver": "none"}});
        assert_eq!(merged(base.clone(), other.clone()), other);
        let both = merged(base, same);
        assert_eq!(
            both["logging"]["options"],
            json!({"max-size": "1m", "max-file": "2"})
        );
    }

    #[test]
    fn what_is_reset_is_gone() {
        let mut tree = json!({"a": {"b": [1, 2], "c": 3}});
        let path = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        reset(&mut tree, &path("a/c"));
        reset(&mut tree, &path("a/b/[0]"));
        reset(&mut tree, &path("no/such"));
        assert_eq!(tree, json!({"a": {"b": [2]}}));
    }
}
