//! Profiles of somebody's own: `--security-opt seccomp=FILE`, in Docker's JSON.

use serde::Deserialize;

use super::profile::Action;
use super::profile::Rule;
use super::profile::Test;
use crate::sandbox::capability::Capabilities;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u16>,
    #[serde(default)]
    syscalls: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    names: Vec<String>,
    /// The older form.
    name: Option<String>,
    action: String,
    errno_ret: Option<u16>,
    args: Option<Vec<Argument>>,
    includes: Option<Condition>,
    excludes: Option<Condition>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// When an entry counts.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// Returns what is wrong with a profile, if something is.
pub(crate) fn check(profile: &str) -> Result<(), String> {
    read(profile, Capabilities::NONE)?;
    read(profile, Capabilities::ALL).map(|_| ())
}

/// Reads a profile for a process that may have `capabilities`: its rules, and what happens to all other calls.
pub(super) fn read(
    profile: &str,
    capabilities: Capabilities,
) -> Result<(Vec<Rule>, Action), String> {
    let profile: Profile = serde_json::from_str(profile)
        .map_err(|error| format!("Decoding seccomp profile failed: {error}"))?;
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    // What the profile names it knows, whether or not an entry counts here.
    let named = profile.syscalls.iter();
    let named: Vec<&str> = named
        .flat_map(|entry| entry.names.iter().chain(&entry.name))
        .map(String::as_str)
        .collect();
    let mut rules = vec![Rule {
        names: named.join(" ").into(),
        tests: Vec::new(),
        action: default,
    }];
    for entry in &profile.syscalls {
        let tests = entry.args.iter().flatten().map(test);
        let tests = tests.collect::<Result<Vec<_>, _>>()?;
        let errno = entry.errno_ret.or(profile.default_errno_ret);
        let action = action(&entry.action, errno)?;
        let included = match &entry.includes {
            Some(condition) => condition.holds(capabilities, true)?,
            None => true,
        };
        let excluded = match &entry.excludes {
            Some(condition) => condition.holds(capabilities, false)?,
            None => false,
        };
        let names: Vec<&str> = entry
            .names
            .iter()
            .chain(&entry.name)
            .map(String::as_str)
            .collect();
        if included && !excluded {
            rules.push(Rule {
                names: names.join(" ").into(),
                tests,
                action,
            });
        }
    }
    Ok((rules, default))
}

impl Condition {
    /// Returns whether all of it holds, or any of it.
    fn holds(&self, capabilities: Capabilities, all: bool) -> Result<bool, String> {
        let mut parts = Vec::new();
        for name in &self.caps {
            let one = Capabilities::named(name).map_err(|error| error.to_string())?;
            parts.push(capabilities.and(one) == one);
        }
        if !self.arches.is_empty() {
            let own = match std::env::consts::ARCH {
                "x86_64" => &["amd64", "x86", "x32"][..],
                "aarch64" => &["arm64", "arm"],
                "s390x" => &["s390x", "s390"],
                "powerpc64" => &["ppc64le"],
                other => &[other],
            };
            parts.push(self.arches.iter().any(|arch| own.contains(&arch.as_str())));
        }
        if let Some(version) = &self.min_kernel {
            parts.push(kernel_is_at_least(version)?);
        }
        Ok(match all {
            true => parts.iter().all(|part| *part),
            false => parts.iter().any(|part| *part),
        })
    }
}

fn kernel_is_at_least(version: &str) -> Result<bool, String> {
    let numbers = |text: &str| -> Option<(u32, u32)> {
        let mut parts = text.split(['.', '-']);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let wanted = numbers(version).ok_or_else(|| format!("invalid kernel version: {version:?}"))?;
    let system = rustix::system::uname();
    let own = numbers(&system.release().to_string_lossy());
    Ok(own.is_none_or(|own| own >= wanted))
}

fn action(name: &str, errno: Option<u16>) -> Result<Action, String> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_ERRNO" => Action::Errno(errno.unwrap_or(libc::EPERM as u16)),
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRAP" => Action::Trap,
        other => {
            return Err(format!(
                "invalid seccomp profile: action {other:?} is not supported"
            ));
        }
    })
}

fn test(argument: &Argument) -> Result<(u8, Test), String> {
    const LAST: u8 = 5;
    if argument.index > LAST {
        return Err(format!(
            "invalid seccomp profile: a call has no argument {}",
            argument.index
        ));
    }
    let value = argument.value;
    let test = match argument.op.as_str() {
        "SCMP_CMP_EQ" => Test::Equal(value),
        "SCMP_CMP_NE" => Test::Unequal(value),
        "SCMP_CMP_LT" => Test::Below(value),
        "SCMP_CMP_LE" => Test::AtMost(value),
        "SCMP_CMP_GT" => Test::Above(value),
        "SCMP_CMP_GE" => Test::AtLeast(value),
        "SCMP_CMP_MASKED_EQ" => Test::Masked(value, argument.value_two),
        other => {
            return Err(format!(
                "invalid seccomp profile: operator {other:?} is not known"
            ));
        }
    };
    Ok((argument.index, test))
}
