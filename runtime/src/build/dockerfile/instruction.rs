//! What each instruction says.

use crate::container::Healthcheck;

use super::MountFlag;
use super::Source;

/// One instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// Where it stands and how it was written.
    pub source: Source,
    /// What it says.
    pub kind: InstructionKind,
}

/// What an instruction says. Of words said to be expanded none is yet; the others are meant as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstructionKind {
    /// `ADD`
    Add(Add),
    /// `ARG`: names and values are expanded, one declaration after the other.
    Arg(Vec<ArgDeclaration>),
    /// `CMD`: not expanded; the shell does that.
    Cmd(CommandLine),
    /// `COPY`
    Copy(Copy),
    /// `ENTRYPOINT`: not expanded.
    Entrypoint(CommandLine),
    /// `ENV`: names and values are expanded, all with the variables as they were before the instruction.
    Env(Vec<Pair>),
    /// `EXPOSE`: each is expanded to words (`expand::words`), sorted.
    Expose(Vec<String>),
    /// `HEALTHCHECK`: not expanded.
    Healthcheck(Health),
    /// `LABEL`: names and values are expanded.
    Label(Vec<Pair>),
    /// `MAINTAINER`: not expanded.
    Maintainer(String),
    /// `ONBUILD`: the instruction for later builds, as it was written, here-documents included; not expanded.
    Onbuild(String),
    /// `RUN`
    Run(Run),
    /// `SHELL`: at least one word; not expanded.
    Shell(Vec<String>),
    /// `STOPSIGNAL`: expanded.
    Stopsignal(String),
    /// `USER`: expanded.
    User(String),
    /// `VOLUME`: each is expanded.
    Volume(Vec<String>),
    /// `WORKDIR`: expanded.
    Workdir(String),
}

impl InstructionKind {
    /// Returns the instruction's name in capitals.
    pub fn name(&self) -> &'static str {
        match self {
            InstructionKind::Add(_) => "ADD",
            InstructionKind::Arg(_) => "ARG",
            InstructionKind::Cmd(_) => "CMD",
            InstructionKind::Copy(_) => "COPY",
            InstructionKind::Entrypoint(_) => "ENTRYPOINT",
            InstructionKind::Env(_) => "ENV",
            InstructionKind::Expose(_) => "EXPOSE",
            InstructionKind::Healthcheck(_) => "HEALTHCHECK",
            InstructionKind::Label(_) => "LABEL",
            InstructionKind::Maintainer(_) => "MAINTAINER",
            InstructionKind::Onbuild(_) => "ONBUILD",
            InstructionKind::Run(_) => "RUN",
            InstructionKind::Shell(_) => "SHELL",
            InstructionKind::Stopsignal(_) => "STOPSIGNAL",
            InstructionKind::User(_) => "USER",
            InstructionKind::Volume(_) => "VOLUME",
            InstructionKind::Workdir(_) => "WORKDIR",
        }
    }
}

/// A name of `ARG`, with or without a default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name.
    pub name: String,
    /// The default.
    pub default: Option<String>,
}

/// A name and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// A command in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// A line for the shell.
    Shell(String),
    /// A JSON array: executed as it is.
    Exec(Vec<String>),
}

/// `RUN`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// `--mount=`, in order.
    pub mounts: Vec<MountFlag>,
    /// `--network=`
    pub network: RunNetwork,
    /// `--security=`
    pub security: RunSecurity,
    /// What to run.
    pub command: RunCommand,
}

/// What `RUN` runs; nothing in it is expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunCommand {
    /// A line for the shell; a here-document that is the whole command is that line, others follow it for the shell to read.
    Shell(String),
    /// A JSON array: executed as it is.
    Exec(Vec<String>),
    /// A here-document with an interpreter of its own (`#!`): a file, mode 755, to be executed.
    Script(Heredoc),
}

/// The network of a `RUN`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RunNetwork {
    /// The build's.
    #[default]
    Default,
    /// None but the loopback device.
    None,
    /// The host's.
    Host,
}

/// The walls of a `RUN`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RunSecurity {
    /// Those of every container.
    #[default]
    Sandbox,
    /// None: `--privileged`.
    Insecure,
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it, which is the name of the file it makes.
    pub name: String,
    /// Its lines; of `<<-` without their leading tabs.
    pub content: String,
    /// Whether variables in it are expanded (`expand::heredoc`) by `COPY` and `ADD`: the word had no quotes.
    pub expand: bool,
}

/// What `COPY` and `ADD` have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transfer {
    /// `--chown=`, expanded.
    pub chown: Option<String>,
    /// `--chmod=`, expanded.
    pub chmod: Option<String>,
    /// `--link`
    pub link: bool,
    /// `--exclude=`, each expanded: patterns as in ignore files.
    pub exclude: Vec<String>,
    /// The sources, expanded.
    pub sources: Vec<String>,
    /// Sources written in place.
    pub heredocs: Vec<Heredoc>,
    /// Where to, expanded.
    pub destination: String,
}

/// `COPY`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// `--from=`: a stage, an image or a named context; not expanded.
    pub from: Option<String>,
    /// `--parents`
    pub parents: bool,
    /// The rest.
    pub transfer: Transfer,
}

/// `ADD`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    /// `--checksum=`, expanded.
    pub checksum: Option<String>,
    /// `--keep-git-dir`
    pub keep_git_dir: bool,
    /// `--unpack`: archives are unpacked, or not; without it those of the context are and fetched ones are not.
    pub unpack: Option<bool>,
    /// The rest.
    pub transfer: Transfer,
}

/// `HEALTHCHECK`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// `NONE`: the base's check does not count.
    None,
    /// A check; its `test` is `CMD` and words, or `CMD-SHELL` and a line.
    Check(Healthcheck),
}
