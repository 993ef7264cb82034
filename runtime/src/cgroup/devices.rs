//! Which devices a container may make and use.
//!
//! Docker's defaults: nodes of any device may be made (they are of no use without more), the harmless ones be used.
//! On v2 the rules are an eBPF program, on v1 lines for `devices.allow`.

use std::fmt;

use crate::sys::bpf::Instruction;

/// Kind of device, `BPF_DEVCG_DEV_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Block = 1,
    Character = 2,
}

pub(super) const MKNOD: u8 = 1;
pub(super) const READ: u8 = 2;
pub(super) const WRITE: u8 = 4;

/// One permission; no number means any.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

impl Rule {
    /// Allows `access` (`rwm`) to one device.
    pub(super) fn of(is_block: bool, major: u32, minor: u32, access: &str) -> Option<Rule> {
        Some(Rule {
            kind: if is_block {
                Kind::Block
            } else {
                Kind::Character
            },
            major: Some(major),
            minor: Some(minor),
            access: access_of(access)?,
        })
    }

    /// Reads a rule as `devices.allow` takes it: `c 1:* rwm`.
    pub(super) fn parse(text: &str) -> Option<Vec<Rule>> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let &[kind, numbers, access] = words.as_slice() else {
            return None;
        };
        let (major, minor) = numbers.split_once(':')?;
        let number = |text: &str| match text {
            "*" => Some(None),
            text => text.parse().ok().map(Some),
        };
        let kinds: &[Kind] = match kind {
            "c" => &[Kind::Character],
            "b" => &[Kind::Block],
            "a" => &[Kind::Character, Kind::Block],
            _ => return None,
        };
        let (major, minor, access) = (number(major)?, number(minor)?, access_of(access)?);
        let rule = |kind: &Kind| Rule {
            kind: *kind,
            major,
            minor,
            access,
        };
        Some(kinds.iter().map(rule).collect())
    }
}

fn access_of(text: &str) -> Option<u8> {
    let mut access = 0;
    for letter in text.chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => return None,
        };
    }
    (access != 0).then_some(access)
}

const fn all_of(major: u32, minor: Option<u32>) -> Rule {
    Rule {
        kind: Kind::Character,
        major: Some(major),
        minor,
        access: MKNOD | READ | WRITE,
    }
}

const fn mknod(kind: Kind) -> Rule {
    Rule {
        kind,
        major: None,
        minor: None,
        access: MKNOD,
    }
}

/// Docker's defaults: null, zero, full, random, urandom, tty, console, ptmx and the pseudo terminals.
pub(super) const DEFAULT: &[Rule] = &[
    mknod(Kind::Character),
    mknod(Kind::Block),
    all_of(1, Some(3)),
    all_of(1, Some(5)),
    all_of(1, Some(7)),
    all_of(1, Some(8)),
    all_of(1, Some(9)),
    all_of(5, Some(0)),
    all_of(5, Some(1)),
    all_of(5, Some(2)),
    all_of(136, None),
];

impl fmt::Display for Rule {
    /// Writes the rule as v1's `devices.allow` takes it: `c 1:3 rwm`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |n| n.to_string());
        let kind = match self.kind {
            Kind::Block => 'b',
            Kind::Character => 'c',
        };
        write!(f, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        for (bit, letter) in [(READ, "r"), (WRITE, "w"), (MKNOD, "m")] {
            if self.access & bit != 0 {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_CONSTANT: u8 = 0xb7;
const AND_CONSTANT: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_UNEQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// Where the program keeps what it is asked about (`struct bpf_cgroup_dev_ctx`).
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

const fn instruction(code: u8, to: u8, from: u8, offset: i16, constant: i32) -> Instruction {
    Instruction {
        code,
        registers: to | from << 4,
        offset,
        constant,
    }
}

/// Returns the program that allows what a rule allows and nothing else.
pub(super) fn program(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE, ACCESS, KIND, 0, 0),
        instruction(AND_CONSTANT, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules {
        let mut tests = vec![
            instruction(JUMP_UNEQUAL, KIND, 0, 0, rule.kind as i32),
            instruction(MOVE, SCRATCH, ACCESS, 0, 0),
            instruction(AND_CONSTANT, SCRATCH, 0, 0, !i32::from(rule.access)),
            instruction(JUMP_UNEQUAL, SCRATCH, 0, 0, 0),
        ];
        for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
            if let Some(number) = number {
                tests.push(instruction(JUMP_UNEQUAL, register, 0, 0, number as i32));
            }
        }
        // A test that fails goes on after the rule's two last instructions.
        let length = tests.len();
        for (at, test) in tests.iter_mut().enumerate() {
            if test.code == JUMP_UNEQUAL {
                test.offset = (length - at - 1 + 2) as i16;
            }
        }
        program.extend(tests);
        program.push(instruction(MOVE_CONSTANT, RESULT, 0, 0, 1));
        program.push(instruction(EXIT, 0, 0, 0, 0));
    }
    program.push(instruction(MOVE_CONSTANT, RESULT, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn allows(program: &[Instruction], kind: Kind, access: u8, major: u32, minor: u32) -> bool {
        let context = [u32::from(access) << 16 | kind as u32, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0;
        loop {
            let now = program[at];
            let (to, from) = (now.registers as usize & 15, now.registers as usize >> 4);
            at += 1;
            match now.code {
                LOAD_WORD => registers[to] = u64::from(context[now.offset as usize / 4]),
                MOVE => registers[to] = registers[from],
                MOVE_CONSTANT => registers[to] = now.constant as u64,
                AND_CONSTANT => {
                    registers[to] = u64::from(registers[to] as u32 & now.constant as u32)
                }
                SHIFT_RIGHT => registers[to] >>= now.constant,
                JUMP_UNEQUAL if registers[to] != now.constant as u64 => at += now.offset as usize,
                JUMP_UNEQUAL => {}
                EXIT => return registers[0] == 1,
                code => panic!("unknown instruction {code:#x}"),
            }
        }
    }

    #[test]
    fn harmless_devices_may_be_used_and_disks_only_be_made() {
        let program = program(DEFAULT);
        assert!(allows(&program, Kind::Character, READ | WRITE, 1, 3));
        assert!(allows(&program, Kind::Character, WRITE, 136, 7));
        assert!(allows(&program, Kind::Block, MKNOD, 8, 0));
        assert!(!allows(&program, Kind::Block, READ, 8, 0));
        assert!(!allows(&program, Kind::Block, MKNOD | READ, 8, 0));
        assert!(!allows(&program, Kind::Character, READ, 1, 1), "/dev/mem");
        assert!(
            !allows(&program, Kind::Character, READ, 10, 229),
            "/dev/fuse"
        );
        assert!(!allows(&program, Kind::Block, READ, 1, 3));
    }

    #[test]
    fn rules_are_read_as_they_are_written() {
        let lines = |text: &str| -> Option<Vec<String>> {
            Some(Rule::parse(text)?.iter().map(Rule::to_string).collect())
        };
        assert_eq!(lines("c 10:229 rw"), Some(vec!["c 10:229 rw".to_owned()]));
        assert_eq!(lines("a *:* rwm").map(|lines| lines.len()), Some(2));
        for bad in ["", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 q", "c a:b r"] {
            assert_eq!(lines(bad), None, "{bad}");
        }
    }

    #[test]
    fn rules_read_as_v1_takes_them() {
        let lines: Vec<String> = DEFAULT.iter().map(Rule::to_string).collect();
        assert_eq!(lines[0], "c *:* m");
        assert_eq!(lines[2], "c 1:3 rwm");
        assert_eq!(lines[10], "c 136:* rwm");
    }
}
