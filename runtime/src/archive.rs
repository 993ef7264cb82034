//! Trees as tars: how files leave and enter containers.

mod bounded;
mod sparse;
mod unpack;

use std::collections::HashMap;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use layerfs::Kind;
use layerfs::Timespec;
use layerfs::WHITEOUT_PREFIX;
use layerfs::union::Change;
use layerfs::union::ChangeKind;
use tar::EntryType;
use tar::Header;

use crate::tree::Last;
use crate::tree::Stat;
use crate::tree::Tree;
use crate::tree::components;

pub(crate) use bounded::Bound;
pub(crate) use unpack::Counted;
pub(crate) use unpack::LONGEST_PATH;
pub(crate) use unpack::Most;
pub(crate) use unpack::Unpack;
pub use unpack::UnpackError;
pub(crate) use unpack::unpack;

/// How deep a tree may be: beyond any path that a program could name.
const DEEPEST: usize = 4096;

/// The beginning of a PAX record that is an attribute.
const XATTR: &str = "SCHILY.xattr.";

/// Writes a node and all below it as a tar, under `name`; an empty name writes only what is below it, `.` the node too.
pub(crate) fn pack<T: Tree, W: Write>(
    tree: &T,
    node: &T::Node,
    name: &[u8],
    out: W,
) -> io::Result<W> {
    let mut packer = Packer::new(out);
    packer.add(tree, node, name, 0)?;
    packer.finish()
}

/// Writes changes, sorted by path, as a layer's tar: what is there as it is, what is gone as a whiteout. With `latest`,
/// nothing was changed after that second.
pub(crate) fn pack_changes<T: Tree, W: Write>(
    tree: &T,
    changes: &[Change],
    latest: Option<i64>,
    out: W,
) -> io::Result<W> {
    let mut packer = Packer::new(out);
    for change in changes {
        let path = change.path.strip_prefix(b"/").unwrap_or(&change.path);
        if change.kind == ChangeKind::Deleted {
            packer.append_whiteout(path)?;
            continue;
        }
        let is_whiteout = components(path)
            .next_back()
            .is_some_and(|name| name.starts_with(WHITEOUT_PREFIX));
        if is_whiteout {
            // A layer has no way to say it.
            log::warn!("{}: not a name for a layer", String::from_utf8_lossy(path));
            continue;
        }
        let node = match tree.resolve(&change.path, Last::Keep) {
            // Gone since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            node => node?,
        };
        let mut stat = tree.stat(&node)?;
        if let Some(latest) = latest {
            stat.mtime = no_later(stat.mtime, latest);
        }
        if stat.kind != Kind::Socket {
            packer.append(tree, &node, path, &stat)?;
        }
    }
    packer.finish()
}

/// Returns a time, or the second that it must not be after.
pub(crate) fn no_later(time: Timespec, latest: i64) -> Timespec {
    match time.secs >= latest {
        true => Timespec {
            secs: latest,
            nanos: 0,
        },
        false => time,
    }
}

/// Writes nodes of trees as a tar, entry by entry.
pub(crate) struct Packer<W: Write> {
    tar: tar::Builder<W>,
    /// The name under which a file with several was packed first.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Packer<W> {
    pub(crate) fn new(out: W) -> Packer<W> {
        Packer {
            tar: tar::Builder::new(out),
            links: HashMap::new(),
        }
    }

    /// Writes the archive's end.
    pub(crate) fn finish(self) -> io::Result<W> {
        self.tar.into_inner()
    }

    fn add<T: Tree>(
        &mut self,
        tree: &T,
        node: &T::Node,
        name: &[u8],
        depth: usize,
    ) -> io::Result<()> {
        let stat = tree.stat(node)?;
        if stat.kind == Kind::Socket {
            // As `tar` and Docker: a socket is nothing without its owner.
            return Ok(());
        }
        if !name.is_empty() {
            self.append(tree, node, name, &stat)?;
        }
        if stat.kind != Kind::Directory {
            return Ok(());
        }
        if depth == DEEPEST {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        for child_name in tree.names(node)? {
            let child = match tree.child(node, &child_name) {
                // Gone since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                child => child?,
            };
            let path = match name {
                b"" | b"." => child_name,
                name => [name, b"/", &child_name].concat(),
            };
            self.add(tree, &child, &path, depth + 1)?;
        }
        Ok(())
    }

    fn append_whiteout(&mut self, path: &[u8]) -> io::Result<()> {
        let (directory, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => path.split_at(at + 1),
            None => (&b""[..], path),
        };
        let path = [directory, WHITEOUT_PREFIX, name].concat();
        let mut header = Header::new_gnu();
        header.set_mode(0o600);
        // Numbers that are not set are no numbers to some readers.
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        header.set_entry_type(EntryType::Regular);
        let path = Path::new(std::ffi::OsStr::from_bytes(&path));
        self.tar.append_data(&mut header, path, io::empty())
    }

    /// Appends a node under `name`, with the metadata of `stat`.
    pub(crate) fn append<T: Tree>(
        &mut self,
        tree: &T,
        node: &T::Node,
        name: &[u8],
        stat: &Stat,
    ) -> io::Result<()> {
        let path = Path::new(std::ffi::OsStr::from_bytes(name));
        if stat.kind != Kind::Directory && stat.nlink > 1 {
            if let Some(first) = self.links.get(&stat.identity) {
                let mut header = header(stat);
                header.set_entry_type(EntryType::Link);
                header.set_size(0);
                let first = Path::new(std::ffi::OsStr::from_bytes(first));
                return self.tar.append_link(&mut header, path, first);
            }
            self.links.insert(stat.identity, name.to_vec());
        }
        let mut xattrs = tree.xattrs(node)?;
        xattrs.sort_unstable();
        match stat.kind {
            Kind::File => self.append_file(name, stat, &xattrs, tree.read(node)?),
            Kind::Symlink => {
                self.append_records(stat, &xattrs)?;
                let target = tree.link_target(node)?;
                let target = Path::new(std::ffi::OsStr::from_bytes(&target));
                self.tar.append_link(&mut header(stat), path, target)
            }
            _ => self.append_empty(name, stat, &xattrs),
        }
    }

    /// Appends a regular file. One that grows or shrinks meanwhile has the length it had.
    pub(crate) fn append_file(
        &mut self,
        name: &[u8],
        stat: &Stat,
        xattrs: &[(Vec<u8>, Vec<u8>)],
        content: impl Read,
    ) -> io::Result<()> {
        self.append_records(stat, xattrs)?;
        let path = Path::new(std::ffi::OsStr::from_bytes(name));
        let padded = content.chain(io::repeat(0)).take(stat.size);
        self.tar.append_data(&mut header(stat), path, padded)
    }

    /// Appends what is all said by its metadata: a directory, a device, a fifo.
    pub(crate) fn append_empty(
        &mut self,
        name: &[u8],
        stat: &Stat,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> io::Result<()> {
        self.append_records(stat, xattrs)?;
        let mut name = name.to_vec();
        if stat.kind == Kind::Directory {
            name.push(b'/');
        }
        let path = Path::new(std::ffi::OsStr::from_bytes(&name));
        self.tar.append_data(&mut header(stat), path, io::empty())
    }

    /// Appends what a plain header has no room for: attributes and nanoseconds.
    fn append_records(&mut self, stat: &Stat, xattrs: &[(Vec<u8>, Vec<u8>)]) -> io::Result<()> {
        let mut records = Vec::new();
        if stat.mtime.nanos != 0 || stat.mtime.secs < 0 {
            records.push(("mtime".to_owned(), decimal(stat.mtime).into_bytes()));
        }
        for (name, value) in xattrs {
            if let Ok(name) = std::str::from_utf8(name) {
                records.push((format!("{XATTR}{name}"), value.clone()));
            }
        }
        if records.is_empty() {
            return Ok(());
        }
        let records = records
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()));
        self.tar.append_pax_extensions(records)
    }
}

fn header(stat: &Stat) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(stat.mode);
    header.set_uid(u64::from(stat.uid));
    header.set_gid(u64::from(stat.gid));
    header.set_mtime(u64::try_from(stat.mtime.secs).unwrap_or(0));
    header.set_size(if stat.kind == Kind::File {
        stat.size
    } else {
        0
    });
    header.set_entry_type(match stat.kind {
        Kind::File | Kind::Socket => EntryType::Regular,
        Kind::Directory => EntryType::Directory,
        Kind::Symlink => EntryType::Symlink,
        Kind::CharDevice => EntryType::Char,
        Kind::BlockDevice => EntryType::Block,
        Kind::Fifo => EntryType::Fifo,
    });
    if matches!(stat.kind, Kind::CharDevice | Kind::BlockDevice) {
        // A GNU header has both fields.
        let _ = header.set_device_major(libc::major(stat.rdev));
        let _ = header.set_device_minor(libc::minor(stat.rdev));
    }
    header
}

fn decimal(time: Timespec) -> String {
    // Nanoseconds count up from the second below, the text away from zero.
    match time.secs < 0 && time.nanos > 0 {
        true => format!("-{}.{:09}", -(time.secs + 1), 1_000_000_000 - time.nanos),
        false => format!("{}.{:09}", time.secs, time.nanos),
    }
}

fn parse_decimal(text: &[u8]) -> Option<Timespec> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let (secs, nanos): (i64, u32) = (whole.parse().ok()?, digits.parse().ok()?);
    Some(match whole.starts_with('-') && nanos > 0 {
        true => Timespec {
            secs: secs.checked_sub(1)?,
            nanos: 1_000_000_000 - nanos,
        },
        false => Timespec { secs, nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_survive_as_text() {
        for time in [
            Timespec { secs: 5, nanos: 7 },
            Timespec { secs: -3, nanos: 0 },
            Timespec {
                secs: -3,
                nanos: 250_000_000,
            },
            Timespec {
                secs: -1,
                nanos: 999_999_999,
            },
        ] {
            assert_eq!(
                parse_decimal(decimal(time).as_bytes()),
                Some(time),
                "{time:?}"
            );
        }
    }
}
