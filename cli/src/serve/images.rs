//! `/images`, `/commit` and `/distribution`.

mod transfer;

use std::collections::BTreeMap;

use jiff::Timestamp;
use runtime::container::CommitOptions;
use runtime::container::Healthcheck;
use runtime::image::Image;
use runtime::image::ImageFilter;
use runtime::image::Removal;
use runtime::reference::Reference;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Server;
use super::api_error::ApiError;
use super::exchange::Answer;
use super::exchange::Exchange;
use super::exchange::Reply;
use super::request::ApiVersion;
use super::system::registry_settings;

/// Leads to the endpoint. A name may hold slashes: what follows it says what is wanted of it.
pub(super) fn route(
    server: &Server,
    exchange: &mut Exchange<'_>,
    method: &str,
    path: &[&str],
) -> Answer {
    match (method, path) {
        ("GET", ["json"]) => list(server, exchange),
        ("GET", ["search"]) => Err(ApiError::new(501, "this engine cannot search registries")),
        ("GET", ["get"]) => {
            let names = exchange.request.query.all("names");
            let names = names.into_iter().map(str::to_owned).collect();
            transfer::save(server, exchange, names)
        }
        ("POST", ["create"]) => transfer::create(server, exchange),
        ("POST", ["load"]) => transfer::load(server, exchange),
        ("POST", ["prune"]) => prune(server, exchange),
        ("GET", [name @ .., verb]) if !name.is_empty() => {
            let name = name.join("/");
            match *verb {
                "json" => inspect(server, exchange, &name),
                "history" => history(server, &name),
                "get" => transfer::save(server, exchange, vec![name]),
                _ => Err(ApiError::no_page()),
            }
        }
        ("POST", [name @ .., "tag"]) if !name.is_empty() => tag(server, exchange, &name.join("/")),
        ("POST", [name @ .., "push"]) if !name.is_empty() => {
            transfer::push(server, exchange, &name.join("/"))
        }
        ("DELETE", name) if !name.is_empty() => {
            let force = exchange.request.query.is_true("force");
            let removals = server.engine().remove_image(&name.join("/"), force)?;
            Reply::ok(removals.iter().map(removal).collect::<Vec<Value>>())
        }
        _ => Err(ApiError::no_page()),
    }
}

fn list(server: &Server, exchange: &Exchange<'_>) -> Answer {
    let mut filter = ImageFilter::default();
    for one in exchange.request.query.filters()? {
        filter.add(&one)?;
    }
    let images = server.engine().images(&filter)?;
    let summaries = images.iter().map(|image| {
        let mut summary = summary(image, -1);
        // How nameless images were shown before 1.43.
        if exchange.request.version < ApiVersion(1, 43) {
            for (names, none) in [
                ("RepoTags", "<none>:<none>"),
                ("RepoDigests", "<none>@<none>"),
            ] {
                if image.is_dangling() && summary[names] == json!([]) {
                    summary[names] = json!([none]);
                }
            }
        }
        if exchange.request.version < ApiVersion(1, 44) {
            summary["VirtualSize"] = image.size.into();
        }
        summary
    });
    Reply::ok(summaries.collect::<Vec<Value>>())
}

/// Returns an image as lists show it; `containers` are those that use it, -1 if nobody has counted.
pub(super) fn summary(image: &Image, containers: i64) -> Value {
    let tags: Vec<String> = image.tags.iter().map(Reference::familiar).collect();
    let labels = image.config.config().as_ref();
    let labels = labels.and_then(|config| config.labels().clone());
    json!({
        "Id": image.id.to_string(),
        "ParentId": "",
        "RepoTags": tags,
        "RepoDigests": image.repo_digests,
        "Created": image.created_at().map_or(0, Timestamp::as_second),
        "Size": image.size,
        "SharedSize": -1,
        "Labels": labels,
        "Containers": containers,
    })
}

fn inspect(server: &Server, exchange: &Exchange<'_>, name: &str) -> Answer {
    let mut inspected = server.engine().inspect_image(name)?;
    if let Some(fields) = inspected.as_object_mut() {
        if exchange.request.version >= ApiVersion(1, 44) {
            fields.remove("VirtualSize");
        }
        // From 1.45 on Docker shows neither; the last docker-compose in Python needs the second, and nobody minds it.
        if exchange.request.version >= ApiVersion(1, 45) {
            fields.remove("Container");
        }
    }
    Reply::ok(inspected)
}

fn history(server: &Server, name: &str) -> Answer {
    let entries = server.engine().history(name)?;
    let shown = entries.iter().map(|entry| {
        let created = entry.created.as_deref();
        let created = created.and_then(|at| at.parse::<Timestamp>().ok());
        let tags = (!entry.tags.is_empty()).then_some(&entry.tags);
        json!({
            "Id": entry.image.map_or_else(|| "<missing>".to_owned(), |id| id.to_string()),
            "Created": created.map_or(0, Timestamp::as_second),
            "CreatedBy": entry.created_by,
            "Tags": tags,
            "Size": entry.size,
            "Comment": entry.comment,
        })
    });
    Reply::ok(shown.collect::<Vec<Value>>())
}

/// Returns the name that `repo` and `tag` of the query make, if there is one.
fn named(exchange: &Exchange<'_>) -> Result<Option<Reference>, ApiError> {
    let query = &exchange.request.query;
    let Some(repository) = query.get("repo") else {
        return Ok(None);
    };
    let reference: Reference = repository.parse().map_err(ApiError::bad)?;
    match query.get("tag") {
        Some(tag) => reference.with_tag(tag).map(Some).map_err(ApiError::bad),
        None => Ok(Some(reference.or_latest())),
    }
}

fn tag(server: &Server, exchange: &Exchange<'_>, name: &str) -> Answer {
    exchange.required("repo")?;
    if let Some(reference) = named(exchange)? {
        server.engine().tag(name, &reference)?;
    }
    Ok(Reply::Empty(201))
}

fn removal(removal: &Removal) -> Value {
    match removal {
        Removal::Untagged(name) => json!({ "Untagged": name }),
        Removal::Deleted(digest) => json!({ "Deleted": digest.to_string() }),
    }
}

fn prune(server: &Server, exchange: &Exchange<'_>) -> Answer {
    let mut filter = ImageFilter::default();
    for one in exchange.request.query.filters()? {
        filter.add_of_prune(&one)?;
    }
    // `dangling=false` is how a client asks for all that nobody uses.
    let all = filter.dangling == Some(false);
    let pruned = server.engine().prune_images(all, &filter)?;
    let removed: Vec<Value> = pruned.removals.iter().map(removal).collect();
    let removed = (!removed.is_empty()).then_some(removed);
    Reply::ok(json!({ "ImagesDeleted": removed, "SpaceReclaimed": pruned.freed }))
}

/// What a commit's image is to have beside, or in place of, what its container has.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct AskedConfig {
    user: Option<String>,
    exposed_ports: Option<BTreeMap<String, Value>>,
    env: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    healthcheck: Option<Healthcheck>,
    volumes: Option<BTreeMap<String, Value>>,
    working_dir: Option<String>,
    entrypoint: Option<Vec<String>>,
    on_build: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: Option<String>,
    shell: Option<Vec<String>>,
}

impl AskedConfig {
    /// Returns the fields that say something.
    fn fields(self) -> Map<String, Value> {
        let keys = |all: Option<BTreeMap<String, Value>>| {
            let keys = all.unwrap_or_default().into_keys();
            keys.map(|key| (key, json!({}))).collect::<Map<_, _>>()
        };
        let fields = [
            ("User", json!(self.user)),
            ("ExposedPorts", keys(self.exposed_ports).into()),
            ("Env", json!(self.env)),
            ("Cmd", json!(self.cmd)),
            ("Healthcheck", json!(self.healthcheck)),
            ("Volumes", keys(self.volumes).into()),
            ("WorkingDir", json!(self.working_dir)),
            ("Entrypoint", json!(self.entrypoint)),
            ("OnBuild", json!(self.on_build)),
            ("Labels", json!(self.labels)),
            ("StopSignal", json!(self.stop_signal)),
            ("Shell", json!(self.shell)),
        ];
        let says_something = |value: &Value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(values) => !values.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            _ => true,
        };
        fields
            .into_iter()
            .filter(|(_, value)| says_something(value))
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

/// `POST /commit`
pub(super) fn commit(server: &Server, exchange: &mut Exchange<'_>) -> Answer {
    let config: Option<Option<AskedConfig>> = exchange.optional_json()?;
    let config = config.flatten().unwrap_or_default();
    let query = &exchange.request.query;
    let text = |name: &str| query.get(name).unwrap_or_default().to_owned();
    let changes = query.all("changes").into_iter().flat_map(str::lines);
    let options = CommitOptions {
        reference: named(exchange)?,
        author: text("author"),
        message: text("comment"),
        config: config.fields(),
        changes: changes.map(str::to_owned).collect(),
        pause: query.is_true_or_absent("pause"),
    };
    let container = exchange.required("container")?;
    let image = server.engine().commit_container(container, &options)?;
    Ok(Reply::Json(201, json!({ "Id": image.to_string() })))
}

/// `GET /distribution/NAME/json`
pub(super) fn distribution(server: &Server, name: &str, exchange: &Exchange<'_>) -> Answer {
    let reference: Reference = name.parse().map_err(ApiError::bad)?;
    let settings = registry_settings(exchange)?;
    let found = server.engine().distribution(&reference, &settings)?;
    let platforms = found.platforms.iter().map(|(architecture, os, variant)| {
        let mut platform = json!({ "architecture": architecture, "os": os });
        if let Some(variant) = variant {
            platform["variant"] = variant.clone().into();
        }
        platform
    });
    Reply::ok(json!({
        "Descriptor": {
            "mediaType": found.media_type,
            "digest": found.digest.to_string(),
            "size": found.size,
        },
        "Platforms": platforms.collect::<Vec<Value>>(),
    }))
}
