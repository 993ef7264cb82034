//! `/containers`.

mod archive;
pub(super) mod attach;
mod create;
mod logs;
mod stats;
mod wait;

use runtime::Engine;
use runtime::container::Container;
use runtime::container::ContainerFilter;
use serde_json::Value;
use serde_json::json;

pub(super) use archive::cut_off_if_failed;

use super::Server;
use super::api_error::ApiError;
use super::exchange::Answer;
use super::exchange::Exchange;
use super::exchange::Reply;
use super::exec;
use crate::docker_json::command_words;
use crate::docker_json::status_words;

/// Leads to the endpoint.
pub(super) fn route(
    server: &Server,
    exchange: &mut Exchange<'_>,
    method: &str,
    path: &[&str],
) -> Answer {
    match (method, path) {
        ("GET", ["json"]) => list(server, exchange),
        ("POST", ["create"]) => create::create(server, exchange),
        ("POST", ["prune"]) => prune(server, exchange),
        ("GET", [name, "json"]) => inspect(server, exchange, name),
        ("POST", [name, "start"]) => attach::start(server, name),
        ("POST", [name, "wait"]) => wait::wait(server, exchange, name),
        ("POST", [name, "attach"]) => attach::attach(server, exchange, name),
        ("GET", [name, "attach", "ws"]) => attach::attach_websocket(server, exchange, name),
        ("GET", [name, "logs"]) => logs::logs(server, exchange, name),
        ("GET", [name, "stats"]) => stats::stats(server, exchange, name),
        ("POST", [name, "exec"]) => exec::create(server, exchange, name),
        ("POST", [name, "update"]) => create::update(server, exchange, name),
        ("HEAD", [name, "archive"]) => archive::stat(server, exchange, name),
        ("GET", [name, "archive"]) => archive::get(server, exchange, name),
        ("PUT", [name, "archive"]) => archive::put(server, exchange, name),
        ("GET", [name, "export"]) => archive::export(server, exchange, name),
        ("GET", [name, "changes"]) => changes(server, name),
        ("GET", [name, "top"]) => top(server, exchange, name),
        ("DELETE", [name]) => remove(server, exchange, name),
        ("POST", [name, verb]) => control(server, exchange, name, verb),
        _ => Err(ApiError::no_page()),
    }
}

/// The verbs that answer that they are done.
fn control(server: &Server, exchange: &Exchange<'_>, name: &str, verb: &str) -> Answer {
    let engine = server.engine();
    let query = &exchange.request.query;
    let is_alive = || engine.container(name).map(|it| it.state.status.is_alive());
    match verb {
        "stop" => {
            let is_alive = is_alive()?;
            engine.stop_container(name, query.get("signal"), query.number("t")?)?;
            if !is_alive {
                return Ok(Reply::Empty(304));
            }
        }
        "restart" => engine.restart_container(name, query.get("signal"), query.number("t")?)?,
        "kill" => engine.kill_container(name, query.get("signal").unwrap_or("SIGKILL"))?,
        "pause" => engine.pause_container(name)?,
        "unpause" => engine.unpause_container(name)?,
        "rename" => engine.rename_container(name, exchange.required("name")?)?,
        "resize" => {
            let size = |side: &str| Ok::<u16, ApiError>(query.number(side)?.unwrap_or(0));
            engine.resize_container(name, size("h")?, size("w")?)?;
            return Ok(Reply::Empty(200));
        }
        _ => return Err(ApiError::no_page()),
    }
    Ok(Reply::Empty(204))
}

fn remove(server: &Server, exchange: &Exchange<'_>, name: &str) -> Answer {
    let query = &exchange.request.query;
    if query.is_true("link") {
        return Err(ApiError::bad("links are not supported"));
    }
    let (force, volumes) = (query.is_true("force"), query.is_true("v"));
    server.engine().remove_container(name, force, volumes)?;
    Ok(Reply::Empty(204))
}

fn inspect(server: &Server, exchange: &Exchange<'_>, name: &str) -> Answer {
    let engine = server.engine();
    let container = engine.container(name)?;
    let mut inspected = engine.inspect_container(&container);
    let running = server.0.execs.running_in(container.id.as_str());
    if !running.is_empty() {
        inspected["ExecIDs"] = json!(running);
    }
    if exchange.request.query.is_true("size") {
        let (own, all) = sizes(engine, &container);
        inspected["SizeRw"] = own.into();
        inspected["SizeRootFs"] = all.into();
    }
    Reply::ok(inspected)
}

/// Returns the bytes of a container's own changes, and with its image's.
fn sizes(engine: &Engine, container: &Container) -> (u64, u64) {
    let own = engine.container_size(container);
    let image = engine.image(&container.config.image_id);
    (own, own + image.map_or(0, |image| image.size))
}

fn filter(exchange: &Exchange<'_>) -> Result<ContainerFilter, ApiError> {
    let mut filter = ContainerFilter::default();
    for one in exchange.request.query.filters()? {
        match one.split_once('=') {
            Some(("until", time)) => {
                let until = crate::moment::moment(time).map_err(ApiError::bad)?;
                filter.made_before(until);
            }
            _ => filter.add(&one)?,
        }
    }
    Ok(filter)
}

fn list(server: &Server, exchange: &Exchange<'_>) -> Answer {
    let engine = server.engine();
    let query = &exchange.request.query;
    let limit: Option<i64> = query.number("limit")?;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.filter(|limit| *limit > 0);
    let all = query.is_true("all") || limit.is_some();
    let containers = engine.containers(all, &filter(exchange)?)?;
    let with_size = query.is_true("size");
    let shown = containers.iter().take(limit.unwrap_or(usize::MAX));
    let summaries = shown.map(|container| summary(engine, container, with_size));
    Reply::ok(summaries.collect::<Vec<Value>>())
}

/// Returns a container as lists show it.
pub(super) fn summary(engine: &Engine, container: &Container, with_size: bool) -> Value {
    let inspected = engine.inspect_container(container);
    let mut summary = json!({
        "Id": container.id.as_str(),
        "Names": [format!("/{}", container.name)],
        "Image": container.config.image,
        "ImageID": container.config.image_id,
        "Command": command_words(&container.config.arguments()),
        "Created": container.created.as_second(),
        "Ports": ports(&inspected["NetworkSettings"]["Ports"]),
        "Labels": container.config.labels,
        "State": container.state.status.as_str(),
        "Status": status_words(container),
        "HostConfig": { "NetworkMode": inspected["HostConfig"]["NetworkMode"] },
        "NetworkSettings": { "Networks": inspected["NetworkSettings"]["Networks"] },
        "Mounts": inspected["Mounts"],
    });
    if with_size {
        let (own, all) = sizes(engine, container);
        if own > 0 {
            summary["SizeRw"] = own.into();
        }
        summary["SizeRootFs"] = all.into();
    }
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

fn prune(server: &Server, exchange: &Exchange<'_>) -> Answer {
    let (removed, freed) = server.engine().prune_containers(&filter(exchange)?)?;
    let removed: Vec<&str> = removed.iter().map(|id| id.as_str()).collect();
    Reply::ok(json!({ "ContainersDeleted": removed, "SpaceReclaimed": freed }))
}

fn changes(server: &Server, name: &str) -> Answer {
    let changes = server.engine().diff(name)?;
    let changes: Vec<Value> = changes
        .iter()
        .map(|change| {
            let kind = match runtime::container::letter(change.kind) {
                'A' => 1,
                'D' => 2,
                _ => 0,
            };
            json!({ "Path": String::from_utf8_lossy(&change.path), "Kind": kind })
        })
        .collect();
    match changes.is_empty() {
        true => Reply::ok(Value::Null),
        false => Reply::ok(changes),
    }
}

fn top(server: &Server, exchange: &Exchange<'_>, name: &str) -> Answer {
    let options = exchange.request.query.get("ps_args").unwrap_or_default();
    let options: Vec<String> = options.split_whitespace().map(str::to_owned).collect();
    let top = server.engine().top_container(name, &options)?;
    Reply::ok(json!({ "Titles": top.titles, "Processes": top.rows }))
}
