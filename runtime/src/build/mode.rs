//! `--chmod`: octal, or symbolic as chmod(1) has it (`u=rwX,go-w`).

/// A change of permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ModeChange {
    /// They become these.
    To(u32),
    /// They change step by step.
    Steps(Vec<Step>),
}

/// One `who op what` of a symbolic mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// Which of user, group and others.
    who: [bool; 3],
    operation: u8,
    /// The bits of one of them.
    bits: u32,
    /// `X`: execute if it is a directory or somebody may execute it.
    conditional: bool,
    set_id: bool,
    sticky: bool,
    /// Copies the bits of this one.
    copied: Option<usize>,
}

impl ModeChange {
    /// Reads what `--chmod` was given.
    pub(super) fn parse(text: &str) -> Option<ModeChange> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok()?;
            return (mode <= 0o7777).then_some(ModeChange::To(mode));
        }
        let mut steps = Vec::new();
        for clause in text.split(',') {
            let who_end = clause.find(['+', '-', '='])?;
            let (who, mut rest) = clause.split_at(who_end);
            let who = read_who(who)?;
            while !rest.is_empty() {
                let operation = rest.as_bytes()[0];
                let end = rest[1..]
                    .find(['+', '-', '='])
                    .map_or(rest.len(), |at| at + 1);
                steps.push(read_step(who, operation, &rest[1..end])?);
                rest = &rest[end..];
            }
        }
        (!steps.is_empty()).then_some(ModeChange::Steps(steps))
    }

    /// Returns what becomes of a mode.
    pub(super) fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            ModeChange::To(mode) => *mode,
            ModeChange::Steps(steps) => steps
                .iter()
                .fold(mode, |mode, step| step.apply(mode, is_directory)),
        }
    }
}

fn read_who(text: &str) -> Option<[bool; 3]> {
    if text.is_empty() {
        return Some([true; 3]);
    }
    let mut who = [false; 3];
    for letter in text.chars() {
        match letter {
            'u' => who[0] = true,
            'g' => who[1] = true,
            'o' => who[2] = true,
            'a' => who = [true; 3],
            _ => return None,
        }
    }
    Some(who)
}

fn read_step(who: [bool; 3], operation: u8, what: &str) -> Option<Step> {
    let mut step = Step {
        who,
        operation,
        bits: 0,
        conditional: false,
        set_id: false,
        sticky: false,
        copied: None,
    };
    for letter in what.chars() {
        match letter {
            'r' => step.bits |= 4,
            'w' => step.bits |= 2,
            'x' => step.bits |= 1,
            'X' => step.conditional = true,
            's' => step.set_id = true,
            't' => step.sticky = true,
            'u' | 'g' | 'o' if what.len() == 1 => step.copied = "ugo".find(letter),
            _ => return None,
        }
    }
    Some(step)
}

impl Step {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        const SHIFTS: [u32; 3] = [6, 3, 0];
        let mut bits = self.bits;
        if self.conditional && (is_directory || mode & 0o111 != 0) {
            bits |= 1;
        }
        if let Some(copied) = self.copied {
            bits |= mode >> SHIFTS[copied] & 7;
        }
        let mut mask = 0;
        let mut value = 0;
        for (number, shift) in SHIFTS.into_iter().enumerate() {
            if self.who[number] {
                mask |= 7 << shift;
                value |= bits << shift;
            }
        }
        if self.set_id {
            value |= u32::from(self.who[0]) << 11 | u32::from(self.who[1]) << 10;
        }
        if self.sticky {
            value |= 0o1000;
        }
        match self.operation {
            b'+' => mode | value,
            b'-' => mode & !value,
            _ => mode & !mask | value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_chmod_changes_them() {
        for (text, before, directory, after) in [
            ("755", 0o600, false, 0o755),
            ("4755", 0o600, false, 0o4755),
            ("u+x", 0o644, false, 0o744),
            ("go-w", 0o666, false, 0o644),
            ("a+rX", 0o600, false, 0o644),
            ("a+rX", 0o700, false, 0o755),
            ("a+rX", 0o600, true, 0o755),
            ("u=rwx,go=u-w", 0o600, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("u+s,o+t", 0o755, false, 0o5755),
            ("g=", 0o777, false, 0o707),
        ] {
            let change = ModeChange::parse(text).expect(text);
            assert_eq!(change.apply(before, directory), after, "{text}");
        }
        for bad in ["", "8", "77777", "z+x", "u", "u+q", "u+x,"] {
            assert_eq!(ModeChange::parse(bad), None, "{bad}");
        }
    }
}
