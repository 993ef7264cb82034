//! Containers for who asks for them often: read again only when something has changed.
//!
//! What was read stays true as long as nobody has committed to `state.db` since (`PRAGMA data_version`, as a connection
//! sees it that never writes) and the containers that lived then live on, their monitors having written nothing new
//! down. Nobody comes to life without a commit: the row says `running` before there is a monitor.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::Container;
use super::ContainerError;
use super::ContainerId;
use super::Status;
use super::rows;
use crate::Engine;
use crate::engine::EngineError;
use crate::state;

/// All containers of an engine, as they are now.
#[derive(Debug)]
pub struct Follower {
    engine: Engine,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    watch: Connection,
    last: Option<Seen>,
}

/// What was read, and what it depends on.
#[derive(Debug)]
struct Seen {
    version: i64,
    living: Vec<(ContainerId, Living)>,
    containers: Arc<Vec<Container>>,
}

/// A container that lives, and which one its file of the living was: device, inode, time and size.
type Living = Option<(u64, u64, i64, i64, u64)>;

impl Follower {
    /// Follows the containers of an engine.
    pub fn new(engine: &Engine) -> Result<Follower, EngineError> {
        let path = engine.root().join("state.db");
        let watch = state::open(&path).map_err(|source| EngineError::Database { path, source })?;
        Ok(Follower {
            engine: engine.clone(),
            state: Mutex::new(State { watch, last: None }),
        })
    }

    /// Returns all containers, the newest first: the very same list as long as nothing has changed.
    pub fn containers(&self) -> Result<Arc<Vec<Container>>, ContainerError> {
        let mut state = self.state.lock();
        let version = state.watch.prepare_cached("PRAGMA data_version")?;
        let version: i64 = { version }.query_row([], |row| row.get(0))?;
        if let Some(seen) = &state.last
            && seen.version == version
            && seen
                .living
                .iter()
                .all(|(id, then)| self.engine.living(id).as_ref() == Some(then))
        {
            return Ok(Arc::clone(&seen.containers));
        }
        state.last = None;
        self.engine.bury_the_dead()?;
        let mut containers = rows::all(&self.engine.db())?;
        let mut living = Vec::new();
        let mut is_settled = true;
        for container in &mut containers {
            match self.engine.living(&container.id) {
                Some(alive) => living.push((container.id.clone(), alive)),
                // Somebody starts or removes it just now; if they are killed, nothing will tell.
                None => is_settled &= is_at_rest(container),
            }
            self.engine.observe(container);
        }
        let containers = Arc::new(containers);
        state.last = is_settled.then(|| Seen {
            version,
            living,
            containers: Arc::clone(&containers),
        });
        Ok(containers)
    }
}

/// Whether the next change of a container that does not live is one of its row.
fn is_at_rest(container: &Container) -> bool {
    match container.state.status {
        Status::Created => true,
        Status::Exited => !container.config.auto_remove,
        _ => false,
    }
}

impl Engine {
    /// Returns which state of its life a container is in, if it lives.
    fn living(&self, id: &ContainerId) -> Option<Living> {
        self.is_alive(id).then(|| {
            let file = fs::metadata(self.run_paths(id).alive_file()).ok()?;
            Some((
                file.dev(),
                file.ino(),
                file.mtime(),
                file.mtime_nsec(),
                file.size(),
            ))
        })
    }
}
