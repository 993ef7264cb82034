//! Archives whose headers are bounded: a name or a record may say to be as long as it likes, and is read whole.

use std::cell::Cell;
use std::io;
use std::io::Read;

/// The most that is read of what an archive says of one entry: names, attributes, the map of a sparse file. A path has at
/// most 4 KiB, an attribute 64 KiB; and the library's work on an old map grows with the square of its length.
const HEADERS: u64 = 1 << 20;

/// What is left to be read until the next entry, while one is looked for.
#[derive(Debug, Default)]
pub(crate) struct Bound(Cell<Option<u64>>);

/// An archive's bytes, of which only so many are read between two entries.
#[derive(Debug)]
pub(crate) struct Bounded<'a, R> {
    inner: R,
    bound: &'a Bound,
}

impl Bound {
    /// Bounds what is read of an archive by [`Bound::next`].
    pub(crate) fn reader<R: Read>(&self, inner: R) -> Bounded<'_, R> {
        Bounded { inner, bound: self }
    }

    /// Returns the next entry. The one before must have been read to its end.
    pub(crate) fn next<'a, R: Read>(
        &self,
        entries: &mut tar::Entries<'a, R>,
    ) -> Option<io::Result<tar::Entry<'a, R>>> {
        self.0.set(Some(HEADERS));
        let entry = entries.next();
        self.0.set(None);
        entry
    }
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.bound.0.get() else {
            return self.inner.read(buffer);
        };
        let length = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        if length == 0 && !buffer.is_empty() {
            return Err(io::Error::other("the header of an entry is too long"));
        }
        let count = self.inner.read(&mut buffer[..length])?;
        self.bound.0.set(Some(left - count as u64));
        Ok(count)
    }
}
