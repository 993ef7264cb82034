//! Volumes: directories that outlive containers and are shared by them.
//!
//! A volume is a row of `state.db` and `volumes/<name>/_data`. The row is what makes it be: a directory without a row
//! is litter, a row without a directory gets one when it is used. Which container uses which volume is a row too
//! ([`rows`]), added with the container's own in one commit and gone with it, so that a volume in use cannot be removed,
//! whoever is killed when. What is removed is renamed to `volumes/.removing-*` first and swept by whoever comes next.
//!
//! Locks: `volumes.lock` (flock) is held while a row and its directory come or go together. A volume's own lock is the
//! flock of `volumes/<name>`, held while its first content is put in ([`populate`]). The first is never waited for with
//! the second held.

mod directory;
mod driver;
mod list;
mod populate;
pub(crate) mod rows;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::Engine;
use crate::container::ContainerId;

pub(crate) use directory::data_path;
pub(crate) use driver::is_tmpfs;
pub(crate) use driver::open;
pub(crate) use driver::part;
pub use list::VolumeFilter;
pub use list::VolumesPruned;
pub(crate) use populate::Use;
pub(crate) use populate::fill_mounted;
pub(crate) use rows::SCHEMA;

/// The only driver there is.
pub const DRIVER: &str = "local";

/// What a volume is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeOptions {
    /// Its name; one is made up if there is none.
    pub name: Option<String>,
    /// Its driver; nothing is `local`.
    pub driver: String,
    /// `type`, `device` and `o` of the local driver.
    pub driver_opts: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// What it shows instead of its own directory, if anything.
    pub driver_opts: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether nobody has named it.
    pub anonymous: bool,
    /// Where its files are on the host.
    pub mountpoint: PathBuf,
    /// The containers that have it.
    pub containers: Vec<ContainerId>,
}

/// What keeps a volume verb from doing what was asked.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// No volume has that name.
    #[error("get {0}: no such volume")]
    NoSuchVolume(String),
    /// Containers have it.
    #[error("remove {name}: volume is in use - [{}]", containers.join(", "))]
    InUse {
        /// The volume.
        name: String,
        /// Their ids.
        containers: Vec<String>,
    },
    /// It cannot be made like that.
    #[error("create {name}: {words}")]
    Invalid {
        /// Its name.
        name: String,
        /// Why.
        words: String,
    },
    /// Not a filter of volumes.
    #[error("Invalid filter '{0}'")]
    InvalidFilter(String),
    /// The place in the image that it is to take over cannot be one.
    #[error("{0}")]
    Place(String),
    /// Its first content could not be put in.
    #[error("populate volume {name}: {source}")]
    Populate {
        /// The volume.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// What its options name could not be mounted.
    #[error("error while mounting volume '{mountpoint}': failed to mount local volume: {words}")]
    Mount {
        /// Its place.
        mountpoint: PathBuf,
        /// Why.
        words: String,
    },
    /// The store of layers failed.
    #[error(transparent)]
    Store(#[from] layerfs::store::StoreError),
    /// The database failed.
    #[error("state.db: {0}")]
    Database(#[from] rusqlite::Error),
    /// The system refused something on a file of the engine.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl VolumeError {
    fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> VolumeError {
        let path = path.into();
        move |source| VolumeError::Io { path, source }
    }
}

/// The label by which Docker knows an anonymous volume.
pub(crate) const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// Makes up the name of an anonymous volume: 64 hex digits.
pub(crate) fn anonymous_name() -> String {
    ContainerId::random().0
}

/// Refuses what cannot be a volume's name.
pub(crate) fn check_name(name: &str) -> Result<(), VolumeError> {
    let invalid = |words: String| {
        Err(VolumeError::Invalid {
            name: name.to_owned(),
            words,
        })
    };
    if name.len() == 1 {
        return invalid(
            "volume name is too short, names should be at least two alphanumeric characters"
                .to_owned(),
        );
    }
    let mut bytes = name.bytes();
    let is_good = name.len() <= LONGEST_NAME
        && bytes
            .next()
            .is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    match is_good {
        true => Ok(()),
        false => invalid(format!(
            "{name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
             allowed. If you intended to pass a host directory, use absolute path"
        )),
    }
}

/// The longest name of a directory.
const LONGEST_NAME: usize = 255;

/// Refuses options that no volume can have.
pub(crate) fn check_options(name: &str, options: &VolumeOptions) -> Result<(), VolumeError> {
    let invalid = |words: String| {
        Err(VolumeError::Invalid {
            name: name.to_owned(),
            words,
        })
    };
    check_name(name)?;
    if !matches!(options.driver.as_str(), "" | DRIVER) {
        let driver = &options.driver;
        return invalid(format!(
            "error looking up volume plugin {driver}: plugin {driver:?} not found"
        ));
    }
    driver::check(&options.driver_opts).or_else(invalid)
}

impl Engine {
    /// Makes a volume; one of that name that is there already is as good.
    pub fn create_volume(&self, options: &VolumeOptions) -> Result<Volume, VolumeError> {
        self.sweep_volumes()?;
        let asked = options.name.as_deref().filter(|name| !name.is_empty());
        let name = asked.map_or_else(anonymous_name, str::to_owned);
        check_options(&name, options)?;
        let mut labels = options.labels.clone();
        if asked.is_none() {
            labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
        }
        let new = rows::New {
            name: &name,
            driver_opts: &options.driver_opts,
            labels: &labels,
            anonymous: asked.is_none(),
        };
        let is_new = {
            let _alone = self.lock_volumes()?;
            let is_new = rows::insert(&self.db(), &new)?;
            self.make_volume_directory(&name)?;
            is_new
        };
        if is_new {
            self.emit_volume("create", &name, &[]);
        }
        self.volume(&name)
    }

    /// Finds a volume by its name.
    pub fn volume(&self, name: &str) -> Result<Volume, VolumeError> {
        let row = rows::by_name(&self.db(), name)?;
        row.map(|row| self.with_place(row))
            .ok_or_else(|| VolumeError::NoSuchVolume(name.to_owned()))
    }

    /// Removes a volume that no container has. With `force`, one that is not there is no error.
    pub fn remove_volume(&self, name: &str, force: bool) -> Result<(), VolumeError> {
        self.sweep_volumes()?;
        match self.take_volume_away(name)? {
            true => Ok(()),
            false => match self.volume(name) {
                Ok(volume) => Err(VolumeError::InUse {
                    name: name.to_owned(),
                    containers: volume.containers.iter().map(ToString::to_string).collect(),
                }),
                Err(VolumeError::NoSuchVolume(_)) if force => Ok(()),
                Err(error) => Err(error),
            },
        }
    }

    fn with_place(&self, row: rows::Row) -> Volume {
        Volume {
            mountpoint: data_path(self.root(), &row.name),
            name: row.name,
            created: row.created,
            driver_opts: row.driver_opts,
            labels: row.labels,
            anonymous: row.anonymous,
            containers: row.containers,
        }
    }

    pub(crate) fn emit_volume(&self, action: &str, name: &str, more: &[(&str, String)]) {
        emit(self.run_dir(), action, name, more);
    }
}

/// Tells those who watch what has happened to a volume.
pub(crate) fn emit(run: &std::path::Path, action: &str, name: &str, more: &[(&str, String)]) {
    let driver = [("driver", DRIVER.to_owned())];
    let attributes = driver
        .iter()
        .chain(more)
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    crate::events::emit(run, "volume", action, name, attributes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_docker_takes() {
        for good in ["ab", "a.b", "A-1_x", &"a".repeat(64)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            ".a",
            "-ab",
            "a/b",
            "../x",
            "a b",
            "aé",
            &"a".repeat(256),
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn options_are_the_local_driver_s() {
        let with = |driver: &str, opts: &[(&str, &str)]| {
            let options = VolumeOptions {
                driver: driver.to_owned(),
                driver_opts: opts
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
                ..VolumeOptions::default()
            };
            check_options("v1", &options).map_err(|error| error.to_string())
        };
        assert_eq!(with("local", &[]), Ok(()));
        let tmpfs = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")];
        assert_eq!(with("", &tmpfs), Ok(()));
        let error = |driver: &str, opts: &[(&str, &str)]| with(driver, opts).expect_err("refused");
        assert_eq!(
            error("nosuch", &[]),
            "create v1: error looking up volume plugin nosuch: plugin \"nosuch\" not found"
        );
        assert_eq!(
            error("", &[("foo", "bar")]),
            "create v1: invalid option: \"foo\""
        );
        assert_eq!(
            error("", &[("type", "tmpfs")]),
            "create v1: missing required option: \"device\""
        );
    }
}
