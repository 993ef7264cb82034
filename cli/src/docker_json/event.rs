//! An event.

use runtime::events::Event;
use serde_json::Value;
use serde_json::json;

/// Returns Docker's message.
pub(crate) fn event(event: &Event) -> Value {
    let mut message = json!({
        "Type": event.kind,
        "Action": event.action,
        "Actor": { "ID": event.id, "Attributes": event.attributes },
        "scope": "local",
        "time": event.time.as_second(),
        "timeNano": event.time.as_nanosecond() as i64,
        "status": event.action,
        "id": event.id,
    });
    if let Some(image) = event.attributes.get("image") {
        message["from"] = image.clone().into();
    }
    message
}
