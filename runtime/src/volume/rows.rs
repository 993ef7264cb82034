//! The tables of volumes and of who uses them.
//!
//! A use is there as long as its container's row is: it is added in the same commit and goes with it (`ON DELETE
//! CASCADE`). `doomed` marks the anonymous volumes of a container that is being removed with them, so that whoever
//! finishes the removal takes them along. Names of volumes are never used as anything but names: they are checked
//! before they get here.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::params;

use crate::container::ContainerId;

/// The tables, for `state.rs`.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE volumes (
        name        TEXT PRIMARY KEY,
        created     INTEGER NOT NULL,
        driver_opts TEXT NOT NULL,
        labels      TEXT NOT NULL,
        anonymous   INTEGER NOT NULL,
        doomed      INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX volumes_doomed ON volumes (doomed) WHERE doomed = 1;
    CREATE TABLE volume_uses (
        volume    TEXT NOT NULL REFERENCES volumes (name),
        container TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
        anonymous INTEGER NOT NULL,
        PRIMARY KEY (volume, container)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX volume_uses_container ON volume_uses (container);
";

/// A volume to add.
#[derive(Debug)]
pub(crate) struct New<'a> {
    pub(crate) name: &'a str,
    pub(crate) driver_opts: &'a BTreeMap<String, String>,
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) anonymous: bool,
}

/// A volume as it is written down.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) driver_opts: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) anonymous: bool,
    pub(crate) containers: Vec<ContainerId>,
}

const COLUMNS: &str = "name, created, driver_opts, labels, anonymous,
    (SELECT group_concat(container) FROM volume_uses WHERE volume = name)";

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let map = |column: usize| -> rusqlite::Result<BTreeMap<String, String>> {
        let text: String = row.get(column)?;
        serde_json::from_str(&text).map_err(|error| {
            let kind = rusqlite::types::Type::Text;
            rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
        })
    };
    let containers: Option<String> = row.get(5)?;
    let created: i64 = row.get(1)?;
    Ok(Row {
        name: row.get(0)?,
        created: Timestamp::from_nanosecond(i128::from(created)).unwrap_or_default(),
        driver_opts: map(2)?,
        labels: map(3)?,
        anonymous: row.get(4)?,
        containers: containers
            .iter()
            .flat_map(|ids| ids.split(','))
            .map(|id| ContainerId(id.to_owned()))
            .collect(),
    })
}

/// Adds a volume; returns whether there was none of that name.
pub(crate) fn insert(db: &Connection, new: &New<'_>) -> rusqlite::Result<bool> {
    let json = |map: &BTreeMap<String, String>| {
        serde_json::to_string(map)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
    };
    let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    let added = db.execute(
        "INSERT INTO volumes (name, created, driver_opts, labels, anonymous) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (name) DO NOTHING",
        params![
            new.name,
            now,
            json(new.driver_opts)?,
            json(new.labels)?,
            new.anonymous
        ],
    )?;
    Ok(added > 0)
}

/// Records that a container has a volume, and whether it has not named it.
pub(crate) fn insert_use(
    db: &Connection,
    volume: &str,
    container: &ContainerId,
    anonymous: bool,
) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO volume_uses (volume, container, anonymous) VALUES (?, ?, ?)
         ON CONFLICT (volume, container) DO UPDATE SET anonymous = min(anonymous, excluded.anonymous)",
        params![volume, container.as_str(), anonymous],
    )?;
    Ok(())
}

/// Removes a volume that no container has; returns whether it was there to be removed.
pub(super) fn delete_unused(db: &Connection, name: &str) -> rusqlite::Result<bool> {
    let deleted = db.execute(
        "DELETE FROM volumes WHERE name = ?1 AND NOT EXISTS (SELECT 1 FROM volume_uses WHERE volume = ?1)",
        [name],
    )?;
    Ok(deleted > 0)
}

pub(super) fn by_name(db: &Connection, name: &str) -> rusqlite::Result<Option<Row>> {
    let sql = format!("SELECT {COLUMNS} FROM volumes WHERE name = ?");
    db.prepare_cached(&sql)?.query_row([name], read).optional()
}

pub(super) fn exists(db: &Connection, name: &str) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM volumes WHERE name = ?")?
        .exists([name])
}

/// Returns every volume, by name.
pub(super) fn all(db: &Connection) -> rusqlite::Result<Vec<Row>> {
    let sql = format!("SELECT {COLUMNS} FROM volumes ORDER BY name");
    db.prepare_cached(&sql)?.query_map([], read)?.collect()
}

/// Marks the volumes that a container has not named, for their removal with it.
pub(crate) fn doom(db: &Connection, container: &ContainerId) -> rusqlite::Result<()> {
    db.execute(
        "UPDATE volumes SET doomed = 1
         WHERE name IN (SELECT volume FROM volume_uses WHERE container = ? AND anonymous = 1)",
        [container.as_str()],
    )?;
    Ok(())
}

/// Returns the volumes that are to go with containers that are gone; those that others have stay.
pub(super) fn doomed(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let names: Vec<String> = db
        .prepare_cached("SELECT name FROM volumes WHERE doomed = 1")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    if names.is_empty() {
        return Ok(names);
    }
    db.execute(
        "UPDATE volumes SET doomed = 0 WHERE doomed = 1 AND EXISTS (
             SELECT 1 FROM volume_uses JOIN containers ON id = container
             WHERE volume = name AND phase <> 'removing')",
        [],
    )?;
    db.prepare_cached(
        "SELECT name FROM volumes WHERE doomed = 1
             AND NOT EXISTS (SELECT 1 FROM volume_uses WHERE volume = volumes.name)",
    )?
    .query_map([], |row| row.get(0))?
    .collect()
}
