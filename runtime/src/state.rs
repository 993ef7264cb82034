//! `state.db`: SQLite in WAL mode, the rows that several processes share.
//!
//! Each concern owns its tables and states them as a `SCHEMA` beside the code that uses them; `user_version` counts the
//! schemas already applied. A commit is durable when it returns (`synchronous=FULL` is WAL's own fsync on commit);
//! a crash leaves the last commit.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::Flock;
use nix::fcntl::FlockArg;
use rusqlite::Connection;

/// The schemas in the order they came to be; only ever appended to.
const SCHEMAS: &[&str] = &[
    crate::image::SCHEMA,
    crate::container::SCHEMA,
    crate::container::SCHEMA_OF_RESTARTS,
    crate::volume::SCHEMA,
    crate::build::cache::SCHEMA,
    crate::network::SCHEMA,
];

/// How long a process waits for another one's write.
const BUSY: Duration = Duration::from_secs(30);

/// Opens the database at `path`, making or upgrading it first. It is closed to other users: containers' environments are
/// in it.
pub(crate) fn open(path: &Path) -> rusqlite::Result<Connection> {
    close(path).map_err(|error| {
        let cannot_open = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        rusqlite::Error::SqliteFailure(cannot_open, Some(error.to_string()))
    })?;
    let mut db = Connection::open(path)?;
    db.busy_timeout(BUSY)?;
    let version = db.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))? as usize;
    if version < SCHEMAS.len() {
        let _alone = alone(path);
        upgrade(&mut db)?;
    }
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", true)?;
    Ok(db)
}

/// Makes the file if it is not there, and keeps other users out of it and of what SQLite keeps beside it, which it gives
/// the same mode.
fn close(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    const MODE: u32 = 0o600;
    let mut options = File::options();
    options.write(true).create_new(true).mode(MODE);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made.map(drop),
    }
    for ending in ["db", "db-wal", "db-shm"] {
        match layerfs::store::close(&path.with_extension(ending), MODE) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Keeps other processes from upgrading at the same time: the change to WAL fails, instead of waiting, while another
/// one makes it.
fn alone(path: &Path) -> Option<Flock<File>> {
    let lock = layerfs::store::open_lock(&path.with_extension("lock")).ok()?;
    Flock::lock(lock, FlockArg::LockExclusive).ok()
}

/// Applies the schemas that are missing, once whatever the number of processes that try.
fn upgrade(db: &mut Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "journal_mode", "WAL")?;
    let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version =
        transaction.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))? as usize;
    for schema in &SCHEMAS[version.min(SCHEMAS.len())..] {
        transaction.execute_batch(schema)?;
    }
    transaction.pragma_update(None, "user_version", SCHEMAS.len() as u32)?;
    transaction.commit()
}
