//! Ending a build before it is done.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::attach::Sender;

/// What ends a build: the containers that run are killed, and no further step begins. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_canceled: AtomicBool,
    running: Mutex<HashMap<String, Sender>>,
}

impl Cancel {
    /// Ends the build.
    pub fn cancel(&self) {
        self.0.is_canceled.store(true, Ordering::Relaxed);
        for sender in self.0.running.lock().values() {
            sender.hang_up();
        }
    }

    pub(super) fn is_canceled(&self) -> bool {
        self.0.is_canceled.load(Ordering::Relaxed)
    }

    /// Lets a container be stopped as long as the guard lives.
    pub(super) fn watch(&self, container: &str, sender: Sender) -> Watched {
        let mut running = self.0.running.lock();
        if self.is_canceled() {
            sender.hang_up();
        }
        running.insert(container.to_owned(), sender);
        Watched {
            cancel: self.clone(),
            container: container.to_owned(),
        }
    }
}

/// A container that is stopped if the build is.
#[derive(Debug)]
pub(super) struct Watched {
    cancel: Cancel,
    container: String,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.cancel.0.running.lock().remove(&self.container);
    }
}
