//! The filter between a container and the host's kernel.
//!
//! A profile's rules become one classic BPF program: a jump by calling convention, then a binary search over ranges of
//! call numbers that fare alike, then the tests of arguments where a call has some. The search keeps a call's price at
//! some ten instructions (and the kernel remembers calls that are always allowed).

mod custom;
mod numbers;
mod profile;

use std::collections::BTreeMap;

use crate::sandbox::capability::Capabilities;
use crate::sys::seccomp::Instruction;

use numbers::Convention;
use profile::Action;
use profile::Rule;
use profile::Test;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const CONVENTION: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The bit of x32's call numbers, which share x86-64's convention.
const X32: u32 = 0x4000_0000;

pub(crate) use custom::check as check_profile;

/// Compiles the default profile for a process that may have `capabilities`.
pub(crate) fn default_filter(capabilities: Capabilities) -> Vec<Instruction> {
    let rules = profile::default(capabilities);
    compile(&rules, DEFAULT, Convention::of_machine())
}

/// Compiles a profile of somebody's own (Docker's JSON) for a process that may have `capabilities`.
pub(crate) fn filter_of(
    profile: &str,
    capabilities: Capabilities,
) -> Result<Vec<Instruction>, String> {
    let (rules, default) = custom::read(profile, capabilities)?;
    // Calls that are newer than the profile, where it lists what is allowed: as if the kernel did not have them.
    let unknown = match default {
        Action::Errno(_) => UNKNOWN,
        default => default,
    };
    let others = Others {
        default,
        unknown,
        is_default: false,
    };
    Ok(compile(&rules, others, Convention::of_machine()))
}

/// What happens to a call: the first entry whose tests all hold decides, else the last action.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fate {
    tests: Vec<(Vec<(u8, Test)>, Action)>,
    otherwise: Action,
}

impl Fate {
    const fn always(otherwise: Action) -> Fate {
        Fate {
            tests: Vec::new(),
            otherwise,
        }
    }
}

const REFUSED: Action = Action::Errno(libc::EPERM as u16);
const UNKNOWN: Action = Action::Errno(libc::ENOSYS as u16);

/// What happens to calls that no rule names.
#[derive(Debug, Clone, Copy)]
struct Others {
    default: Action,
    /// To those that are newer than the profile.
    unknown: Action,
    /// Whether the profile is the default one.
    is_default: bool,
}

const DEFAULT: Others = Others {
    default: REFUSED,
    unknown: UNKNOWN,
    is_default: true,
};

fn compile(rules: &[Rule], others: Others, conventions: &[Convention]) -> Vec<Instruction> {
    let mut program = vec![statement(LOAD, CONVENTION)];
    for convention in conventions {
        let mut body = vec![statement(LOAD, NUMBER)];
        let fates = fates(rules, others, convention);
        body.extend(search(&ranges(&fates, others)));
        // Jumps by condition reach 255 instructions only.
        program.push(jump(JUMP_EQUAL, convention.audit, 1, 0));
        program.push(statement(JUMP, body.len() as u32));
        program.extend(body);
    }
    program.push(statement(RETURN, code(UNKNOWN)));
    program
}

fn fates(rules: &[Rule], others: Others, convention: &Convention) -> BTreeMap<u32, Fate> {
    let Others {
        default,
        is_default,
        ..
    } = others;
    let mut fates: BTreeMap<u32, Fate> = BTreeMap::new();
    // What a convention needs beside the default profile; one of somebody's own says itself.
    let own = convention.own.iter().filter(|_| is_default);
    let own = own.map(|name| (*name, &[][..], Action::Allow));
    let listed = rules.iter().flat_map(|rule| {
        rule.names
            .split_whitespace()
            .map(|name| (name, &rule.tests[..], rule.action))
    });
    for (name, tests, action) in listed.chain(own) {
        let Some(number) = convention.number(name) else {
            continue;
        };
        let fate = fates.entry(number).or_insert(Fate::always(default));
        match tests.is_empty() {
            false => fate.tests.push((tests.to_vec(), action)),
            true => *fate = Fate::always(action),
        }
    }
    fates
}

/// Returns the fates of all numbers as ranges, each given by its first number.
fn ranges(fates: &BTreeMap<u32, Fate>, others: Others) -> Vec<(u32, Fate)> {
    let Others {
        default, unknown, ..
    } = others;
    let mut ranges: Vec<(u32, Fate)> = Vec::new();
    let mut add = |from: u32, fate: Fate| match ranges.last() {
        Some((_, last)) if *last == fate => {}
        _ => ranges.push((from, fate)),
    };
    let mut next = 0;
    for (&number, fate) in fates {
        if number > next {
            add(next, Fate::always(default));
        }
        add(number, fate.clone());
        next = number + 1;
    }
    // Calls newer than the profile.
    if next < X32 {
        add(next, Fate::always(unknown));
    }
    ranges
}

/// Returns the code that finds the number's range and seals its fate.
fn search(ranges: &[(u32, Fate)]) -> Vec<Instruction> {
    let [(_, fate)] = ranges else {
        let (left, right) = ranges.split_at(ranges.len() / 2);
        let middle = right.first().map_or(0, |(from, _)| *from);
        let (left, right) = (search(left), search(right));
        let mut program = match u8::try_from(left.len()) {
            Ok(length) => vec![jump(JUMP_AT_LEAST, middle, length, 0)],
            Err(_) => vec![
                jump(JUMP_AT_LEAST, middle, 0, 1),
                statement(JUMP, left.len() as u32),
            ],
        };
        program.extend(left);
        program.extend(right);
        return program;
    };
    let mut program = Vec::new();
    for (tests, action) in &fate.tests {
        program.extend(tested(tests, *action));
    }
    program.push(statement(RETURN, code(fate.otherwise)));
    program
}

/// Where a step of a test goes on.
#[derive(Debug, Clone, Copy)]
enum To {
    /// At the next step.
    Next,
    /// Behind the test, which holds.
    Holds,
    /// Behind the action, which is not taken.
    Fails,
}

/// Returns the code that ends in `action` if all tests hold and goes on behind itself if not.
fn tested(tests: &[(u8, Test)], action: Action) -> Vec<Instruction> {
    let mut program = vec![statement(RETURN, code(action))];
    for (argument, test) in tests.iter().rev() {
        let steps = steps(*argument, *test);
        let behind = program.len();
        let code = steps.iter().enumerate().map(|(at, step)| {
            let &(code, constant, jumps) = step;
            let left = steps.len() - at - 1;
            let distance = |to: To| match to {
                To::Next => 0,
                To::Holds => left as u8,
                To::Fails => (left + behind) as u8,
            };
            let [taken, not_taken] = jumps.map(distance);
            jump(code, constant, taken, not_taken)
        });
        program = code
            .collect::<Vec<_>>()
            .into_iter()
            .chain(program)
            .collect();
    }
    program
}

/// Returns a test of one argument, half by half.
fn steps(argument: u8, test: Test) -> Vec<(u16, u32, [To; 2])> {
    use To::Fails;
    use To::Holds;
    use To::Next;
    // Little-endian: the low half comes first.
    let low = ARGUMENTS + 8 * u32::from(argument);
    let high = low + 4;
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let load = |offset| (LOAD, offset, [Next, Next]);
    let compared = |value: u64, less: To, greater: To, code: u16, last: [To; 2]| {
        let (value_high, value_low) = halves(value);
        vec![
            load(high),
            (JUMP_GREATER, value_high, [greater, Next]),
            (JUMP_EQUAL, value_high, [Next, less]),
            load(low),
            (code, value_low, last),
        ]
    };
    match test {
        Test::Equal(value) => compared(value, Fails, Fails, JUMP_EQUAL, [Holds, Fails]),
        Test::Unequal(value) => compared(value, Holds, Holds, JUMP_EQUAL, [Fails, Holds]),
        Test::Below(value) => compared(value, Holds, Fails, JUMP_AT_LEAST, [Fails, Holds]),
        Test::AtMost(value) => compared(value, Holds, Fails, JUMP_GREATER, [Fails, Holds]),
        Test::Above(value) => compared(value, Fails, Holds, JUMP_GREATER, [Holds, Fails]),
        Test::AtLeast(value) => compared(value, Fails, Holds, JUMP_AT_LEAST, [Holds, Fails]),
        Test::Masked(mask, value) => {
            let ((mask_high, mask_low), (value_high, value_low)) = (halves(mask), halves(value));
            vec![
                load(high),
                (AND, mask_high, [Next, Next]),
                (JUMP_EQUAL, value_high, [Next, Fails]),
                load(low),
                (AND, mask_low, [Next, Next]),
                (JUMP_EQUAL, value_low, [Holds, Fails]),
            ]
        }
    }
}

fn code(action: Action) -> u32 {
    match action {
        Action::Allow => libc::SECCOMP_RET_ALLOW,
        Action::Log => libc::SECCOMP_RET_LOG,
        Action::KillThread => libc::SECCOMP_RET_KILL_THREAD,
        Action::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        Action::Trap => libc::SECCOMP_RET_TRAP,
        Action::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
    }
}

const fn statement(code: u16, constant: u32) -> Instruction {
    jump(code, constant, 0, 0)
}

const fn jump(code: u16, constant: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction {
        code,
        jump_true,
        jump_false,
        constant,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86: u32 = 0x4000_0003;

    /// Runs the program as the kernel would.
    fn run(program: &[Instruction], convention: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut accumulator = 0;
        let mut at = 0;
        loop {
            let now = program[at];
            at += 1;
            let mut branch = |taken: bool| {
                at += usize::from(if taken { now.jump_true } else { now.jump_false });
            };
            match now.code {
                LOAD => {
                    accumulator = match now.constant {
                        NUMBER => number,
                        CONVENTION => convention,
                        offset => {
                            let argument = arguments[((offset - ARGUMENTS) / 8) as usize];
                            if offset % 8 == 0 {
                                argument as u32
                            } else {
                                (argument >> 32) as u32
                            }
                        }
                    }
                }
                AND => accumulator &= now.constant,
                JUMP => at += now.constant as usize,
                JUMP_EQUAL => branch(accumulator == now.constant),
                JUMP_GREATER => branch(accumulator > now.constant),
                JUMP_AT_LEAST => branch(accumulator >= now.constant),
                RETURN => return now.constant,
                code => panic!("unknown instruction {code:#x}"),
            }
        }
    }

    fn native(capabilities: Capabilities, name: &str, arguments: [u64; 6]) -> u32 {
        let rules = profile::default(capabilities);
        let program = compile(&rules, DEFAULT, &[numbers::X86_64]);
        let number = numbers::X86_64.number(name).expect("a call's name");
        run(&program, numbers::X86_64.audit, number, arguments)
    }

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | 38;

    #[test]
    fn what_programs_use_is_allowed_and_what_reaches_the_host_refused() {
        let default = Capabilities::DEFAULT;
        for name in [
            "read",
            "openat",
            "execve",
            "futex",
            "chroot",
            "ptrace",
            "arch_prctl",
        ] {
            assert_eq!(native(default, name, [0; 6]), ALLOW, "{name}");
        }
        for name in [
            "mount",
            "bpf",
            "keyctl",
            "io_uring_setup",
            "reboot",
            "setns",
            "unshare",
            "kexec_load",
        ] {
            assert_eq!(native(default, name, [0; 6]), EPERM, "{name}");
        }
        assert_eq!(native(default, "clone3", [0; 6]), ENOSYS);
    }

    #[test]
    fn capabilities_bring_their_calls() {
        let all = Capabilities::ALL;
        for name in ["mount", "bpf", "clone3", "reboot", "setns", "clone"] {
            assert_eq!(native(all, name, [u64::MAX; 6]), ALLOW, "{name}");
        }
        assert_eq!(native(Capabilities::NONE, "chroot", [0; 6]), EPERM);
    }

    #[test]
    fn arguments_decide_on_clone_socket_and_personality() {
        let default = Capabilities::DEFAULT;
        let first = |value: u64| [value, 0, 0, 0, 0, 0];
        assert_eq!(native(default, "clone", first(0x11)), ALLOW);
        assert_eq!(
            native(default, "clone", first(0x1000_0011)),
            EPERM,
            "a user namespace"
        );
        assert_eq!(native(default, "socket", first(2)), ALLOW);
        assert_eq!(native(default, "socket", first(16)), ALLOW);
        assert_eq!(native(default, "socket", first(38)), EPERM);
        assert_eq!(native(default, "socket", first(40)), EPERM);
        assert_eq!(native(default, "socket", first(1 << 32 | 2)), EPERM);
        assert_eq!(native(default, "personality", first(0xffff_ffff)), ALLOW);
        assert_eq!(native(default, "personality", first(0x40_0000)), EPERM);
    }

    #[test]
    fn a_profile_of_one_s_own_decides_by_all_of_its_tests() {
        let profile = r#"{
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13,
            "syscalls": [
                {"names": ["read", "nosuchcall"], "action": "SCMP_ACT_ALLOW"},
                {"name": "write", "action": "SCMP_ACT_KILL_PROCESS"},
                {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [
                    {"index": 0, "value": 5, "op": "SCMP_CMP_GE"},
                    {"index": 1, "value": 4294967296, "op": "SCMP_CMP_LE"},
                    {"index": 2, "value": 255, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"},
                    {"index": 3, "value": 0, "op": "SCMP_CMP_NE"}]},
                {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["umount2"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                {"names": ["arch_prctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}
            ]}"#;
        let run = |capabilities, name: &str, arguments| {
            let (rules, default) = custom::read(profile, capabilities).expect("a profile");
            let others = Others {
                default,
                is_default: false,
                ..DEFAULT
            };
            let program = compile(&rules, others, &[numbers::X86_64]);
            let number = numbers::X86_64.number(name).expect("a call's name");
            run(&program, numbers::X86_64.audit, number, arguments)
        };
        let plain = |name, arguments| run(Capabilities::DEFAULT, name, arguments);
        let eacces = libc::SECCOMP_RET_ERRNO | 13;
        assert_eq!(plain("read", [0; 6]), ALLOW);
        assert_eq!(plain("write", [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
        assert_eq!(plain("open", [0; 6]), eacces);
        assert_eq!(plain("chmod", [0; 6]), ENOSYS);
        assert_eq!(
            plain("arch_prctl", [0; 6]),
            eacces,
            "nothing is added to it"
        );
        let good = [5, 1 << 32, 0x1_0103, 1, 0, 0];
        assert_eq!(plain("ioctl", good), ALLOW);
        for (at, bad) in [(0, 4), (1, (1 << 32) + 1), (2, 0x104), (3, 0)] {
            let mut arguments = good;
            arguments[at] = bad;
            assert_eq!(plain("ioctl", arguments), eacces, "{at}");
        }
        assert_eq!(plain("mount", [0; 6]), eacces);
        assert_eq!(run(Capabilities::ALL, "mount", [0; 6]), ALLOW);
        assert_eq!(plain("umount2", [0; 6]), ALLOW);
        assert_eq!(run(Capabilities::ALL, "umount2", [0; 6]), eacces);
        for bad in [
            "",
            "{}",
            r#"{"defaultAction": "SCMP_ACT_NOSUCH"}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}"#,
        ] {
            assert!(custom::read(bad, Capabilities::ALL).is_err(), "{bad}");
        }
    }

    #[test]
    fn other_conventions_and_newer_calls_are_unknown() {
        let program = default_filter(Capabilities::DEFAULT);
        assert_eq!(run(&program, 0x1234, 0, [0; 6]), ENOSYS);
        let native = Convention::of_machine()[0].audit;
        assert_eq!(run(&program, native, 5000, [0; 6]), ENOSYS);
        if native == numbers::X86_64.audit {
            assert_eq!(run(&program, native, X32 | 1, [0; 6]), ENOSYS);
            assert_eq!(
                run(&program, X86, 4, [0; 6]),
                ALLOW,
                "write of 32-bit programs"
            );
            assert_eq!(
                run(&program, X86, 21, [0; 6]),
                EPERM,
                "mount of 32-bit programs"
            );
        }
    }

    #[test]
    fn the_program_is_small() {
        let length = default_filter(Capabilities::DEFAULT).len();
        assert!(length < 2000, "{length} instructions");
    }
}
