//! Keeping the thread that answers on the CPU of those who ask.
//!
//! A request costs two switches when its answer is made on the same CPU, and two wakeups of an idle CPU when it is not:
//! three to ten times as much, most of all in a virtual machine. The scheduler prefers an idle CPU for a thread that is
//! woken, so it keeps client and server apart. Two things bring them together:
//!
//! - The server looks now and then where its client ran last (`proc(5)`, field 39 of "stat") and binds itself to that
//!   CPU (`sched_setaffinity(2)`).
//! - It runs as `SCHED_IDLE` meanwhile (`sched(7)`): a CPU on which nothing else runs counts as idle, so that the client
//!   is woken there and not on the next one.
//!
//! On a CPU that others keep busy such a thread would starve. A **guardian** thread therefore looks every two
//! milliseconds, as long as there are requests, whether some are waiting while the server waits for its CPU; if so, or
//! when nobody asks any more, the server is a plain thread again that may run anywhere.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Condvar;
use parking_lot::Mutex;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::thread::CpuSet;
use rustix::thread::Pid;

use crate::sys::thread;

/// How many requests there are between two looks at a client: a look costs 3 us, a request from the wrong CPU 50 more
/// than others.
const INTERVAL: u32 = 5;
/// How often the guardian looks.
const ROUND: Duration = Duration::from_millis(2);
/// So many rounds without a request, and nothing is followed any more.
const QUIET: u32 = 8;
/// What the server may wait for a CPU within a round in which requests wait for it.
const PATIENCE: Duration = Duration::from_millis(1);
/// A server that waits so long within a round does nothing else.
const LONG_WAIT: Duration = Duration::from_micros(1500);
/// A server that answers so many requests in a round does not starve.
const PLENTY: u64 = 8;
/// How long the CPUs are left to others after that, at first and at most.
const COOL: Duration = Duration::from_millis(100);
const COOLEST: Duration = Duration::from_secs(10);

/// Returns where the calling thread may run.
pub(super) fn allowed() -> CpuSet {
    rustix::thread::sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new())
}

/// Lets a thread that was made by one that is bound run anywhere.
pub(super) fn run_anywhere(allowed: &CpuSet) {
    let _ = rustix::thread::sched_setaffinity(None, allowed);
    let _ = thread::run_normally(rustix::thread::gettid());
}

/// Where the one thread that answers runs.
#[derive(Debug)]
pub(super) struct Placement {
    shared: Arc<Shared>,
    server: Mutex<Server>,
}

/// What the server and its guardian both know.
#[derive(Debug)]
struct Shared {
    allowed: CpuSet,
    device: OwnedFd,
    requests: AtomicU64,
    /// Whether the guardian sleeps until the next request; then nothing is followed.
    asleep: AtomicBool,
    /// Counts how often the guardian has let the server go.
    released: AtomicU32,
    /// The CPUs are wanted by others.
    is_crowded: AtomicBool,
    ended: AtomicBool,
    wake: Mutex<()>,
    woken: Condvar,
}

/// What the server alone knows.
#[derive(Debug)]
struct Server {
    bound: Option<usize>,
    released: u32,
    /// The client that was looked at last.
    client: Option<(u32, File)>,
    left: u32,
    has_guardian: Option<bool>,
}

impl Placement {
    /// Follows nobody yet; requests come by `device`. Must be called by a thread that is not bound to a CPU.
    pub(super) fn new(device: OwnedFd) -> Placement {
        let shared = Shared {
            allowed: allowed(),
            device,
            requests: AtomicU64::new(0),
            asleep: AtomicBool::new(true),
            released: AtomicU32::new(0),
            is_crowded: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            wake: Mutex::new(()),
            woken: Condvar::new(),
        };
        let server = Server {
            bound: None,
            released: 0,
            client: None,
            left: INTERVAL,
            has_guardian: None,
        };
        Placement {
            shared: Arc::new(shared),
            server: Mutex::new(server),
        }
    }

    /// Returns whether there are requests that nobody has read yet.
    pub(super) fn requests_wait(&self) -> bool {
        self.shared.requests_wait()
    }

    /// Notes a request of the thread `client`, and moves to its CPU if it is time to. Only for the thread that answers,
    /// if there is but one.
    pub(super) fn follow(&self, client: u32) {
        if client == 0 {
            return;
        }
        let shared = &*self.shared;
        let mut server = self.server.lock();
        if !server.has_guardian(&self.shared) {
            return;
        }
        shared.requests.fetch_add(1, Ordering::Relaxed);
        if shared.asleep.load(Ordering::Acquire) {
            let _held = shared.wake.lock();
            shared.asleep.store(false, Ordering::Release);
            shared.woken.notify_one();
        }
        if !shared.is_crowded.load(Ordering::Relaxed) {
            server.asked(shared, client);
        }
    }
}

impl Drop for Placement {
    fn drop(&mut self) {
        let _held = self.shared.wake.lock();
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.woken.notify_one();
    }
}

impl Server {
    /// Starts the guardian at the first request; returns whether there is one.
    fn has_guardian(&mut self, shared: &Arc<Shared>) -> bool {
        *self.has_guardian.get_or_insert_with(|| {
            let server = rustix::thread::gettid();
            let info = format!("/proc/self/task/{}/schedstat", server.as_raw_nonzero());
            let may = shared.allowed.count() > 1 && thread::may_run_when_idle();
            let (true, Ok(info)) = (may, File::open(info)) else {
                return false;
            };
            let shared = shared.clone();
            let guardian = move || shared.guard(server, &info);
            let guardian = std::thread::Builder::new()
                .name("ply-guardian".to_owned())
                .spawn(guardian);
            guardian.is_ok()
        })
    }

    fn asked(&mut self, shared: &Shared, client: u32) {
        let released = shared.released.load(Ordering::Acquire);
        if released != self.released {
            self.released = released;
            self.bound = None;
            self.left = 1;
        }
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return;
        }
        match self.cpu_of(client) {
            Some(cpu) if Some(cpu) != self.bound && shared.allowed.is_set(cpu) => {
                self.bind(shared, cpu);
            }
            _ => {}
        }
        self.left = INTERVAL;
    }

    /// Returns the CPU that a thread ran on last.
    fn cpu_of(&mut self, thread: u32) -> Option<usize> {
        let known = (self.client.as_ref()).is_some_and(|(known, _)| *known == thread);
        if !known {
            let stat = File::open(format!("/proc/{thread}/stat")).ok()?;
            self.client = Some((thread, stat));
        }
        let (_, stat) = self.client.as_ref()?;
        let mut buffer = [0; 1024];
        let length = stat.read_at(&mut buffer, 0).ok()?;
        last_cpu(&buffer[..length])
    }

    fn bind(&mut self, shared: &Shared, cpu: usize) {
        let mut only = CpuSet::new();
        only.set(cpu);
        // The guardian does not let go between this look and what follows it.
        let _held = shared.wake.lock();
        if shared.asleep.load(Ordering::Relaxed) {
            return;
        }
        let is_new = self.bound.is_none();
        if rustix::thread::sched_setaffinity(None, &only).is_ok() {
            self.bound = Some(cpu);
            if is_new {
                let _ = thread::run_when_idle(rustix::thread::gettid());
            }
        }
    }
}

impl Shared {
    /// Looks after the server until the filesystem ends.
    fn guard(&self, server: Pid, info: &File) {
        run_anywhere(&self.allowed);
        let mut cool = COOL;
        let mut crowded_until: Option<Instant> = None;
        let (mut requests, mut quiet, mut were_waiting) = (0, 0, false);
        let mut waited = waited(info);
        let mut held = self.wake.lock();
        loop {
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            if self.asleep.load(Ordering::Relaxed) {
                self.woken.wait(&mut held);
                quiet = 0;
                waited = self::waited(info);
                continue;
            }
            self.woken.wait_for(&mut held, ROUND);
            let (asked, delay) = (self.requests.load(Ordering::Relaxed), self::waited(info));
            quiet = if asked == requests { quiet + 1 } else { 0 };
            let are_waiting = self.requests_wait();
            let starves = were_waiting
                && are_waiting
                && asked - requests < PLENTY
                && delay.saturating_sub(waited) > PATIENCE;
            were_waiting = are_waiting;
            if !starves && delay.saturating_sub(waited) > LONG_WAIT && crowded_until.is_none() {
                // Its client computes; perhaps something waits for what the server has in its hands.
                self.release(server);
            }
            if starves && crowded_until.is_none() {
                self.release(server);
                self.is_crowded.store(true, Ordering::Relaxed);
                crowded_until = Some(Instant::now() + cool);
                cool = (cool * 2).min(COOLEST);
            }
            if crowded_until.is_some_and(|until| Instant::now() >= until) {
                crowded_until = None;
                self.is_crowded.store(false, Ordering::Relaxed);
            }
            if quiet >= QUIET && crowded_until.is_none() {
                self.release(server);
                self.asleep.store(true, Ordering::Release);
                cool = COOL;
            }
            (requests, waited) = (asked, delay);
        }
    }

    /// Returns whether there are requests that nobody has read yet.
    fn requests_wait(&self) -> bool {
        let mut device = [PollFd::new(&self.device, PollFlags::IN)];
        let now = rustix::event::Timespec::default();
        rustix::event::poll(&mut device, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Makes the server a plain thread that runs anywhere.
    fn release(&self, server: Pid) {
        let _ = thread::run_normally(server);
        let _ = rustix::thread::sched_setaffinity(Some(server), &self.allowed);
        self.released.fetch_add(1, Ordering::Release);
    }
}

/// Returns how long a thread was ready to run and did not.
fn waited(info: &File) -> Duration {
    let mut buffer = [0; 96];
    let length = info.read_at(&mut buffer, 0).unwrap_or_default();
    let text = std::str::from_utf8(&buffer[..length]).unwrap_or_default();
    let nanos = text.split_ascii_whitespace().nth(1);
    Duration::from_nanos(nanos.and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// Finds the CPU that a thread ran on last in what `proc(5)` says of it.
fn last_cpu(stat: &[u8]) -> Option<usize> {
    // The second field is a name in parentheses that may contain anything.
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let fields = std::str::from_utf8(&stat[after_name..]).ok()?;
    fields.split_ascii_whitespace().nth(36)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_of_a_bound_thread_is_found() {
        let allowed = allowed();
        for cpu in (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)) {
            let mut only = CpuSet::new();
            only.set(cpu);
            rustix::thread::sched_setaffinity(None, &only).expect("an allowed CPU");
            let own = rustix::thread::gettid().as_raw_nonzero().get() as u32;
            let stat = std::fs::read(format!("/proc/{own}/stat")).expect("proc");
            assert_eq!(last_cpu(&stat), Some(cpu));
        }
        run_anywhere(&allowed);
    }

    #[test]
    fn the_server_is_let_go_when_nobody_asks() {
        let device = File::open("/dev/null").expect("a device");
        let placement = Placement::new(device.into());
        if placement.shared.allowed.count() < 2 || !thread::may_run_when_idle() {
            return;
        }
        let own = rustix::thread::gettid();
        for _ in 0..=INTERVAL {
            placement.follow(own.as_raw_nonzero().get() as u32);
        }
        assert_eq!(allowed().count(), 1, "bound to the client's CPU");
        let deadline = Instant::now() + Duration::from_secs(10);
        while allowed() != placement.shared.allowed && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(allowed(), placement.shared.allowed);
        assert!(!thread::runs_when_idle(own));
    }
}
