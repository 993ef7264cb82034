//! A stage's steps, one after the other.

use std::sync::Arc;

use layerfs::DiffId;
use layerfs::Digest;

use super::builder::Builder;
use super::cache::Kept;
use super::cache::Key;
use super::dockerfile::Add;
use super::dockerfile::ArgDeclaration;
use super::dockerfile::Copy;
use super::dockerfile::Dockerfile;
use super::dockerfile::Instruction;
use super::dockerfile::InstructionKind;
use super::dockerfile::Pair;
use super::dockerfile::Transfer as Written;
use super::dockerfile::expand;
use super::error::BuildError;
use super::error::StepError;
use super::event::BuildEvent;
use super::event::StepId;
use super::files::Files;
use super::ignore::IgnoreFile;
use super::metadata;
use super::mode::ModeChange;
use super::options::NamedContext;
use super::select::Wanted;
use super::source::Source;
use super::state::State;
use super::transfer;
use super::transfer::Content;
use super::transfer::Loose;
use super::transfer::Request;
use super::transfer::Transfer;

/// The most that is read of the base's /etc/passwd and /etc/group.
const LONGEST_USERS: u64 = 4 << 20;

/// What a step has to do with.
pub(super) struct Here<'a> {
    pub(super) stage: usize,
    pub(super) step: &'a StepId,
}

impl Builder<'_> {
    /// Builds a stage.
    pub(super) fn stage(&self, index: usize) -> Result<State, BuildError> {
        let stage = &self.dockerfile.stages[index];
        let step = self.step(index, 0, None, &stage.source);
        let mut state = State::scratch(&crate::image::Platform::host());
        let mut triggers = Vec::new();
        self.step_of(&step, &stage.source, &mut state, |builder, state, step| {
            *state = builder.base(index, step)?;
            triggers = state.take_triggers();
            Ok(())
        })?;
        if !triggers.is_empty() {
            self.progress.event(BuildEvent::Triggers {
                step: step.clone(),
                count: triggers.len(),
            });
        }
        for (at, trigger) in triggers.iter().enumerate() {
            let parsed = Dockerfile::parse_trigger(&self.dockerfile.name, &stage.source, trigger);
            let instruction = parsed.map_err(|error| BuildError::Step {
                file: self.dockerfile.name.clone(),
                line: stage.source.first_line,
                instruction: format!("ONBUILD {trigger}"),
                cause: Box::new(StepError::Word(error.to_string())),
            })?;
            let step = self.step(index, 0, Some(at + 1), &stage.source);
            self.instruction(index, &step, &instruction, &mut state)?;
        }
        for (at, instruction) in stage.instructions.iter().enumerate() {
            let step = self.step(index, at + 1, None, &instruction.source);
            self.instruction(index, &step, instruction, &mut state)?;
        }
        Ok(state)
    }

    fn instruction(
        &self,
        stage: usize,
        step: &StepId,
        instruction: &Instruction,
        state: &mut State,
    ) -> Result<(), BuildError> {
        self.step_of(step, &instruction.source, state, |builder, state, step| {
            state.set_default_path();
            let here = Here { stage, step };
            builder.act(&here, &instruction.kind, state)
        })
    }

    fn act(
        &self,
        here: &Here<'_>,
        kind: &InstructionKind,
        state: &mut State,
    ) -> Result<(), StepError> {
        match kind {
            InstructionKind::Run(run) => return self.run(here, run, state),
            InstructionKind::Copy(copy) => return self.copy(here, copy, state),
            InstructionKind::Add(add) => return self.add(here, add, state),
            InstructionKind::Workdir(path) => return self.workdir(here, path, state),
            InstructionKind::Arg(declarations) => return self.arg(here, declarations, state),
            _ => {}
        }
        let before = state.clone();
        let comment = match kind {
            InstructionKind::Cmd(command) => metadata::cmd(state, command),
            InstructionKind::Entrypoint(command) => metadata::entrypoint(state, command),
            InstructionKind::Env(pairs) => {
                let pairs = self.pairs(&before, pairs)?;
                metadata::env(state, &pairs)
            }
            InstructionKind::Label(pairs) => {
                let pairs = self.pairs(&before, pairs)?;
                metadata::label(state, &pairs)
            }
            InstructionKind::Expose(ports) => {
                let lookup = |name: &str| before.variable(name);
                let mut all = Vec::new();
                for port in ports {
                    let words = expand::words(port, self.escape(), &lookup).map_err(word_error)?;
                    all.extend(words);
                }
                all.sort();
                metadata::expose(state, &all)?
            }
            InstructionKind::Healthcheck(health) => metadata::healthcheck(state, health),
            InstructionKind::Maintainer(name) => metadata::maintainer(state, name),
            InstructionKind::Onbuild(trigger) => metadata::onbuild(state, trigger),
            InstructionKind::Shell(words) => metadata::shell(state, words),
            InstructionKind::Stopsignal(signal) => {
                metadata::stopsignal(state, &self.word(&before, signal)?)?
            }
            InstructionKind::User(user) => metadata::user(state, &self.word(&before, user)?),
            InstructionKind::Volume(paths) => {
                let paths = self.words(&before, paths)?;
                metadata::volume(state, &paths)
            }
            InstructionKind::Run(_)
            | InstructionKind::Copy(_)
            | InstructionKind::Add(_)
            | InstructionKind::Workdir(_)
            | InstructionKind::Arg(_) => unreachable!("done above"),
        };
        self.note(here.step, &before, state, &comment)
    }

    /// Adds labels, for the command line's.
    pub(super) fn labels(
        &self,
        state: &mut State,
        step: &StepId,
        pairs: &[(String, String)],
    ) -> Result<(), StepError> {
        let before = state.clone();
        let comment = metadata::label(state, pairs);
        self.note(step, &before, state, &comment)
    }

    /// Ends a step that made no layer. Its time is kept, so that the same Dockerfile gives the same image again.
    fn note(
        &self,
        step: &StepId,
        before: &State,
        state: &mut State,
        comment: &str,
    ) -> Result<(), StepError> {
        let mut key = Key::new("config");
        key.field(before.bytes()).field(comment);
        key.field(self.latest.unwrap_or(-1).to_le_bytes());
        let key = key.digest();
        let created = match self.kept(step, &key)? {
            Some(kept) => self.created(&kept),
            None => {
                let created = self.now();
                let kept = Kept {
                    layer: None,
                    created: created.clone(),
                };
                self.keep(&key, &kept, comment)?;
                created
            }
        };
        let created_by = metadata::created_by(&before.shell(), comment);
        state.commit(&created, &created_by, None);
        Ok(())
    }

    fn arg(
        &self,
        here: &Here<'_>,
        declarations: &[ArgDeclaration],
        state: &mut State,
    ) -> Result<(), StepError> {
        let before = state.clone();
        let mut comment = "ARG".to_owned();
        for declaration in declarations {
            let name = self.word(state, &declaration.name)?;
            let default = declaration.default.as_deref();
            let default = default.map(|text| self.word(state, text)).transpose()?;
            comment += &match &default {
                Some(default) => format!(" {name}={default}"),
                None => format!(" {name}"),
            };
            self.used_args.lock().insert(name.clone());
            let given = self.options.args.get(&name).cloned();
            let value = match default {
                Some(default) => given.or(Some(default)),
                None => given.or_else(|| self.scope.value(&name)),
            };
            state.set_arg(&name, value);
        }
        self.note(here.step, &before, state, &comment)
    }

    fn workdir(&self, here: &Here<'_>, path: &str, state: &mut State) -> Result<(), StepError> {
        let before = state.clone();
        let path = self.word(&before, path)?;
        let path = metadata::workdir(state, &path);
        let mut key = Key::new("workdir");
        key.field(before.chain()).field(&path);
        key.field(self.latest.unwrap_or(-1).to_le_bytes());
        let comment = format!("WORKDIR {path}");
        let kept = self.made(here.step, &key.digest(), &comment, || {
            let base = self.files(&before)?;
            transfer::make_directory(self.engine, &base, &path, self.latest)
        })?;
        let created_by = metadata::created_by(&before.shell(), &comment);
        state.commit(&self.created(&kept), &created_by, kept.layer);
        Ok(())
    }

    /// Returns a step's result: the one that is kept, or what `make` makes.
    pub(super) fn made(
        &self,
        step: &StepId,
        key: &Digest,
        what: &str,
        make: impl FnOnce() -> Result<Option<DiffId>, StepError>,
    ) -> Result<Kept, StepError> {
        if let Some(kept) = self.kept(step, key)? {
            return Ok(kept);
        }
        let layer = make()?;
        let kept = Kept {
            layer,
            created: self.now(),
        };
        self.keep(key, &kept, what)?;
        Ok(kept)
    }

    fn copy(&self, here: &Here<'_>, copy: &Copy, state: &mut State) -> Result<(), StepError> {
        let source = match &copy.from {
            Some(from) => {
                let from = self.word(state, from)?;
                self.source(&from, here.stage, here.step)?
            }
            None => Arc::clone(&self.context),
        };
        let asked = self.asked(state, &copy.transfer)?;
        let prepared = self.look(Request {
            verb: "COPY",
            source,
            loose: self.heredocs(state, &copy.transfer)?,
            parents: copy.parents,
            unpack: false,
            paths: &asked.paths,
            destination: &asked.destination,
            working_dir: state.working_dir(),
            wanted: asked.wanted,
            excluded: asked.excluded.as_ref(),
        })?;
        self.transferred(here, "COPY", prepared, &asked.destination, state)
    }

    fn add(&self, here: &Here<'_>, add: &Add, state: &mut State) -> Result<(), StepError> {
        let mut loose = self.heredocs(state, &add.transfer)?;
        let mut paths = Vec::new();
        let checksum = add.checksum.as_deref();
        let checksum = checksum.map(|text| self.word(state, text)).transpose()?;
        let sources = self.words(state, &add.transfer.sources)?;
        let is_remote = |source: &String| super::fetch::kind(source) != super::fetch::Kind::Path;
        if checksum.is_some() && !(sources.len() == 1 && sources.iter().all(is_remote)) {
            return Err(StepError::Transfer {
                verb: "ADD",
                words: "checksum can't be specified for multiple or local sources".to_owned(),
            });
        }
        for source in sources {
            match super::fetch::kind(&source) {
                super::fetch::Kind::Path => paths.push(source),
                super::fetch::Kind::Url => {
                    let unpack = add.unpack.unwrap_or(false);
                    loose.push(super::fetch::url(
                        self,
                        &source,
                        checksum.as_deref(),
                        unpack,
                    )?);
                }
                super::fetch::Kind::Git => {
                    loose.push(super::fetch::git(
                        self,
                        &source,
                        checksum.as_deref(),
                        add.keep_git_dir,
                    )?);
                }
            }
        }
        let asked = self.asked(state, &add.transfer)?;
        let prepared = self.look(Request {
            verb: "ADD",
            source: Arc::clone(&self.context),
            loose,
            parents: false,
            unpack: add.unpack.unwrap_or(true),
            paths: &paths,
            destination: &asked.destination,
            working_dir: state.working_dir(),
            wanted: asked.wanted,
            excluded: asked.excluded.as_ref(),
        })?;
        self.transferred(here, "ADD", prepared, &asked.destination, state)
    }

    /// Expands what `COPY` and `ADD` have in common.
    fn asked(&self, state: &State, written: &Written) -> Result<Asked, StepError> {
        let exclude = self.words(state, &written.exclude)?;
        let owner = match &written.chown {
            Some(owner) => Some(self.owner(state, &self.word(state, owner)?)?),
            None => None,
        };
        let mode = match &written.chmod {
            Some(mode) => {
                let mode = self.word(state, mode)?;
                let change = ModeChange::parse(&mode);
                let invalid = || StepError::Word(format!("invalid chmod parameter: '{mode}'"));
                Some(change.ok_or_else(invalid)?)
            }
            None => None,
        };
        Ok(Asked {
            paths: self.words(state, &written.sources)?,
            destination: self.word(state, &written.destination)?,
            wanted: Wanted {
                owner,
                mode,
                latest: self.latest,
            },
            excluded: super::context::excluding(&exclude)?,
        })
    }

    /// Has the sources found and looked at.
    fn look(&self, request: Request<'_>) -> Result<Transfer, StepError> {
        let transfer = Transfer::prepare(request)?;
        self.progress.event(BuildEvent::Context {
            bytes: transfer.bytes,
            files: transfer.files,
        });
        Ok(transfer)
    }

    fn transferred(
        &self,
        here: &Here<'_>,
        verb: &'static str,
        transfer: Transfer,
        destination: &str,
        state: &mut State,
    ) -> Result<(), StepError> {
        let mut key = Key::new("copy");
        key.field(state.chain()).field(transfer.key().0);
        let comment = format!("{verb} {} in {destination} ", transfer.summary());
        let kept = self.made(here.step, &key.digest(), &comment, || {
            let base = self.files(state)?;
            transfer.layer(self.engine, &base)
        })?;
        let created_by = format!("{} #(nop) {comment}", state.shell().join(" "));
        state.commit(&self.created(&kept), &created_by, kept.layer);
        Ok(())
    }

    fn heredocs(&self, state: &State, written: &Written) -> Result<Vec<Loose>, StepError> {
        let lookup = |name: &str| state.variable(name);
        let file = |heredoc: &super::dockerfile::Heredoc| {
            let content = match heredoc.expand {
                true => expand::heredoc(&heredoc.content, &lookup).map_err(word_error)?,
                false => heredoc.content.clone(),
            };
            Ok(Loose {
                name: heredoc.name.clone().into_bytes(),
                content: Content::Bytes(content.into_bytes()),
                mode: 0o644,
                mtime: None,
            })
        };
        written.heredocs.iter().map(file).collect()
    }

    /// Finds who `--chown` means, by the base's own users and groups.
    pub(super) fn owner(&self, state: &State, text: &str) -> Result<(u32, u32), StepError> {
        let (user, group) = text.split_once(':').unwrap_or((text, text));
        if let (Ok(uid), Ok(gid)) = (user.parse(), group.parse()) {
            return Ok((uid, gid));
        }
        let base = self.files(state)?;
        let read = |path: &[u8]| {
            let bytes = base
                .read(path, LONGEST_USERS)
                .map_err(StepError::io(&*String::from_utf8_lossy(path)))?;
            let bytes = bytes.unwrap_or_default();
            Ok::<_, StepError>(String::from_utf8_lossy(&bytes).into_owned())
        };
        let uid = match user.parse() {
            Ok(uid) => uid,
            Err(_) => number_of(&read(b"/etc/passwd")?, user).ok_or_else(|| {
                StepError::Word(format!(
                    "unable to convert uid/gid chown string to host mapping: can't find uid for user {user}: no such \
                     user: {user}"
                ))
            })?,
        };
        let gid = match (group.parse(), text.contains(':')) {
            (Ok(gid), _) => gid,
            (Err(_), is_stated) => match (number_of(&read(b"/etc/group")?, group), is_stated) {
                (Some(gid), _) => gid,
                (None, false) => uid,
                (None, true) => {
                    return Err(StepError::Word(format!(
                        "unable to convert uid/gid chown string to host mapping: can't find gid for group {group}: no \
                         such group: {group}"
                    )));
                }
            },
        };
        Ok((uid, gid))
    }

    /// Opens what the layers of a stage show.
    pub(super) fn files(&self, state: &State) -> Result<Files, StepError> {
        let stack = self.engine.store().stack(&state.layers)?;
        Files::of_stack(stack).map_err(StepError::io("layers"))
    }

    /// Opens what `--from` names: an earlier stage, a named context, an image.
    pub(super) fn source(
        &self,
        name: &str,
        stage: usize,
        step: &StepId,
    ) -> Result<Arc<Source>, StepError> {
        if let Some(earlier) = super::stages::earlier(self.dockerfile, self.options, name, stage) {
            let state = self.result(earlier)?;
            return Ok(Arc::new(Source::layers(self.engine, &state.layers)?));
        }
        let own = self.dockerfile.stages[stage].name.as_deref();
        if own.is_some_and(|own| own.eq_ignore_ascii_case(name))
            && !self.options.contexts.contains_key(name)
        {
            let words = format!("circular dependency detected on stage: {name}");
            return Err(StepError::Word(words));
        }
        if name.parse::<usize>().is_ok() && !self.options.contexts.contains_key(name) {
            let words = format!("invalid from flag value {name}: index out of bounds");
            return Err(StepError::Word(words));
        }
        if let Some(known) = self.sources.lock().get(name) {
            return Ok(Arc::clone(known));
        }
        let source = match self.options.contexts.get(name) {
            Some(NamedContext::Directory(path)) => super::context::directory(self.engine, path)?,
            Some(NamedContext::Git(address)) => {
                let wanted = super::fetch::Checkout::tree(&self.options.cancel);
                super::fetch::checkout(self.engine, address, wanted)?
            }
            Some(NamedContext::Url(url)) => {
                let body = super::fetch::open(url, &self.options.registry)?;
                Source::archive(self.engine, body)?
            }
            Some(NamedContext::Image(image)) => {
                let image = self.image(image, self.options.platform.as_ref(), step)?;
                Source::layers(self.engine, &image.layers)?
            }
            None => {
                let image = self.image(name, self.options.platform.as_ref(), step)?;
                Source::layers(self.engine, &image.layers)?
            }
        };
        let source = Arc::new(source);
        let mut sources = self.sources.lock();
        Ok(Arc::clone(sources.entry(name.to_owned()).or_insert(source)))
    }

    fn escape(&self) -> char {
        self.dockerfile.directives.escape
    }

    /// Expands a word with the variables of a state.
    pub(super) fn word(&self, state: &State, text: &str) -> Result<String, StepError> {
        let lookup = |name: &str| state.variable(name);
        expand::word(text, self.escape(), &lookup).map_err(word_error)
    }

    fn words(&self, state: &State, texts: &[String]) -> Result<Vec<String>, StepError> {
        texts.iter().map(|text| self.word(state, text)).collect()
    }

    fn pairs(&self, state: &State, pairs: &[Pair]) -> Result<Vec<(String, String)>, StepError> {
        let expanded = |pair: &Pair| {
            let name = self.word(state, &pair.name)?;
            Ok((name, self.word(state, &pair.value)?))
        };
        pairs.iter().map(expanded).collect()
    }
}

/// What `COPY` and `ADD` ask for, expanded.
struct Asked {
    paths: Vec<String>,
    destination: String,
    wanted: Wanted,
    excluded: Option<IgnoreFile>,
}

fn word_error(error: expand::ExpandError) -> StepError {
    StepError::Word(error.to_string())
}

/// Returns the number beside a name in passwd(5) or group(5).
fn number_of(file: &str, name: &str) -> Option<u32> {
    file.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some(name);
        is_it.then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}
