//! The filter between a container and the host's kernel.
//!
//! A profile's rules become one classic BPF program: a jump by calling convention, then a binary search over ranges of
//! call numbers that fare alike, then the tests of arguments where a call has some. The search keeps a call's price at
//! some ten instructions (and the kernel remembers calls that are always allowed).

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

/// Compiles the default profile for a process that may have `capabilities`.
pub(crate) fn default_filter(capabilities: Capabilities) -> Vec<Instruction> {
    compile(&profile::default(capabilities), Convention::of_machine())
}

/// What happens to a call: the first test that holds decides, else the last action.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fate {
    tests: Vec<(u8, Test, Action)>,
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

fn compile(rules: &[Rule], conventions: &[Convention]) -> Vec<Instruction> {
    let mut program = vec![statement(LOAD, CONVENTION)];
    for convention in conventions {
        let mut body = vec![statement(LOAD, NUMBER)];
        body.extend(search(&ranges(&fates(rules, convention))));
        // Jumps by condition reach 255 instructions only.
        program.push(jump(JUMP_EQUAL, convention.audit, 1, 0));
        program.push(statement(JUMP, body.len() as u32));
        program.extend(body);
    }
    program.push(statement(RETURN, code(UNKNOWN)));
    program
}

fn fates(rules: &[Rule], convention: &Convention) -> BTreeMap<u32, Fate> {
    let mut fates: BTreeMap<u32, Fate> = BTreeMap::new();
    let own = convention
        .own
        .iter()
        .map(|name| (*name, None, Action::Allow));
    let listed = rules.iter().flat_map(|rule| {
        rule.names
            .split_whitespace()
            .map(|name| (name, rule.test, rule.action))
    });
    for (name, test, action) in listed.chain(own) {
        let Some(number) = convention.number(name) else {
            continue;
        };
        let fate = fates.entry(number).or_insert(Fate::always(REFUSED));
        match test {
            Some((argument, test)) => fate.tests.push((argument, test, action)),
            None => *fate = Fate::always(action),
        }
    }
    fates
}

/// Returns the fates of all numbers as ranges, each given by its first number.
fn ranges(fates: &BTreeMap<u32, Fate>) -> Vec<(u32, Fate)> {
    let mut ranges: Vec<(u32, Fate)> = Vec::new();
    let mut add = |from: u32, fate: Fate| match ranges.last() {
        Some((_, last)) if *last == fate => {}
        _ => ranges.push((from, fate)),
    };
    let mut next = 0;
    for (&number, fate) in fates {
        if number > next {
            add(next, Fate::always(REFUSED));
        }
        add(number, fate.clone());
        next = number + 1;
    }
    // Calls newer than the profile: as if the kernel did not have them, so that programs fall back.
    if next < X32 {
        add(next, Fate::always(UNKNOWN));
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
    for (argument, test, action) in &fate.tests {
        program.extend(tested(*argument, *test, *action));
    }
    program.push(statement(RETURN, code(fate.otherwise)));
    program
}

/// Returns the code that ends in `action` if the test holds and goes on behind itself if not.
fn tested(argument: u8, test: Test, action: Action) -> Vec<Instruction> {
    // Little-endian: the low half comes first.
    let low = ARGUMENTS + 8 * u32::from(argument);
    let high = low + 4;
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let mut program = match test {
        Test::Equal(value) => {
            let (value_high, value_low) = halves(value);
            vec![
                statement(LOAD, high),
                jump(JUMP_EQUAL, value_high, 0, 3),
                statement(LOAD, low),
                jump(JUMP_EQUAL, value_low, 0, 1),
            ]
        }
        Test::Below(value) => {
            let (value_high, value_low) = halves(value);
            vec![
                statement(LOAD, high),
                jump(JUMP_GREATER, value_high, 4, 0),
                jump(JUMP_EQUAL, value_high, 0, 2),
                statement(LOAD, low),
                jump(JUMP_AT_LEAST, value_low, 1, 0),
            ]
        }
        Test::Clear(mask) => {
            let (mask_high, mask_low) = halves(mask);
            vec![
                statement(LOAD, high),
                statement(AND, mask_high),
                jump(JUMP_EQUAL, 0, 0, 4),
                statement(LOAD, low),
                statement(AND, mask_low),
                jump(JUMP_EQUAL, 0, 0, 1),
            ]
        }
    };
    program.push(statement(RETURN, code(action)));
    program
}

fn code(action: Action) -> u32 {
    match action {
        Action::Allow => libc::SECCOMP_RET_ALLOW,
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
        let program = compile(&profile::default(capabilities), &[numbers::X86_64]);
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
