//! `cp`, `diff`, `export`, `mount`: a container's files, running or not.
#![allow(missing_docs)]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;

use tests::Ply;
use tests::differences;
use tests::must;
use tests::read_tree;

/// Runs a test on a container that runs and on one that does not.
fn on_both(test: impl Fn(&Ply, &str)) {
    let ply = Ply::with_busybox();
    let prepare = "mkdir -p /data/sub; echo one > /data/one; echo two > /data/sub/two; ln -s one /data/link; \
                   ln -s /etc/passwd /data/away; ln /data/one /data/hard; mkfifo /data/pipe; chown 5:6 /data/one; chmod 4711 /data/one";
    ply.run(&["run", "--name", "stopped", "busybox", "sh", "-c", prepare])
        .ok();
    let script = format!("{prepare}; echo ready; sleep 1000");
    ply.run(&[
        "run", "-d", "--name", "running", "busybox", "sh", "-c", &script,
    ])
    .ok();
    tests::eventually("ready", || ply.run(&["logs", "running"]).ok() == "ready");
    test(&ply, "stopped");
    test(&ply, "running");
}

#[test]
fn files_are_copied_out() {
    on_both(|ply, name| {
        let out = ply.directory(&format!("out-{name}"));
        let to = |path: &str| format!("{}/{path}", out.display());
        let from = |path: &str| format!("{name}:{path}");
        ply.run(&["cp", &from("/data/one"), &to("")]).ok();
        ply.run(&["cp", &from("/data/one"), &to("renamed")]).ok();
        ply.run(&["cp", &from("/data"), &to("fresh")]).ok();
        ply.run(&["cp", &from("/data/."), &to("")]).ok();
        ply.run(&["cp", "-L", &from("/data/link"), &to("followed")])
            .ok();
        ply.run(&["cp", "-a", &from("/data/one"), &to("owned")])
            .ok();
        assert_eq!(fs::read_to_string(out.join("one")).expect("read"), "one\n");
        assert_eq!(
            fs::read_to_string(out.join("renamed")).expect("read"),
            "one\n"
        );
        assert_eq!(
            fs::read_to_string(out.join("fresh/sub/two")).expect("read"),
            "two\n"
        );
        assert_eq!(
            fs::read_to_string(out.join("sub/two")).expect("read"),
            "two\n"
        );
        assert_eq!(
            fs::read_to_string(out.join("followed")).expect("read"),
            "one\n"
        );
        assert_eq!(
            fs::read_link(out.join("away"))
                .expect("a link")
                .to_string_lossy(),
            "/etc/passwd"
        );
        let owner = |path: &str| {
            fs::metadata(out.join(path))
                .map(|stat| (stat.uid(), stat.gid()))
                .expect("stat")
        };
        assert_eq!(owner("one"), (0, 0));
        assert_eq!(owner("owned"), (5, 6));
        let same = |path: &str| {
            fs::metadata(out.join(path))
                .map(|stat| stat.ino())
                .expect("stat")
        };
        assert_eq!(same("fresh/one"), same("fresh/hard"));
        ply.run(&["cp", &from("/no/such"), &to("x")]).fails(
            1,
            &format!("Could not find the file /no/such in container {name}"),
        );
        assert!(!out.join("x").exists());
    });
}

#[test]
fn an_archive_of_a_directory_s_contents_has_the_directory_too() {
    on_both(|ply, name| {
        let names = |options: &[&str], path: &str| {
            let from = format!("{name}:{path}");
            let mut command = ply.command(&[&["cp"], options, &[&from, "-"]].concat());
            let output = command.output().expect("ply runs");
            assert!(output.status.success(), "{output:?}");
            let mut tar = tar::Archive::new(output.stdout.as_slice());
            let entries = tar.entries().expect("a tar");
            let names = entries.map(|entry| {
                let entry = entry.expect("an entry");
                String::from_utf8_lossy(&entry.path_bytes()).into_owned()
            });
            names.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(&[], "/data/sub/."), "./ two");
        assert_eq!(names(&[], "/data/sub"), "sub/ sub/two");
        assert_eq!(names(&["-L"], "/data/link"), "one");
        assert_eq!(names(&["-L"], "/data/away"), "passwd");
        assert_eq!(names(&[], "/data/link"), "link");
    });
}

#[test]
fn files_are_copied_in() {
    on_both(|ply, name| {
        let source = ply.directory(&format!("in-{name}"));
        fs::create_dir_all(source.join("dir/deep")).expect("made");
        fs::write(source.join("dir/deep/file"), "inside").expect("written");
        fs::write(source.join("file"), "plain").expect("written");
        std::os::unix::fs::chown(source.join("file"), Some(7), Some(8)).expect("owned");
        let from = |path: &str| format!("{}/{path}", source.display());
        let to = |path: &str| format!("{name}:{path}");
        ply.run(&["cp", &from("file"), &to("/tmp/")]).ok();
        ply.run(&["cp", &from("file"), &to("/data/one")]).ok();
        ply.run(&["cp", "-a", &from("file"), &to("/tmp/owned")])
            .ok();
        ply.run(&["cp", &from("dir"), &to("/tmp")]).ok();
        ply.run(&["cp", &from("dir"), &to("/fresh")]).ok();
        ply.run(&["cp", &from("dir/."), &to("/data/sub")]).ok();
        let shown = |path: &str| {
            let tar = ply
                .command(&["cp", &to(path), "-"])
                .output()
                .expect("ply runs")
                .stdout;
            let file = ply.path("shown.tar");
            fs::write(&file, tar).expect("written");
            let file = file.to_string_lossy().into_owned();
            (
                must("tar", &["-xOf", &file]),
                must("tar", &["--numeric-owner", "-tvf", &file]),
            )
        };
        assert_eq!(shown("/tmp/file").0, "plain");
        assert!(shown("/tmp/file").1.contains(" 7/8 "));
        assert!(shown("/tmp/owned").1.contains(" 7/8 "));
        assert_eq!(
            shown("/data/hard").0,
            "plain",
            "a file that is there keeps its other names"
        );
        assert_eq!(shown("/tmp/dir/deep/file").0, "inside");
        assert_eq!(shown("/fresh/deep/file").0, "inside");
        assert_eq!(shown("/data/sub/deep/file").0, "inside");
        ply.run(&["cp", &from("file"), &to("/none/")])
            .fails(1, "must exist");
        ply.run(&["cp", &from("dir"), &to("/data/one")])
            .fails(1, "cannot copy directory to file");
        ply.run(&["cp", &from("nothing"), &to("/tmp")])
            .fails(1, "no such file or directory");
        let hostile = ply.path("hostile.tar");
        let mut tar = tar::Builder::new(fs::File::create(&hostile).expect("a file"));
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..10].copy_from_slice(b"../outside");
        header.set_size(0);
        header.set_cksum();
        tar.append(&header, std::io::empty()).expect("an entry");
        tar.into_inner().expect("a tar");
        ply.run_with(
            &["cp", "-", &to("/tmp")],
            &fs::read(&hostile).expect("read"),
        )
        .fails(1, "invalid path in archive");
    });
}

#[test]
fn owners_of_what_is_copied_in_are_kept_and_who_may_read_it() {
    on_both(|ply, name| {
        let source = ply.directory(&format!("owned-{name}"));
        let pack = |path: &str| {
            fs::create_dir_all(source.join("dir")).expect("made");
            let path = source.join(path);
            fs::write(&path, "mine").expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("closed");
            std::os::unix::fs::chown(&path, Some(33), Some(50)).expect("owned");
        };
        pack("file");
        pack("dir/file");
        std::os::unix::fs::chown(source.join("dir"), Some(70), Some(70)).expect("owned");
        let from = |path: &str| format!("{}/{path}", source.display());
        let to = |path: &str| format!("{name}:{path}");
        ply.run(&["cp", &from("file"), &to("/data/one")]).ok();
        ply.run(&["cp", &from("dir"), &to("/srv")]).ok();
        let tar = ply.path("owned.tar").to_string_lossy().into_owned();
        must("tar", &["-C", &from(""), "-cf", &tar, "dir"]);
        ply.run_with(&["cp", "-", &to("/tmp")], &fs::read(&tar).expect("read"))
            .ok();
        let image = format!("owned-{name}");
        ply.run(&["commit", name, &image]).ok();
        let stat = ["stat", "-c", "%n %u:%g %a"];
        let paths = [
            "/data/one",
            "/srv",
            "/srv/file",
            "/tmp/dir",
            "/tmp/dir/file",
        ];
        let run = ["run", "--rm", "--network", "none"];
        let seen = ply.run(&[&run[..], &[&image], &stat, &paths].concat());
        assert_eq!(
            seen.ok(),
            "/data/one 33:50 600\n/srv 70:70 755\n/srv/file 33:50 600\n/tmp/dir 70:70 755\n/tmp/dir/file 33:50 600"
        );
        let cat = [&image, "cat", "/srv/file"];
        let read = ply.run(&[&run[..], &["-u", "33"], &cat].concat());
        assert_eq!(read.ok(), "mine");
    });
}

#[test]
fn what_the_kernel_shows_in_a_container_is_not_its_files() {
    let ply = Ply::with_busybox();
    let run = ["run", "-d", "--network", "none", "--name", "x1"];
    ply.run(&[&run[..], &["busybox", "sleep", "1000"]].concat())
        .ok();
    let out = ply.directory("out").to_string_lossy().into_owned();
    for path in ["/proc/version", "/proc/sys", "/sys/kernel/mm"] {
        let words = format!("Could not find the file {path} in container x1");
        let from = format!("x1:{path}");
        ply.run(&["cp", &from, &out]).fails(1, &words);
        ply.run(&["cp", &from, "-"]).fails(1, &words);
    }
    ply.run(&["cp", "x1:/proc", &out]).ok();
    let mut proc = fs::read_dir(ply.path("out/proc")).expect("a directory");
    assert!(proc.next().is_none());
    ply.run(&["cp", "/proc/version", "x1:/tmp"])
        .fails(1, "its length is not known before it is read");
    ply.remove_all();
}

#[test]
fn a_container_s_links_lead_nowhere_on_the_host() {
    let ply = Ply::with_busybox();
    let secret = ply.path("secret");
    fs::write(&secret, "the host's").expect("written");
    let script = format!(
        "ln -s {} /leak; ln -s / /root-link; sleep 1000",
        secret.display()
    );
    ply.run(&["run", "-d", "--name", "c1", "busybox", "sh", "-c", &script])
        .ok();
    tests::eventually("the link is there", || {
        ply.run(&["diff", "c1"]).ok().contains("/root-link")
    });
    ply.run(&["cp", "-L", "c1:/leak", "out"])
        .fails(1, "Could not find the file");
    fs::write(ply.path("new"), "x").expect("written");
    let target = format!("c1:/root-link{}", secret.display());
    ply.run(&["cp", "new", &target])
        .fails(1, "Could not find the file");
    assert_eq!(fs::read_to_string(&secret).expect("read"), "the host's");
}

#[test]
fn diff_tells_the_same_of_a_running_and_a_stopped_container() {
    on_both(|ply, name| {
        let diff = ply.run(&["diff", name]);
        assert_eq!(
            diff.ok(),
            "A /data\nA /data/away\nA /data/hard\nA /data/link\nA /data/one\nA /data/pipe\nA /data/sub\nA /data/sub/two"
        );
    });
}

#[test]
fn export_is_the_tree_that_mount_shows() {
    on_both(|ply, name| {
        let (exported, mounted) = (ply.directory("exported"), ply.directory("mounted"));
        let tar = ply.path("export.tar");
        ply.run(&["export", "-o", &tar.to_string_lossy(), name])
            .ok();
        must(
            "tar",
            &[
                "-C",
                &exported.to_string_lossy(),
                "--xattrs",
                "-xpf",
                &tar.to_string_lossy(),
            ],
        );
        ply.run(&["mount", name, &mounted.to_string_lossy()]).ok();
        let differences = differences(&read_tree(&exported), &read_tree(&mounted));
        ply.run(&["umount", &mounted.to_string_lossy()]).ok();
        assert!(differences.is_empty(), "{differences:#?}");
        fs::remove_dir_all(&exported).expect("removed");
        assert!(
            fs::read_dir(&mounted)
                .expect("a directory")
                .next()
                .is_none()
        );
    });
}

#[test]
fn a_mounted_container_can_be_changed_from_the_host() {
    let ply = Ply::with_busybox();
    let mounted = ply.directory("mounted");
    ply.run(&["create", "--name", "c1", "busybox", "cat", "/from-host"])
        .ok();
    ply.run(&["mount", "c1", &mounted.to_string_lossy()]).ok();
    fs::write(mounted.join("from-host"), "hello\n").expect("written");
    for refused in [["start", "c1"], ["rm", "c1"], ["diff", "c1"]] {
        ply.run(&refused).fails(1, "is mounted on");
    }
    ply.run(&["umount", &mounted.to_string_lossy()]).ok();
    assert_eq!(ply.run(&["start", "-a", "c1"]).ok(), "hello");
}

#[test]
fn layers_and_images_are_mounted_read_only() {
    let ply = Ply::new();
    let mounted = ply.directory("mounted");
    let at = mounted.to_string_lossy().into_owned();
    ply.run(&["run", "--rm", "hello-world"]).ok();
    let message = || fs::read_to_string(mounted.join("message")).expect("read");
    ply.run(&["mount", "hello-world", &at]).ok();
    assert_eq!(message(), "Hello from the second layer!\n");
    assert!(fs::write(mounted.join("new"), "x").is_err());
    assert!(ply.run(&["mount"]).ok().contains("hello-world"));
    ply.run(&["umount", &at]).ok();
    ply.run(&["mount", "--layer", "1", "hello-world", &at]).ok();
    assert_eq!(message(), "Hello from the first layer.\n");
    ply.run(&["umount", &at]).ok();
    ply.run(&["umount", &at]).fails(1, "not mounted");
    ply.run(&["mount", "--layer", "3", "hello-world", &at])
        .fails(1, "image hello-world has no layer 3");
    ply.run(&["mount", "nosuch", &at])
        .fails(1, "No such image: nosuch:latest");
    ply.run(&["mount", "hello-world", "/no/such/dir"])
        .fails(1, "cannot mount on /no/such/dir");
}

#[test]
fn setuid_files_and_devices_of_a_mount_have_no_effect_on_the_host() {
    on_both(|ply, name| {
        let mounted = ply.directory("mounted");
        let at = mounted.to_string_lossy().into_owned();
        let options = || {
            let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
            let line = mounts
                .lines()
                .find(|line| line.split(' ').nth(1) == Some(&at));
            line.expect("it is mounted")
                .split(' ')
                .nth(3)
                .unwrap_or_default()
                .to_owned()
        };
        for what in [name, "busybox"] {
            ply.run(&["mount", what, &at]).ok();
            let options = options();
            ply.run(&["umount", &at]).ok();
            for option in ["nosuid", "nodev"] {
                assert!(
                    options.split(',').any(|found| found == option),
                    "{what}: {options}"
                );
            }
        }
    });
}

#[test]
fn a_mount_whose_server_was_killed_is_taken_away_by_the_next_command() {
    let ply = Ply::with_busybox();
    let mounted = ply.directory("mounted");
    let at = mounted.to_string_lossy().into_owned();
    let is_mounted = || {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        mounts
            .lines()
            .any(|line| line.split(' ').nth(1) == Some(&at))
    };
    ply.run(&["mount", "busybox", &at]).ok();
    assert_eq!(ply.run(&["mount"]).ok().lines().count(), 2);
    for pid in ply.processes() {
        let pid = nix::unistd::Pid::from_raw(pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
    tests::eventually("the server is dead", || ply.processes().is_empty());
    assert!(is_mounted());
    assert_eq!(ply.run(&["mount"]).ok().lines().count(), 1);
    assert!(!is_mounted());
    // The same for one that a container's monitor has served.
    ply.run(&["run", "-d", "--name", "c1", "busybox", "sleep", "1000"])
        .ok();
    ply.run(&["mount", "c1", &at]).ok();
    assert_eq!(ply.run(&["mount"]).ok().lines().count(), 2);
    ply.run(&["rm", "-f", "c1"]).ok();
    ply.run(&["ps"]).ok();
    assert!(!is_mounted());
}
