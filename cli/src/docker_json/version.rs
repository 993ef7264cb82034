//! The engine's version and what it runs on.

use serde_json::Value;
use serde_json::json;

/// Returns the fields that a client and a server have in common.
pub(crate) fn version() -> Value {
    let kernel = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let platform = runtime::image::Platform::host().to_string();
    let mut parts = platform.splitn(2, '/');
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "Os": parts.next().unwrap_or_default(),
        "Arch": parts.next().unwrap_or_default(),
        "KernelVersion": kernel,
        "ApiVersion": crate::serve::newest_version(),
        // Clients and scripts that were written for Docker's expect these two.
        "GitCommit": "",
        "GoVersion": "",
    })
}
