//! `GET /events`: what happens, as it happens.

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use jiff::Timestamp;
use runtime::events::EventFilter;

use super::Server;
use super::api_error::ApiError;
use super::exchange::Answer;
use super::exchange::Exchange;
use crate::docker_json;

/// How often it is looked whether the client is still there.
pub(super) const ROUND: Duration = Duration::from_secs(1);

/// Reads a time of the query.
pub(super) fn time(exchange: &Exchange<'_>, name: &str) -> Result<Option<Timestamp>, ApiError> {
    let text = exchange.request.query.get(name);
    let time = text.map(|text| crate::moment::moment(text).map_err(ApiError::bad));
    time.transpose()
}

/// Streams what has happened since `since`, and what happens until `until`.
pub(super) fn stream(server: &Server, exchange: &mut Exchange<'_>) -> Answer {
    let mut filter = EventFilter::default();
    for one in exchange.request.query.filters()? {
        if !one.starts_with("daemon=") && !one.starts_with("scope=local") {
            filter.add(&one)?;
        }
    }
    let since = time(exchange, "since")?;
    let until = time(exchange, "until")?;
    // Subscribed first, so that nothing falls between the past and the future.
    let future = server.0.watch.subscribe(server.engine())?;
    let now = Timestamp::now();
    let mut last = now;
    let mut out = exchange.stream(Some("application/json"))?;
    if let Some(since) = since {
        let end = until.map_or(now, |until| until.min(now));
        let mut past = server
            .engine()
            .events(Some(since), Some(end), EventFilter::default())?;
        while let Some(event) = past.next_event()? {
            last = last.max(event.time);
            if filter.fits(&event) {
                out.line(&docker_json::event(&event))?;
            }
        }
    }
    loop {
        if until.is_some_and(|until| Timestamp::now() >= until) {
            return out.end();
        }
        let patience = until.map_or(ROUND, |until| {
            let left = Duration::try_from(until.duration_since(Timestamp::now()));
            left.unwrap_or_default().min(ROUND)
        });
        match future.recv_timeout(patience) {
            Ok(event) if event.time <= last && since.is_some() => {}
            Ok(event) if until.is_some_and(|until| event.time > until) => return out.end(),
            Ok(event) if filter.fits(&event) => out.line(&docker_json::event(&event))?,
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) if server.is_stopping() => return out.end(),
            Err(RecvTimeoutError::Timeout) if exchange.is_abandoned() => return out.end(),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return out.end(),
        }
    }
}
