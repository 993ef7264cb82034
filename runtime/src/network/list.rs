//! Finding networks.

use std::collections::BTreeSet;

use jiff::Timestamp;
use regex::Regex;

use super::Network;
use super::NetworkError;
use super::rows;
use crate::Engine;
use crate::container::name_pattern;

/// Which networks are wanted: each given field must fit; several values of one field are alternatives.
#[derive(Debug, Clone, Default)]
pub struct NetworkFilter {
    ids: Vec<String>,
    names: Vec<Regex>,
    labels: Vec<String>,
    unwanted_labels: Vec<String>,
    drivers: Vec<String>,
    types: Vec<bool>,
    scopes: Vec<String>,
    dangling: Option<bool>,
    until: Option<Timestamp>,
}

impl NetworkFilter {
    /// Adds one `key=value`.
    pub fn add(&mut self, filter: &str) -> Result<(), NetworkError> {
        let invalid = |what: &str| NetworkError::Invalid(format!("invalid filter '{what}'"));
        let (key, value) = filter.split_once('=').ok_or_else(|| invalid(filter))?;
        let value = value.to_owned();
        match key {
            "id" => self.ids.push(value),
            "name" => self.names.push(name_pattern(&value)),
            "label" => self.labels.push(value),
            "label!" => self.unwanted_labels.push(value),
            "driver" => self.drivers.push(value),
            "scope" => self.scopes.push(value),
            "type" => match value.as_str() {
                "builtin" => self.types.push(true),
                "custom" => self.types.push(false),
                _ => return Err(invalid(&format!("type={value}"))),
            },
            "dangling" => match value.as_str() {
                "true" | "1" => self.dangling = Some(true),
                "false" | "0" => self.dangling = Some(false),
                _ => return Err(invalid(&format!("dangling={value}"))),
            },
            key => return Err(invalid(key)),
        }
        Ok(())
    }

    /// Leaves only those that were made before this time.
    pub fn made_before(&mut self, time: Timestamp) {
        self.until = Some(time);
    }

    pub(super) fn fits(&self, network: &Network, used: &BTreeSet<String>) -> bool {
        let any = |values: &[String], fits: &dyn Fn(&str) -> bool| {
            values.is_empty() || values.iter().any(|value| fits(value))
        };
        let labels = &network.config.labels;
        let has_label = |label: &String| match label.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|it| it == value),
            None => labels.contains_key(label),
        };
        let is_dangling = !network.is_predefined() && !used.contains(&network.name);
        any(&self.ids, &|id| network.id.as_str().starts_with(id))
            && (self.names.is_empty() || self.names.iter().any(|name| name.is_match(&network.name)))
            && any(&self.drivers, &|driver| {
                network.config.driver.as_str() == driver
            })
            && any(&self.scopes, &|scope| scope == "local")
            && (self.types.is_empty() || self.types.contains(&network.is_predefined()))
            && self.labels.iter().all(has_label)
            && !self.unwanted_labels.iter().any(has_label)
            && self.dangling.is_none_or(|wanted| wanted == is_dangling)
            && self.until.is_none_or(|until| network.created < until)
    }
}

impl Engine {
    /// Finds a network by name, id or the unique beginning of an id.
    pub fn network(&self, name: &str) -> Result<Network, NetworkError> {
        rows::find(&self.db(), name)
    }

    /// Returns the networks that fit, by name.
    pub fn networks(&self, filter: &NetworkFilter) -> Result<Vec<Network>, NetworkError> {
        self.bury_the_dead()?;
        let used = self.networks_in_use()?;
        let mut networks = rows::all(&self.db())?;
        networks.retain(|network| filter.fits(network, &used));
        Ok(networks)
    }

    /// Returns the names of the networks that some container is on or will be on when it is started.
    pub(super) fn networks_in_use(&self) -> Result<BTreeSet<String>, NetworkError> {
        let containers = crate::container::rows::all(&self.db())?;
        let attachments = containers.into_iter().flat_map(|it| it.config.networks);
        Ok(attachments.map(|attachment| attachment.network).collect())
    }
}
