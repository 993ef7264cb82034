//! Dockerfiles: what is written, before any variable has a value.
//!
//! The grammar is BuildKit's (`docs.docker.com/reference/dockerfile`), the words of errors are the classic builder's.
//! Words keep their quotes and variables: [`expand`] takes both away when a step is reached, with the values of then.

mod error;
pub mod expand;
mod flags;
mod instruction;
mod lexer;
mod mount;
mod parse;
mod pattern;
mod words;

pub use error::DockerfileError;
pub use error::Mistake;
pub use expand::ExpandCause;
pub use expand::ExpandError;
pub use instruction::Add;
pub use instruction::ArgDeclaration;
pub use instruction::CommandLine;
pub use instruction::Copy;
pub use instruction::Health;
pub use instruction::Heredoc;
pub use instruction::Instruction;
pub use instruction::InstructionKind;
pub use instruction::Pair;
pub use instruction::Run;
pub use instruction::RunCommand;
pub use instruction::RunNetwork;
pub use instruction::RunSecurity;
pub use instruction::Transfer;
pub use mount::CacheSharing;
pub use mount::MountError;
pub use mount::MountFlag;
pub use mount::RunMount;
pub use mount::RunMountKind;

/// Arguments that need no `ARG` to be given with `--build-arg`, and are not part of the image's history or cache keys.
pub const PROXY_ARGS: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Arguments that have a value before the first `FROM`; a stage sees those that it declares with `ARG`.
pub const PLATFORM_ARGS: [&str; 8] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
];

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// Its name, for errors.
    pub name: String,
    /// The comments at the top that mean something.
    pub directives: Directives,
    /// The `ARG` instructions before the first `FROM`: what is in scope for `FROM` lines.
    pub global_args: Vec<GlobalArgs>,
    /// The stages, in order; at least one.
    pub stages: Vec<Stage>,
    /// What is allowed but should not be written; each a sentence.
    pub warnings: Vec<String>,
}

/// Parser directives: `# name=value` lines before everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `# syntax=`: the frontend that is asked for; this one does what `docker/dockerfile:1` does.
    pub syntax: Option<String>,
    /// `# escape=`: a backslash or a backquote.
    pub escape: char,
    /// `# check=`: options of the checks.
    pub check: Option<String>,
}

/// Where an instruction stands, and how it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// Its first line, from 1.
    pub first_line: u32,
    /// Its last line, that of a here-document included.
    pub last_line: u32,
    /// Its text, continuation lines joined, without comments and here-documents (`Step 1/4 : ` is followed by this).
    pub text: String,
}

impl Default for Directives {
    fn default() -> Directives {
        Directives {
            syntax: None,
            escape: '\\',
            check: None,
        }
    }
}

/// An `ARG` before the first `FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalArgs {
    /// Where it stands.
    pub source: Source,
    /// What it declares.
    pub declarations: Vec<ArgDeclaration>,
}

/// A `FROM` and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Where the `FROM` stands.
    pub source: Source,
    /// `--platform=`, not expanded.
    pub platform: Option<String>,
    /// The base, not expanded: `scratch`, another stage, or an image.
    pub base: String,
    /// `AS name`, in lower case.
    pub name: Option<String>,
    /// The instructions after `FROM`.
    pub instructions: Vec<Instruction>,
}

impl Dockerfile {
    /// Reads a Dockerfile; `name` is what errors call it.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Dockerfile, DockerfileError> {
        parse::dockerfile(name, bytes)
    }

    /// Reads a trigger that a base image carries (`OnBuild` of its config), which is said to stand where the `FROM` does.
    ///
    /// Words in it are escaped with backslashes, whatever the Dockerfile that it came from had.
    pub fn parse_trigger(
        name: &str,
        from: &Source,
        trigger: &str,
    ) -> Result<Instruction, DockerfileError> {
        parse::trigger(name, from, trigger)
    }

    /// Returns the stage that `name` means to instructions of stage `before` (to `--target`, `before` is the number of
    /// stages): by its name, whatever the case, else by its number. The last of several of a name is meant.
    pub fn stage(&self, name: &str, before: usize) -> Option<usize> {
        let earlier = &self.stages[..before.min(self.stages.len())];
        let named = |stage: &Stage| {
            let own = stage.name.as_deref();
            own.is_some_and(|own| own.eq_ignore_ascii_case(name))
        };
        let numbered = || name.parse().ok().filter(|index| *index < earlier.len());
        earlier.iter().rposition(named).or_else(numbered)
    }

    /// Returns the number of steps that the classic builder counts: every instruction, `FROM` and global `ARG` included.
    pub fn steps(&self) -> usize {
        let of_stage = |stage: &Stage| 1 + stage.instructions.len();
        self.global_args.len() + self.stages.iter().map(of_stage).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
