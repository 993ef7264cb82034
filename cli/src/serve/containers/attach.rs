//! `start` and `attach`: Docker's client attaches first and starts then, so that it misses nothing.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::Sender;
use std::time::Duration;

use parking_lot::Mutex;
use runtime::attach::Attachment;
use runtime::container::Container;
use runtime::container::LogOptions;
use runtime::container::StartOptions;
use runtime::container::Status;

use crate::detach_keys::DetachKeys;
use crate::serve::Server;
use crate::serve::api_error::ApiError;
use crate::serve::exchange::Answer;
use crate::serve::exchange::Exchange;
use crate::serve::exchange::Reply;
use crate::serve::hijack;
use crate::serve::hijack::Client;
use crate::serve::stdcopy::Outputs;
use crate::serve::websocket;

/// How often a waiting stream looks whether its client is there and whether somebody else has started the container.
const ROUND: Duration = Duration::from_millis(200);

/// What a start does to the streams that wait for it.
enum Begun {
    /// It has succeeded; the first of them that was attached gets the connection that was made with the start.
    Started(Option<Attachment>),
    /// There is nothing to attach to.
    Failed,
}

/// The streams that wait for a container's start, by its id.
#[derive(Debug, Default)]
pub(in crate::serve) struct Waiting(Mutex<HashMap<String, Vec<Waiter>>>);

#[derive(Debug)]
struct Waiter {
    number: u64,
    streams: [bool; 3],
    begun: Sender<Begun>,
}

/// Where a stream waits.
struct Place {
    number: u64,
    begun: Receiver<Begun>,
}

impl Waiting {
    fn add(&self, id: &str, streams: [bool; 3]) -> Place {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let (sender, begun) = mpsc::channel();
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let waiter = Waiter {
            number,
            streams,
            begun: sender,
        };
        let mut waiting = self.0.lock();
        waiting.entry(id.to_owned()).or_default().push(waiter);
        Place { number, begun }
    }

    fn take(&self, id: &str) -> Vec<Waiter> {
        self.0.lock().remove(id).unwrap_or_default()
    }

    /// Leaves a place; returns whether it was still waiting: a start may have taken it already.
    fn leave(&self, id: &str, place: &Place) -> bool {
        let mut waiting = self.0.lock();
        let Some(waiters) = waiting.get_mut(id) else {
            return false;
        };
        let before = waiters.len();
        waiters.retain(|waiter| waiter.number != place.number);
        let was_there = waiters.len() < before;
        if waiters.is_empty() {
            waiting.remove(id);
        }
        was_there
    }
}

/// Starts a container, with the streams that wait for it attached.
pub(super) fn start(server: &Server, name: &str) -> Answer {
    let engine = server.engine();
    let container = engine.container(name)?;
    match container.state.status {
        Status::Running | Status::Restarting => return Ok(Reply::Empty(304)),
        Status::Paused => {
            return Err(ApiError::new(
                409,
                "cannot start a paused container, try unpause instead",
            ));
        }
        _ => {}
    }
    let id = container.id.as_str();
    let waiters = server.0.waiting.take(id);
    let union = |a: [bool; 3], b: &Waiter| [0, 1, 2].map(|at| a[at] || b.streams[at]);
    // Only the first gets its streams from the very beginning: there is one connection to give.
    let first = waiters.iter().take(1).fold([false; 3], union);
    let options = StartOptions {
        attach: (!waiters.is_empty()).then_some(first),
        ..StartOptions::default()
    };
    let started = engine.start_container(id, &options);
    let mut attachment = None;
    let answer = match started {
        Ok(attached) => {
            attachment = attached;
            Ok(Reply::Empty(204))
        }
        Err(error) => Err(ApiError::from(error)),
    };
    for waiter in waiters {
        let begun = match &answer {
            Ok(_) => Begun::Started(attachment.take()),
            Err(_) => Begun::Failed,
        };
        let _ = waiter.begun.send(begun);
    }
    answer
}

/// What the query asks for.
struct Wanted {
    streams: [bool; 3],
    logs: bool,
    stream: bool,
    detach_keys: DetachKeys,
}

fn wanted(exchange: &Exchange<'_>, container: &Container) -> Result<Wanted, ApiError> {
    let query = &exchange.request.query;
    let detach_keys = DetachKeys::parse(query.get("detachKeys")).map_err(ApiError::bad)?;
    Ok(Wanted {
        streams: [
            query.is_true("stdin") && container.config.open_stdin,
            query.is_true("stdout"),
            query.is_true("stderr"),
        ],
        logs: query.is_true("logs"),
        stream: query.is_true("stream"),
        detach_keys,
    })
}

/// Refuses what cannot be attached to, while there can still be an answer.
fn attachable(server: &Server, name: &str) -> Result<Container, ApiError> {
    let container = server.engine().container(name)?;
    match container.state.status {
        Status::Paused => Err(ApiError::new(
            409,
            format_args!(
                "container {} is paused, unpause the container before attach",
                container.id
            ),
        )),
        Status::Restarting => Err(ApiError::new(
            409,
            format_args!(
                "container {} is restarting, wait until the container is running",
                container.id
            ),
        )),
        _ => Ok(container),
    }
}

/// `POST /containers/NAME/attach`
pub(super) fn attach(server: &Server, exchange: &mut Exchange<'_>, name: &str) -> Answer {
    let container = attachable(server, name)?;
    let wanted = wanted(exchange, &container)?;
    let place = register(server, &container, &wanted);
    let content_type = exchange.stream_type(container.config.tty);
    let (socket, early) = exchange.hijack(content_type)?;
    let client = Client::plain(socket, early, Outputs::of(container.config.tty));
    follow(server, &container, &wanted, place, client);
    Ok(Reply::Closed)
}

/// `GET /containers/NAME/attach/ws`: outputs as messages, each message is input.
pub(super) fn attach_websocket(server: &Server, exchange: &mut Exchange<'_>, name: &str) -> Answer {
    let container = attachable(server, name)?;
    let mut wanted = wanted(exchange, &container)?;
    let query = &exchange.request.query;
    if ["stdin", "stdout", "stderr"]
        .iter()
        .all(|it| query.get(it).is_none())
    {
        wanted.streams = [container.config.open_stdin, true, true];
    }
    wanted.stream = true;
    let head = websocket::accept(&exchange.request)?;
    let place = register(server, &container, &wanted);
    let (socket, early) = exchange.take_over(&head)?;
    let client = Client::websocket(socket, early);
    follow(server, &container, &wanted, place, client);
    Ok(Reply::Closed)
}

/// Has the streams wait if there is something to wait for; done before the client is told that it is attached.
fn register(server: &Server, container: &Container, wanted: &Wanted) -> Option<Place> {
    let waits = wanted.stream && !container.state.status.is_alive();
    let id = container.id.as_str();
    waits.then(|| server.0.waiting.add(id, wanted.streams))
}

/// Passes on what was said, then what is said until the container ends or the client goes.
fn follow(
    server: &Server,
    container: &Container,
    wanted: &Wanted,
    place: Option<Place>,
    client: Client,
) {
    let id = container.id.as_str();
    if wanted.logs {
        send_logs(server, id, wanted, &client);
    }
    if !wanted.stream {
        return;
    }
    let attachment = match place {
        Some(place) => wait_for_start(server, container, wanted, place, &client),
        None => server.engine().attach_container(id, wanted.streams).ok(),
    };
    if let Some(attachment) = attachment {
        let keys = container.config.tty.then(|| wanted.detach_keys.clone());
        hijack::follow(attachment, &client, wanted.streams[0], keys);
    }
}

fn send_logs(server: &Server, id: &str, wanted: &Wanted, client: &Client) {
    let Ok(mut logs) = server.engine().logs(id, &LogOptions::default()) else {
        return;
    };
    while let Ok(Some(entry)) = logs.next_entry() {
        if wanted.streams[1 + usize::from(entry.is_error)]
            && client.send(entry.is_error, entry.text.as_bytes()).is_err()
        {
            return;
        }
    }
}

/// Waits until the container is started: by this server, which hands a connection over, or by somebody else.
fn wait_for_start(
    server: &Server,
    container: &Container,
    wanted: &Wanted,
    place: Place,
    client: &Client,
) -> Option<Attachment> {
    let (engine, id) = (server.engine(), container.id.as_str());
    let attach = || engine.attach_container(id, wanted.streams).ok();
    loop {
        match place.begun.recv_timeout(ROUND) {
            Ok(Begun::Started(Some(attachment))) => return Some(attachment),
            Ok(Begun::Started(None)) => return attach(),
            Ok(Begun::Failed) | Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = engine.container(id).ok();
        let runs = now
            .as_ref()
            .is_some_and(|now| now.state.status == Status::Running);
        let is_over = now.is_none_or(|now| {
            !now.state.status.is_alive() && now.state.started != container.state.started
        });
        let leaves = runs || is_over || client.is_closed() || server.is_stopping();
        // Whoever was taken out by a start is about to hear from it.
        if leaves && server.0.waiting.leave(id, &place) {
            return match runs {
                true => attach(),
                false => None,
            };
        }
    }
}
