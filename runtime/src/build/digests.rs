//! What is remembered of a context's files, so that one that has not changed is not read again.
//!
//! One file a context, `cache/contexts/<device>-<inode of the directory>`, replaced by a rename; whoever reads a damaged
//! one has none. As git's index does, a file is known by device, inode, size, and the times of its last modification and
//! change; and as there, times so near to when the file was looked at that a later change might not show in them are not
//! believed: such files are not remembered.
//!
//! ```text
//! "plydigs\1" | entries, 88 bytes each, sorted by device and inode | sha256 of all before
//! ```

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use layerfs::Digest;

use crate::tree::Stat;

const MAGIC: &[u8; 8] = b"plydigs\x01";
const ENTRY: usize = 88;

/// What a filesystem's clock may lag behind: a tick, and on filesystems that count whole seconds two of them.
const TICK: i128 = 100_000_000;
const SECONDS: i128 = 2_000_000_000;

/// What a file is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Version {
    device: u64,
    inode: u64,
    size: u64,
    mtime: (i64, u32),
    ctime: (i64, u32),
}

impl Version {
    /// Returns what the node is known by; none of a tree that keeps no count of changes.
    pub(super) fn of(stat: &Stat) -> Option<Version> {
        let ctime = stat.ctime?;
        Some(Version {
            device: stat.identity.0,
            inode: stat.identity.1,
            size: stat.size,
            mtime: (stat.mtime.secs, stat.mtime.nanos),
            ctime: (ctime.secs, ctime.nanos),
        })
    }

    /// Returns whether a change after `seen` might leave the times as they are.
    fn is_racy(&self, seen: i128) -> bool {
        let nanos =
            |(secs, nanos): (i64, u32)| i128::from(secs) * 1_000_000_000 + i128::from(nanos);
        let slack = match (self.mtime.1, self.ctime.1) {
            (0, 0) => SECONDS,
            _ => TICK,
        };
        nanos(self.ctime).max(nanos(self.mtime)) + slack >= seen
    }

    fn encode(&self, digest: &Digest, out: &mut Vec<u8>) {
        for number in [self.device, self.inode, self.size] {
            out.extend(number.to_le_bytes());
        }
        for (secs, nanos) in [self.mtime, self.ctime] {
            out.extend(secs.to_le_bytes());
            out.extend(u64::from(nanos).to_le_bytes());
        }
        out.extend(digest.0);
    }

    fn decode(bytes: &[u8; ENTRY]) -> (Version, Digest) {
        let number = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let time = |at: usize| (number(at) as i64, number(at + 8) as u32);
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[56..]);
        let version = Version {
            device: number(0),
            inode: number(8),
            size: number(16),
            mtime: time(24),
            ctime: time(40),
        };
        (version, Digest(digest))
    }
}

/// The digests of a context's files.
#[derive(Debug)]
pub(super) struct Digests {
    path: PathBuf,
    known: HashMap<Version, Digest>,
    /// What was looked at in this build, and when that began.
    fresh: HashMap<Version, Digest>,
    began: i128,
}

impl Digests {
    /// Reads what earlier builds have found of the directory that is known by `context`.
    pub(super) fn open(root: &Path, context: &Stat) -> Digests {
        let (device, inode) = context.identity;
        let path = root.join(format!("cache/contexts/{device:x}-{inode:x}"));
        let known = fs::read(&path).ok().and_then(|bytes| decode(&bytes));
        Digests {
            path,
            known: known.unwrap_or_default(),
            fresh: HashMap::new(),
            began: now(),
        }
    }

    /// Returns the digest of a file that has not changed.
    pub(super) fn known(&self, version: &Version) -> Option<Digest> {
        let digest = self.fresh.get(version).or(self.known.get(version));
        digest.copied()
    }

    /// Remembers a digest; `seen` is when the file was looked at, before it was read.
    pub(super) fn remember(&mut self, version: Version, digest: Digest) {
        if !version.is_racy(self.began) {
            self.fresh.insert(version, digest);
        }
    }

    /// Writes down what is known now; what was not looked at is kept, within bounds, for other Dockerfiles.
    pub(super) fn save(&self) -> io::Result<()> {
        const MOST: usize = 1 << 20;
        let is_new =
            |(version, digest): (&Version, &Digest)| self.known.get(version) != Some(digest);
        if !self.fresh.iter().any(is_new) {
            return Ok(());
        }
        let looked_at: HashMap<(u64, u64), ()> = self
            .fresh
            .keys()
            .map(|version| ((version.device, version.inode), ()))
            .collect();
        let mut all: Vec<(Version, Digest)> = self.fresh.iter().map(|(v, d)| (*v, *d)).collect();
        let room = MOST.saturating_sub(all.len());
        let others = self.known.iter().map(|(v, d)| (*v, *d));
        all.extend(
            others
                .filter(|(version, _)| !looked_at.contains_key(&(version.device, version.inode)))
                .take(room),
        );
        all.sort_unstable_by_key(|(version, _)| *version);
        let mut bytes = MAGIC.to_vec();
        for (version, digest) in &all {
            version.encode(digest, &mut bytes);
        }
        bytes.extend(Digest::of(&bytes).0);
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent)?;
        }
        // Two that write at once spoil each other's, which the sum tells.
        let fresh = self.path.with_extension("new");
        fs::write(&fresh, bytes)?;
        fs::rename(&fresh, &self.path)
    }
}

fn now() -> i128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as i128)
}

fn decode(bytes: &[u8]) -> Option<HashMap<Version, Digest>> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if Digest::of(body).0 != sum {
        return None;
    }
    let entries = body.strip_prefix(MAGIC)?;
    let (entries, []) = entries.as_chunks::<ENTRY>() else {
        return None;
    };
    Some(entries.iter().map(Version::decode).collect())
}

#[cfg(test)]
mod tests {
    use layerfs::Kind;
    use layerfs::Timespec;

    use super::*;

    fn time(nanos: i128) -> Timespec {
        Timespec {
            secs: (nanos / 1_000_000_000) as i64,
            nanos: (nanos % 1_000_000_000) as u32,
        }
    }

    fn stat(inode: u64, changed: i128) -> Stat {
        Stat {
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 3,
            mtime: time(changed),
            ctime: Some(time(changed)),
            rdev: 0,
            nlink: 1,
            identity: (1, inode),
        }
    }

    #[test]
    fn what_was_seen_long_after_its_last_change_is_remembered_and_nothing_else() {
        let root = tempfile::tempdir().expect("a directory");
        let context = stat(99, 0);
        let old = Version::of(&stat(1, now() - 60 * SECONDS + 1)).expect("a version");
        let young = Version::of(&stat(2, now())).expect("a version");
        let mut digests = Digests::open(root.path(), &context);
        digests.remember(old, Digest([1; 32]));
        digests.remember(young, Digest([2; 32]));
        digests.save().expect("saved");
        let digests = Digests::open(root.path(), &context);
        assert_eq!(digests.known(&old), Some(Digest([1; 32])));
        assert_eq!(digests.known(&young), None);
        let mut bytes = fs::read(&digests.path).expect("a file");
        bytes[20] ^= 1;
        fs::write(&digests.path, bytes).expect("damaged");
        let digests = Digests::open(root.path(), &context);
        assert_eq!(digests.known(&old), None, "a damaged file says nothing");
    }
}
