//! A container's control group: what its processes are counted, limited and found by.
//!
//! `/ply/<id>` is made in the v2 hierarchy wherever one is mounted, even when v1 carries the controllers: a process is
//! cloned into it (joining a v1 group afterwards waits for RCU, milliseconds), it is killed whole by one write, and its
//! device rules are an eBPF program. In v1 hierarchies it is made only for the limits that need their controller, and
//! for the device rules and the finding of processes where there is no v2. The monitor stays outside.

mod devices;
mod hierarchy;

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use serde::Deserialize;
use serde::Serialize;

use crate::sys;

use hierarchy::Hierarchies;

/// The group of all our groups.
const PARENT: &str = "ply";

/// How long the end of killed processes is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a container may use; what is `None` is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Billionths of processors.
    pub nano_cpus: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// What keeps a cgroup from being made as asked.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The system refused something on a file of the cgroup filesystem.
    #[error("cgroup {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The host has no controller for a limit.
    #[error("the host has no {0} cgroup controller")]
    NoController(&'static str),
    /// There is no way to keep the container from the host's devices.
    #[error(
        "cannot restrict devices: the host has neither cgroup v2 with eBPF nor the v1 devices controller"
    )]
    NoDeviceControl,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError::Io { path, source }
}

/// A container's groups in the host's hierarchies. Dropping it kills what is in them and removes them.
#[derive(Debug)]
pub(crate) struct Cgroup {
    unified: Option<(PathBuf, OwnedFd)>,
    v1: Vec<(String, PathBuf)>,
}

impl Cgroup {
    /// Makes the groups of container `id`, with its limits and device rules set.
    pub(crate) fn create(
        id: &str,
        resources: &Resources,
        restrict_devices: bool,
    ) -> Result<Cgroup, CgroupError> {
        let hierarchies = Hierarchies::of_host();
        let mut cgroup = Cgroup {
            unified: None,
            v1: Vec::new(),
        };
        if let Some(root) = &hierarchies.unified {
            let path = make(root, id)?;
            let directory = open_directory(&path)?;
            cgroup.unified = Some((path, directory));
        }
        cgroup.limit(id, &hierarchies, resources)?;
        if restrict_devices {
            cgroup.restrict_devices(id, &hierarchies)?;
        }
        if cgroup.unified.is_none() && cgroup.v1.is_empty() {
            // Some group must tell the container's processes from others.
            for controller in ["freezer", "pids", "devices"] {
                if hierarchies.v1.contains_key(controller) {
                    cgroup.join_v1(id, &hierarchies, controller)?;
                    break;
                }
            }
        }
        Ok(cgroup)
    }

    /// Returns the v2 group to clone the first process into.
    pub(crate) fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.unified
            .as_ref()
            .map(|(_, directory)| directory.as_fd())
    }

    /// Moves a process into the v1 groups; the v2 group it was cloned into.
    pub(crate) fn add(&self, pid: i32) -> Result<(), CgroupError> {
        for (_, path) in &self.v1 {
            write(&path.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Returns whether the container is in a v2 group, and the v1 controllers whose groups it is in.
    pub(crate) fn joined(&self) -> (bool, Vec<String>) {
        let v1 = self.v1.iter().map(|(name, _)| name.clone()).collect();
        (self.unified.is_some(), v1)
    }

    fn join_v1(
        &mut self,
        id: &str,
        hierarchies: &Hierarchies,
        controller: &'static str,
    ) -> Result<PathBuf, CgroupError> {
        let root = hierarchies
            .v1
            .get(controller)
            .ok_or(CgroupError::NoController(controller))?;
        let path = make(root, id)?;
        if !self.v1.iter().any(|(_, joined)| *joined == path) {
            self.v1.push((controller.to_owned(), path.clone()));
        }
        Ok(path)
    }

    fn limit(
        &mut self,
        id: &str,
        hierarchies: &Hierarchies,
        resources: &Resources,
    ) -> Result<(), CgroupError> {
        const PERIOD: u64 = 100_000;
        if let Some(memory) = resources.memory {
            match self.on_v2(hierarchies, "memory")? {
                Some(path) => {
                    write(&path.join("memory.max"), &memory.to_string())?;
                    write_if_there(&path.join("memory.swap.max"), &memory.to_string())?;
                }
                None => {
                    let path = self.join_v1(id, hierarchies, "memory")?;
                    write(&path.join("memory.limit_in_bytes"), &memory.to_string())?;
                    let both = (memory * 2).to_string();
                    write_if_there(&path.join("memory.memsw.limit_in_bytes"), &both)?;
                }
            }
        }
        if let Some(nano_cpus) = resources.nano_cpus {
            let quota = nano_cpus.saturating_mul(PERIOD) / 1_000_000_000;
            match self.on_v2(hierarchies, "cpu")? {
                Some(path) => write(&path.join("cpu.max"), &format!("{quota} {PERIOD}"))?,
                None => {
                    let path = self.join_v1(id, hierarchies, "cpu")?;
                    write(&path.join("cpu.cfs_period_us"), &PERIOD.to_string())?;
                    write(&path.join("cpu.cfs_quota_us"), &quota.to_string())?;
                }
            }
        }
        if let Some(pids) = resources.pids {
            let path = match self.on_v2(hierarchies, "pids")? {
                Some(path) => path,
                None => self.join_v1(id, hierarchies, "pids")?,
            };
            write(&path.join("pids.max"), &pids.to_string())?;
        }
        Ok(())
    }

    /// Returns the v2 group if `controller` is one of v2's, having passed it down to the group.
    fn on_v2(
        &self,
        hierarchies: &Hierarchies,
        controller: &str,
    ) -> Result<Option<PathBuf>, CgroupError> {
        let (Some(root), Some((path, _))) = (&hierarchies.unified, &self.unified) else {
            return Ok(None);
        };
        let there = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        if !there.split_whitespace().any(|name| name == controller) {
            return Ok(None);
        }
        for parent in [root.clone(), root.join(PARENT)] {
            write(
                &parent.join("cgroup.subtree_control"),
                &format!("+{controller}"),
            )?;
        }
        Ok(Some(path.clone()))
    }

    fn restrict_devices(&mut self, id: &str, hierarchies: &Hierarchies) -> Result<(), CgroupError> {
        if let Some((_, directory)) = &self.unified {
            let program = devices::program(devices::DEFAULT);
            match sys::bpf::attach_device_program(directory.as_fd(), &program) {
                Ok(()) => return Ok(()),
                Err(error) => log::debug!("no eBPF device rules: {error}"),
            }
        }
        if !hierarchies.v1.contains_key("devices") {
            return Err(CgroupError::NoDeviceControl);
        }
        let path = self.join_v1(id, hierarchies, "devices")?;
        write(&path.join("devices.deny"), "a")?;
        for rule in devices::DEFAULT {
            write(&path.join("devices.allow"), &rule.to_string())?;
        }
        Ok(())
    }

    /// Kills what is in the groups and removes them.
    pub(crate) fn remove(&mut self) -> Result<(), CgroupError> {
        let unified = self.unified.take().map(|(path, _)| path);
        let paths = unified
            .into_iter()
            .chain(self.v1.drain(..).map(|(_, path)| path));
        for path in paths {
            destroy(&path)?;
        }
        Ok(())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            log::warn!("{error}");
        }
    }
}

/// Kills and removes what a dead monitor left of container `id`.
pub(crate) fn sweep(id: &str) -> Result<(), CgroupError> {
    let hierarchies = Hierarchies::of_host();
    for root in hierarchies.unified.iter().chain(hierarchies.v1.values()) {
        let path = root.join(PARENT).join(id);
        if path.is_dir() {
            destroy(&path)?;
        }
    }
    Ok(())
}

fn make(root: &Path, id: &str) -> Result<PathBuf, CgroupError> {
    let path = root.join(PARENT).join(id);
    match fs::create_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(&path).map_err(failed(&path))?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.map_err(failed(&path))?,
    }
    Ok(path)
}

fn open_directory(path: &Path) -> Result<OwnedFd, CgroupError> {
    use rustix::fs::Mode;
    use rustix::fs::OFlags;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed(path)(error.into()))
}

fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
        .map_err(failed(path))
}

/// Writes a file that not every kernel has (swap accounting).
fn write_if_there(path: &Path, value: &str) -> Result<(), CgroupError> {
    match write(path, value) {
        Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        written => written,
    }
}

/// Kills every process in the group at `path` and removes it.
fn destroy(path: &Path) -> Result<(), CgroupError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(failed(path)(error)),
            Err(_) => {}
        }
        kill_all(path);
        for child in fs::read_dir(path).into_iter().flatten().flatten() {
            if child.file_type().is_ok_and(|kind| kind.is_dir()) {
                destroy(&child.path())?;
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn kill_all(path: &Path) {
    let _ = write(&path.join("freezer.state"), "THAWED");
    if write(&path.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let processes = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse().ok()) {
        let _ = sys::process::kill(pid, libc::SIGKILL);
    }
}
