//! A build: what all its stages share, and the verb.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::OnceLock;

use layerfs::Digest;
use parking_lot::Mutex;

use super::cache::Kept;
use super::context;
use super::dockerfile::Dockerfile;
use super::dockerfile::PROXY_ARGS;
use super::dockerfile::Source as Written;
use super::error::BuildError;
use super::error::StepError;
use super::event::BuildEvent;
use super::event::BuildProgress;
use super::event::StepId;
use super::options::BuildOptions;
use super::options::BuildOutcome;
use super::scope::GlobalScope;
use super::source::Source;
use super::stages::Stages;
use super::state::State;
use super::transport::Imported;
use crate::Engine;

/// What the stages of a build share.
pub(super) struct Builder<'a> {
    pub(super) engine: &'a Engine,
    pub(super) options: &'a BuildOptions,
    pub(super) progress: &'a dyn BuildProgress,
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) context: Arc<Source>,
    pub(super) scope: GlobalScope,
    /// `SOURCE_DATE_EPOCH`: no time in the image is after it.
    pub(super) latest: Option<i64>,
    pub(super) numbers: Numbers,
    pub(super) stages: Stages,
    /// Contexts and images that `--from` names, opened once.
    pub(super) sources: Mutex<HashMap<String, Arc<Source>>>,
    /// The build arguments that something has asked for.
    pub(super) used_args: Mutex<HashSet<String>>,
    /// The results that served or were made, for a cache that is written elsewhere.
    pub(super) results: Mutex<Vec<(Digest, Kept)>>,
    /// The keys of results that served, to remember when.
    pub(super) served: Mutex<Vec<Digest>>,
    /// Results of others' that may be fetched.
    pub(super) imported: OnceLock<Imported>,
}

/// How steps are counted.
pub(super) struct Numbers {
    /// The number of each stage's `FROM`; 0 of one that is not built.
    from: Vec<usize>,
    total: usize,
}

impl Numbers {
    fn new(dockerfile: &Dockerfile, needed: &[usize], labels: bool) -> Numbers {
        let mut from = vec![0; dockerfile.stages.len()];
        let mut next = dockerfile.global_args.len() + 1;
        for &stage in needed {
            from[stage] = next;
            next += 1 + dockerfile.stages[stage].instructions.len();
        }
        Numbers {
            from,
            total: next - 1 + usize::from(labels),
        }
    }
}

impl Engine {
    /// Builds an image, or what the outputs ask for.
    pub fn build(
        &self,
        options: &BuildOptions,
        progress: &dyn BuildProgress,
    ) -> Result<BuildOutcome, BuildError> {
        let engine_failed = |error| BuildError::Engine(Box::new(error));
        // Layers that no image has yet must not be swept.
        let _lease = self
            .lease()
            .map_err(|error| engine_failed(StepError::Image(error)))?;
        let (context, dockerfile) = context::open(self, options)?;
        for warning in &dockerfile.warnings {
            progress.event(BuildEvent::Warning(warning.clone()));
        }
        let scope = GlobalScope::new(&dockerfile, options)?;
        let target = target(&dockerfile, options)?;
        let needed = super::stages::needed(&dockerfile, options, &scope, target);
        let latest = scope.source_date_epoch(options);
        let builder = Builder {
            engine: self,
            options,
            progress,
            dockerfile: &dockerfile,
            context: Arc::new(context),
            latest,
            numbers: Numbers::new(&dockerfile, &needed, !options.labels.is_empty()),
            stages: Stages::new(dockerfile.stages.len()),
            scope,
            sources: Mutex::new(HashMap::new()),
            used_args: Mutex::new(HashSet::new()),
            results: Mutex::new(Vec::new()),
            served: Mutex::new(Vec::new()),
            imported: OnceLock::new(),
        };
        progress.event(BuildEvent::Started {
            steps: builder.numbers.total,
        });
        let imported = super::transport::import(&builder);
        let _ = builder.imported.set(imported);
        let built = builder.build(&needed, target);
        builder.context.save_digests();
        let served = std::mem::take(&mut *builder.served.lock());
        if let Err(error) = self.used_steps(&served) {
            log::warn!("the build cache: {error}");
        }
        let state = built?;
        builder.tell_unused_args();
        super::output::write(&builder, state)
    }
}

/// Returns the stage that is to be built.
fn target(dockerfile: &Dockerfile, options: &BuildOptions) -> Result<usize, BuildError> {
    let count = dockerfile.stages.len();
    match &options.target {
        None => Ok(count - 1),
        Some(name) if name.is_empty() => Ok(count - 1),
        Some(name) => dockerfile
            .stage(name, count)
            .ok_or_else(|| BuildError::NoTarget(name.clone())),
    }
}

impl Builder<'_> {
    fn build(&self, needed: &[usize], target: usize) -> Result<State, BuildError> {
        self.tell_global_args();
        let mut state = super::stages::build(self, needed, target)?;
        if !self.options.labels.is_empty() {
            self.add_labels(target, &mut state)?;
        }
        Ok(state)
    }

    /// Does what the command line's labels ask for, as a last step.
    fn add_labels(&self, target: usize, state: &mut State) -> Result<(), BuildError> {
        let pairs: Vec<(String, String)> = self
            .options
            .labels
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let text = pairs
            .iter()
            .map(|(name, value)| format!(" {name}={value}"))
            .collect::<String>();
        let source = Written {
            first_line: 0,
            last_line: 0,
            text: format!("LABEL{text}"),
        };
        let step = StepId {
            number: self.numbers.total,
            ..self.step(target, 0, None, &source)
        };
        self.step_of(&step, &source, state, |builder, state, step| {
            builder.labels(state, step, &pairs)
        })
    }

    fn tell_global_args(&self) {
        for (at, args) in self.dockerfile.global_args.iter().enumerate() {
            let step = StepId {
                stage: None,
                stage_name: None,
                number: at + 1,
                total: self.numbers.total,
                trigger: None,
                line: args.source.first_line,
            };
            self.progress.event(BuildEvent::Began {
                step,
                text: args.source.text.clone(),
            });
        }
    }

    /// Returns the name of a step: the `at`th after the stage's `FROM`.
    pub(super) fn step(
        &self,
        stage: usize,
        at: usize,
        trigger: Option<usize>,
        source: &Written,
    ) -> StepId {
        StepId {
            stage: Some(stage),
            stage_name: self.dockerfile.stages[stage].name.clone(),
            number: self.numbers.from[stage] + at,
            total: self.numbers.total,
            trigger,
            line: source.first_line,
        }
    }

    /// Does a step, and tells of its beginning and end.
    pub(super) fn step_of(
        &self,
        step: &StepId,
        source: &Written,
        state: &mut State,
        act: impl FnOnce(&Self, &mut State, &StepId) -> Result<(), StepError>,
    ) -> Result<(), BuildError> {
        let began = std::time::Instant::now();
        self.progress.event(BuildEvent::Began {
            step: step.clone(),
            text: source.text.clone(),
        });
        let done = match self.is_canceled() {
            true => Err(StepError::Canceled),
            false => act(self, state, step),
        };
        let duration = began.elapsed();
        match done {
            Ok(()) => {
                self.progress.event(BuildEvent::Ended {
                    step: step.clone(),
                    image: state.image_id(),
                    duration,
                });
                Ok(())
            }
            Err(cause) => {
                if !matches!(cause, StepError::Canceled) {
                    self.progress.event(BuildEvent::Failed {
                        step: step.clone(),
                        duration,
                    });
                }
                Err(BuildError::Step {
                    file: self.dockerfile.name.clone(),
                    line: source.first_line,
                    instruction: source.text.clone(),
                    cause: Box::new(cause),
                })
            }
        }
    }

    pub(super) fn is_canceled(&self) -> bool {
        self.options.cancel.is_canceled()
    }

    /// Stops what runs: a stage has failed.
    pub(super) fn cancel(&self) {
        self.options.cancel.cancel();
    }

    /// Finds a result that is kept, unless none is wanted.
    pub(super) fn kept(&self, step: &StepId, key: &Digest) -> Result<Option<Kept>, StepError> {
        let count = self.dockerfile.stages.len();
        let is_of = |name: &String| {
            step.stage.is_some() && self.dockerfile.stage(name, count) == step.stage
        };
        if self.options.no_cache || self.options.no_cache_stages.iter().any(is_of) {
            return Ok(None);
        }
        let kept = match self.engine.kept_step(key)? {
            Some(kept) => Some(kept),
            None => self.fetched(key),
        };
        if let Some(kept) = &kept {
            self.progress
                .event(BuildEvent::Cached { step: step.clone() });
            self.served.lock().push(*key);
            self.results.lock().push((*key, kept.clone()));
        }
        Ok(kept)
    }

    /// Keeps a result.
    pub(super) fn keep(&self, key: &Digest, kept: &Kept, what: &str) -> Result<(), StepError> {
        self.engine.keep_step(key, kept, what)?;
        self.results.lock().push((*key, kept.clone()));
        Ok(())
    }

    /// Returns the time that a step is said to have been done at.
    pub(super) fn now(&self) -> String {
        match self.latest {
            Some(latest) => epoch(latest),
            None => jiff::Timestamp::now().to_string(),
        }
    }

    /// Returns a kept result's time, as this build may say it.
    pub(super) fn created(&self, kept: &Kept) -> String {
        match self.latest {
            Some(latest) => epoch(latest),
            None => kept.created.clone(),
        }
    }

    fn tell_unused_args(&self) {
        let used = self.used_args.lock();
        let mut unused: Vec<String> = self
            .options
            .args
            .keys()
            .filter(|name| !used.contains(*name) && !self.scope.declared().contains(name))
            .filter(|name| !PROXY_ARGS.contains(&name.as_str()))
            .filter(|name| !super::dockerfile::PLATFORM_ARGS.contains(&name.as_str()))
            .filter(|name| *name != super::scope::SOURCE_DATE_EPOCH)
            .cloned()
            .collect();
        unused.sort();
        if !unused.is_empty() {
            self.progress.event(BuildEvent::UnusedArguments(unused));
        }
    }
}

fn epoch(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    time.to_string()
}
