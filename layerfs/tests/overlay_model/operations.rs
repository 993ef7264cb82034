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
    /// Writes through a shared mapping.
    Map(PathBuf, u64, u8),
    /// Gives a second user rights; with `true` to all that is made in the directory.
    SetAcl(PathBuf, bool),
    /// Makes a file with a name of so many bytes.
    LongName(PathBuf, usize),
    /// Opens a file for later.
    Hold(PathBuf),
    /// Writes to, cuts or reads what is held, whether it has a name or not.
    UseHeld(u8),
}

impl Operation {
    /// Returns whether a layer can be made by it: in a tar there are no lists, and nothing is held between layers.
    pub(crate) fn makes_layers(&self) -> bool {
        !matches!(
            self,
            Operation::SetAcl(..)
                | Operation::LongName(..)
                | Operation::Hold(_)
                | Operation::UseHeld(_)
        )
    }
}

/// `acl(5)` as the kernel takes it: the owner, user 1000, the group, the mask, others.
const ACL: [(u16, u16, u32); 5] = [
    (1, 6, u32::MAX),
    (2, 7, 1000),
    (4, 5, u32::MAX),
    (16, 7, u32::MAX),
    (32, 4, u32::MAX),
];

fn acl() -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in ACL {
        value.extend(tag.to_le_bytes());
        value.extend(rights.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

pub(crate) fn operation(random: &mut Random) -> Operation {
    let path = random.path();
    match random.below(32) {
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
        25 => Operation::Map(path, random.below(9000), random.below(256) as u8),
        26 => Operation::SetAcl(path, random.below(2) == 0),
        27 => match random.below(4) {
            0 => Operation::LongName(path, 254 + random.below(4) as usize),
            _ => Operation::Hold(path),
        },
        28 | 29 => Operation::UseHeld(random.below(256) as u8),
        _ => Operation::List(path),
    }
}

/// Does an operation below `root`; returns what a program would see of it.
pub(crate) fn apply(
    root: &Path,
    operation: &Operation,
    held: &mut Option<fs::File>,
) -> Result<String, i32> {
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
        Operation::Map(path, offset, byte) => {
            let file = options()
                .read(true)
                .write(true)
                .open(at(path))
                .map_err(io)?;
            if !file.metadata().is_ok_and(|stat| stat.len() > *offset) {
                return Ok("too short".to_owned());
            }
            // SAFETY: nobody else changes the file meanwhile.
            let mut mapped = unsafe { memmap2::MmapMut::map_mut(&file) }.map_err(io)?;
            mapped[*offset as usize] = *byte;
            Ok(format!("{:x}", sum(&mapped)))
        }
        Operation::SetAcl(path, by_default) => {
            let name = match by_default {
                true => "system.posix_acl_default",
                false => "system.posix_acl_access",
            };
            rustix::fs::setxattr(at(path), name, &acl(), XattrFlags::empty())
                .map_err(errno)
                .map(done)
        }
        Operation::LongName(path, length) => {
            let name = "x".repeat(*length);
            fs::write(at(path).with_file_name(name), "long")
                .map_err(io)
                .map(done)
        }
        Operation::Hold(path) => {
            *held = None;
            let file = options()
                .read(true)
                .write(true)
                .open(at(path))
                .map_err(io)?;
            let is_file = file.metadata().map_err(io)?.is_file();
            *held = is_file.then_some(file);
            Ok(format!("a file: {is_file}"))
        }
        Operation::UseHeld(byte) => {
            let Some(file) = held else {
                return Ok("nothing".to_owned());
            };
            match byte % 3 {
                0 => file
                    .write_all_at(&[*byte; 700], u64::from(*byte) * 10)
                    .map_err(io)?,
                1 => file.set_len(u64::from(*byte) * 50).map_err(io)?,
                _ => {}
            }
            let stat = file.metadata().map_err(io)?;
            let mut content = vec![0; stat.len() as usize];
            file.read_exact_at(&mut content, 0).map_err(io)?;
            Ok(format!("{:o} {:x}", stat.mode(), sum(&content)))
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
