//! One request and the way to answer it.

use std::io;
use std::io::Read as _;
use std::io::Write;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::api_error::ApiError;
use super::body::Body;
use super::request::ApiVersion;
use super::request::Request;
use super::socket::Socket;

/// The largest JSON body that is taken.
const LARGEST_JSON: u64 = 8 << 20;

/// How much of a streamed answer is collected before it is sent.
const COLLECTED: usize = 32 << 10;

/// A request, its body and the socket for the answer.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) request: Request,
    pub(super) body: Body<'a>,
    socket: Socket,
    /// Headers beyond those of every answer.
    headers: Vec<(&'static str, String)>,
}

/// An answer.
#[derive(Debug)]
pub(super) enum Reply {
    /// A status and JSON.
    Json(u16, Value),
    /// JSON that is written down already, with the status 200.
    Written(Vec<u8>),
    /// A status and text.
    Text(u16, &'static str),
    /// A status without content.
    Empty(u16),
    /// It was sent whole.
    Sent,
    /// It was sent, and the connection is not HTTP any more or ends with it.
    Closed,
}

/// What a handler makes of a request.
pub(super) type Answer = Result<Reply, ApiError>;

impl Reply {
    /// Returns JSON with the status 200.
    pub(super) fn ok(value: impl Into<Value>) -> Answer {
        Ok(Reply::Json(200, value.into()))
    }
}

impl<'a> Exchange<'a> {
    pub(super) fn new(request: Request, body: Body<'a>, socket: Socket) -> Exchange<'a> {
        Exchange {
            request,
            body,
            socket,
            headers: Vec::new(),
        }
    }

    /// Adds a header to the answer.
    pub(super) fn set_header(&mut self, name: &'static str, value: impl Into<String>) {
        self.headers.push((name, value.into()));
    }

    /// Returns a required parameter of the query.
    pub(super) fn required(&self, name: &str) -> Result<&str, ApiError> {
        let missing = || ApiError::bad(format_args!("{name} is required"));
        self.request.query.get(name).ok_or_else(missing)
    }

    /// Reads the body as JSON; nothing where there is none.
    pub(super) fn optional_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ApiError> {
        if self.body.is_over() {
            return Ok(None);
        }
        if let Some(kind) = self.request.header("content-type")
            && !kind.starts_with("application/json")
            && kind != "text/json"
        {
            return Err(ApiError::bad(format_args!(
                "Content-Type specified ({kind}) must be 'application/json'"
            )));
        }
        let mut bytes = Vec::new();
        (&mut self.body)
            .take(LARGEST_JSON + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LARGEST_JSON {
            return Err(ApiError::new(413, "request body too large"));
        }
        if bytes.trim_ascii().is_empty() {
            return Ok(None);
        }
        let parsed = serde_json::from_slice(&bytes);
        parsed.map_err(|error| ApiError::bad(format_args!("invalid JSON: {error}")))
    }

    /// Reads the body as JSON.
    pub(super) fn json<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        let missing = || ApiError::bad("invalid JSON: got EOF while reading request body");
        self.optional_json()?.ok_or_else(missing)
    }

    /// Returns the client's socket.
    pub(super) fn socket(&self) -> Socket {
        self.socket.clone()
    }

    /// Returns whether the client has gone away meanwhile.
    pub(super) fn is_abandoned(&self) -> bool {
        self.socket.is_gone()
    }

    /// Returns whether the client wants to go on with the connection afterwards.
    fn is_kept(&self) -> bool {
        !self.request.is_old && !self.request.has_token("connection", "close")
    }

    /// Begins an answer of unknown length and sends its head at once.
    pub(super) fn stream(&self, content_type: Option<&str>) -> io::Result<Stream> {
        let mut stream = self.later_stream(content_type);
        stream.begin()?;
        Ok(stream)
    }

    /// Begins an answer of unknown length whose head goes with the first that is sent: until then there can be another.
    pub(super) fn later_stream(&self, content_type: Option<&str>) -> Stream {
        let is_chunked = !self.request.is_old;
        let mut head = head_of(200, &self.headers);
        if let Some(content_type) = content_type {
            head += &format!("Content-Type: {content_type}\r\n");
        }
        if !self.is_kept() {
            head += "Connection: close\r\n";
        }
        head += match is_chunked {
            true => "Transfer-Encoding: chunked\r\n\r\n",
            false => "\r\n",
        };
        Stream {
            socket: self.socket.clone(),
            head: Some(head),
            is_chunked,
            is_silent: self.request.method == "HEAD",
            collected: Vec::new(),
        }
    }

    /// Leaves HTTP: what follows on the socket, in both directions, is the caller's. Returns the socket and what the
    /// client has sent already.
    pub(super) fn hijack(&mut self, content_type: &str) -> io::Result<(Socket, Vec<u8>)> {
        let is_upgrade = self.request.has_token("connection", "upgrade")
            || self.request.header("upgrade").is_some();
        let head = match is_upgrade {
            true => format!(
                "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
            ),
            false => format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n"),
        };
        self.take_over(&head)
    }

    /// Sends a head of the caller's and leaves HTTP.
    pub(super) fn take_over(&mut self, head: &str) -> io::Result<(Socket, Vec<u8>)> {
        (&self.socket).write_all(head.as_bytes())?;
        Ok((self.socket.clone(), self.body.early()))
    }

    /// Returns how attached streams are called in the version that the client speaks.
    pub(super) fn stream_type(&self, tty: bool) -> &'static str {
        match self.request.version >= ApiVersion(1, 42) && !tty {
            true => "application/vnd.docker.multiplexed-stream",
            false => "application/vnd.docker.raw-stream",
        }
    }

    /// Sends the answer; returns whether the connection can go on.
    pub(super) fn finish(mut self, answer: Answer) -> io::Result<bool> {
        let mut reply = answer.unwrap_or_else(|error| {
            let body = serde_json::json!({ "message": error.message() });
            match error.status() {
                304 => Reply::Empty(304),
                status => Reply::Json(status, body),
            }
        });
        let (status, content) = match &mut reply {
            Reply::Sent => return Ok(self.is_kept() && self.body.drain()),
            Reply::Closed => return Ok(false),
            Reply::Json(status, value) => {
                let mut content = serde_json::to_vec(value)?;
                content.push(b'\n');
                (*status, Some(("application/json", content)))
            }
            Reply::Written(content) => (200, Some(("application/json", std::mem::take(content)))),
            Reply::Text(status, text) => {
                let content = text.as_bytes().to_vec();
                (*status, Some(("text/plain; charset=utf-8", content)))
            }
            Reply::Empty(status) => (*status, None),
        };
        let goes_on = self.is_kept() && self.body.drain();
        let mut head = head_of(status, &self.headers);
        if !goes_on {
            head += "Connection: close\r\n";
        }
        let content = content.map(|(content_type, content)| {
            head += &format!(
                "Content-Type: {content_type}\r\nContent-Length: {}\r\n",
                content.len()
            );
            content
        });
        if content.is_none() && !matches!(status, 204 | 304) {
            head += "Content-Length: 0\r\n";
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        if self.request.method != "HEAD" {
            bytes.extend(content.unwrap_or_default());
        }
        (&self.socket).write_all(&bytes)?;
        Ok(goes_on)
    }
}

/// Returns a status line and the headers of every answer.
fn head_of(status: u16, headers: &[(&'static str, String)]) -> String {
    let now = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT");
    let mut head = format!(
        "HTTP/1.1 {status} {}\r\nApi-Version: {}\r\nDocker-Experimental: false\r\nOstype: linux\r\n\
         Server: Ply/{} (linux)\r\nDate: {now}\r\n",
        reason(status),
        ApiVersion::NEWEST,
        env!("CARGO_PKG_VERSION"),
    );
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Request Entity Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

/// Sends an error where no request could be read.
pub(super) fn refuse(socket: &Socket, error: &ApiError) -> io::Result<()> {
    let content = serde_json::json!({ "message": error.message() }).to_string();
    let mut head = head_of(error.status(), &[]);
    head += &format!(
        "Connection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        content.len()
    );
    let mut socket = socket;
    socket.write_all(&[head.as_bytes(), content.as_bytes()].concat())
}

/// An answer that is sent piece by piece. What was written is sent by `flush` and when enough is there; without
/// [`Stream::end`] the client sees an answer that was cut off.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
    /// What comes first, if it was not sent yet.
    head: Option<String>,
    is_chunked: bool,
    /// Whether only a head was asked for.
    is_silent: bool,
    collected: Vec<u8>,
}

impl Stream {
    /// Sends the head if it was not sent yet.
    fn begin(&mut self) -> io::Result<()> {
        match self.head.take() {
            Some(head) => (&self.socket).write_all(head.as_bytes()),
            None => Ok(()),
        }
    }

    /// Returns whether something was sent.
    pub(super) fn has_begun(&self) -> bool {
        self.head.is_none()
    }

    /// Sends one JSON object as a line of its own, as Docker ends them.
    pub(super) fn line(&mut self, value: &Value) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.extend(b"\r\n");
        self.write_all(&line)?;
        self.flush()
    }

    /// Ends the answer as a whole one.
    pub(super) fn end(mut self) -> Answer {
        self.begin()?;
        self.flush()?;
        if !self.is_chunked {
            return Ok(Reply::Closed);
        }
        if !self.is_silent {
            (&self.socket).write_all(b"0\r\n\r\n")?;
        }
        Ok(Reply::Sent)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.collected.extend_from_slice(bytes);
        if self.collected.len() >= COLLECTED {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.collected.is_empty() || self.is_silent {
            self.collected.clear();
            return Ok(());
        }
        self.begin()?;
        match self.is_chunked {
            true => {
                let mut chunk = format!("{:x}\r\n", self.collected.len()).into_bytes();
                chunk.extend(&self.collected);
                chunk.extend(b"\r\n");
                (&self.socket).write_all(&chunk)?;
            }
            false => (&self.socket).write_all(&self.collected)?,
        }
        self.collected.clear();
        Ok(())
    }
}
