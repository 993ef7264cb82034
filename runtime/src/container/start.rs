//! Starting a container: the monitor's birth, as its starter sees it.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use jiff::Timestamp;

use super::Config;
use super::Container;
use super::ContainerError;
use super::ContainerId;
use super::Prepared;
use super::Status;
use super::liveness::ALIVE;
use super::liveness::Busy;
use super::rows;
use super::rows::Durability;
use crate::Engine;
use crate::attach::Attachment;
use crate::frame;
use crate::frame::Kind;
use crate::monitor;
use crate::monitor::Again;
use crate::monitor::DriverOptions;
use crate::monitor::Spec;
use crate::monitor::journal;
use crate::network::join::Places;
use crate::sandbox::MountSource;
use crate::sandbox::Shown;
use crate::sys;
use crate::volume;

/// How to start.
#[derive(Debug, Clone, Copy, Default)]
pub struct StartOptions {
    /// Which streams to attach: input, output, error; `None` starts in the background.
    pub attach: Option<[bool; 3]>,
    /// The terminal's rows and columns.
    pub size: (u16, u16),
}

/// A step of a build that runs.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) attachment: Attachment,
    pub(crate) container: Container,
    busy: Busy,
}

/// What a run is given that its row does not say.
struct Given<'a> {
    volumes: DriverOptions,
    shown: Option<Shown>,
    places: &'a Places,
}

impl Engine {
    /// Waits until a step's monitor is gone; its upper holds still then.
    pub(crate) fn step_is_over(&self, step: &Step) -> Result<(), ContainerError> {
        step.busy
            .wait_for_death()
            .map_err(ContainerError::io(self.run_dir()))
    }

    /// Takes away all that a step has left.
    pub(crate) fn erase_step(&self, step: &Step) -> Result<(), ContainerError> {
        self.step_is_over(step)?;
        crate::cgroup::sweep(step.container.id.as_str())?;
        self.erase_files_and_row(&step.container.id, Durability::Process, true)?;
        step.busy.sweep();
        Ok(())
    }

    /// Starts a container that was made with [`Engine::prepare_container`]; one with `auto_remove` that cannot be
    /// started is gone afterwards.
    pub fn start_prepared(
        &self,
        prepared: Prepared,
        options: &StartOptions,
    ) -> Result<Option<Attachment>, ContainerError> {
        let Prepared {
            container, busy, ..
        } = prepared;
        self.start_kept(&container, &busy, options, true, None)
    }

    /// Starts a build's step with its outputs attached; the container is the caller's to erase.
    pub(crate) fn start_step(&self, prepared: Prepared) -> Result<Step, ContainerError> {
        let Prepared {
            container,
            busy,
            shown,
        } = prepared;
        let options = StartOptions {
            attach: Some([false, true, true]),
            ..StartOptions::default()
        };
        let attachment = self.start_kept(&container, &busy, &options, true, shown)?;
        let gone = || ContainerError::Monitor(io::ErrorKind::NotConnected.into());
        Ok(Step {
            attachment: attachment.ok_or_else(gone)?,
            container,
            busy,
        })
    }

    /// Starts a container that is there; one that runs already is left alone.
    pub fn start_container(
        &self,
        name: &str,
        options: &StartOptions,
    ) -> Result<Option<Attachment>, ContainerError> {
        let id = self.container(name)?.id;
        let busy = self.keep_busy(&id)?;
        self.bury_kept(&id, &busy)?;
        self.start_busy(name, &id, busy, options)
    }

    /// Starts a container that is kept busy, and buried if it was to be.
    pub(super) fn start_busy(
        &self,
        name: &str,
        id: &ContainerId,
        busy: Busy,
        options: &StartOptions,
    ) -> Result<Option<Attachment>, ContainerError> {
        let mut container = rows::by_id(&self.db(), id)?
            .filter(|container| container.state.status != Status::Removing)
            .ok_or_else(|| ContainerError::NoSuchContainer(name.to_owned()))?;
        let is_alive = busy
            .is_alive()
            .map_err(ContainerError::io(self.run_dir()))?;
        // A monitor that lives on may have recorded its container's end and be about to go.
        if is_alive && container.state.status.is_alive() {
            self.observe(&mut container);
            drop(busy);
            if container.state.status == Status::Paused {
                return Err(ContainerError::StartPaused);
            }
            return options
                .attach
                .map(|streams| self.attach_to(id, streams))
                .transpose();
        }
        busy.wait_for_death()
            .map_err(ContainerError::io(self.run_dir()))?;
        let is_first = container.state.started.is_none();
        rows::set_running(&self.db(), id, Timestamp::now(), 0)?;
        container.state.restart_count = 0;
        self.start_kept(&container, &busy, options, is_first, None)
    }

    /// Starts a container whose monitor was killed, as its policy says.
    pub(super) fn start_again(
        &self,
        container: &Container,
        busy: &Busy,
        count: u32,
    ) -> Result<(), ContainerError> {
        rows::set_running(&self.db(), &container.id, Timestamp::now(), count)?;
        let mut container = container.clone();
        container.state.restart_count = count;
        let options = StartOptions::default();
        self.start_kept(&container, busy, &options, false, None)
            .map(|_| ())
    }

    fn start_kept(
        &self,
        container: &Container,
        busy: &Busy,
        options: &StartOptions,
        is_first: bool,
        shown: Option<Shown>,
    ) -> Result<Option<Attachment>, ContainerError> {
        if options.attach.is_some() {
            self.emit_of(container, "attach", &[]);
        }
        let started = self
            .check_shared(&container.config)
            .and_then(|()| self.make_files(container))
            .and_then(|()| self.make_volumes(container, is_first))
            .and_then(|volumes| {
                let places = self.join_networks(container)?;
                self.write_network_files(container)?;
                let given = Given {
                    volumes,
                    shown,
                    places: &places,
                };
                self.launch(container, busy, options, is_first, given)
            });
        match started {
            Ok(stream) => {
                let attached = options.attach.map(|_| Attachment::new(stream)).transpose();
                attached.map_err(ContainerError::Monitor)
            }
            Err(error) => {
                // The monitor has nothing left; what it was for is the starter's to clear up.
                let attributes = [("exitCode", error.exit_code().to_string())];
                self.emit_of(container, "die", &attributes);
                busy.wait_for_death()
                    .map_err(ContainerError::io(self.run_dir()))?;
                crate::cgroup::sweep(container.id.as_str())?;
                self.leave_networks(&container.id)?;
                crate::network::bridge::sweep(self.run_dir());
                match container.config.auto_remove || container.config.of_build {
                    true => self.erase(&container.id, busy, true)?,
                    false => {
                        let code = i32::from(error.exit_code());
                        rows::set_failed(&self.db(), &container.id, code, &error.to_string())?;
                        busy.sweep();
                    }
                }
                Err(error)
            }
        }
    }

    /// Refuses to share the namespaces of a container that does not run.
    fn check_shared(&self, config: &Config) -> Result<(), ContainerError> {
        for (kind, mode) in [
            ("network", &config.network_mode),
            ("PID", &config.pid_mode),
            ("IPC", &config.ipc_mode),
        ] {
            let Some(id) = mode.strip_prefix("container:") else {
                continue;
            };
            if self.container(id)?.state.status != Status::Running {
                return Err(ContainerError::Invalid(format!(
                    "cannot join {kind} of a non running container: {id}"
                )));
            }
        }
        Ok(())
    }

    /// Makes the container's directory and the files bound over /etc.
    fn make_files(&self, container: &Container) -> Result<(), ContainerError> {
        if container.config.log.driver == "journald" && !Path::new(journal::SOCKET).exists() {
            return Err(ContainerError::Invalid(
                "failed to initialize logging driver: journald is not enabled on this host"
                    .to_owned(),
            ));
        }
        let directory = self.container_dir(&container.id);
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700).recursive(true);
        builder
            .create(&directory)
            .map_err(ContainerError::io(&directory))?;
        for mount in &container.config.mounts {
            if let MountSource::Bind(bind) = &mount.source
                && bind.create
            {
                make_source(&bind.path)?;
            }
        }
        Ok(())
    }

    /// Makes the volumes whole, and returns the options of those that show something else than their directory.
    fn make_volumes(
        &self,
        container: &Container,
        is_first: bool,
    ) -> Result<DriverOptions, ContainerError> {
        let mut options = DriverOptions::new();
        let volumes = container.config.volume_mounts();
        if volumes.is_empty() {
            return Ok(options);
        }
        let which = match is_first {
            true => volume::Use::First,
            false => volume::Use::Further,
        };
        self.ready_volumes(&container.config, which)?;
        for (_, mount) in volumes {
            let volume = self.volume(&mount.name)?;
            if !volume.driver_opts.is_empty() {
                options.insert(volume.name, volume.driver_opts);
            }
        }
        Ok(options)
    }

    /// Starts the monitor and waits until the command runs; returns the connection to it.
    fn launch(
        &self,
        container: &Container,
        busy: &Busy,
        options: &StartOptions,
        is_first: bool,
        given: Given<'_>,
    ) -> Result<UnixStream, ContainerError> {
        let failed = ContainerError::Monitor;
        let lock = busy.open_again().map_err(failed)?;
        if !sys::lock::try_lock(&lock, ALIVE).map_err(failed)? {
            return Err(ContainerError::AlreadyRunning(container.id.clone()));
        }
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let errors = self.container_dir(&container.id).join("monitor.log");
        let errors = File::options()
            .append(true)
            .create(true)
            .open(&errors)
            .map_err(ContainerError::io(&errors))?;
        let program = sys::executable::Protected::open().map_err(failed)?;
        let mut command = Command::new(program.path());
        sys::open_files::start_as_before(&mut command);
        let mut child = command
            .arg0("ply")
            .arg(monitor::ARGUMENT)
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(lock)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        // It has the monitor's end of the pair, which is to be the monitor's alone.
        drop(command);
        let spec = Spec {
            root: absolute(self.root()).map_err(failed)?,
            run: absolute(self.run_dir()).map_err(failed)?,
            id: container.id.as_str().to_owned(),
            config: container.config.clone(),
            attach: options.attach.unwrap_or_default(),
            size: options.size,
            is_first,
            detached: options.attach.is_none(),
            name: container.name.clone(),
            volumes: given.volumes,
            shown: given.shown.unwrap_or_default(),
            again: Again::after(container.state.restart_count),
            joined: given.places.joined.clone(),
            link_env: self.link_env(container)?,
        };
        let spec = frame::encode_json(Kind::Spec, &spec).map_err(failed)?;
        let sent = (&ours).write_all(&spec);
        let answer = sent.and_then(|()| frame::read(&ours));
        match answer {
            Ok(Some((Kind::Started, _))) => {
                self.keep_child(child);
                Ok(ours)
            }
            Ok(Some((Kind::Failed, payload))) => {
                let _ = child.wait();
                Err(ContainerError::start(&payload))
            }
            answer => {
                let _ = child.wait();
                Err(failed(match answer {
                    Err(error) => error,
                    Ok(_) => io::Error::other("it went away before the container ran"),
                }))
            }
        }
    }

    /// Connects to the streams of a container that runs.
    pub fn attach_container(
        &self,
        name: &str,
        streams: [bool; 3],
    ) -> Result<Attachment, ContainerError> {
        let container = self.container(name)?;
        match container.state.status {
            Status::Running => {}
            Status::Restarting => {
                return Err(ContainerError::Invalid(
                    "You cannot attach to a restarting container, wait until it is running"
                        .to_owned(),
                ));
            }
            Status::Paused => {
                return Err(ContainerError::Invalid(
                    "You cannot attach to a paused container, unpause it first".to_owned(),
                ));
            }
            _ => return Err(ContainerError::CannotAttach),
        }
        self.emit_of(&container, "attach", &[]);
        self.attach_to(&container.id, streams)
    }

    fn attach_to(
        &self,
        id: &ContainerId,
        streams: [bool; 3],
    ) -> Result<Attachment, ContainerError> {
        let stream = self.ask(id, &frame::Request::Attach(streams))?;
        Attachment::new(stream).map_err(ContainerError::Monitor)
    }

    /// Connects to a container's monitor and asks it something; what it answers is the caller's to read.
    pub(super) fn ask(
        &self,
        id: &ContainerId,
        request: &frame::Request,
    ) -> Result<UnixStream, ContainerError> {
        monitor::ask(&self.run_paths(id), request).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ContainerError::NotRunning(id.clone())
            }
            _ => ContainerError::Monitor(error),
        })
    }

    /// Records that a restart came to nothing; called by the monitor.
    pub(crate) fn record_failure(
        &self,
        id: &ContainerId,
        code: i32,
        words: &str,
    ) -> Result<(), ContainerError> {
        Ok(rows::set_failed(&self.db(), id, code, words)?)
    }

    /// Records how a run ended after which the monitor begins another one; called by it.
    pub(crate) fn record_restarting(
        &self,
        id: &ContainerId,
        end: &rows::End,
        count: u32,
    ) -> Result<(), ContainerError> {
        rows::leave_log_on_close(&self.db());
        Ok(rows::set_restarting(&self.db(), id, end, count)?)
    }

    /// Records how a container ended and, if that is its removal, takes it away; called by its monitor.
    pub(crate) fn record_end(
        &self,
        id: &ContainerId,
        auto_remove: bool,
        end: &rows::End,
    ) -> Result<(), ContainerError> {
        rows::leave_log_on_close(&self.db());
        let there = crate::network::rows::endpoints_of(&self.db(), id)?;
        self.release(id, &there)?;
        if rows::by_id(&self.db(), id)?.is_some_and(|container| container.config.of_build) {
            // The build takes its changes first; without the build, whoever comes next buries it.
            return Ok(());
        }
        if !auto_remove {
            return Ok(rows::set_exited(&self.db(), id, end)?);
        }
        self.erase_files_and_row(id, Durability::Process, true)?;
        self.run_paths(id).remove();
        Ok(())
    }
}

fn absolute(path: &Path) -> io::Result<std::path::PathBuf> {
    std::path::absolute(path)
}

pub(super) fn write_readable(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

/// Makes the directory that a volume shows if nothing is there, as Docker's `-v` does.
fn make_source(source: &Path) -> Result<(), ContainerError> {
    match fs::metadata(source) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut builder = fs::DirBuilder::new();
            builder.mode(0o755).recursive(true);
            builder.create(source).map_err(ContainerError::io(source))
        }
        _ => Ok(()),
    }
}
