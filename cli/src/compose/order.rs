//! Work on services side by side, in the order of their dependencies.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::thread;

use crate::command_error::CommandError;

/// What each service waits for.
pub(crate) type Needs = BTreeMap<String, BTreeSet<String>>;

/// Returns the same order backwards: a service waits for those that need it.
pub(crate) fn reversed(needs: &Needs) -> Needs {
    let mut reversed: Needs = needs
        .keys()
        .map(|name| (name.clone(), BTreeSet::new()))
        .collect();
    for (name, needed) in needs {
        for other in needed {
            if let Some(waits) = reversed.get_mut(other) {
                waits.insert(name.clone());
            }
        }
    }
    reversed
}

/// How many things are done at once, if that is limited (`--parallel`).
static PERMITS: OnceLock<Permits> = OnceLock::new();

struct Permits {
    free: Mutex<usize>,
    given_back: Condvar,
}

/// Has no more than so many things done at once from now on.
pub(crate) fn limit(number: usize) {
    let _ = PERMITS.set(Permits {
        free: Mutex::new(number.max(1)),
        given_back: Condvar::new(),
    });
}

/// Does something once there are few enough others.
fn permitted<T>(work: impl FnOnce() -> T) -> T {
    let Some(permits) = PERMITS.get() else {
        return work();
    };
    let lock = || {
        permits
            .free
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    };
    let free = permits.given_back.wait_while(lock(), |free| *free == 0);
    *free.unwrap_or_else(std::sync::PoisonError::into_inner) -= 1;
    let done = work();
    *lock() += 1;
    permits.given_back.notify_one();
    done
}

#[derive(Debug, Default)]
struct State {
    done: BTreeSet<String>,
    failed: Option<CommandError>,
}

/// Does something for each service once all that it needs is done; after a failure nothing more is begun.
pub(crate) fn in_order(
    needs: &Needs,
    work: impl Fn(&str) -> Result<(), CommandError> + Sync,
) -> Result<(), CommandError> {
    let state = Mutex::new(State::default());
    let changed = Condvar::new();
    let lock = || {
        state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    };
    thread::scope(|scope| {
        for (name, needed) in needs {
            let (work, changed, lock) = (&work, &changed, &lock);
            scope.spawn(move || {
                let mut now = lock();
                loop {
                    if now.failed.is_some() {
                        return;
                    }
                    let is_ready =
                        |other: &String| now.done.contains(other) || !needs.contains_key(other);
                    if needed.iter().all(is_ready) {
                        break;
                    }
                    now = changed
                        .wait(now)
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                }
                drop(now);
                let result = work(name);
                let mut now = lock();
                match result {
                    Ok(()) => {
                        now.done.insert(name.clone());
                    }
                    Err(error) => {
                        now.failed.get_or_insert(error);
                    }
                }
                changed.notify_all();
            });
        }
    });
    match state
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .failed
    {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Does something for each item side by side, no more at once than is permitted; the first failure is the whole's, but
/// all are tried.
pub(crate) fn side_by_side<T: Sync>(
    items: &[T],
    work: impl Fn(&T) -> Result<(), CommandError> + Sync,
) -> Result<(), CommandError> {
    all_at_once(items, |item| permitted(|| work(item)))
}

/// As [`side_by_side`], for what waits more than it works: all begin at once.
pub(crate) fn all_at_once<T: Sync>(
    items: &[T],
    work: impl Fn(&T) -> Result<(), CommandError> + Sync,
) -> Result<(), CommandError> {
    if let [item] = items {
        return work(item);
    }
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = items
            .iter()
            .map(|item| scope.spawn(move || work(item)))
            .collect();
        let results = threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(CommandError::failed("a thread has ended early")))
        });
        // All are waited for, whatever the first has come to.
        results.collect::<Vec<_>>().into_iter().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(pairs: &[(&str, &[&str])]) -> Needs {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        pairs
            .iter()
            .map(|(name, needed)| ((*name).to_owned(), owned(needed)))
            .collect()
    }

    #[test]
    fn what_is_needed_comes_first_and_last_when_reversed() {
        let needs = needs(&[("web", &["db", "cache"]), ("db", &[]), ("cache", &["db"])]);
        let order = |needs: &Needs| {
            let order = Mutex::new(Vec::new());
            in_order(needs, |name| {
                order.lock().expect("a lock").push(name.to_owned());
                Ok(())
            })
            .expect("done");
            order.into_inner().expect("a lock")
        };
        assert_eq!(order(&needs), ["db", "cache", "web"]);
        assert_eq!(order(&reversed(&needs)), ["web", "cache", "db"]);
    }

    #[test]
    fn nothing_begins_after_a_failure() {
        let needs = needs(&[("a", &[]), ("b", &["a"])]);
        let result = in_order(&needs, |name| match name {
            "a" => Err(CommandError::failed("no")),
            _ => panic!("b has begun"),
        });
        assert!(result.is_err());
    }
}
