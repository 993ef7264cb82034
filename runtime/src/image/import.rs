//! `import`: one layer from any tar makes an image.

use std::io::Read;

use layerfs::ingest::Expect;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::ImageError;
use super::ImageId;
use super::change;
use super::config;
use super::platform::Platform;
use super::rows;
use crate::Engine;
use crate::reference::Reference;
use crate::registry;

/// What becomes of the tar.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// A name for the image.
    pub reference: Option<Reference>,
    /// Dockerfile instructions for its config.
    pub changes: Vec<String>,
    /// A remark for its history.
    pub message: String,
    /// The platform it is for; this machine's if none is stated.
    pub platform: Option<Platform>,
}

/// Where the tar comes from.
pub enum ImportSource<'a> {
    /// A stream, and how its history names it.
    Stream(&'a mut (dyn Read + Send), String),
    /// An address to fetch.
    Url(String),
}

impl Engine {
    /// Makes an image of one layer from a tar, compressed or not.
    pub fn import(
        &self,
        source: ImportSource<'_>,
        options: &ImportOptions,
    ) -> Result<ImageId, ImageError> {
        // A bad change must not cost a download.
        let mut inner = Map::new();
        for instruction in &options.changes {
            change::apply(&mut inner, instruction)?;
        }
        let _lease = self.lease()?;
        let (layer, from) = match source {
            ImportSource::Stream(stream, from) => {
                (self.store().ingest(stream, Expect::default())?, from)
            }
            ImportSource::Url(url) => {
                let body = registry::download(&url, &registry::Settings::default())?;
                (self.store().ingest(body, Expect::default())?, url)
            }
        };
        let layer = layer.diff_id;
        let now = jiff::Timestamp::now().to_string();
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        let comment = match options.message.is_empty() {
            true => format!("Imported from {from}"),
            false => options.message.clone(),
        };
        let mut raw = json!({
            "architecture": platform.architecture,
            "comment": comment,
            "config": Value::Object(inner),
            "created": now,
            "history": [{ "created": now, "comment": comment }],
            "os": platform.os,
            "rootfs": { "type": "layers", "diff_ids": [layer.to_string()] },
        });
        if let Some(variant) = platform.variant {
            raw["variant"] = variant.into();
        }
        let id = self.add_image(&raw, options.reference.as_ref())?;
        let name = id.to_string();
        self.emit_image("import", &name, &name);
        Ok(id)
    }

    /// Adds an image with this config, whose layers are here, and names it.
    pub(crate) fn add_image(
        &self,
        raw: &Value,
        reference: Option<&Reference>,
    ) -> Result<ImageId, ImageError> {
        let bytes = raw.to_string().into_bytes();
        let parsed = config::parse(&bytes)?;
        let row = self.prepare_image(&bytes, &parsed)?;
        let mut db = self.db();
        let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        rows::add_image(&transaction, &row, &parsed.layers)?;
        if let Some(reference) = reference {
            let full = reference.or_latest();
            let tag = full.tag().ok_or_else(|| {
                ImageError::Malformed("refusing to create a tag with a digest reference".into())
            })?;
            rows::set_tag(&transaction, &full.repository(), tag, &row.id)?;
        }
        transaction.commit()?;
        drop(db);
        if let Some(reference) = reference {
            let name = reference.or_latest().familiar();
            self.emit_image("tag", &row.id.to_string(), &name);
        }
        Ok(row.id)
    }
}
