//! The stages of a build: which are needed, in which order they are built, and what became of them.
//!
//! A stage is built when all it is known to need has been; independent ones side by side. What turns out to be needed
//! only within a stage (by a trigger, or a variable) is built there and then, or waited for. A stage needs only earlier
//! ones, so nobody waits in a circle.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Condvar;
use parking_lot::Mutex;

use super::builder::Builder;
use super::dockerfile::Dockerfile;
use super::dockerfile::InstructionKind;
use super::dockerfile::Stage;
use super::dockerfile::expand;
use super::error::BuildError;
use super::error::StepError;
use super::options::BuildOptions;
use super::scope::GlobalScope;
use super::state::State;

/// How many stages are built at once, whatever the number of processors.
const MOST_AT_ONCE: usize = 4;

/// What has become of a stage.
enum Slot {
    Waiting,
    Running,
    Done(Arc<State>),
    Failed,
}

/// The stages, by number.
pub(super) struct Stages {
    slots: Mutex<Vec<Slot>>,
    changed: Condvar,
    /// The error that the build ends with.
    failure: Mutex<Option<BuildError>>,
}

impl Stages {
    pub(super) fn new(count: usize) -> Stages {
        Stages {
            slots: Mutex::new((0..count).map(|_| Slot::Waiting).collect()),
            changed: Condvar::new(),
            failure: Mutex::new(None),
        }
    }
}

/// Returns the base of a stage as its `FROM` means it.
pub(super) fn base_name(
    dockerfile: &Dockerfile,
    scope: &GlobalScope,
    stage: &Stage,
) -> Result<String, StepError> {
    let lookup = |name: &str| scope.value(name);
    let escape = dockerfile.directives.escape;
    let name = expand::word(&stage.base, escape, &lookup)
        .map_err(|error| StepError::Word(error.to_string()))?;
    match name.is_empty() {
        true => Err(StepError::Word(format!(
            "base name ({}) should not be blank",
            stage.base
        ))),
        false => Ok(name),
    }
}

/// Returns the stage that a name means in another one: an earlier one, unless a named context takes its place.
pub(super) fn earlier(
    dockerfile: &Dockerfile,
    options: &BuildOptions,
    name: &str,
    before: usize,
) -> Option<usize> {
    match options.contexts.contains_key(name) {
        true => None,
        false => dockerfile.stage(name, before),
    }
}

/// Returns the earlier stages that a stage is known to need.
fn needs(
    dockerfile: &Dockerfile,
    options: &BuildOptions,
    scope: &GlobalScope,
    index: usize,
) -> BTreeSet<usize> {
    let stage = &dockerfile.stages[index];
    let earlier = |name: &str| earlier(dockerfile, options, name, index);
    let mut needs = BTreeSet::new();
    if let Ok(base) = base_name(dockerfile, scope, stage) {
        needs.extend(earlier(&base));
    }
    for instruction in &stage.instructions {
        match &instruction.kind {
            InstructionKind::Copy(copy) => {
                let from = copy.from.as_deref();
                needs.extend(from.and_then(earlier));
            }
            InstructionKind::Run(run) => {
                for mount in &run.mounts {
                    let from = super::run_mounts::stated_source(mount);
                    needs.extend(from.and_then(|from| earlier(&from)));
                }
            }
            _ => {}
        }
    }
    needs
}

/// Returns the stages that `target` needs, itself the last.
pub(super) fn needed(
    dockerfile: &Dockerfile,
    options: &BuildOptions,
    scope: &GlobalScope,
    target: usize,
) -> Vec<usize> {
    let mut all = BTreeSet::from([target]);
    let mut left = vec![target];
    while let Some(index) = left.pop() {
        for need in needs(dockerfile, options, scope, index) {
            if all.insert(need) {
                left.push(need);
            }
        }
    }
    all.into_iter().collect()
}

/// Builds the stages; returns what became of `target`.
pub(super) fn build(
    builder: &Builder<'_>,
    needed: &[usize],
    target: usize,
) -> Result<State, BuildError> {
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    let workers = needed.len().min(processors.clamp(2, MOST_AT_ONCE));
    std::thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(|| work(builder, needed));
        }
        work(builder, needed);
    });
    if let Some(failure) = builder.stages.failure.lock().take() {
        return Err(failure);
    }
    match &builder.stages.slots.lock()[target] {
        Slot::Done(state) => Ok(State::clone(state)),
        _ => Err(BuildError::Engine(Box::new(StepError::Canceled))),
    }
}

/// Builds stages as long as there are any that nobody builds.
fn work(builder: &Builder<'_>, needed: &[usize]) {
    let stages = &builder.stages;
    loop {
        let next = {
            let mut slots = stages.slots.lock();
            loop {
                if slots.iter().any(|slot| matches!(slot, Slot::Failed)) {
                    return;
                }
                let is_done = |index: &usize| matches!(slots[*index], Slot::Done(_));
                let is_ready = |index: &&usize| {
                    matches!(slots[**index], Slot::Waiting)
                        && needs(builder.dockerfile, builder.options, &builder.scope, **index)
                            .iter()
                            .all(is_done)
                };
                if let Some(&index) = needed.iter().find(is_ready) {
                    slots[index] = Slot::Running;
                    break index;
                }
                let is_over = |index: &usize| !matches!(slots[*index], Slot::Waiting);
                if needed.iter().all(is_over) {
                    return;
                }
                stages.changed.wait(&mut slots);
            }
        };
        finish(builder, next);
    }
}

/// Builds a stage that is this thread's to build, and says what became of it.
fn finish(builder: &Builder<'_>, index: usize) {
    let stages = &builder.stages;
    let built = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| builder.stage(index)));
    let slot = match built {
        Ok(Ok(state)) => Slot::Done(Arc::new(state)),
        Ok(Err(error)) => {
            // The first one counts; what it stops fails for it.
            let is_canceled = |error: &BuildError| matches!(error, BuildError::Step { cause, .. } if matches!(**cause, StepError::Canceled));
            let mut failure = stages.failure.lock();
            if failure.as_ref().is_none_or(is_canceled) {
                *failure = Some(error);
            }
            drop(failure);
            builder.cancel();
            Slot::Failed
        }
        Err(panic) => {
            stages.slots.lock()[index] = Slot::Failed;
            stages.changed.notify_all();
            builder.cancel();
            std::panic::resume_unwind(panic);
        }
    };
    stages.slots.lock()[index] = slot;
    stages.changed.notify_all();
}

impl Builder<'_> {
    /// Returns what became of a stage, building it first if nobody has begun to.
    pub(super) fn result(&self, index: usize) -> Result<Arc<State>, StepError> {
        loop {
            {
                let mut slots = self.stages.slots.lock();
                match &slots[index] {
                    Slot::Done(state) => return Ok(Arc::clone(state)),
                    Slot::Failed => return Err(StepError::Canceled),
                    Slot::Running => {
                        self.stages.changed.wait(&mut slots);
                        continue;
                    }
                    Slot::Waiting => slots[index] = Slot::Running,
                }
            }
            finish(self, index);
        }
    }
}
