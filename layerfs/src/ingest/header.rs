//! The tar format, block by block: ustar (POSIX.1-1988), PAX (POSIX.1-2001 `pax`, "pax Header Block") and GNU's.

use super::IngestError;
use super::TarSource;
use super::names::components;
use super::names::shown;
use super::sparse;
use super::sparse::SparseMap;
use super::tree::LayerTree;
use super::tree::Misplaced;
use super::writer::LayerWriter;
use crate::index::BuildNode;
use crate::index::Content;
use crate::index::Kind;
use crate::index::Meta;
use crate::index::Timespec;

/// Files up to this length stay in the pack.
pub(super) const PACKED_MAX: u64 = 64 * 1024;
/// The longest extended header that is read into memory.
const EXTENDED_MAX: u64 = 8 << 20;
/// The longest attribute value (`limits.h`, XATTR_SIZE_MAX).
const XATTR_SIZE_MAX: usize = 64 * 1024;
const BLOCK: u64 = 512;

/// What extended headers say of the next entry, or of all that follow.
#[derive(Default, Clone)]
struct Extended {
    path: Option<Vec<u8>>,
    linkpath: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<Timespec>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse_major: Option<u64>,
    sparse_size: Option<u64>,
    sparse_name: Option<Vec<u8>>,
    sparse_map: Option<Vec<u8>>,
}

/// Reads the whole tar: every byte goes to the pack or an object, every entry to the tree.
pub(super) fn read_entries(
    source: &mut TarSource,
    writer: &mut LayerWriter<'_>,
    tree: &mut LayerTree,
) -> Result<(), IngestError> {
    let mut global = Extended::default();
    let mut local: Option<Extended> = None;
    loop {
        let offset = source.offset;
        let mut block = [0; BLOCK as usize];
        if !source.fill(&mut block, "a header")? {
            break;
        }
        writer.keep(&block)?;
        if block == [0; BLOCK as usize] {
            break;
        }
        let header = tar::Header::from_byte_slice(&block);
        check_sum(header, &block).map_err(|fault| IngestError::NotTar { offset, fault })?;
        let bad = |fault| IngestError::NotTar { offset, fault };
        let size = header.entry_size().map_err(|_| bad("bad size"))?;
        match header.entry_type().as_byte() {
            b'x' => {
                let records = read_extended(source, writer, size)?;
                let extended = local.get_or_insert_with(|| global.clone());
                read_pax(&records, extended).map_err(bad)?;
            }
            b'g' => {
                let records = read_extended(source, writer, size)?;
                read_pax(&records, &mut global).map_err(bad)?;
            }
            kind @ (b'L' | b'K') => {
                let mut name = read_extended(source, writer, size)?;
                let end = name
                    .iter()
                    .position(|&byte| byte == 0)
                    .unwrap_or(name.len());
                name.truncate(end);
                let extended = local.get_or_insert_with(|| global.clone());
                match kind {
                    b'L' => extended.path = Some(name),
                    _ => extended.linkpath = Some(name),
                }
            }
            _ => {
                let extended = local.take().unwrap_or_else(|| global.clone());
                Entry::new(header, extended, size)?.read(source, writer, tree)?;
            }
        }
    }
    // Whatever follows the end of the archive still belongs to the layer's digest.
    loop {
        let rest = source.take(u64::MAX);
        if rest.is_empty() {
            return Ok(());
        }
        writer.keep(rest)?;
    }
}

/// Compares the header's checksum with the sum of its bytes, which old tars took as signed.
fn check_sum(header: &tar::Header, block: &[u8; BLOCK as usize]) -> Result<(), &'static str> {
    let stated = header.cksum().map_err(|_| "bad checksum field")?;
    let field = 148..156;
    let bytes = block
        .iter()
        .enumerate()
        .map(|(at, &byte)| if field.contains(&at) { b' ' } else { byte });
    let unsigned: u32 = bytes.clone().map(u32::from).sum();
    let signed: i32 = bytes.map(|byte| i32::from(byte as i8)).sum();
    match stated == unsigned || i64::from(stated) == i64::from(signed) {
        true => Ok(()),
        false => Err("wrong header checksum"),
    }
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}

/// Reads an extended header's payload, which stays in the pack.
fn read_extended(
    source: &mut TarSource,
    writer: &mut LayerWriter<'_>,
    size: u64,
) -> Result<Vec<u8>, IngestError> {
    let what = "an extended header";
    if size > EXTENDED_MAX {
        let fault = format!("{size} bytes long, the limit is {EXTENDED_MAX}");
        return Err(IngestError::Entry {
            name: what.to_owned(),
            fault,
        });
    }
    let mut payload = vec![0; size as usize];
    if !payload.is_empty() && !source.fill(&mut payload, what)? {
        return Err(IngestError::Truncated(what.to_owned()));
    }
    writer.keep(&payload)?;
    writer.keep_from(source, padding(size), what)?;
    Ok(payload)
}

/// Reads PAX records: `LENGTH KEY=VALUE\n`, the value any bytes; an empty one takes the key back.
fn read_pax(mut records: &[u8], extended: &mut Extended) -> Result<(), &'static str> {
    let bad = "bad extended header";
    let mut sparse_pairs = Vec::new();
    while !records.is_empty() && records[0] != 0 {
        let space = records.iter().position(|&byte| byte == b' ').ok_or(bad)?;
        let length: usize = number(&records[..space]).ok_or(bad)?;
        if length <= space + 1 || length > records.len() || records[length - 1] != b'\n' {
            return Err(bad);
        }
        let record = &records[space + 1..length - 1];
        records = &records[length..];
        let equals = record.iter().position(|&byte| byte == b'=').ok_or(bad)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let is_set = !value.is_empty();
        match key {
            b"path" => extended.path = is_set.then(|| value.to_vec()),
            b"linkpath" => extended.linkpath = is_set.then(|| value.to_vec()),
            b"size" => extended.size = optional(value).ok_or(bad)?,
            b"uid" => extended.uid = optional(value).ok_or(bad)?,
            b"gid" => extended.gid = optional(value).ok_or(bad)?,
            b"mtime" if is_set => extended.mtime = Some(time(value).ok_or(bad)?),
            b"mtime" => extended.mtime = None,
            b"GNU.sparse.major" => extended.sparse_major = optional(value).ok_or(bad)?,
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => {
                extended.sparse_size = optional(value).ok_or(bad)?;
            }
            b"GNU.sparse.name" => extended.sparse_name = Some(value.to_vec()),
            b"GNU.sparse.map" => extended.sparse_map = Some(value.to_vec()),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                sparse_pairs.extend_from_slice(value);
                sparse_pairs.push(b',');
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    if name.is_empty() || name.len() > 255 || value.len() > XATTR_SIZE_MAX {
                        return Err("extended attribute too long");
                    }
                    extended.xattrs.retain(|(known, _)| known != name);
                    extended.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
    }
    if !sparse_pairs.is_empty() {
        extended.sparse_map = Some(sparse_pairs);
    }
    Ok(())
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn optional(digits: &[u8]) -> Option<Option<u64>> {
    match digits {
        b"" => Some(None),
        _ => number(digits).map(Some),
    }
}

/// Reads decimal seconds with a fraction, perhaps before the epoch.
fn time(value: &[u8]) -> Option<Timespec> {
    let text = std::str::from_utf8(value).ok()?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !whole
        .bytes()
        .chain(fraction.bytes())
        .all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let secs: i64 = whole.parse().ok()?;
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanos: u32 = digits.parse().ok()?;
    Some(match (negative, nanos) {
        (false, _) => Timespec { secs, nanos },
        (true, 0) => Timespec {
            secs: -secs,
            nanos: 0,
        },
        (true, _) => Timespec {
            secs: -secs - 1,
            nanos: 1_000_000_000 - nanos,
        },
    })
}

/// Returns a number of the header; an empty field is a zero, which the `tar` crate takes for a fault.
pub fn number_field<T: Default>(
    header: &tar::Header,
    field: std::ops::Range<usize>,
    parsed: std::io::Result<T>,
) -> std::io::Result<T> {
    let is_empty = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0 || byte == b' ');
    match is_empty(&header.as_bytes()[field]) {
        true => Ok(T::default()),
        false => parsed,
    }
}

/// One entry, its headers put together.
struct Entry {
    name: String,
    path: Vec<u8>,
    target: Vec<u8>,
    kind: u8,
    meta: Meta,
    stored: u64,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    is_opaque: bool,
    gnu_sparse: Option<Box<tar::Header>>,
    pax_sparse: Option<(Option<u64>, u64, Option<Vec<u8>>)>,
}

impl Entry {
    fn new(header: &tar::Header, extended: Extended, size: u64) -> Result<Entry, IngestError> {
        let path = extended
            .path
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let path = extended.sparse_name.unwrap_or(path);
        let name = shown(&path);
        let bad = |fault: &str| IngestError::Entry {
            name: name.clone(),
            fault: fault.to_owned(),
        };
        let target = match extended.linkpath {
            Some(target) => target,
            None => header
                .link_name_bytes()
                .map(|name| name.into_owned())
                .unwrap_or_default(),
        };
        let id = |given: Option<u64>, field: std::io::Result<u64>, what| {
            let id = given.map_or(field, Ok).map_err(|_| bad(what))?;
            u32::try_from(id).map_err(|_| bad(what))
        };
        let mut flag = header.entry_type().as_byte();
        if matches!(flag, 0 | b'0' | b'7') && path.ends_with(b"/") {
            flag = b'5';
        }
        let kind = match flag {
            0 | b'0' | b'7' | b'S' | b'1' => Kind::File,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'V' => Kind::File,
            _ => return Err(bad(&format!("unknown type {:?}", char::from(flag)))),
        };
        let stored = match flag {
            b'1'..=b'6' => 0,
            _ => extended.size.unwrap_or(size),
        };
        let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        let device = |field: std::io::Result<Option<u32>>, raw| match is_device {
            true => number_field(header, raw, field.map(Option::unwrap_or_default))
                .map_err(|_| bad("bad device number")),
            false => Ok(0),
        };
        let rdev = libc::makedev(
            device(header.device_major(), 329..337)?,
            device(header.device_minor(), 337..345)?,
        );
        let mtime = match extended.mtime {
            Some(mtime) => mtime,
            None => Timespec {
                secs: number_field(header, 136..148, header.mtime()).map_err(|_| bad("bad time"))?
                    as i64,
                nanos: 0,
            },
        };
        let (own, mut xattrs): (Vec<_>, Vec<_>) = extended
            .xattrs
            .into_iter()
            .partition(|(name, _)| is_overlay_xattr(name));
        let is_opaque = own
            .iter()
            .any(|(name, value)| name.ends_with(b".opaque") && value == b"y");
        xattrs.sort();
        let pax_sparse = match (
            extended.sparse_major,
            extended.sparse_size,
            extended.sparse_map,
        ) {
            (None, None, None) => None,
            (major, Some(size), map) => Some((major, size, map)),
            _ => return Err(bad("a sparse file without its length")),
        };
        let meta = Meta {
            kind,
            mode: (number_field(header, 100..108, header.mode()).map_err(|_| bad("bad mode"))?
                & 0o7777) as u16,
            uid: id(
                extended.uid,
                number_field(header, 108..116, header.uid()),
                "bad user id",
            )?,
            gid: id(
                extended.gid,
                number_field(header, 116..124, header.gid()),
                "bad group id",
            )?,
            size: match kind {
                Kind::File => stored,
                Kind::Symlink => target.len() as u64,
                _ => 0,
            },
            nlink: 1,
            rdev,
            mtime,
        };
        if kind == Kind::Symlink && (target.is_empty() || target.len() > 4095) {
            return Err(bad("a symbolic link with an empty or overlong target"));
        }
        let gnu_sparse = (flag == b'S').then(|| Box::new(header.clone()));
        Ok(Entry {
            name,
            path,
            target,
            kind: flag,
            meta,
            stored,
            xattrs,
            is_opaque,
            gnu_sparse,
            pax_sparse,
        })
    }

    fn bad(&self, fault: impl Into<String>) -> IngestError {
        IngestError::Entry {
            name: self.name.clone(),
            fault: fault.into(),
        }
    }

    fn read(
        mut self,
        source: &mut TarSource,
        writer: &mut LayerWriter<'_>,
        tree: &mut LayerTree,
    ) -> Result<(), IngestError> {
        let content = self.read_content(source, writer)?;
        let path = std::mem::take(&mut self.path);
        let path = components(&path).map_err(|fault| self.bad(fault))?;
        let placed = match self.whiteout(&path) {
            Some(Mark::Ignored) => Ok(()),
            Some(Mark::Opaque(directory)) => tree.opaque(directory),
            Some(Mark::Whiteout(path)) => {
                let names: Vec<&[u8]> = path.iter().map(|name| &name[..]).collect();
                tree.whiteout(&names)
            }
            None if self.kind == b'1' => {
                let target = components(&self.target).map_err(|fault| {
                    self.bad(format!("hard link to {}: {fault}", shown(&self.target)))
                })?;
                tree.hard_link(&path, &target)
            }
            None => {
                let target = if self.kind == b'2' {
                    &self.target[..]
                } else {
                    b""
                };
                let (meta, xattrs) = (self.meta, &self.xattrs[..]);
                let node = BuildNode {
                    meta,
                    content,
                    target,
                    lower_link: false,
                    implicit: false,
                    xattrs,
                };
                tree.place(&path, &node)
                    .and_then(|()| match self.is_opaque {
                        true if self.kind == b'5' => tree.opaque(&path),
                        _ => Ok(()),
                    })
            }
        };
        placed.map_err(|misplaced| match misplaced {
            Misplaced::Fault(fault) => self.bad(fault),
            Misplaced::TooLarge => IngestError::TooLarge,
        })
    }

    /// Tells the two dialects' marks from entries: OCI's `.wh.` names, overlayfs's character device 0/0.
    fn whiteout<'p>(&self, path: &'p [&'p [u8]]) -> Option<Mark<'p>> {
        let (name, parents) = path.split_last()?;
        if self.kind == b'V' {
            return Some(Mark::Ignored);
        }
        if self.kind == b'3' && self.meta.rdev == 0 {
            return Some(Mark::Whiteout(
                path.iter().map(|name| name.to_vec()).collect(),
            ));
        }
        let hidden = name.strip_prefix(b".wh.")?;
        if *name == b".wh..wh..opq" {
            return Some(Mark::Opaque(parents));
        }
        if hidden.is_empty() || hidden.starts_with(b".wh.") {
            return Some(Mark::Ignored);
        }
        let path = parents
            .iter()
            .copied()
            .chain([hidden])
            .map(<[u8]>::to_vec)
            .collect();
        Some(Mark::Whiteout(path))
    }

    /// Takes the payload: into the pack when small, else into an object.
    fn read_content(
        &mut self,
        source: &mut TarSource,
        writer: &mut LayerWriter<'_>,
    ) -> Result<Content, IngestError> {
        let mut stored = self.stored;
        let all_stored = stored;
        let map = match (&self.gnu_sparse, &self.pax_sparse) {
            (Some(header), _) => {
                let header = header
                    .as_gnu()
                    .ok_or_else(|| self.bad("a sparse file without GNU header"))?;
                Some(sparse::gnu(header, source, writer, &self.name)?)
            }
            (None, Some((Some(_), size, _))) => {
                let (map, taken) = sparse::pax_1_0(*size, stored, source, writer, &self.name)?;
                stored -= taken;
                Some(map)
            }
            (None, Some((None, size, Some(map)))) => {
                Some(sparse::pax_0_1(*size, map).ok_or_else(|| self.bad("bad sparse map"))?)
            }
            (None, Some((None, size, None))) => Some(SparseMap {
                size: *size,
                segments: Vec::new(),
            }),
            (None, None) => None,
        };
        let content = match map {
            Some(mut map) => {
                if map.segments.is_empty() {
                    map.segments.push((map.size, 0));
                }
                map.check(stored).map_err(|fault| self.bad(fault))?;
                self.meta.size = map.size;
                Content::Object(writer.cut(source, stored, map.size, &map.segments, &self.name)?)
            }
            None if stored == 0 => Content::Nothing,
            None if stored <= PACKED_MAX => {
                let offset = writer.pack_offset();
                writer.keep_from(source, stored, &self.name)?;
                Content::Packed { layer: 0, offset }
            }
            None if stored > i64::MAX as u64 => return Err(self.bad("longer than any file")),
            None => Content::Object(writer.cut(source, stored, stored, &[], &self.name)?),
        };
        writer.keep_from(source, padding(all_stored), &self.name)?;
        Ok(content)
    }
}

/// What a name stands for that is no entry.
enum Mark<'a> {
    Whiteout(Vec<Vec<u8>>),
    Opaque(&'a [&'a [u8]]),
    Ignored,
}

/// Returns whether an attribute is overlayfs's own bookkeeping, which never shows in a layer.
fn is_overlay_xattr(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}
