//! The process's umask, which must not touch the modes of what an upper makes (`umask(2)`), and is everybody's else.

use parking_lot::Mutex;
use rustix::fs::Mode;

/// How many uppers are open, and the umask from before the first.
static CLEARED: Mutex<(usize, Mode)> = Mutex::new((0, Mode::empty()));

/// Keeps the process's umask empty; the last one that is dropped restores it.
#[derive(Debug)]
pub(super) struct ClearedUmask(());

impl ClearedUmask {
    pub(super) fn new() -> ClearedUmask {
        let mut cleared = CLEARED.lock();
        let before = rustix::process::umask(Mode::empty());
        if cleared.0 == 0 {
            cleared.1 = before;
        }
        cleared.0 += 1;
        ClearedUmask(())
    }
}

impl Drop for ClearedUmask {
    fn drop(&mut self) {
        let mut cleared = CLEARED.lock();
        cleared.0 -= 1;
        if cleared.0 == 0 {
            rustix::process::umask(cleared.1);
        }
    }
}
