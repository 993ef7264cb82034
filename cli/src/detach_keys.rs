//! The keys with which a person leaves a container's terminal.

use crate::command_error::CommandError;

/// Keys that are pressed one after the other; Docker's are ctrl-p ctrl-q.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    /// How many of them were pressed; they are passed on if others follow.
    pressed: usize,
}

impl DetachKeys {
    /// Reads `--detach-keys`: letters and `ctrl-x`, separated by commas.
    pub(crate) fn parse(text: Option<&str>) -> Result<DetachKeys, CommandError> {
        let text = text
            .filter(|text| !text.is_empty())
            .unwrap_or("ctrl-p,ctrl-q");
        let key = |key: &str| match (key.as_bytes(), key.strip_prefix("ctrl-").map(str::as_bytes)) {
            ([byte], _) => Some(*byte),
            (_, Some([letter @ b'a'..=b'z'])) => Some(letter - b'a' + 1),
            (_, Some(b"@")) => Some(0),
            (_, Some([other @ (b'[' | b'\\' | b']' | b'^' | b'_')])) => Some(other - b'A' + 1),
            _ => None,
        };
        let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
        let keys = keys.ok_or_else(|| {
            CommandError::failed(format_args!("invalid detach keys ({text}) provided"))
        })?;
        Ok(DetachKeys { keys, pressed: 0 })
    }

    /// Returns what of these bytes is for the container; `None` if the person leaves.
    pub(crate) fn pass(&mut self, typed: &[u8]) -> Option<Vec<u8>> {
        let mut passed = Vec::with_capacity(typed.len());
        for &byte in typed {
            if byte == self.keys[self.pressed] {
                self.pressed += 1;
                if self.pressed == self.keys.len() {
                    return None;
                }
                continue;
            }
            passed.extend_from_slice(&self.keys[..self.pressed]);
            self.pressed = usize::from(byte == self.keys[0]);
            if self.pressed == 0 {
                passed.push(byte);
            }
        }
        Some(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_letters_and_control_characters() {
        let keys = |text| DetachKeys::parse(text).map(|keys| keys.keys).ok();
        assert_eq!(keys(None), Some(vec![16, 17]));
        assert_eq!(keys(Some("ctrl-a,x")), Some(vec![1, b'x']));
        assert_eq!(keys(Some("ctrl-1")), None);
    }

    #[test]
    fn keys_that_others_follow_are_passed_on() {
        let mut keys = DetachKeys::parse(None).expect("keys");
        assert_eq!(keys.pass(b"a\x10"), Some(b"a".to_vec()));
        assert_eq!(keys.pass(b"b"), Some(b"\x10b".to_vec()));
        assert_eq!(keys.pass(b"\x10"), Some(Vec::new()));
        assert_eq!(keys.pass(b"\x11x"), None);
    }
}
