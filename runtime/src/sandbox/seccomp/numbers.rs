//! System calls' numbers on the architectures a process of the host may speak.

mod aarch64;
mod x86;
mod x86_64;

/// An architecture's calling convention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Convention {
    /// `AUDIT_ARCH_*`, as the filter sees it.
    pub(super) audit: u32,
    calls: &'static [(&'static str, u32)],
    /// Calls that this convention alone is allowed.
    pub(super) own: &'static [&'static str],
}

pub(super) const X86_64: Convention = Convention {
    audit: 0xc000_003e,
    calls: x86_64::CALLS,
    own: &["arch_prctl", "modify_ldt"],
};
const X86: Convention = Convention {
    audit: 0x4000_0003,
    calls: x86::CALLS,
    own: &["modify_ldt"],
};
const AARCH64: Convention = Convention {
    audit: 0xc000_00b7,
    calls: aarch64::CALLS,
    own: &[],
};

impl Convention {
    /// Returns what the machine's kernel answers to, its native convention first.
    pub(super) fn of_machine() -> &'static [Convention] {
        match std::env::consts::ARCH {
            "aarch64" => &[AARCH64],
            _ => &[X86_64, X86],
        }
    }

    /// Returns the call's number; `None` for a call that this convention does not have.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.calls
            .binary_search_by_key(&name, |(name, _)| name)
            .ok()
            .map(|at| self.calls[at].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_sorted_and_finds_its_calls() {
        for convention in [X86_64, X86, AARCH64] {
            assert!(convention.calls.is_sorted());
            for (name, number) in convention.calls {
                assert_eq!(convention.number(name), Some(*number));
            }
        }
        assert_eq!(X86_64.number("clone3"), Some(libc::SYS_clone3 as u32));
        assert_eq!(X86.number("socketcall"), Some(102));
        assert_eq!(AARCH64.number("execve"), Some(221));
    }
}
