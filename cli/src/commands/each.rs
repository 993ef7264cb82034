//! Verbs that do one thing to each of several containers.

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use crate::command_error::CommandError;
use crate::output::outln;

/// Does something to each name and prints the name; failures are told together at the end.
pub(super) fn each<E: Display>(
    names: &[String],
    mut act: impl FnMut(&str) -> Result<(), E>,
) -> Result<ExitCode, CommandError> {
    each_printing(names, |name| act(name).map(|()| name.to_owned()))
}

/// How many containers a verb is busy with at once: Docker's number.
const AT_ONCE: usize = 50;

/// Does something to several names at once, then prints those it was done to; failures are told together at the end.
pub(super) fn each_at_once<E: Display>(
    names: &[String],
    act: impl Fn(&str) -> Result<(), E> + Sync,
) -> Result<ExitCode, CommandError> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 1..names.len().min(AT_ONCE) {
            let (sender, next, act) = (sender.clone(), &next, &act);
            scope.spawn(move || work(names, next, act, &sender));
        }
        work(names, &next, &act, &sender);
    });
    drop(sender);
    let mut done: Vec<_> = receiver.into_iter().collect();
    done.sort_by_key(|(at, _)| *at);
    let failures: Vec<String> = done
        .into_iter()
        .filter_map(|(at, outcome): (usize, Result<(), String>)| {
            if outcome.is_ok() {
                outln!("{}", names[at]);
            }
            outcome.err()
        })
        .collect();
    told(&failures)
}

/// Takes names until none is left.
fn work<E: Display>(
    names: &[String],
    next: &AtomicUsize,
    act: &impl Fn(&str) -> Result<(), E>,
    done: &mpsc::Sender<(usize, Result<(), String>)>,
) {
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let Some(name) = names.get(at) else {
            return;
        };
        // The receiver lives as long as the scope.
        let _ = done.send((at, act(name).map_err(|error| error.to_string())));
    }
}

/// Does something to each name and prints what it returns.
pub(super) fn each_printing<E: Display>(
    names: &[String],
    mut act: impl FnMut(&str) -> Result<String, E>,
) -> Result<ExitCode, CommandError> {
    let mut failures = Vec::new();
    for name in names {
        match act(name) {
            Ok(line) => outln!("{line}"),
            Err(error) => failures.push(error.to_string()),
        }
    }
    told(&failures)
}

fn told(failures: &[String]) -> Result<ExitCode, CommandError> {
    match failures.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(CommandError::failed(failures.join("\n"))),
    }
}
