//! The program itself, so that it can be executed beside a container and never be overwritten from inside.
//!
//! A process of ours that is about to become a container's command can be made to execute itself once more in the
//! container, by way of `/proc/self/exe` (CVE-2019-5736): whoever then opens what it executes opens this file. So it is
//! a file on a mount of its own that nobody can write through, or a sealed copy in memory.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::MemfdFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::SealFlags;
use rustix::mount::MountAttrFlags;

use super::mount;

/// The running program behind a descriptor that leads to nothing writable.
#[derive(Debug)]
pub(crate) struct Protected(OwnedFd);

impl Protected {
    /// Protects the running program.
    pub(crate) fn open() -> io::Result<Protected> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let program = rustix::fs::open("/proc/self/exe", flags, Mode::empty())?;
        match on_own_mount(&program) {
            Ok(mount) => Ok(Protected(mount)),
            // An older kernel, no privilege for it, or a program that lies in no mount of ours.
            Err(error) => {
                log::debug!("a mount for the program: {error}");
                Ok(Protected(sealed_copy()?))
            }
        }
    }

    /// Returns a path of it, good in this process and in a child until that executes it.
    pub(crate) fn path(&self) -> PathBuf {
        path_of(&self.0)
    }
}

fn path_of(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Returns a read-only mount of just the file, attached nowhere.
fn on_own_mount(program: &OwnedFd) -> io::Result<OwnedFd> {
    let own = mount::clone_tree(program.as_fd(), false)?;
    let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID;
    mount::set_attributes(own.as_fd(), c"", read_only, 0, false)?;
    Ok(own)
}

/// Returns a copy in memory that can no longer be changed (`memfd_create(2)`, "File sealing").
fn sealed_copy() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(rustix::fs::memfd_create("ply", flags)?);
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    // What is open for writing is not executed.
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::open(
        path_of(&copy.into()),
        flags,
        Mode::empty(),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_ours_and_not_writable(program: &OwnedFd) {
        let path = path_of(program);
        let ours = std::fs::read("/proc/self/exe").expect("the program");
        assert_eq!(std::fs::read(&path).expect("readable"), ours);
        let opened = File::options().write(true).open(&path);
        let written = opened.and_then(|mut file| io::Write::write_all(&mut file, b"x"));
        assert!(written.is_err());
        assert_eq!(std::fs::read(&path).expect("readable"), ours);
    }

    #[test]
    fn a_mount_of_its_own_shows_the_program_and_cannot_be_written() {
        let program = Protected::open().expect("protected");
        is_ours_and_not_writable(&program.0);
        // To write it is refused already because it is being executed.
        let mode = std::fs::metadata(program.path())
            .expect("there")
            .permissions();
        let changed = std::fs::set_permissions(program.path(), mode);
        assert_eq!(
            changed.expect_err("refused").raw_os_error(),
            Some(libc::EROFS)
        );
    }

    #[test]
    fn a_sealed_copy_shows_the_program_and_cannot_be_written() {
        is_ours_and_not_writable(&sealed_copy().expect("a copy"));
    }
}
