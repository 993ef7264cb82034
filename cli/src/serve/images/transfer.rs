//! Images that come and go: pull, import, load, save, push.

use std::io::Read as _;

use runtime::image::ArchiveFormat;
use runtime::image::ImportOptions;
use runtime::image::ImportSource;
use runtime::image::Platform;
use runtime::image::PullOptions;
use runtime::image::PushOptions;
use runtime::image::PushOutcome;
use runtime::progress::Progress;
use runtime::progress::Silent;
use runtime::reference::Reference;
use serde_json::json;

use super::named;
use crate::hello_world;
use crate::serve::Server;
use crate::serve::api_error::ApiError;
use crate::serve::containers::cut_off_if_failed;
use crate::serve::exchange::Answer;
use crate::serve::exchange::Exchange;
use crate::serve::progress::Lines;
use crate::serve::progress::said;
use crate::serve::system::registry_settings;

/// `POST /images/create`: a pull, or an import.
pub(super) fn create(server: &Server, exchange: &mut Exchange<'_>) -> Answer {
    let query = &exchange.request.query;
    match (query.get("fromImage"), query.get("fromSrc")) {
        (Some(image), _) => {
            let image = image.to_owned();
            pull(server, exchange, &image)
        }
        (None, Some(source)) => {
            let source = source.to_owned();
            import(server, exchange, source)
        }
        (None, None) => Err(ApiError::bad("fromImage or fromSrc is required")),
    }
}

fn platform(exchange: &Exchange<'_>) -> Result<Option<Platform>, ApiError> {
    let platform = exchange.request.query.get("platform");
    Ok(platform.map(str::parse).transpose()?)
}

fn pull(server: &Server, exchange: &Exchange<'_>, image: &str) -> Answer {
    let engine = server.engine();
    let mut reference: Reference = image.parse().map_err(ApiError::bad)?;
    let tag = exchange.request.query.get("tag");
    match tag {
        Some(digest) if digest.contains(':') => {
            let digest = digest.parse().map_err(ApiError::bad)?;
            reference = reference.without_tag().with_digest(digest);
        }
        Some(tag) => reference = reference.with_tag(tag).map_err(ApiError::bad)?,
        None => {}
    }
    let options = PullOptions {
        platform: platform(exchange)?,
        registry: registry_settings(exchange)?,
    };
    let lines = Lines::new(exchange.later_stream(Some("application/json")));
    let pulled = if hello_world::is_meant(&reference.or_latest()) {
        hello_world::load(engine)
    } else if reference.tag().is_none() && !reference.is_pinned() {
        // A repository alone stands for all of its tags.
        engine
            .pull_all_tags(&reference, &options, &lines)
            .map(|_| ())
    } else {
        engine.pull(&reference, &options, &lines).map(|_| ())
    };
    lines.end(pulled.map_err(ApiError::from))
}

fn import(server: &Server, exchange: &mut Exchange<'_>, source: String) -> Answer {
    let query = &exchange.request.query;
    let options = ImportOptions {
        reference: named(exchange)?,
        changes: query
            .all("changes")
            .into_iter()
            .flat_map(str::lines)
            .map(str::to_owned)
            .collect(),
        message: query.get("message").unwrap_or_default().to_owned(),
        platform: platform(exchange)?,
    };
    let lines = Lines::new(exchange.later_stream(Some("application/json")));
    let imported = match source.as_str() {
        "-" => {
            let from = ImportSource::Stream(&mut exchange.body, source);
            server.engine().import(from, &options)
        }
        _ => server.engine().import(ImportSource::Url(source), &options),
    };
    let imported = imported.map(|id| lines.send(&json!({ "status": id.to_string() })));
    lines.end(imported.map_err(ApiError::from))
}

/// `POST /images/load`
pub(super) fn load(server: &Server, exchange: &mut Exchange<'_>) -> Answer {
    let quiet = exchange.request.query.is_true("quiet");
    let lines = Lines::new(exchange.later_stream(Some("application/json")));
    let progress: &dyn Progress = if quiet { &Silent } else { &lines };
    let loaded = server.engine().load(&mut exchange.body, progress);
    let loaded = loaded.map(|images| {
        for image in images {
            if image.tags.is_empty() {
                lines.send(&said(&format!("Loaded image ID: {}\n", image.image)));
            }
            for tag in &image.tags {
                lines.send(&said(&format!("Loaded image: {}\n", tag.familiar())));
            }
        }
    });
    // An archive may be padded beyond its end.
    if loaded.is_ok() {
        let _ = std::io::copy(
            &mut exchange.body.by_ref().take(1 << 20),
            &mut std::io::sink(),
        );
    }
    lines.end(loaded.map_err(ApiError::from))
}

/// `GET /images/get` and `GET /images/NAME/get`
pub(super) fn save(server: &Server, exchange: &Exchange<'_>, names: Vec<String>) -> Answer {
    if names.is_empty() {
        return Err(ApiError::bad("no image names"));
    }
    // What is not there is said while it can be.
    for name in &names {
        server.engine().image(name)?;
    }
    let mut out = exchange.stream(Some("application/x-tar"))?;
    let saved = server
        .engine()
        .save(&names, ArchiveFormat::DockerArchive, &mut out);
    cut_off_if_failed(saved, || out.end())
}

/// `POST /images/NAME/push`
pub(super) fn push(server: &Server, exchange: &Exchange<'_>, name: &str) -> Answer {
    let engine = server.engine();
    let reference: Reference = name.parse().map_err(ApiError::bad)?;
    let tag = exchange.request.query.get("tag");
    let options = PushOptions {
        registry: registry_settings(exchange)?,
    };
    let lines = Lines::new(exchange.later_stream(Some("application/json")));
    let pushed = match tag {
        None => engine.push_all_tags(&reference, &options, &lines),
        Some(tag) => reference
            .with_tag(tag)
            .map_err(Into::into)
            .and_then(|reference| engine.push(&reference, &options, &lines))
            .map(|outcome| vec![outcome]),
    };
    let pushed = pushed.map(|outcomes| {
        for outcome in &outcomes {
            lines.send(&aux(outcome));
        }
    });
    lines.end(pushed.map_err(ApiError::from))
}

/// Returns what tools read of a push.
fn aux(outcome: &PushOutcome) -> serde_json::Value {
    json!({
        "progressDetail": {},
        "aux": {
            "Tag": outcome.reference.tag().unwrap_or_default(),
            "Digest": outcome.digest.to_string(),
            "Size": outcome.size,
        },
    })
}
