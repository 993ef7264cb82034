//! What a build tells while it works.

use std::time::Duration;

use crate::image::ImageId;
use crate::progress::ProgressEvent;
use crate::reference::Reference;

/// Receives a build's events; called from several threads at once, since stages are built side by side.
pub trait BuildProgress: Sync {
    /// Takes one event.
    fn event(&self, event: BuildEvent);
}

/// A receiver that ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct SilentBuild;

impl BuildProgress for SilentBuild {
    fn event(&self, _: BuildEvent) {}
}

/// Which step an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepId {
    /// The stage's number in the Dockerfile; of an `ARG` before the first `FROM` none.
    pub stage: Option<usize>,
    /// The stage's name, if it has one.
    pub stage_name: Option<String>,
    /// The step's number among those of the stages that are built, from 1; a trigger of the base has its `FROM`'s.
    pub number: usize,
    /// How many there are.
    pub total: usize,
    /// The number of the trigger, from 1, if the base image brought the step.
    pub trigger: Option<usize>,
    /// The first line in the Dockerfile; 0 is none, of a label that the command line adds.
    pub line: u32,
}

/// A stream of a `RUN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
}

/// Something that happens in a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEvent {
    /// The Dockerfile has been read: so many steps are to be done.
    Started {
        /// How many.
        steps: usize,
    },
    /// The context has been read, as far as the steps need it.
    Context {
        /// Bytes of the files that were looked at.
        bytes: u64,
        /// How many files.
        files: usize,
    },
    /// Something is allowed but should be known.
    Warning(String),
    /// A step begins.
    Began {
        /// Which.
        step: StepId,
        /// Its text, as `Step 1/4 : ` is followed by.
        text: String,
    },
    /// The base image has triggers, which are executed next.
    Triggers {
        /// The step of the `FROM`.
        step: StepId,
        /// How many.
        count: usize,
    },
    /// The step's image is being pulled.
    Pulling {
        /// Which step.
        step: StepId,
        /// What the pull tells.
        event: ProgressEvent,
    },
    /// A cached result serves.
    Cached {
        /// Which step.
        step: StepId,
    },
    /// The step's command runs in this container.
    Running {
        /// Which step.
        step: StepId,
        /// The container's id.
        container: String,
    },
    /// The step's command says something.
    Output {
        /// Which step.
        step: StepId,
        /// Where.
        stream: OutputStream,
        /// What, as it comes; a line may come in pieces.
        bytes: Vec<u8>,
    },
    /// The step's container is gone.
    Removed {
        /// Which step.
        step: StepId,
        /// The container's id.
        container: String,
    },
    /// The step is done.
    Ended {
        /// Which.
        step: StepId,
        /// The image as it is after the step.
        image: ImageId,
        /// How long it took.
        duration: Duration,
    },
    /// The step has failed; the build's error says why.
    Failed {
        /// Which.
        step: StepId,
        /// How long it took.
        duration: Duration,
    },
    /// Build arguments that no `ARG` asked for.
    UnusedArguments(Vec<String>),
    /// The result is written somewhere else than among the images; what begins is said in words.
    Exporting(String),
    /// A push tells something.
    Pushing(ProgressEvent),
    /// The image has a name.
    Tagged(Reference),
}
