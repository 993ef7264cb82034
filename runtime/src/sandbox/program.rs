//! Finding the command, with Docker's words and exit codes where it cannot be run.

use std::ffi::CString;
use std::io;

use rustix::fs::Access;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FileType;

/// The exit codes of a command that cannot be run and of one that is not there.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// The search path of an environment that has none.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a command cannot be run: an exit code and words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unrunnable(pub(super) u8, pub(super) String);

/// Returns the file to execute for `name`, looked up in `path` as a shell would, seen from the calling process.
pub(super) fn find(name: &str, path: &str) -> Result<CString, Unrunnable> {
    find_with(name, path, &executable)
}

fn find_with(
    name: &str,
    path: &str,
    executable: &dyn Fn(&str) -> io::Result<()>,
) -> Result<CString, Unrunnable> {
    let c_string = |text: &str| {
        CString::new(text)
            .map_err(|_| Unrunnable(CANNOT_RUN, format!("exec: {name:?}: invalid argument")))
    };
    if name.contains('/') {
        return match executable(name) {
            Ok(()) => c_string(name),
            Err(error) => Err(words(name, &error)),
        };
    }
    if !name.is_empty() {
        for directory in path.split(':') {
            let directory = if directory.is_empty() { "." } else { directory };
            let candidate = format!("{directory}/{name}");
            if executable(&candidate).is_ok() {
                return c_string(&candidate);
            }
        }
    }
    Err(Unrunnable(
        NOT_FOUND,
        format!("exec: {name:?}: executable file not found in $PATH"),
    ))
}

fn words(name: &str, error: &io::Error) -> Unrunnable {
    match error.raw_os_error() {
        Some(libc::ENOENT) => Unrunnable(
            NOT_FOUND,
            format!("exec: {name:?}: stat {name}: no such file or directory"),
        ),
        Some(libc::ENOTDIR) => Unrunnable(
            CANNOT_RUN,
            format!("exec: {name:?}: stat {name}: not a directory"),
        ),
        Some(libc::EISDIR) => Unrunnable(CANNOT_RUN, format!("exec: {name:?}: is a directory")),
        _ => Unrunnable(CANNOT_RUN, format!("exec: {name:?}: permission denied")),
    }
}

/// Returns the words for an exec that the kernel refused.
pub(super) fn refused(name: &str, error: &io::Error) -> Unrunnable {
    match error.raw_os_error() {
        // The interpreter or loader is missing: the file itself was there.
        Some(libc::ENOENT) => {
            Unrunnable(NOT_FOUND, format!("exec {name}: no such file or directory"))
        }
        Some(libc::ENOEXEC) => Unrunnable(CANNOT_RUN, format!("exec {name}: exec format error")),
        Some(libc::EACCES) => Unrunnable(CANNOT_RUN, format!("exec {name}: permission denied")),
        _ => Unrunnable(CANNOT_RUN, format!("exec {name}: {error}")),
    }
}

/// Checks that the calling process may execute the file.
fn executable(path: &str) -> io::Result<()> {
    let stat = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    Ok(rustix::fs::accessat(
        CWD,
        path,
        Access::EXEC_OK,
        AtFlags::EACCESS,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(path: &str) -> io::Result<()> {
        match path {
            "/bin/sh" | "/opt/x" | "./here" => Ok(()),
            "/etc/passwd" | "/usr/bin/sh" => Err(io::Error::from_raw_os_error(libc::EACCES)),
            "/etc" => Err(io::Error::from_raw_os_error(libc::EISDIR)),
            _ => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        }
    }

    fn of(name: &str, path: &str) -> Result<String, Unrunnable> {
        find_with(name, path, &tree).map(|found| found.into_string().expect("UTF-8"))
    }

    #[test]
    fn the_first_executable_in_the_path_is_taken() {
        assert_eq!(of("sh", "/usr/bin:/bin").as_deref(), Ok("/bin/sh"));
        assert_eq!(of("/opt/x", "").as_deref(), Ok("/opt/x"));
        assert_eq!(of("here", "/a:").as_deref(), Ok("./here"));
    }

    #[test]
    fn what_cannot_be_run_is_told_in_docker_s_words() {
        let error = |name| of(name, DEFAULT_PATH).expect_err("not runnable");
        assert_eq!(
            error("nosuchcmd"),
            Unrunnable(
                127,
                "exec: \"nosuchcmd\": executable file not found in $PATH".to_owned()
            )
        );
        assert_eq!(
            error("/etc/passwd"),
            Unrunnable(126, "exec: \"/etc/passwd\": permission denied".to_owned())
        );
        assert_eq!(
            error("/no/such"),
            Unrunnable(
                127,
                "exec: \"/no/such\": stat /no/such: no such file or directory".to_owned()
            )
        );
        assert_eq!(
            error("/etc"),
            Unrunnable(126, "exec: \"/etc\": is a directory".to_owned())
        );
        assert_eq!(error("").0, 127);
    }
}
