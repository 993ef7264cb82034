//! Random operations on a tree, and what a program sees of them.

use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::RenameFlags;
use rustix::fs::XattrFlags;

/// Numbers that are the same in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    /// A path of few names, so that operations meet.
    fn path(&mut self) -> PathBuf {
        let depth = 1 + self.below(3);
        (0..depth)
            .map(|_| ["a", "b", "c", "d"][self.below(4) as usize])
            .collect()
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Write(PathBuf, u64, u8, usize),
    CreateNew(PathBuf),
    Append(PathBuf, u8),
    Truncate(PathBuf, u64),
    MakeDirectory(PathBuf),
    RemoveDirectory(PathBuf),
    RemoveAll(PathBuf),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, u32),
    Link(PathBuf, PathBuf),
    Symlink(PathBuf, PathBuf),
    Fifo(PathBuf),
    Chmod(PathBuf, u32),
    Chown(PathBuf, u32),
    SetXattr(PathBuf, u8),
    RemoveXattr(PathBuf),
    Stat(PathBuf),
    Read(PathBuf),
    List(PathBuf),
    PunchHole(PathBuf),
}

pub(crate) fn operation(random: &mut Random) -> Operation {
    let path = random.path();
    match random.below(26) {
        0..=2 => Operation::Write(
            path,
            random.below(9000),
            random.below(256) as u8,
            random.below(5000) as usize,
        ),
        3 => Operation::CreateNew(path),
        4 => Operation::Append(path, random.below(256) as u8),
        5 => Operation::Truncate(path, random.below(100_000)),
        6 | 7 => Operation::MakeDirectory(path),
        8 => Operation::RemoveDirectory(path),
        9 => Operation::RemoveAll(path),
        10 | 11 => Operation::Unlink(path),
        12..=14 => Operation::Rename(path, random.path(), [0, 0, 1, 2][random.below(4) as usize]),
        15 | 16 => Operation::Link(path, random.path()),
        17 => Operation::Symlink(path, random.path()),
        18 => Operation::Fifo(path),
        19 => Operation::Chmod(path, random.below(0o10000) as u32),
        20 => Operation::Chown(path, random.below(3) as u32 * 1000),
        21 => Operation::SetXattr(path, random.below(256) as u8),
        22 => Operation::RemoveXattr(path),
        23 => Operation::Stat(path),
        24 => match random.below(2) {
            0 => Operation::Read(path),
            _ => Operation::PunchHole(path),
        },
        _ => Operation::List(path),
    }
}

/// Does an operation below `root`; returns what a program would see of it.
pub(crate) fn apply(root: &Path, operation: &Operation) -> Result<String, i32> {
    let at = |path: &Path| root.join(path);
    let io = |error: std::io::Error| error.raw_os_error().unwrap_or(-1);
    let errno = |error: rustix::io::Errno| error.raw_os_error();
    let done = |()| String::new();
    match operation {
        Operation::Write(path, offset, byte, length) => {
            let file = options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(at(path))
                .map_err(io)?;
            file.write_all_at(&vec![*byte; *length], *offset)
                .map_err(io)
                .map(done)
        }
        Operation::CreateNew(path) => fs::File::create_new(at(path))
            .map_err(io)
            .map(|_| String::new()),
        Operation::Append(path, byte) => {
            let mut file = options().append(true).open(at(path)).map_err(io)?;
            std::io::Write::write_all(&mut file, &[*byte; 100])
                .map_err(io)
                .map(done)
        }
        Operation::Truncate(path, length) => {
            let file = options().write(true).open(at(path)).map_err(io)?;
            file.set_len(*length).map_err(io).map(done)
        }
        Operation::MakeDirectory(path) => fs::create_dir(at(path)).map_err(io).map(done),
        Operation::RemoveDirectory(path) => fs::remove_dir(at(path)).map_err(io).map(done),
        Operation::RemoveAll(path) => fs::remove_dir_all(at(path)).map_err(io).map(done),
        Operation::Unlink(path) => fs::remove_file(at(path)).map_err(io).map(done),
        Operation::Rename(from, to, flags) => {
            let flags = RenameFlags::from_bits_retain(*flags);
            rustix::fs::renameat_with(CWD, at(from), CWD, at(to), flags)
                .map_err(errno)
                .map(done)
        }
        Operation::Link(from, to) => {
            // A tar holds two names of a fifo as two fifos: the layers would differ.
            if fs::symlink_metadata(at(from)).is_ok_and(|stat| !stat.is_file() && !stat.is_dir()) {
                return Err(-1);
            }
            rustix::fs::linkat(CWD, at(from), CWD, at(to), AtFlags::empty())
                .map_err(errno)
                .map(done)
        }
        Operation::Symlink(path, target) => std::os::unix::fs::symlink(target, at(path))
            .map_err(io)
            .map(done),
        Operation::Fifo(path) => {
            rustix::fs::mknodat(CWD, at(path), FileType::Fifo, Mode::from(0o640), 0)
                .map_err(errno)
                .map(done)
        }
        Operation::Chmod(path, mode) => rustix::fs::chmod(at(path), Mode::from(*mode))
            .map_err(errno)
            .map(done),
        Operation::Chown(path, owner) => {
            std::os::unix::fs::lchown(at(path), Some(*owner), Some(*owner + 1))
                .map_err(io)
                .map(done)
        }
        Operation::SetXattr(path, value) => {
            let set = rustix::fs::lsetxattr(at(path), "user.note", &[*value], XattrFlags::empty());
            set.map_err(errno).map(done)
        }
        Operation::RemoveXattr(path) => rustix::fs::lremovexattr(at(path), "user.note")
            .map_err(errno)
            .map(done),
        Operation::Stat(path) => fs::symlink_metadata(at(path)).map_err(io).map(|stat| {
            let size = if stat.is_dir() { 0 } else { stat.len() };
            format!("{:o} {} {} {size}", stat.mode(), stat.uid(), stat.gid())
        }),
        Operation::Read(path) => {
            let is_fifo =
                fs::metadata(at(path)).map_err(io)?.mode() & libc::S_IFMT == libc::S_IFIFO;
            if is_fifo {
                return Ok("a fifo".to_owned());
            }
            fs::read(at(path))
                .map_err(io)
                .map(|bytes| format!("{} {:x}", bytes.len(), sum(&bytes)))
        }
        Operation::List(path) => fs::read_dir(at(path)).map_err(io).map(|entries| {
            let mut names: Vec<String> = entries
                .map(|entry| {
                    let entry = entry.expect("an entry");
                    format!(
                        "{:?} {:?}",
                        entry.file_name(),
                        entry.file_type().expect("a type")
                    )
                })
                .collect();
            names.sort();
            names.join(", ")
        }),
        Operation::PunchHole(path) => {
            let file = options().write(true).open(at(path)).map_err(io)?;
            let flags =
                rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&file, flags, 100, 5000)
                .map_err(errno)
                .map(done)
        }
    }
}

/// Opens nothing that waits for somebody else: a fifo without a reader is an error.
fn options() -> fs::OpenOptions {
    let mut options = fs::File::options();
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    options
}

pub(crate) fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(1, |sum: u64, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
    })
}
