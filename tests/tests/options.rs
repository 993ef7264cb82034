//! The options of `run` that give a container more or less of the host.
#![allow(missing_docs)]

use std::fs;

use tests::Ply;
use tests::eventually;

fn sh(ply: &Ply, options: &[&str], script: &str) -> String {
    let run = [&["run", "--rm"], options, &["busybox", "sh", "-c", script]].concat();
    ply.run(&run).ok().to_owned()
}

fn own(kind: &str) -> String {
    let link = fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace");
    link.display().to_string()
}

#[test]
fn a_device_can_be_used_as_it_was_given() {
    let ply = Ply::with_busybox();
    let script = "stat -c '%t:%T %a' /dev/loop-control; head -c 1 < /dev/loop-control; echo $?";
    assert_eq!(sh(&ply, &[], script), "1");
    // To read from it is an error of the device's own, not a refusal.
    let command = |device: &str, script: &str| {
        ply.run(&[
            "run", "--rm", "--device", device, "busybox", "sh", "-c", script,
        ])
    };
    let output = command(
        "/dev/zero:/dev/nothing",
        "head -c 3 /dev/nothing | od -An -tx1; stat -c %t:%T /dev/nothing",
    );
    assert_eq!(output.ok(), " 00 00 00\n1:5");
    let output = command(
        "/dev/zero:/sub/directory/zero",
        "head -c 3 /sub/directory/zero | wc -c",
    );
    assert_eq!(output.ok(), "3");
    // What is not given is made but not opened.
    let fuse = "mknod /tmp/fuse c 10 229; : < /tmp/fuse";
    assert!(
        ply.run(&["run", "--rm", "busybox", "sh", "-c", fuse])
            .err
            .contains("not permitted")
    );
    assert_eq!(command("/dev/fuse", ": < /dev/fuse").code, 0);
    let output = command("/dev/fuse:r", ": <> /dev/fuse");
    assert!(output.err.contains("not permitted"), "{output:?}");
    let rule = [
        "run",
        "--rm",
        "--device-cgroup-rule",
        "c 10:229 rw",
        "busybox",
        "sh",
        "-c",
        fuse,
    ];
    assert_eq!(ply.run(&rule).code, 0);
    command("/dev/nosuch", "true").fails(125, "\"/dev/nosuch\": no such file or directory");
    command("/etc/passwd", "true").fails(125, "\"/etc/passwd\": not a device node");
    command("/dev/null:/dev/x:q", "true").fails(125, "bad mode specified: q");
    ply.run(&["run", "--device-cgroup-rule", "x", "busybox", "true"])
        .fails(125, "invalid device cgroup rule format");
    let all = sh(&ply, &["--privileged"], "ls /dev");
    assert!(all.contains("fuse") && all.contains("pts"), "{all}");
    ply.remove_all();
}

#[test]
fn namespaces_can_be_the_host_s() {
    let ply = Ply::with_busybox();
    let of = |kind: &str| format!("readlink /proc/self/ns/{kind}");
    for (flag, kind) in [
        ("--pid", "pid"),
        ("--ipc", "ipc"),
        ("--uts", "uts"),
        ("--cgroupns", "cgroup"),
    ] {
        let shared = sh(&ply, &["--cap-add", "SYS_PTRACE", flag, "host"], &of(kind));
        assert_eq!(shared, own(kind), "{flag}");
        let apart = sh(&ply, &["--cap-add", "SYS_PTRACE"], &of(kind));
        assert_ne!(apart, own(kind), "{flag}");
        ply.run(&["run", "--rm", flag, "nosuch", "busybox", "true"])
            .fails(125, "invalid ");
    }
    let nothing = sh(
        &ply,
        &["--ipc", "none"],
        "ls /dev; readlink /proc/self/ns/ipc",
    );
    assert!(
        !nothing.contains("shm") && !nothing.contains(&own("ipc")),
        "{nothing}"
    );
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    assert_eq!(sh(&ply, &["--uts", "host"], "hostname"), host.trim());
    ply.run(&["run", "--uts", "host", "--hostname", "x", "busybox", "true"])
        .fails(125, "conflicting options: hostname and the UTS mode");
    // With the host's processes beside it, its own still end with it.
    let output = ply.run(&[
        "run",
        "--rm",
        "--pid",
        "host",
        "busybox",
        "sh",
        "-c",
        "sleep 1007 & echo $!",
    ]);
    let pid: i32 = output.ok().parse().expect("a pid");
    eventually("it is gone", || {
        !fs::exists(format!("/proc/{pid}")).expect("/proc")
    });
}

#[test]
fn namespaces_can_be_another_container_s() {
    let ply = Ply::with_busybox();
    ply.run(&[
        "run",
        "-d",
        "--name",
        "c1",
        "--ipc",
        "shareable",
        "busybox",
        "sleep",
        "1003",
    ])
    .ok();
    ply.run(&["run", "-d", "--name", "c2", "busybox", "sleep", "1004"])
        .ok();
    let of = |name: &str, kind: &str| {
        ply.run(&[
            "exec",
            "--privileged",
            name,
            "readlink",
            &format!("/proc/self/ns/{kind}"),
        ])
        .ok()
        .to_owned()
    };
    let joined = sh(
        &ply,
        &["--pid", "container:c1"],
        "ps; readlink /proc/self/ns/pid",
    );
    assert!(
        joined.contains("sleep 1003") && joined.ends_with(&of("c1", "pid")),
        "{joined}"
    );
    ply.run(&["exec", "c1", "sh", "-c", "echo shared > /dev/shm/file"])
        .ok();
    let joined = sh(
        &ply,
        &["--ipc", "container:c1"],
        "cat /dev/shm/file; readlink /proc/self/ns/ipc",
    );
    assert_eq!(joined, format!("shared\n{}", of("c1", "ipc")));
    ply.run(&["run", "--rm", "--ipc", "container:c2", "busybox", "true"])
        .fails(125, "non-shareable IPC");
    ply.run(&[
        "run",
        "--rm",
        "--pid",
        "container:nosuch",
        "busybox",
        "true",
    ])
    .fails(125, "No such container: nosuch");
    ply.run(&["kill", "c2"]).ok();
    ply.run(&["run", "--rm", "--pid", "container:c2", "busybox", "true"])
        .fails(125, "cannot join PID of a non running container");
    // Who shares lives on without whoever shared.
    ply.run(&[
        "run",
        "-d",
        "--name",
        "c3",
        "--ipc",
        "container:c1",
        "busybox",
        "sleep",
        "1005",
    ])
    .ok();
    ply.run(&["rm", "-f", "c1"]).ok();
    assert_eq!(
        ply.run(&["exec", "c3", "cat", "/dev/shm/file"]).ok(),
        "shared"
    );
}

#[test]
fn a_seccomp_profile_of_one_s_own_replaces_the_default() {
    let ply = Ply::with_busybox();
    let profile = ply.path("profile.json");
    let write = |text: &str| fs::write(&profile, text).expect("a file");
    let option = format!("seccomp={}", profile.display());
    let run = |script: &str| {
        ply.run(&[
            "run",
            "--rm",
            "--security-opt",
            &option,
            "busybox",
            "sh",
            "-c",
            script,
        ])
    };
    write(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#,
    );
    let output = run("mkdir /new");
    assert!(output.err.contains("No space left on device"), "{output:?}");
    assert_eq!(run("grep Seccomp: /proc/self/status").ok(), "Seccomp:\t2");
    write("{");
    run("true").fails(125, "compacting json for seccomp profile");
    write(r#"{"defaultAction": "SCMP_ACT_NOSUCH"}"#);
    run("true").fails(125, "SCMP_ACT_NOSUCH");
    fs::remove_file(&profile).expect("removed");
    run("true").fails(125, "no such file or directory");
    assert_eq!(ply.run(&["ps", "-aq"]).ok(), "");
}

#[test]
fn mounts_names_and_scores_are_as_asked() {
    let ply = Ply::with_busybox();
    let source = ply.directory("source");
    fs::write(source.join("file"), "here\n").expect("a file");
    let bind = format!(
        "type=bind,source={},target=/there,readonly",
        source.display()
    );
    let script = "cat /there/file; touch /there/x 2>&1; stat -f -c %T /t; df -k /t | tail -1 | awk '{print $2}'";
    let seen = sh(
        &ply,
        &[
            "--mount",
            &bind,
            "--mount",
            "type=tmpfs,destination=/t,tmpfs-size=8m",
        ],
        script,
    );
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(
        (lines[0], lines[2], lines[3]),
        ("here", "tmpfs", "8192"),
        "{seen}"
    );
    assert!(lines[1].contains("Read-only file system"), "{seen}");
    let run =
        |options: &[&str]| ply.run(&[&["run", "--rm"], options, &["busybox", "true"]].concat());
    run(&["--mount", "type=bind,foo=bar"])
        .fails(125, "invalid argument \"type=bind,foo=bar\" for \"--mount\" flag: unexpected key 'foo' in 'foo=bar'");
    run(&["--mount", "type=bind,src=/no/such,dst=/x"])
        .fails(125, "bind source path does not exist: /no/such");
    run(&["--mount", &bind, "-v", "/tmp:/there"]).fails(125, "Duplicate mount point: /there");
    let dns = [
        "--dns",
        "192.0.2.1",
        "--dns",
        "192.0.2.2",
        "--dns-search",
        "example.org",
        "--dns-option",
        "ndots:2",
    ];
    let resolv = "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch example.org\noptions ndots:2";
    assert_eq!(sh(&ply, &dns, "cat /etc/resolv.conf"), resolv);
    run(&["--dns", "nosuch"]).fails(125, "nosuch is not an ip address");
    assert_eq!(
        sh(
            &ply,
            &["--oom-score-adj", "500"],
            "cat /proc/self/oom_score_adj"
        ),
        "500"
    );
    run(&["--oom-score-adj", "5000"]).fails(125, "range is [-1000, 1000]");
    let file = ply.path("labels");
    fs::write(&file, "a=1\n# none\nb\n").expect("a file");
    let file = file.display().to_string();
    ply.run(&[
        "create",
        "--name",
        "c1",
        "--label-file",
        &file,
        "-l",
        "a=2",
        "busybox",
    ])
    .ok();
    assert_eq!(
        ply.inspect("c1", "{{json .Config.Labels}}"),
        "{\"a\":\"2\",\"b\":\"\"}"
    );
}

#[test]
fn limits_are_set_from_the_start() {
    let ply = Ply::with_busybox();
    let limits = [
        "--memory-swap",
        "40m",
        "-m",
        "20m",
        "--memory-reservation",
        "10m",
        "-c",
        "300",
        "--cpuset-cpus",
        "0",
    ];
    let run = [
        &["run", "-d", "--name", "c1"],
        &limits[..],
        &["busybox", "sleep", "1003"],
    ]
    .concat();
    ply.run(&run).ok();
    let id = ply.inspect("c1", "{{.Id}}");
    let groups = Ply::cgroups_of(&id);
    let read = |name: &str| {
        groups
            .iter()
            .find_map(|group| fs::read_to_string(group.join(name)).ok())
    };
    if let Some(v1) = read("memory.limit_in_bytes") {
        assert_eq!(v1.trim(), "20971520");
        assert!(read("memory.memsw.limit_in_bytes").is_none_or(|both| both.trim() == "41943040"));
        assert_eq!(
            read("memory.soft_limit_in_bytes").as_deref(),
            Some("10485760\n")
        );
        assert_eq!(read("cpu.shares").as_deref(), Some("300\n"));
    }
    assert_eq!(read("cpuset.cpus").as_deref().map(str::trim), Some("0"));
    let refused = |options: &[&str], words: &str| {
        ply.run(&[&["run", "--rm"], options, &["busybox", "true"]].concat())
            .fails(125, words);
    };
    refused(
        &["-m", "20m", "--memory-swap", "10m"],
        "Minimum memoryswap limit should be larger than memory limit",
    );
    refused(
        &["--memory-swap", "10m"],
        "You should always set the Memory limit when using Memoryswap limit",
    );
    refused(
        &["-m", "20m", "--memory-reservation", "30m"],
        "can not be less than memory reservation limit",
    );
    refused(
        &["--cpus", "1", "--cpu-quota", "5000"],
        "Nano CPUs and CPU Quota cannot both be set",
    );
    refused(&["--cpus", "1000"], "Range of CPUs is from 0.01 to ");
    refused(
        &["--cpuset-cpus", "900"],
        "Requested CPUs are not available",
    );
}

#[test]
fn a_log_is_bounded_where_it_is_asked_to_be() {
    let ply = Ply::with_busybox();
    let options = ["--log-opt", "max-size=20k", "--log-opt", "max-file=3"];
    let script = "i=0; while [ $i -lt 1000 ]; do echo line-$i; i=$((i + 1)); done; test -e /once || { touch /once; sleep 1000; }";
    ply.run(
        &[
            &["run", "-d", "--name", "c1"],
            &options[..],
            &["busybox", "sh", "-c", script],
        ]
        .concat(),
    )
    .ok();
    eventually("it has said all", || {
        ply.run(&["logs", "--tail", "1", "c1"]).ok() == "line-999"
    });
    let id = ply.inspect("c1", "{{.Id}}");
    let directory = ply.root().join("containers").join(&id);
    let sizes: Vec<u64> = ["log", "log.1", "log.2"]
        .iter()
        .map(|name| fs::metadata(directory.join(name)).expect("a log").len())
        .collect();
    assert!(sizes.iter().all(|size| *size < 60 << 10), "{sizes:?}");
    assert!(!directory.join("log.3").exists());
    let log = ply.run(&["logs", "c1"]);
    let numbers: Vec<u32> = log
        .ok()
        .lines()
        .map(|line| line[5..].parse().expect("a line"))
        .collect();
    assert!(
        numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "the last lines, all in order"
    );
    // Who follows misses nothing.
    let follower = ply.spawn(&["logs", "-f", "--tail", "0", "c1"]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    ply.run(&[
        "exec",
        "c1",
        "sh",
        "-c",
        "for i in $(seq 10); do for j in $(seq 300); do echo more-$j; done > /proc/1/fd/1; sleep 0.3; done",
    ])
    .ok();
    ply.run(&["kill", "c1"]).ok();
    let seen =
        String::from_utf8(follower.wait_with_output().expect("an end").stdout).expect("text");
    assert_eq!(
        seen.lines()
            .filter(|line| line.starts_with("more-"))
            .count(),
        3000
    );
    ply.run(&[
        "run",
        "--name",
        "c2",
        "--log-driver",
        "none",
        "busybox",
        "echo",
        "hi",
    ])
    .ok();
    ply.run(&["logs", "c2"])
        .fails(1, "configured logging driver does not support reading");
    // Docker's other driver of files is bounded by itself.
    let local = ["run", "-d", "--name", "c3", "--log-driver", "local"];
    let most = ["--log-opt", "max-size=1k", "--log-opt", "max-file=2"];
    let script = [
        "busybox",
        "sh",
        "-c",
        "for i in $(seq 100); do echo line $i; done",
    ];
    ply.run(&[&local[..], &most, &script].concat()).ok();
    ply.run(&["wait", "c3"]).ok();
    let kept = ply.run(&["logs", "c3"]);
    assert!(
        kept.ok().ends_with("line 100") && !kept.out.contains("line 1\n"),
        "{kept:?}"
    );
    assert_eq!(ply.inspect("c3", "{{.HostConfig.LogConfig.Type}}"), "local");
    let run =
        |options: &[&str]| ply.run(&[&["run", "--rm"], options, &["busybox", "true"]].concat());
    run(&["--log-driver", "local", "--log-opt", "compress=true"]).ok();
    run(&["--log-driver", "local", "--log-opt", "tag=x"])
        .fails(125, "unknown log opt 'tag' for local log driver");
    run(&["--log-driver", "nosuch"]).fails(125, "no log driver named 'nosuch' is registered");
    run(&["--log-opt", "max-size=x"]).fails(125, "invalid value for max-size: x");
    run(&["--log-opt", "max-file=2"]).ok();
    run(&["--log-opt", "nosuch=1"]).fails(125, "unknown log opt 'nosuch' for json-file log driver");
}

/// journald runs in a mount namespace of its own, with the commands that write to it and read from it.
#[test]
fn a_log_can_be_kept_in_the_journal() {
    let ply = Ply::with_busybox();
    ply.run(&[
        "run",
        "--name",
        "c1",
        "--log-driver",
        "nosuch",
        "busybox",
        "true",
    ])
    .fails(125, "no log driver named 'nosuch'");
    let script = "set -e
        mount -t tmpfs none /run
        mkdir -p /run/systemd/journal /run/log/journal
        /lib/systemd/systemd-journald & journald=$!
        trap 'kill $journald' EXIT
        for i in $(seq 100); do test -S /run/systemd/journal/socket && break; sleep 0.1; done
        $PLY run --name c1 --log-driver journald --log-opt tag=mine busybox \
            sh -c 'echo out; echo err >&2; printf unfinished'
        $PLY logs c1 2>&1
        echo; $PLY logs c1 2>/dev/null | head -1
        $PLY logs --tail 1 c1
        echo; journalctl -q -o cat CONTAINER_NAME=c1 SYSLOG_IDENTIFIER=mine PRIORITY=3
        $PLY run -d --name c2 --log-driver journald busybox sh -c 'sleep 1; for i in $(seq 500); do echo $i; done' > /run/id
        $PLY logs -f c2 | tail -n 2
        $PLY logs c2 | wc -l
        $PLY rm -f c1 c2 > /run/removed";
    let output = ply.run_apart(script);
    let mut lines: Vec<&str> = output.out.lines().collect();
    // What the command itself has said comes first.
    assert_eq!(&lines[..1], ["out"], "{output:?}");
    let said: Vec<&str> = lines.drain(..).skip(1).collect();
    let expected = [
        "unfinishedout",
        "err",
        "unfinished",
        "out",
        "unfinished",
        "err",
        "499",
        "500",
        "500",
    ];
    assert_eq!(said, expected, "{output:?}");
    // Without journald there is nothing to write to, and nothing is left behind.
    if !std::path::Path::new("/run/systemd/journal/socket").exists() {
        ply.run(&["run", "--rm", "--log-driver", "journald", "busybox", "true"])
            .fails(125, "journald is not enabled on this host");
        assert_eq!(ply.run(&["ps", "-aq"]).ok(), "");
    }
}

#[test]
fn parameters_of_the_kernel_are_the_container_s_own() {
    let ply = Ply::with_busybox();
    let show = [
        "cat",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/kernel/msgmax",
    ];
    let with = |options: &[&str]| {
        let sysctls = [
            "--sysctl",
            "net.ipv4.ip_forward=1",
            "--sysctl",
            "kernel.msgmax=4096",
        ];
        let run = ["run", "--rm", "--network", "none"];
        ply.run(&[&run[..], &sysctls, options, &["busybox"], &show].concat())
    };
    assert_eq!(with(&[]).ok(), "1\n4096");
    assert_eq!(with(&["--userns", "auto"]).ok(), "1\n4096");
    with(&["--ipc", "host"]).fails(
        125,
        "sysctl \"kernel.msgmax\" not allowed in host ipc namespace",
    );
    let host = [
        "run",
        "--rm",
        "--network",
        "host",
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "busybox",
        "true",
    ];
    ply.run(&host).fails(
        125,
        "sysctl \"net.ipv4.ip_forward\" not allowed in host network namespace",
    );
    for (sysctl, words) in [
        (
            "kernel.hostname=x",
            "sysctl 'kernel.hostname=x' is not allowed",
        ),
        (
            "net.ipv4.ip_forward",
            "sysctl 'net.ipv4.ip_forward' is not allowed",
        ),
        ("net.nosuch=1", "set net.nosuch: no such file or directory"),
    ] {
        let run = [
            "run",
            "--rm",
            "--network",
            "none",
            "--sysctl",
            sysctl,
            "busybox",
            "true",
        ];
        ply.run(&run).fails(125, words);
    }
}

#[test]
fn block_devices_are_used_no_faster_than_said() {
    let ply = Ply::with_busybox();
    let mut disks = std::fs::read_dir("/sys/block").expect("devices");
    let disk = disks.find_map(|entry| {
        let node = std::path::Path::new("/dev").join(entry.ok()?.file_name());
        node.exists().then(|| node.display().to_string())
    });
    let rate = format!("{}:1mb", disk.expect("a disk"));
    let run = [
        "run",
        "-d",
        "--name",
        "c1",
        "--device-read-bps",
        &rate,
        "busybox",
        "sleep",
        "1000",
    ];
    let id = ply.run(&run).ok().to_owned();
    let files = ["blkio.throttle.read_bps_device", "io.max"];
    let groups = Ply::cgroups_of(&id);
    let mut limits = groups
        .iter()
        .flat_map(|group| files.iter().map(|file| group.join(file)));
    assert!(
        limits.any(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("1048576")))
    );
    let format = "{{range .HostConfig.BlkioDeviceReadBps}}{{.Rate}}{{end}}";
    assert_eq!(ply.inspect("c1", format), "1048576");
    for (options, words) in [
        (
            ["--device-read-bps", "/dev/nosuch:1mb"],
            "/dev/nosuch: no such file or directory",
        ),
        (
            ["--device-write-bps", "/dev/null:x"],
            "invalid rate for device: /dev/null:x",
        ),
        (["--device-read-iops", "nosuch"], "bad format: nosuch"),
        (
            ["--blkio-weight", "5"],
            "Range of blkio weight is from 10 to 1000",
        ),
        (
            ["--memory-swappiness", "101"],
            "valid memory swappiness range is 0-100",
        ),
    ] {
        let run = [&["run", "--rm"], &options[..], &["busybox", "true"]].concat();
        ply.run(&run).fails(125, words);
    }
}

#[test]
fn what_only_other_engines_have_is_refused() {
    let ply = Ply::with_busybox();
    for (option, value, words) in [
        (
            "--gpus",
            "all",
            "could not select device driver \"\" with capabilities: [[gpu]]",
        ),
        (
            "--runtime",
            "nosuch",
            "unknown or invalid runtime name: nosuch",
        ),
        ("--isolation", "hyperv", "only 'default' is supported"),
        (
            "--storage-opt",
            "size=1g",
            "not supported by the storage driver",
        ),
        (
            "--cpu-rt-runtime",
            "1000",
            "does not support CPU real-time scheduler",
        ),
    ] {
        ply.run(&["run", "--rm", option, value, "busybox", "true"])
            .fails(125, words);
    }
    ply.run(&[
        "run",
        "--rm",
        "--isolation",
        "default",
        "--runtime",
        "ply",
        "busybox",
        "true",
    ])
    .ok();
}

#[test]
fn details_and_sizes_are_shown_where_they_are_asked_for() {
    let ply = Ply::with_busybox();
    let options = [
        "-l",
        "x=y",
        "-e",
        "K=V",
        "--log-opt",
        "labels=x",
        "--log-opt",
        "env=K",
        "--annotation",
        "a=b",
    ];
    let run = [
        &["run", "--name", "c1"],
        &options[..],
        &["busybox", "echo", "hello"],
    ]
    .concat();
    ply.run(&run).ok();
    assert_eq!(ply.run(&["logs", "--details", "c1"]).ok(), "K=V,x=y hello");
    assert_eq!(
        ply.inspect("c1", "{{index .HostConfig.Annotations \"a\"}}"),
        "b"
    );
    let size = ply.run(&["inspect", "--size", "-f", "{{.SizeRw}}", "c1"]);
    assert!(size.ok().parse::<u64>().is_ok(), "{size:?}");
    // It is nothing where nobody has asked for it.
    assert_eq!(ply.inspect("c1", "{{.SizeRw}}"), "<nil>");
}
