//! What a container uses: `stats`.
//!
//! Where a container has a cgroup with the controller, the kernel's own count is told; where it has none (a plain
//! container on a host whose v1 hierarchies carry the controllers joins none of them), its processes' counts are added
//! up.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use super::Hierarchies;
use super::processes;

/// What a container has used up to now, and uses now.
#[derive(Debug, Clone)]
pub struct Usage {
    /// When it was read.
    pub time: Instant,
    /// Nanoseconds of processor time.
    pub cpu: u64,
    /// Bytes of memory, without what the kernel could drop at once.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes received and sent over its network interfaces but the loopback.
    pub network: (u64, u64),
    /// Bytes read from and written to disks.
    pub block: (u64, u64),
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Returns the number behind `key` in a file of `key number` lines.
fn field(path: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    value.split_whitespace().next()?.parse().ok()
}

impl Usage {
    /// Returns what container `id` uses; `first` is its first process.
    pub(crate) fn of(id: &str, first: i32) -> Usage {
        let hierarchies = Hierarchies::of_host();
        let unified = hierarchies.unified_group(id);
        let v1 = |controller: &str| hierarchies.v1_group(controller, id);
        let any = hierarchies.groups(id).next();
        let pids = any.as_deref().map(processes).unwrap_or_default();
        let cpu = unified
            .as_ref()
            .and_then(|path| Some(field(&path.join("cpu.stat"), "usage_usec ")? * 1000))
            .or_else(|| number(&v1("cpuacct")?.join("cpuacct.usage")))
            .unwrap_or_else(|| pids.iter().map(|pid| processor_time(*pid)).sum());
        let with_unified = |file: &str| Some(unified.as_ref()?.join(file));
        let memory = with_unified("memory.current")
            .and_then(|path| number(&path))
            .map(|used| {
                let stat = with_unified("memory.stat").unwrap_or_default();
                used.saturating_sub(field(&stat, "inactive_file ").unwrap_or(0))
            })
            .or_else(|| {
                let path = v1("memory")?;
                let used = number(&path.join("memory.usage_in_bytes"))?;
                let idle = field(&path.join("memory.stat"), "total_inactive_file ").unwrap_or(0);
                Some(used.saturating_sub(idle))
            })
            .unwrap_or_else(|| pids.iter().map(|pid| share_of_memory(*pid)).sum());
        let threads = with_unified("cgroup.threads")
            .and_then(|path| fs::read_to_string(path).ok())
            .map_or(pids.len(), |text| text.lines().count());
        let block = with_unified("io.stat")
            .and_then(|path| fs::read_to_string(path).ok())
            .filter(|text| !text.is_empty())
            .map_or_else(
                || {
                    let each = pids.iter().map(|pid| disk(*pid));
                    each.fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
                },
                |text| (sum(&text, "rbytes="), sum(&text, "wbytes=")),
            );
        Usage {
            time: Instant::now(),
            cpu,
            memory,
            pids: threads as u64,
            network: network(first),
            block,
        }
    }

    /// Returns the part of one processor that was used since `before`, in percent.
    pub fn cpu_percent(&self, before: &Usage) -> f64 {
        let time = self.time.duration_since(before.time).as_nanos() as f64;
        match time > 0.0 {
            true => self.cpu.saturating_sub(before.cpu) as f64 / time * 100.0,
            false => 0.0,
        }
    }
}

/// Ticks of a second that /proc counts in: `USER_HZ`, the same on every machine that we build for.
const TICKS: u64 = 100;

/// Adds up what stands behind `key` in v2's `io.stat`.
fn sum(text: &str, key: &str) -> u64 {
    let words = text.split_whitespace();
    words
        .filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok())
        .sum()
}

/// Returns a process's memory, with its part of what it shares.
fn share_of_memory(pid: i32) -> u64 {
    let path = PathBuf::from(format!("/proc/{pid}/smaps_rollup"));
    field(&path, "Pss:").unwrap_or(0) * 1024
}

/// Returns the nanoseconds of processor time that a process and its children that ended have used, `proc(5)`.
fn processor_time(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The command's name, which may hold anything, ends with the last parenthesis.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let times = fields.split_whitespace().skip(11).take(4);
    let ticks: u64 = times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks.saturating_mul(1_000_000_000 / TICKS)
}

fn disk(pid: i32) -> (u64, u64) {
    let path = PathBuf::from(format!("/proc/{pid}/io"));
    let of = |key| field(&path, key).unwrap_or(0);
    (of("read_bytes:"), of("write_bytes:"))
}

fn network(pid: i32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let mut total = (0, 0);
    for line in text.lines().skip(2) {
        let Some((name, counts)) = line.split_once(':') else {
            continue;
        };
        if name.trim() == "lo" {
            continue;
        }
        let counts: Vec<u64> = counts
            .split_whitespace()
            .filter_map(|count| count.parse().ok())
            .collect();
        if let &[received, _, _, _, _, _, _, _, sent, ..] = counts.as_slice() {
            total = (total.0 + received, total.1 + sent);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_s_own_use_is_read() {
        let pid = std::process::id() as i32;
        assert!(share_of_memory(pid) > 0);
        assert_eq!(
            sum(
                "8:0 rbytes=5 wbytes=7 rios=1\n9:0 rbytes=2 wbytes=1\n",
                "rbytes="
            ),
            7
        );
        let file = PathBuf::from("/proc/meminfo");
        assert!(field(&file, "MemTotal:").is_some());
    }
}
