//! A client's connection: one request after the other.

use std::io;
use std::net::Shutdown;
use std::time::Duration;

use super::Server;
use super::api_error::ApiError;
use super::body::Body;
use super::body::Incoming;
use super::exchange;
use super::exchange::Exchange;
use super::request::Request;
use super::socket::Socket;

/// The longest head that is taken: Go's limit, and so Docker's.
const LONGEST_HEAD: usize = 1 << 20;

/// The most headers that are taken.
const MOST_HEADERS: usize = 128;

/// A head that began is whole so long after its last bytes, or it is none.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// How much of a head is looked at each time more of it comes; a longer one once it is whole.
const EAGERLY_PARSED: usize = 16 << 10;

/// Why there is no further request.
enum Unread {
    /// The client has gone.
    Gone,
    /// What came is none.
    Refused(ApiError),
}

impl From<io::Error> for Unread {
    fn from(_: io::Error) -> Unread {
        Unread::Gone
    }
}

/// Answers a client until it goes.
pub(super) fn serve(server: &Server, socket: Socket) {
    let mut incoming = Incoming::new(socket.clone());
    loop {
        let request = match read_head(&mut incoming, &socket) {
            Ok(request) => request,
            Err(Unread::Gone) => break,
            Err(Unread::Refused(error)) => {
                let _ = exchange::refuse(&socket, &error);
                break;
            }
        };
        log::debug!("{} /{}", request.method, request.path.join("/"));
        let awaits_continue = request.has_token("expect", "100-continue");
        let body = Body::new(&mut incoming, request.framing, awaits_continue);
        let mut exchange = Exchange::new(request, body, socket.clone());
        let answer = super::routing::answer(server, &mut exchange);
        if !exchange.finish(answer).unwrap_or(false) || server.is_stopping() {
            break;
        }
    }
    socket.shutdown(Shutdown::Both);
}

/// Waits for a request and reads its head.
fn read_head(incoming: &mut Incoming, socket: &Socket) -> Result<Request, Unread> {
    let mut seen = 0;
    loop {
        // Lines before a request are passed over, RFC 9112 section 2.2.
        while incoming.unused().starts_with(b"\r\n") {
            incoming.consume(2);
        }
        let bytes = incoming.unused();
        let is_whole = has_end(&bytes[seen..]);
        if !bytes.is_empty() && (is_whole || bytes.len() <= EAGERLY_PARSED) {
            let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
            let mut parsed = httparse::Request::new(&mut headers);
            match parsed.parse(bytes) {
                Ok(httparse::Status::Complete(length)) => {
                    let request = Request::of(&parsed);
                    incoming.consume(length);
                    socket.set_patience(None)?;
                    return request.map_err(Unread::Refused);
                }
                Ok(httparse::Status::Partial) => {}
                Err(error) => return Err(Unread::Refused(unreadable(error))),
            }
        }
        if bytes.len() > LONGEST_HEAD {
            return Err(Unread::Refused(unreadable(httparse::Error::TooManyHeaders)));
        }
        // The end may be cut in two.
        seen = bytes.len().saturating_sub(3);
        if seen > 0 {
            socket.set_patience(Some(HEAD_PATIENCE))?;
        }
        if !incoming.more()? {
            return Err(Unread::Gone);
        }
    }
}

fn has_end(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|it| it == b"\n\r\n")
}

fn unreadable(error: httparse::Error) -> ApiError {
    match error {
        httparse::Error::TooManyHeaders => {
            ApiError::new(431, "request header fields are too large")
        }
        error => ApiError::bad(format_args!("malformed HTTP request: {error}")),
    }
}
