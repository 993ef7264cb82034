//! `GET /containers/json`. Clients ask for it all the time, so what was told is kept as long as it is true.

use std::sync::Arc;
use std::sync::OnceLock;

use parking_lot::Mutex;
use runtime::Engine;
use runtime::container::Container;
use runtime::container::Follower;
use serde_json::Value;
use serde_json::json;

use super::super::Server;
use super::super::exchange::Answer;
use super::super::exchange::Exchange;
use super::super::exchange::Reply;
use super::filter;
use super::sizes;
use crate::docker_json::command_words;
use crate::docker_json::status_words;

/// The containers, and what lists show of them.
#[derive(Debug)]
pub(in super::super) struct Lists {
    follower: Follower,
    last: Mutex<Arc<Written>>,
}

/// Containers, each with its summary as JSON as soon as somebody has asked for it: all but how long it is in its state,
/// which time changes, and the closing brace.
#[derive(Debug, Default)]
struct Written {
    containers: Arc<Vec<Container>>,
    texts: Vec<OnceLock<String>>,
}

impl Lists {
    pub(in super::super) fn new(engine: &Engine) -> Result<Lists, runtime::engine::EngineError> {
        Ok(Lists {
            follower: Follower::new(engine)?,
            last: Mutex::default(),
        })
    }

    /// Keeps what was written down of containers until there are others.
    fn written(&self, containers: Arc<Vec<Container>>) -> Arc<Written> {
        let mut last = self.last.lock();
        if !Arc::ptr_eq(&last.containers, &containers) {
            let texts = containers.iter().map(|_| OnceLock::new()).collect();
            *last = Arc::new(Written { containers, texts });
        }
        Arc::clone(&last)
    }
}

pub(super) fn list(server: &Server, exchange: &Exchange<'_>) -> Answer {
    let engine = server.engine();
    let query = &exchange.request.query;
    let limit: Option<i64> = query.number("limit")?;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.filter(|limit| *limit > 0);
    let filter = filter(exchange)?;
    let choice = engine.choice(query.is_true("all") || limit.is_some(), &filter)?;
    let lists = &server.0.lists;
    let written = lists.written(lists.follower.containers()?);
    let chosen = written.containers.iter().zip(&written.texts);
    let chosen = chosen.filter(|(container, _)| choice.has(container));
    let chosen = chosen.take(limit.unwrap_or(usize::MAX));
    if query.is_true("size") {
        let summaries = chosen.map(|(container, _)| summary(engine, container));
        return Reply::ok(summaries.collect::<Vec<Value>>());
    }
    let mut list = vec![b'['];
    for (container, text) in chosen {
        if list.len() > 1 {
            list.push(b',');
        }
        let text = text.get_or_init(|| lasting_text(engine, container));
        list.extend(text.as_bytes());
        let status = Value::from(status_words(container));
        list.extend(format!(",\"Status\":{status}}}").as_bytes());
    }
    list.extend(b"]\n");
    Ok(Reply::Written(list))
}

/// Returns an open JSON object of what stays of a summary while nothing happens to the container.
fn lasting_text(engine: &Engine, container: &Container) -> String {
    let mut text = lasting(engine, container).to_string();
    text.pop();
    text
}

fn lasting(engine: &Engine, container: &Container) -> Value {
    let config = &container.config;
    let network = engine.network_settings(container);
    json!({
        "Id": container.id.as_str(),
        "Names": [format!("/{}", container.name)],
        "Image": engine.image_name_of(container),
        "ImageID": config.image_id,
        "Command": command_words(&config.arguments()),
        "Created": container.created.as_second(),
        "Ports": ports(&network["Ports"]),
        "Labels": config.labels,
        "State": container.state.status.as_str(),
        "HostConfig": { "NetworkMode": config.network_mode },
        "NetworkSettings": { "Networks": network["Networks"] },
        "Mounts": engine.mounts_of(config),
    })
}

/// Returns a container as lists show it, with its sizes.
pub(in super::super) fn summary(engine: &Engine, container: &Container) -> Value {
    let mut summary = lasting(engine, container);
    summary["Status"] = status_words(container).into();
    let (own, all) = sizes(engine, container);
    if own > 0 {
        summary["SizeRw"] = own.into();
    }
    summary["SizeRootFs"] = all.into();
    summary
}

/// Turns `inspect`'s map of ports into the list that lists have.
fn ports(map: &Value) -> Vec<Value> {
    let mut ports = Vec::new();
    for (port, bindings) in map.as_object().into_iter().flatten() {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let number: u16 = number.parse().unwrap_or(0);
        let bindings = bindings.as_array().map(Vec::as_slice).unwrap_or_default();
        if bindings.is_empty() {
            ports.push(json!({ "PrivatePort": number, "Type": protocol }));
        }
        for binding in bindings {
            let public = binding["HostPort"].as_str().unwrap_or_default();
            ports.push(json!({
                "IP": binding["HostIp"],
                "PrivatePort": number,
                "PublicPort": public.parse::<u16>().unwrap_or(0),
                "Type": protocol,
            }));
        }
    }
    ports
}
