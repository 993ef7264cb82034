//! The field's known ways out of a container, each tried.
#![allow(missing_docs)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use tests::Ply;
use tests::Server;
use tests::Terminal;
use tests::eventually;
use tests::must;

/// A directory of the host's beside the engine, with a file that no container may see or change.
fn outside(ply: &Ply) -> PathBuf {
    let outside = ply.directory("outside");
    fs::write(outside.join("secret"), "the host's\n").expect("a file");
    outside
}

/// Checks that nobody has changed it.
#[track_caller]
fn is_as_it_was(outside: &Path) {
    let names: Vec<_> = fs::read_dir(outside)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(names, ["secret"]);
    let secret = fs::read_to_string(outside.join("secret")).expect("text");
    assert_eq!(secret, "the host's\n");
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains(&outside.display().to_string()), "{mounts}");
}

/// A link's target that leads from anywhere in a container to a path of the host, if it is followed there.
fn out_to(path: &Path) -> String {
    format!("/../../../../../../../..{}", path.display())
}

/// Makes image `hostile` of busybox after `script`.
fn hostile(ply: &Ply, script: &str) {
    ply.run(&["run", "--name", "maker", "busybox", "sh", "-c", script])
        .ok();
    ply.run(&["commit", "-c", "CMD [\"sh\"]", "maker", "hostile"])
        .ok();
    ply.run(&["rm", "maker"]).ok();
}

/// CVE-2019-5736: what `exec` executes is made to be the engine's own program, which is then opened to be written.
#[test]
fn the_engine_s_program_is_not_written_by_way_of_exec() {
    let ply = Ply::with_busybox();
    let before = fs::read(Ply::program()).expect("a program");
    let catcher = "while :; do for p in /proc/[0-9]*; do test $p = /proc/1 || \
        { echo caught >> $p/exe && echo $p >> /written; } 2>/dev/null; done; done";
    for options in [&[][..], &["--privileged"]] {
        let run = ["run", "-d", "--name", "c1"];
        ply.run(&[&run[..], options, &["busybox", "sh", "-c", catcher]].concat())
            .ok();
        let evil = "printf '#!/proc/self/exe\\n' > /evil; chmod 755 /evil";
        ply.run(&["exec", "c1", "sh", "-c", evil]).ok();
        for _ in 0..20 {
            let output = ply.run(&["exec", "c1", "/evil"]);
            assert_ne!(output.code, 0, "{output:?}");
        }
        assert_ne!(
            ply.run(&["exec", "c1", "cat", "/written"]).code,
            0,
            "nothing was written"
        );
        ply.run(&["rm", "-f", "c1"]).ok();
    }
    assert!(fs::read(Ply::program()).expect("a program") == before);
}

/// CVE-2024-21626: a working directory that is a descriptor of the engine's.
#[test]
fn no_descriptor_of_the_engine_s_is_a_working_directory() {
    let ply = Ply::with_busybox();
    hostile(
        &ply,
        "for n in 3 4 5 6 7 8 9 10 11 12; do ln -s /proc/self/fd/$n /fd$n; done",
    );
    for number in 3..=12 {
        for directory in [
            format!("/proc/self/fd/{number}"),
            format!("/fd{number}"),
            format!("/proc/1/fd/{number}/.."),
        ] {
            let output = ply.run(&[
                "run",
                "--rm",
                "-w",
                &directory,
                "hostile",
                "sh",
                "-c",
                "cat ../../../../../etc/hostname",
            ]);
            assert!(output.code >= 125, "{directory}: {output:?}");
        }
    }
    let listed = ply.run(&["run", "--rm", "busybox", "ls", "/proc/self/fd"]);
    assert_eq!(listed.ok(), "0\n1\n2\n3", "the fourth is ls's own");
}

/// CVE-2018-15664: a directory in a container becomes a link to the host's while files are copied.
#[test]
fn links_that_come_and_go_lead_no_copy_to_the_host() {
    let ply = Ply::with_busybox();
    let outside = outside(&ply);
    let target = out_to(&outside);
    let swap = format!(
        "mkdir /real; echo inside > /real/secret; ln -s {target} /link; ln -s {} /absolute; cp -r /real /dir; touch /ready; \
         while :; do mv /dir /away; mv /link /dir; mv /dir /link; mv /away /dir; done",
        outside.display()
    );
    ply.run(&["run", "-d", "--name", "c1", "busybox", "sh", "-c", &swap])
        .ok();
    eventually("it swaps", || {
        ply.run(&["exec", "c1", "test", "-e", "/ready"]).code == 0
    });
    let (into, file) = (ply.directory("into"), ply.path("file"));
    fs::write(&file, "changed\n").expect("a file");
    let file = file.display().to_string();
    for round in 0..60 {
        let to = into.join(round.to_string()).display().to_string();
        ply.run(&["cp", "c1:/dir/secret", &to]);
        if let Ok(text) = fs::read_to_string(&to) {
            assert!(matches!(&text[..], "inside\n" | "changed\n"), "{text}");
        }
        ply.run(&["cp", &file, "c1:/dir/secret"]);
        ply.run(&["cp", &file, "c1:/dir/new"]);
        let packed = ply.run(&["cp", "c1:/dir/.", "-"]);
        assert!(!packed.out.contains("the host's"), "{packed:?}");
        is_as_it_was(&outside);
    }
    ply.run(&["cp", "-L", "c1:/absolute/secret", "-"])
        .fails(1, "Could not find the file");
    ply.run(&["cp", &file, "c1:/absolute/new"]);
    is_as_it_was(&outside);
}

/// CVE-2019-14271: a library of the container's is loaded by a process of the host's that helps to copy.
#[test]
fn nothing_of_a_container_is_executed_to_copy_or_to_find_a_user() {
    let ply = Ply::with_busybox();
    let marker = ply.path("marker");
    let source = ply.path("evil.c");
    let code = format!(
        "#include <fcntl.h>\n__attribute__((constructor)) static void run(void) {{ open(\"{}\", O_CREAT | O_WRONLY, 0600); }}\n",
        marker.display()
    );
    fs::write(&source, code).expect("a file");
    let library = ply.path("evil.so");
    let built = Command::new("gcc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status();
    assert!(built.expect("gcc runs").success());
    ply.run(&["create", "--name", "c1", "busybox", "sleep", "1000"])
        .ok();
    let names = [
        "libnss_files.so.2",
        "libnss_dns.so.2",
        "libc.so.6",
        "libresolv.so.2",
    ];
    for directory in [
        "/lib",
        "/lib/x86_64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu",
        "/lib64",
    ] {
        for name in names {
            let target = format!("c1:{directory}/{name}");
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            let content = fs::read(&library).expect("a library");
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            let path = format!("{directory}/{name}");
            tar.append_data(&mut header, path.trim_start_matches('/'), &content[..])
                .expect("packed");
            let tar = tar.into_inner().expect("packed");
            let output = ply.run_with(&["cp", "-", "c1:/"], &tar);
            assert_eq!(output.code, 0, "{target}: {output:?}");
        }
    }
    ply.run(&["start", "c1"]).ok();
    ply.run(&[
        "cp",
        "c1:/etc/passwd",
        &ply.path("passwd").display().to_string(),
    ])
    .ok();
    ply.run(&["cp", "-a", &source.display().to_string(), "c1:/tmp"])
        .ok();
    ply.run(&["exec", "-u", "web", "c1", "id"]).ok();
    assert!(!marker.exists());
}

/// CVE-2021-30465, CVE-2019-19921: the place of a mount is a link to the host.
#[test]
fn mounts_stay_in_the_container_whatever_their_place_is() {
    let ply = Ply::with_busybox();
    let outside = outside(&ply);
    let target = out_to(&outside);
    hostile(
        &ply,
        &format!(
            "mkdir -p {0}; ln -s {target} /link; ln -s {0} /absolute; rm -rf /var; ln -s {target} /var; ln -s .. /up",
            outside.display()
        ),
    );
    let source = ply.directory("source");
    fs::write(source.join("file"), "shown\n").expect("a file");
    for place in ["/link/sub", "/absolute/sub", "/var/sub", "/up/up/sub"] {
        let volume = format!("{}:{place}", source.display());
        let output = ply.run(&[
            "run",
            "--rm",
            "-v",
            &volume,
            "hostile",
            "cat",
            &format!("{place}/file"),
        ]);
        assert_eq!(output.ok(), "shown", "{place}");
        let tmpfs = ply.run(&["run", "--rm", "--tmpfs", place, "hostile", "true"]);
        assert_eq!(tmpfs.code, 0, "{tmpfs:?}");
        is_as_it_was(&outside);
    }
    let device = ply.run(&[
        "run",
        "--rm",
        "--device",
        "/dev/null:/link/null",
        "hostile",
        "true",
    ]);
    assert_eq!(device.code, 0, "{device:?}");
    let work = ply.run(&["run", "--rm", "-w", "/absolute/work", "hostile", "pwd"]);
    assert!(!work.out.is_empty() || work.code >= 125, "{work:?}");
    is_as_it_was(&outside);
    // A volume that two containers share, in which one swaps the place for a link while the other is started.
    let shared = ply.directory("shared");
    let volume = format!("{}:/shared", shared.display());
    let swap = format!(
        "mkdir /shared/dir; ln -s {target} /shared/link; touch /shared/ready; \
        while :; do mv /shared/dir /shared/away; mv /shared/link /shared/dir; mv /shared/dir /shared/link; mv /shared/away /shared/dir; done"
    );
    ply.run(&[
        "run", "-d", "--name", "c1", "-v", &volume, "busybox", "sh", "-c", &swap,
    ])
    .ok();
    eventually("it swaps", || shared.join("ready").exists());
    let inner = format!("{}:/shared/dir/sub", source.display());
    for _ in 0..60 {
        ply.run(&[
            "run", "--rm", "-v", &volume, "-v", &inner, "busybox", "true",
        ]);
        is_as_it_was(&outside);
    }
}

/// CVE-2025-31133, -52565, -52881: what masks and what is masked are not what they seem.
#[test]
fn masks_hold_whatever_an_image_makes_of_dev_and_proc() {
    let ply = Ply::with_busybox();
    let outside = outside(&ply);
    let target = out_to(&outside);
    let checks = "for f in /proc/kcore /proc/keys /proc/timer_list; do test ! -e $f || stat -c %t:%T $f; done | sort -u; cat /proc/keys /proc/timer_list | wc -c; ls /proc/acpi /sys/firmware | grep -v :; \
        for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/sys/vm/drop_caches /proc/irq/default_smp_affinity; do \
        (echo x > $f) 2>/dev/null && echo wrote $f; done; stat -c %t:%T /dev/null; true";
    let expected = "1:3\n0\n\n1:3";
    assert_eq!(
        ply.run(&["run", "--rm", "busybox", "sh", "-c", checks])
            .ok(),
        expected
    );
    for script in [
        format!("rm -rf /x; mkdir -p /x; ln -s {target}/secret /x/null"),
        format!("rm -rf /dev/null 2>/dev/null; ln -s {target} /x"),
    ] {
        hostile(&ply, &script);
        assert_eq!(
            ply.run(&["run", "--rm", "hostile", "sh", "-c", checks])
                .ok(),
            expected
        );
    }
    // An image whose /dev, /proc, /sys are links is refused, not followed.
    for name in ["dev", "proc", "sys"] {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, name, &target).expect("packed");
        let tar = tar.into_inner().expect("packed");
        ply.run_with(&["import", "-c", "CMD [\"x\"]", "-", "linked"], &tar)
            .ok();
        ply.run(&["run", "--rm", "linked"])
            .fails(125, &format!("mount /{name}"));
        ply.run(&["run", "--rm", "-t", "linked"])
            .fails(125, &format!("mount /{name}"));
        is_as_it_was(&outside);
    }
    // The console is the container's own terminal.
    let mut terminal = Terminal::new(24, 80);
    let mut command = ply.command(&[
        "run",
        "--rm",
        "-it",
        "busybox",
        "sh",
        "-c",
        "echo on-$((1 + 1)) > /dev/console; ls -l /dev/console /dev/pts/0",
    ]);
    let mut child = terminal.spawn(&mut command);
    terminal.type_in("", "on-2");
    assert!(child.wait().expect("an end").success());
}

/// CVE-2022-36109: a user without its own group among the supplementary ones gets around a group's denial.
#[test]
fn a_user_s_primary_group_is_one_of_its_groups() {
    let ply = Ply::with_busybox();
    hostile(
        &ply,
        "echo secret > /denied; chown 5:1000 /denied; chmod 604 /denied; echo 'me:x:1000:1000::/:/bin/sh' >> /etc/passwd",
    );
    for user in ["1000:1000", "me", "me:1000"] {
        let output = ply.run(&[
            "run",
            "--rm",
            "-u",
            user,
            "hostile",
            "sh",
            "-c",
            "grep ^Groups: /proc/self/status; cat /denied",
        ]);
        assert!(output.out.contains("1000"), "{user}: {output:?}");
        assert!(
            output.err.contains("Permission denied"),
            "{user}: {output:?}"
        );
    }
}

/// Files that the engine reads in a container and that would never end.
#[test]
fn what_never_ends_holds_nobody_up() {
    let ply = Ply::with_busybox();
    hostile(
        &ply,
        "rm /etc/passwd /etc/group; mkfifo /etc/passwd /etc/group; rm -f /etc/hostname; mkfifo /etc/hostname",
    );
    assert_eq!(
        ply.run(&["run", "--rm", "hostile", "echo", "here"]).ok(),
        "here"
    );
    ply.run(&["run", "--rm", "-u", "me", "hostile", "true"])
        .fails(125, "unable to find user me");
    ply.run(&["run", "-d", "--name", "c1", "hostile", "sleep", "1003"])
        .ok();
    assert_eq!(ply.run(&["exec", "c1", "echo", "here"]).ok(), "here");
    // Neither are copied, which would wait for their other ends.
    ply.run(&["cp", "c1:/etc", &ply.path("copied").display().to_string()])
        .ok();
    ply.run(&["commit", "c1", "again"]).ok();
}

/// The usual ways: namespaces, mounts, keys, cgroups' release agents (CVE-2022-0492), raw disks.
#[test]
fn the_kernel_s_dangerous_doors_are_shut() {
    let ply = Ply::with_busybox();
    for script in [
        "unshare -Ur true",
        "unshare -m true",
        "mount -t tmpfs none /tmp",
        "mount -t cgroup -o memory none /tmp",
        "mount -o remount,rw /proc/sys",
        "umount /proc/kcore",
        "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk",
        "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem",
        "echo x > /sys/fs/cgroup/release_agent",
        "mkdir /sys/fs/cgroup/new",
        "hostname x",
        "reboot -f",
        "chroot / ls /proc/1/root/../../../../var/lib/dpkg",
        "swapoff -a && swapon /etc/passwd",
        "dmesg -c",
        "insmod /etc/passwd",
    ] {
        let output = ply.run(&["run", "--rm", "busybox", "sh", "-c", script]);
        assert_ne!(output.code, 0, "{script}: {output:?}");
    }
}

/// Bytes that a terminal obeys, in what others have named.
#[test]
fn what_containers_are_called_does_nothing_to_a_terminal() {
    let ply = Ply::with_busybox();
    let evil = "\u{1b}]0;owned\u{7}\u{9b}31m\r\u{8}x";
    ply.run(&[
        "run",
        "-d",
        "--name",
        "c1",
        "-l",
        &format!("who={evil}"),
        "-e",
        &format!("E={evil}"),
        "busybox",
        "sh",
        "-c",
        &format!("exec sleep 1003 '{evil}'; sleep 1003"),
        evil,
    ])
    .ok();
    let mut terminal = Terminal::new(50, 200);
    for arguments in [
        &["ps", "-a", "--no-trunc"][..],
        &["ps", "-a", "--format", "{{.Labels}} {{.Command}}"],
        &["inspect", "c1"],
        &[
            "inspect",
            "-f",
            "{{.Config.Env}} {{.Config.Labels.who}} {{.Args}}",
            "c1",
        ],
        &["top", "c1"],
        &["events", "--since", "2000-01-01T00:00:00Z", "--until", "1s"],
        &["rm", evil],
        &["images"],
    ] {
        let mut command = ply.command(arguments);
        let mut child = terminal.spawn(&mut command);
        child.wait().expect("an end");
        let mut command = Command::new("echo");
        command.arg("done-marker");
        let mut child = terminal.spawn(&mut command);
        child.wait().expect("an end");
        let screen = terminal.type_in("", "done-marker");
        for byte in ["\u{1b}", "\u{7}", "\u{9b}", "\u{8}"] {
            assert!(!screen.contains(byte), "{arguments:?}: {screen:?}");
        }
    }
    let mode = fs::metadata(ply.root())
        .expect("a root")
        .permissions()
        .mode();
    assert_eq!(
        mode & 0o066,
        0,
        "others neither read nor write the engine's root"
    );
}

#[test]
fn a_tree_deeper_than_any_path_ends_nobody() {
    let ply = Ply::with_busybox();
    ply.run(&[
        "run",
        "-d",
        "--name",
        "c1",
        "--network",
        "none",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    // Each step is as long as a path may be.
    let dig = "p=d; while [ ${#p} -lt 2000 ]; do p=$p/d; done; mkdir /deep; cd /deep
               for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do mkdir -p $p; cd -P $p 2>/dev/null; done
               echo at the bottom > f";
    ply.run(&["exec", "c1", "sh", "-c", dig]).ok();
    let told = |ply: &Ply| {
        let words = "file name too long";
        for arguments in [
            &["diff", "c1"][..],
            &["commit", "c1", "deep"],
            &["cp", "c1:/deep", "."],
        ] {
            ply.run(arguments).fails(1, words);
        }
    };
    told(&ply);
    assert_eq!(ply.run(&["exec", "c1", "echo", "alive"]).ok(), "alive");
    ply.run(&["stop", "-t", "0", "c1"]).ok();
    told(&ply);
    // A file in its place takes all of it away.
    let archive = ply.path("deep.tar");
    let deep = ply.path("deep");
    let _ = std::fs::remove_dir_all(&deep);
    std::fs::write(&deep, "flat").expect("written");
    must(
        "tar",
        &[
            "-cf",
            &archive.to_string_lossy(),
            "-C",
            &ply.path(".").to_string_lossy(),
            "deep",
        ],
    );
    let tar = std::fs::read_to_string(&archive).expect("an archive");
    let server = Server::start(&ply);
    let put = server.ask("PUT", "/containers/c1/archive?path=/", &tar);
    assert!(put.starts_with("HTTP/1.1 200"), "{put}");
    assert_eq!(ply.run(&["diff", "c1"]).ok(), "A /deep");
    ply.run(&["rm", "c1"]).ok();
    ply.remove_all();
}
