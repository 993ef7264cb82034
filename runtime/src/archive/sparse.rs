//! Sparse files of PAX archives: GNU's three dialects (GNU tar manual, "Storing Sparse Files"). The older header of GNU's
//! own is read by the library.

use std::io;
use std::io::Read;

/// How many data ranges a file may have.
const MOST_SEGMENTS: usize = 1 << 20;

/// A sparse file, as its records tell.
pub(super) struct Sparse {
    /// Its name: the entry's is one that other programs may extract it under.
    pub(super) name: Option<Vec<u8>>,
    /// Its length.
    pub(super) size: u64,
    map: Map,
}

/// Where its data belong.
enum Map {
    /// It says so before them.
    Before,
    Given(Vec<(u64, u64)>),
}

fn bad() -> io::Error {
    io::Error::other("bad map of a sparse file")
}

fn number(text: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(text).map_err(|_| bad())?;
    text.parse().map_err(|_| bad())
}

/// Reads an entry's records; none if it is not sparse.
pub(super) fn of<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Option<Sparse>> {
    let Some(records) = entry.pax_extensions()? else {
        return Ok(None);
    };
    let (mut name, mut size, mut is_before) = (None, None, false);
    let mut numbers = Vec::new();
    for record in records {
        let record = record?;
        let value = record.value_bytes();
        match record.key_bytes() {
            b"GNU.sparse.major" => is_before = number(value)? == 1,
            b"GNU.sparse.name" => name = Some(value.to_vec()),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => size = Some(number(value)?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => numbers.push(number(value)?),
            b"GNU.sparse.map" => {
                let fields = value.split(|byte| *byte == b',');
                let fields = fields.filter(|field| !field.is_empty());
                numbers = fields.map(number).collect::<io::Result<_>>()?;
            }
            _ => {}
        }
    }
    let Some(size) = size else { return Ok(None) };
    let map = match is_before {
        true => Map::Before,
        false => Map::Given(pairs(&numbers)?),
    };
    Ok(Some(Sparse { name, size, map }))
}

fn pairs(numbers: &[u64]) -> io::Result<Vec<(u64, u64)>> {
    match numbers.as_chunks::<2>() {
        (pairs, []) => Ok(pairs
            .iter()
            .map(|[offset, length]| (*offset, *length))
            .collect()),
        _ => Err(bad()),
    }
}

impl Sparse {
    /// Returns the file's whole content.
    pub(super) fn expand<R: Read>(self, mut data: R) -> io::Result<Expanded<R>> {
        let segments = match self.map {
            Map::Given(segments) => segments,
            Map::Before => read_map(&mut data)?,
        };
        let mut end = 0;
        for (offset, length) in &segments {
            if *offset < end {
                return Err(bad());
            }
            end = offset.checked_add(*length).ok_or_else(bad)?;
        }
        if end > self.size {
            return Err(bad());
        }
        Ok(Expanded {
            data,
            segments: segments.into_iter(),
            segment: (0, 0),
            at: 0,
            size: self.size,
        })
    }
}

/// Reads the map before the data: a count, then offsets and lengths in turn, one a line, filled up to a block.
fn read_map(data: &mut impl Read) -> io::Result<Vec<(u64, u64)>> {
    let mut numbers: Vec<u64> = Vec::new();
    let mut line = Vec::new();
    loop {
        let mut block = [0; 512];
        data.read_exact(&mut block)?;
        for byte in block {
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            numbers.push(number(&line)?);
            line.clear();
            let wanted = numbers[0].saturating_mul(2).saturating_add(1);
            if numbers.len() as u64 == wanted {
                return pairs(&numbers[1..]);
            }
        }
        if numbers.len() > 2 * MOST_SEGMENTS || line.len() > 512 {
            return Err(bad());
        }
    }
}

/// Reads data with zeros in the holes.
pub(super) struct Expanded<R> {
    data: R,
    segments: std::vec::IntoIter<(u64, u64)>,
    /// The range that is next or being read.
    segment: (u64, u64),
    at: u64,
    size: u64,
}

impl<R: Read> Read for Expanded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.segment.0 + self.segment.1 {
            match self.segments.next() {
                Some(segment) => self.segment = segment,
                None => break,
            }
        }
        let (offset, length) = self.segment;
        let (is_data, end) = match (self.at < offset, self.at < offset + length) {
            (true, _) => (false, offset),
            (_, true) => (true, offset + length),
            _ => (false, self.size),
        };
        let left = usize::try_from(end - self.at).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let count = match is_data {
            true => self.data.read(&mut buffer[..wanted])?,
            false => {
                buffer[..wanted].fill(0);
                wanted
            }
        };
        if count == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(size: u64, segments: &[(u64, u64)], data: &[u8]) -> io::Result<Vec<u8>> {
        let sparse = Sparse {
            name: None,
            size,
            map: Map::Given(segments.to_vec()),
        };
        let mut out = Vec::new();
        sparse.expand(data)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn data_lie_between_holes() {
        let content = expanded(8, &[(1, 2), (3, 1), (6, 1)], b"abcd").expect("a file");
        assert_eq!(content, b"\0abc\0\0d\0");
        assert_eq!(expanded(3, &[], b"").expect("a file"), b"\0\0\0");
        assert_eq!(expanded(3, &[(3, 0)], b"").expect("a file"), b"\0\0\0");
        assert_eq!(expanded(0, &[(0, 0)], b"").expect("a file"), b"");
        for segments in [&[(0, 9)][..], &[(4, 1), (2, 1)], &[(u64::MAX, 2)]] {
            assert!(expanded(8, segments, b"abcdefghi").is_err());
        }
        assert!(expanded(8, &[(0, 4)], b"ab").is_err(), "cut short");
    }

    #[test]
    fn a_map_may_stand_before_the_data() {
        let mut data = b"2\n0\n1\n4\n1\n".to_vec();
        data.resize(512, 0);
        data.extend(b"xy");
        let sparse = Sparse {
            name: None,
            size: 6,
            map: Map::Before,
        };
        let mut out = Vec::new();
        let mut content = sparse.expand(&data[..]).expect("a map");
        content.read_to_end(&mut out).expect("the data");
        assert_eq!(out, b"x\0\0\0y\0");
    }
}
