//! `commit`: a container's changes as an image's new layer.

use std::io;
use std::io::BufWriter;
use std::io::PipeReader;
use std::io::Write;

use jiff::Timestamp;
use layerfs::DiffId;
use layerfs::ingest::Expect;
use layerfs::union::Change;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Config;
use super::Container;
use super::ContainerError;
use super::ContainerTree;
use super::Status;
use crate::Engine;
use crate::archive;
use crate::image::ImageError;
use crate::image::ImageId;
use crate::reference::Reference;
use crate::tree::HostTree;
use crate::tree::UnionTree;

/// What becomes of the container's changes.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// A name for the image.
    pub reference: Option<Reference>,
    /// Who made it.
    pub author: String,
    /// A remark for its history.
    pub message: String,
    /// Fields for its config, in Docker's names: lists of variables, labels, ports and volumes are added to the
    /// container's, the rest takes its place.
    pub config: Map<String, Value>,
    /// Dockerfile instructions for its config.
    pub changes: Vec<String>,
    /// Whether the container is frozen meanwhile, so that the layer shows one moment.
    pub pause: bool,
}

/// A container that is frozen until this is dropped.
struct Frozen<'a> {
    engine: &'a Engine,
    name: &'a str,
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.engine.unpause_container(self.name) {
            log::warn!("{}: {error}", self.name);
        }
    }
}

impl Engine {
    /// Makes an image of a container: its image's layers, and one of what it has changed.
    pub fn commit_container(
        &self,
        name: &str,
        options: &CommitOptions,
    ) -> Result<ImageId, ContainerError> {
        let container = self.container(name)?;
        let _lease = self.lease()?;
        let image = self.image(&container.config.image_id)?;
        // A bad change must not cost a layer.
        let mut inner = inner_config(&container.config, &image.raw_config);
        merge(&mut inner, &options.config);
        let inner = changed(inner, &options.changes)?;
        let layer = {
            let id = container.id.as_str();
            let freeze = options.pause && container.state.status == Status::Running;
            let _frozen = match freeze {
                true => Some(self.pause_container(id).map(|()| Frozen {
                    engine: self,
                    name: id,
                })?),
                false => None,
            };
            self.layer_of_changes(&container)?
        };
        let raw = new_config(&image.raw_config, &container, inner, layer, options);
        let id = self.add_image(&raw, options.reference.as_ref())?;
        let comment = [
            ("comment", options.message.clone()),
            ("imageID", id.to_string()),
        ];
        self.emit_of(&container, "commit", &comment);
        Ok(id)
    }

    /// Takes in what a container has changed as a layer; none if it has changed nothing.
    fn layer_of_changes(&self, container: &Container) -> Result<Option<DiffId>, ContainerError> {
        let changes = self.diff(container.id.as_str())?;
        if changes.is_empty() {
            return Ok(None);
        }
        let tree = self.container_tree(container.id.as_str())?;
        let (reader, writer) = io::pipe().map_err(ContainerError::io("pipe"))?;
        let (packed, taken_in) = std::thread::scope(|scope| {
            let packer = scope.spawn(|| pack(tree, &changes, writer));
            let taken_in = self.take_in(reader);
            let packed = packer
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the packer panicked")));
            (packed, taken_in)
        });
        // A tar that was not packed whole is no layer, even if it reads like one.
        packed.map_err(ContainerError::io(container.id.as_str()))?;
        taken_in.map(Some)
    }

    fn take_in(&self, reader: PipeReader) -> Result<DiffId, ContainerError> {
        let taken_in = self.store().ingest(reader, Expect::default());
        let taken_in = taken_in.map_err(|error| ContainerError::Image(ImageError::from(error)))?;
        Ok(taken_in.diff_id)
    }
}

fn pack(tree: ContainerTree, changes: &[Change], out: impl Write) -> io::Result<()> {
    let out = BufWriter::with_capacity(1 << 20, out);
    let mut out = match tree {
        ContainerTree::Running(running) => {
            let tree = HostTree::of_container(running.bare, running.first_user);
            archive::pack_changes(&tree, changes, None, out)?
        }
        ContainerTree::Stopped(stopped) => {
            archive::pack_changes(&UnionTree(stopped.union().clone()), changes, None, out)?
        }
    };
    out.flush()
}

/// Returns the `config` of an image whose containers begin like this one.
fn inner_config(config: &Config, image: &Value) -> Map<String, Value> {
    let mut inner = image["config"].as_object().cloned().unwrap_or_default();
    let mut set = |name: &str, value: Value| {
        inner.insert(name.to_owned(), value);
    };
    set("User", json!(config.user));
    set("Env", json!(config.env));
    set(
        "Cmd",
        json!((!config.command.is_empty()).then_some(&config.command)),
    );
    set("Entrypoint", json!(config.entrypoint));
    set("WorkingDir", json!(config.working_dir));
    set("Labels", json!(config.labels));
    if let Some(signal) = &config.stop_signal {
        set("StopSignal", json!(signal));
    }
    if let Some(check) = &config.healthcheck {
        set("Healthcheck", json!(check));
    }
    inner
}

/// Puts the fields that were given over a container's.
fn merge(inner: &mut Map<String, Value>, given: &Map<String, Value>) {
    let name = |entry: &Value| {
        let entry = entry.as_str().unwrap_or_default();
        entry.split('=').next().unwrap_or_default().to_owned()
    };
    // A command belongs to its entrypoint.
    if given.contains_key("Entrypoint") && !given.contains_key("Cmd") {
        inner.remove("Cmd");
    }
    for (key, value) in given {
        match (inner.get_mut(key), value) {
            (Some(Value::Object(there)), Value::Object(more)) => {
                there.extend(more.clone());
            }
            (Some(Value::Array(there)), Value::Array(more)) if key == "Env" => {
                there.retain(|entry| !more.iter().any(|it| name(it) == name(entry)));
                there.extend(more.iter().cloned());
            }
            _ => {
                inner.insert(key.clone(), value.clone());
            }
        }
    }
}

fn changed(
    mut inner: Map<String, Value>,
    changes: &[String],
) -> Result<Map<String, Value>, ContainerError> {
    for change in changes {
        crate::image::apply_change(&mut inner, change)?;
    }
    inner.retain(|_, value| !value.is_null());
    Ok(inner)
}

fn new_config(
    image: &Value,
    container: &Container,
    inner: Map<String, Value>,
    layer: Option<DiffId>,
    options: &CommitOptions,
) -> Value {
    let now = Timestamp::now().to_string();
    let mut raw = image.clone();
    let mut step = json!({
        "created": now,
        "created_by": container.config.arguments().join(" "),
    });
    if !options.author.is_empty() {
        step["author"] = json!(options.author);
        raw["author"] = json!(options.author);
    }
    if !options.message.is_empty() {
        step["comment"] = json!(options.message);
    }
    match layer {
        Some(layer) => {
            if let Some(layers) = raw["rootfs"]["diff_ids"].as_array_mut() {
                layers.push(json!(layer.to_string()));
            }
        }
        None => step["empty_layer"] = json!(true),
    }
    match raw["history"].as_array_mut() {
        Some(history) => history.push(step),
        None => raw["history"] = json!([step]),
    }
    raw["config"] = Value::Object(inner);
    raw["container"] = json!(container.id.as_str());
    raw["created"] = json!(now);
    raw["comment"] = json!(options.message);
    raw
}
