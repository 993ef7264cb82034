//! A container's events.

use std::collections::BTreeMap;
use std::path::Path;

use super::Config;
use super::Container;
use super::ContainerId;
use crate::Engine;
use crate::events;

/// Tells those who watch what has happened to a container.
pub(crate) fn announce(
    run: &Path,
    action: &str,
    id: &ContainerId,
    name: &str,
    config: &Config,
    more: &[(&str, String)],
) {
    if config.of_build {
        return;
    }
    let mut attributes: BTreeMap<String, String> = config
        .labels
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    attributes.insert("image".to_owned(), config.image.clone());
    attributes.insert("name".to_owned(), name.to_owned());
    for (name, value) in more {
        attributes.insert((*name).to_owned(), value.clone());
    }
    events::emit(run, "container", action, id.as_str(), attributes);
}

impl Engine {
    pub(super) fn emit_container(
        &self,
        action: &str,
        id: &ContainerId,
        name: &str,
        config: &Config,
        more: &[(&str, String)],
    ) {
        announce(self.run_dir(), action, id, name, config, more);
    }

    pub(crate) fn emit_of(&self, container: &Container, action: &str, more: &[(&str, String)]) {
        self.emit_container(
            action,
            &container.id,
            &container.name,
            &container.config,
            more,
        );
    }
}
