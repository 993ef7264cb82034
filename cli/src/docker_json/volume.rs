//! A volume.

use std::collections::BTreeMap;

use runtime::volume::DRIVER;
use runtime::volume::Volume;
use serde_json::Value;
use serde_json::json;

/// Returns a volume as Docker's `inspect` shows it.
pub(crate) fn volume(volume: &Volume) -> Value {
    let nullable = |map: &BTreeMap<String, String>| match map.is_empty() {
        true => Value::Null,
        false => json!(map),
    };
    json!({
        "CreatedAt": volume.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "Driver": DRIVER,
        "Labels": nullable(&volume.labels),
        "Mountpoint": volume.mountpoint.display().to_string(),
        "Name": volume.name,
        "Options": nullable(&volume.driver_opts),
        "Scope": "local",
    })
}
