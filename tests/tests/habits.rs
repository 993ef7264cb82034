//! What users of Docker's command line are used to, and scripts of theirs go by.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::Ply;
use tests::Registry;
use tests::Terminal;
use tests::eventually;

fn sleeper(ply: &Ply, options: &[&str]) {
    let run = ["run", "-d", "--network", "none"];
    ply.run(&[&run, options, &["busybox", "sleep", "1000"]].concat())
        .ok();
}

#[test]
fn switches_may_have_values_and_the_last_of_a_flag_counts() {
    let ply = Ply::with_busybox();
    let run = ["run", "--network", "none"];
    let run = |arguments: &[&str]| ply.run(&[&run, arguments].concat());
    run(&["--rm=false", "--name", "a1", "busybox", "true"]).ok();
    assert_eq!(ply.inspect("a1", "{{.HostConfig.AutoRemove}}"), "false");
    run(&["--rm=true", "--name", "b1", "busybox", "true"]).ok();
    ply.run(&["inspect", "b1"]).fails(1, "No such object: b1");
    run(&["--rm", "-it=false", "busybox", "echo", "x"]).ok();
    run(&["-d=false", "--rm", "--tty=0", "busybox", "echo", "x"]).ok();
    run(&[
        "--name", "x1", "--name", "c1", "-w", "/a", "-w", "/tmp", "busybox", "pwd",
    ])
    .ok();
    assert_eq!(ply.inspect("c1", "{{.Config.WorkingDir}}"), "/tmp");
    run(&["--rm", "--name", "", "busybox", "true"]).ok();
    run(&["--rm=maybe", "busybox", "true"]).fails(
        125,
        "invalid argument \"maybe\" for \"--rm\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
    );
    run(&["--rm", "-u", "-1", "busybox", "true"]).fails(125, "user");
    let listed = ply.run(&[
        "ps",
        "--all=true",
        "--quiet=false",
        "--format",
        "{{.Names}}",
    ]);
    assert_eq!(listed.ok(), "c1\na1");
    assert!(!ply.run(&["run", "--help"]).out.contains("--rm["));
}

#[test]
fn templates_may_use_the_names_of_docker_s_own_types() {
    let ply = Ply::with_busybox();
    let options = ["--name", "c1", "--cpus", "0.5", "--cap-add", "sys_time"];
    sleeper(&ply, &options);
    assert_eq!(ply.inspect("c1", "{{.ID}}"), ply.inspect("c1", "{{.Id}}"));
    assert_eq!(ply.inspect("c1", "{{.HostConfig.NanoCPUs}}"), "500000000");
    assert_eq!(ply.inspect("c1", "{{json .HostConfig.DNS}}"), "[]");
    assert_eq!(
        ply.inspect("c1", "{{json .HostConfig.CapAdd}}"),
        "[\"CAP_SYS_TIME\"]"
    );
    let health = "{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}";
    assert_eq!(ply.inspect("c1", health), "none");
    assert_eq!(ply.inspect("c1", "{{json .State.Health}}"), "null");
    assert_eq!(ply.inspect("c1", "{{json .HostConfig.Sysctls}}"), "null");
    let version = ply.run(&["version", "--format", "{{.Server.APIVersion}}"]);
    assert!(version.ok().starts_with("1."), "{version:?}");
    ply.run(&["inspect", "-f", "{{.Nope}}", "c1"])
        .fails(1, "map has no entry for key \"Nope\"");
    ply.remove_all();
}

#[test]
fn ps_shows_and_finds_what_docker_s_does() {
    let ply = Ply::with_busybox();
    let script = ["sh", "-c", "echo a; sleep 1000"];
    let run = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "r1",
        "--expose",
        "80",
    ];
    ply.run(&[&run[..], &["busybox"], &script].concat()).ok();
    sleeper(&ply, &["--name", "r12", "--label", "a=b"]);
    let ps = |filter: &str| {
        let names = ply.run(&["ps", "--format", "{{.Names}}", "--filter", filter]);
        names.ok().replace('\n', " ")
    };
    for (filter, names) in [
        ("name=^/r1$", "r1"),
        ("name=^r1$", "r1"),
        ("name=r1", "r12 r1"),
        ("name=2$", "r12"),
        ("name=[", ""),
        ("expose=80", "r1"),
        ("expose=80/udp", ""),
        ("publish=80", ""),
        ("is-task=false", "r12 r1"),
        ("is-task=true", ""),
    ] {
        assert_eq!(ps(filter), names, "{filter}");
    }
    ply.run(&["ps", "--filter", "publish=x"])
        .fails(1, "invalid port 'x'");
    let command = ply.run(&["ps", "--format", "{{.Command}}", "-f", "name=^r1$"]);
    assert_eq!(command.ok(), "\"sh -c 'echo a; slee…\"");
    ply.run(&["rm", "-f", "r1", "r12"]).ok();
}

#[test]
fn verbs_on_containers_end_as_docker_s_do() {
    let ply = Ply::with_busybox();
    ply.run(&["rm", "-f", "nosuch"]).ok();
    let removed = ply.run(&["rm", "-f", "nosuch"]);
    assert_eq!(removed.out, "");
    assert_eq!(removed.err, "No such container: nosuch\n");
    // What is made to go with its end does not go with a restart.
    sleeper(&ply, &["--rm", "--name", "c1"]);
    ply.run(&["restart", "-s", "NOSUCH", "c1"])
        .fails(1, "Invalid signal: NOSUCH");
    ply.run(&["restart", "-t", "0", "c1"]).ok();
    assert_eq!(ply.inspect("c1", "{{.State.Status}}"), "running");
    ply.run(&["pause", "c1"]).ok();
    ply.run(&["start", "c1"])
        .fails(1, "cannot start a paused container, try unpause instead");
    ply.run(&["unpause", "c1"]).ok();
    ply.run(&["stop", "-t", "0", "c1"]).ok();
    eventually("it is gone", || ply.run(&["inspect", "c1"]).code == 1);

    sleeper(&ply, &["--name", "c2"]);
    sleeper(&ply, &["--name", "c3"]);
    let stopped = ply.run(&["stop", "-t", "0", "c2", "nosuch", "c3"]);
    assert_eq!((stopped.code, stopped.out.as_str()), (1, "c2\nc3\n"));
    assert_eq!(stopped.err, "No such container: nosuch\n");
    assert_eq!(ply.run(&["rm", "c3", "c2"]).ok(), "c3\nc2");

    ply.run(&["create", "--name", "c4", "busybox"]).ok();
    ply.run(&["create", "--name", "c4", "busybox"])
        .fails(1, "Conflict. The container name \"/c4\" is already in use");
    ply.run(&["create", "--pull", "never", "nosuch"])
        .fails(1, "No such image: nosuch:latest");
    ply.run(&["create", "--nosuch", "busybox"])
        .fails(125, "unknown flag: --nosuch");
    ply.run(&["network", "create", "unused"]).ok();
    let pruned = ply.run(&["system", "prune", "-f"]);
    assert!(
        pruned.ok().contains("Deleted Networks:\nunused\n"),
        "{pruned:?}"
    );
    assert!(ply.run(&["help", "run"]).ok().contains("ply run"));
}

#[test]
fn exec_refuses_what_docker_s_does() {
    let ply = Ply::with_busybox();
    sleeper(&ply, &["--name", "c1"]);
    let exec = |arguments: &[&str]| ply.run(&[&["exec"], arguments].concat());
    let relative = exec(&["-w", "relative", "c1", "true"]);
    assert_eq!(relative.code, 126);
    assert_eq!(relative.out, "Cwd must be an absolute path\n");
    exec(&["c1"]).fails(1, "requires at least 2 arguments");
    exec(&["--env-file", "/nosuch", "c1", "true"]).fails(1, "open /nosuch: no such file");
    exec(&["-e", "=x", "c1", "true"]).fails(125, "invalid environment variable");
    let detached = exec(&["-d", "c1", "nosuchcommand"]);
    detached.fails(1, "executable file not found in $PATH");
    assert_eq!(detached.out, "");
    ply.remove_all();
}

#[test]
fn limits_that_cannot_be_are_refused_before_anything_is_made() {
    let ply = Ply::with_busybox();
    let cpus = std::fs::read_to_string("/sys/devices/system/cpu/online").expect("processors");
    let too_many = format!(
        "Requested CPUs are not available - requested 0-4000, available: {}",
        cpus.trim()
    );
    for (option, value, words) in [
        ("--cpuset-cpus", "0-4000", too_many.as_str()),
        (
            "--cpuset-cpus",
            "x",
            "Invalid value x for cpuset cpus: invalid format",
        ),
        (
            "--cpuset-mems",
            "4000",
            "Requested memory nodes are not available",
        ),
        (
            "--cpu-quota",
            "10",
            "CPU cfs quota can not be less than 1ms",
        ),
        (
            "--cpu-period",
            "10",
            "CPU cfs period can not be less than 1ms",
        ),
        ("--cpus", "0.0001", "Range of CPUs is from 0.01 to"),
        ("-e", "", "invalid environment variable"),
        ("-e", "=x", "invalid environment variable"),
        ("-l", "=x", "invalid label '=x': empty name"),
        ("-u", "nosuch", "unable to find user nosuch"),
        ("--group-add", "nosuch", "unable to find group nosuch"),
    ] {
        let output = ply.run(&["run", "--rm", option, value, "busybox", "true"]);
        output.fails(125, words);
        assert!(!output.err.contains("os error"), "{output:?}");
    }
    ply.run(&[
        "run",
        "--cpus",
        "1",
        "--cpu-period",
        "5000",
        "busybox",
        "true",
    ])
    .fails(125, "Nano CPUs and CPU Period cannot both be set");
    // Nothing of a file that is no profile is shown.
    let profile = [
        "run",
        "--security-opt",
        "seccomp=/etc/passwd",
        "busybox",
        "true",
    ];
    let refused = ply.run(&profile);
    refused.fails(
        125,
        "compacting json for seccomp profile (/etc/passwd) failed",
    );
    assert!(!refused.err.contains("root:"), "{refused:?}");
    assert_eq!(ply.run(&["ps", "-aq"]).ok(), "");
    sleeper(&ply, &["--name", "c1"]);
    ply.run(&["update", "--cpuset-cpus", "4000", "c1"])
        .fails(1, "Requested CPUs are not available");
    ply.remove_all();
}

#[test]
fn nothing_of_the_starter_s_goes_into_a_container() {
    let ply = Ply::with_busybox();
    let script =
        "grep -E 'SigIgn|SigBlk|Cpus_allowed:' /proc/self/status; cat /proc/self/oom_score_adj";
    let run = |before: &str| {
        let program = Ply::program().display().to_string();
        let line = format!("{before} {program} run --rm --network none busybox sh -c \"{script}\"");
        ply.run_apart(&line)
    };
    let plain = run("");
    let mut lines: Vec<&str> = plain.ok().lines().collect();
    assert_eq!(lines.pop(), Some("0"));
    let signals = lines.iter().filter(|line| line.starts_with("Sig"));
    for line in signals {
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
    let bound = run("echo 500 > /proc/self/oom_score_adj; exec taskset -c 0");
    assert_eq!(bound.ok(), plain.ok());
    // What watches over the command has a name.
    let init = ["run", "--rm", "--init", "--network", "none", "busybox"];
    let name = ply.run(&[&init[..], &["cat", "/proc/1/comm"]].concat());
    assert_eq!(name.ok(), "ply-init");
}

#[test]
fn what_the_kernel_shows_of_the_host_can_be_left_unmasked() {
    let ply = Ply::with_busybox();
    let script = "cat /proc/sys/vm/swappiness > /tmp/s; cat /tmp/s > /proc/sys/vm/swappiness";
    let run = ["run", "--rm", "--network", "none"];
    let words = ["busybox", "sh", "-c", script];
    let masked = ply.run(&[&run[..], &words].concat());
    assert!(masked.err.contains("Read-only file system"), "{masked:?}");
    let option = ["--security-opt", "systempaths=unconfined"];
    let unmasked = ply.run(&[&run[..], &option, &words].concat());
    assert!(!unmasked.err.contains("Read-only"), "{unmasked:?}");
    let create = ["create", "--name", "c1", option[0], option[1], "busybox"];
    ply.run(&create).ok();
    assert_eq!(ply.inspect("c1", "{{json .HostConfig.MaskedPaths}}"), "[]");
}

#[test]
fn attaching_makes_a_program_draw_its_screen_again() {
    let ply = Ply::with_busybox();
    let script = "trap 'echo size $(stty size)' WINCH; while :; do sleep 0.1; done";
    let run = ["run", "-dt", "--network", "none", "--name", "c1", "busybox"];
    ply.run(&[&run[..], &["sh", "-c", script]].concat()).ok();
    let mut terminal = Terminal::new(24, 80);
    let mut child = terminal.spawn(&mut ply.command(&["attach", "c1"]));
    terminal.type_in("", "size 24 80");
    std::thread::sleep(Duration::from_millis(1));
    ply.run(&["kill", "c1"]).ok();
    child.wait().expect("ended");
}

#[test]
fn copies_are_what_their_sources_are() {
    let ply = Ply::with_busybox();
    let files = tempfile::tempdir().expect("a directory");
    let path = |name: &str| files.path().join(name).display().to_string();
    std::fs::write(path("script"), "#!/bin/sh\n").expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o750);
    std::fs::set_permissions(path("script"), mode).expect("a mode");
    let script = "echo old > /there; chmod 600 /there; ln -s /target /dangling; ln -s later /near; sleep 1000";
    let run = ["run", "-d", "--name", "c1", "--hostname", "h1", "busybox"];
    ply.run(&[&run[..], &["sh", "-c", script]].concat()).ok();
    eventually("it is set up", || {
        ply.run(&["exec", "c1", "test", "-L", "/near"]).code == 0
    });
    // What was there has the mode of what comes, and a link without a target gets one.
    for (name, place) in [
        ("/there", "/there"),
        ("/dangling", "/target"),
        ("/near", "/later"),
    ] {
        ply.run(&["cp", &path("script"), &format!("c1:{name}")])
            .ok();
        let mode = ply.run(&["exec", "c1", "stat", "-c", "%a %F", place]);
        assert_eq!(mode.ok(), "750 regular file", "{name}");
    }
    // The whole of a running container is what is its own.
    ply.run(&["cp", "c1:/", &path("whole")]).ok();
    assert!(files.path().join("whole/there").exists());
    for closed in ["proc", "sys", "dev"] {
        let names =
            std::fs::read_dir(files.path().join("whole").join(closed)).expect("it is there");
        assert_eq!(names.count(), 0, "{closed}");
    }
    let failed = ply.run(&["cp", &path("script"), "c1:/proc/nosuch"]);
    assert!(
        failed.code == 1 && !failed.err.contains("os error"),
        "{failed:?}"
    );
    let hosts = ply.run(&["exec", "c1", "cat", "/etc/hosts"]);
    ply.run(&["stop", "-t", "0", "c1"]).ok();
    ply.run(&["cp", "c1:/etc/hosts", &path("hosts")]).ok();
    let stopped = std::fs::read_to_string(path("hosts")).expect("a file");
    assert!(
        stopped.contains("localhost") && hosts.ok().contains("localhost"),
        "{stopped}"
    );
    // A tar may be compressed.
    tests::must("tar", &["-C", &path(""), "-czf", &path("t.tgz"), "script"]);
    let tar = std::fs::read(path("t.tgz")).expect("a tar");
    ply.run_with(&["cp", "-", "c1:/tmp"], &tar).ok();
    ply.run(&["cp", "c1:/tmp/script", &path("again")]).ok();
    let events = ply.run(&[
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--format",
        "{{.Action}}",
    ]);
    for action in ["extract-to-dir", "archive-path"] {
        assert!(events.ok().lines().any(|it| it == action), "{events:?}");
    }
}

#[test]
fn the_disk_s_use_is_shown_of_each_thing_and_prunes_can_be_narrowed() {
    let ply = Ply::with_busybox();
    ply.run(&[
        "create", "--name", "c1", "--label", "keep=no", "-v", "v1:/data", "busybox",
    ])
    .ok();
    ply.run(&["create", "--name", "c2", "busybox"]).ok();
    let shown = ply.run(&["system", "df", "-v"]);
    for words in [
        "Images space usage:\n\nREPOSITORY   TAG ",
        "busybox ",
        "Containers space usage:\n\nCONTAINER ID ",
        "Local Volumes space usage:\n\nVOLUME NAME   LINKS     SIZE\nv1            1         0B\n",
        "Build cache usage: 0B\n\nCACHE ID ",
    ] {
        assert!(shown.ok().contains(words), "{words}: {}", shown.out);
    }
    ply.run(&["system", "prune", "-f", "--filter", "label=keep=no"])
        .ok();
    assert_eq!(ply.run(&["ps", "-a", "--format", "{{.Names}}"]).ok(), "c2");
    ply.run(&["system", "prune", "-f", "--filter", "until=24h"])
        .ok();
    assert_eq!(ply.run(&["ps", "-a", "--format", "{{.Names}}"]).ok(), "c2");
    ply.run(&["system", "prune", "-f", "--filter", "nosuch=1"])
        .fails(1, "invalid filter 'nosuch'");
}

#[test]
fn everyday_mistakes_are_named() {
    let ply = Ply::with_busybox();
    let file = ply.path("file");
    std::fs::write(&file, "text").expect("written");
    let (file, directory) = (file.to_string_lossy(), ply.directory("here"));
    let none = ["run", "--rm", "--network", "none"];
    for mount in [
        format!("{file}:/etc"),
        format!("{}:/etc/passwd", directory.display()),
    ] {
        let run = ply.run(&[&none[..], &["-v", &mount, "busybox", "true"]].concat());
        run.fails(125, "trying to mount a directory onto a file");
    }
    std::fs::write(directory.join("found"), "").expect("written");
    let mut relative = ply.command(
        &[
            &none[..],
            &[
                "--mount",
                "type=bind,src=./here,dst=/d",
                "busybox",
                "ls",
                "/d",
            ],
        ]
        .concat(),
    );
    let relative = relative
        .current_dir(ply.path("."))
        .output()
        .expect("it runs");
    assert_eq!(
        String::from_utf8_lossy(&relative.stdout),
        "found\n",
        "{relative:?}"
    );
    let warned = ply.run(&[
        "run",
        "--rm",
        "--network",
        "host",
        "-p",
        "80:80",
        "busybox",
        "true",
    ]);
    assert_eq!(warned.code, 0);
    assert_eq!(
        warned.err,
        "WARNING: Published ports are discarded when using host network mode\n"
    );
    ply.run(&["run", "--rm", "--link", "a:b:c", "busybox", "true"])
        .fails(125, "bad format for links: a:b:c");
}

#[test]
fn a_client_that_is_interrupted_three_times_leaves_a_container_that_does_not_listen() {
    let ply = Ply::with_busybox();
    let script = "trap '' INT TERM; echo ready; while :; do sleep 1; done";
    let run = ["run", "--network", "none", "--name", "c1", "busybox"];
    let mut commands = vec![[&run[..], &["sh", "-c", script]].concat()];
    commands.push(vec!["attach", "c1"]);
    for arguments in commands {
        let mut command = ply.command(&arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let client = tests::interruptible(&mut command)
            .spawn()
            .expect("ply runs");
        eventually("it runs", || ply.run(&["logs", "c1"]).out == "ready\n");
        let pid = nix::unistd::Pid::from_raw(client.id() as i32);
        let signals = |field: &str| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
            let status = status.unwrap_or_default();
            let mask = status.lines().find_map(|line| line.strip_prefix(field));
            mask.map_or(0, |mask| {
                u64::from_str_radix(mask.trim(), 16).expect("a number")
            })
        };
        eventually("it listens", || signals("SigBlk:") & 2 != 0);
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGINT] {
            nix::sys::signal::kill(pid, signal).expect("it lives");
            eventually("it has heard", || signals("ShdPnd:") == 0);
        }
        let output = client.wait_with_output().expect("ply ends");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            words.contains("got 3 SIGTERM/SIGINTs, forcefully exiting"),
            "{words}"
        );
        assert_eq!(ply.inspect("c1", "{{.State.Running}}"), "true");
    }
    ply.remove_all();
}

#[test]
fn archives_are_their_owner_s_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let ply = Ply::with_busybox();
    ply.run(&["create", "--name", "c1", "busybox"]).ok();
    let path = ply.path("archive.tar").to_string_lossy().into_owned();
    for verb in [["save", "busybox"], ["export", "c1"]] {
        ply.run(&[verb[0], "-o", &path, verb[1]]).ok();
        let mode = std::fs::metadata(&path).expect("a file").permissions();
        assert_eq!(mode.mode() & 0o7777, 0o600, "{verb:?}");
        std::fs::remove_file(&path).expect("removed");
    }
}

#[test]
fn options_of_docker_s_client_are_taken_before_the_verb() {
    let ply = Ply::with_busybox();
    for option in ["-v", "--version"] {
        assert!(ply.run(&[option]).ok().starts_with("ply "), "{option}");
    }
    for options in [
        &["-D"][..],
        &["--debug"],
        &["-l", "warn"],
        &["--log-level=fatal"],
        &["-c", "default"],
        &["-H", "unix:///var/run/docker.sock"],
    ] {
        let ps = ply.run(&[options, &["ps", "-q"]].concat());
        assert_eq!(ps.ok(), "", "{options:?}");
    }
    for host in ["tcp://192.0.2.1:2375", "ssh://somebody@192.0.2.1"] {
        ply.run(&["-H", host, "ps"])
            .fails(1, &format!("cannot use the engine at {host}"));
    }
    ply.run(&["--context", "other", "ps"])
        .fails(1, "context \"other\" does not exist");
    ply.run(&["-l", "loud", "ps"])
        .fails(125, "invalid argument \"loud\" for \"--log-level\" flag");
    ply.run(&["-l", "info", "ps", "--nosuch"])
        .fails(125, "unknown flag: --nosuch");
}

#[test]
fn a_link_can_be_removed_by_its_name() {
    let ply = Ply::with_busybox();
    let run = ["run", "-d", "--name"];
    let sleep = ["busybox", "sleep", "1000"];
    ply.run(&[&run[..], &["db"], &sleep].concat()).ok();
    let link = ["c1", "--link", "db:store"];
    ply.run(&[&run[..], &link, &sleep].concat()).ok();
    let hosts = || {
        ply.run(&["exec", "c1", "cat", "/etc/hosts"])
            .ok()
            .to_owned()
    };
    assert!(hosts().contains("store"), "{}", hosts());
    ply.run(&["rm", "--link", "/c1/nosuch"])
        .fails(1, "No such container: /c1/nosuch");
    ply.run(&["rm", "--link", "c1"]).fails(
        1,
        "Conflict, cannot remove the default link name of the container",
    );
    assert_eq!(ply.run(&["rm", "-l", "/c1/store"]).ok(), "/c1/store");
    assert_eq!(ply.inspect("c1", "{{json .HostConfig.Links}}"), "null");
    assert!(!hosts().contains("store"), "{}", hosts());
    assert_eq!(ply.run(&["ps", "-q"]).ok().lines().count(), 2);
    ply.remove_all();
}

#[test]
fn info_and_version_have_what_scripts_look_for() {
    let ply = Ply::new();
    let info = ply.run(&["info"]);
    let root = format!(" Docker Root Dir: {}", ply.root().display());
    for line in [
        "Client:",
        "Server:",
        " Containers: 0",
        "  Running: 0",
        " Storage Driver: layerfs",
        &root,
        " Runtimes: ply",
        " Default Runtime: ply",
        " Security Options:",
        "  seccomp",
        "   Profile: builtin",
        " Live Restore Enabled: true",
        " Debug Mode: false",
        " Swarm: inactive",
    ] {
        assert!(info.ok().lines().any(|it| it == line), "{line}: {info:?}");
    }
    assert!(info.ok().contains("\n ID: "));
    let version = |template: &str| ply.run(&["version", "-f", template]).ok().to_owned();
    assert_eq!(version("{{.Server.MinAPIVersion}}"), "1.24");
    assert_eq!(version("{{.Server.Platform.Name}}"), "ply");
    let components = "{{range .Server.Components}}{{.Name}} {{.Version}}{{end}}";
    let expected = format!("Engine {}", version("{{.Client.Version}}"));
    assert_eq!(version(components), expected);
    let newest = version("{{.Server.APIVersion}}");
    assert_eq!(version("{{.Client.DefaultAPIVersion}}"), newest);
    assert_eq!(
        version("{{.Client.Context}}{{.Client.BuildTime}}"),
        "default"
    );
}

#[test]
fn logins_are_tried_and_kept_where_docker_keeps_them() {
    use std::os::unix::fs::PermissionsExt as _;
    let registry = Registry::with_login("me", "secret");
    let ply = Ply::with_busybox();
    let directory = ply.directory("settings");
    let file = directory.join("config.json");
    std::fs::write(&file, r#"{"detachKeys": "ctrl-x"}"#).expect("written");
    let config = directory.to_string_lossy().into_owned();
    let server = registry.address();
    let log_in = |words: &[&str], password: &str| {
        let login = [&["--config", &config, "login"], words, &[server]].concat();
        ply.run_with(&login, password.as_bytes())
    };
    let stdin = ["-u", "me", "--password-stdin"];
    log_in(&stdin, "wrong\n").fails(1, "unauthorized: authentication required");
    log_in(&["--password-stdin"], "secret")
        .fails(1, "Must provide --username with --password-stdin");
    log_in(&["-u", "me"], "secret").fails(
        1,
        "Cannot perform an interactive login from a non TTY device",
    );
    let tag = registry.image("busybox");
    ply.run(&["tag", "busybox", &tag]).ok();
    let push = ["--config", &config, "push", &tag];
    assert_eq!(ply.run(&push).code, 1);
    let done = log_in(&stdin, "secret\n");
    assert_eq!(done.ok(), "Login Succeeded");
    assert!(
        done.err.contains("will be stored unencrypted in "),
        "{done:?}"
    );
    let read = || {
        let text = std::fs::read_to_string(&file).expect("a file");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")
    };
    let kept = serde_json::json!({ "detachKeys": "ctrl-x", "auths": { server: { "auth": "bWU6c2VjcmV0" } } });
    assert_eq!(read(), kept);
    let mode = std::fs::metadata(&file).expect("a file").permissions();
    assert_eq!(mode.mode() & 0o7777, 0o600);
    ply.run(&push).ok();
    let again = log_in(&[], "");
    assert_eq!(again.ok(), "Login Succeeded");
    assert!(again.err.contains("existing credentials"), "{again:?}");
    let log_out = || ply.run(&["--config", &config, "logout", server]);
    assert_eq!(
        log_out().ok(),
        format!("Removing login credentials for {server}")
    );
    assert_eq!(read()["auths"], serde_json::json!({}));
    assert_eq!(log_out().ok(), format!("Not logged in to {server}"));
    // A helper keeps it elsewhere.
    let helper = directory.join("docker-credential-file");
    let script = format!(
        "#!/bin/sh\ncd {config}\ncase $1 in\nstore) cat > kept;;\nget) cat kept;;\nerase) rm kept;;\nesac\n"
    );
    std::fs::write(&helper, script).expect("written");
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    std::fs::write(&file, r#"{"credsStore": "file"}"#).expect("written");
    let path = format!("{config}:{}", std::env::var("PATH").expect("a path"));
    let with_helper = |words: &[&str]| {
        let mut command = ply.command(&[&["--config", &config], words].concat());
        let output = command.env("PATH", &path).output().expect("ply runs");
        assert!(output.status.success(), "{output:?}");
    };
    with_helper(&["login", "-u", "me", "-p", "secret", server]);
    assert_eq!(read()["auths"], serde_json::json!({ server: {} }));
    with_helper(&["push", &tag]);
    with_helper(&["logout", server]);
    assert!(!directory.join("kept").exists());
}
