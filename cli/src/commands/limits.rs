//! The flags of limits that `run`, `create` and `update` share.

use clap::Args as ClapArgs;
use runtime::cgroup::BlockLimits;
use runtime::cgroup::Resources;

use super::container_options::parse_bytes;

/// Limits of the whole container.
#[derive(Debug, ClapArgs)]
#[command(next_display_order = None)]
pub(crate) struct Limits {
    /// Part of the block devices' time beside other containers (10 to 1000)
    #[arg(long, value_name = "NUMBER")]
    blkio_weight: Option<u64>,
    /// Microseconds of a period of the processors' bandwidth control
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Microseconds of processor time in a period
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Part of the processors' time beside other containers (1024 is the usual one)
    #[arg(short = 'c', long, value_name = "NUMBER")]
    cpu_shares: Option<u64>,
    /// Number of CPUs
    #[arg(long, value_name = "NUMBER", value_parser = parse_cpus)]
    cpus: Option<u64>,
    /// Processors that may be used (`0-3`, `0,1`)
    #[arg(long, value_name = "CPUS")]
    cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "NODES")]
    cpuset_mems: Option<String>,
    /// Limit of memory
    #[arg(short, long, value_name = "BYTES", value_parser = parse_bytes)]
    memory: Option<u64>,
    /// Memory that is left to the container when the host has little
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory_reservation: Option<u64>,
    /// Limit of memory and swap together; -1 is none
    #[arg(long, value_name = "BYTES", value_parser = parse_swap, allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    /// Limit of processes; -1 is none
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
}

impl Limits {
    /// Returns the engine's limits. No limit of processes is zero when it is said, so that it replaces one.
    pub(crate) fn resources(&self) -> Resources {
        Resources {
            memory: self.memory.filter(|memory| *memory > 0),
            memory_swap: self.memory_swap.filter(|swap| *swap != 0),
            memory_reservation: self.memory_reservation.filter(|memory| *memory > 0),
            nano_cpus: self.cpus.filter(|cpus| *cpus > 0),
            cpu_period: self.cpu_period.filter(|period| *period > 0),
            cpu_quota: self.cpu_quota.filter(|quota| *quota != 0),
            cpu_shares: self.cpu_shares.filter(|shares| *shares > 0),
            cpuset_cpus: self.cpuset_cpus.clone().filter(|set| !set.is_empty()),
            cpuset_mems: self.cpuset_mems.clone().filter(|set| !set.is_empty()),
            block: BlockLimits {
                weight: self.blkio_weight.filter(|weight| *weight > 0),
                ..BlockLimits::default()
            },
            memory_swappiness: None,
            oom_kill_disable: false,
            pids: self.pids_limit.map(|pids| u64::try_from(pids).unwrap_or(0)),
        }
    }
}

fn parse_swap(text: &str) -> Result<i64, String> {
    match text {
        "-1" => Ok(-1),
        text => parse_bytes(text).map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
    }
}

/// Reads a number of processors; returns billionths.
fn parse_cpus(text: &str) -> Result<u64, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| format!("failed to parse {text} as a rational number"))?;
    match number.is_finite() && number >= 0.0 {
        true => Ok((number * 1e9).round() as u64),
        false => Err(format!("failed to parse {text} as a rational number")),
    }
}
