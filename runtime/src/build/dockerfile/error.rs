//! What is wrong with a Dockerfile, in the classic builder's words.

use super::ExpandError;
use super::Source;

/// A Dockerfile that says nothing that can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerfileError {
    /// The Dockerfile's name.
    pub file: String,
    /// The instruction that is wrong; one without text is the file itself.
    pub at: Box<Source>,
    /// What is wrong with it.
    pub mistake: Mistake,
}

impl std::fmt::Display for DockerfileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.mistake {
            Mistake::Empty => write!(f, "the Dockerfile ({}) cannot be empty", self.file),
            mistake if mistake.is_of_form() => {
                write!(f, "failed to parse Dockerfile: {mistake}")
            }
            mistake => {
                let line = self.at.first_line;
                write!(f, "dockerfile parse error line {line}: {mistake}")
            }
        }
    }
}

impl std::error::Error for DockerfileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.mistake)
    }
}

/// What is wrong with an instruction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// There is nothing in the file.
    #[error("the Dockerfile cannot be empty")]
    Empty,
    /// There are only comments in the file.
    #[error("file with no instructions")]
    NoInstructions,
    /// The file is larger than any that a person writes.
    #[error("dockerfile larger than max allowed size of {limit} bytes")]
    TooLarge {
        /// Most bytes.
        limit: usize,
    },
    /// A directive is there twice.
    #[error("only one {0} parser directive can be used")]
    RepeatedDirective(&'static str),
    /// Only a backslash and a backquote may be escape characters.
    #[error("invalid escape token '{0}' does not match ` or \\")]
    InvalidEscape(String),
    /// A here-document's last line is missing.
    #[error("unterminated heredoc")]
    UnterminatedHeredoc,
    /// The words of a line do not end as they begin.
    #[error(transparent)]
    Word(#[from] ExpandError),
    /// There is no such instruction.
    #[error("unknown instruction: {0}")]
    UnknownInstruction(String),
    /// Instructions belong to a stage.
    #[error("no build stage in current context")]
    NoStage,
    /// The instruction has no such flag.
    #[error("Unknown flag: {0}")]
    UnknownFlag(String),
    /// A flag is there twice.
    #[error("Duplicate flag specified: {0}")]
    DuplicateFlag(String),
    /// A flag needs a value.
    #[error("Missing a value on flag: {0}")]
    FlagWithoutValue(String),
    /// A flag is true or false.
    #[error("Expecting boolean value for flag {flag}, not: {value}")]
    NotBoolean {
        /// The flag.
        flag: String,
        /// What it was given.
        value: String,
    },
    /// A flag's value is none of those it may have.
    #[error("invalid value {value:?} for flag {flag}")]
    InvalidFlagValue {
        /// The flag.
        flag: &'static str,
        /// What it was given.
        value: String,
    },
    /// `ENV name` or `LABEL name`.
    #[error("{0} must have two arguments")]
    NoValue(&'static str),
    /// A word of `ENV` or `LABEL` without `=`.
    #[error("Syntax error - can't find = in {0:?}. Must be of the form: name=value")]
    NoEqualSign(String),
    /// `ENV =value`.
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    /// Nothing follows the instruction's name.
    #[error("{0} requires at least one argument")]
    NoArgument(&'static str),
    /// One word must follow the instruction's name.
    #[error("{0} requires exactly one argument")]
    NotOneArgument(&'static str),
    /// `FROM` has words that it does not know.
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    /// A stage's name that is none.
    #[error(
        "invalid name for build stage: {0:?}, name can't start with a number or contain symbols"
    )]
    InvalidStageName(String),
    /// `COPY` and `ADD` have a source and a destination.
    #[error(
        "{0} requires at least two arguments, but only one was provided. Destination could not be determined"
    )]
    NoDestination(&'static str),
    /// A here-document is no destination.
    #[error("{0} cannot accept a heredoc as a destination")]
    HeredocDestination(&'static str),
    /// The command is in JSON form and has a here-document.
    #[error("{0} in JSON form cannot have a heredoc")]
    HeredocOfExec(&'static str),
    /// An array of something else than strings.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    NotStrings,
    /// `SHELL` has only the JSON form.
    #[error("{0} requires the arguments to be in JSON form")]
    NotJson(&'static str),
    /// `VOLUME [""]`.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// `ONBUILD ONBUILD`.
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    ChainedOnbuild,
    /// An instruction that a later build cannot be given.
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    InvalidTrigger(String),
    /// `HEALTHCHECK` is followed by `CMD` or `NONE`.
    #[error("Unknown type {0:?} in HEALTHCHECK (try CMD)")]
    HealthcheckType(String),
    /// `HEALTHCHECK CMD` needs a command.
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthcheckCommand,
    /// `HEALTHCHECK NONE` is complete.
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNone,
    /// A duration that is none.
    #[error("invalid duration {value:?} for flag {flag}")]
    InvalidDuration {
        /// The flag.
        flag: &'static str,
        /// What it was given.
        value: String,
    },
    /// A duration that is too short for a health check.
    #[error("Interval {0:?} cannot be less than 1ms")]
    ShortInterval(&'static str),
    /// `--retries` that is no number.
    #[error("invalid number {0:?} for flag retries")]
    InvalidRetries(String),
    /// `--retries=-1`.
    #[error("--retries must be at least 1 (not {0})")]
    NegativeRetries(i64),
    /// Something in a `--mount`.
    #[error("{0}")]
    Mount(String),
}

impl Mistake {
    /// Returns whether the classic builder finds it before it looks at any instruction's meaning.
    fn is_of_form(&self) -> bool {
        matches!(
            self,
            Mistake::NoInstructions
                | Mistake::TooLarge { .. }
                | Mistake::RepeatedDirective(_)
                | Mistake::InvalidEscape(_)
                | Mistake::UnterminatedHeredoc
                | Mistake::Word(_)
                | Mistake::NoValue(_)
                | Mistake::NoEqualSign(_)
                | Mistake::NotStrings
        )
    }
}
