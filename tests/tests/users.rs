//! Containers whose root is nobody on the host: `--userns auto`.
#![allow(missing_docs)]

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use tests::Ply;
use tests::Terminal;
use tests::eventually;

fn sh(ply: &Ply, options: &[&str], script: &str) -> String {
    let run = [
        &["run", "--rm", "--userns", "auto"],
        options,
        &["busybox", "sh", "-c", script],
    ]
    .concat();
    ply.run(&run).ok().to_owned()
}

/// Returns the host's user of a container's first process.
fn host_user(ply: &Ply, name: &str) -> u32 {
    let pid = ply.inspect(name, "{{.State.Pid}}");
    fs::metadata(format!("/proc/{pid}")).expect("it runs").uid()
}

#[test]
fn the_container_s_users_are_nobody_s_on_the_host() {
    let ply = Ply::with_busybox();
    let run = |name: &str| {
        let command = [
            "run", "-d", "--name", name, "--userns", "auto", "busybox", "sleep", "1003",
        ];
        ply.run(&command).ok();
    };
    run("c1");
    run("c2");
    let (first, second) = (host_user(&ply, "c1"), host_user(&ply, "c2"));
    assert!(
        first >= 0x2000_0000 && second >= 0x2000_0000,
        "{first} {second}"
    );
    assert_ne!(first, second);
    // It is another user namespace, in which the usual rules hold.
    assert_eq!(ply.run(&["exec", "c1", "id", "-u"]).ok(), "0");
    let map = ply
        .run(&["exec", "c1", "cat", "/proc/self/uid_map"])
        .ok()
        .to_owned();
    let numbers: Vec<u32> = map
        .split_whitespace()
        .map(|it| it.parse().expect("a number"))
        .collect();
    assert_eq!(numbers, [0, first, 65536]);
    let status = ply.run(&[
        "exec",
        "c1",
        "grep",
        "-E",
        "CapEff|Seccomp:",
        "/proc/self/status",
    ]);
    assert_eq!(status.ok(), "CapEff:\t00000000a80425fb\nSeccomp:\t2");
    for script in [
        "mount -t tmpfs none /tmp",
        "hostname x",
        "mknod /n c 1 1",
        "echo x > /proc/sys/kernel/core_pattern",
        "chown 70000 /etc/passwd",
        "cat /proc/1/root/../etc/shadow",
        "unshare -Ur true",
    ] {
        let output = ply.run(&["exec", "c1", "sh", "-c", script]);
        assert_ne!(output.code, 0, "{script}: {output:?}");
    }
    // It stays the same over a restart.
    ply.run(&["restart", "-t", "0", "c1"]).ok();
    assert_eq!(host_user(&ply, "c1"), first);
    assert_eq!(ply.inspect("c1", "{{.HostConfig.UsernsMode}}"), "auto");
}

#[test]
fn its_files_are_as_in_any_container() {
    let ply = Ply::with_busybox();
    let make = "echo one > /file; chown 33:50 /file; chmod 4750 /file; mkdir /dir; chgrp 7 /dir; chmod 2775 /dir; \
        touch /dir/x; ln -s file /link; mkfifo /fifo; ln /file /hard; rm /etc/group; echo /file* | cat > /dev/stdout; \
        echo err > /dev/stderr; stat -c '%n %u:%g %a' /file /dir /dir/x /etc/passwd /etc/hosts /tmp";
    let expected = "/file\n/file 33:50 4750\n/dir 0:7 2775\n/dir/x 0:7 644\n/etc/passwd 0:0 644\n/etc/hosts 0:0 644\n/tmp 0:0 755";
    let run = [
        "run", "--name", "c1", "--userns", "auto", "busybox", "sh", "-c", make,
    ];
    let output = ply.run(&run);
    assert_eq!((output.ok(), &output.err[..]), (expected, "err\n"));
    // On the disk they are the container's numbers: an image of them is like any other.
    ply.run(&[
        "commit",
        "-c",
        "CMD [\"stat\", \"-c\", \"%n %u:%g %a\", \"/file\", \"/dir\", \"/dir/x\"]",
        "c1",
        "made",
    ])
    .ok();
    let seen = ply.run(&["run", "--rm", "made"]);
    assert_eq!(seen.ok(), "/file 33:50 4750\n/dir 0:7 2775\n/dir/x 0:7 644");
    let seen = ply.run(&["run", "--rm", "--userns", "auto", "made"]);
    assert_eq!(seen.ok(), "/file 33:50 4750\n/dir 0:7 2775\n/dir/x 0:7 644");
    // Another user reads what it may.
    let user = ["-u", "33:33"];
    assert_eq!(
        sh(
            &ply,
            &user,
            "id -u; cat /etc/passwd > /dev/null && echo x > /dev/shm/mine && stat -c %u /dev/shm/mine"
        ),
        "33\n33"
    );
    assert!(
        ply.run(&[
            "run",
            "--rm",
            "--userns",
            "auto",
            "-u",
            "33:33",
            "busybox",
            "touch",
            "/etc/passwd"
        ])
        .err
        .contains("Permission denied")
    );
    let running = [
        "run", "-d", "--name", "c2", "--userns", "auto", "busybox", "sleep", "1003",
    ];
    ply.run(&running).ok();
    ply.run(&[
        "exec",
        "c2",
        "sh",
        "-c",
        "echo two > /file; chown 33:50 /file",
    ])
    .ok();
    // Copied out and in while it runs.
    let host = ply.path("host");
    ply.run(&["cp", "-a", "c2:/file", &host.display().to_string()])
        .ok();
    assert_eq!(fs::metadata(&host).expect("a file").uid(), 33);
    ply.run(&["cp", "-a", &host.display().to_string(), "c2:/copied"])
        .ok();
    ply.run(&["cp", &host.display().to_string(), "c2:/new"])
        .ok();
    let seen = ply.run(&["exec", "c2", "stat", "-c", "%u:%g", "/copied", "/new"]);
    assert_eq!(seen.ok(), "33:50\n33:50");
    ply.run(&["commit", "c2", "live"]).ok();
    assert_eq!(
        ply.run(&["run", "--rm", "live", "stat", "-c", "%u:%g", "/file"])
            .ok(),
        "33:50"
    );
}

#[test]
fn what_comes_from_the_host_is_mounted_for_it() {
    let ply = Ply::with_busybox();
    let source = ply.directory("source");
    fs::write(source.join("file"), "here\n").expect("a file");
    let volume = format!("{}:/there", source.display());
    let seen = sh(
        &ply,
        &["-v", &volume, "--tmpfs", "/t", "--read-only"],
        "cat /there/file; stat -c %u /there/file; touch /there/x 2>&1; touch /x 2>&1; touch /t/x && echo made; head -c 2 /dev/zero | wc -c; \
         cat /etc/resolv.conf > /dev/null && echo read",
    );
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!((lines[0], lines[1]), ("here", "65534"), "{seen}");
    assert!(
        lines[2].contains("Permission denied") && lines[3].contains("Read-only"),
        "{seen}"
    );
    assert_eq!(&lines[4..], ["made", "2", "read"], "{seen}");
    let refused = |options: &[&str], words: &str| {
        ply.run(
            &[
                &["run", "--rm", "--userns", "auto"],
                options,
                &["busybox", "true"],
            ]
            .concat(),
        )
        .fails(125, words);
    };
    refused(
        &["--privileged"],
        "privileged mode is incompatible with user namespaces",
    );
    refused(
        &["--network", "host"],
        "cannot share a network namespace when user namespaces are enabled",
    );
    refused(&["--pid", "host"], "cannot share a PID namespace");
    ply.run(&["run", "--rm", "--userns", "nosuch", "busybox", "true"])
        .fails(125, "invalid USER mode: nosuch");
    assert_eq!(
        ply.run(&["run", "--rm", "--userns", "host", "busybox", "id", "-u"])
            .ok(),
        "0"
    );
}

#[test]
fn terminals_reapers_checks_and_limits_work_in_it() {
    let ply = Ply::with_busybox();
    let mut terminal = Terminal::new(24, 80);
    let mut command = ply.command(&["run", "--rm", "-it", "--userns", "auto", "busybox", "sh"]);
    let mut child = terminal.spawn(&mut command);
    let screen = terminal.type_in("tty; echo x > /dev/tty; echo mark-$((40+2))\n", "mark-42");
    assert!(screen.contains("/dev/pts/0"), "{screen}");
    terminal.type_in("exit 3\n", "exit");
    assert_eq!(child.wait().expect("an end").code(), Some(3));
    let check = [
        "--health-cmd",
        "test -e /ok",
        "--health-interval",
        "100ms",
        "--init",
        "-m",
        "64m",
        "--restart",
        "always",
    ];
    let run = ["run", "-d", "--name", "c1", "--userns", "auto"];
    ply.run(&[&run[..], &check, &["busybox", "sleep", "1003"]].concat())
        .ok();
    ply.run(&["exec", "c1", "touch", "/ok"]).ok();
    eventually("it is healthy", || {
        ply.inspect("c1", "{{.State.Health.Status}}") == "healthy"
    });
    assert_eq!(
        ply.run(&["exec", "-t", "c1", "sh", "-c", "echo x > /dev/tty"])
            .ok(),
        "x\r"
    );
    ply.run(&["pause", "c1"]).ok();
    ply.run(&["unpause", "c1"]).ok();
    let pid: i32 = ply.inspect("c1", "{{.State.Pid}}").parse().expect("a pid");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .expect("it lives");
    eventually("it runs again", || {
        ply.inspect("c1", "{{.RestartCount}} {{.State.Status}}") == "1 running"
    });
    ply.run(&["exec", "c1", "true"]).ok();
    ply.run(&["rm", "-f", "c1"]).ok();
}

#[test]
fn owners_of_what_is_copied_in_are_the_container_s_numbers() {
    let ply = Ply::with_busybox();
    ply.run(&[
        "run", "-d", "--name", "c1", "--userns", "auto", "busybox", "sleep", "1003",
    ])
    .ok();
    let file = ply.path("file");
    let path = file.to_string_lossy();
    std::fs::write(&file, "text").expect("written");
    let own = |uid| std::os::unix::fs::chown(&file, Some(uid), Some(50)).expect("owned");
    own(33);
    ply.run(&["cp", &path, "c1:/tmp/file"]).ok();
    let seen = ply.run(&["exec", "c1", "stat", "-c", "%u:%g", "/tmp/file"]);
    assert_eq!(seen.ok(), "33:50");
    own(70_000);
    // The container has no such user.
    ply.run(&["cp", &path, "c1:/tmp/other"])
        .fails(1, "value too large");
    ply.remove_all();
}
