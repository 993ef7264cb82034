//! `POST /build` and `/build/prune`: Docker's classic builder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use runtime::build::BuildError;
use runtime::build::BuildOptions;
use runtime::build::BuildOutcome;
use runtime::build::CachePrune;
use runtime::build::CacheStore;
use runtime::build::Cancel;
use runtime::build::ContextSource;
use runtime::build::DockerfileSource;
use runtime::build::StepError;
use runtime::cgroup::Resources;
use runtime::progress::Progress as _;
use runtime::progress::ProgressEvent;
use runtime::reference::Reference;
use runtime::sandbox::Limit;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Server;
use super::api_error::ApiError;
use super::exchange::Answer;
use super::exchange::Exchange;
use super::exchange::Reply;
use super::progress::Lines;
use super::progress::said;
use super::request::Query;
use super::socket::Socket;
use super::system::settings_of_build;
use crate::build_progress::Listener;
use crate::build_progress::Plain;
use crate::build_progress::Sink;

/// How much of a quiet build's words is kept.
const MOST_KEPT: usize = 1 << 20;

/// How often it is looked whether the client is still there.
const ROUND: Duration = Duration::from_millis(200);

/// What a build tells, as lines of JSON.
#[derive(Debug)]
struct Told {
    lines: Lines,
    /// What was said and not sent: the beginning of a character, or of a quiet build all.
    kept: Mutex<Vec<u8>>,
    is_quiet: bool,
}

impl Listener for Told {
    fn say(&self, bytes: &[u8]) {
        let mut kept = self.kept.lock();
        kept.extend_from_slice(bytes);
        if self.is_quiet {
            // It is for the case of a failure, whose reason comes last.
            let surplus = kept.len().saturating_sub(MOST_KEPT);
            kept.drain(..surplus);
        } else {
            let whole = whole_characters(&kept);
            let text: Vec<u8> = kept.drain(..whole).collect();
            if !text.is_empty() {
                self.lines.send(&said(&String::from_utf8_lossy(&text)));
            }
        }
    }

    fn transfer(&self, event: ProgressEvent) {
        if !self.is_quiet {
            self.lines.event(event);
        }
    }
}

/// Returns how many bytes do not belong to a character whose end is yet to come.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

impl Told {
    /// Sends what was kept.
    fn send_rest(&self) {
        let kept = std::mem::take(&mut *self.kept.lock());
        if !kept.is_empty() {
            self.lines.send(&said(&String::from_utf8_lossy(&kept)));
        }
    }
}

/// `POST /build`
pub(super) fn build(server: &Server, exchange: &mut Exchange<'_>) -> Answer {
    let mut options = options(&exchange.request.query)?;
    options.registry = settings_of_build(exchange)?;
    let is_quiet = exchange.request.query.is_true("q");
    let told = Arc::new(Told {
        lines: Lines::new(exchange.later_stream(Some("application/json"))),
        kept: Mutex::default(),
        is_quiet,
    });
    let plain = Plain::new(Sink::To(told.clone()));
    let is_sent = !matches!(
        options.context,
        ContextSource::Git(_) | ContextSource::Url(_)
    );
    let (cancel, socket) = (options.cancel.clone(), exchange.socket());
    let (over, is_over) = mpsc::channel();
    let broken = Mutex::new(None);
    let built = std::thread::scope(|scope| {
        let sent = match is_sent {
            false => Ok(()),
            true => io::pipe().map(|(reader, mut writer)| {
                options.context = ContextSource::Archive(File::from(OwnedFd::from(reader)));
                let (body, broken, cancel) = (&mut exchange.body, &broken, cancel.clone());
                scope.spawn(move || {
                    let mut body = Watched {
                        body,
                        failure: None,
                    };
                    // A build that has had enough closes its end.
                    if let Err(error) = io::copy(&mut body, &mut writer) {
                        log::debug!("{error}");
                    }
                    // A context that was cut off must not pass for a whole one: that is said before its end.
                    if let Some(error) = body.failure {
                        *broken.lock() = Some(error);
                        cancel.cancel();
                    }
                    drop(writer);
                });
            }),
        };
        scope.spawn(|| cancel_if_gone(&socket, &cancel, is_over));
        let built = sent
            .map_err(ApiError::from)
            .map(|()| server.engine().build(&options, &plain));
        // Its end of the pipe goes with it.
        drop(options);
        drop(over);
        built
    })?;
    if let Some(error) = broken.into_inner() {
        drop(plain);
        let told = Arc::into_inner(told);
        let told = told.ok_or_else(|| ApiError::internal("the build still speaks"))?;
        return told
            .lines
            .end(Err(ApiError::bad(format_args!("the context: {error}"))));
    }
    answer(built, told, plain)
}

/// A body that remembers that it could not be read.
struct Watched<'a, R> {
    body: &'a mut R,
    failure: Option<io::Error>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer).map_err(|error| {
            let kind = error.kind();
            self.failure = Some(error);
            kind.into()
        })
    }
}

/// Ends the build when the client has gone: nobody would hear of its result.
fn cancel_if_gone(socket: &Socket, cancel: &Cancel, is_over: mpsc::Receiver<()>) {
    while is_over.recv_timeout(ROUND) == Err(mpsc::RecvTimeoutError::Timeout) {
        if socket.is_gone() {
            cancel.cancel();
            return;
        }
    }
}

/// Says how the build has ended.
fn answer(built: Result<BuildOutcome, BuildError>, told: Arc<Told>, plain: Plain) -> Answer {
    match &built {
        Ok(outcome) => {
            let id = outcome.image.to_string();
            told.lines.send(&json!({ "aux": { "ID": id } }));
            match told.is_quiet {
                true => told.lines.send(&said(&format!("{id}\n"))),
                false => plain.built(outcome, true),
            }
        }
        Err(_) => plain.show_rest(),
    }
    drop(plain);
    let told = Arc::into_inner(told).ok_or_else(|| ApiError::internal("the build still speaks"))?;
    if built.is_err() || !told.is_quiet {
        told.send_rest();
    }
    let error = match built {
        Ok(_) => return told.lines.end(Ok(())),
        Err(error) => error,
    };
    let (status, message) = match &error {
        BuildError::NoDockerfile { name, .. } => {
            (400, format!("Cannot locate specified Dockerfile: {name}"))
        }
        BuildError::Dockerfile(_) | BuildError::NoTarget(_) | BuildError::Context(_) => {
            (400, error.to_string())
        }
        _ => (500, error.to_string()),
    };
    let code = match &error {
        BuildError::Step { cause, .. } => match **cause {
            StepError::Command { code, .. } => Some(code),
            _ => None,
        },
        _ => None,
    };
    match told.lines.has_begun() {
        true => told.lines.fail(&message, code),
        false => Err(ApiError::new(status, message)),
    }
}

/// Reads what the query asks for.
fn options(query: &Query) -> Result<BuildOptions, ApiError> {
    if query.get("version").is_some_and(|version| version != "1") {
        return Err(ApiError::bad(
            "this engine has no BuildKit: set DOCKER_BUILDKIT=0",
        ));
    }
    for (name, words) in [
        ("squash", "squash is not supported"),
        ("cgroupparent", "cgroupparent is not supported"),
        (
            "outputs",
            "outputs need BuildKit, which this engine has not",
        ),
        (
            "securityopt",
            "The daemon on this platform does not support setting security options on build",
        ),
    ] {
        let is_set = query.get(name).is_some_and(|it| it != "null" && it != "[]");
        if is_set && (name != "squash" || query.is_true(name)) {
            return Err(ApiError::bad(words));
        }
    }
    let text = |name: &str| query.get(name).map(str::to_owned);
    let args: Option<BTreeMap<String, Option<String>>> = json_of(query, "buildargs")?;
    let labels: Option<BTreeMap<String, String>> = json_of(query, "labels")?;
    let cache_from: Option<Vec<String>> = json_of(query, "cachefrom")?;
    let cache_from = cache_from.unwrap_or_default().into_iter().map(|name| {
        let reference: Reference = name.parse().map_err(ApiError::bad)?;
        Ok(CacheStore::Registry(reference))
    });
    Ok(BuildOptions {
        context: match query.get("remote") {
            None => ContextSource::Empty,
            Some(address) => ContextSource::of_address(address).ok_or_else(|| {
                ApiError::bad(format_args!(
                    "unable to use {address:?} as a remote context"
                ))
            })?,
        },
        dockerfile: query
            .get("dockerfile")
            .map_or_else(DockerfileSource::default, |name| {
                DockerfileSource::InContext(name.to_owned())
            }),
        tags: query
            .all("t")
            .into_iter()
            .filter(|name| !name.is_empty())
            .map(tag)
            .collect::<Result<_, _>>()?,
        target: text("target"),
        // One without a value is one that is not set.
        args: args
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect(),
        labels: labels.unwrap_or_default(),
        no_cache: query.is_true("nocache"),
        pull: query.is_true("pull"),
        platform: query.get("platform").map(str::parse).transpose()?,
        network: text("networkmode").filter(|network| network != "default"),
        extra_hosts: extra_hosts(query)?,
        shm_size: query.number("shmsize")?.filter(|size| *size > 0),
        ulimits: ulimits(query)?,
        resources: resources(query)?,
        cache_from: cache_from.collect::<Result<_, ApiError>>()?,
        ..BuildOptions::default()
    })
}

/// Reads a parameter that is JSON.
fn json_of<T: DeserializeOwned>(query: &Query, name: &str) -> Result<Option<T>, ApiError> {
    let Some(text) = query.get(name) else {
        return Ok(None);
    };
    let parsed = serde_json::from_str::<Option<T>>(text);
    parsed.map_err(|error| ApiError::bad(format_args!("{name}: invalid JSON: {error}")))
}

fn tag(name: &str) -> Result<Reference, ApiError> {
    let reference: Reference = name.parse().map_err(ApiError::bad)?;
    match reference.is_pinned() {
        true => Err(ApiError::bad(
            "refusing to create a tag with a digest reference",
        )),
        false => Ok(reference.or_latest()),
    }
}

/// Reads `name:address`, each a value of its own, or all of them in a list.
fn extra_hosts(query: &Query) -> Result<Vec<String>, ApiError> {
    let mut hosts = Vec::new();
    for value in query.all("extrahosts") {
        match value.starts_with('[') {
            true => hosts.extend(json_of::<Vec<String>>(query, "extrahosts")?.unwrap_or_default()),
            false if value.is_empty() => {}
            false => hosts.push(value.to_owned()),
        }
    }
    Ok(hosts)
}

fn ulimits(query: &Query) -> Result<Vec<Limit>, ApiError> {
    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        name: String,
        soft: i64,
        hard: i64,
    }
    let asked: Option<Vec<Asked>> = json_of(query, "ulimits")?;
    // -1 is no limit.
    let number = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
    let limits = asked.unwrap_or_default().into_iter().map(|limit| Limit {
        name: limit.name,
        soft: number(limit.soft),
        hard: number(limit.hard),
    });
    Ok(limits.collect())
}

fn resources(query: &Query) -> Result<Resources, ApiError> {
    let positive = |name: &str| -> Result<Option<u64>, ApiError> {
        let number: Option<i64> = query.number(name)?;
        Ok(number
            .and_then(|number| u64::try_from(number).ok())
            .filter(|number| *number > 0))
    };
    Ok(Resources {
        memory: positive("memory")?,
        memory_swap: query.number("memswap")?.filter(|swap| *swap != 0),
        cpu_shares: positive("cpushares")?,
        cpu_period: positive("cpuperiod")?,
        cpu_quota: query.number("cpuquota")?.filter(|quota| *quota != 0),
        cpuset_cpus: query.get("cpusetcpus").map(str::to_owned),
        cpuset_mems: query.get("cpusetmems").map(str::to_owned),
        ..Resources::default()
    })
}

/// `POST /build/prune`
pub(super) fn prune(server: &Server, exchange: &Exchange<'_>) -> Answer {
    let query = &exchange.request.query;
    let mut keep = query.number("keep-storage")?;
    for name in ["reserved-space", "max-used-space"] {
        keep = keep.or(query.number(name)?);
    }
    let mut prune = CachePrune {
        all: query.is_true("all"),
        keep_storage: keep.filter(|bytes| *bytes > 0),
        ..CachePrune::default()
    };
    for filter in query.filters()? {
        if !prune.add(&filter) {
            return Err(ApiError::bad(format_args!("invalid filter '{filter}'")));
        }
    }
    let (pruned, freed) = server
        .engine()
        .prune_build_cache(&prune)
        .map_err(ApiError::internal)?;
    server.engine().emit_prune("builder", freed);
    let ids: Vec<&str> = pruned.iter().map(|one| one.id.as_str()).collect();
    let ids = (!ids.is_empty()).then_some(ids);
    Reply::ok(json!({ "CachesDeleted": ids, "SpaceReclaimed": freed }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_cut() {
        let text = "aé€".as_bytes();
        assert_eq!(whole_characters(text), 6);
        assert_eq!(whole_characters(&text[..5]), 3);
        assert_eq!(whole_characters(&text[..2]), 1);
        // What is no text at all is not waited for.
        assert_eq!(whole_characters(b"a\xffb"), 3);
    }
}
