//! The engine's version and what it runs on.

use serde_json::Value;
use serde_json::json;

/// Returns the fields that a client and a server have in common.
fn version() -> Value {
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

/// Returns `GET /version`, and the server's half of what `version` shows.
pub(crate) fn server_version() -> Value {
    let mut version = version();
    let details = json!({
        "ApiVersion": version["ApiVersion"],
        "Arch": version["Arch"],
        "Experimental": "false",
        "KernelVersion": version["KernelVersion"],
        "MinAPIVersion": crate::serve::oldest_version(),
        "Os": version["Os"],
    });
    let component = json!({ "Name": "Engine", "Version": version["Version"], "Details": details });
    version["Platform"] = json!({ "Name": "ply" });
    version["Components"] = json!([component]);
    version["MinAPIVersion"] = crate::serve::oldest_version().into();
    version
}

/// Returns the client's half of what `version` shows.
pub(crate) fn client_version() -> Value {
    let mut version = version();
    version["Platform"] = json!({ "Name": "ply" });
    version["DefaultAPIVersion"] = version["ApiVersion"].clone();
    version["BuildTime"] = "".into();
    version["Context"] = "default".into();
    version["Experimental"] = true.into();
    version
}
