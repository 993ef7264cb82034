//! The table of containers.
//!
//! A row appears with one commit and holds the whole configuration, so a container is there or is not. `phase` is what
//! was last recorded: `running` is written before a start begins and taken back when the run has ended; whether a
//! container that claims to run does is asked of its lock. Times are nanoseconds since the epoch.

use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::Transaction;
use rusqlite::TransactionBehavior;
use rusqlite::params;

use super::Config;
use super::Container;
use super::ContainerError;
use super::ContainerId;
use super::State;
use super::Status;
use crate::volume::rows as volume_rows;

/// The table, for `state.rs`.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE containers (
        id          TEXT PRIMARY KEY,
        name        TEXT NOT NULL UNIQUE,
        image_id    TEXT NOT NULL,
        created     INTEGER NOT NULL,
        config      TEXT NOT NULL,
        auto_remove INTEGER NOT NULL,
        phase       TEXT NOT NULL,
        exit_code   INTEGER NOT NULL DEFAULT 0,
        error       TEXT NOT NULL DEFAULT '',
        started     INTEGER,
        finished    INTEGER
    ) STRICT;
    CREATE INDEX containers_image ON containers (image_id);
    CREATE INDEX containers_phase ON containers (phase);
";

/// What came with restart policies, for `state.rs`.
pub(crate) const SCHEMA_OF_RESTARTS: &str = "
    ALTER TABLE containers ADD COLUMN restart_count INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE containers ADD COLUMN stopped INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE containers ADD COLUMN oom_killed INTEGER NOT NULL DEFAULT 0;
";

const COLUMNS: &str = "id, name, created, config, phase, exit_code, error, started, finished, restart_count, stopped, \
                       oom_killed";

/// How a run ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) code: i32,
    pub(crate) finished: Timestamp,
    /// Whether a person wanted it.
    pub(crate) stopped: bool,
    pub(crate) oom_killed: bool,
}

/// Whether a commit must survive the machine, or only the processes (what vanishes with its run need not).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    Machine,
    Process,
}

/// Runs one statement as a transaction of its own.
pub(crate) fn execute(
    db: &Connection,
    durability: Durability,
    sql: &str,
    params: impl rusqlite::Params,
) -> rusqlite::Result<usize> {
    if durability == Durability::Machine {
        return db.execute(sql, params);
    }
    db.pragma_update(None, "synchronous", "OFF")?;
    let done = db.execute(sql, params);
    db.pragma_update(None, "synchronous", "FULL")?;
    done
}

/// Keeps the database's file from being synced when the process ends.
pub(crate) fn leave_log_on_close(db: &Connection) {
    let _ = db.set_db_config(
        rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
        true,
    );
}

fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default()
}

pub(super) fn phase(status: Status) -> &'static str {
    status.as_str()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Container> {
    let config: String = row.get(3)?;
    let config: Config = serde_json::from_str(&config).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, Box::new(error))
    })?;
    let status = match row.get_ref(4)?.as_str()? {
        "created" => Status::Created,
        "running" => Status::Running,
        "removing" => Status::Removing,
        _ => Status::Exited,
    };
    Ok(Container {
        id: ContainerId(row.get(0)?),
        name: row.get(1)?,
        created: timestamp(row.get(2)?),
        config,
        state: State {
            status,
            pid: None,
            exit_code: row.get(5)?,
            error: row.get(6)?,
            started: row.get::<_, Option<i64>>(7)?.map(timestamp),
            finished: row.get::<_, Option<i64>>(8)?.map(timestamp),
            restart_count: row.get(9)?,
            stopped: row.get(10)?,
            oom_killed: row.get(11)?,
            health: None,
            published: Vec::new(),
        },
    })
}

/// Runs several statements as one transaction.
fn transact<T>(
    db: &Connection,
    durability: Durability,
    run: impl FnOnce(&Connection) -> Result<T, ContainerError>,
) -> Result<T, ContainerError> {
    if durability == Durability::Process {
        db.pragma_update(None, "synchronous", "OFF")?;
    }
    let begun = Transaction::new_unchecked(db, TransactionBehavior::Immediate);
    let done = begun.map_err(ContainerError::from).and_then(|transaction| {
        let value = run(&transaction)?;
        transaction.commit()?;
        Ok(value)
    });
    if durability == Durability::Process {
        db.pragma_update(None, "synchronous", "FULL")?;
    }
    done
}

fn durability_of(container: &Container) -> Durability {
    match container.config.auto_remove || container.config.of_build {
        true => Durability::Process,
        false => Durability::Machine,
    }
}

/// Adds a container and the volumes it has, those that are not there yet too; returns the names of these.
pub(super) fn insert(
    db: &Connection,
    container: &Container,
) -> Result<Vec<String>, ContainerError> {
    let volumes = container.config.volume_mounts();
    if volumes.is_empty() {
        insert_row(db, durability_of(container), container)?;
        return Ok(Vec::new());
    }
    let is_all_anonymous = volumes.iter().all(|(_, volume)| volume.anonymous);
    let durability = match is_all_anonymous {
        true => durability_of(container),
        // A volume with a name outlives its container.
        false => Durability::Machine,
    };
    transact(db, durability, |db| {
        insert_row(db, Durability::Machine, container)?;
        let mut new = Vec::new();
        for (_, volume) in volumes {
            let row = volume_rows::New {
                name: &volume.name,
                driver_opts: &volume.driver_opts,
                labels: &volume.labels,
                anonymous: volume.anonymous,
            };
            if volume_rows::insert(db, &row)? {
                new.push(volume.name.clone());
            }
            volume_rows::insert_use(db, &volume.name, &container.id, volume.anonymous)?;
        }
        Ok(new)
    })
}

/// Adds a container's row, if its image is still here: one that is being removed gets no new containers.
fn insert_row(
    db: &Connection,
    durability: Durability,
    container: &Container,
) -> Result<(), ContainerError> {
    let config = serde_json::to_string(&container.config)
        .map_err(|error| ContainerError::Invalid(error.to_string()))?;
    let added = execute(
        db,
        durability,
        "INSERT INTO containers (id, name, image_id, created, config, auto_remove, phase, started)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8
         WHERE ?9 OR EXISTS (SELECT 1 FROM image WHERE id = ?3 AND removed = 0)",
        params![
            container.id.as_str(),
            container.name,
            container.config.image_id,
            nanoseconds(container.created),
            config,
            container.config.auto_remove,
            phase(container.state.status),
            container.state.started.map(nanoseconds),
            container.config.of_build,
        ],
    );
    match added {
        Ok(0) => Err(crate::image::ImageError::NoSuchImage(container.config.image.clone()).into()),
        Ok(_) => Ok(()),
        Err(rusqlite::Error::SqliteFailure(error, _))
            if error.code == rusqlite::ErrorCode::ConstraintViolation =>
        {
            match by_name(db, &container.name)? {
                Some(by) => Err(ContainerError::NameInUse {
                    name: container.name.clone(),
                    by: by.id,
                }),
                // Its owner went between the two statements: as good as a name that is free.
                None => insert_row(db, durability, container),
            }
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) fn by_name(db: &Connection, name: &str) -> rusqlite::Result<Option<Container>> {
    let sql = format!("SELECT {COLUMNS} FROM containers WHERE name = ?");
    db.prepare_cached(&sql)?.query_row([name], read).optional()
}

pub(crate) fn by_id(db: &Connection, id: &ContainerId) -> rusqlite::Result<Option<Container>> {
    let sql = format!("SELECT {COLUMNS} FROM containers WHERE id = ?");
    db.prepare_cached(&sql)?
        .query_row([id.as_str()], read)
        .optional()
}

pub(super) fn exists(db: &Connection, id: &ContainerId) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM containers WHERE id = ?")?
        .exists([id.as_str()])
}

/// Returns the containers whose id begins with `prefix`; two are enough to know that it is not one's.
pub(super) fn by_prefix(db: &Connection, prefix: &str) -> rusqlite::Result<Vec<Container>> {
    let sql = format!("SELECT {COLUMNS} FROM containers WHERE id >= ? AND id < ? LIMIT 2");
    let mut statement = db.prepare_cached(&sql)?;
    let end = format!("{prefix}g");
    statement.query_map([prefix, &end], read)?.collect()
}

/// Returns every container, the newest first.
pub(crate) fn all(db: &Connection) -> rusqlite::Result<Vec<Container>> {
    let sql = format!("SELECT {COLUMNS} FROM containers ORDER BY created DESC");
    db.prepare_cached(&sql)?.query_map([], read)?.collect()
}

/// Returns the containers whose row says that they run or are being removed.
pub(super) fn unsettled(db: &Connection) -> rusqlite::Result<Vec<ContainerId>> {
    // One of `--rm` that has ended was about to be started again.
    let sql = "SELECT id FROM containers WHERE phase IN ('running', 'removing')
               OR (phase = 'exited' AND auto_remove)";
    db.prepare_cached(sql)?
        .query_map([], |row| Ok(ContainerId(row.get(0)?)))?
        .collect()
}

/// Returns the containers made of an image, and whether they were last said to run.
pub(super) fn of_image(db: &Connection, image: &str) -> rusqlite::Result<Vec<(ContainerId, bool)>> {
    db.prepare_cached("SELECT id, phase = 'running' FROM containers WHERE image_id = ?")?
        .query_map([image], |row| Ok((ContainerId(row.get(0)?), row.get(1)?)))?
        .collect()
}

/// Records that a start begins, after so many restarts.
pub(super) fn set_running(
    db: &Connection,
    id: &ContainerId,
    started: Timestamp,
    restart_count: u32,
) -> rusqlite::Result<()> {
    execute(
        db,
        Durability::Process,
        "UPDATE containers SET phase = 'running', started = ?, error = '', restart_count = ?, stopped = 0,
             oom_killed = 0 WHERE id = ?",
        params![nanoseconds(started), restart_count, id.as_str()],
    )?;
    Ok(())
}

/// Records how a run ended after which the next one begins by itself.
pub(crate) fn set_restarting(
    db: &Connection,
    id: &ContainerId,
    end: &End,
    restart_count: u32,
) -> rusqlite::Result<()> {
    execute(
        db,
        Durability::Process,
        "UPDATE containers SET exit_code = ?, finished = ?, oom_killed = ?, restart_count = ? WHERE id = ?",
        params![
            end.code,
            nanoseconds(end.finished),
            end.oom_killed,
            restart_count,
            id.as_str()
        ],
    )?;
    Ok(())
}

/// Replaces a container's configuration.
pub(crate) fn set_config(
    db: &Connection,
    id: &ContainerId,
    config: &Config,
) -> Result<(), ContainerError> {
    let config = serde_json::to_string(config)
        .map_err(|error| ContainerError::Invalid(error.to_string()))?;
    db.execute(
        "UPDATE containers SET config = ? WHERE id = ?",
        params![config, id.as_str()],
    )?;
    Ok(())
}

/// Records that a person has stopped a container that did not run any more.
pub(super) fn set_stopped(db: &Connection, id: &ContainerId) -> rusqlite::Result<()> {
    execute(
        db,
        Durability::Process,
        "UPDATE containers SET stopped = 1 WHERE id = ? AND stopped = 0",
        [id.as_str()],
    )?;
    Ok(())
}

/// Records that a start came to nothing.
pub(crate) fn set_failed(
    db: &Connection,
    id: &ContainerId,
    code: i32,
    words: &str,
) -> rusqlite::Result<()> {
    execute(
        db,
        Durability::Machine,
        "UPDATE containers SET phase = CASE WHEN finished IS NULL THEN 'created' ELSE 'exited' END,
             exit_code = ?, error = ?, started = NULL WHERE id = ?",
        params![code, words, id.as_str()],
    )?;
    Ok(())
}

/// Records how a run ended.
pub(crate) fn set_exited(db: &Connection, id: &ContainerId, end: &End) -> rusqlite::Result<()> {
    execute(
        db,
        Durability::Machine,
        "UPDATE containers SET phase = 'exited', exit_code = ?, finished = ?, stopped = ?, oom_killed = ? WHERE id = ?",
        params![
            end.code,
            nanoseconds(end.finished),
            end.stopped,
            end.oom_killed,
            id.as_str()
        ],
    )?;
    Ok(())
}

/// Records that the container's removal has begun and cannot be taken back; its anonymous volumes go with it if
/// `volumes` says so.
pub(crate) fn set_removing(
    db: &Connection,
    id: &ContainerId,
    volumes: bool,
) -> Result<(), ContainerError> {
    let removing = "UPDATE containers SET phase = 'removing' WHERE id = ?";
    if !volumes {
        execute(db, Durability::Process, removing, [id.as_str()])?;
        return Ok(());
    }
    transact(db, Durability::Process, |db| {
        volume_rows::doom(db, id)?;
        db.execute(removing, [id.as_str()])?;
        Ok(())
    })
}

pub(super) fn rename(
    db: &mut Connection,
    id: &ContainerId,
    old: &str,
    name: &str,
) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    transaction.execute(
        "UPDATE containers SET name = ? WHERE id = ?",
        [name, id.as_str()],
    )?;
    crate::network::rows::rename(&transaction, id, old, name)?;
    transaction.commit()
}

/// Takes the row away.
pub(crate) fn delete(
    db: &Connection,
    durability: Durability,
    id: &ContainerId,
) -> rusqlite::Result<()> {
    execute(
        db,
        durability,
        "DELETE FROM containers WHERE id = ?",
        [id.as_str()],
    )?;
    Ok(())
}
