//! The options that `run` and `create` share.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use runtime::Engine;
use runtime::cgroup::Resources;
use runtime::container::ContainerError;
use runtime::container::CreateOptions;
use runtime::container::Healthcheck;
use runtime::container::LogConfig;
use runtime::container::MountSpec;
use runtime::container::RestartPolicy;
use runtime::container::has_own_sysctl;
use runtime::container::parse_mount;
use runtime::image::ImageError;
use runtime::image::Platform;
use runtime::image::PullOptions;
use runtime::progress::Progress;
use runtime::progress::Silent;
use runtime::reference::Reference;
use runtime::sandbox::Limit;

use super::device_rates::DeviceRates;
use super::foreign::Foreign;
use super::limits::Limits;
use super::network_options::NetworkOptions;
use crate::command_error::CommandError;
use crate::hello_world;
use crate::progress::Shown;
use crate::progress::Stream;

/// When an image is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Pull {
    /// Before every run
    Always,
    /// When it is not here
    Missing,
    /// Not at all
    Never,
}

/// What a container is to be.
#[derive(Debug, ClapArgs)]
#[command(disable_help_flag = true, next_display_order = None)]
pub(crate) struct ContainerOptions {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Add a line to /etc/hosts (`host:ip`)
    #[arg(long, value_name = "HOST:IP")]
    add_host: Vec<String>,
    /// Note something for others than the engine
    #[arg(long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short, long, value_name = "STREAM")]
    pub(crate) attach: Vec<String>,
    /// Add a Linux capability
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Drop a Linux capability
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Whose cgroup namespace (`host`, `private`)
    #[arg(long, value_name = "MODE")]
    cgroupns: Option<String>,
    /// Write the container's id to this file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// Give the container a device of the host's
    #[arg(long, value_name = "HOST[:CONTAINER[:rwm]]")]
    device: Vec<String>,
    /// Allow devices as the cgroup's rules name them (`c 10:229 rwm`)
    #[arg(long, value_name = "RULE")]
    device_cgroup_rule: Vec<String>,
    #[command(flatten)]
    device_rates: DeviceRates,
    #[command(flatten)]
    foreign: Foreign,
    /// Server of names
    #[arg(long, value_name = "IP")]
    dns: Vec<String>,
    /// Option of /etc/resolv.conf
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Search domain
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// NIS domain name
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,
    /// Replace the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// Set an environment variable; without a value, to ours
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Add a group to the user's
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// The container's host name
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// Command that tells whether the container is healthy
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between two health checks
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    health_interval: Option<u64>,
    /// Failures in a row that make it unhealthy
    #[arg(long, value_name = "NUMBER")]
    health_retries: Option<u64>,
    /// Time between two health checks in the start period
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    health_start_interval: Option<u64>,
    /// Time from the start in which failures do not count
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    health_start_period: Option<u64>,
    /// Time that a health check may take
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    health_timeout: Option<u64>,
    /// Run an init that passes signals on and reaps processes
    #[arg(long)]
    init: bool,
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Whose IPC namespace (`private`, `shareable`, `host`, `container:NAME`)
    #[arg(long, value_name = "MODE")]
    ipc: Option<String>,
    /// Set a label
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    #[command(flatten)]
    limits: Limits,
    /// Where to keep what the container says (`json-file`, `local`, `journald`, `none`)
    #[arg(long, value_name = "DRIVER", default_value = "json-file")]
    log_driver: String,
    /// Option of the log (`max-size=10m`, `max-file=3`)
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
    /// How readily memory is swapped out (0 to 100)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    memory_swappiness: Option<i64>,
    /// Mount something (`type=bind|volume|tmpfs,source=WHAT,target=DIR[,readonly]`)
    #[arg(long, value_name = "MOUNT", value_parser = parse_mount)]
    mount: Vec<MountSpec>,
    /// The container's name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    network: NetworkOptions,
    /// Do without the image's health check
    #[arg(long)]
    no_healthcheck: bool,
    /// Kill nothing for a lack of memory
    #[arg(long)]
    oom_kill_disable: bool,
    /// How readily the kernel kills the container when memory is short (-1000 to 1000)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    oom_score_adj: Option<i32>,
    /// Whose process namespace (`host`, `container:NAME`)
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,
    /// Choose this platform where the image has several
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env = true
    )]
    platform: Option<String>,
    /// Give all capabilities and devices
    #[arg(long)]
    privileged: bool,
    /// When to fetch the image
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pull: Pull,
    /// Show no progress of a pull
    #[arg(short, long)]
    quiet: bool,
    /// Make the container's root read-only
    #[arg(long)]
    read_only: bool,
    /// When to start the container again (`no`, `on-failure[:N]`, `always`, `unless-stopped`)
    #[arg(long, value_name = "POLICY")]
    restart: Option<RestartPolicy>,
    /// Remove the container when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// Security options (`no-new-privileges`, `seccomp=FILE`, `seccomp=unconfined`)
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    shm_size: Option<u64>,
    /// Signal that stops the container
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds until a container that is being stopped is killed
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    stop_timeout: Option<i64>,
    /// Set a parameter of the kernel in the container (`net.ipv4.ip_forward=1`)
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_sysctl)]
    sysctl: Vec<(String, String)>,
    /// Mount a tmpfs
    #[arg(long, value_name = "DIR[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Give the container a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Limits of each process (`nofile=1024:2048`)
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = parse_ulimit)]
    ulimit: Vec<Limit>,
    /// User and group, names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Whose users: `host`, or `auto` for some that no other container has
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// Whose UTS namespace (`host`)
    #[arg(long, value_name = "MODE")]
    uts: Option<String>,
    /// Show a host's file or directory, or a volume, in the container
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    volume: Vec<String>,
    /// Driver of the volumes that are made
    #[arg(long, value_name = "DRIVER")]
    volume_driver: Option<String>,
    /// Mount what another container has mounted
    #[arg(long, value_name = "CONTAINER[:ro]")]
    volumes_from: Vec<String>,
    /// Directory the command starts in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// The image, then the command and its arguments
    #[arg(value_name = "IMAGE", required = true, trailing_var_arg = true)]
    words: Vec<String>,
}

/// The streams a client is at, by the flags.
pub(crate) fn attached(attach: &[String], interactive: bool) -> Result<[bool; 3], CommandError> {
    if attach.is_empty() {
        return Ok([interactive, true, true]);
    }
    let mut streams = [false; 3];
    for stream in attach {
        match stream.to_ascii_lowercase().as_str() {
            "stdin" => streams[0] = true,
            "stdout" => streams[1] = true,
            "stderr" => streams[2] = true,
            _ => {
                return Err(CommandError::with_code(
                    125,
                    format_args!(
                        "invalid argument {stream:?} for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and \
                         STDERR"
                    ),
                ));
            }
        }
    }
    Ok(streams)
}

impl ContainerOptions {
    /// Returns the engine's options.
    pub(crate) fn create_options(&self, detach: bool) -> Result<CreateOptions, CommandError> {
        self.foreign.refuse()?;
        let image = self.words.first().cloned().unwrap_or_default();
        let streams = match detach {
            true => [false; 3],
            false => attached(&self.attach, self.interactive)?,
        };
        let env = environment(&self.env_file, &self.env)?;
        Ok(CreateOptions {
            image,
            name: self
                .name
                .as_deref()
                .map(|name| name.strip_prefix('/').unwrap_or(name).to_owned())
                .filter(|name| !name.is_empty()),
            command: self.words[1..].to_vec(),
            entrypoint: self.entrypoint.clone().map(|entrypoint| vec![entrypoint]),
            env,
            working_dir: given(self.workdir.as_deref()),
            user: given(self.user.as_deref()),
            labels: labels(&self.label_file, &self.label)?,
            tty: self.tty,
            open_stdin: self.interactive,
            stdin_once: self.interactive && !detach,
            attach: streams,
            hostname: given(self.hostname.as_deref()),
            domainname: given(self.domainname.as_deref()),
            networks: self.network.attachments()?,
            publish: self.network.publish()?,
            publish_all: self.network.publish_all,
            exposed: self.network.exposed()?,
            volumes: self.volume.iter().map(|text| at_home(text)).collect(),
            volume_driver: self.volume_driver.clone().unwrap_or_default(),
            volumes_from: self.volumes_from.clone(),
            tmpfs: self.tmpfs.clone(),
            read_only: self.read_only,
            init: self.init,
            auto_remove: self.rm,
            privileged: self.privileged,
            cap_add: self.cap_add.clone(),
            cap_drop: self.cap_drop.clone(),
            security_opt: self
                .security_opt
                .iter()
                .map(|option| with_profile(option))
                .collect::<Result<_, _>>()?,
            mounts: self.mount.iter().map(from_here).collect::<Result<_, _>>()?,
            devices: self.device.clone(),
            device_cgroup_rules: self.device_cgroup_rule.clone(),
            pid_mode: self.pid.clone().unwrap_or_default(),
            ipc_mode: self.ipc.clone().unwrap_or_default(),
            uts_mode: self.uts.clone().unwrap_or_default(),
            cgroupns_mode: self.cgroupns.clone().unwrap_or_default(),
            userns_mode: self.userns.clone().unwrap_or_default(),
            dns: self.dns.clone(),
            dns_search: self.dns_search.clone(),
            dns_options: self.dns_option.clone(),
            oom_score_adj: self.oom_score_adj,
            log: LogConfig {
                driver: self.log_driver.clone(),
                options: labels(&[], &self.log_opt)?,
            },
            resources: self.resources()?,
            sysctls: self.sysctl.iter().cloned().collect(),
            annotations: labels(&[], &self.annotation)?,
            ulimits: self.ulimit.clone(),
            shm_size: self.shm_size,
            group_add: self.group_add.clone(),
            extra_hosts: self.add_host.clone(),
            restart: self.restart_policy()?,
            healthcheck: self.healthcheck()?,
            stop_signal: self.stop_signal.clone(),
            stop_timeout: self.stop_timeout,
        })
    }

    fn resources(&self) -> Result<Resources, CommandError> {
        let mut resources = self.limits.resources();
        self.device_rates.limit(&mut resources.block);
        resources.memory_swappiness = match self.memory_swappiness {
            None | Some(-1) => None,
            Some(swappiness) => Some(u64::try_from(swappiness).map_err(|_| {
                CommandError::with_code(
                    125,
                    format_args!(
                        "ply: invalid value: {swappiness}. Valid memory swappiness range is 0-100"
                    ),
                )
            })?),
        };
        resources.oom_kill_disable = self.oom_kill_disable;
        Ok(resources)
    }

    fn restart_policy(&self) -> Result<RestartPolicy, CommandError> {
        let restart = self.restart.unwrap_or_default();
        match self.rm && restart != RestartPolicy::No {
            true => Err(CommandError::with_code(
                125,
                "conflicting options: cannot specify both --restart and --rm",
            )),
            false => Ok(restart),
        }
    }

    /// Returns what is said of the health check; what is not is the image's.
    fn healthcheck(&self) -> Result<Option<Healthcheck>, CommandError> {
        let asked = Healthcheck {
            test: match &self.health_cmd {
                Some(command) if !command.is_empty() => {
                    vec!["CMD-SHELL".to_owned(), command.clone()]
                }
                _ => Vec::new(),
            },
            interval: self.health_interval.unwrap_or(0),
            timeout: self.health_timeout.unwrap_or(0),
            start_period: self.health_start_period.unwrap_or(0),
            start_interval: self.health_start_interval.unwrap_or(0),
            retries: self.health_retries.unwrap_or(0),
        };
        match (self.no_healthcheck, asked == Healthcheck::default()) {
            (false, true) => Ok(None),
            (false, false) => Ok(Some(asked)),
            (true, true) => Ok(Some(Healthcheck {
                test: vec!["NONE".to_owned()],
                ..asked
            })),
            (true, false) => Err(CommandError::with_code(
                125,
                "--no-healthcheck conflicts with --health-* options",
            )),
        }
    }

    fn wanted_platform(&self) -> Result<Option<Platform>, CommandError> {
        let parsed = self.platform.as_deref().map(str::parse::<Platform>);
        parsed
            .transpose()
            .map_err(|error| CommandError::with_code(125, format_args!("ply: {error}")))
    }

    /// Returns whether the image is here, but not for the platform that was asked for.
    fn is_for_another_platform(&self, engine: &Engine) -> Result<bool, CommandError> {
        let Some(platform) = self.wanted_platform()? else {
            return Ok(false);
        };
        let image = engine.image(&self.words[0]);
        Ok(image.is_ok_and(|image| !image.is_for(&platform)))
    }

    /// Makes sure that the image is here, by a pull if it is not and may be fetched.
    fn fetch(&self, engine: &Engine) -> Result<(), CommandError> {
        let name = &self.words[0];
        let failed = |error: &dyn std::fmt::Display| {
            CommandError::with_code(125, format_args!("ply: {error}"))
        };
        let reference: Result<Reference, _> = name.parse();
        let platform = self.wanted_platform()?;
        let is_here = match engine.image(name) {
            Ok(image) => platform
                .as_ref()
                .is_none_or(|platform| image.is_for(platform)),
            Err(ImageError::NoSuchImage(_)) => false,
            Err(error) => return Err(failed(&error)),
        };
        if is_here && self.pull != Pull::Always {
            return Ok(());
        }
        let reference = reference.map_err(|error| failed(&error))?.or_latest();
        if self.pull == Pull::Never {
            return Err(failed(&ImageError::NoSuchImage(reference.familiar())));
        }
        if !is_here {
            eprintln!("Unable to find image '{}' locally", reference.familiar());
        }
        if hello_world::is_meant(&reference) {
            return hello_world::load(engine).map_err(|error| failed(&error));
        }
        let options = PullOptions {
            platform,
            ..PullOptions::default()
        };
        let shown = Shown::new(Stream::Stderr);
        let progress: &dyn Progress = if self.quiet { &Silent } else { &shown };
        engine
            .pull(&reference, &options, progress)
            .map_err(|error| failed(&error))?;
        Ok(())
    }

    /// Makes the container, having fetched its image where it was not here.
    pub(crate) fn create<T>(
        &self,
        engine: &Engine,
        make: impl Fn() -> Result<T, ContainerError>,
    ) -> Result<T, CommandError> {
        if let Some(path) = &self.cidfile
            && path.exists()
        {
            return Err(CommandError::with_code(
                125,
                format_args!(
                    "ply: container ID file found, make sure the other container isn't running or delete {}",
                    path.display()
                ),
            ));
        }
        if self.pull == Pull::Always || self.is_for_another_platform(engine)? {
            self.fetch(engine)?;
        }
        match make() {
            Err(ContainerError::Image(ImageError::NoSuchImage(_))) => {
                self.fetch(engine)?;
                make().map_err(|error| CommandError::start(&error))
            }
            made => made.map_err(|error| CommandError::start(&error)),
        }
    }

    /// Writes the id down where it was asked for.
    pub(crate) fn write_cidfile(&self, id: &str) -> Result<(), CommandError> {
        let Some(path) = &self.cidfile else {
            return Ok(());
        };
        std::fs::write(path, id).map_err(|error| {
            let words = crate::words::of(&error);
            CommandError::with_code(
                125,
                format_args!(
                    "ply: failed to create the container ID file: open {}: {words}",
                    path.display()
                ),
            )
        })
    }
}

/// Tells of what is asked for in vain.
pub(super) fn tell_warnings(options: &CreateOptions) {
    for warning in options.warnings() {
        eprintln!("WARNING: {warning}");
    }
}

/// Returns a mount whose source is as absolute as the command line lets it be: `.` and `./x` begin where we are.
fn from_here(mount: &MountSpec) -> Result<MountSpec, CommandError> {
    let mut mount = mount.clone();
    if mount.kind == "bind" && (mount.source == "." || mount.source.starts_with("./")) {
        let path = std::path::absolute(&mount.source).map_err(CommandError::failed)?;
        mount.source = path.to_string_lossy().into_owned();
    }
    Ok(mount)
}

/// Returns what was given; an empty text is as good as none, as with Docker's.
fn given(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Puts a seccomp profile in the place of its file's name, as Docker does.
pub(crate) fn with_profile(option: &str) -> Result<String, CommandError> {
    let file = option
        .strip_prefix("seccomp=")
        .or(option.strip_prefix("seccomp:"))
        .filter(|file| !matches!(*file, "unconfined" | "builtin"));
    let Some(file) = file else {
        return Ok(option.to_owned());
    };
    let text = std::fs::read_to_string(file).map_err(|error| {
        let words = crate::words::of(&error);
        CommandError::with_code(
            125,
            format_args!("ply: opening seccomp profile ({file}) failed: open {file}: {words}"),
        )
    })?;
    if let Err(error) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text) {
        return Err(CommandError::with_code(
            125,
            format_args!("ply: compacting json for seccomp profile ({file}) failed: {error}"),
        ));
    }
    Ok(format!("seccomp={}", text.trim()))
}

/// Returns the labels of the files, then those of the command line.
pub(super) fn labels(
    files: &[PathBuf],
    labels: &[String],
) -> Result<BTreeMap<String, String>, CommandError> {
    let mut lines = Vec::new();
    for file in files {
        lines.extend(read_env_file(file)?);
    }
    lines.extend(labels.iter().cloned());
    let pairs = lines.iter().map(|label| {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        match name.is_empty() {
            true => Err(CommandError::with_code(
                125,
                format_args!("ply: invalid label '{label}': empty name"),
            )),
            false => Ok((name.to_owned(), value.to_owned())),
        }
    });
    pairs.collect()
}

/// Returns the variables of the files, then those of the command line.
pub(crate) fn environment(
    files: &[PathBuf],
    variables: &[String],
) -> Result<Vec<String>, CommandError> {
    let mut env = Vec::new();
    for file in files {
        env.extend(read_env_file(file)?);
    }
    if let Some(bad) = variables
        .iter()
        .find(|variable| variable.is_empty() || variable.starts_with('='))
    {
        return Err(CommandError::with_code(
            125,
            format_args!("ply: invalid environment variable: {bad:?}"),
        ));
    }
    env.extend(variables.iter().cloned());
    Ok(env.into_iter().map(with_value).collect())
}

/// Gives a variable without a value ours; one that we do not have is taken out of the image's.
fn with_value(variable: String) -> String {
    match std::env::var(&variable) {
        Ok(value) if !variable.contains('=') => format!("{variable}={value}"),
        _ => variable,
    }
}

fn read_env_file(path: &PathBuf) -> Result<Vec<String>, CommandError> {
    let failed = |words: String| CommandError::with_code(125, format_args!("ply: {words}"));
    let text = std::fs::read_to_string(path).map_err(|error| {
        failed(format!(
            "open {}: {}",
            path.display(),
            crate::words::of(&error)
        ))
    })?;
    let mut variables = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(failed(format!(
                "poorly formatted environment: variable '{name}' contains whitespaces"
            )));
        }
        variables.push(line.to_owned());
    }
    Ok(variables)
}

/// Makes a volume's source that is meant to be relative to the working directory (`./dir:/target`) absolute.
fn at_home(volume: &str) -> String {
    match volume.split_once(':') {
        Some((source, rest)) if source.starts_with('.') => {
            let clean = std::path::absolute(source).map(|path| path.display().to_string());
            clean.map_or_else(|_| volume.to_owned(), |path| format!("{path}:{rest}"))
        }
        _ => volume.to_owned(),
    }
}

/// Reads a size: a number with `b`, `k`, `m`, `g` or `t`, powers of 1024.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    runtime::byte_size::parse(text).ok_or_else(|| format!("invalid size: '{text}'"))
}

/// Reads `name=value` of a parameter that a namespace has for itself.
fn parse_sysctl(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if has_own_sysctl(name) => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("sysctl '{text}' is not allowed")),
    }
}

fn parse_duration(text: &str) -> Result<u64, String> {
    runtime::container::nanoseconds(text).ok_or_else(|| format!("time: invalid duration {text:?}"))
}

pub(crate) fn parse_ulimit(text: &str) -> Result<Limit, String> {
    let invalid = || format!("invalid ulimit argument: {text}");
    let (name, limits) = text.split_once('=').ok_or_else(invalid)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| match text {
        "-1" => Ok(u64::MAX),
        text => text.parse::<u64>().map_err(|_| invalid()),
    };
    let limit = Limit {
        name: name.to_owned(),
        soft: number(soft)?,
        hard: number(hard)?,
    };
    if !limit.is_known() {
        return Err(format!("invalid ulimit type: {name}"));
    }
    match limit.soft <= limit.hard {
        true => Ok(limit),
        false => Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("512m", Some(512 << 20)),
            ("1g", Some(1 << 30)),
            ("1.5k", Some(1536)),
            ("64MB", Some(64 << 20)),
            ("1GiB", Some(1 << 30)),
            ("7", Some(7)),
            ("-1", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), bytes, "{text}");
        }
    }

    #[test]
    fn limits_have_a_soft_and_a_hard_part() {
        let limit = parse_ulimit("nofile=1024:2048").expect("a limit");
        assert_eq!((limit.soft, limit.hard), (1024, 2048));
        assert_eq!(parse_ulimit("nproc=5").expect("a limit").hard, 5);
        assert!(parse_ulimit("nofile=3:2").is_err());
        assert!(parse_ulimit("nofile").is_err());
    }
}
