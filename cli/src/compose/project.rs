//! A project: found, loaded, completed, decoded, checked.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde_json::Map;
use serde_json::Value;

use super::LoadError;
use super::check;
use super::dotenv;
use super::environment;
use super::environment::Environment;
use super::interpolate::Variables as _;
use super::loader;
use super::loader::Loader;
use super::model::FileSource;
use super::model::Network;
use super::model::Service;
use super::model::Volume;
use super::normalize;
use super::paths;

const FILES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
];
const OVERRIDES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// How a project is found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// `-f`, `-` being standard input.
    pub(crate) files: Vec<PathBuf>,
    /// `-p`
    pub(crate) name: Option<String>,
    /// `--profile`
    pub(crate) profiles: Vec<String>,
    /// `--env-file`
    pub(crate) env_files: Vec<PathBuf>,
    /// `--project-directory`
    pub(crate) directory: Option<PathBuf>,
    /// Leaves variables as they stand.
    pub(crate) no_interpolation: bool,
    /// Shows what files say, not what follows from it.
    pub(crate) no_normalization: bool,
    /// Leaves relative paths as they stand.
    pub(crate) no_path_resolution: bool,
    /// Does not look whether references lead anywhere.
    pub(crate) no_consistency: bool,
    /// Keeps resources that no service uses.
    pub(crate) keep_unused: bool,
    /// `--compatibility`: names as version 1 of Compose made them.
    pub(crate) compatible: bool,
}

/// Where a project is: its files are found, not read.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) environment: Environment,
    directory: PathBuf,
    files: Vec<PathBuf>,
}

/// A project.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) name: String,
    /// What stands between the parts of containers' and images' names.
    pub(crate) separator: char,
    pub(crate) directory: PathBuf,
    pub(crate) files: Vec<PathBuf>,
    /// The services that are wanted.
    pub(crate) services: BTreeMap<String, Service>,
    /// Those whose profiles are not.
    pub(crate) disabled: BTreeMap<String, Service>,
    pub(crate) networks: BTreeMap<String, Network>,
    pub(crate) volumes: BTreeMap<String, Volume>,
    pub(crate) secrets: BTreeMap<String, FileSource>,
    pub(crate) configs: BTreeMap<String, FileSource>,
    pub(crate) environment: Environment,
    /// The canonical tree.
    pub(crate) tree: Value,
}

impl Place {
    /// Finds a project's directory, variables and files.
    pub(crate) fn find(options: &Options) -> Result<Place, LoadError> {
        let mut environment = Environment::of_process();
        let here = std::env::current_dir().map_err(|error| LoadError::Open {
            path: ".".into(),
            words: crate::words::of(&error),
        })?;
        let mut directory = options
            .directory
            .as_ref()
            .map(|it| paths::clean(&here.join(it)));
        let mut files = options.files.clone();
        let first = |files: &[PathBuf]| -> Option<PathBuf> {
            let first = files.first().filter(|file| *file != Path::new("-"))?;
            paths::clean(&here.join(first)).parent().map(Path::to_owned)
        };
        let mut env_files = options.env_files.clone();
        if env_files.is_empty() {
            let listed = environment.get("COMPOSE_ENV_FILES").unwrap_or_default();
            let listed = listed.split(',').filter(|file| !file.is_empty());
            env_files.extend(listed.map(PathBuf::from));
        }
        environment.add_files(env_files.iter().map(|file| here.join(file)))?;
        let add_default = |environment: &mut Environment, directory: &Path| {
            let is_off = environment.is_true("COMPOSE_DISABLE_ENV_FILE");
            let file = directory.join(".env");
            match env_files.is_empty() && !is_off && file.is_file() {
                true => environment.add_files([file]),
                false => Ok(()),
            }
        };
        let start = directory
            .clone()
            .or_else(|| first(&files))
            .unwrap_or_else(|| here.clone());
        add_default(&mut environment, &start)?;
        if files.is_empty()
            && let Some(listed) = environment.non_empty("COMPOSE_FILE")
        {
            let separator = environment
                .non_empty("COMPOSE_PATH_SEPARATOR")
                .unwrap_or(":");
            files = listed.split(separator).map(PathBuf::from).collect();
        }
        if files.is_empty() {
            files = search(&start);
        }
        for file in &mut files {
            if file != Path::new("-") {
                *file = paths::clean(&here.join(&file));
            }
        }
        let directory = directory.take().or_else(|| first(&files)).unwrap_or(here);
        if directory != start {
            add_default(&mut environment, &directory)?;
        }
        Ok(Place {
            environment,
            directory,
            files,
        })
    }

    /// Whether the project has a name whatever its files say.
    pub(crate) fn is_named(&self, options: &Options) -> bool {
        options.name.is_some() || self.environment.non_empty("COMPOSE_PROJECT_NAME").is_some()
    }

    /// Returns the project's name.
    pub(crate) fn name(&self, options: &Options) -> Result<String, LoadError> {
        let asked = options.name.as_deref().filter(|name| !name.is_empty());
        if let Some(name) = asked.or(self.environment.non_empty("COMPOSE_PROJECT_NAME")) {
            return match name == normalized(name) {
                true => Ok(name.to_owned()),
                false => Err(LoadError::ProjectName(name.to_owned())),
            };
        }
        let last = self.directory.file_name().unwrap_or_default();
        let name = loader::name_of(&self.files, &self.environment)
            .unwrap_or_else(|| last.to_string_lossy().into_owned());
        match normalized(&name) {
            name if name.is_empty() => Err(LoadError::NoName),
            name => Ok(name),
        }
    }

    /// Reads the files to one tree; returns it with the project's name.
    pub(crate) fn tree(&mut self, options: &Options) -> Result<(String, Value), LoadError> {
        if self.files.is_empty() {
            return Err(LoadError::NoFile);
        }
        let name = self.name(options)?;
        self.environment.set("COMPOSE_PROJECT_NAME", &name);
        let loader = Loader {
            environment: &self.environment,
            interpolates: !options.no_interpolation,
            makes_absolute: !options.no_path_resolution,
            directory: &self.directory,
        };
        let tree = loader.load(&self.files, &[])?;
        if tree.as_object().is_none_or(Map::is_empty) {
            return Err(LoadError::Empty);
        }
        Ok((name, tree))
    }

    /// Loads the project; `selected` services are wanted whatever their profiles.
    pub(crate) fn load(
        mut self,
        options: &Options,
        selected: &[String],
    ) -> Result<Project, LoadError> {
        let (name, mut tree) = self.tree(options)?;
        let mut raw = tree.clone();
        normalize::normalize(&mut tree, &name, &self.environment);
        raw["name"] = name.as_str().into();
        let is_compatible = options.compatible || self.environment.is_true("COMPOSE_COMPATIBILITY");
        let mut project = Project {
            name,
            separator: if is_compatible { '_' } else { '-' },
            services: decoded(&tree, "services")?,
            disabled: BTreeMap::new(),
            networks: decoded(&tree, "networks")?,
            volumes: decoded(&tree, "volumes")?,
            secrets: decoded(&tree, "secrets")?,
            configs: decoded(&tree, "configs")?,
            directory: self.directory,
            files: self.files,
            environment: self.environment,
            tree: if options.no_normalization { raw } else { tree },
        };
        project.choose(&options.profiles, selected)?;
        if !options.no_consistency {
            check::consistency(&project)?;
        }
        if !options.keep_unused {
            project.drop_unused();
        }
        Ok(project)
    }
}

/// Looks for a compose file in a directory and those above it.
fn search(start: &Path) -> Vec<PathBuf> {
    let first = |names: &[&str], directory: &Path| {
        let mut found = names.iter().map(|name| directory.join(name));
        found.find(|file| file.exists())
    };
    for directory in start.ancestors() {
        if let Some(file) = first(&FILES, directory) {
            return std::iter::once(file)
                .chain(first(&OVERRIDES, directory))
                .collect();
        }
    }
    Vec::new()
}

/// Returns what of a name can be a project's.
fn normalized(name: &str) -> String {
    let lower = name.to_lowercase();
    let kept: String = lower
        .chars()
        .filter(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || "_-".contains(*it))
        .collect();
    kept.trim_start_matches(['_', '-']).to_owned()
}

fn decoded<T: DeserializeOwned>(
    tree: &Value,
    kind: &str,
) -> Result<BTreeMap<String, T>, LoadError> {
    let mut all = BTreeMap::new();
    for (name, value) in tree[kind].as_object().into_iter().flatten() {
        let is_extension = name.starts_with("x-") && kind != "services";
        let item = serde_json::from_value(value.clone());
        match item {
            Ok(item) => all.insert(name.clone(), item),
            Err(_) if is_extension => None,
            Err(error) => {
                return Err(LoadError::Decode {
                    place: format!("{kind}.{name}"),
                    words: error.to_string(),
                });
            }
        };
    }
    Ok(all)
}

impl Project {
    /// Sets aside the services whose profiles are not wanted.
    fn choose(&mut self, profiles: &[String], selected: &[String]) -> Result<(), LoadError> {
        let mut wanted: BTreeSet<String> = profiles.iter().cloned().collect();
        if wanted.is_empty()
            && let Some(listed) = self.environment.non_empty("COMPOSE_PROFILES")
        {
            wanted.extend(listed.split(',').map(|profile| profile.trim().to_owned()));
        }
        for name in selected {
            match self.services.get(name) {
                Some(service) => wanted.extend(service.profiles.iter().cloned()),
                None => return Err(LoadError::NoService(name.clone())),
            }
        }
        let all = std::mem::take(&mut self.services);
        for (name, service) in all {
            let is_wanted = service.profiles.is_empty()
                || wanted.contains("*")
                || service
                    .profiles
                    .iter()
                    .any(|profile| wanted.contains(profile));
            match is_wanted {
                true => self.services.insert(name, service),
                false => self.disabled.insert(name, service),
            };
        }
        let disabled = &self.disabled;
        if let Some(services) = self.tree["services"].as_object_mut() {
            services.retain(|name, _| !disabled.contains_key(name));
        }
        Ok(())
    }

    /// Puts what `env_file` and `label_file` of services name below their `environment` and `labels`.
    ///
    /// Only who makes containers of them, or shows them, needs the files.
    pub(crate) fn read_env_files(&mut self, services: &[String]) -> Result<(), LoadError> {
        let wanted = self.services.iter_mut();
        for (name, service) in wanted.filter(|(name, _)| services.contains(name)) {
            let mut from_files = BTreeMap::new();
            for file in &service.env_file {
                let path = &self.directory.join(&file.path);
                if !file.required && !path.exists() {
                    continue;
                }
                let variables = match file.format.as_deref() {
                    None => environment::read(path, &self.environment)?,
                    Some("raw") => {
                        let text = std::fs::read_to_string(path);
                        let text = text.map_err(|error| LoadError::EnvFile {
                            path: path.to_owned(),
                            words: crate::words::of(&error),
                        })?;
                        dotenv::parse_raw(&text, &self.environment)
                    }
                    Some(other) => return Err(LoadError::EnvFormat(other.to_owned())),
                };
                from_files.extend(variables);
            }
            let mut labels = BTreeMap::new();
            for file in &service.label_file {
                labels.extend(environment::read(
                    &self.directory.join(file),
                    &self.environment,
                )?);
            }
            let fields = &mut self.tree["services"][name];
            fill_below(&mut service.environment, from_files, fields, "environment");
            fill_below(&mut service.labels, labels, fields, "labels");
            if let Some(fields) = fields.as_object_mut() {
                fields.shift_remove("env_file");
                fields.shift_remove("label_file");
            }
        }
        Ok(())
    }

    /// Forgets the resources that no wanted service uses.
    fn drop_unused(&mut self) {
        let services = || self.services.values();
        let networks: BTreeSet<&String> = services().flat_map(|it| it.networks.keys()).collect();
        let volumes: BTreeSet<&String> = services()
            .flat_map(|it| &it.volumes)
            .filter(|mount| mount.kind == "volume")
            .filter_map(|mount| mount.source.as_ref())
            .collect();
        let secrets: BTreeSet<&String> = services()
            .flat_map(|it| {
                it.secrets
                    .iter()
                    .chain(it.build.iter().flat_map(|it| &it.secrets))
            })
            .map(|mount| &mount.source)
            .collect();
        let configs: BTreeSet<&String> = services()
            .flat_map(|it| &it.configs)
            .map(|mount| &mount.source)
            .collect();
        self.networks.retain(|name, _| networks.contains(name));
        self.volumes.retain(|name, _| volumes.contains(name));
        self.secrets.retain(|name, _| secrets.contains(name));
        self.configs.retain(|name, _| configs.contains(name));
        let used = [
            ("networks", networks),
            ("volumes", volumes),
            ("secrets", secrets),
            ("configs", configs),
        ];
        for (kind, used) in used {
            if let Some(map) = self.tree.get_mut(kind).and_then(Value::as_object_mut) {
                map.retain(|name, _| used.contains(name));
                if map.is_empty()
                    && let Some(tree) = self.tree.as_object_mut()
                {
                    tree.shift_remove(kind);
                }
            }
        }
    }

    /// Returns the names of the services that are asked for, or all of them.
    pub(crate) fn selected(&self, names: &[String]) -> Result<Vec<String>, LoadError> {
        if names.is_empty() {
            return Ok(self.services.keys().cloned().collect());
        }
        for name in names {
            if !self.services.contains_key(name) {
                return Err(LoadError::NoService(name.clone()));
            }
        }
        Ok(names.to_vec())
    }

    /// Adds the services that these depend on.
    pub(crate) fn with_dependencies(&self, names: &[String]) -> Vec<String> {
        let mut all: BTreeSet<String> = names.iter().cloned().collect();
        let mut open: Vec<String> = names.to_vec();
        while let Some(name) = open.pop() {
            let needs = self.services.get(&name).map(|service| &service.depends_on);
            for other in needs.into_iter().flat_map(|needs| needs.keys()) {
                if self.services.contains_key(other) && all.insert(other.clone()) {
                    open.push(other.clone());
                }
            }
        }
        all.into_iter().collect()
    }
}

/// Adds variables that are not there yet, to the model and to the tree.
fn fill_below(
    map: &mut BTreeMap<String, Option<String>>,
    below: BTreeMap<String, String>,
    fields: &mut Value,
    key: &str,
) {
    for (name, value) in below {
        map.entry(name).or_insert(Some(value));
    }
    if !map.is_empty() {
        let pairs = map
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into()));
        fields[key] = Value::Object(pairs.collect());
    }
}
