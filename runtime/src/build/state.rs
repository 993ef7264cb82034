//! A stage as it is after a step: its layers, and the config of the image that it would be.

use layerfs::ChainId;
use layerfs::DiffId;
use layerfs::Digest;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::image::Image;
use crate::image::ImageId;
use crate::image::Platform;

/// What `RUN`, `CMD` and `ENTRYPOINT` lines are given to, where `SHELL` says nothing.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// A stage after a step.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// Lowest first.
    pub(super) layers: Vec<DiffId>,
    /// The image's config, whole.
    pub(super) image: Map<String, Value>,
    /// The image that the stage began with, as long as no step has changed it.
    pub(super) base: Option<ImageId>,
    /// What `ARG`s have declared, the last one of a name; without a value they stay unset.
    pub(super) args: Vec<(String, Option<String>)>,
    /// Whether the stage itself has said `CMD`.
    pub(super) cmd_is_set: bool,
}

impl State {
    /// Begins with nothing.
    pub(super) fn scratch(platform: &Platform) -> State {
        let mut image = Map::new();
        image.insert("architecture".into(), platform.architecture.as_str().into());
        image.insert("os".into(), platform.os.as_str().into());
        if let Some(variant) = &platform.variant {
            image.insert("variant".into(), variant.as_str().into());
        }
        image.insert("config".into(), json!({}));
        image.insert("history".into(), json!([]));
        image.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": [] }));
        State {
            layers: Vec::new(),
            image,
            base: None,
            args: Vec::new(),
            cmd_is_set: false,
        }
    }

    /// Begins with an image.
    pub(super) fn of_image(image: &Image) -> State {
        let mut raw = image.raw_config.as_object().cloned().unwrap_or_default();
        // What its builder has said of itself.
        for key in [
            "container",
            "container_config",
            "docker_version",
            "comment",
            "id",
            "parent",
        ] {
            raw.remove(key);
        }
        if !raw.get("config").is_some_and(Value::is_object) {
            raw.insert("config".into(), json!({}));
        }
        if !raw.get("history").is_some_and(Value::is_array) {
            raw.insert("history".into(), json!([]));
        }
        State {
            layers: image.layers.clone(),
            image: raw,
            base: Some(image.id),
            args: Vec::new(),
            cmd_is_set: false,
        }
    }

    /// Begins with another stage.
    pub(super) fn of_stage(other: &State) -> State {
        State {
            args: Vec::new(),
            cmd_is_set: false,
            ..other.clone()
        }
    }

    /// Returns the name of the layers together.
    pub(super) fn chain(&self) -> String {
        match self.layers.is_empty() {
            true => "scratch".to_owned(),
            false => ChainId::of(&self.layers).to_string(),
        }
    }

    /// Returns the image's name.
    pub(super) fn image_id(&self) -> ImageId {
        let own = || ImageId(Digest::of(&self.bytes()));
        self.base.unwrap_or_else(own)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        Value::Object(self.image.clone()).to_string().into_bytes()
    }

    /// Returns the part of the config that containers begin with.
    pub(super) fn config(&mut self) -> &mut Map<String, Value> {
        let config = self.image.entry("config").or_insert_with(|| json!({}));
        if !config.is_object() {
            *config = json!({});
        }
        match config {
            Value::Object(config) => config,
            _ => unreachable!("made an object above"),
        }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.image.get("config")?.get(key)
    }

    pub(super) fn text(&self, key: &str) -> &str {
        self.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns a list of words of the config.
    pub(super) fn words(&self, key: &str) -> Vec<String> {
        let list = self.get(key).and_then(Value::as_array);
        let words = list.into_iter().flatten().filter_map(Value::as_str);
        words.map(str::to_owned).collect()
    }

    pub(super) fn env(&self) -> Vec<String> {
        self.words("Env")
    }

    /// Adds the usual `PATH` to the variables of a base that has none, as Docker does with the first step on it.
    pub(super) fn set_default_path(&mut self) {
        let mut env = self.env();
        if !env.iter().any(|variable| variable.starts_with("PATH=")) {
            env.push(format!("PATH={}", crate::sandbox::DEFAULT_PATH));
            self.config().insert("Env".into(), json!(env));
        }
    }

    pub(super) fn working_dir(&self) -> &str {
        match self.text("WorkingDir") {
            "" => "/",
            directory => directory,
        }
    }

    pub(super) fn shell(&self) -> Vec<String> {
        match self.words("Shell") {
            words if words.is_empty() => SHELL.map(str::to_owned).to_vec(),
            words => words,
        }
    }

    /// Takes the triggers that the base has left.
    pub(super) fn take_triggers(&mut self) -> Vec<String> {
        let triggers = self.words("OnBuild");
        self.config().remove("OnBuild");
        triggers
    }

    /// Returns a variable's value: of the environment, else of an argument.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let of_env = |entry: &String| {
            let (known, value) = entry.split_once('=')?;
            (known == name).then(|| value.to_owned())
        };
        if let Some(value) = self.env().iter().rev().find_map(of_env) {
            return Some(value);
        }
        let arg = self.args.iter().find(|(known, _)| known == name);
        arg.and_then(|(_, value)| value.clone())
    }

    /// Sets a variable where it stands, or as the last.
    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        let mut env = self.env();
        let entry = format!("{name}={value}");
        let is_it = |there: &&mut String| there.split('=').next() == Some(name);
        match env.iter_mut().find(is_it) {
            Some(there) => *there = entry,
            None => env.push(entry),
        }
        self.config().insert("Env".into(), json!(env));
    }

    /// Declares an argument.
    pub(super) fn set_arg(&mut self, name: &str, value: Option<String>) {
        self.args.retain(|(known, _)| known != name);
        self.args.push((name.to_owned(), value));
    }

    /// Returns the arguments that a command sees, which no variable hides, sorted: `name=value`.
    pub(super) fn effective_args(&self) -> Vec<String> {
        let env = self.env();
        let is_hidden = |name: &str| {
            env.iter()
                .any(|entry| entry.split('=').next() == Some(name))
        };
        let mut args: Vec<String> = self
            .args
            .iter()
            .filter(|(name, _)| !is_hidden(name))
            .filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)))
            .collect();
        args.sort();
        args
    }

    /// Returns an object within the config, made if it is not there.
    pub(super) fn object(&mut self, key: &str) -> &mut Map<String, Value> {
        let slot = self.config().entry(key).or_insert_with(|| json!({}));
        if !slot.is_object() {
            *slot = json!({});
        }
        match slot {
            Value::Object(map) => map,
            _ => unreachable!("made an object above"),
        }
    }

    /// Adds a step's layer and its line of history.
    pub(super) fn commit(&mut self, created: &str, created_by: &str, layer: Option<DiffId>) {
        self.base = None;
        let mut line = json!({ "created": created, "created_by": created_by });
        match layer {
            Some(layer) => {
                self.layers.push(layer);
                let all: Vec<String> = self.layers.iter().map(ToString::to_string).collect();
                let rootfs = json!({ "type": "layers", "diff_ids": all });
                self.image.insert("rootfs".into(), rootfs);
            }
            None => line["empty_layer"] = json!(true),
        }
        if let Some(author) = self.image.get("author").and_then(Value::as_str) {
            line["author"] = json!(author);
        }
        match self.image.get_mut("history").and_then(Value::as_array_mut) {
            Some(history) => history.push(line),
            None => drop(self.image.insert("history".into(), json!([line]))),
        }
        self.image.insert("created".into(), json!(created));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_hide_arguments_and_keep_their_place() {
        let mut state = State::scratch(&Platform::host());
        state.set_env("A", "1");
        state.set_env("B", "2");
        state.set_env("A", "3");
        assert_eq!(state.env(), ["A=3", "B=2"]);
        state.set_arg("A", Some("x".into()));
        state.set_arg("Z", Some("z".into()));
        state.set_arg("C", None);
        assert_eq!(state.variable("A").as_deref(), Some("3"));
        assert_eq!(state.variable("C"), None);
        assert_eq!(state.effective_args(), ["Z=z"]);
    }
}
