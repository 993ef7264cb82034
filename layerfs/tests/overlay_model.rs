//! The union against the kernel's overlayfs: the same layers, the same random operations, the same answers, error numbers
//! and trees; and the same tree again after a remount.
//!
//! `PLY_MODEL_ROUNDS=10000 cargo test --release -p layerfs --test overlay_model` goes on for long.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use layerfs::DiffId;
use layerfs::Expect;
use layerfs::Store;
use layerfs::Union;
use layerfs::Upper;
use layerfs::fuse;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::RenameFlags;
use rustix::fs::XattrFlags;

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
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
enum Operation {
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

fn operation(random: &mut Random) -> Operation {
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
fn apply(root: &Path, operation: &Operation) -> Result<String, i32> {
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

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(1, |sum: u64, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
    })
}

/// All that the two trees must have in common; a directory's size is the filesystem's own business,
/// and so is the number of links: overlayfs counts names of a layer that a higher one hides.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut directories = vec![PathBuf::new()];
    let mut groups: BTreeMap<u64, PathBuf> = BTreeMap::new();
    while let Some(directory) = directories.pop() {
        let mut names: Vec<_> = fs::read_dir(root.join(&directory))
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        for name in names {
            let path = directory.join(name);
            let full = root.join(&path);
            let stat = fs::symlink_metadata(&full)
                .unwrap_or_else(|error| panic!("{}: {error}", full.display()));
            let mut shown = format!("{:o} {} {}", stat.mode(), stat.uid(), stat.gid());
            if stat.is_dir() {
                directories.push(path.clone());
            } else {
                let first = groups.entry(stat.ino()).or_insert_with(|| path.clone());
                if stat.is_file() {
                    shown.push_str(&format!(" {} as {}", stat.len(), first.display()));
                }
            }
            if stat.is_file() {
                shown.push_str(&format!(" {:x}", sum(&fs::read(&full).expect("read"))));
            }
            if stat.is_symlink() {
                shown.push_str(&format!(" {:?}", fs::read_link(&full).expect("a link")));
            }
            let mut value = [0; 16];
            if let Ok(length) = rustix::fs::lgetxattr(&full, "user.note", &mut value) {
                shown.push_str(&format!(" note {:?}", &value[..length]));
            }
            found.insert(path, shown);
        }
    }
    found
}

/// A mount that is taken away whatever happens.
struct Kernel(PathBuf);

impl Drop for Kernel {
    fn drop(&mut self) {
        let path = CString::new(self.0.as_os_str().as_bytes()).expect("a path");
        let _ = rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH);
    }
}

struct Sides {
    directory: tempfile::TempDir,
    store: Store,
    layers: Vec<DiffId>,
    _kernel: Kernel,
}

impl Sides {
    /// Makes up to three layers by random operations and mounts both sides over them.
    fn new(random: &mut Random) -> Sides {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let store = Store::open(&at("store")).expect("a store");
        let mut layers = Vec::new();
        let mut lowers = Vec::new();
        for number in 0..1 + random.below(3) {
            let lower = at(&format!("lower{number}"));
            fs::create_dir(&lower).expect("a directory");
            for _ in 0..random.below(25) {
                let operation = operation(random);
                let _ = apply(&lower, &operation);
            }
            // Both dialects say the same: a name of the layers below that this one hides.
            for name in ["a", "b", "c", "d"] {
                let there = fs::symlink_metadata(lower.join(name));
                if number > 0 && random.below(5) == 0 && there.is_err() {
                    rustix::fs::mknodat(
                        CWD,
                        lower.join(name),
                        FileType::CharacterDevice,
                        Mode::empty(),
                        0,
                    )
                    .expect("a whiteout");
                } else if number > 0
                    && random.below(5) == 0
                    && there.is_ok_and(|stat| stat.is_dir())
                {
                    rustix::fs::setxattr(
                        lower.join(name),
                        "trusted.overlay.opaque",
                        b"y",
                        XattrFlags::empty(),
                    )
                    .expect("an attribute");
                }
            }
            let tar = Command::new("tar")
                .args([
                    "--xattrs",
                    "--xattrs-include=*",
                    "--numeric-owner",
                    "--format=pax",
                    "-C",
                ])
                .arg(&lower)
                .args(["-c", "."])
                .output()
                .expect("tar runs");
            assert!(tar.status.success());
            layers.push(
                store
                    .ingest(&tar.stdout[..], Expect::default())
                    .expect("a layer")
                    .diff_id,
            );
            lowers.insert(0, lower.display().to_string());
        }
        for name in [
            "upper",
            "work",
            "kernel-upper",
            "kernel-work",
            "kernel",
            "ours",
        ] {
            fs::create_dir(at(name)).expect("a directory");
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={},redirect_dir=on,index=on,metacopy=off",
            lowers.join(":"),
            at("kernel-upper").display(),
            at("kernel-work").display()
        );
        let status = Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(at("kernel"))
            .status()
            .expect("mount runs");
        assert!(status.success());
        let kernel = Kernel(at("kernel"));
        Sides {
            directory,
            store,
            layers,
            _kernel: kernel,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn mount(&self) -> fuse::Serving {
        let stack = self.store.stack(&self.layers).expect("a stack");
        let upper = Upper::open(&self.path("upper"), &self.path("work")).expect("an upper");
        let union = Union::new(stack, Some(upper)).expect("a union");
        let mounted = fuse::mount(
            Arc::new(union),
            &self.path("ours"),
            &fuse::MountOptions::default(),
        );
        mounted.and_then(fuse::Mounted::spawn).expect("a mount")
    }

    fn differences(&self) -> Vec<String> {
        let (kernel, ours) = (tree(&self.path("kernel")), tree(&self.path("ours")));
        let mut words = Vec::new();
        for path in kernel.keys().chain(ours.keys()) {
            if kernel.get(path) != ours.get(path) {
                words.push(format!(
                    "{}\n  kernel {:?}\n  ours   {:?}",
                    path.display(),
                    kernel.get(path),
                    ours.get(path)
                ));
            }
        }
        words.dedup();
        words
    }
}

#[test]
fn the_union_is_what_the_kernels_overlayfs_is() {
    let rounds = std::env::var("PLY_MODEL_ROUNDS").ok();
    let rounds: u64 = rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(60);
    let only: Option<u64> = std::env::var("PLY_MODEL_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    for seed in only.map_or(1..rounds + 1, |seed| seed..seed + 1) {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let sides = Sides::new(&mut random);
        let serving = sides.mount();
        assert!(
            sides.differences().is_empty(),
            "seed {seed}, before: {:#?}",
            sides.differences()
        );
        let mut done = Vec::new();
        for _ in 0..80 {
            let operation = operation(&mut random);
            let kernel = apply(&sides.path("kernel"), &operation);
            let ours = apply(&sides.path("ours"), &operation);
            done.push(format!("{operation:?} -> {kernel:?}"));
            assert_eq!(ours, kernel, "seed {seed}: {done:#?}");
            // The whole trees, now and then: a fault is nearer to its cause.
            if done.len().is_multiple_of(20) {
                let differences = sides.differences();
                assert!(
                    differences.is_empty(),
                    "seed {seed}: {differences:#?} after {done:#?}"
                );
            }
        }
        serving.unmount().expect("unmounted");
        let serving = sides.mount();
        let differences = sides.differences();
        assert!(
            differences.is_empty(),
            "seed {seed}, after a remount: {differences:#?} after {done:#?}"
        );
        serving.unmount().expect("unmounted");
    }
}
