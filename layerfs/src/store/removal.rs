//! Removing trees that somebody else filled.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fd::BorrowedFd;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

/// How many directories are held open, one in the other; far fewer than a process may have.
const MOST_OPEN: usize = 64;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Removes a tree of any depth; one that is not there is no error.
///
/// The standard library holds a descriptor for each level, and so fails where a tree is deeper than a process may open
/// files. Here what lies too deep is first moved up to the top.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let top = match rustix::fs::open(path, DIRECTORY, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return gone(fs::remove_file(path)),
        Err(error) => return Err(error.into()),
    };
    // No name that the tree may have already.
    let mark = format!(".removing.{:016x}.", rand::random::<u64>());
    let mut moved = 0u64;
    loop {
        let before = moved;
        let mut up = |directory: BorrowedFd<'_>, name: &std::ffi::CStr| {
            moved += 1;
            rustix::fs::renameat(directory, name, &top, format!("{mark}{moved}"))
        };
        remove_below(Dir::read_from(&top)?, MOST_OPEN, &mut up)?;
        if moved == before {
            return gone(fs::remove_dir(path));
        }
    }
}

/// Takes it that somebody else has removed it.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes what is in a directory; directories `depth` levels below it are handed to `up`.
fn remove_below(
    mut directory: Dir,
    depth: usize,
    up: &mut dyn FnMut(BorrowedFd<'_>, &std::ffi::CStr) -> Result<(), Errno>,
) -> io::Result<()> {
    while let Some(entry) = directory.read() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let here = directory.fd()?;
        if entry.file_type() != FileType::Directory {
            match rustix::fs::unlinkat(here, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // Most are empty, or will be.
        match rustix::fs::unlinkat(here, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        if depth == 0 {
            up(here, name)?;
            continue;
        }
        let inner = match rustix::fs::openat(here, name, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => continue,
            inner => inner?,
        };
        remove_below(Dir::new(inner)?, depth - 1, up)?;
        match rustix::fs::unlinkat(directory.fd()?, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_of_any_depth_is_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let top = directory.path().join("top");
        let mut deep = top.clone();
        for _ in 0..200 {
            deep.push("d");
            fs::create_dir_all(deep.join("empty")).expect("a directory");
            fs::write(deep.join("f"), "x").expect("a file");
        }
        let outside = directory.path().join("outside");
        fs::write(&outside, "x").expect("a file");
        std::os::unix::fs::symlink(directory.path(), deep.join("link")).expect("a link");
        remove_tree(&top).expect("removed");
        assert!(!top.exists());
        assert!(outside.exists());
        remove_tree(&top).expect("nothing to remove");
    }

    #[test]
    fn a_tree_deeper_than_a_path_may_be_is_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let top = directory.path().join("top");
        fs::create_dir(&top).expect("a directory");
        let mut deep = rustix::fs::open(&top, DIRECTORY, Mode::empty()).expect("opened");
        for _ in 0..3000 {
            rustix::fs::mkdirat(&deep, "directory", Mode::RWXU).expect("made");
            deep =
                rustix::fs::openat(&deep, "directory", DIRECTORY, Mode::empty()).expect("opened");
        }
        remove_tree(&top).expect("removed");
        assert!(!top.exists());
    }
}
