//! Threads for what may wait for a disk, so that the one that answers does not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Condvar;
use parking_lot::Mutex;
use rustix::thread::CpuSet;

use super::placement;

/// How many there are at most.
const MOST: usize = 8;
/// A thread that had nothing to do for so long ends.
const IDLE: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send>;

/// The threads, started when they are needed.
#[derive(Debug)]
pub(super) struct Workers {
    shared: Arc<Shared>,
    allowed: CpuSet,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    idle: usize,
    threads: usize,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{} jobs, {} threads",
            self.jobs.len(),
            self.threads
        )
    }
}

impl Workers {
    /// Makes none yet. Must be called by a thread that is not bound to a CPU.
    pub(super) fn new() -> Workers {
        Workers {
            shared: Arc::default(),
            allowed: placement::allowed(),
        }
    }

    /// Does `job` in another thread; in this one if there can be none.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut queue = self.shared.queue.lock();
        queue.jobs.push_back(Box::new(job));
        if queue.idle >= queue.jobs.len() || queue.threads == MOST {
            self.shared.more.notify_one();
            return;
        }
        queue.threads += 1;
        drop(queue);
        let (shared, allowed) = (self.shared.clone(), self.allowed);
        let started = std::thread::Builder::new()
            .name("ply-worker".to_owned())
            .spawn(move || {
                placement::run_anywhere(&allowed);
                shared.work();
            });
        if started.is_err() {
            let mut queue = self.shared.queue.lock();
            queue.threads -= 1;
            let job = if queue.threads == 0 {
                queue.jobs.pop_front()
            } else {
                None
            };
            drop(queue);
            if let Some(job) = job {
                job();
            }
        }
    }
}

impl Shared {
    fn work(&self) {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                job();
                queue = self.queue.lock();
                continue;
            }
            queue.idle += 1;
            let waited = self.more.wait_for(&mut queue, IDLE);
            queue.idle -= 1;
            if waited.timed_out() && queue.jobs.is_empty() {
                queue.threads -= 1;
                return;
            }
        }
    }
}
