//! `/containers/NAME/archive` and `/export`: a container's files as tars, streamed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use layerfs::Kind;
use runtime::copy::CopyOptions;
use runtime::copy::PathStat;
use serde_json::json;

use crate::serve::Server;
use crate::serve::api_error::ApiError;
use crate::serve::exchange::Answer;
use crate::serve::exchange::Exchange;
use crate::serve::exchange::Reply;

/// The header with what a path leads to.
const STAT: &str = "X-Docker-Container-Path-Stat";

/// Owners are those of the tar.
const OPTIONS: CopyOptions = CopyOptions {
    archive: true,
    follow_link: false,
    replaces: false,
};

fn path(exchange: &Exchange<'_>) -> Result<String, ApiError> {
    let missing = |_| ApiError::bad("missing path");
    // A relative path begins at the root, as the API has it.
    let path = exchange.required("path").map_err(missing)?;
    Ok(match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    })
}

/// Returns Go's `os.FileMode`: the permissions, and bits of its own for the rest.
fn go_mode(stat: &PathStat) -> u32 {
    let kind = match stat.kind {
        Kind::Directory => 1 << 31,
        Kind::Symlink => 1 << 27,
        Kind::BlockDevice => 1 << 26,
        Kind::CharDevice => 1 << 26 | 1 << 21,
        Kind::Fifo => 1 << 25,
        Kind::Socket => 1 << 24,
        _ => 0,
    };
    let bit = |unix: u32, go: u32| if stat.mode & unix != 0 { go } else { 0 };
    (stat.mode & 0o777) | kind | bit(0o4000, 1 << 23) | bit(0o2000, 1 << 22) | bit(0o1000, 1 << 20)
}

fn set_stat(exchange: &mut Exchange<'_>, stat: &PathStat) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let stat = json!({
        "name": text(&stat.name),
        "size": stat.size,
        "mode": go_mode(stat),
        "mtime": stat.modified.to_string(),
        "linkTarget": text(&stat.link_target),
    });
    exchange.set_header(STAT, STANDARD.encode(stat.to_string()));
}

pub(super) fn stat(server: &Server, exchange: &mut Exchange<'_>, name: &str) -> Answer {
    let path = path(exchange)?;
    let stat = server.engine().stat_in_container(name, path.as_bytes())?;
    set_stat(exchange, &stat);
    Ok(Reply::Empty(200))
}

pub(super) fn get(server: &Server, exchange: &mut Exchange<'_>, name: &str) -> Answer {
    let path = path(exchange)?;
    let engine = server.engine();
    let stat = engine.stat_in_container(name, path.as_bytes())?;
    set_stat(exchange, &stat);
    let mut out = exchange.stream(Some("application/x-tar"))?;
    let archived = engine.archive_from_container(name, path.as_bytes(), &OPTIONS, &mut out);
    cut_off_if_failed(archived, || out.end())
}

pub(super) fn export(server: &Server, exchange: &mut Exchange<'_>, name: &str) -> Answer {
    let engine = server.engine();
    let container = engine.container(name)?;
    let mut out = exchange.stream(Some("application/octet-stream"))?;
    let exported = engine.export_container(container.id.as_str(), &mut out);
    cut_off_if_failed(exported, || out.end())
}

/// Ends an answer whose head said that all is well as one that was cut off if it was not.
pub(in crate::serve) fn cut_off_if_failed<E: std::fmt::Display>(
    done: Result<(), E>,
    end: impl FnOnce() -> Answer,
) -> Answer {
    match done {
        Ok(()) => end(),
        Err(error) => {
            log::error!("{error}");
            Ok(Reply::Closed)
        }
    }
}

pub(super) fn put(server: &Server, exchange: &mut Exchange<'_>, name: &str) -> Answer {
    let path = path(exchange)?;
    let options = CopyOptions {
        replaces: !exchange.request.query.is_true("noOverwriteDirNonDir"),
        ..OPTIONS
    };
    let mut input = runtime::image::decompressed(&mut exchange.body)?;
    server
        .engine()
        .extract_to_container(name, path.as_bytes(), &options, &mut input)?;
    Ok(Reply::Empty(200))
}
