//! `/volumes`.

use std::collections::BTreeMap;

use runtime::volume::VolumeError;
use runtime::volume::VolumeFilter;
use runtime::volume::VolumeOptions;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use super::Server;
use super::api_error::ApiError;
use super::exchange::Answer;
use super::exchange::Exchange;
use super::exchange::Reply;
use super::request::ApiVersion;
use crate::docker_json;

impl From<VolumeError> for ApiError {
    fn from(error: VolumeError) -> ApiError {
        let status = match &error {
            VolumeError::NoSuchVolume(_) => 404,
            VolumeError::InUse { .. } => 409,
            VolumeError::Invalid { .. } | VolumeError::InvalidFilter(_) => 400,
            _ => 500,
        };
        ApiError::new(status, error)
    }
}

/// What `POST /volumes/create` asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Asked {
    name: Option<String>,
    driver: Option<String>,
    driver_opts: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

/// Leads to the endpoint.
pub(super) fn route(
    server: &Server,
    exchange: &mut Exchange<'_>,
    method: &str,
    path: &[&str],
) -> Answer {
    let engine = server.engine();
    match (method, path) {
        ("GET", []) => {
            let mut filter = VolumeFilter::default();
            for one in exchange.request.query.filters()? {
                filter.add(&one)?;
            }
            let volumes = engine.volumes(&filter)?;
            let shown: Vec<Value> = volumes.iter().map(docker_json::volume).collect();
            Reply::ok(json!({ "Volumes": shown, "Warnings": null }))
        }
        ("POST", ["create"]) => create(server, exchange),
        ("POST", ["prune"]) => {
            let mut filter = VolumeFilter::default();
            // Before 1.42 a prune meant all.
            let mut all = exchange.request.version < ApiVersion(1, 42);
            for one in exchange.request.query.filters()? {
                all |= filter.add_of_prune(&one)?;
            }
            let pruned = engine.prune_volumes(all, &filter)?;
            Reply::ok(json!({ "VolumesDeleted": pruned.names, "SpaceReclaimed": pruned.freed }))
        }
        ("GET", [name]) => Reply::ok(docker_json::volume(&engine.volume(name)?)),
        ("DELETE", [name]) => {
            engine.remove_volume(name, exchange.request.query.is_true("force"))?;
            Ok(Reply::Empty(204))
        }
        ("PUT", [_]) => Err(ApiError::new(503, "only cluster volumes can be updated")),
        _ => Err(ApiError::no_page()),
    }
}

fn create(server: &Server, exchange: &mut Exchange<'_>) -> Answer {
    let asked: Asked = exchange.json()?;
    let volume = server.engine().create_volume(&VolumeOptions {
        name: asked.name.filter(|name| !name.is_empty()),
        driver: asked.driver.unwrap_or_default(),
        driver_opts: asked.driver_opts.unwrap_or_default(),
        labels: asked.labels.unwrap_or_default(),
    })?;
    Ok(Reply::Json(201, docker_json::volume(&volume)))
}
