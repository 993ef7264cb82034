//! Making a container: the options of `create` and `run` put on what the image says.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Component;
use std::path::Path;

use jiff::Timestamp;
use layerfs::DiffId;

use serde::Deserialize as _;

use super::Config;
use super::Container;
use super::ContainerError;
use super::ContainerId;
use super::DeviceMapping;
use super::Healthcheck;
use super::LogConfig;
use super::MountSpec;
use super::RestartPolicy;
use super::State;
use super::Status;
use super::config::merge_env;
use super::liveness::Busy;
use super::mounts;
use super::names;
use super::rows;
use crate::Engine;
use crate::cgroup::DeviceRules;
use crate::cgroup::Resources;
use crate::image::Image;
use crate::network::Attachment;
use crate::network::Publish;
use crate::network::port::Port;
use crate::sandbox::Capabilities;
use crate::sandbox::Limit;
use crate::sandbox::Shown;
use crate::sandbox::capability::normalized;
use crate::volume;

/// The first of the users that are given to user namespaces, and how many ranges of them there are.
const FIRST_USER: u32 = 0x2000_0000;
const USER_RANGES: u32 = 0x4000;

/// Docker's size of /dev/shm.
const SHM_SIZE: u64 = 64 << 20;

/// Docker's smallest memory limit.
const LEAST_MEMORY: u64 = 6 << 20;

/// The longest name `sethostname(2)` takes.
const LONGEST_HOSTNAME: usize = 64;

/// What a container is to be, over what its image says.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// The image's name or id.
    pub image: String,
    /// The container's name; one is made up if there is none.
    pub name: Option<String>,
    /// Replaces the image's command.
    pub command: Vec<String>,
    /// Replaces the image's entrypoint, and with it the image's command.
    pub entrypoint: Option<Vec<String>>,
    /// `NAME=value` put over the image's.
    pub env: Vec<String>,
    /// Replaces the image's working directory.
    pub working_dir: Option<String>,
    /// Replaces the image's user.
    pub user: Option<String>,
    /// Labels put over the image's.
    pub labels: BTreeMap<String, String>,
    /// Whether the streams are a terminal.
    pub tty: bool,
    /// Whether standard input is kept open.
    pub open_stdin: bool,
    /// Whether standard input ends with its first client.
    pub stdin_once: bool,
    /// Which streams `start -a` attaches: input, output, error.
    pub attach: [bool; 3],
    /// The host's name; the short id if there is none.
    pub hostname: Option<String>,
    /// The NIS domain.
    pub domainname: Option<String>,
    /// The networks it is to be on, the first one first; `host`, `none` or `container:<name>` stands alone. Nothing is
    /// `bridge`.
    pub networks: Vec<Attachment>,
    /// Its ports that the host is to have.
    pub publish: Vec<Publish>,
    /// Whether the host is to have all of its exposed ports.
    pub publish_all: bool,
    /// Ports that are said to be served, beside the image's.
    pub exposed: Vec<Port>,
    /// `--volume`'s arguments.
    pub volumes: Vec<String>,
    /// The driver of the volumes that `--volume` makes; nothing is `local`.
    pub volume_driver: String,
    /// `--volumes-from`'s arguments.
    pub volumes_from: Vec<String>,
    /// `--tmpfs`'s arguments.
    pub tmpfs: Vec<String>,
    /// Whether the root is read-only.
    pub read_only: bool,
    /// Whether a reaper is pid 1.
    pub init: bool,
    /// Whether the container's end is its removal.
    pub auto_remove: bool,
    /// Whether it has no walls but the namespaces.
    pub privileged: bool,
    /// Capabilities beyond the defaults.
    pub cap_add: Vec<String>,
    /// Defaults it lacks.
    pub cap_drop: Vec<String>,
    /// `--security-opt`'s arguments.
    pub security_opt: Vec<String>,
    /// Limits of the whole container.
    pub resources: Resources,
    /// Limits of each process.
    pub ulimits: Vec<Limit>,
    /// Bytes of /dev/shm.
    pub shm_size: Option<u64>,
    /// Groups beyond the user's.
    pub group_add: Vec<String>,
    /// `name:address` for /etc/hosts.
    pub extra_hosts: Vec<String>,
    /// The kernel's parameters in the container's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// What is noted for others than the engine.
    pub annotations: BTreeMap<String, String>,
    /// `--mount`'s.
    pub mounts: Vec<MountSpec>,
    /// `--device`'s arguments.
    pub devices: Vec<String>,
    /// Rules for devices beside the defaults, as `devices.allow` takes them.
    pub device_cgroup_rules: Vec<String>,
    /// `host`, `container:<name>`; nothing is its own.
    pub pid_mode: String,
    /// `host`, `container:<name>`, `shareable`, `private`; nothing is `private`.
    pub ipc_mode: String,
    /// `host`; nothing is its own.
    pub uts_mode: String,
    /// `host`, `private`; nothing is `private`.
    pub cgroupns_mode: String,
    /// `host`, `auto`; nothing is the host's.
    pub userns_mode: String,
    /// Servers of names; the host's if there are none.
    pub dns: Vec<String>,
    /// Search domains; the host's if there are none.
    pub dns_search: Vec<String>,
    /// Options of /etc/resolv.conf.
    pub dns_options: Vec<String>,
    /// How readily the kernel kills it when memory is short.
    pub oom_score_adj: Option<i32>,
    /// Where what it says is kept.
    pub log: LogConfig,
    /// When the container is started again.
    pub restart: RestartPolicy,
    /// How its health is checked, over what the image says.
    pub healthcheck: Option<Healthcheck>,
    /// What `stop` sends.
    pub stop_signal: Option<String>,
    /// How many seconds `stop` waits; -1 for ever.
    pub stop_timeout: Option<i64>,
}

impl CreateOptions {
    /// Returns what is asked for in vain, in Docker's words.
    pub fn warnings(&self) -> impl Iterator<Item = &'static str> {
        let is_of_host = self.networks.first().is_some_and(|it| it.network == "host");
        let has_ports = !self.publish.is_empty() || self.publish_all;
        let ports = "Published ports are discarded when using host network mode";
        (is_of_host && has_ports).then_some(ports).into_iter()
    }
}

/// A container that was made to be started at once; nobody else starts, removes or buries it meanwhile.
#[derive(Debug)]
pub struct Prepared {
    pub(super) container: Container,
    pub(super) busy: Busy,
    /// What a build's step is shown.
    pub(super) shown: Option<Shown>,
}

impl Prepared {
    /// Returns the container's id.
    pub fn id(&self) -> &ContainerId {
        &self.container.id
    }
}

impl Engine {
    /// Makes a container; it does not run yet.
    pub fn create_container(&self, options: &CreateOptions) -> Result<ContainerId, ContainerError> {
        let container = self.new_container(options, Status::Created)?;
        Ok(container.0.id)
    }

    /// Makes a container for [`Engine::start_prepared`].
    pub fn prepare_container(&self, options: &CreateOptions) -> Result<Prepared, ContainerError> {
        let (container, busy) = self.new_container(options, Status::Running)?;
        Ok(Prepared {
            container,
            busy,
            shown: None,
        })
    }

    /// Finds the containers whose namespaces are to be shared.
    fn resolve_namespaces(
        &self,
        options: &CreateOptions,
        config: &mut Config,
    ) -> Result<(), ContainerError> {
        let invalid = |words: String| Err(ContainerError::Invalid(words));
        let other = |mode: &str| {
            let name = mode.strip_prefix("container:");
            name.map(|name| self.container(name)).transpose()
        };
        config.pid_mode = match (other(&options.pid_mode)?, &options.pid_mode[..]) {
            (Some(container), _) => format!("container:{}", container.id),
            (None, mode @ ("" | "host")) => mode.to_owned(),
            (None, mode) => return invalid(format!("invalid PID mode: {mode}")),
        };
        config.ipc_mode = match (other(&options.ipc_mode)?, &options.ipc_mode[..]) {
            (Some(container), _) => {
                if container.config.ipc_mode != "shareable" {
                    return invalid(format!(
                        "can't join IPC of container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor \
                         container)",
                        container.id
                    ));
                }
                format!("container:{}", container.id)
            }
            (None, "") => "private".to_owned(),
            (None, mode @ ("host" | "shareable" | "private" | "none")) => mode.to_owned(),
            (None, mode) => return invalid(format!("invalid IPC mode: {mode}")),
        };
        config.uts_mode = match &options.uts_mode[..] {
            "host" if options.hostname.is_some() => {
                return invalid("conflicting options: hostname and the UTS mode".to_owned());
            }
            mode @ ("" | "host") => mode.to_owned(),
            mode => return invalid(format!("invalid UTS mode: {mode}")),
        };
        config.cgroupns_mode = match &options.cgroupns_mode[..] {
            "" => "private".to_owned(),
            mode @ ("host" | "private") => mode.to_owned(),
            mode => return invalid(format!("invalid cgroup namespace mode: {mode}")),
        };
        match &options.userns_mode[..] {
            "" | "host" => {}
            "auto" => config.first_user = Some(self.free_users(config)?),
            mode => return invalid(format!("invalid USER mode: {mode}")),
        }
        config.userns_mode.clone_from(&options.userns_mode);
        Ok(())
    }

    /// Finds users of the host's that no container's user namespace has.
    fn free_users(&self, config: &Config) -> Result<u32, ContainerError> {
        let shared = |what: &str| {
            Err(ContainerError::Invalid(format!(
                "cannot share {what} when user namespaces are enabled"
            )))
        };
        if config.privileged {
            return Err(ContainerError::Invalid(
                "privileged mode is incompatible with user namespaces. You must run the container in the host \
                 namespace when running privileged mode"
                    .to_owned(),
            ));
        }
        for (what, mode) in [
            ("a network namespace", &config.network_mode),
            ("a PID namespace", &config.pid_mode),
            ("an IPC namespace", &config.ipc_mode),
            ("the host's UTS namespace", &config.uts_mode),
            ("the host's cgroup namespace", &config.cgroupns_mode),
        ] {
            if mode == "host" || mode.starts_with("container:") {
                return shared(what);
            }
        }
        let taken: Vec<u32> = rows::all(&self.db())?
            .into_iter()
            .filter_map(|container| container.config.first_user)
            .collect();
        // By chance, so that two that are made at once get two; and who comes after a removed one gets another.
        loop {
            let slot = rand::random_range(0..USER_RANGES);
            let first = FIRST_USER + slot * crate::sandbox::USERS;
            if !taken.contains(&first) {
                return Ok(first);
            }
        }
    }

    fn new_container(
        &self,
        options: &CreateOptions,
        status: Status,
    ) -> Result<(Container, Busy), ContainerError> {
        let image = self.image(&options.image)?;
        self.container_of(options, &image, status, false)
    }

    /// Makes a container of layers that are no image yet, for a step of a build.
    pub(crate) fn prepare_step(
        &self,
        layers: &[DiffId],
        options: &CreateOptions,
        shown: Shown,
    ) -> Result<Prepared, ContainerError> {
        let image = Image::of_layers(layers);
        let (container, busy) = self.container_of(options, &image, Status::Running, true)?;
        Ok(Prepared {
            container,
            busy,
            shown: Some(shown),
        })
    }

    fn container_of(
        &self,
        options: &CreateOptions,
        image: &Image,
        status: Status,
        of_build: bool,
    ) -> Result<(Container, Busy), ContainerError> {
        let id = ContainerId::random();
        let volumes = self.volumes_from(&options.volumes_from)?;
        let mut config = configure(options, image, &id, volumes)?;
        config.of_build = of_build;
        self.resolve_networks(options, &mut config, &id)?;
        self.resolve_namespaces(options, &mut config)?;
        check_sysctls(&config)?;
        if let Some(name) = &options.name
            && !names::is_valid(name)
        {
            return Err(ContainerError::Invalid(format!(
                "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )));
        }
        let now = Timestamp::now();
        let mut container = Container {
            id,
            name: options.name.clone().unwrap_or_default(),
            created: now,
            config,
            state: State {
                status,
                pid: None,
                exit_code: 0,
                error: String::new(),
                started: (status == Status::Running).then_some(now),
                finished: None,
                restart_count: 0,
                stopped: false,
                oom_killed: false,
                health: None,
                published: Vec::new(),
            },
        };
        let busy = self.keep_busy(&container.id)?;
        let mut tries = 0;
        let inserted = loop {
            if options.name.is_none() {
                container.name = names::generate(tries);
            }
            match self.insert_container(&container) {
                Err(ContainerError::NameInUse { .. }) if options.name.is_none() => tries += 1,
                inserted => break inserted,
            }
        };
        match inserted {
            Ok(new_volumes) => {
                for name in new_volumes {
                    self.emit_volume("create", &name, &[]);
                }
                self.emit_container(
                    "create",
                    &container.id,
                    &container.name,
                    &container.config,
                    &[],
                );
                self.fill_volumes(&container, &busy)?;
                Ok((container, busy))
            }
            Err(error) => {
                busy.sweep();
                Err(error)
            }
        }
    }

    /// Adds a container's row and those of its volumes; returns the names of the new ones.
    fn insert_container(&self, container: &Container) -> Result<Vec<String>, ContainerError> {
        let volumes = container.config.volume_mounts();
        let _alone = match volumes.is_empty() {
            true => None,
            false => Some(self.lock_volumes()?),
        };
        let new = rows::insert(&self.db(), container)?;
        for name in &new {
            self.make_volume_directory(name)?;
        }
        Ok(new)
    }

    /// Puts the image's content into the container's empty volumes; if that cannot be, there is no container.
    fn fill_volumes(&self, container: &Container, busy: &Busy) -> Result<(), ContainerError> {
        if container.config.volume_mounts().is_empty() {
            return Ok(());
        }
        let filled = self.ready_volumes(&container.config, volume::Use::First);
        if filled.is_err() {
            self.erase(&container.id, busy, true)?;
        }
        Ok(filled?)
    }
}

fn configure(
    options: &CreateOptions,
    image: &Image,
    id: &ContainerId,
    from: Vec<mounts::Donor>,
) -> Result<Config, ContainerError> {
    let volumes_of_image = mounts::of_image(image);
    let invalid = |words: String| Err(ContainerError::Invalid(words));
    let of_image = image.config.config().clone().unwrap_or_default();
    let set = |strings: &Option<Vec<String>>| strings.clone().unwrap_or_default();
    let (entrypoint, command) = match &options.entrypoint {
        Some(entrypoint) => (
            Some(entrypoint.clone())
                .filter(|arguments| arguments.iter().any(|argument| !argument.is_empty())),
            options.command.clone(),
        ),
        None if options.command.is_empty() => (of_image.entrypoint().clone(), set(of_image.cmd())),
        None => (of_image.entrypoint().clone(), options.command.clone()),
    };
    let entrypoint = entrypoint.filter(|entrypoint| !entrypoint.is_empty());
    if entrypoint.is_none() && command.is_empty() {
        return Err(ContainerError::NoCommand);
    }
    let hostname = match &options.hostname {
        Some(hostname) if !is_hostname(hostname) => {
            return invalid(format!("invalid hostname: {hostname:?}"));
        }
        Some(hostname) => hostname.clone(),
        None if is_on_host(options) || options.uts_mode == "host" => host_name(),
        None => id.short().to_owned(),
    };
    let working_dir = options
        .working_dir
        .clone()
        .or_else(|| of_image.working_dir().clone())
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| "/".to_owned());
    if !working_dir.starts_with('/') {
        return invalid(format!(
            "the working directory '{working_dir}' is invalid, it needs to be an absolute path"
        ));
    }
    Capabilities::of_flags(options.privileged, &options.cap_add, &options.cap_drop)
        .map_err(|error| ContainerError::Invalid(error.to_string()))?;
    for option in &options.security_opt {
        check_security_option(option)?;
    }
    check_resources(&options.resources)?;
    options.log.check().map_err(ContainerError::Invalid)?;
    if options
        .oom_score_adj
        .is_some_and(|score| !(-1000..=1000).contains(&score))
    {
        return invalid("Invalid value for OomScoreAdj, range is [-1000, 1000]".to_owned());
    }
    if let Some(rule) = options
        .device_cgroup_rules
        .iter()
        .find(|rule| !DeviceRules::default().add(rule))
    {
        return invalid(format!("invalid device cgroup rule format: '{rule}'"));
    }
    let stop_signal = options
        .stop_signal
        .clone()
        .or_else(|| of_image.stop_signal().clone());
    if let Some(signal) = &options.stop_signal
        && super::control::signal_number(signal).is_none()
    {
        return invalid(format!("Invalid signal: {signal}"));
    }
    let env = merge_env(&set(of_image.env()), &options.env);
    let mut labels: BTreeMap<String, String> = of_image
        .labels()
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    labels.extend(options.labels.clone());
    Ok(Config {
        image: options.image.clone(),
        image_id: image.id.to_string(),
        layers: image.layers.iter().map(ToString::to_string).collect(),
        hostname,
        domainname: options.domainname.clone().unwrap_or_default(),
        user: options
            .user
            .clone()
            .or_else(|| of_image.user().clone())
            .unwrap_or_default(),
        env,
        entrypoint,
        command,
        working_dir,
        labels,
        tty: options.tty,
        open_stdin: options.open_stdin,
        stdin_once: options.stdin_once,
        attach: options.attach,
        stop_signal,
        stop_timeout: options.stop_timeout,
        mounts: mounts::mounts(options, &volumes_of_image, from)?,
        binds: options
            .volumes
            .iter()
            .filter(|volume| volume.contains(':'))
            .cloned()
            .collect(),
        volumes: mounts::volume_places(options, &volumes_of_image),
        volumes_from: options.volumes_from.clone(),
        volume_driver: options.volume_driver.clone(),
        asked_mounts: options.mounts.clone(),
        tmpfs: options
            .tmpfs
            .iter()
            .map(|text| text.split_once(':').unwrap_or((text, "")))
            .map(|(target, options)| (target.to_owned(), options.to_owned()))
            .collect(),
        sysctls: options.sysctls.clone(),
        annotations: options.annotations.clone(),
        read_only: options.read_only,
        publish: options.publish.clone(),
        publish_all: options.publish_all,
        exposed: exposed(options, image),
        init: options.init,
        auto_remove: options.auto_remove,
        privileged: options.privileged,
        cap_add: normalized(&options.cap_add),
        cap_drop: normalized(&options.cap_drop),
        security_opt: options.security_opt.clone(),
        resources: options.resources.clone(),
        ulimits: options.ulimits.clone(),
        shm_size: options
            .shm_size
            .filter(|size| *size > 0)
            .unwrap_or(SHM_SIZE),
        group_add: options.group_add.clone(),
        extra_hosts: extra_hosts(&options.extra_hosts)?,
        devices: devices(options)?,
        device_cgroup_rules: options.device_cgroup_rules.clone(),
        dns: addresses(&options.dns)?,
        dns_search: options.dns_search.clone(),
        dns_options: options.dns_options.clone(),
        oom_score_adj: options.oom_score_adj,
        log: options.log.clone(),
        restart: options.restart,
        healthcheck: healthcheck(options, image)?,
        // The engine finds them.
        network_mode: String::new(),
        networks: Vec::new(),
        pid_mode: String::new(),
        ipc_mode: String::new(),
        uts_mode: String::new(),
        cgroupns_mode: String::new(),
        userns_mode: String::new(),
        first_user: None,
        of_build: false,
    })
}

/// Returns whether a container has a parameter of the kernel's for itself, in its namespaces.
pub fn has_own_sysctl(name: &str) -> bool {
    const OF_IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    OF_IPC.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.")
}

/// Refuses parameters of the kernel that would be set for others too.
fn check_sysctls(config: &Config) -> Result<(), ContainerError> {
    let is_others = |mode: &str| mode == "host" || mode.starts_with("container:");
    for (name, value) in &config.sysctls {
        if !has_own_sysctl(name) {
            return Err(ContainerError::Invalid(format!(
                "sysctl '{name}={value}' is not allowed"
            )));
        }
        let (is_shared, what) = match name.starts_with("net.") {
            true => (config.has_network_of_host(), "network"),
            false => (is_others(&config.ipc_mode), "ipc"),
        };
        if is_shared {
            return Err(ContainerError::Invalid(format!(
                "sysctl {name:?} not allowed in host {what} namespace"
            )));
        }
    }
    Ok(())
}

/// Refuses limits that contradict each other or could hold no process.
pub(super) fn check_resources(resources: &Resources) -> Result<(), ContainerError> {
    let invalid = |words: String| Err(ContainerError::Invalid(words));
    if resources.memory.is_some_and(|memory| memory < LEAST_MEMORY) {
        return invalid("Minimum memory limit allowed is 6MB".to_owned());
    }
    let of_devices = resources.block.device_weights.iter().map(|it| it.rate);
    let mut weights = of_devices.chain(resources.block.weight);
    if weights.any(|weight| !(10..=1000).contains(&weight)) {
        return invalid("Range of blkio weight is from 10 to 1000".to_owned());
    }
    if let Some(swappiness) = resources.memory_swappiness
        && swappiness > 100
    {
        return invalid(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        ));
    }
    match (resources.memory, resources.memory_swap) {
        (Some(memory), Some(swap)) if swap > 0 && (swap as u64) < memory => {
            return invalid(
                "Minimum memoryswap limit should be larger than memory limit, see usage".to_owned(),
            );
        }
        (None, Some(swap)) if swap > 0 => {
            return invalid(
                "You should always set the Memory limit when using Memoryswap limit, see usage"
                    .to_owned(),
            );
        }
        _ => {}
    }
    if let (Some(memory), Some(reservation)) = (resources.memory, resources.memory_reservation)
        && memory < reservation
    {
        return invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
                .to_owned(),
        );
    }
    if resources.nano_cpus.is_some() && resources.cpu_quota.is_some_and(|quota| quota > 0) {
        return invalid(
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set".to_owned(),
        );
    }
    if resources.nano_cpus.is_some() && resources.cpu_period.is_some() {
        return invalid(
            "Conflicting options: Nano CPUs and CPU Period cannot both be set".to_owned(),
        );
    }
    if resources
        .cpu_period
        .is_some_and(|period| !(1_000..=1_000_000).contains(&period))
    {
        return invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
                .to_owned(),
        );
    }
    if resources
        .cpu_quota
        .is_some_and(|quota| (1..1_000).contains(&quota))
    {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)".to_owned());
    }
    check_set(
        "CPUs",
        "cpuset cpus",
        "cpu",
        resources.cpuset_cpus.as_deref(),
    )?;
    check_set(
        "memory nodes",
        "cpuset mems",
        "node",
        resources.cpuset_mems.as_deref(),
    )?;
    let there = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    const LEAST_NANO_CPUS: u64 = 10_000_000;
    if let Some(nano_cpus) = resources.nano_cpus
        && !(LEAST_NANO_CPUS..=there * 1_000_000_000).contains(&nano_cpus)
    {
        return invalid(format!(
            "Range of CPUs is from 0.01 to {there}.00, as there are only {there} CPUs available"
        ));
    }
    Ok(())
}

/// Refuses processors or memory nodes that the host has not.
fn check_set(
    what: &str,
    option: &str,
    kind: &str,
    asked: Option<&str>,
) -> Result<(), ContainerError> {
    let Some(asked) = asked.filter(|asked| !asked.is_empty()) else {
        return Ok(());
    };
    let Some(wanted) = numbers(asked) else {
        return Err(ContainerError::Invalid(format!(
            "Invalid value {asked} for {option}: invalid format"
        )));
    };
    let path = format!("/sys/devices/system/{kind}/online");
    let Ok(there) = std::fs::read_to_string(&path) else {
        return Ok(());
    };
    let there = there.trim();
    let available = numbers(there).unwrap_or_default();
    match wanted.is_subset(&available) {
        true => Ok(()),
        false => Err(ContainerError::Invalid(format!(
            "Requested {what} are not available - requested {asked}, available: {there}"
        ))),
    }
}

/// Reads a list of numbers and ranges: `0-2,4`.
fn numbers(text: &str) -> Option<BTreeSet<u32>> {
    const HIGHEST: u32 = 8192;
    let mut all = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > HIGHEST {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// Returns the image's check with what was asked for put over it.
fn healthcheck(
    options: &CreateOptions,
    image: &Image,
) -> Result<Option<Healthcheck>, ContainerError> {
    let of_image = image.raw_config["config"].get("Healthcheck");
    let of_image = of_image.and_then(|check| Healthcheck::deserialize(check).ok());
    let check = match (&of_image, &options.healthcheck) {
        (Some(of_image), Some(over)) => of_image.with(over),
        (Some(one), None) | (None, Some(one)) => one.clone(),
        (None, None) => return Ok(None),
    };
    const SHORTEST: u64 = 1_000_000;
    for (what, time) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ] {
        if time != 0 && time < SHORTEST {
            return Err(ContainerError::Invalid(format!(
                "{what} in Healthcheck cannot be less than 1ms"
            )));
        }
    }
    Ok(Some(check))
}

fn is_on_host(options: &CreateOptions) -> bool {
    let mut networks = options.networks.iter();
    networks.any(|attachment| attachment.network == "host")
}

/// Returns the ports that are said to be served: the image's, what was asked for, and what is published.
fn exposed(options: &CreateOptions, image: &Image) -> Vec<Port> {
    let of_image = image.config.config().clone().unwrap_or_default();
    let of_image = of_image.exposed_ports().clone().unwrap_or_default();
    let of_image = of_image
        .iter()
        .filter_map(|text| crate::network::port::parse_exposed(text).ok())
        .flatten();
    let mut ports: Vec<Port> = of_image
        .chain(options.exposed.iter().copied())
        .chain(options.publish.iter().map(|publish| publish.port))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn is_hostname(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= LONGEST_HOSTNAME
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

fn check_security_option(option: &str) -> Result<(), ContainerError> {
    match option {
        "seccomp=unconfined"
        | "seccomp:unconfined"
        | "seccomp=builtin"
        | "seccomp:builtin"
        | "no-new-privileges"
        | "no-new-privileges=true"
        | "no-new-privileges:true"
        | "no-new-privileges=false"
        | "no-new-privileges:false"
        | "apparmor=unconfined"
        | "apparmor:unconfined"
        | "label=disable"
        | "label:disable"
        | "systempaths=unconfined"
        | "systempaths:unconfined" => Ok(()),
        other if other.starts_with("seccomp={") || other.starts_with("seccomp:{") => {
            crate::sandbox::seccomp::check_profile(&other["seccomp=".len()..])
                .map_err(ContainerError::Invalid)
        }
        other => Err(ContainerError::Invalid(format!(
            "invalid --security-opt: {other:?}"
        ))),
    }
}

fn extra_hosts(hosts: &[String]) -> Result<Vec<String>, ContainerError> {
    for host in hosts {
        let is_good = host.split_once([':', '=']).is_some_and(|(name, address)| {
            let address = address.trim_start_matches('[').trim_end_matches(']');
            !name.is_empty()
                && !name.contains(char::is_whitespace)
                && (address == crate::network::files::HOST_GATEWAY
                    || address.parse::<std::net::IpAddr>().is_ok())
        });
        if !is_good {
            return Err(ContainerError::Invalid(format!(
                "bad format for add-host: {host:?}"
            )));
        }
    }
    Ok(hosts.to_vec())
}

/// Reads `HOST[:CONTAINER[:rwm]]`; with one colon, the second part may be the access.
fn devices(options: &CreateOptions) -> Result<Vec<DeviceMapping>, ContainerError> {
    let is_access = |text: &str| !text.is_empty() && text.chars().all(|it| "rwm".contains(it));
    let mapping = |text: &String| {
        let fields: Vec<&str> = text.split(':').collect();
        let (host, container, access) = match fields.as_slice() {
            [host] => (*host, *host, "rwm"),
            [host, access] if is_access(access) => (*host, *host, *access),
            [host, container] => (*host, *container, "rwm"),
            [host, container, access] if is_access(access) => (*host, *container, *access),
            [_, _, access] => {
                return Err(ContainerError::Invalid(format!(
                    "bad mode specified: {access}"
                )));
            }
            _ => {
                return Err(ContainerError::Invalid(format!(
                    "invalid device specification: {text}"
                )));
            }
        };
        let is_path = |path: &str| {
            let parts = Path::new(path).components();
            path.starts_with('/') && !parts.into_iter().any(|part| part == Component::ParentDir)
        };
        if !is_path(host) || !is_path(container) {
            return Err(ContainerError::Invalid(format!(
                "invalid device specification: {text}: not an absolute path"
            )));
        }
        Ok(DeviceMapping {
            host: host.into(),
            container: container.into(),
            access: access.to_owned(),
        })
    };
    options.devices.iter().map(mapping).collect()
}

fn addresses(texts: &[String]) -> Result<Vec<String>, ContainerError> {
    for text in texts {
        if text.parse::<std::net::IpAddr>().is_err() {
            return Err(ContainerError::Invalid(format!(
                "{text} is not an ip address"
            )));
        }
    }
    Ok(texts.to_vec())
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_a_place_and_an_access() {
        let read = |text: &str| {
            let options = CreateOptions {
                devices: vec![text.to_owned()],
                ..CreateOptions::default()
            };
            let mapping = devices(&options)
                .map_err(|error| error.to_string())?
                .remove(0);
            let container = mapping.container.display().to_string();
            Ok::<_, String>((container, mapping.access))
        };
        let good = |container: &str, access: &str| Ok((container.to_owned(), access.to_owned()));
        assert_eq!(read("/dev/fuse"), good("/dev/fuse", "rwm"));
        assert_eq!(read("/dev/fuse:r"), good("/dev/fuse", "r"));
        assert_eq!(read("/dev/fuse:/dev/x:rw"), good("/dev/x", "rw"));
        for bad in ["fuse", "/dev/fuse:/x:q", "/a:/b:r:w", "/dev/fuse:/dev/../x"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hostnames_are_labels() {
        assert!(is_hostname("web-1.example.org"));
        for bad in ["", "-a", "a b", "a..b", "é", &"x".repeat(65)] {
            assert!(!is_hostname(bad), "{bad:?}");
        }
    }
}
