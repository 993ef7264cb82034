//! Capabilities, `capabilities(7)`: names, sets, Docker's defaults and its `--cap-add` and `--cap-drop`.

use serde::Deserialize;
use serde::Serialize;

/// The capabilities by number, without their `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(pub u64);

/// A name that is no capability's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid capability: {0}")]
pub struct UnknownCapability(pub String);

impl Capabilities {
    /// None.
    pub const NONE: Capabilities = Capabilities(0);
    /// All that have a name.
    pub const ALL: Capabilities = Capabilities((1 << NAMES.len()) - 1);
    /// Docker's 14.
    pub const DEFAULT: Capabilities = Capabilities(
        1 << 0      // CHOWN
            | 1 << 1    // DAC_OVERRIDE
            | 1 << 3    // FOWNER
            | 1 << 4    // FSETID
            | 1 << 5    // KILL
            | 1 << 6    // SETGID
            | 1 << 7    // SETUID
            | 1 << 8    // SETPCAP
            | 1 << 10   // NET_BIND_SERVICE
            | 1 << 13   // NET_RAW
            | 1 << 18   // SYS_CHROOT
            | 1 << 27   // MKNOD
            | 1 << 29   // AUDIT_WRITE
            | 1 << 31, // SETFCAP
    );

    /// Returns Docker's set for its flags: drops come first, `ALL` may be either; privileged is everything.
    pub fn of_flags(
        privileged: bool,
        add: &[String],
        drop: &[String],
    ) -> Result<Capabilities, UnknownCapability> {
        if privileged {
            return Ok(Capabilities::ALL);
        }
        let (add_all, add) = named(add)?;
        let (drop_all, drop) = named(drop)?;
        let base = match (add_all, drop_all) {
            (true, _) => Capabilities::ALL.0,
            (false, true) => 0,
            (false, false) => Capabilities::DEFAULT.0,
        };
        Ok(Capabilities(match add_all {
            // Everything but what is dropped by name.
            true => base & !drop,
            false => base & !drop | add,
        }))
    }

    /// Returns the capabilities that are in both sets.
    pub(crate) fn and(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & other.0)
    }

    /// Returns the set of one capability by its name.
    pub(crate) fn named(name: &str) -> Result<Capabilities, UnknownCapability> {
        let number = number(name).ok_or_else(|| UnknownCapability(name.to_owned()))?;
        Ok(Capabilities(1 << number))
    }

    /// Returns whether the capability, with its `CAP_`, is in the set.
    pub(crate) fn has_named(self, name: &str) -> bool {
        number(name).is_some_and(|number| self.0 >> number & 1 == 1)
    }
}

/// Returns names as Docker shows them: in capitals, with `CAP_`, each once.
pub(crate) fn normalized(names: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in names {
        let upper = name.to_ascii_uppercase();
        let name = match upper.as_str() {
            "ALL" | "CAP_ALL" => "ALL".to_owned(),
            known if known.starts_with("CAP_") => upper,
            _ => format!("CAP_{upper}"),
        };
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all.sort();
    all
}

fn named(names: &[String]) -> Result<(bool, u64), UnknownCapability> {
    let mut all = false;
    let mut set = 0;
    for name in names {
        if name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL") {
            all = true;
            continue;
        }
        let number = number(name).ok_or_else(|| UnknownCapability(name.clone()))?;
        set |= 1 << number;
    }
    Ok((all, set))
}

/// Returns the capability's number; its name may be in any case and lack `CAP_`.
fn number(name: &str) -> Option<usize> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|known| *known == bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(add: &[&str], drop: &[&str]) -> Capabilities {
        let owned = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        Capabilities::of_flags(false, &owned(add), &owned(drop)).expect("known names")
    }

    #[test]
    fn the_defaults_are_docker_s_14() {
        assert_eq!(Capabilities::DEFAULT.0, 0xa804_25fb);
        assert_eq!(of(&[], &[]), Capabilities::DEFAULT);
    }

    #[test]
    fn dropping_all_leaves_what_is_added() {
        assert_eq!(of(&["CAP_CHOWN"], &["ALL"]), Capabilities(1));
        assert_eq!(of(&["all"], &["chown"]).0, Capabilities::ALL.0 & !1);
        assert!(of(&["sys_admin"], &[]).has_named("CAP_SYS_ADMIN"));
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let names = ["CAP_FLY".to_owned()];
        assert!(Capabilities::of_flags(false, &names, &[]).is_err());
    }
}
