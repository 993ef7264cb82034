//! The maps of sparse files: GNU's old headers and the three PAX dialects (GNU tar manual, "Storing Sparse Files").

use super::IngestError;
use super::TarSource;
use super::writer::LayerWriter;

/// How many data ranges a file may have.
const SEGMENTS_MAX: usize = 1 << 20;

/// A sparse file's map.
pub(super) struct SparseMap {
    /// The file's length.
    pub(super) size: u64,
    /// Offset and length of each range that has data.
    pub(super) segments: Vec<(u64, u64)>,
}

impl SparseMap {
    /// Checks that the ranges come in order, fit the file, and have as many bytes as the archive stores.
    pub(super) fn check(&self, stored: u64) -> Result<(), &'static str> {
        let mut end = 0;
        let mut sum: u64 = 0;
        for &(offset, length) in &self.segments {
            if offset < end {
                return Err("the ranges of its sparse map overlap");
            }
            end = offset
                .checked_add(length)
                .ok_or("its sparse map overflows")?;
            sum = sum.checked_add(length).ok_or("its sparse map overflows")?;
        }
        if end > self.size || self.size > i64::MAX as u64 {
            return Err("its sparse map is larger than the file");
        }
        if sum != stored {
            return Err("its sparse map does not match the stored bytes");
        }
        Ok(())
    }
}

/// Reads the map of a GNU sparse header and of the blocks that continue it.
pub(super) fn gnu(
    header: &tar::GnuHeader,
    source: &mut TarSource,
    writer: &mut LayerWriter<'_>,
    name: &str,
) -> Result<SparseMap, IngestError> {
    let bad = |_| IngestError::Entry {
        name: name.to_owned(),
        fault: "bad sparse header".to_owned(),
    };
    let size = header.real_size().map_err(bad)?;
    let mut segments = Vec::new();
    let mut add = |sparse: &tar::GnuSparseHeader| -> Result<(), IngestError> {
        if !sparse.is_empty() && segments.len() < SEGMENTS_MAX {
            segments.push((sparse.offset().map_err(bad)?, sparse.length().map_err(bad)?));
        }
        Ok(())
    };
    header.sparse.iter().try_for_each(&mut add)?;
    let mut more = header.is_extended();
    while more {
        let mut extension = tar::GnuExtSparseHeader::new();
        if !source.fill(extension.as_mut_bytes(), name)? {
            return Err(IngestError::Truncated(name.to_owned()));
        }
        writer.keep(extension.as_bytes())?;
        extension.sparse().iter().try_for_each(&mut add)?;
        more = extension.is_extended();
    }
    Ok(SparseMap { size, segments })
}

/// Reads PAX 1.0's map, which stands before the data; returns it and how many bytes it took.
pub(super) fn pax_1_0(
    size: u64,
    stored: u64,
    source: &mut TarSource,
    writer: &mut LayerWriter<'_>,
    name: &str,
) -> Result<(SparseMap, u64), IngestError> {
    let bad = || IngestError::Entry {
        name: name.to_owned(),
        fault: "bad sparse map".to_owned(),
    };
    let mut numbers: Vec<u64> = Vec::new();
    let mut current: Option<u64> = None;
    let mut taken = 0;
    loop {
        if taken + 512 > stored {
            return Err(bad());
        }
        let mut block = [0; 512];
        if !source.fill(&mut block, name)? {
            return Err(IngestError::Truncated(name.to_owned()));
        }
        writer.keep(&block)?;
        taken += 512;
        for byte in block {
            match (byte, current) {
                (b'0'..=b'9', _) => {
                    let digit = u64::from(byte - b'0');
                    let grown = current.unwrap_or(0).checked_mul(10);
                    current = Some(
                        grown
                            .and_then(|grown| grown.checked_add(digit))
                            .ok_or_else(bad)?,
                    );
                }
                (b'\n', Some(number)) => {
                    numbers.push(number);
                    current = None;
                }
                _ => return Err(bad()),
            }
            let count = numbers.first().copied().unwrap_or(u64::MAX);
            if numbers.len() as u64 == count.saturating_mul(2).saturating_add(1) {
                let pairs = numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1]));
                return Ok((
                    SparseMap {
                        size,
                        segments: pairs.collect(),
                    },
                    taken,
                ));
            }
            if numbers.len() > 2 * SEGMENTS_MAX {
                return Err(bad());
            }
        }
    }
}

/// Reads PAX 0.1's map: offsets and lengths in turn, between commas.
pub(super) fn pax_0_1(size: u64, map: &[u8]) -> Option<SparseMap> {
    let numbers: Vec<u64> = std::str::from_utf8(map)
        .ok()?
        .split(',')
        .filter(|number| !number.is_empty())
        .map(|number| number.parse().ok())
        .collect::<Option<_>>()?;
    if !numbers.len().is_multiple_of(2) {
        return None;
    }
    let segments = numbers
        .chunks_exact(2)
        .map(|pair| (pair[0], pair[1]))
        .collect();
    Some(SparseMap { size, segments })
}
