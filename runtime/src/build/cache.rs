//! Results of steps that are kept: rows of `state.db` that name a layer, and keep it from being swept.
//!
//! A row's key is a digest over all that the step's result depends on: the layers below (not the configuration, unless
//! it matters), what is done, and the digest of what is copied. So a row serves whatever Dockerfile comes to the same
//! point, and needs nothing but its own layer. A row is written after its layer is durable, by one commit; a build that
//! is killed leaves rows that are whole, or none. Rows need not survive the machine, so their commits are not synced.

use std::collections::BTreeMap;

use jiff::Timestamp;
use layerfs::DiffId;
use layerfs::Digest;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::params;
use sha2::Digest as _;
use sha2::Sha256;

use super::error::StepError;
use super::mount_cache;
use crate::Engine;

/// The table, for `state.rs`. Times are seconds since the epoch.
pub(crate) const SCHEMA: &str = "
CREATE TABLE build_step (
    key         TEXT PRIMARY KEY,
    layer       TEXT,
    size        INTEGER NOT NULL,
    created     TEXT NOT NULL,
    description TEXT NOT NULL,
    made        INTEGER NOT NULL,
    last_used   INTEGER NOT NULL,
    uses        INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX build_step_by_layer ON build_step(layer);
";

/// A key under construction: fields, each with its length.
pub(super) struct Key(Sha256);

impl Key {
    /// Begins the key of one kind of step.
    pub(super) fn new(kind: &str) -> Key {
        let mut key = Key(Sha256::new());
        key.0.update(b"ply build step 1\0");
        key.field(kind);
        key
    }

    pub(super) fn field(&mut self, bytes: impl AsRef<[u8]>) -> &mut Key {
        let bytes = bytes.as_ref();
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    pub(super) fn fields<T: AsRef<[u8]>>(&mut self, all: &[T]) -> &mut Key {
        self.field((all.len() as u64).to_le_bytes());
        for one in all {
            self.field(one);
        }
        self
    }

    pub(super) fn digest(&self) -> Digest {
        Digest(self.0.clone().finalize().into())
    }
}

/// A result that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// The layer the step made, if it made one.
    pub(super) layer: Option<DiffId>,
    /// When, RFC 3339: what the image's history says.
    pub(super) created: String,
}

/// A row as others see it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) key: Digest,
    pub(super) layer: Option<DiffId>,
    pub(super) size: u64,
    pub(super) last_used: i64,
}

/// What is to be pruned of the cache.
#[derive(Debug, Clone, Default)]
pub struct CachePrune {
    /// Whether all goes, not only what no image has: without it, results whose layers are an image's stay.
    pub all: bool,
    /// Only what was not used since then.
    pub until: Option<Timestamp>,
    /// How many bytes stay, those used last.
    pub keep_storage: Option<u64>,
}

impl CachePrune {
    /// Adds a `key=value` as `--filter` takes it; returns whether it is one.
    pub fn add(&mut self, filter: &str) -> bool {
        match filter.split_once('=') {
            Some(("until" | "unused-for", value)) => {
                self.until = crate::image::point_in_time(value);
                self.until.is_some()
            }
            _ => false,
        }
    }
}

/// Something of the cache that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunedCache {
    /// Its name: the first digits of its key.
    pub id: String,
    /// Its bytes.
    pub size: u64,
}

/// Something that the cache has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// Its name: the first digits of its key.
    pub id: String,
    /// Whether it is the directory of a cache mount, and not the result of a step.
    pub is_mount: bool,
    /// What made it.
    pub description: String,
    /// Its bytes.
    pub size: u64,
    /// Whether an image has it too.
    pub is_shared: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When it served last.
    pub last_used: Timestamp,
    /// How often it has served.
    pub uses: u64,
}

impl Engine {
    pub(super) fn kept_step(&self, key: &Digest) -> Result<Option<Kept>, StepError> {
        let kept = {
            let db = self.db();
            find(&db, key)?
        };
        // A layer that is damaged or was taken away by hand is no result.
        Ok(kept.filter(|kept| {
            kept.layer
                .is_none_or(|layer| self.store().has_layer(&layer))
        }))
    }

    pub(super) fn keep_step(
        &self,
        key: &Digest,
        kept: &Kept,
        description: &str,
    ) -> Result<(), StepError> {
        let size = match &kept.layer {
            Some(layer) => self.store().layer(layer)?.content_size(),
            None => 0,
        };
        const LONGEST: usize = 200;
        let description: String = description.chars().take(LONGEST).collect();
        let db = self.db();
        unsynced(&db, |db| {
            db.execute(
                "INSERT OR REPLACE INTO build_step (key, layer, size, created, description, made, last_used)
                 VALUES (?1, ?2, ?3, ?4, ?5, unixepoch(), unixepoch())",
                params![
                    key.to_string(),
                    kept.layer.map(|layer| layer.to_string()),
                    size as i64,
                    kept.created,
                    description,
                ],
            )
        })?;
        Ok(())
    }

    /// Remembers that results have served just now.
    pub(super) fn used_steps(&self, keys: &[Digest]) -> Result<(), StepError> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut db = self.db();
        db.pragma_update(None, "synchronous", "NORMAL")?;
        let updated = (|| {
            let transaction =
                db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            for key in keys {
                transaction.execute(
                    "UPDATE build_step SET last_used = unixepoch(), uses = uses + 1 WHERE key = ?1",
                    [key.to_string()],
                )?;
            }
            transaction.commit()
        })();
        db.pragma_update(None, "synchronous", "FULL")?;
        Ok(updated?)
    }

    pub(super) fn all_steps(&self) -> Result<Vec<Row>, StepError> {
        Ok(rows(&self.db())?)
    }

    /// Removes kept results and the directories of cache mounts, those first that were used least lately; returns what
    /// is gone, and the bytes that are free.
    pub fn prune_build_cache(
        &self,
        prune: &CachePrune,
    ) -> Result<(Vec<PrunedCache>, u64), super::BuildError> {
        let failed = |error| super::BuildError::Engine(Box::new(error));
        self.prune_cache(prune).map_err(failed)
    }

    fn prune_cache(&self, prune: &CachePrune) -> Result<(Vec<PrunedCache>, u64), StepError> {
        let mut steps = self.all_steps()?;
        steps.sort_by_key(|row| row.last_used);
        let in_images: std::collections::HashSet<DiffId> =
            crate::image::rows::all_layers(&self.db())?
                .into_iter()
                .map(|(_, layer)| layer)
                .collect();
        let mounts = mount_cache::all(self.root());
        let mut left: u64 = sizes(&steps).values().sum::<u64>()
            + mounts.iter().map(|mount| mount.size).sum::<u64>();
        let is_due = |last_used: i64| {
            prune
                .until
                .is_none_or(|until| last_used < until.as_second())
        };
        let is_enough = |left: u64| prune.keep_storage.is_some_and(|keep| left <= keep);
        let mut gone = Vec::new();
        for row in &steps {
            if is_enough(left) {
                break;
            }
            let is_shared = row.layer.is_some_and(|layer| in_images.contains(&layer));
            if !is_due(row.last_used) || (is_shared && !prune.all) {
                continue;
            }
            self.db().execute(
                "DELETE FROM build_step WHERE key = ?1",
                [row.key.to_string()],
            )?;
            left = left.saturating_sub(row.size);
            gone.push(PrunedCache {
                id: short(&row.key.hex()),
                size: row.size,
            });
        }
        for mount in mounts {
            if is_enough(left) {
                break;
            }
            if is_due(mount.last_used) && mount_cache::remove(self.root(), &mount) {
                left = left.saturating_sub(mount.size);
                gone.push(PrunedCache {
                    id: mount.name,
                    size: mount.size,
                });
            }
        }
        if prune.all && prune.until.is_none() && prune.keep_storage.is_none() {
            let _ = std::fs::remove_dir_all(self.root().join("cache/contexts"));
        }
        let from_mounts: u64 = gone.iter().map(|one| one.size).sum();
        let freed = self.sweep()?;
        let in_layers: u64 = steps
            .iter()
            .filter(|row| gone.iter().any(|one| row.key.hex().starts_with(&one.id)))
            .map(|row| row.size)
            .sum();
        Ok((gone, freed + (from_mounts - in_layers)))
    }

    /// Returns what the cache has, those first that were used least lately.
    pub fn build_cache(&self) -> Result<Vec<CacheEntry>, super::BuildError> {
        let failed = |error: StepError| super::BuildError::Engine(Box::new(error));
        let mut entries = entries(&self.db()).map_err(|error| failed(error.into()))?;
        for mount in mount_cache::all(self.root()) {
            let used = Timestamp::from_second(mount.last_used).unwrap_or_default();
            entries.push(CacheEntry {
                description: format!("cache mount {}", mount.name),
                id: mount.name,
                is_mount: true,
                size: mount.size,
                is_shared: false,
                created: used,
                last_used: used,
                uses: 0,
            });
        }
        entries.sort_by_key(|entry| entry.last_used);
        Ok(entries)
    }

    /// Returns what the cache takes: results and cache mounts; what an image has too is not reclaimable.
    pub fn build_cache_usage(&self) -> Result<crate::container::DiskUsage, super::BuildError> {
        let failed = |error| super::BuildError::Engine(Box::new(error));
        let steps = self.all_steps().map_err(failed)?;
        let in_images: std::collections::HashSet<DiffId> = {
            let db = self.db();
            let layers = crate::image::rows::all_layers(&db);
            layers
                .map_err(|error| failed(error.into()))?
                .into_iter()
                .map(|(_, layer)| layer)
                .collect()
        };
        let mounts = mount_cache::all(self.root());
        let of_mounts: u64 = mounts.iter().map(|mount| mount.size).sum();
        let layers = sizes(&steps);
        let own: u64 = layers
            .iter()
            .filter(|(layer, _)| !in_images.contains(layer))
            .map(|(_, size)| size)
            .sum();
        Ok(crate::container::DiskUsage {
            total: steps.len() + mounts.len(),
            active: 0,
            size: own + of_mounts,
            reclaimable: own + of_mounts,
        })
    }
}

/// Returns the layers that results name, each once, and their bytes.
fn sizes(rows: &[Row]) -> BTreeMap<DiffId, u64> {
    let layer = |row: &Row| row.layer.map(|layer| (layer, row.size));
    rows.iter().filter_map(layer).collect()
}

/// Does something whose commit need not survive the machine; the database stays whole.
fn unsynced<T>(
    db: &Connection,
    act: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    db.pragma_update(None, "synchronous", "NORMAL")?;
    let done = act(db);
    db.pragma_update(None, "synchronous", "FULL")?;
    done
}

fn find(db: &Connection, key: &Digest) -> rusqlite::Result<Option<Kept>> {
    db.prepare_cached("SELECT layer, created FROM build_step WHERE key = ?1")?
        .query_row([key.to_string()], |row| {
            let layer: Option<String> = row.get(0)?;
            Ok(Kept {
                layer: layer.and_then(|layer| layer.parse().ok()).map(DiffId),
                created: row.get(1)?,
            })
        })
        .optional()
}

fn rows(db: &Connection) -> rusqlite::Result<Vec<Row>> {
    let columns = "key, layer, size, last_used";
    let rows: Vec<Option<Row>> = db
        .prepare_cached(&format!("SELECT {columns} FROM build_step"))?
        .query_map([], |row| {
            let key: String = row.get(0)?;
            let layer: Option<String> = row.get(1)?;
            let Ok(key) = key.parse() else {
                return Ok(None);
            };
            Ok(Some(Row {
                key,
                layer: layer.and_then(|layer| layer.parse().ok()).map(DiffId),
                size: row.get::<_, i64>(2)?.max(0) as u64,
                last_used: row.get(3)?,
            }))
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(rows.into_iter().flatten().collect())
}

fn entries(db: &Connection) -> rusqlite::Result<Vec<CacheEntry>> {
    let in_images: std::collections::HashSet<String> = crate::image::rows::all_layers(db)?
        .into_iter()
        .map(|(_, layer)| layer.to_string())
        .collect();
    let columns = "key, layer, size, description, made, last_used, uses";
    db.prepare_cached(&format!("SELECT {columns} FROM build_step"))?
        .query_map([], |row| {
            let key: String = row.get(0)?;
            let layer: Option<String> = row.get(1)?;
            let time = |seconds: i64| Timestamp::from_second(seconds).unwrap_or_default();
            Ok(CacheEntry {
                id: short(key.trim_start_matches("sha256:")),
                is_mount: false,
                description: row.get(3)?,
                size: row.get::<_, i64>(2)?.max(0) as u64,
                is_shared: layer.is_some_and(|layer| in_images.contains(&layer)),
                created: time(row.get(4)?),
                last_used: time(row.get(5)?),
                uses: row.get::<_, i64>(6)?.max(0) as u64,
            })
        })?
        .collect()
}

/// Returns what people see of a key.
fn short(hex: &str) -> String {
    hex.get(..25).unwrap_or(hex).to_owned()
}

/// Returns every layer that a result names.
pub(crate) fn layers(db: &Connection) -> rusqlite::Result<Vec<DiffId>> {
    let layers: Vec<String> = db
        .prepare_cached("SELECT DISTINCT layer FROM build_step WHERE layer IS NOT NULL")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(layers
        .iter()
        .filter_map(|layer| layer.parse().ok())
        .map(DiffId)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_key_cannot_be_taken_for_each_other() {
        let one = Key::new("run").field("ab").field("c").digest();
        let other = Key::new("run").field("a").field("bc").digest();
        assert_ne!(one, other);
        let one = Key::new("run").fields(&["a"]).field("b").digest();
        let other = Key::new("run").fields(&["a", "b"]).digest();
        assert_ne!(one, other);
    }
}
