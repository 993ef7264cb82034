//! Connections that have left HTTP: a container's streams, or a command's.

use std::io;
use std::io::Read;
use std::net::Shutdown;
use std::time::Duration;

use parking_lot::Mutex;
use runtime::attach::Attachment;
use runtime::attach::Heard;
use runtime::attach::Sender;

use super::socket::Socket;
use super::stdcopy::Outputs;
use super::websocket;
use crate::detach_keys::DetachKeys;

/// How much input is passed on at once.
const BUFFER: usize = 16 << 10;

/// How long the client of a WebSocket has to close it.
const FAREWELL: Duration = Duration::from_secs(2);

/// A client at a container's streams.
#[derive(Debug)]
pub(super) struct Client {
    socket: Socket,
    /// What it has sent behind its request.
    early: Mutex<Vec<u8>>,
    form: Form,
}

/// How streams lie on the connection.
#[derive(Debug, Clone, Copy)]
enum Form {
    Plain(Outputs),
    WebSocket,
}

impl Client {
    /// Returns a client with whom bytes are exchanged as they are.
    pub(super) fn plain(socket: Socket, early: Vec<u8>, outputs: Outputs) -> Client {
        Client {
            socket,
            early: Mutex::new(early),
            form: Form::Plain(outputs),
        }
    }

    /// Returns a client with whom bytes are exchanged in a WebSocket's messages.
    pub(super) fn websocket(socket: Socket, early: Vec<u8>) -> Client {
        Client {
            socket,
            early: Mutex::new(early),
            form: Form::WebSocket,
        }
    }

    /// Passes on what was said.
    pub(super) fn send(&self, is_error: bool, bytes: &[u8]) -> io::Result<()> {
        match self.form {
            Form::Plain(outputs) => outputs.write(&self.socket, is_error, bytes),
            Form::WebSocket => websocket::send(&self.socket, bytes),
        }
    }

    /// Returns whether it has closed both directions: one that has only ended its input still listens.
    pub(super) fn is_closed(&self) -> bool {
        self.socket.has_hung_up()
    }

    /// Ends the connection.
    pub(super) fn close(&self) {
        if let Form::WebSocket = self.form {
            websocket::send_close(&self.socket);
            // It answers with the same, section 7.1.2 of RFC 6455, and is to be able to.
            self.socket.shutdown(Shutdown::Write);
            self.socket.wait_until_gone(FAREWELL);
        }
        self.socket.shutdown(Shutdown::Both);
    }

    /// Returns what it sends.
    fn input(&self) -> Box<dyn Read + '_> {
        let early = io::Cursor::new(std::mem::take(&mut *self.early.lock()));
        let bytes = early.chain(&self.socket);
        match self.form {
            Form::Plain(_) => Box::new(bytes),
            Form::WebSocket => Box::new(websocket::Messages::new(bytes, &self.socket)),
        }
    }
}

/// Passes outputs, and input if there is `stdin`, on until the container ends or the client goes: by closing both
/// directions, or by its `keys`.
pub(super) fn follow(
    attachment: Attachment,
    client: &Client,
    stdin: bool,
    keys: Option<DetachKeys>,
) {
    pass(attachment, client, stdin, keys, Sender::hang_up, |_| {});
}

/// The same for a command, which is heard to its end whether the client is there or not; `ended` takes its exit code,
/// if it was told, before the client sees that it is over.
pub(super) fn follow_to_the_end(
    attachment: Attachment,
    client: &Client,
    stdin: bool,
    keys: Option<DetachKeys>,
    ended: impl FnOnce(Option<i32>),
) {
    let leave = |sender: &Sender| {
        // It may have ended.
        let _ = sender.end_stdin();
    };
    pass(attachment, client, stdin, keys, leave, ended);
}

fn pass(
    mut attachment: Attachment,
    client: &Client,
    stdin: bool,
    keys: Option<DetachKeys>,
    leave: impl Fn(&Sender) + Send,
    ended: impl FnOnce(Option<i32>),
) {
    let sender = attachment.sender();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pass_input(client, stdin.then_some(&sender), keys);
            leave(&sender);
            client.socket.shutdown(Shutdown::Both);
        });
        let mut is_there = true;
        let code = loop {
            let (is_error, bytes) = match attachment.hear() {
                Ok(Some(Heard::Stdout(bytes))) => (false, bytes),
                Ok(Some(Heard::Stderr(bytes))) => (true, bytes),
                Ok(Some(Heard::Exit(code))) => break Some(code),
                Ok(None) | Err(_) => break None,
            };
            if is_there && client.send(is_error, &bytes).is_err() {
                is_there = false;
                client.socket.shutdown(Shutdown::Both);
            }
        };
        ended(code);
        client.close();
    });
}

/// Passes input on until the client leaves: by its keys, or by closing both directions.
fn pass_input(client: &Client, sender: Option<&Sender>, mut keys: Option<DetachKeys>) {
    let mut input = client.input();
    let mut buffer = [0; BUFFER];
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let Some(sender) = sender else {
            continue;
        };
        let typed = &buffer[..count];
        let passed = match &mut keys {
            Some(keys) => match keys.pass(typed) {
                Some(passed) => passed,
                None => return,
            },
            None => typed.to_vec(),
        };
        if !passed.is_empty() && sender.stdin(&passed).is_err() {
            return;
        }
    }
    if let Some(sender) = sender {
        let _ = sender.end_stdin();
    }
    client.socket.wait_for_hangup();
}
