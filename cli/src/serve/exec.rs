//! `/exec`: further commands in containers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Mutex;
use runtime::attach::Sender;
use runtime::container::Container;
use runtime::container::ContainerError;
use runtime::container::ExecOptions;
use runtime::container::Status;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use super::Server;
use super::api_error::ApiError;
use super::exchange::Answer;
use super::exchange::Exchange;
use super::exchange::Reply;
use super::hijack;
use super::hijack::Client;
use super::stdcopy::Outputs;
use crate::detach_keys::DetachKeys;

/// How long a command that has ended, or was never started, can be asked about.
const KEPT: Duration = Duration::from_secs(300);

/// The exit code of what cannot be executed.
const CANNOT_EXECUTE: i32 = 126;

/// The commands that were made, by their ids. They are the server's own and end with it, their processes do not.
#[derive(Debug, Default)]
pub(super) struct Execs(Mutex<HashMap<String, Arc<Exec>>>);

/// A command in a container.
#[derive(Debug)]
struct Exec {
    id: String,
    container: String,
    asked: Asked,
    keys: DetachKeys,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    since: Instant,
    progress: Progress,
    /// The command's process on the host, of which Docker's client is still told when it has ended; 0 before it runs.
    pid: i32,
}

#[derive(Debug)]
enum Progress {
    Made,
    Starting,
    Running(Sender),
    Ended(Option<i32>),
}

/// What `POST /containers/NAME/exec` asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Asked {
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    detach_keys: Option<String>,
    tty: bool,
    env: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    privileged: bool,
    user: Option<String>,
    working_dir: Option<String>,
    console_size: Option<[u16; 2]>,
}

/// What `POST /exec/ID/start` asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Start {
    detach: bool,
    console_size: Option<[u16; 2]>,
}

impl Exec {
    fn progress(&self, progress: Progress) {
        let mut state = self.state.lock();
        state.progress = progress;
        state.since = Instant::now();
    }

    fn run(&self, sender: Sender, pid: i32) {
        self.state.lock().pid = pid;
        self.progress(Progress::Running(sender));
    }

    fn is_running(&self) -> bool {
        matches!(self.state.lock().progress, Progress::Running(_))
    }

    fn options(&self, size: Option<[u16; 2]>) -> ExecOptions {
        let [rows, columns] = size.or(self.asked.console_size).unwrap_or_default();
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        ExecOptions {
            arguments: self.asked.cmd.clone().unwrap_or_default(),
            env: self.asked.env.clone().unwrap_or_default(),
            working_dir: given(&self.asked.working_dir),
            user: given(&self.asked.user),
            privileged: self.asked.privileged,
            tty: self.asked.tty,
            stdin: self.asked.attach_stdin,
            size: (rows, columns),
        }
    }
}

impl Execs {
    fn add(&self, exec: Exec) {
        let mut execs = self.0.lock();
        execs.retain(|_, exec| {
            let state = exec.state.lock();
            matches!(state.progress, Progress::Running(_) | Progress::Starting)
                || state.since.elapsed() < KEPT
        });
        execs.insert(exec.id.clone(), Arc::new(exec));
    }

    fn get(&self, id: &str) -> Result<Arc<Exec>, ApiError> {
        let found = self.0.lock().get(id).cloned();
        found.ok_or_else(|| ApiError::new(404, format_args!("No such exec instance: {id}")))
    }

    /// Returns the ids of the commands that run in a container.
    pub(super) fn running_in(&self, container: &str) -> Vec<String> {
        let execs = self.0.lock();
        let running = execs
            .values()
            .filter(|exec| exec.container == container && exec.is_running());
        running.map(|exec| exec.id.clone()).collect()
    }
}

/// Leads to the endpoint.
pub(super) fn route(
    server: &Server,
    exchange: &mut Exchange<'_>,
    method: &str,
    path: &[&str],
) -> Answer {
    match (method, path) {
        ("GET", [id, "json"]) => Reply::ok(inspect(&*server.0.execs.get(id)?)),
        ("POST", [id, "start"]) => start(server, exchange, id),
        ("POST", [id, "resize"]) => resize(server, exchange, id),
        _ => Err(ApiError::no_page()),
    }
}

/// Returns the container if a command can be executed in it.
fn executable(server: &Server, name: &str) -> Result<Container, ApiError> {
    let container = server.engine().container(name)?;
    match container.state.status {
        Status::Running => Ok(container),
        Status::Paused => Err(ContainerError::Paused(name.to_owned()).into()),
        Status::Restarting => Err(ContainerError::Restarting(container.id).into()),
        _ => Err(ApiError::new(
            409,
            format_args!("Container {} is not running", container.id),
        )),
    }
}

/// `POST /containers/NAME/exec`
pub(super) fn create(server: &Server, exchange: &mut Exchange<'_>, name: &str) -> Answer {
    let asked: Asked = exchange.json()?;
    if asked.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(ApiError::bad("No exec command specified"));
    }
    let keys = DetachKeys::parse(asked.detach_keys.as_deref()).map_err(ApiError::bad)?;
    let container = executable(server, name)?;
    let id = runtime::container::ContainerId::random().to_string();
    server.0.execs.add(Exec {
        id: id.clone(),
        container: container.id.to_string(),
        asked,
        keys,
        state: Mutex::new(State {
            since: Instant::now(),
            progress: Progress::Made,
            pid: 0,
        }),
    });
    Ok(Reply::Json(201, json!({ "Id": id })))
}

fn start(server: &Server, exchange: &mut Exchange<'_>, id: &str) -> Answer {
    let exec = server.0.execs.get(id)?;
    let asked: Start = exchange.optional_json()?.unwrap_or_default();
    executable(server, &exec.container)?;
    {
        let mut state = exec.state.lock();
        if !matches!(state.progress, Progress::Made) {
            return Err(ApiError::new(
                409,
                format_args!("exec command {id} has already run"),
            ));
        }
        state.progress = Progress::Starting;
    }
    let options = exec.options(asked.console_size);
    if asked.detach {
        let mut attachment = match server.engine().exec_container(&exec.container, options) {
            Ok(attachment) => attachment,
            Err(error) => {
                exec.progress(Progress::Ended(Some(CANNOT_EXECUTE)));
                return Err(error.into());
            }
        };
        let sender = attachment.sender();
        let _ = sender.end_stdin();
        exec.run(sender, attachment.pid());
        std::thread::spawn(move || {
            let code = loop {
                match attachment.hear() {
                    Ok(Some(runtime::attach::Heard::Exit(code))) => break Some(code),
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => break None,
                }
            };
            exec.progress(Progress::Ended(code));
        });
        return Ok(Reply::Empty(200));
    }
    let content_type = exchange.stream_type(exec.asked.tty);
    let (socket, early) = exchange.hijack(content_type)?;
    let client = Client::plain(socket, early, Outputs::of(exec.asked.tty));
    let attachment = match server.engine().exec_container(&exec.container, options) {
        Ok(attachment) => attachment,
        Err(error) => {
            // Where Docker says it: on standard output, in the command's place. What ended meanwhile is known first.
            exec.progress(Progress::Ended(Some(CANNOT_EXECUTE)));
            let words = crate::words::of_exec(&error);
            let _ = client.send(false, format!("{words}\r\n").as_bytes());
            client.close();
            return Ok(Reply::Closed);
        }
    };
    exec.run(attachment.sender(), attachment.pid());
    let keys = exec.asked.tty.then(|| exec.keys.clone());
    hijack::follow_to_the_end(attachment, &client, exec.asked.attach_stdin, keys, |code| {
        exec.progress(Progress::Ended(code));
    });
    Ok(Reply::Closed)
}

fn resize(server: &Server, exchange: &Exchange<'_>, id: &str) -> Answer {
    let exec = server.0.execs.get(id)?;
    let query = &exchange.request.query;
    let (rows, columns) = (
        query.number("h")?.unwrap_or(0),
        query.number("w")?.unwrap_or(0),
    );
    match &exec.state.lock().progress {
        Progress::Running(sender) => {
            sender.resize(rows, columns).map_err(ApiError::internal)?;
            Ok(Reply::Empty(200))
        }
        _ => Err(ApiError::internal(format_args!("exec {id} is not running"))),
    }
}

fn inspect(exec: &Exec) -> Value {
    let asked = &exec.asked;
    let command = asked.cmd.as_deref().unwrap_or_default();
    let (entrypoint, arguments) = command
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let state = exec.state.lock();
    let (is_running, code) = match &state.progress {
        Progress::Made | Progress::Starting => (false, None),
        Progress::Running(_) => (true, None),
        Progress::Ended(code) => (false, *code),
    };
    json!({
        "ID": exec.id,
        "Running": is_running,
        "ExitCode": code,
        "ProcessConfig": {
            "tty": asked.tty,
            "entrypoint": entrypoint,
            "arguments": arguments,
            "privileged": asked.privileged,
            "user": asked.user.clone().unwrap_or_default(),
        },
        "OpenStdin": asked.attach_stdin,
        "OpenStderr": asked.attach_stderr,
        "OpenStdout": asked.attach_stdout,
        "CanRemove": false,
        "ContainerID": exec.container,
        "DetachKeys": asked.detach_keys.clone().unwrap_or_default(),
        "Pid": state.pid,
    })
}
