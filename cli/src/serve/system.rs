//! What the engine says of itself: `/_ping`, `/version`, `/info`, `/system/df`, `/auth`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use runtime::build::CacheEntry;
use runtime::container::ContainerFilter;
use runtime::image::ImageFilter;
use runtime::registry::Login;
use runtime::registry::RegistryError;
use runtime::registry::Settings;
use runtime::volume::VolumeFilter;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;

use super::Server;
use super::api_error::ApiError;
use super::containers;
use super::exchange::Answer;
use super::exchange::Exchange;
use super::exchange::Reply;
use super::images;
use crate::docker_json;

/// Answers that we are here; what a client goes by is in the headers.
pub(super) fn ping(exchange: &mut Exchange<'_>) -> Answer {
    exchange.set_header("Builder-Version", "1");
    exchange.set_header("Cache-Control", "no-cache, no-store, must-revalidate");
    exchange.set_header("Pragma", "no-cache");
    exchange.set_header("Swarm", "inactive");
    Ok(Reply::Text(200, "OK"))
}

pub(super) fn version() -> Answer {
    Reply::ok(docker_json::server_version())
}

pub(super) fn info(server: &Server) -> Answer {
    Reply::ok(docker_json::info(server.engine())?)
}

/// Answers what takes room; `type` says of what.
pub(super) fn disk_usage(server: &Server, exchange: &Exchange<'_>) -> Answer {
    let engine = server.engine();
    let kinds = exchange.request.query.all("type");
    let is_wanted = |kind: &str| kinds.is_empty() || kinds.contains(&kind);
    let mut usage = json!({ "BuilderSize": 0 });
    if is_wanted("image") {
        let (of_images, _) = engine.disk_usage()?;
        let images = engine.images(&ImageFilter::default())?;
        let containers = engine.containers(true, &ContainerFilter::default())?;
        usage["LayersSize"] = of_images.size.into();
        let shared = docker_json::shared_sizes(engine, &images);
        let summaries = images.iter().zip(shared).map(|(image, shared)| {
            let id = image.id.to_string();
            let users = containers.iter().filter(|it| it.config.image_id == id);
            let mut summary = images::summary(image, users.count() as i64);
            summary["SharedSize"] = shared.into();
            summary
        });
        usage["Images"] = summaries.collect();
    }
    if is_wanted("container") {
        let all = engine.containers(true, &ContainerFilter::default())?;
        let summaries = all
            .iter()
            .map(|container| containers::list::summary(engine, container));
        usage["Containers"] = summaries.collect();
    }
    if is_wanted("volume") {
        let volumes = engine.volumes(&VolumeFilter::default())?;
        let shown = volumes.iter().map(|volume| {
            let mut shown = docker_json::volume(volume);
            shown["UsageData"] = json!({
                "RefCount": volume.containers.len(),
                "Size": engine.volume_size(volume),
            });
            shown
        });
        usage["Volumes"] = shown.collect();
    }
    if is_wanted("build-cache") {
        let cache = engine.build_cache().map_err(ApiError::internal)?;
        usage["BuilderSize"] = engine
            .build_cache_usage()
            .map_err(ApiError::internal)?
            .size
            .into();
        usage["BuildCache"] = cache.iter().map(cached).collect();
    }
    Reply::ok(usage)
}

fn cached(entry: &CacheEntry) -> Value {
    json!({
        "ID": entry.id,
        "Parent": "",
        "Type": if entry.is_mount { "exec.cachemount" } else { "regular" },
        "Description": entry.description,
        "InUse": false,
        "Shared": entry.is_shared,
        "Size": entry.size,
        "CreatedAt": entry.created.to_string(),
        "LastUsedAt": entry.last_used.to_string(),
        "UsageCount": entry.uses,
    })
}

/// Asks a registry whether it knows somebody.
pub(super) fn authenticate(exchange: &mut Exchange<'_>) -> Answer {
    let asked: AuthConfig = exchange.json()?;
    let settings = Settings {
        docker_config: None,
        login: asked.login(),
        ..Settings::default()
    };
    match runtime::registry::log_in(
        asked.serveraddress.as_deref().unwrap_or_default(),
        &settings,
    ) {
        Ok(()) => Reply::ok(json!({ "Status": "Login Succeeded", "IdentityToken": "" })),
        Err(
            error @ (RegistryError::Api { status: 401, .. }
            | RegistryError::Status { status: 401, .. }
            | RegistryError::NoCredentials { .. }),
        ) => Err(ApiError::new(401, error)),
        Err(error) => Err(ApiError::internal(error)),
    }
}

/// A login as clients send it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AuthConfig {
    #[serde(alias = "Username")]
    username: Option<String>,
    #[serde(alias = "Password")]
    password: Option<String>,
    #[serde(alias = "Auth")]
    auth: Option<String>,
    #[serde(alias = "ServerAddress")]
    serveraddress: Option<String>,
    #[serde(alias = "IdentityToken")]
    identitytoken: Option<String>,
}

impl AuthConfig {
    /// Returns the login, if it is one.
    pub(super) fn login(&self) -> Option<Login> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.identitytoken) {
            return Some(Login::IdentityToken(token));
        }
        if let Some(user) = given(&self.username) {
            let password = self.password.clone().unwrap_or_default();
            return Some(Login::Password { user, password });
        }
        let pair = STANDARD.decode(given(&self.auth)?).ok()?;
        let pair = String::from_utf8(pair).ok()?;
        let (user, password) = pair.split_once(':')?;
        Some(Login::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }
}

/// Returns how a registry is spoken to for this client: with the login that it has sent, and never with ours.
pub(super) fn registry_settings(exchange: &Exchange<'_>) -> Result<Settings, ApiError> {
    let asked: Option<AuthConfig> = encoded(exchange, "x-registry-auth")?;
    Ok(Settings {
        docker_config: None,
        login: asked.and_then(|asked| asked.login()),
        ..Settings::default()
    })
}

/// Returns how registries are spoken to for this client's build: with the logins that it has sent.
pub(super) fn settings_of_build(exchange: &Exchange<'_>) -> Result<Settings, ApiError> {
    let asked: Option<BTreeMap<String, Option<AuthConfig>>> =
        encoded(exchange, "x-registry-config")?;
    let logins = asked.unwrap_or_default().into_iter();
    Ok(Settings {
        docker_config: None,
        logins: logins
            .filter_map(|(name, asked)| Some((name, asked?.login()?)))
            .collect(),
        ..Settings::default()
    })
}

/// Reads a header that is JSON in base64.
fn encoded<T: DeserializeOwned>(
    exchange: &Exchange<'_>,
    name: &str,
) -> Result<Option<T>, ApiError> {
    let Some(header) = exchange.request.header(name).filter(|it| !it.is_empty()) else {
        return Ok(None);
    };
    let invalid = || ApiError::bad(format_args!("invalid {name} header"));
    // Clients differ in whether they pad.
    let bytes = URL_SAFE_NO_PAD
        .decode(header.trim_end_matches('='))
        .or_else(|_| STANDARD.decode(header))
        .map_err(|_| invalid())?;
    // Go writes nothing as `null`.
    serde_json::from_slice(&bytes).map_err(|_| invalid())
}
