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

    /// Adds files' variables, each over those of the files before it; what is set already stays.
    pub(crate) fn add_files<P: AsRef<Path>>(
        &mut self,
        paths: impl IntoIterator<Item = P>,
    ) -> Result<(), LoadError> {
        let own: BTreeSet<String> = self.values.keys().cloned().collect();
        for path in paths {
            for (name, value) in read(path.as_ref(), self)? {
                if !own.contains(&name) {
                    self.values.insert(name, value);
                }
            }
        }
        Ok(())
    }

    /// Returns every variable as `NAME=value`, in order.
    pub(crate) fn lines(&self) -> Vec<String> {
        let pairs = self.values.iter();
        let mut lines: Vec<String> = pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        lines.sort();
        lines
    }

    /// Whether a variable says yes.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|text| {
            matches!(
                text.trim().to_ascii_lowercase().as_str(),
                "1" | "t" | "true" | "y" | "yes"
            )
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_file_goes_over_an_earlier_one_and_what_is_set_over_all() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let mut environment = Environment::default();
        environment.set("SET", "of the shell");
        let files = [
            file("a", "A=1\nB=1\nSET=a\n"),
            file("b", "B=2\nC=$A$B$SET\nSET=b\n"),
            file("c", "B=3\n"),
        ];
        environment.add_files(files).expect("good files");
        assert_eq!(
            environment.lines(),
            ["A=1", "B=3", "C=11of the shell", "SET=of the shell"]
        );
    }

    #[test]
    fn a_variable_says_yes_in_the_words_of_compose() {
        let mut environment = Environment::default();
        for (word, is_true) in [
            ("1", true),
            ("Yes ", true),
            ("TRUE", true),
            ("0", false),
            ("", false),
        ] {
            environment.set("X", word);
            assert_eq!(environment.is_true("X"), is_true, "{word:?}");
        }
        assert!(!environment.is_true("NOT_SET"));
    }
}
