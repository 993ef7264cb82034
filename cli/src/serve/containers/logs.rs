//! `GET /containers/NAME/logs`

use std::io::Write as _;

use runtime::container::LogOptions;
use runtime::container::LogSaid;

use crate::serve::Server;
use crate::serve::api_error::ApiError;
use crate::serve::events::time;
use crate::serve::exchange::Answer;
use crate::serve::exchange::Exchange;
use crate::serve::request::ApiVersion;
use crate::serve::stdcopy::Outputs;

pub(super) fn logs(server: &Server, exchange: &mut Exchange<'_>, name: &str) -> Answer {
    let query = &exchange.request.query;
    let wanted = [query.is_true("stdout"), query.is_true("stderr")];
    if wanted == [false, false] {
        return Err(ApiError::bad(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    let container = server.engine().container(name)?;
    let options = LogOptions {
        follow: query.is_true("follow"),
        // As with Docker, what is no number is all.
        tail: query.get("tail").and_then(|tail| tail.parse().ok()),
        // Zero is how clients say that there is none.
        since: time(exchange, "since")?.filter(|time| time.as_second() != 0),
        until: time(exchange, "until")?.filter(|time| time.as_second() != 0),
    };
    let timestamps = query.is_true("timestamps");
    let mut logs = server.engine().logs(container.id.as_str(), &options)?;
    let content_type = match exchange.request.version >= ApiVersion(1, 42) {
        true => Some(exchange.stream_type(container.config.tty)),
        false => None,
    };
    let mut out = exchange.stream(content_type)?;
    let outputs = Outputs::of(container.config.tty);
    loop {
        match logs.look()? {
            LogSaid::Entry(entry) if wanted[usize::from(entry.is_error)] => {
                let text = match timestamps {
                    true => format!("{:.9} {}", entry.time, entry.text),
                    false => entry.text,
                };
                outputs.write(&mut out, entry.is_error, text.as_bytes())?;
            }
            LogSaid::Entry(_) => {}
            LogSaid::Nothing => {
                out.flush()?;
                if exchange.is_abandoned() || server.is_stopping() {
                    return out.end();
                }
            }
            LogSaid::End => return out.end(),
        }
    }
}
