//! `ply run`: what the command sees, what the caller gets.
#![allow(missing_docs)]

use std::fs;
use std::io::Read as _;

use tests::Ply;
use tests::Terminal;
use tests::eventually;

const NONE: &[&str] = &["run", "--rm", "--network", "none"];

fn run(ply: &Ply, options: &[&str], command: &[&str]) -> tests::Output {
    ply.run(&[NONE, options, &["busybox"], command].concat())
}

fn sh(ply: &Ply, options: &[&str], script: &str) -> String {
    run(ply, options, &["sh", "-c", script]).ok().to_owned()
}

#[test]
fn hello_world_needs_nothing_but_the_binary() {
    let ply = Ply::new();
    let output = ply.run(&["run", "--rm", "hello-world"]);
    assert!(output.ok().contains("Hello from the second layer!"));
    assert!(
        output
            .out
            .contains("Hello from this container's own layer!")
    );
    assert!(
        output
            .err
            .contains("Unable to find image 'hello-world:latest' locally")
    );
    // Each container begins with the image, not with what another one wrote.
    assert!(
        ply.run(&["run", "--rm", "hello-world"])
            .ok()
            .contains("second layer!")
    );
}

#[test]
fn exit_codes_are_docker_s() {
    let ply = Ply::with_busybox();
    assert_eq!(run(&ply, &[], &["true"]).code, 0);
    assert_eq!(run(&ply, &[], &["sh", "-c", "exit 3"]).code, 3);
    assert_eq!(
        run(&ply, &["--init"], &["sh", "-c", "kill -9 $$"]).code,
        137
    );
    assert_eq!(
        run(&ply, &["--init"], &["sh", "-c", "kill -TERM $$"]).code,
        143
    );
    run(&ply, &[], &["nosuchcmd"]).fails(
        127,
        "exec: \"nosuchcmd\": executable file not found in $PATH",
    );
    run(&ply, &[], &["/etc/passwd"]).fails(126, "exec: \"/etc/passwd\": permission denied");
    run(&ply, &[], &["/no/such"]).fails(127, "no such file or directory");
    run(&ply, &["-w", "/etc/passwd"], &["true"])
        .fails(125, "Cannot mkdir: /etc/passwd is not a directory");
    run(&ply, &["-u", "nosuchuser"], &["true"]).fails(
        125,
        "unable to find user nosuchuser: no matching entries in passwd file",
    );
    assert_eq!(
        ply.run(&["ps", "-aq"]).ok(),
        "",
        "what could not start is gone with --rm"
    );
}

#[test]
fn streams_are_apart_and_input_reaches_the_command() {
    let ply = Ply::with_busybox();
    let output = run(&ply, &[], &["sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(
        (output.out.as_str(), output.err.as_str()),
        ("out\n", "err\n")
    );
    let arguments = [NONE, &["-i", "busybox", "sha256sum"]].concat();
    let input: Vec<u8> = (0..3_000_000u32)
        .map(|number| (number * 7 % 251) as u8)
        .collect();
    let output = ply.run_with(&arguments, &input);
    let expected = {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(&input);
        digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert_eq!(output.ok(), format!("{expected}  -"));
    // Without -i there is no input, and nobody waits for any.
    assert_eq!(
        ply.run_with(&[NONE, &["busybox", "cat"]].concat(), b"unheard")
            .ok(),
        ""
    );
}

#[test]
fn much_output_arrives_whole() {
    let ply = Ply::with_busybox();
    let output = run(&ply, &[], &["sh", "-c", "yes 0123456789 | head -n 300000"]);
    assert_eq!(output.ok().len(), 300_000 * 11 - 1);
}

#[test]
fn user_directory_environment_and_names_are_set() {
    let ply = Ply::with_busybox();
    let options = [
        "-u",
        "web",
        "-w",
        "/made/deep",
        "-e",
        "A=b c",
        "--hostname",
        "box",
        "--add-host",
        "db:10.0.0.9",
    ];
    let said = sh(
        &ply,
        &options,
        "id; pwd; echo \"$A\"; hostname; cat /etc/hostname; grep db /etc/hosts; echo $HOME",
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "uid=33(web) gid=33(web) groups=33(web),50(extra)",
            "/made/deep",
            "b c",
            "box",
            "box",
            "10.0.0.9\tdb",
            "/home"
        ]
    );
    assert!(sh(&ply, &["-u", "1234:5"], "id").starts_with("uid=1234 gid=5"));
    let file = ply.path("env");
    fs::write(&file, "# a comment\nX=1\n\nY=two words\n").expect("written");
    assert_eq!(
        sh(&ply, &["--env-file", &file.to_string_lossy()], "echo $X-$Y"),
        "1-two words"
    );
    assert_eq!(sh(&ply, &["--entrypoint", "/bin/echo"], "x"), "sh -c x");
}

#[test]
fn the_container_is_alone() {
    let ply = Ply::with_busybox();
    let said = sh(
        &ply,
        &[],
        "echo $$; ls -d /proc/[0-9]* | wc -l; ls /sys/class/net; grep -c ply /proc/self/cgroup; true",
    );
    let lines: Vec<&str> = said.lines().collect();
    // The shell, ls and wc.
    assert_eq!(lines[0], "1");
    assert!(lines[1].parse::<u32>().expect("a number") <= 4);
    assert_eq!(lines[2], "lo");
    assert_eq!(lines[3], "0", "its cgroups are the roots it sees");
    // Scripts see by it where they are; it is the container's, not a change of its.
    let mark = "stat -c '%a %s' /.dockerenv; rm /.dockerenv";
    let marked = ply.run(&[
        "run",
        "--name",
        "c1",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        mark,
    ]);
    assert_eq!(marked.ok(), "755 0");
    assert_eq!(ply.run(&["diff", "c1"]).ok(), "");
    ply.run(&[
        "run",
        "--name",
        "c2",
        "--network",
        "none",
        "busybox",
        "touch",
        "/x",
    ])
    .ok();
    assert_eq!(ply.run(&["diff", "c2"]).ok(), "A /x");
    let own = |name: &str| sh(&ply, &[], &format!("readlink /proc/self/ns/{name}"));
    for name in ["mnt", "pid", "uts", "ipc", "net", "cgroup"] {
        let host = fs::read_link(format!("/proc/self/ns/{name}")).expect("a namespace");
        assert_ne!(own(name), host.to_string_lossy(), "{name}");
    }
    let host = fs::read_link("/proc/self/ns/net").expect("a namespace");
    let shared = ply.run(&[
        "run",
        "--rm",
        "--network",
        "host",
        "busybox",
        "readlink",
        "/proc/self/ns/net",
    ]);
    assert_eq!(shared.ok(), host.to_string_lossy());
}

#[test]
fn privileges_are_docker_s_defaults() {
    let ply = Ply::with_busybox();
    let status = |options: &[&str], field: &str| {
        sh(&ply, options, &format!("grep ^{field}: /proc/self/status"))
            .split_whitespace()
            .nth(1)
            .map(str::to_owned)
    };
    let value = |text: &str| Some(text.to_owned());
    // This host may lack some; what it has of the 14 is what is there.
    let host = fs::read_to_string("/proc/self/status").expect("status");
    let host = host
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .expect("capabilities")
        .trim()
        .to_owned();
    let host = u64::from_str_radix(&host, 16).expect("a number");
    assert_eq!(
        status(&[], "CapEff"),
        value(&format!("{:016x}", 0xa804_25fb & host))
    );
    assert_eq!(status(&["-u", "web"], "CapEff"), value("0000000000000000"));
    assert_eq!(
        status(&["--cap-drop", "ALL"], "CapBnd"),
        value("0000000000000000")
    );
    assert_eq!(
        status(&["--cap-drop", "ALL", "--cap-add", "CHOWN"], "CapEff"),
        value("0000000000000001")
    );
    assert_eq!(status(&[], "Seccomp"), value("2"));
    assert_eq!(
        status(&["--security-opt", "seccomp=unconfined"], "Seccomp"),
        value("0")
    );
    assert_eq!(
        status(&["--security-opt", "no-new-privileges"], "NoNewPrivs"),
        value("1")
    );
    for refused in [
        "mount -t tmpfs none /tmp",
        "unshare -m true",
        "mknod /tmp/d b 8 0 && cat /tmp/d",
        "reboot -f",
    ] {
        assert_ne!(run(&ply, &[], &["sh", "-c", refused]).code, 0, "{refused}");
    }
    run(&ply, &["--cap-add", "FLY"], &["true"]).fails(125, "invalid capability: FLY");
}

#[test]
fn what_tells_of_the_host_is_hidden_and_what_reaches_it_read_only() {
    let ply = Ply::with_busybox();
    assert_eq!(
        sh(
            &ply,
            &[],
            "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c; ls /proc/acpi /sys/firmware 2>/dev/null | grep -v : | wc -w"
        ),
        "0\n0"
    );
    for path in [
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
    ] {
        assert_ne!(
            run(&ply, &[], &["sh", "-c", &format!("echo x > {path}")]).code,
            0,
            "{path}"
        );
    }
    let nodes = sh(&ply, &[], "ls /dev");
    assert_eq!(
        nodes.split_whitespace().collect::<Vec<_>>(),
        [
            "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr",
            "stdin", "stdout", "tty", "urandom", "zero"
        ]
    );
    assert_eq!(
        sh(
            &ply,
            &["--shm-size", "1m"],
            "df -k /dev/shm | tail -1 | awk '{print $2}'"
        ),
        "1024"
    );
}

#[test]
fn volumes_show_the_host_and_obey_ro() {
    let ply = Ply::with_busybox();
    let shared = ply.directory("shared");
    fs::write(shared.join("in"), "from the host").expect("written");
    let volume = format!("{}:/data/deep", shared.display());
    assert_eq!(
        sh(
            &ply,
            &["-v", &volume],
            "cat /data/deep/in; echo back > /data/deep/out"
        ),
        "from the host"
    );
    assert_eq!(
        fs::read_to_string(shared.join("out")).expect("read"),
        "back\n"
    );
    let read_only = format!("{volume}:ro");
    run(&ply, &["-v", &read_only], &["touch", "/data/deep/x"]).fails(1, "Read-only file system");
    let missing = ply.path("missing/dir");
    sh(
        &ply,
        &["-v", &format!("{}:/m", missing.display())],
        "test -d /m",
    );
    assert!(missing.is_dir(), "a source that is not there is made");
    // A link of the image's leads nowhere out of the container.
    assert_eq!(
        sh(
            &ply,
            &["-v", &format!("{}:/tmp/../data", shared.display())],
            "cat /data/in"
        ),
        "from the host"
    );
    run(
        &ply,
        &["--tmpfs", "/scratch:size=1m"],
        &["sh", "-c", "dd if=/dev/zero of=/scratch/x bs=2M count=1"],
    )
    .fails(1, "No space left");
}

#[test]
fn links_that_lead_nowhere_are_places_of_mounts() {
    let ply = Ply::with_busybox();
    let mut tar = tar::Builder::new(Vec::new());
    for (name, target) in [
        ("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
        ("etc/hosts", "/nowhere/hosts"),
        ("data", "/no/such/directory"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        tar.append_link(&mut header, name, target).expect("packed");
    }
    ply.run(&["create", "--name", "c1", "busybox", "sh"]).ok();
    let links = tar.into_inner().expect("packed");
    let output = ply.run_with(&["cp", "-", "c1:/"], &links);
    assert_eq!(output.code, 0, "{output:?}");
    ply.run(&["commit", "c1", "linked"]).ok();
    let source = ply.directory("source");
    fs::write(source.join("file"), "shown\n").expect("a file");
    let volume = format!("{}:/data", source.display());
    let script = "cat /data/file /no/such/directory/file; grep -c localhost /etc/hosts; test -e /etc/resolv.conf && echo there";
    let output = ply.run(&["run", "--rm", "-v", &volume, "linked", "sh", "-c", script]);
    assert_eq!(output.ok(), "shown\nshown\n2\nthere");
}

#[test]
fn a_read_only_root_is_one() {
    let ply = Ply::with_busybox();
    run(&ply, &["--read-only"], &["touch", "/x"]).fails(1, "Read-only file system");
    sh(
        &ply,
        &["--read-only", "--tmpfs", "/tmp"],
        "touch /tmp/x /dev/shm/y",
    );
}

#[test]
fn an_init_reaps_and_passes_signals_on() {
    let ply = Ply::with_busybox();
    // Orphans: reaped, or they would be listed as zombies.
    let script = "for i in 1 2 3; do (sleep 0.05 &) ; done; sleep 0.3; ps -o stat | grep -c Z";
    assert_eq!(
        run(&ply, &["--init"], &["sh", "-c", script]).out.trim(),
        "0"
    );
    assert_eq!(sh(&ply, &["--init"], "echo $$"), "2");
}

#[test]
fn the_program_cannot_be_overwritten_from_a_container() {
    // CVE-2019-5736. The reaper is a copy of the monitor; with every privilege its program can be opened.
    let ply = Ply::with_busybox();
    let overwrite = "echo x > /proc/1/exe; cp /proc/1/exe /copy && echo read";
    let privileged = run(&ply, &["--init", "--privileged"], &["sh", "-c", overwrite]);
    assert!(
        privileged.err.contains("Read-only file system"),
        "{privileged:?}"
    );
    assert_eq!(privileged.out.trim(), "read");
    let plain = run(&ply, &["--init"], &["sh", "-c", overwrite]);
    assert!(plain.err.contains("Permission denied"), "{plain:?}");
    assert_eq!(plain.out, "");
    // A command that is the stage itself comes from the same mount.
    let itself = run(&ply, &[], &["/proc/self/exe", "version"]);
    assert_ne!(itself.code, 0, "without its libraries: {itself:?}");
}

#[test]
fn signals_to_the_command_reach_the_container() {
    let ply = Ply::with_busybox();
    let mut child = ply.spawn(
        &[
            NONE,
            &[
                "busybox",
                "sh",
                "-c",
                "trap 'echo got; exit 9' USR1; echo ready; while :; do sleep 0.01; done",
            ],
        ]
        .concat(),
    );
    let mut stdout = child.stdout.take().expect("a pipe");
    let mut said = [0; 6];
    stdout.read_exact(&mut said).expect("ready");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.id() as i32),
        nix::sys::signal::Signal::SIGUSR1,
    )
    .expect("a signal");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("output");
    assert_eq!(rest, "got\n");
    assert_eq!(child.wait().expect("an end").code(), Some(9));
}

#[test]
fn a_terminal_is_one_and_follows_ours() {
    let ply = Ply::with_busybox();
    let mut terminal = Terminal::new(31, 97);
    let mut command = ply.command(&[NONE, &["-it", "busybox", "sh"]].concat());
    let mut child = terminal.spawn(&mut command);
    let screen = terminal.type_in("tty; stty size; echo mark-$((40+2))\n", "mark-42");
    assert!(screen.contains("/dev/pts/0"), "{screen}");
    assert!(screen.contains("31 97"), "{screen}");
    terminal.resize(20, 50, &child);
    eventually("the new size", || {
        let screen = terminal.type_in("stty size; echo mark-$((40+3))\n", "mark-43");
        screen.contains("20 50")
    });
    terminal.type_in("exit 5\n", "exit");
    assert_eq!(child.wait().expect("an end").code(), Some(5));
    assert!(terminal.echoes(), "the terminal is as it was");
    ply.run(&[NONE, &["-it", "busybox", "true"]].concat())
        .fails(1, "the input device is not a TTY");
}

#[test]
fn limits_are_kept() {
    let ply = Ply::with_busybox();
    assert_eq!(
        sh(&ply, &["--ulimit", "nofile=77:88"], "ulimit -n; ulimit -Hn"),
        "77\n88"
    );
    let hog = [
        "sh",
        "-c",
        "head -c 200000000 /dev/zero | tail -c 190000000 | wc -c",
    ];
    assert_ne!(run(&ply, &["-m", "32m"], &hog).out.trim(), "190000000");
    let fork = run(
        &ply,
        &["--pids-limit", "8"],
        &[
            "sh",
            "-c",
            "for i in $(seq 30); do sleep 5 & done; echo all",
        ],
    );
    assert!(
        !fork.out.contains("all") || fork.err.contains("fork"),
        "{fork:?}"
    );
    run(&ply, &["-m", "1m"], &["true"]).fails(125, "Minimum memory limit allowed is 6MB");
}

#[test]
fn what_is_told_of_an_image_is_obeyed() {
    let ply = Ply::new();
    let tar = tests::busybox_tar();
    ply.run(&[
        "import",
        "-c",
        "ENV COLOR=red",
        "-c",
        "WORKDIR /var",
        "-c",
        "USER web",
        "-c",
        "ENTRYPOINT [\"echo\", \"said\"]",
        "-c",
        "CMD [\"nothing\"]",
        "-c",
        "LABEL a=b",
        "-c",
        "STOPSIGNAL SIGKILL",
        &tar.to_string_lossy(),
        "told",
    ])
    .ok();
    assert_eq!(ply.run(&["run", "--rm", "told"]).ok(), "said nothing");
    assert_eq!(
        ply.run(&["run", "--rm", "told", "more", "words"]).ok(),
        "said more words"
    );
    let said = ply.run(&[
        "run",
        "--rm",
        "--entrypoint",
        "sh",
        "told",
        "-c",
        "echo $COLOR; pwd; id -un",
    ]);
    assert_eq!(said.ok(), "red\n/var\nweb");
    let id = ply
        .run(&["create", "--label", "c=d", "told"])
        .ok()
        .to_owned();
    assert_eq!(
        ply.inspect(&id, "{{json .Config.Labels}} {{.Config.StopSignal}}"),
        "{\"a\":\"b\",\"c\":\"d\"} SIGKILL"
    );
}

#[test]
fn the_starter_s_limit_of_open_files_is_the_command_s_and_not_the_filesystem_s() {
    let ply = Ply::with_busybox();
    let limited = |arguments: &[&str]| {
        let engine = ply.command(arguments);
        let mut command = std::process::Command::new("bash");
        command
            .args(["-c", "ulimit -Sn 64; exec \"$0\" \"$@\""])
            .arg(engine.get_program())
            .args(engine.get_args())
            .envs(
                engine
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
        tests::Output::from(command.output().expect("bash runs"))
    };
    let many = "for i in $(seq 200); do eval \"exec $((i+10))>/f$i\" || exit; done; ls /f* | wc -l";
    let opened = limited(
        &[
            NONE,
            &["--ulimit", "nofile=2000:2000", "busybox", "sh", "-c", many],
        ]
        .concat(),
    );
    assert_eq!((opened.ok(), opened.err.as_str()), ("200", ""));
    limited(&[
        "run",
        "--name",
        "again",
        "--network",
        "none",
        "--restart",
        "on-failure:1",
        "busybox",
        "sh",
        "-c",
        "ulimit -n; exit 3",
    ])
    .fails(3, "");
    tests::eventually("it was started twice", || {
        ply.run(&["logs", "again"]).out == "64\n64\n"
    });
}
