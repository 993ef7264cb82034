//! The images' tables, and the queries on them.

use layerfs::DiffId;
use layerfs::Digest;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Transaction;
use rusqlite::params;

use super::ImageError;
use super::ImageId;
use crate::reference::Reference;

/// `image`: those that are here; `removed` marks one that was deleted by force while a container still uses it.
/// `layer_blob`: which compressed blob gives which layer, so that a known blob is not fetched again.
/// `blob_source`: which repositories are known to have a blob, for mounting it across repositories on a push.
pub(crate) const SCHEMA: &str = "
CREATE TABLE image (
    id          TEXT PRIMARY KEY,
    size        INTEGER NOT NULL,
    created     TEXT,
    last_tagged INTEGER,
    removed     INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE image_layer (
    image    TEXT NOT NULL REFERENCES image(id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    layer    TEXT NOT NULL,
    PRIMARY KEY (image, position)
) STRICT;
CREATE INDEX image_layer_by_layer ON image_layer(layer);
CREATE TABLE image_tag (
    repository TEXT NOT NULL,
    tag        TEXT NOT NULL,
    image      TEXT NOT NULL REFERENCES image(id) ON DELETE CASCADE,
    PRIMARY KEY (repository, tag)
) STRICT;
CREATE INDEX image_tag_by_image ON image_tag(image);
CREATE TABLE image_digest (
    repository TEXT NOT NULL,
    digest     TEXT NOT NULL,
    image      TEXT NOT NULL REFERENCES image(id) ON DELETE CASCADE,
    PRIMARY KEY (repository, digest)
) STRICT;
CREATE INDEX image_digest_by_image ON image_digest(image);
CREATE TABLE image_manifest (
    image      TEXT NOT NULL REFERENCES image(id) ON DELETE CASCADE,
    digest     TEXT NOT NULL,
    media_type TEXT NOT NULL,
    PRIMARY KEY (image, digest)
) STRICT;
CREATE TABLE layer_blob (
    blob  TEXT PRIMARY KEY,
    layer TEXT NOT NULL,
    size  INTEGER NOT NULL
) STRICT;
CREATE INDEX layer_blob_by_layer ON layer_blob(layer);
CREATE TABLE blob_source (
    blob       TEXT NOT NULL,
    repository TEXT NOT NULL,
    PRIMARY KEY (blob, repository)
) STRICT;
";

/// A row of `image`.
#[derive(Debug, Clone)]
pub(crate) struct ImageRow {
    pub(crate) id: ImageId,
    pub(crate) size: u64,
    pub(crate) created: Option<String>,
    pub(crate) last_tagged: Option<i64>,
}

/// A manifest or index that led to an image.
#[derive(Debug, Clone)]
pub(crate) struct ManifestRow {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
}

/// A compressed blob that gives a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlobRow {
    pub(crate) blob: Digest,
    pub(crate) size: u64,
}

/// Reads a digest column; a row that is not one is the database's corruption.
fn digest_column(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<Digest> {
    let text: String = row.get(index)?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            index,
            rusqlite::types::Type::Text,
            Box::new(error),
        )
    })
}

fn image_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<ImageRow> {
    Ok(ImageRow {
        id: ImageId(digest_column(row, 0)?),
        size: row.get::<_, i64>(1)?.max(0) as u64,
        created: row.get(2)?,
        last_tagged: row.get(3)?,
    })
}

const IMAGE_COLUMNS: &str = "id, size, created, last_tagged";

/// Returns the image of that id, one `removed` but still used by a container too.
pub(crate) fn image(db: &Connection, id: &ImageId) -> rusqlite::Result<Option<ImageRow>> {
    db.prepare_cached(&format!("SELECT {IMAGE_COLUMNS} FROM image WHERE id = ?1"))?
        .query_row([id.to_string()], image_row)
        .optional()
}

/// Returns whether the image is here and not removed.
pub(crate) fn is_present(db: &Connection, id: &ImageId) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM image WHERE id = ?1 AND removed = 0")?
        .exists([id.to_string()])
}

/// Returns all images that are not removed.
pub(crate) fn images(db: &Connection) -> rusqlite::Result<Vec<ImageRow>> {
    db.prepare_cached(&format!(
        "SELECT {IMAGE_COLUMNS} FROM image WHERE removed = 0"
    ))?
    .query_map([], image_row)?
    .collect()
}

/// Returns the images whose id's hex digits start with `prefix`.
pub(crate) fn images_by_prefix(db: &Connection, prefix: &str) -> rusqlite::Result<Vec<ImageId>> {
    db.prepare_cached("SELECT id FROM image WHERE removed = 0 AND id GLOB ?1 LIMIT 2")?
        .query_map([format!("sha256:{prefix}*")], |row| {
            digest_column(row, 0).map(ImageId)
        })?
        .collect()
}

/// Returns the image a tag stands for.
pub(crate) fn tagged(
    db: &Connection,
    repository: &str,
    tag: &str,
) -> rusqlite::Result<Option<ImageId>> {
    db.prepare_cached("SELECT image FROM image_tag WHERE repository = ?1 AND tag = ?2")?
        .query_row([repository, tag], |row| digest_column(row, 0).map(ImageId))
        .optional()
}

/// Returns the image a repository has under a manifest's digest.
pub(crate) fn digested(
    db: &Connection,
    repository: &str,
    digest: Digest,
) -> rusqlite::Result<Option<ImageId>> {
    db.prepare_cached("SELECT image FROM image_digest WHERE repository = ?1 AND digest = ?2")?
        .query_row([repository, &digest.to_string()], |row| {
            digest_column(row, 0).map(ImageId)
        })
        .optional()
}

/// Returns the tags of an image, sorted.
pub(crate) fn tags(db: &Connection, id: &ImageId) -> Result<Vec<Reference>, ImageError> {
    let rows: Vec<String> = db
        .prepare_cached(
            "SELECT repository || ':' || tag FROM image_tag WHERE image = ?1 ORDER BY 1",
        )?
        .query_map([id.to_string()], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(rows
        .iter()
        .map(|row| row.parse())
        .collect::<Result<_, _>>()?)
}

/// Returns the repository digests of an image, sorted.
pub(crate) fn digests(db: &Connection, id: &ImageId) -> Result<Vec<Reference>, ImageError> {
    let rows: Vec<String> = db
        .prepare_cached(
            "SELECT repository || '@' || digest FROM image_digest WHERE image = ?1 ORDER BY 1",
        )?
        .query_map([id.to_string()], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(rows
        .iter()
        .map(|row| row.parse())
        .collect::<Result<_, _>>()?)
}

/// Returns the tags of a repository, sorted.
pub(crate) fn repository_tags(
    db: &Connection,
    repository: &str,
) -> rusqlite::Result<Vec<(String, ImageId)>> {
    db.prepare_cached("SELECT tag, image FROM image_tag WHERE repository = ?1 ORDER BY tag")?
        .query_map([repository], |row| {
            Ok((row.get(0)?, ImageId(digest_column(row, 1)?)))
        })?
        .collect()
}

/// Returns the layers of an image, lowest first.
pub(crate) fn layers(db: &Connection, id: &ImageId) -> rusqlite::Result<Vec<DiffId>> {
    db.prepare_cached("SELECT layer FROM image_layer WHERE image = ?1 ORDER BY position")?
        .query_map([id.to_string()], |row| digest_column(row, 0).map(DiffId))?
        .collect()
}

/// Returns the manifests that led to an image, indexes among them.
pub(crate) fn manifests(db: &Connection, id: &ImageId) -> rusqlite::Result<Vec<ManifestRow>> {
    db.prepare_cached("SELECT digest, media_type FROM image_manifest WHERE image = ?1")?
        .query_map([id.to_string()], |row| {
            Ok(ManifestRow {
                digest: digest_column(row, 0)?,
                media_type: row.get(1)?,
            })
        })?
        .collect()
}

/// Returns the known blobs of a layer.
pub(crate) fn blobs(db: &Connection, layer: &DiffId) -> rusqlite::Result<Vec<BlobRow>> {
    db.prepare_cached("SELECT blob, size FROM layer_blob WHERE layer = ?1 ORDER BY rowid")?
        .query_map([layer.to_string()], |row| {
            Ok(BlobRow {
                blob: digest_column(row, 0)?,
                size: row.get::<_, i64>(1)?.max(0) as u64,
            })
        })?
        .collect()
}

/// Returns the layer a blob is known to give.
pub(crate) fn layer_of_blob(db: &Connection, blob: Digest) -> rusqlite::Result<Option<DiffId>> {
    db.prepare_cached("SELECT layer FROM layer_blob WHERE blob = ?1")?
        .query_row([blob.to_string()], |row| digest_column(row, 0).map(DiffId))
        .optional()
}

/// Returns the repositories of registry `domain` that are known to have a blob.
pub(crate) fn sources(
    db: &Connection,
    blob: Digest,
    domain: &str,
) -> rusqlite::Result<Vec<String>> {
    let all: Vec<String> = db
        .prepare_cached("SELECT repository FROM blob_source WHERE blob = ?1")?
        .query_map([blob.to_string()], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let prefix = format!("{domain}/");
    Ok(all
        .iter()
        .filter_map(|repository| repository.strip_prefix(&prefix))
        .map(str::to_owned)
        .collect())
}

/// Adds an image with its layers, or brings a removed one back.
pub(crate) fn add_image(
    db: &Transaction<'_>,
    row: &ImageRow,
    layers: &[DiffId],
) -> rusqlite::Result<()> {
    let id = row.id.to_string();
    db.execute(
        "INSERT INTO image (id, size, created) VALUES (?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET removed = 0",
        params![id, row.size as i64, row.created],
    )?;
    for (position, layer) in layers.iter().enumerate() {
        db.execute(
            "INSERT OR IGNORE INTO image_layer (image, position, layer) VALUES (?1, ?2, ?3)",
            params![id, position as i64, layer.to_string()],
        )?;
    }
    Ok(())
}

/// Points a tag at an image.
pub(crate) fn set_tag(
    db: &Connection,
    repository: &str,
    tag: &str,
    id: &ImageId,
) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO image_tag (repository, tag, image) VALUES (?1, ?2, ?3)
         ON CONFLICT (repository, tag) DO UPDATE SET image = excluded.image",
        params![repository, tag, id.to_string()],
    )?;
    db.execute(
        "UPDATE image SET last_tagged = unixepoch() WHERE id = ?1",
        [id.to_string()],
    )?;
    Ok(())
}

/// Remembers that a repository has an image under a manifest's digest.
pub(crate) fn set_digest(
    db: &Connection,
    repository: &str,
    digest: Digest,
    id: &ImageId,
) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO image_digest (repository, digest, image) VALUES (?1, ?2, ?3)
         ON CONFLICT (repository, digest) DO UPDATE SET image = excluded.image",
        params![repository, digest.to_string(), id.to_string()],
    )?;
    Ok(())
}

/// Remembers a manifest of an image.
pub(crate) fn add_manifest(
    db: &Connection,
    id: &ImageId,
    digest: Digest,
    media_type: &str,
) -> rusqlite::Result<()> {
    db.execute(
        "INSERT OR IGNORE INTO image_manifest (image, digest, media_type) VALUES (?1, ?2, ?3)",
        params![id.to_string(), digest.to_string(), media_type],
    )?;
    Ok(())
}

/// Remembers that a blob gives a layer.
pub(crate) fn add_blob(db: &Connection, layer: &DiffId, blob: &BlobRow) -> rusqlite::Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO layer_blob (blob, layer, size) VALUES (?1, ?2, ?3)",
        params![blob.blob.to_string(), layer.to_string(), blob.size as i64],
    )?;
    Ok(())
}

/// Remembers that a repository has a blob.
pub(crate) fn add_source(db: &Connection, blob: Digest, repository: &str) -> rusqlite::Result<()> {
    db.execute(
        "INSERT OR IGNORE INTO blob_source (blob, repository) VALUES (?1, ?2)",
        params![blob.to_string(), repository],
    )?;
    Ok(())
}

/// Takes a tag away; returns whether it was there.
pub(crate) fn remove_tag(db: &Connection, repository: &str, tag: &str) -> rusqlite::Result<bool> {
    let removed = db.execute(
        "DELETE FROM image_tag WHERE repository = ?1 AND tag = ?2",
        [repository, tag],
    )?;
    Ok(removed > 0)
}

/// Takes a repository digest away.
pub(crate) fn remove_digest(
    db: &Connection,
    repository: &str,
    digest: Digest,
) -> rusqlite::Result<bool> {
    let removed = db.execute(
        "DELETE FROM image_digest WHERE repository = ?1 AND digest = ?2",
        [repository, &digest.to_string()],
    )?;
    Ok(removed > 0)
}

/// Takes an image away with its tags and digests; `keep` only hides it, for the containers that still use it.
pub(crate) fn remove_image(db: &Connection, id: &ImageId, keep: bool) -> rusqlite::Result<()> {
    let id = id.to_string();
    if !keep {
        db.execute("DELETE FROM image WHERE id = ?1", [&id])?;
        return Ok(());
    }
    db.execute("UPDATE image SET removed = 1 WHERE id = ?1", [&id])?;
    db.execute("DELETE FROM image_tag WHERE image = ?1", [&id])?;
    db.execute("DELETE FROM image_digest WHERE image = ?1", [&id])?;
    Ok(())
}

/// Returns the removed images that wait for their last container.
pub(crate) fn removed_images(db: &Connection) -> rusqlite::Result<Vec<ImageId>> {
    db.prepare_cached("SELECT id FROM image WHERE removed = 1")?
        .query_map([], |row| digest_column(row, 0).map(ImageId))?
        .collect()
}

/// Returns every layer that some image needs, image by image.
pub(crate) fn all_layers(db: &Connection) -> rusqlite::Result<Vec<(ImageId, DiffId)>> {
    db.prepare_cached("SELECT image, layer FROM image_layer ORDER BY image, position")?
        .query_map([], |row| {
            Ok((
                ImageId(digest_column(row, 0)?),
                DiffId(digest_column(row, 1)?),
            ))
        })?
        .collect()
}

/// Returns every blob in `blobs/sha256` that some image needs: configs and manifests.
pub(crate) fn all_blobs(db: &Connection) -> rusqlite::Result<Vec<Digest>> {
    db.prepare_cached("SELECT id FROM image UNION SELECT digest FROM image_manifest")?
        .query_map([], |row| digest_column(row, 0))?
        .collect()
}

/// Forgets the blobs of layers that are not here any more.
pub(crate) fn forget_blobs_of(db: &Connection, layer: &DiffId) -> rusqlite::Result<()> {
    let layer = layer.to_string();
    db.execute(
        "DELETE FROM blob_source WHERE blob IN (SELECT blob FROM layer_blob WHERE layer = ?1)",
        [&layer],
    )?;
    db.execute("DELETE FROM layer_blob WHERE layer = ?1", [&layer])?;
    Ok(())
}

/// Returns whether some image that is here, or is kept for a container, has the layer.
pub(crate) fn is_layer_used(db: &Connection, layer: &DiffId) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM image_layer WHERE layer = ?1")?
        .exists([layer.to_string()])
}
