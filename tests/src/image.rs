//! Root filesystems to make images of, made once and kept in the target directory.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// Makes a file once, whatever the number of tests and processes that want it.
fn once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let directory = super::target_dir().join("test-images");
    fs::create_dir_all(&directory).expect("a directory");
    let lock = fs::File::create(directory.join(format!("{name}.lock"))).expect("a lock");
    let _lock =
        nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).expect("the lock");
    let path = directory.join(name);
    if !path.exists() {
        let temporary = directory.join(format!("{name}.new"));
        make(&temporary);
        fs::rename(&temporary, &path).expect("renamed");
    }
    path
}

/// Returns a root of the static busybox, with links for all it can do and two users.
pub fn busybox_tar() -> PathBuf {
    once("busybox.tar", |path| {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        for directory in ["bin", "etc", "root", "tmp", "home", "var", "usr"] {
            fs::create_dir(root.join(directory)).expect("a directory");
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
        let list = super::must("/bin/busybox", &["--list"]);
        for name in list.lines().filter(|name| *name != "busybox") {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("a link");
        }
        let users = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33:web:/home:/bin/sh\n";
        fs::write(root.join("etc/passwd"), users).expect("written");
        let groups = "root:x:0:\nweb:x:33:\nextra:x:50:web\n";
        fs::write(root.join("etc/group"), groups).expect("written");
        let status = Command::new("tar")
            .args([
                "--sort=name",
                "--numeric-owner",
                "--owner=0",
                "--group=0",
                "-cf",
            ])
            .arg(path)
            .arg("-C")
            .arg(root)
            .arg(".")
            .status()
            .expect("tar runs");
        assert!(status.success());
    })
}

/// Returns a root of Debian 12, made by mmdebstrap.
pub fn debian_tar() -> PathBuf {
    once("debian.tar", |path| {
        let status = Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", "--format=tar", "bookworm"])
            .arg(path)
            .status()
            .expect("mmdebstrap runs");
        assert!(status.success());
    })
}

/// Returns a root with Debian's PostgreSQL, its client and busybox, made by mmdebstrap: the packages' files alone, without
/// what a server and psql never read.
pub fn postgres_tar() -> PathBuf {
    once("postgres.tar", |path| {
        let unread = [
            "/usr/share/doc/*",
            "/usr/share/man/*",
            "/usr/share/locale/*",
            "/usr/share/i18n/*",
            "/usr/share/perl*",
            "/usr/bin/perl*",
            "/usr/lib/x86_64-linux-gnu/perl*",
            "*/libperl.so*",
            "*/libLLVM*",
            "*/libz3.so*",
            "*/bitcode/*",
        ];
        let status = Command::new("mmdebstrap")
            .args(["--quiet", "--variant=extract", "--format=tar"])
            .arg("--include=postgresql-15,busybox-static")
            .args(unread.map(|pattern| format!("--dpkgopt=path-exclude={pattern}")))
            .arg("bookworm")
            .arg(path)
            .status()
            .expect("mmdebstrap runs");
        assert!(status.success());
        // What the packages' scripts would have made.
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        for directory in ["bin", "etc", "tmp", "data"] {
            fs::create_dir(root.join(directory)).expect("a directory");
        }
        std::os::unix::fs::symlink("busybox", root.join("bin/sh")).expect("a link");
        let users = "root:x:0:0:root:/:/bin/sh\npostgres:x:101:101::/data:/bin/sh\n";
        fs::write(root.join("etc/passwd"), users).expect("written");
        fs::write(root.join("etc/group"), "root:x:0:\npostgres:x:101:\n").expect("written");
        let append = |owner: &str, mode: &str, names: &[&str]| {
            let status = Command::new("tar")
                .args(["--numeric-owner", "--no-recursion", "-rf"])
                .arg(path)
                .args([&format!("--owner={owner}"), &format!("--group={owner}")])
                .args([&format!("--mode={mode}"), "-C"])
                .arg(root)
                .args(names)
                .status()
                .expect("tar runs");
            assert!(status.success());
        };
        append("0", "0755", &["./bin/sh", "./etc/passwd", "./etc/group"]);
        append("0", "1777", &["./tmp"]);
        append("101", "0700", &["./data"]);
    })
}
