//! What happens to containers and images, for those who watch: Docker's events.
//!
//! `<run>/events` has one JSON object a line, appended by whoever makes something happen under the file's `flock`, so
//! lines are in the order of their times. A file that has grown long becomes `events.old`, and a new one begins: what
//! is older is forgotten, as Docker forgets all but the last few hundred. Watching costs nobody anything but the
//! watchers.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use nix::fcntl::Flock;
use nix::fcntl::FlockArg;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::fs::inotify;
use serde::Deserialize;
use serde::Serialize;

use crate::Engine;

/// How long the file grows: some ten thousand events.
const LONGEST: u64 = 4 << 20;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// To what kind of thing: `container`, `image`.
    pub kind: String,
    /// What: `start`, `die`, `exec_create: ls`.
    pub action: String,
    /// The thing's id, or the image's name.
    pub id: String,
    /// What else is known: a container's image, name and labels, an exit code.
    pub attributes: BTreeMap<String, String>,
}

/// Which events are wanted: each field that is given must fit, several values of one field are alternatives.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    fields: Vec<(String, String)>,
}

/// What keeps events from being read.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// Not a filter of events.
    #[error("Invalid filter '{0}'")]
    InvalidFilter(String),
    /// What has happened since a time that comes after the last one.
    #[error(
        "`since` time ({}) cannot be after `until` time ({})",
        in_seconds(*since),
        in_seconds(*until)
    )]
    SinceAfterUntil {
        /// The first time.
        since: Timestamp,
        /// The last one.
        until: Timestamp,
    },
    /// The system refused something on the file.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Returns a time as Docker's clients write it: seconds and nanoseconds since the epoch.
fn in_seconds(time: Timestamp) -> String {
    format!("{}.{:09}", time.as_second(), time.subsec_nanosecond())
}

impl EventFilter {
    /// Adds one `key=value`.
    pub fn add(&mut self, filter: &str) -> Result<(), EventError> {
        const KEYS: [&str; 7] = [
            "container",
            "event",
            "image",
            "label",
            "type",
            "network",
            "volume",
        ];
        match filter.split_once('=') {
            Some((key, value)) if KEYS.contains(&key) => {
                self.fields.push((key.to_owned(), value.to_owned()));
                Ok(())
            }
            _ => Err(EventError::InvalidFilter(
                filter.split('=').next().unwrap_or_default().to_owned(),
            )),
        }
    }

    /// Returns whether an event is wanted.
    pub fn fits(&self, event: &Event) -> bool {
        let attribute = |name: &str| event.attributes.get(name).map(String::as_str);
        let fits_one = |key: &str, value: &str| match key {
            "type" => event.kind == value,
            // `exec_create: ls` is an `exec_create`.
            "event" => event.action == value || event.action.split(':').next() == Some(value),
            "label" => match value.split_once('=') {
                Some((name, value)) => attribute(name) == Some(value),
                None => event.attributes.contains_key(value),
            },
            "image" => {
                let is_image = event.kind == "image";
                let name = if is_image {
                    Some(event.id.as_str())
                } else {
                    attribute("image")
                };
                let bare = |name: &str| name.split(':').next() == Some(value);
                name.is_some_and(|name| name == value || bare(name))
                    || (is_image
                        && attribute("name").is_some_and(|name| name == value || bare(name)))
            }
            kind => {
                event.kind == kind
                    && (event.id.starts_with(value) || attribute("name") == Some(value))
            }
        };
        self.fields.iter().all(|(key, _)| {
            let mut values = self.fields.iter().filter(|(other, _)| other == key);
            match key.as_str() {
                // A container has all the labels that are asked for.
                "label" => values.all(|(key, value)| fits_one(key, value)),
                _ => values.any(|(key, value)| fits_one(key, value)),
            }
        })
    }
}

/// Writes an event down. Nothing waits for events, and nothing fails for them.
pub(crate) fn emit(
    run: &Path,
    kind: &str,
    action: &str,
    id: &str,
    attributes: BTreeMap<String, String>,
) {
    let event = Event {
        time: Timestamp::now(),
        kind: kind.to_owned(),
        action: action.to_owned(),
        id: id.to_owned(),
        attributes,
    };
    if let Err(error) = append(&run.join("events"), event) {
        log::warn!("events: {error}");
    }
}

fn append(path: &Path, mut event: Event) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    loop {
        let file = File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let mut file = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| io::Error::from(errno))?;
        let opened = file.metadata()?;
        let is_current = fs::metadata(path).is_ok_and(|there| there.ino() == opened.ino());
        if !is_current {
            continue;
        }
        if opened.len() > LONGEST {
            fs::rename(path, path.with_extension("old"))?;
            continue;
        }
        event.time = Timestamp::now();
        let mut line = serde_json::to_vec(&event)?;
        line.push(b'\n');
        return file.write_all(&line);
    }
}

/// The events that fit, one after the other.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    filter: EventFilter,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// Files to read before the current one.
    old: Option<BufReader<File>>,
    file: Option<BufReader<File>>,
    line: Vec<u8>,
    watch: OwnedFd,
}

impl Engine {
    /// Returns what happens from now on, or what has happened since `since`; up to `until`, or without end.
    pub fn events(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        filter: EventFilter,
    ) -> Result<Events, EventError> {
        if let (Some(since), Some(until)) = (since, until)
            && until < since
        {
            return Err(EventError::SinceAfterUntil { since, until });
        }
        let path = self.run_dir().join("events");
        let failed = |source| EventError::Io {
            path: path.clone(),
            source,
        };
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .map_err(|errno| failed(errno.into()))?;
        let flags = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&watch, self.run_dir(), flags).map_err(|errno| failed(errno.into()))?;
        let now = Timestamp::now();
        Ok(Events {
            old: File::open(path.with_extension("old"))
                .ok()
                .map(BufReader::new),
            path,
            filter,
            since: Some(since.unwrap_or(now)),
            until,
            file: None,
            line: Vec::new(),
            watch,
        })
    }

    pub(crate) fn emit(
        &self,
        kind: &str,
        action: &str,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        emit(self.run_dir(), kind, action, id, attributes);
    }

    /// Tells that what nobody needs of a kind has been removed, and the bytes that it took.
    pub fn emit_prune(&self, kind: &str, freed: u64) {
        let attributes = BTreeMap::from([("reclaimed".to_owned(), freed.to_string())]);
        self.emit(kind, "prune", "", attributes);
    }

    pub(crate) fn emit_image(&self, action: &str, id: &str, name: &str) {
        let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        self.emit("image", action, id, attributes);
    }
}

impl Events {
    /// Waits for the next event; `None` when `until` has come.
    pub fn next_event(&mut self) -> Result<Option<Event>, EventError> {
        self.next_event_before(None)
    }

    /// Waits for the next event no longer than this; `None` when there was none, or `until` has come.
    pub fn next_event_within(&mut self, patience: Duration) -> Result<Option<Event>, EventError> {
        self.next_event_before(Some(Instant::now() + patience))
    }

    fn next_event_before(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Option<Event>, EventError> {
        loop {
            while let Some(event) = self.read().map_err(|source| EventError::Io {
                path: self.path.clone(),
                source,
            })? {
                if self.until.is_some_and(|until| event.time > until) {
                    return Ok(None);
                }
                if self.since.is_none_or(|since| event.time >= since) && self.filter.fits(&event) {
                    return Ok(Some(event));
                }
            }
            if !self.wait(deadline) {
                return Ok(None);
            }
        }
    }

    /// Returns the next event that is written down.
    fn read(&mut self) -> io::Result<Option<Event>> {
        loop {
            if self.old.is_none() && self.file.is_none() {
                match File::open(&self.path) {
                    Ok(file) => self.file = Some(BufReader::new(file)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(error),
                }
            }
            let is_current = self.old.is_none();
            let Some(file) = self.old.as_mut().or(self.file.as_mut()) else {
                return Ok(None);
            };
            // Asked first: who finds it replaced reads what was written before that.
            let is_replaced = is_current && {
                let opened = file.get_ref().metadata()?;
                fs::metadata(&self.path).map_or(true, |there| there.ino() != opened.ino())
            };
            file.read_until(b'\n', &mut self.line)?;
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                match serde_json::from_slice(&line) {
                    Ok(event) => return Ok(Some(event)),
                    Err(_) => continue,
                }
            }
            if self.old.take().is_some() {
                self.line.clear();
            } else if is_replaced {
                self.line.clear();
                self.file = None;
            } else {
                return Ok(None);
            }
        }
    }

    /// Waits until something is written; returns whether it is worth a look.
    fn wait(&mut self, deadline: Option<Instant>) -> bool {
        let until_then = self.until.map(|until| {
            let left = until.duration_since(Timestamp::now());
            Duration::try_from(left).unwrap_or_default()
        });
        let patience = deadline.map(|it| it.saturating_duration_since(Instant::now()));
        let left = until_then.into_iter().chain(patience).min();
        if left.is_some_and(|left| left.is_zero()) {
            return false;
        }
        let left = left.and_then(|left| rustix::event::Timespec::try_from(left).ok());
        let mut polled = [PollFd::new(&self.watch, PollFlags::IN)];
        let _ = rustix::event::poll(&mut polled, left.as_ref());
        let mut buffer = [0; 4096];
        while rustix::io::read(&self.watch, &mut buffer).is_ok() {}
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) -> Event {
        Event {
            time: Timestamp::UNIX_EPOCH,
            kind: kind.to_owned(),
            action: action.to_owned(),
            id: id.to_owned(),
            attributes: attributes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn filters_of_one_key_are_alternatives_and_of_several_all_hold() {
        let filter = |filters: &[&str]| {
            let mut filter = EventFilter::default();
            filters
                .iter()
                .for_each(|it| filter.add(it).expect("a filter"));
            filter
        };
        let start = event(
            "container",
            "start",
            "abc",
            &[("image", "busybox:1"), ("name", "c1"), ("a", "b")],
        );
        for (filters, fits) in [
            (&["event=start", "event=die"][..], true),
            (&["event=die"], false),
            (&["type=container", "container=c1"], true),
            (&["container=ab"], true),
            (&["container=c2"], false),
            (&["image=busybox"], true),
            (&["label=a"], true),
            (&["label=a=b", "label=c"], false),
            (&["type=image"], false),
        ] {
            assert_eq!(filter(filters).fits(&start), fits, "{filters:?}");
        }
        let exec = event("container", "exec_create: ls -l", "abc", &[]);
        assert!(filter(&["event=exec_create"]).fits(&exec));
        assert!(EventFilter::default().add("nosuch=1").is_err());
    }

    #[test]
    fn a_watcher_goes_on_in_the_new_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let config = crate::EngineConfig {
            root: directory.path().join("root"),
            run: directory.path().join("run"),
        };
        let engine = Engine::open(&config).expect("an engine");
        let say = |action: &str| engine.emit("container", action, "abc", BTreeMap::new());
        say("before");
        let mut events = engine
            .events(None, None, EventFilter::default())
            .expect("events");
        let mut next = || {
            events
                .next_event()
                .expect("readable")
                .expect("an event")
                .action
        };
        say("one");
        assert_eq!(next(), "one");
        let path = config.run.join("events");
        fs::rename(&path, path.with_extension("old")).expect("renamed");
        say("two");
        assert_eq!(next(), "two");
        let past = Some(Timestamp::UNIX_EPOCH);
        let mut all = engine
            .events(past, Some(Timestamp::now()), EventFilter::default())
            .expect("events");
        let mut actions = Vec::new();
        while let Some(event) = all.next_event().expect("readable") {
            actions.push(event.action);
        }
        assert_eq!(actions, ["before", "one", "two"]);
    }
}
