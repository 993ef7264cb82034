//! Docker's frames of two outputs on one stream: `1|2, 0, 0, 0, length (u32, big endian), bytes`.

use std::io;
use std::io::Write;

/// How outputs lie on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outputs {
    /// A terminal's: as they come.
    Raw,
    /// In frames that say which output it is.
    Framed,
}

impl Outputs {
    /// Returns how a container's, or a command's, outputs are sent.
    pub(super) fn of(tty: bool) -> Outputs {
        match tty {
            true => Outputs::Raw,
            false => Outputs::Framed,
        }
    }

    /// Sends what was said.
    pub(super) fn write(self, mut out: impl Write, is_error: bool, bytes: &[u8]) -> io::Result<()> {
        if self == Outputs::Raw {
            return out.write_all(bytes);
        }
        let mut frame = vec![1 + u8::from(is_error), 0, 0, 0];
        frame.extend((bytes.len() as u32).to_be_bytes());
        frame.extend(bytes);
        out.write_all(&frame)
    }
}
