//! `/containers`.

mod archive;
pub(super) mod attach;
mod create;
pub(super) mod list;
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

/// Leads to the endpoint.
pub(super) fn route(
    server: &Server,
    exchange: &mut Exchange<'_>,
    method: &str,
    path: &[&str],
) -> Answer {
    match (method, path) {
        ("GET", ["json"]) => list::list(server, exchange),
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

fn prune(server: &Server, exchange: &Exchange<'_>) -> Answer {
    let mut filter = ContainerFilter::default();
    for one in exchange.request.query.filters()? {
        match one.split_once('=') {
            Some(("until", time)) => {
                filter.made_before(crate::moment::moment(time).map_err(ApiError::bad)?);
            }
            _ => filter.add_of_prune(&one)?,
        }
    }
    let (removed, freed) = server.engine().prune_containers(&filter)?;
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
