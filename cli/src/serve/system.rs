//! What the engine says of itself: `/_ping`, `/version`, `/info`, `/system/df`, `/auth`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use runtime::container::ContainerFilter;
use runtime::image::ImageFilter;
use runtime::registry::Login;
use runtime::registry::RegistryError;
use runtime::registry::Settings;
use runtime::volume::VolumeFilter;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use super::Server;
use super::api_error::ApiError;
use super::containers;
use super::exchange::Answer;
use super::exchange::Exchange;
use super::exchange::Reply;
use super::images;
use super::request::ApiVersion;
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
    let mut version = docker_json::version();
    let details = json!({
        "ApiVersion": ApiVersion::NEWEST.to_string(),
        "Arch": version["Arch"],
        "Experimental": "false",
        "KernelVersion": version["KernelVersion"],
        "MinAPIVersion": ApiVersion::OLDEST.to_string(),
        "Os": version["Os"],
    });
    let component = json!({ "Name": "Engine", "Version": version["Version"], "Details": details });
    version["Platform"] = json!({ "Name": "ply" });
    version["Components"] = json!([component]);
    version["ApiVersion"] = ApiVersion::NEWEST.to_string().into();
    version["MinAPIVersion"] = ApiVersion::OLDEST.to_string().into();
    // Clients that were written for Docker's expect these two.
    version["GitCommit"] = "".into();
    version["GoVersion"] = "".into();
    Reply::ok(version)
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
        let summaries = images.iter().map(|image| {
            let id = image.id.to_string();
            let users = containers.iter().filter(|it| it.config.image_id == id);
            images::summary(image, users.count() as i64)
        });
        usage["Images"] = summaries.collect();
    }
    if is_wanted("container") {
        let all = engine.containers(true, &ContainerFilter::default())?;
        let summaries = all
            .iter()
            .map(|container| containers::summary(engine, container, true));
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
    usage["BuildCache"] = Value::Array(Vec::new());
    Reply::ok(usage)
}

/// Asks a registry whether it knows somebody.
pub(super) fn authenticate(exchange: &mut Exchange<'_>) -> Answer {
    let asked: AuthConfig = exchange.json()?;
    let settings = Settings {
        docker_config: None,
        login: asked.login(),
        ..Settings::default()
    };
    match runtime::registry::log_in(&asked.serveraddress, &settings) {
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
    username: Option<String>,
    password: Option<String>,
    auth: Option<String>,
    serveraddress: String,
    identitytoken: Option<String>,
}

impl AuthConfig {
    /// Returns the login, if it is one.
    fn login(&self) -> Option<Login> {
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
    let invalid = || ApiError::bad("invalid X-Registry-Auth header");
    let login = match exchange.request.header("x-registry-auth") {
        None | Some("") => None,
        Some(header) => {
            // Clients differ in whether they pad.
            let bytes = URL_SAFE_NO_PAD
                .decode(header.trim_end_matches('='))
                .or_else(|_| STANDARD.decode(header))
                .map_err(|_| invalid())?;
            let asked: AuthConfig = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
            asked.login()
        }
    };
    Ok(Settings {
        docker_config: None,
        login,
        ..Settings::default()
    })
}
