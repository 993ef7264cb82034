//! What `ADD` unpacks: tars, plain or compressed with gzip, bzip2, xz or zstd.

use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read;

/// Enough to know a tar's first header.
const HEAD: usize = 512;

/// The most memory that xz may want, which is what its archive says: 16 times what `xz -9` makes it want.
const XZ_MEMORY: u64 = 1 << 30;

/// How something is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

fn of(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, 0x08, ..] => Compression::Gzip,
        [b'B', b'Z', b'h', ..] => Compression::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0x00, ..] => Compression::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Takes the compression off, if there is one.
pub(super) fn decoded<'a>(from: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut from = BufReader::with_capacity(256 << 10, from);
    let kind = of(from.fill_buf()?);
    Ok(match kind {
        Compression::None => Box::new(from),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(from)),
        Compression::Xz => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_auto_decoder(XZ_MEMORY, flags)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(from, stream))
        }
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(from)?),
    })
}

/// Returns whether this is the beginning of a tar, perhaps of a compressed one, as Docker looks for one: something in
/// it that reads as a header.
pub(super) fn is_archive(from: impl Read + Send) -> bool {
    let Ok(mut decoded) = decoded(from) else {
        return false;
    };
    let mut head = [0; HEAD];
    decoded.read_exact(&mut head).is_ok() && is_header(&head)
}

fn is_header(block: &[u8; HEAD]) -> bool {
    let header = tar::Header::from_byte_slice(block);
    let Ok(stated) = header.cksum() else {
        return false;
    };
    let sum: u32 = (0..)
        .zip(block)
        .map(|(at, byte)| match (148..156).contains(&at) {
            true => u32::from(b' '),
            false => u32::from(*byte),
        })
        .sum();
    block[0] != 0 && sum == stated
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o644);
        tar.append_data(&mut header, "f", &b"hi"[..])
            .expect("an entry");
        tar.into_inner().expect("a tar")
    }

    #[test]
    fn tars_are_known_whatever_they_are_compressed_with() {
        use std::io::Write as _;
        let plain = tar();
        let gzip = {
            let level = flate2::Compression::fast();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(&plain).expect("gzip");
            encoder.finish().expect("gzip")
        };
        let bzip2 = {
            let level = bzip2::Compression::fast();
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), level);
            encoder.write_all(&plain).expect("bzip2");
            encoder.finish().expect("bzip2")
        };
        let xz = {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
            encoder.write_all(&plain).expect("xz");
            encoder.finish().expect("xz")
        };
        let zstd = zstd::encode_all(&plain[..], 1).expect("zstd");
        for archive in [&plain, &gzip, &bzip2, &xz, &zstd] {
            assert!(is_archive(&archive[..]));
            let mut out = Vec::new();
            let mut decoder = decoded(&archive[..]).expect("a decoder");
            decoder.read_to_end(&mut out).expect("the tar");
            assert_eq!(out, plain);
        }
        assert!(!is_archive(&b"hello"[..]));
        assert!(!is_archive(&[0; 1024][..]));
        assert!(!is_archive(&[0x1f, 0x8b, 0x08, 0, 1][..]));
    }
}
