//! A container's control group: what its processes are counted, limited and found by.
//!
//! `/ply/<id>` is made in the v2 hierarchy wherever one is mounted, even when v1 carries the controllers: a process is
//! cloned into it (joining a v1 group afterwards waits for RCU, milliseconds), it is killed whole by one write, and its
//! device rules are an eBPF program. In v1 hierarchies it is made only for the limits that need their controller, and
//! for the device rules and the finding of processes where there is no v2. The monitor stays outside.

mod block;
mod devices;
mod hierarchy;
mod oom;
mod usage;

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

pub use block::BlockLimits;
pub use block::DeviceRate;
use hierarchy::Hierarchies;
pub(crate) use oom::OomWatch;
pub use usage::Usage;

/// The group of all our groups.
const PARENT: &str = "ply";

/// How often processes that were born meanwhile are looked for.
const ROUNDS: usize = 16;

/// How long the end of killed processes is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a container may use; what is `None` is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together; -1 is no limit. As much swap as memory when only the memory is limited.
    pub memory_swap: Option<i64>,
    /// Bytes of memory that are left to it when the host has little.
    pub memory_reservation: Option<u64>,
    /// Billionths of processors.
    pub nano_cpus: Option<u64>,
    /// Microseconds of a period of the scheduler's bandwidth control; used with `cpu_quota`.
    pub cpu_period: Option<u64>,
    /// Microseconds of processor time in a period.
    pub cpu_quota: Option<i64>,
    /// Its part of the processors' time beside others'; 1024 is the usual one.
    pub cpu_shares: Option<u64>,
    /// The processors it may use: `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// The memory nodes it may use.
    pub cpuset_mems: Option<String>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Reading and writing of block devices.
    pub block: BlockLimits,
    /// How readily memory is swapped out, 0 to 100; cgroup v1 only.
    pub memory_swappiness: Option<u64>,
    /// Whether nothing is killed for a lack of memory; cgroup v1 only.
    pub oom_kill_disable: bool,
}

impl Resources {
    /// Returns these limits with those of `over` that are set put over them.
    pub fn with(&self, over: &Resources) -> Resources {
        Resources {
            memory: over.memory.or(self.memory),
            memory_swap: over.memory_swap.or(self.memory_swap),
            memory_reservation: over.memory_reservation.or(self.memory_reservation),
            nano_cpus: over.nano_cpus.or(self.nano_cpus),
            cpu_period: over.cpu_period.or(self.cpu_period),
            cpu_quota: over.cpu_quota.or(self.cpu_quota),
            cpu_shares: over.cpu_shares.or(self.cpu_shares),
            cpuset_cpus: over.cpuset_cpus.clone().or(self.cpuset_cpus.clone()),
            cpuset_mems: over.cpuset_mems.clone().or(self.cpuset_mems.clone()),
            pids: over.pids.or(self.pids),
            block: BlockLimits {
                weight: over.block.weight.or(self.block.weight),
                ..self.block.clone()
            },
            memory_swappiness: over.memory_swappiness.or(self.memory_swappiness),
            oom_kill_disable: over.oom_kill_disable || self.oom_kill_disable,
        }
    }

    /// Returns the limit of memory and swap together, -1 for none; `None` when nothing is limited.
    pub fn memory_and_swap(&self) -> Option<i64> {
        match (self.memory_swap, self.memory) {
            (Some(swap), _) if swap != 0 => Some(swap),
            (_, Some(memory)) => Some(i64::try_from(memory.saturating_mul(2)).unwrap_or(i64::MAX)),
            _ => None,
        }
    }
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
    /// A device whose use is to be limited is none.
    #[error("{path}: {}", crate::image::words(source))]
    Device {
        /// Its node.
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

/// Which devices a container may use.
#[derive(Debug, Clone)]
pub(crate) struct DeviceRules(Vec<devices::Rule>);

impl Default for DeviceRules {
    fn default() -> DeviceRules {
        DeviceRules(devices::DEFAULT.to_vec())
    }
}

impl DeviceRules {
    /// Allows `access` (`rwm`) to one more device; returns whether that could be read.
    pub(crate) fn allow(&mut self, is_block: bool, major: u32, minor: u32, access: &str) -> bool {
        let rule = devices::Rule::of(is_block, major, minor, access);
        self.0.extend(&rule);
        rule.is_some()
    }

    /// Adds a rule as `devices.allow` takes it; returns whether it could be read.
    pub(crate) fn add(&mut self, rule: &str) -> bool {
        let rules = devices::Rule::parse(rule);
        self.0.extend(rules.iter().flatten());
        rules.is_some()
    }
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
        devices: Option<&DeviceRules>,
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
        if let Some(devices) = devices {
            cgroup.restrict_devices(id, &hierarchies, &devices.0)?;
        }
        if cgroup.unified.is_none() {
            // Some group must tell the container's processes from others and stop them.
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
        join(&self.v1_groups(), pid)
    }

    /// Returns the v1 groups.
    pub(crate) fn v1_groups(&self) -> Vec<PathBuf> {
        self.v1.iter().map(|(_, path)| path.clone()).collect()
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
        self.limit_memory(id, hierarchies, resources)?;
        self.limit_cpu(id, hierarchies, resources)?;
        self.limit_cpuset(id, hierarchies, resources)?;
        if resources.block != BlockLimits::default() {
            match self.on_v2(hierarchies, "io")? {
                Some(path) => resources.block.set_on_v2(&path)?,
                None => {
                    let path = self.join_v1(id, hierarchies, "blkio")?;
                    resources.block.set_on_v1(&path)?;
                }
            }
        }
        if let Some(pids) = resources.pids {
            let path = match self.on_v2(hierarchies, "pids")? {
                Some(path) => path,
                None => self.join_v1(id, hierarchies, "pids")?,
            };
            let limit = match pids {
                0 => "max".to_owned(),
                pids => pids.to_string(),
            };
            write(&path.join("pids.max"), &limit)?;
        }
        Ok(())
    }

    fn limit_memory(
        &mut self,
        id: &str,
        hierarchies: &Hierarchies,
        resources: &Resources,
    ) -> Result<(), CgroupError> {
        let both = resources.memory_and_swap();
        let of_v1 = resources.memory_swappiness.is_some() || resources.oom_kill_disable;
        if both.is_none() && resources.memory_reservation.is_none() && !of_v1 {
            return Ok(());
        }
        if let Some(path) = self.on_v2(hierarchies, "memory")? {
            if let Some(memory) = resources.memory {
                write(&path.join("memory.max"), &memory.to_string())?;
            }
            if let Some(both) = both {
                let swap = match u64::try_from(both) {
                    Ok(both) => both
                        .saturating_sub(resources.memory.unwrap_or(0))
                        .to_string(),
                    Err(_) => "max".to_owned(),
                };
                write_if_there(&path.join("memory.swap.max"), &swap)?;
            }
            if let Some(reservation) = resources.memory_reservation {
                write(&path.join("memory.low"), &reservation.to_string())?;
            }
            return Ok(());
        }
        let path = self.join_v1(id, hierarchies, "memory")?;
        if let Some(swappiness) = resources.memory_swappiness {
            write(&path.join("memory.swappiness"), &swappiness.to_string())?;
        }
        if resources.oom_kill_disable {
            write(&path.join("memory.oom_control"), "1")?;
        }
        let (limit, limit_of_both) = (
            path.join("memory.limit_in_bytes"),
            path.join("memory.memsw.limit_in_bytes"),
        );
        // The limit of both is never below the one of memory alone, so which is written first depends on what was.
        let raised = both.map_or(Ok(()), |both| {
            write_if_there(&limit_of_both, &both.to_string())
        });
        if let Some(memory) = resources.memory {
            write(&limit, &memory.to_string())?;
        }
        if let (Err(_), Some(both)) = (raised, both) {
            write_if_there(&limit_of_both, &both.to_string())?;
        }
        if let Some(reservation) = resources.memory_reservation {
            let path = path.join("memory.soft_limit_in_bytes");
            write(&path, &reservation.to_string())?;
        }
        Ok(())
    }

    fn limit_cpu(
        &mut self,
        id: &str,
        hierarchies: &Hierarchies,
        resources: &Resources,
    ) -> Result<(), CgroupError> {
        const PERIOD: u64 = 100_000;
        let period = resources.cpu_period.unwrap_or(PERIOD);
        let quota = match (resources.nano_cpus, resources.cpu_quota) {
            (Some(nano_cpus), _) => {
                let quota = nano_cpus.saturating_mul(period) / 1_000_000_000;
                Some(i64::try_from(quota).unwrap_or(i64::MAX))
            }
            (None, Some(quota)) => Some(quota),
            (None, None) => resources.cpu_period.map(|_| -1),
        };
        if quota.is_none() && resources.cpu_shares.is_none() {
            return Ok(());
        }
        if let Some(path) = self.on_v2(hierarchies, "cpu")? {
            if let Some(quota) = quota {
                let quota = match quota {
                    ..=0 => "max".to_owned(),
                    quota => quota.to_string(),
                };
                write(&path.join("cpu.max"), &format!("{quota} {period}"))?;
            }
            if let Some(shares) = resources.cpu_shares {
                // From 2..=262144 to 1..=10000, as the OCI runtimes map it.
                let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
                write(&path.join("cpu.weight"), &weight.to_string())?;
            }
            return Ok(());
        }
        let path = self.join_v1(id, hierarchies, "cpu")?;
        if let Some(quota) = quota {
            write(&path.join("cpu.cfs_period_us"), &period.to_string())?;
            write(&path.join("cpu.cfs_quota_us"), &quota.to_string())?;
        }
        if let Some(shares) = resources.cpu_shares {
            write(&path.join("cpu.shares"), &shares.to_string())?;
        }
        Ok(())
    }

    fn limit_cpuset(
        &mut self,
        id: &str,
        hierarchies: &Hierarchies,
        resources: &Resources,
    ) -> Result<(), CgroupError> {
        let limits = [
            ("cpuset.cpus", &resources.cpuset_cpus),
            ("cpuset.mems", &resources.cpuset_mems),
        ];
        if limits.iter().all(|(_, limit)| limit.is_none()) {
            return Ok(());
        }
        let path = match self.on_v2(hierarchies, "cpuset")? {
            Some(path) => path,
            None => {
                let path = self.join_v1(id, hierarchies, "cpuset")?;
                // A v1 group begins with no processors and no memory, and takes no process before it has some.
                let parent = path.parent().unwrap_or(&path);
                for (name, _) in limits {
                    inherit(parent, name)?;
                    inherit(&path, name)?;
                }
                path
            }
        };
        for (name, limit) in limits {
            if let Some(limit) = limit {
                write(&path.join(name), limit)?;
            }
        }
        Ok(())
    }

    /// Sets new limits on a container that runs; what is `None` stays as it is.
    pub(crate) fn update(&mut self, id: &str, resources: &Resources) -> Result<(), CgroupError> {
        let before = self.v1.len();
        self.limit(id, &Hierarchies::of_host(), resources)?;
        // Groups that were only made now: everybody moves in. Who is born meanwhile is found in the next round.
        for (_, path) in &self.v1[before..] {
            for _ in 0..ROUNDS {
                let there = processes(path);
                let absent: Vec<i32> = self
                    .processes()
                    .into_iter()
                    .filter(|pid| !there.contains(pid))
                    .collect();
                if absent.is_empty() {
                    break;
                }
                for pid in absent {
                    // One that has ended has left.
                    let _ = write(&path.join("cgroup.procs"), &pid.to_string());
                }
            }
        }
        Ok(())
    }

    /// Returns the container's processes, as the host numbers them.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mut paths = self.unified.iter().map(|(path, _)| path);
        let path = paths.next().or(self.v1.first().map(|(_, path)| path));
        path.map(|path| processes(path)).unwrap_or_default()
    }

    /// Returns how often the container has run out of memory and lost a process.
    pub(crate) fn oom_kills(&self) -> u64 {
        let v1 = self.v1.iter().find(|(name, _)| name == "memory");
        let file = match (v1, &self.unified) {
            (Some((_, path)), _) => path.join("memory.oom_control"),
            (None, Some((path, _))) => path.join("memory.events"),
            (None, None) => return 0,
        };
        let text = fs::read_to_string(file).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// Returns what tells that the container has run out of memory; `None` where the host cannot tell.
    pub(crate) fn watch_ooms(&self) -> Option<OomWatch> {
        let v1 = self.v1.iter().find(|(name, _)| name == "memory");
        match (v1, &self.unified) {
            (Some((_, path)), _) => OomWatch::on_v1(path).ok(),
            (None, Some((path, _))) => OomWatch::on_v2(path).ok(),
            (None, None) => None,
        }
    }

    /// Stops every process of the container where it is, or lets them go on.
    pub(crate) fn freeze(&self, freeze: bool) -> Result<(), CgroupError> {
        let deadline = Instant::now() + PATIENCE;
        let (command, value, state, frozen) = match (
            &self.unified,
            self.v1.iter().find(|(it, _)| it == "freezer"),
        ) {
            (Some((path, _)), _) => (
                path.join("cgroup.freeze"),
                if freeze { "1" } else { "0" },
                path.join("cgroup.events"),
                if freeze { "frozen 1" } else { "frozen 0" },
            ),
            (None, Some((_, path))) => (
                path.join("freezer.state"),
                if freeze { "FROZEN" } else { "THAWED" },
                path.join("freezer.state"),
                if freeze { "FROZEN" } else { "THAWED" },
            ),
            (None, None) => return Err(CgroupError::NoController("freezer")),
        };
        write(&command, value)?;
        loop {
            let text = fs::read_to_string(&state).map_err(failed(&state))?;
            if text.lines().any(|line| line == frozen) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                if freeze {
                    self.freeze(false)?;
                }
                return Err(failed(&state)(io::ErrorKind::TimedOut.into()));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
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

    fn restrict_devices(
        &mut self,
        id: &str,
        hierarchies: &Hierarchies,
        rules: &[devices::Rule],
    ) -> Result<(), CgroupError> {
        if let Some((_, directory)) = &self.unified {
            let program = devices::program(rules);
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
        for rule in rules {
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
    for path in Hierarchies::of_host().groups(id) {
        destroy(&path)?;
    }
    Ok(())
}

/// Moves a process into groups.
pub(crate) fn join(groups: &[PathBuf], pid: i32) -> Result<(), CgroupError> {
    for path in groups {
        write(&path.join("cgroup.procs"), &pid.to_string())?;
    }
    Ok(())
}

/// Returns the processes of container `id`, as the host numbers them.
pub(crate) fn processes_of(id: &str) -> Vec<i32> {
    let group = Hierarchies::of_host().groups(id).next();
    group.map(|path| processes(&path)).unwrap_or_default()
}

/// Returns the processes of the group at `path` and of those below it.
pub(crate) fn processes(path: &Path) -> Vec<i32> {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for child in fs::read_dir(path).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            pids.extend(processes(&child.path()));
        }
    }
    pids.retain(|pid| *pid > 0);
    pids
}

/// Gives a v1 group what the one above it has, if it has nothing yet.
fn inherit(path: &Path, name: &str) -> Result<(), CgroupError> {
    let (own, above) = (path.join(name), path.parent().unwrap_or(path).join(name));
    let text = fs::read_to_string(&own).map_err(failed(&own))?;
    if !text.trim().is_empty() {
        return Ok(());
    }
    let text = fs::read_to_string(&above).map_err(failed(&above))?;
    write(&own, text.trim())
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
