//! From files to one tree: read, filled in, checked, `include`d, `extend`ed, merged.

use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Map;
use serde_json::Value;

use super::LoadError;
use super::environment::Environment;
use super::interpolate;
use super::merge;
use super::paths;
use super::schema;
use super::shape::Walk;
use super::yaml;

/// Reads files one over another.
#[derive(Debug)]
pub(crate) struct Loader<'a> {
    /// What is filled in.
    pub(crate) environment: &'a Environment,
    /// Whether it is.
    pub(crate) interpolates: bool,
    /// Whether relative paths are made absolute.
    pub(crate) makes_absolute: bool,
    /// What relative paths begin at.
    pub(crate) directory: &'a Path,
}

/// A document, checked, and where it resets what is below it.
struct Checked {
    tree: Value,
    resets: Vec<Vec<String>>,
}

impl Loader<'_> {
    /// Reads files, each over the one before it; `included_from` are those that lead here.
    pub(crate) fn load(
        &self,
        files: &[PathBuf],
        included_from: &[PathBuf],
    ) -> Result<Value, LoadError> {
        let mut tree = Value::Object(Map::new());
        for file in files {
            for document in self.read(file)? {
                self.add(&mut tree, document, file, included_from)?;
            }
        }
        Ok(tree)
    }

    fn read(&self, file: &Path) -> Result<Vec<Checked>, LoadError> {
        let name = file.display().to_string();
        let documents = yaml::parse(&text_of(file)?);
        let documents = documents.map_err(|error| LoadError::Parse {
            file: name.clone(),
            words: error.to_string(),
        })?;
        let mut checked = Vec::new();
        for mut document in documents {
            if !document.value.is_object() {
                return Err(LoadError::TopLevel { file: name });
            }
            if self.interpolates {
                interpolate::tree(&mut document.value, "", self.environment)?;
            }
            let walk = Walk {
                has_variables: !self.interpolates,
            };
            walk.apply(&schema::FILE, &mut document.value, "")
                .map_err(|error| LoadError::Invalid {
                    file: name.clone(),
                    words: error.to_string().trim_start().to_owned(),
                })?;
            if self.makes_absolute {
                paths::make_absolute(&mut document.value, self.directory);
            }
            checked.push(Checked {
                tree: document.value,
                resets: document.resets,
            });
        }
        Ok(checked)
    }

    fn add(
        &self,
        tree: &mut Value,
        mut document: Checked,
        file: &Path,
        included_from: &[PathBuf],
    ) -> Result<(), LoadError> {
        if let Some(fields) = document.tree.as_object_mut() {
            if fields.shift_remove("version").is_some() {
                super::warn(format_args!(
                    "{}: the attribute `version` is obsolete, it will be ignored, please remove it to avoid \
                     potential confusion",
                    file.display()
                ));
            }
            if let Some(Value::Array(includes)) = fields.shift_remove("include") {
                let mut chain = included_from.to_vec();
                chain.push(file.to_owned());
                for include in includes {
                    let mut below = self.include(&include, &chain)?;
                    reset_all(&mut below, &document.resets);
                    let above = std::mem::take(&mut document.tree);
                    merge::merge(&mut below, above, &mut Vec::new());
                    document.tree = below;
                }
            }
        }
        self.extend_services(&mut document, file)?;
        reset_all(tree, &document.resets);
        merge::merge(tree, document.tree, &mut Vec::new());
        Ok(())
    }

    /// Reads what an `include` names: a project of its own, with its own directory and variables.
    fn include(&self, include: &Value, chain: &[PathBuf]) -> Result<Value, LoadError> {
        let texts = |key: &str| -> Vec<PathBuf> {
            let items = include[key].as_array().into_iter().flatten();
            let texts = items.filter_map(Value::as_str);
            texts.map(|path| self.directory.join(path)).collect()
        };
        let files = texts("path");
        let Some(first) = files.first() else {
            return Ok(Value::Object(Map::new()));
        };
        if chain.contains(first) {
            let mut chain: Vec<String> = chain.iter().map(|it| it.display().to_string()).collect();
            chain.push(first.display().to_string());
            return Err(LoadError::IncludeCycle(chain.join("\n include ")));
        }
        let parent = first.parent().unwrap_or(Path::new("/"));
        let directory = match include["project_directory"].as_str() {
            Some(directory) => self.directory.join(directory),
            None => parent.to_owned(),
        };
        let mut environment = self.environment.clone();
        let own = directory.join(".env");
        match texts("env_file").as_slice() {
            [] if own.is_file() => environment.add_files([own])?,
            files => {
                environment.add_files(files.iter().filter(|file| *file != "/dev/null"))?;
            }
        }
        let inner = Loader {
            environment: &environment,
            directory: &directory,
            ..*self
        };
        inner.load(&files, chain)
    }

    fn extend_services(&self, document: &mut Checked, file: &Path) -> Result<(), LoadError> {
        let Some(services) = document.tree["services"].as_object_mut() else {
            return Ok(());
        };
        let names: Vec<String> = services.keys().cloned().collect();
        for name in names {
            let extended =
                self.extended(services, &name, &document.resets, file, &mut Vec::new())?;
            services.insert(name, extended);
        }
        Ok(())
    }

    /// Returns a service over what it extends.
    fn extended(
        &self,
        services: &Map<String, Value>,
        name: &str,
        resets: &[Vec<String>],
        file: &Path,
        chain: &mut Vec<String>,
    ) -> Result<Value, LoadError> {
        let mut service = services.get(name).cloned().unwrap_or_default();
        let extends = match service.as_object_mut() {
            Some(fields) => fields.shift_remove("extends"),
            None => None,
        };
        let Some(extends) = extends else {
            return Ok(service);
        };
        let link = format!("{name} in {}", file.display());
        if chain.contains(&link) {
            chain.push(link);
            return Err(LoadError::ExtendsCycle(chain.join("\n  extends ")));
        }
        chain.push(link);
        let base_name = extends["service"].as_str().unwrap_or_default();
        let not_found = |place: &Path| LoadError::ExtendsNothing {
            name: name.to_owned(),
            file: file.display().to_string(),
            base: base_name.to_owned(),
            place: place.display().to_string(),
        };
        let mut base = match extends["file"].as_str() {
            None if services.contains_key(base_name) => {
                self.extended(services, base_name, resets, file, chain)?
            }
            None => return Err(not_found(file)),
            Some(other) => {
                let other = self.directory.join(other);
                let loader = Loader {
                    directory: other.parent().unwrap_or(Path::new("/")),
                    ..*self
                };
                let mut whole = Value::Object(Map::new());
                let mut other_resets = Vec::new();
                for document in loader.read(&other)? {
                    merge::merge(&mut whole, document.tree, &mut Vec::new());
                    other_resets.extend(document.resets);
                }
                match whole["services"].as_object() {
                    Some(services) if services.contains_key(base_name) => {
                        loader.extended(services, base_name, &other_resets, &other, chain)?
                    }
                    _ => return Err(not_found(&other)),
                }
            }
        };
        chain.pop();
        for reset in resets {
            if let [root, service, rest @ ..] = reset.as_slice()
                && root == "services"
                && service == name
            {
                merge::reset(&mut base, rest);
            }
        }
        let mut path = vec!["services".to_owned(), name.to_owned()];
        merge::merge(&mut base, service, &mut path);
        Ok(base)
    }
}

fn reset_all(tree: &mut Value, resets: &[Vec<String>]) {
    for reset in resets {
        merge::reset(tree, reset);
    }
}

fn text_of(file: &Path) -> Result<String, LoadError> {
    let failed = |error: std::io::Error| LoadError::Open {
        path: file.to_owned(),
        words: crate::words::of(&error),
    };
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(failed)?;
        return Ok(text);
    }
    std::fs::read_to_string(file).map_err(failed)
}

/// Returns the last `name:` that the files give, filled in.
pub(crate) fn name_of(files: &[PathBuf], environment: &Environment) -> Option<String> {
    let mut names = files
        .iter()
        .filter(|file| *file != Path::new("-"))
        .flat_map(|file| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let documents = yaml::parse(&text).unwrap_or_default();
            let names = documents.into_iter().filter_map(|document| {
                let name = document.value["name"].as_str()?.to_owned();
                interpolate::substitute(&name, environment).ok()
            });
            names.collect::<Vec<String>>()
        });
    names.rfind(|name| !name.is_empty())
}
