//! The variables of a project: the process's own, then those of `.env` and `--env-file`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use super::LoadError;
use super::dotenv;
use super::interpolate::Variables;

/// Variables; who asks in vain is warned once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    values: BTreeMap<String, String>,
    missed: Arc<Mutex<BTreeSet<String>>>,
}

impl Environment {
    /// Returns the process's own.
    pub(crate) fn of_process() -> Environment {
        let values = std::env::vars_os();
        let values = values.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Environment {
            values: values.collect(),
            missed: Arc::default(),
        }
    }

    /// Sets a variable.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.values.insert(name.to_owned(), value.to_owned());
    }

    /// Adds a file's variables; what is set already stays.
    pub(crate) fn add_file(&mut self, path: &Path) -> Result<(), LoadError> {
        for (name, value) in read(path, self)? {
            self.values.entry(name).or_insert(value);
        }
        Ok(())
    }

    /// Returns a variable that has a value.
    pub(crate) fn non_empty(&self, name: &str) -> Option<&str> {
        let value = self.values.get(name);
        value.map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl Variables for Environment {
    fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }

    fn missing(&self, name: &str) {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        if missed.insert(name.to_owned()) {
            super::warn(format_args!(
                "The {name:?} variable is not set. Defaulting to a blank string."
            ));
        }
    }
}

/// Reads an environment file.
pub(crate) fn read(
    path: &Path,
    outer: &dyn Variables,
) -> Result<BTreeMap<String, String>, LoadError> {
    let text = std::fs::read_to_string(path).map_err(|error| LoadError::EnvFile {
        path: path.to_owned(),
        words: crate::words::of(&error),
    })?;
    dotenv::parse(&text, outer).map_err(|error| LoadError::BadEnvFile {
        path: path.to_owned(),
        words: error.to_string(),
    })
}
