//! Reading an image's config.

use layerfs::DiffId;
use layerfs::Digest;
use oci_spec::image::ImageConfiguration;
use serde_json::Value;

use super::ImageError;

/// More layers than any builder makes; a bound on work, not a rule.
pub(super) const MOST_LAYERS: usize = 1024;
/// The largest config that is read; JSON takes some ten times its size in memory.
pub(super) const LARGEST_CONFIG: u64 = 4 << 20;

/// A config that was checked: JSON of the right shape with valid diff IDs.
#[derive(Debug, Clone)]
pub(super) struct ParsedConfig {
    pub(super) config: ImageConfiguration,
    pub(super) raw: Value,
    pub(super) layers: Vec<DiffId>,
    pub(super) digest: Digest,
}

/// Reads the bytes of a config.
pub(super) fn parse(bytes: &[u8]) -> Result<ParsedConfig, ImageError> {
    let malformed = |what: &str| ImageError::Malformed(format!("invalid image config: {what}"));
    let raw: Value =
        serde_json::from_slice(bytes).map_err(|error| malformed(&error.to_string()))?;
    if !raw.is_object() {
        return Err(malformed("not an object"));
    }
    let mut lenient = raw.clone();
    drop_nulls(&mut lenient);
    if let Some(object) = lenient.as_object_mut() {
        // Older builders leave these out; Docker takes the host's.
        for (key, value) in [
            ("architecture", std::env::consts::ARCH),
            ("os", std::env::consts::OS),
        ] {
            if !object.get(key).is_some_and(|value| value.is_string()) {
                let value = super::platform::goarch(value);
                object.insert(key.into(), value.into());
            }
        }
    }
    if lenient.get("rootfs").is_none() {
        return Err(malformed("invalid rootfs in image configuration"));
    }
    let config: ImageConfiguration =
        serde_json::from_value(lenient).map_err(|error| malformed(&error.to_string()))?;
    let layers = config
        .rootfs()
        .diff_ids()
        .iter()
        .map(|id| id.parse().map(DiffId))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(&error.to_string()))?;
    if layers.len() > MOST_LAYERS {
        return Err(malformed(&format!(
            "{} layers, more than {MOST_LAYERS}",
            layers.len()
        )));
    }
    Ok(ParsedConfig {
        config,
        raw,
        layers,
        digest: Digest::of(bytes),
    })
}

/// Removes every `null` of an object: Go writes them for what is empty.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(drop_nulls);
        }
        Value::Array(array) => {
            array.retain(|value| !value.is_null());
            array.iter_mut().for_each(drop_nulls);
        }
        _ => {}
    }
}
