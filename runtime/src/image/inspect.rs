//! `image inspect`: an image in the shape of Docker's API.

use serde_json::Value;
use serde_json::json;

use super::Image;
use super::ImageError;
use crate::Engine;

impl Engine {
    /// Returns what `inspect` shows of an image.
    pub fn inspect_image(&self, name: &str) -> Result<Value, ImageError> {
        Ok(inspect(&self.image(name)?))
    }
}

/// Writes an image as `GET /images/<name>/json` does.
pub fn inspect(image: &Image) -> Value {
    let raw = &image.raw_config;
    let text = |key: &str| raw[key].as_str().unwrap_or_default().to_owned();
    let tags: Vec<String> = image.tags.iter().map(|tag| tag.familiar()).collect();
    let layers: Vec<String> = image.layers.iter().map(ToString::to_string).collect();
    let last_tagged = image
        .last_tagged
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or("0001-01-01T00:00:00Z".to_owned(), |at| at.to_string());
    let comment = raw["history"]
        .as_array()
        .and_then(|steps| steps.last())
        .and_then(|step| step["comment"].as_str())
        .unwrap_or_default();
    let mut shown = json!({
        "Id": image.id.to_string(),
        "RepoTags": tags,
        "RepoDigests": image.repo_digests,
        "Parent": "",
        "Comment": comment,
        "Created": image.created.clone().unwrap_or_else(|| "0001-01-01T00:00:00Z".to_owned()),
        "Container": text("container"),
        "ContainerConfig": container_config(&raw["container_config"]),
        "DockerVersion": text("docker_version"),
        "Author": text("author"),
        "Config": container_config(&raw["config"]),
        "Architecture": match raw["architecture"].as_str() {
            Some(architecture) => architecture.to_owned(),
            None => image.config.architecture().to_string(),
        },
        "Os": match raw["os"].as_str() {
            Some(os) => os.to_owned(),
            None => image.config.os().to_string(),
        },
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": {
            "Data": { "ChainId": image.chain_id.to_string() },
            "Name": "ply",
        },
        "RootFS": { "Type": "layers", "Layers": layers },
        "Metadata": { "LastTagTime": last_tagged },
    });
    if layers.is_empty()
        && let Some(rootfs) = shown["RootFS"].as_object_mut()
    {
        rootfs.remove("Layers");
    }
    if let Some(variant) = raw["variant"]
        .as_str()
        .filter(|variant| !variant.is_empty())
    {
        shown["Variant"] = variant.into();
    }
    shown
}

/// Fills a config's absent fields as Go's encoder writes them.
fn container_config(config: &Value) -> Value {
    let mut full = json!({
        "Hostname": "", "Domainname": "", "User": "",
        "AttachStdin": false, "AttachStdout": false, "AttachStderr": false,
        "Tty": false, "OpenStdin": false, "StdinOnce": false,
        "Env": null, "Cmd": null, "Image": "", "Volumes": null, "WorkingDir": "",
        "Entrypoint": null, "OnBuild": null, "Labels": null,
    });
    if let (Some(full), Some(config)) = (full.as_object_mut(), config.as_object()) {
        for (key, value) in config {
            full.insert(key.clone(), value.clone());
        }
    }
    full
}
