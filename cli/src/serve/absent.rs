//! What this engine has not: it answers as an engine of Docker's that is in no swarm and has no plugins.

use serde_json::json;

use super::api_error::ApiError;
use super::exchange::Answer;
use super::exchange::Reply;

pub(super) const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to \
                        connect this node to swarm and try again.";

/// Answers for a family of endpoints that is known but has nothing behind it.
pub(super) fn answer(method: &str, family: &str, path: &[&str]) -> Answer {
    match (method, family, path) {
        ("GET", "plugins", ["plugins"]) => Reply::ok(json!([])),
        ("GET", "plugins", ["plugins", name @ .., "json"]) => Err(ApiError::new(
            404,
            format_args!("plugin {:?} not found", name.join("/")),
        )),
        (_, "plugins", _) => Err(ApiError::new(501, "this engine has no plugins")),
        ("POST", "swarm", ["swarm", "init" | "join"]) => {
            Err(ApiError::new(501, "this engine has no swarms"))
        }
        ("POST", "swarm", ["swarm", "leave"]) => {
            Err(ApiError::new(503, "This node is not part of a swarm"))
        }
        (_, "swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs", _) => {
            Err(ApiError::new(503, NO_SWARM))
        }
        // BuildKit's: a client that is not told to switch protocols builds in the classic way.
        ("POST", "session" | "grpc", [_]) => Err(ApiError::new(501, "this engine has no BuildKit")),
        _ => Err(ApiError::no_page()),
    }
}
