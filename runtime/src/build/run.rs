//! `RUN`: a command in a container over the stage's layers, and the layer of what it changes.
//!
//! The container is one of the engine's, marked as a build's step: nobody is shown it, its monitor kills it when the
//! build is gone, and whoever comes next buries it. The build holds its BUSY lock, takes what the upper has when the
//! monitor is gone, and erases it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use layerfs::DiffId;
use layerfs::Kind;
use layerfs::Union;
use layerfs::union::SetAttr;
use layerfs::union::SetTime;

use super::builder::Builder;
use super::cache::Key;
use super::dockerfile::Run;
use super::dockerfile::RunCommand;
use super::dockerfile::RunNetwork;
use super::dockerfile::RunSecurity;
use super::error::StepError;
use super::event::BuildEvent;
use super::event::OutputStream;
use super::files::clean;
use super::files::join;
use super::files::lookup;
use super::files::real_path;
use super::layer;
use super::run_mounts::Mounted;
use super::scope;
use super::state::State;
use super::step::Here;
use crate::archive;
use crate::attach::Heard;
use crate::container::CreateOptions;
use crate::container::LogConfig;
use crate::container::Step;
use crate::network::Attachment;
use crate::sandbox::Secret;
use crate::tree::UnionTree;

/// The name of every step's host: one that is the same everywhere, as BuildKit's.
const HOSTNAME: &str = "buildkitsandbox";

/// Where here-documents that are commands lie.
const SCRIPTS: &str = "/dev/pipes";

/// Where the engine mounts something in every container.
const OURS: [&str; 5] = ["/dev", "/proc", "/sys", "/etc/hosts", "/etc/resolv.conf"];

/// A command, ready to be run.
struct Command {
    arguments: Vec<String>,
    script: Option<Secret>,
    /// How the history says it.
    words: String,
}

impl Builder<'_> {
    pub(super) fn run(
        &self,
        here: &Here<'_>,
        run: &Run,
        state: &mut State,
    ) -> Result<(), StepError> {
        let command = command(state, run);
        let network = self.network(run)?;
        if run.security == RunSecurity::Insecure && !self.options.allow.insecure {
            return Err(StepError::NotAllowed("security.insecure"));
        }
        let mounts = self.run_mounts(here, &run.mounts, state)?;
        let args = state.effective_args();
        let mut key = Key::new("run");
        key.field(state.chain())
            .fields(&state.env())
            .field(state.text("User"))
            .field(state.working_dir())
            .fields(&command.arguments)
            .fields(&args)
            .field(network.as_deref().unwrap_or_default())
            .field([u8::from(run.security == RunSecurity::Insecure)])
            .field(self.latest.unwrap_or(-1).to_le_bytes());
        if let Some(script) = &command.script {
            key.field(&script.content);
        }
        mounts.iter().for_each(|mount| mount.add_to(&mut key));
        let created_by = match args.as_slice() {
            [] => command.words.clone(),
            args => format!("|{} {} {}", args.len(), args.join(" "), command.words),
        };
        let kept = self.made(here.step, &key.digest(), &created_by, || {
            self.execute(here, run, &command, network, mounts, state)
        })?;
        state.commit(&self.created(&kept), &created_by, kept.layer);
        Ok(())
    }

    /// Returns the network of the command, as `--network` takes it.
    fn network(&self, run: &Run) -> Result<Option<String>, StepError> {
        match run.network {
            RunNetwork::Default => Ok(self.options.network.clone()),
            RunNetwork::None => Ok(Some("none".to_owned())),
            RunNetwork::Host if self.options.allow.host_network => Ok(Some("host".to_owned())),
            RunNetwork::Host if self.options.network.as_deref() == Some("host") => {
                Ok(Some("host".to_owned()))
            }
            RunNetwork::Host => Err(StepError::NotAllowed("network.host")),
        }
    }

    fn execute(
        &self,
        here: &Here<'_>,
        run: &Run,
        command: &Command,
        network: Option<String>,
        mounts: Vec<Mounted>,
        state: &State,
    ) -> Result<Option<DiffId>, StepError> {
        let mut targets: Vec<String> = OURS.map(str::to_owned).to_vec();
        targets.extend(mounts.iter().map(|mount| mount.target.clone()));
        let base = self.files(state)?;
        let (prepared, _held) = self.prepare_step(run, command, network, mounts, state)?;
        let id = prepared.id().short().to_owned();
        self.progress.event(BuildEvent::Running {
            step: here.step.clone(),
            container: id.clone(),
        });
        let mut running = self.engine.start_step(prepared)?;
        let made = self.follow(here, command, &mut running).and_then(|()| {
            self.engine.step_is_over(&running)?;
            self.changes(&running, &base, &targets)
        });
        let erased = self.engine.erase_step(&running);
        self.progress.event(BuildEvent::Removed {
            step: here.step.clone(),
            container: id,
        });
        let made = made?;
        erased?;
        Ok(made)
    }

    fn prepare_step(
        &self,
        run: &Run,
        command: &Command,
        network: Option<String>,
        mounts: Vec<Mounted>,
        state: &State,
    ) -> Result<(crate::container::Prepared, Vec<super::run_mounts::Held>), StepError> {
        let mut env = state.env();
        env.extend(state.effective_args());
        for (name, value) in scope::proxies(self.options) {
            if state.variable(name).is_none() {
                env.push(format!("{name}={value}"));
            }
        }
        let mut options = CreateOptions {
            entrypoint: Some(Vec::new()),
            command: command.arguments.clone(),
            working_dir: Some(state.working_dir().to_owned()),
            user: Some(state.text("User").to_owned()),
            hostname: (network.as_deref() != Some("host")).then(|| HOSTNAME.to_owned()),
            networks: network.into_iter().map(Attachment::to).collect(),
            privileged: run.security == RunSecurity::Insecure,
            extra_hosts: self.options.extra_hosts.clone(),
            shm_size: self.options.shm_size,
            ulimits: self.options.ulimits.clone(),
            resources: self.options.resources.clone(),
            log: LogConfig {
                driver: "none".to_owned(),
                ..LogConfig::default()
            },
            ..CreateOptions::default()
        };
        let mut shown = crate::sandbox::Shown::default();
        let mut held = Vec::new();
        for mount in mounts {
            held.extend(mount.give(&mut options, &mut shown, &mut env));
        }
        if let Some(script) = &command.script {
            shown.secrets.push(Secret {
                target: script.target.clone(),
                content: script.content.clone(),
                ..*script
            });
        }
        options.env = env;
        let prepared = self.engine.prepare_step(&state.layers, &options, shown)?;
        Ok((prepared, held))
    }

    /// Passes on what the command says until it ends.
    fn follow(
        &self,
        here: &Here<'_>,
        command: &Command,
        running: &mut Step,
    ) -> Result<(), StepError> {
        let id = running.container.id.as_str().to_owned();
        let _watched = self.options.cancel.watch(&id, running.attachment.sender());
        loop {
            let heard = running.attachment.hear();
            let (stream, bytes) = match heard {
                Ok(Some(Heard::Stdout(bytes))) => (OutputStream::Stdout, bytes),
                Ok(Some(Heard::Stderr(bytes))) => (OutputStream::Stderr, bytes),
                Ok(Some(Heard::Exit(0))) => return Ok(()),
                Ok(Some(Heard::Exit(code))) => {
                    return Err(StepError::Command {
                        command: command.arguments.join(" "),
                        code,
                    });
                }
                Ok(None) | Err(_) if self.is_canceled() => return Err(StepError::Canceled),
                Ok(None) => {
                    let gone = io::Error::other("it was killed");
                    return Err(crate::container::ContainerError::Monitor(gone).into());
                }
                Err(error) => return Err(crate::container::ContainerError::Monitor(error).into()),
            };
            self.progress.event(BuildEvent::Output {
                step: here.step.clone(),
                stream,
                bytes,
            });
        }
    }

    /// Takes in what the command has changed as a layer; none if it has changed nothing.
    fn changes(
        &self,
        running: &Step,
        base: &super::files::Files,
        targets: &[String],
    ) -> Result<Option<DiffId>, StepError> {
        let union = self.engine.union_of(&running.container)?;
        let failed = || StepError::io(Path::new("layer"));
        if let super::files::Files::Layers(base) = base {
            for target in targets {
                remove_stub(&union, base, target).map_err(failed())?;
            }
        }
        let changes = union.changes().map_err(io::Error::from).map_err(failed())?;
        if changes.is_empty() {
            return Ok(None);
        }
        let tree = UnionTree(Arc::clone(&union));
        let made = layer::ingest(self.engine, |out| {
            layer::flushed(archive::pack_changes(&tree, &changes, self.latest, out)?)
        })?;
        Ok(Some(made))
    }
}

/// Returns what a `RUN` runs.
fn command(state: &State, run: &Run) -> Command {
    match &run.command {
        // As Docker: what the shell says to that is what comes of it.
        RunCommand::Shell(line) if line.is_empty() => Command {
            words: state.shell().join(" "),
            arguments: state.shell(),
            script: None,
        },
        RunCommand::Shell(line) => {
            let arguments = [state.shell(), vec![line.clone()]].concat();
            Command {
                words: arguments.join(" "),
                arguments,
                script: None,
            }
        }
        // As Docker: the image's own.
        RunCommand::Exec(words) if words.is_empty() => Command {
            arguments: state.words("Cmd"),
            script: None,
            words: String::new(),
        },
        RunCommand::Exec(words) => Command {
            arguments: words.clone(),
            script: None,
            words: words.join(" "),
        },
        RunCommand::Script(heredoc) => {
            let target = format!("{SCRIPTS}/{}", heredoc.name);
            let arguments = [state.shell(), vec![target.clone()]].concat();
            Command {
                words: format!(
                    "{} <<{name} ({name})",
                    state.shell().join(" "),
                    name = heredoc.name
                ),
                arguments,
                script: Some(Secret {
                    target: target.into(),
                    content: heredoc.content.clone().into_bytes(),
                    mode: 0o755,
                    uid: 0,
                    gid: 0,
                }),
            }
        }
    }
}

/// Removes what was made only so that something could be mounted there, if nobody has put anything into it: the mount
/// point, and the directories above it, where the base has nothing. The directory they lay in keeps its time.
fn remove_stub(union: &Union, base: &UnionTree, target: &str) -> io::Result<()> {
    let names = clean(target.as_bytes()).unwrap_or_default();
    let names = real_path(base, &names)?;
    let tree_has = |names: &[Vec<u8>]| lookup(base, names).map(|node| node.is_some());
    let mut depth = names.len();
    while depth > 0 && !tree_has(&names[..depth])? {
        let (above, name) = (&names[..depth - 1], &names[depth - 1]);
        let parent = match union.resolve(&join(above), layerfs::union::FollowLast::No) {
            Ok(parent) => parent,
            Err(layerfs::Errno::ENOENT | layerfs::Errno::ENOTDIR) => {
                depth -= 1;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let removed = match union.lookup(parent.ino, name) {
            Ok(there) => {
                let removed = match there.attr.kind {
                    Kind::File if there.attr.size == 0 => union.unlink(parent.ino, name),
                    Kind::Directory => union.rmdir(parent.ino, name),
                    _ => Err(layerfs::Errno::ENOTEMPTY),
                };
                union.forget(there.ino, 1);
                removed
            }
            Err(_) => Ok(()),
        };
        if removed.is_ok() {
            let time = SetAttr {
                mtime: Some(SetTime::To(parent.attr.mtime)),
                ..SetAttr::default()
            };
            union.setattr(parent.ino, &time)?;
        }
        union.forget(parent.ino, 1);
        if removed.is_err() {
            return Ok(());
        }
        depth -= 1;
    }
    Ok(())
}
