//! From a path to the endpoint's function.

use super::Server;
use super::absent;
use super::api_error::ApiError;
use super::build;
use super::containers;
use super::events;
use super::exchange::Answer;
use super::exchange::Exchange;
use super::exec;
use super::images;
use super::networks;
use super::system;
use super::volumes;

/// Answers a request.
pub(super) fn answer(server: &Server, exchange: &mut Exchange<'_>) -> Answer {
    let method = exchange.request.method.clone();
    let path = exchange.request.path.clone();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match (method.as_str(), path.as_slice()) {
        ("GET" | "HEAD", ["_ping"]) => system::ping(exchange),
        ("GET", ["version"]) => system::version(),
        ("GET", ["info"]) => system::info(server),
        ("GET", ["system", "df"]) => system::disk_usage(server, exchange),
        ("POST", ["auth"]) => system::authenticate(exchange),
        ("GET", ["events"]) => events::stream(server, exchange),
        ("POST", ["build"]) => build::build(server, exchange),
        ("POST", ["build", "prune"]) => build::prune(server, exchange),
        ("POST", ["commit"]) => images::commit(server, exchange),
        (_, ["containers", rest @ ..]) => containers::route(server, exchange, &method, rest),
        (_, ["exec", rest @ ..]) => exec::route(server, exchange, &method, rest),
        (_, ["images", rest @ ..]) => images::route(server, exchange, &method, rest),
        (_, ["networks", rest @ ..]) => networks::route(server, exchange, &method, rest),
        (_, ["volumes", rest @ ..]) => volumes::route(server, exchange, &method, rest),
        ("GET", ["distribution", name @ .., "json"]) if !name.is_empty() => {
            images::distribution(server, &name.join("/"), exchange)
        }
        (_, [first, ..]) => absent::answer(&method, first, &path),
        _ => Err(ApiError::no_page()),
    }
}
