//! Restart policies, freezing, health, limits that change, and the events of it all.
#![allow(missing_docs)]

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tests::Ply;
use tests::eventually;
use tests::kill_9;

fn pid_of(ply: &Ply, name: &str) -> i32 {
    ply.inspect(name, "{{.State.Pid}}").parse().expect("a pid")
}

fn status(ply: &Ply, name: &str) -> String {
    let filter = format!("name={name}");
    let format = "{{.Status}}";
    let output = ply.run(&["ps", "-a", "--filter", &filter, "--format", format]);
    output.ok().to_owned()
}

#[test]
fn a_failing_container_is_started_again_as_often_as_its_policy_says() {
    let ply = Ply::with_busybox();
    let run = |name: &str, policy: &str, script: &str| {
        let command = ["busybox", "sh", "-c", script];
        let options = ["run", "-d", "--name", name, "--restart", policy];
        ply.run(&[&options[..], &command].concat()).ok();
    };
    run("c1", "on-failure:2", "echo once; exit 3");
    run("c2", "on-failure:2", "echo once");
    run("c3", "no", "exit 3");
    eventually("it gives up", || {
        ply.inspect("c1", "{{.State.Status}}") == "exited"
    });
    let ended = "{{.RestartCount}} {{.State.ExitCode}} {{.HostConfig.RestartPolicy.Name}} \
                 {{.HostConfig.RestartPolicy.MaximumRetryCount}}";
    assert_eq!(ply.inspect("c1", ended), "2 3 on-failure 2");
    assert_eq!(ply.run(&["logs", "c1"]).ok(), "once\nonce\nonce");
    assert_eq!(ply.run(&["wait", "c1", "c2", "c3"]).ok(), "3\n0\n3");
    assert_eq!(ply.run(&["logs", "c2"]).ok(), "once");
    assert_eq!(ply.inspect("c3", ended), "0 3 no 0");
    // A start by hand begins to count anew.
    ply.run(&["start", "c1"]).ok();
    eventually("it gives up", || {
        ply.inspect("c1", "{{.State.Status}}") == "exited"
    });
    assert_eq!(ply.inspect("c1", "{{.RestartCount}}"), "2");
}

#[test]
fn whoever_is_attached_or_waits_sees_the_run_s_end() {
    let ply = Ply::with_busybox();
    let policy = ["run", "--name", "c1", "--restart", "always"];
    let script = ["busybox", "sh", "-c", "echo run; sleep 0.2; exit 9"];
    let output = ply.run(&[&policy[..], &script].concat());
    assert_eq!((output.code, &output.out[..]), (9, "run\n"));
    // The policy goes on without anybody, and `wait` returns at the next end.
    eventually("it runs again", || {
        ply.inspect("c1", "{{.RestartCount}}") != "0"
    });
    assert_eq!(ply.run(&["wait", "c1"]).ok(), "9");
    assert_ne!(ply.inspect("c1", "{{.State.Status}}"), "exited");
    ply.run(&["rm", "-f", "c1"]).ok();
}

#[test]
fn while_it_waits_for_its_next_start_a_container_can_be_stopped() {
    let ply = Ply::with_busybox();
    let policy = ["run", "-d", "--name", "c1", "--restart", "always"];
    ply.run(&[&policy[..], &["busybox", "false"]].concat()).ok();
    let is_resting =
        || ply.inspect("c1", "{{.State.Status}} {{.State.Restarting}}") == "restarting true";
    eventually("it waits", is_resting);
    let mut waiter = ply.spawn(&["wait", "c1"]);
    // The third pause and later ones are long enough not to be missed.
    eventually("it waits long", || {
        let count: u32 = ply
            .inspect("c1", "{{.RestartCount}}")
            .parse()
            .expect("a number");
        count >= 4 && is_resting()
    });
    assert!(status(&ply, "c1").starts_with("Restarting (1) "));
    ply.run(&["exec", "c1", "true"])
        .fails(1, "is restarting, wait until the container is running");
    ply.run(&["pause", "c1"])
        .fails(1, "is restarting, wait until");
    ply.run(&["rm", "c1"])
        .fails(1, "You cannot remove a running container");
    ply.run(&["stop", "c1"]).ok();
    assert_eq!(
        ply.inspect("c1", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 1"
    );
    assert!(waiter.wait().expect("an end").success());
    ply.run(&["start", "c1"]).ok();
    ply.run(&["rm", "-f", "c1"]).ok();
}

#[test]
fn killed_from_outside_it_is_started_again_and_stopped_by_a_person_it_is_not() {
    let ply = Ply::with_busybox();
    for policy in ["always", "unless-stopped", "on-failure"] {
        let run = ["run", "-d", "--name", "c1", "--restart", policy];
        ply.run(&[&run[..], &["busybox", "sleep", "1000"]].concat())
            .ok();
        let first = pid_of(&ply, "c1");
        kill_9(first);
        let runs_again = |before: i32| {
            let now: i32 = ply.inspect("c1", "{{.State.Pid}}").parse().unwrap_or(0);
            now != 0 && now != before
        };
        eventually("it runs again", || runs_again(first));
        ply.run(&["exec", "c1", "true"]).ok();
        // Its monitor dead, the next command starts it.
        let second = pid_of(&ply, "c1");
        kill_9(ply.monitor_of("c1"));
        eventually("it runs again", || runs_again(second));
        assert_eq!(ply.inspect("c1", "{{.RestartCount}}"), "2");
        ply.run(&["kill", "c1"]).ok();
        assert_eq!(ply.inspect("c1", "{{.State.Status}}"), "exited");
        ply.run(&["start", "c1"]).ok();
        ply.run(&["stop", "-t", "0", "c1"]).ok();
        assert_eq!(
            ply.inspect("c1", "{{.State.Status}} {{.RestartCount}}"),
            "exited 0"
        );
        ply.run(&["rm", "c1"]).ok();
    }
}

#[test]
fn policies_that_cannot_be_are_refused() {
    let ply = Ply::with_busybox();
    let run = |options: &[&str]| ply.run(&[&["run"], options, &["busybox", "true"]].concat());
    run(&["--rm", "--restart", "always"]).fails(
        125,
        "conflicting options: cannot specify both --restart and --rm",
    );
    run(&["--restart", "sometimes"]).fails(125, "unknown policy 'sometimes'");
    run(&["--restart", "always:3"]).fails(125, "can only be used with 'on-failure'");
    assert_eq!(ply.run(&["ps", "-aq"]).ok(), "");
}

#[test]
fn a_frozen_container_does_nothing_until_it_goes_on() {
    let ply = Ply::with_busybox();
    let script = "while :; do echo $((n = n + 1)) > /n; done";
    ply.run(&["run", "-d", "--name", "c1", "busybox", "sh", "-c", script])
        .ok();
    eventually("it counts", || {
        ply.run(&["exec", "c1", "cat", "/n"]).code == 0
    });
    ply.run(&["pause", "c1"]).ok();
    let number = || ply.run(&["cp", "c1:/n", "-"]).ok().to_owned();
    let before = number();
    assert!(status(&ply, "c1").ends_with(" (Paused)"));
    assert_eq!(
        ply.inspect(
            "c1",
            "{{.State.Status}} {{.State.Paused}} {{.State.Running}}"
        ),
        "paused true true"
    );
    ply.run(&["exec", "c1", "true"]).fails(
        1,
        "Container c1 is paused, unpause the container before exec",
    );
    ply.run(&["pause", "c1"]).fails(1, "is already paused");
    ply.run(&["attach", "c1"]).fails(
        1,
        "You cannot attach to a paused container, unpause it first",
    );
    assert_eq!(number(), before);
    ply.run(&["unpause", "c1"]).ok();
    ply.run(&["unpause", "c1"]).fails(1, "is not paused");
    eventually("it counts", || number() != before);
    // What is to end goes on for it.
    ply.run(&["pause", "c1"]).ok();
    ply.run(&["stop", "-t", "1", "c1"]).ok();
    ply.run(&["pause", "c1"]).fails(1, "is not running");
    ply.run(&["start", "c1"]).ok();
    ply.run(&["pause", "c1"]).ok();
    ply.run(&["kill", "c1"]).ok();
    ply.run(&["start", "c1"]).ok();
    ply.run(&["pause", "c1"]).ok();
    ply.run(&["rm", "-f", "c1"]).ok();
}

#[test]
fn health_is_what_the_checks_find() {
    let ply = Ply::with_busybox();
    let check = [
        "--health-interval",
        "100ms",
        "--health-retries",
        "2",
        "--health-timeout",
        "300ms",
    ];
    let run = |name: &str, options: &[&str]| {
        let run = ["run", "-d", "--name", name];
        ply.run(&[&run[..], &check, options, &["busybox", "sleep", "1000"]].concat())
            .ok();
    };
    run("c1", &["--health-cmd", "echo looked; cat /ok"]);
    assert!(status(&ply, "c1").ends_with("(health: starting)"));
    let health = |name: &str| ply.inspect(name, "{{.State.Health.Status}}");
    eventually("it is unhealthy", || health("c1") == "unhealthy");
    assert!(status(&ply, "c1").ends_with("(unhealthy)"));
    assert_eq!(
        ply.run(&["ps", "-q", "--filter", "health=unhealthy"])
            .ok()
            .lines()
            .count(),
        1
    );
    ply.run(&["exec", "c1", "touch", "/ok"]).ok();
    eventually("it is healthy", || health("c1") == "healthy");
    assert!(status(&ply, "c1").ends_with("(healthy)"));
    eventually("five are kept", || {
        ply.inspect("c1", "{{len .State.Health.Log}}") == "5"
    });
    let log = ply.inspect(
        "c1",
        "{{len .State.Health.Log}} {{with index .State.Health.Log 4}}{{.Output}}{{end}}",
    );
    assert!(log.starts_with("5 looked"), "{log}");
    // One that takes too long is killed and is a failure.
    run("c2", &["--health-cmd", "sleep 1003"]);
    eventually("it is unhealthy", || health("c2") == "unhealthy");
    let words = ply.inspect(
        "c2",
        "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}",
    );
    assert_eq!(words, "-1 Health check exceeded timeout (300ms)");
    ply.run(&["pause", "c2"]).ok();
    ply.run(&["unpause", "c2"]).ok();
    eventually("no check is left behind", || {
        !ply.run(&["exec", "c2", "ps"]).out.contains("1003")
    });
    run(
        "c3",
        &[
            "--health-cmd",
            "false",
            "--health-start-period",
            "1h",
            "--health-start-interval",
            "50ms",
        ],
    );
    eventually("it was checked", || {
        ply.inspect("c3", "{{len .State.Health.Log}}") == "5"
    });
    assert_eq!(health("c3"), "starting");
    ply.run(&["stop", "-t", "0", "c2"]).ok();
    assert!(!status(&ply, "c2").contains("health"));
    // The image's check, and none of it.
    ply.run(&[
        "import",
        "-c",
        "HEALTHCHECK --interval=50ms CMD false",
        "-c",
        "CMD [\"sleep\", \"1000\"]",
        &tests::busybox_tar().to_string_lossy(),
        "checked",
    ])
    .ok();
    ply.run(&[
        "run",
        "-d",
        "--name",
        "c4",
        "--health-retries",
        "1",
        "checked",
    ])
    .ok();
    eventually("it is unhealthy", || health("c4") == "unhealthy");
    ply.run(&["run", "-d", "--name", "c5", "--no-healthcheck", "checked"])
        .ok();
    assert!(!ply.inspect("c5", "{{json .State}}").contains("Health"));
    ply.run(&["run", "--no-healthcheck", "--health-cmd", "true", "checked"])
        .fails(125, "--no-healthcheck conflicts with --health-* options");
}

#[test]
fn limits_change_while_it_runs() {
    let ply = Ply::with_busybox();
    ply.run(&[
        "run",
        "-d",
        "--name",
        "c1",
        "busybox",
        "sh",
        "-c",
        "sleep 1000; true",
    ])
    .ok();
    let limits = [
        "update",
        "-m",
        "32m",
        "--memory-swap",
        "64m",
        "--pids-limit",
        "12",
        "--cpus",
        "0.5",
        "--cpu-shares",
        "512",
        "--cpuset-cpus",
        "0",
        "--restart",
        "on-failure:4",
        "c1",
    ];
    ply.run(&limits).ok();
    let shown = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.PidsLimit}} {{.HostConfig.NanoCpus}} \
                 {{.HostConfig.CpuShares}} {{.HostConfig.CpusetCpus}} {{.HostConfig.RestartPolicy.Name}}";
    let expected = "33554432 67108864 12 500000000 512 0 on-failure";
    assert_eq!(ply.inspect("c1", shown), expected);
    let id = ply.inspect("c1", "{{.Id}}");
    let is_set = |names: [&str; 2], value: &str| {
        let read = |path: &Path| fs::read_to_string(path).ok();
        Ply::cgroups_of(&id)
            .iter()
            .flat_map(|group| names.map(|name| read(&group.join(name))))
            .flatten()
            .any(|text| text.trim() == value)
    };
    assert!(is_set(["memory.limit_in_bytes", "memory.max"], "33554432"));
    assert!(is_set(["pids.max", "pids.max"], "12"));
    assert!(is_set(["cpuset.cpus", "cpuset.cpus"], "0"));
    // Its processes, and those that come, are held by them.
    let mine = ply.run(&[
        "exec",
        "c1",
        "grep",
        "Cpus_allowed_list",
        "/proc/1/status",
        "/proc/self/status",
    ]);
    for line in mine.ok().lines() {
        assert!(line.ends_with("\t0"), "{line}");
    }
    let many = ply.run(&[
        "exec",
        "c1",
        "sh",
        "-c",
        "for i in $(seq 30); do sleep 3 & done; wait",
    ]);
    assert!(many.err.contains("fork"), "{many:?}");
    ply.run(&["restart", "-t", "0", "c1"]).ok();
    assert_eq!(ply.inspect("c1", shown), expected);
    assert!(is_set(["pids.max", "pids.max"], "12"));
    ply.run(&["update", "-m", "1m", "c1"])
        .fails(1, "Minimum memory limit allowed is 6MB");
    ply.run(&["update", "--memory-swap", "16m", "c1"])
        .fails(1, "Minimum memoryswap limit should be larger");
    ply.run(&["update", "c1"])
        .fails(1, "you must provide one or more flags");
    assert_eq!(ply.inspect("c1", shown), expected);
}

#[test]
fn a_lack_of_memory_is_told_and_restarted() {
    let ply = Ply::with_busybox();
    let eater = "test -e /fed && exit 0; touch /fed; head -c 100000000 /dev/zero | tail -n 1";
    ply.run(&[
        "run", "--name", "c1", "-m", "8m", "busybox", "sh", "-c", eater,
    ]);
    assert_eq!(ply.inspect("c1", "{{.State.OOMKilled}}"), "true");
    // Its events tell while it goes on, too.
    let goes_on = "head -c 100000000 /dev/zero | tail -n 1; sleep 1003";
    ply.run(&[
        "run", "-d", "--name", "c3", "-m", "8m", "busybox", "sh", "-c", goes_on,
    ])
    .ok();
    eventually("it is told", || {
        let until = ply.run(&[
            "events",
            "--since",
            "1m",
            "--until",
            "0s",
            "-f",
            "container=c3",
        ]);
        until.ok().contains(" container oom ")
    });
    assert_eq!(ply.inspect("c3", "{{.State.Status}}"), "running");
    ply.run(&["rm", "-f", "c3"]).ok();
    let run = ["run", "--name", "c2", "-m", "8m", "--restart", "on-failure"];
    let output = ply.run(
        &[
            &run[..],
            &["busybox", "sh", "-c", &format!("{eater}; exit 1")],
        ]
        .concat(),
    );
    // The first run's end is what its client sees.
    assert_eq!(output.code, 1, "{output:?}");
    eventually("it has run again, with enough", || {
        let state = "{{.State.Status}} {{.State.OOMKilled}} {{.RestartCount}}";
        ply.inspect("c2", state) == "exited false 1"
    });
}

#[test]
fn processes_and_their_use_are_shown() {
    let ply = Ply::with_busybox();
    ply.run(&[
        "run",
        "-d",
        "--name",
        "c1",
        "-m",
        "64m",
        "busybox",
        "sh",
        "-c",
        "sleep 1003 & sleep 1004; true",
    ])
    .ok();
    eventually("both run", || {
        ply.run(&["top", "c1"]).ok().matches("sleep 100").count() == 4
    });
    let top = ply.run(&["top", "c1"]);
    assert!(top.ok().starts_with("UID "), "{top:?}");
    assert_eq!(top.ok().lines().count(), 4);
    let top = ply.run(&["top", "c1", "-o", "pid,comm"]);
    assert!(top.ok().starts_with("PID "), "{top:?}");
    ply.run(&["top", "c1", "-o", "comm"])
        .fails(1, "Couldn't find PID field in ps output");
    ply.run(&[
        "run",
        "-d",
        "--name",
        "c2",
        "busybox",
        "sh",
        "-c",
        "while :; do :; done",
    ])
    .ok();
    let format = "{{.Name}}|{{.CPUPerc}}|{{.MemUsage}}|{{.PIDs}}";
    let stats = ply.run(&["stats", "--no-stream", "--format", format]);
    let rows: Vec<Vec<&str>> = stats
        .ok()
        .lines()
        .map(|line| line.split('|').collect())
        .collect();
    assert_eq!((rows[0][0], rows[0][3]), ("c2", "1"));
    let percent: f64 = rows[0][1].trim_end_matches('%').parse().expect("a number");
    assert!(percent > 5.0, "{rows:?}");
    assert_eq!((rows[1][0], rows[1][3]), ("c1", "3"));
    assert!(rows[1][2].ends_with(" / 64MiB"), "{rows:?}");
    let table = ply.run(&["stats", "--no-stream", "c1"]);
    assert!(
        table
            .ok()
            .contains("CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT"),
        "{table:?}"
    );
    ply.run(&["kill", "c1"]).ok();
    ply.run(&["top", "c1"]).fails(1, "is not running");
    ply.run(&["stats", "--no-stream", "nosuch"])
        .fails(1, "No such container: nosuch");
}

/// The v2 hierarchy is taken away in a mount namespace of the commands' own; all is done with v1 then.
#[test]
fn a_host_that_has_v1_cgroups_only_does_as_well() {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    if !mounts
        .lines()
        .any(|line| line.contains(" cgroup rw") && line.contains("freezer"))
    {
        println!("this host has no v1 cgroups");
        return;
    }
    let ply = Ply::with_busybox();
    let script = "set -e
        umount -l $(awk '$3 == \"cgroup2\" { print $2 }' /proc/self/mounts)
        $PLY run --rm busybox sh -c 'mknod /f c 10 229; head -c 1 /f' 2>&1 || echo refused
        $PLY run -d --name c1 busybox sh -c 'while :; do :; done' > /dev/null
        $PLY exec c1 cat /proc/1/cgroup | grep -c '/ply/' || true
        $PLY stats --no-stream --format '{{.PIDs}} {{.CPUPerc}}' c1 | sed 's/ 0.00%/ idle/; s/ [0-9.]*%/ busy/'
        $PLY pause c1; $PLY exec c1 true || echo paused; $PLY unpause c1
        $PLY update -m 32m --pids-limit 20 c1
        $PLY exec c1 echo still
        $PLY top c1 | wc -l
        $PLY pause c1; $PLY stop -t 1 c1; $PLY start c1
        kill -9 $($PLY inspect -f '{{.State.Pid}}' c1)
        $PLY wait c1
        $PLY rm -f c1
        find /sys/fs/cgroup -path '*/ply/*' -name '[0-9a-f]*' -type d | wc -l";
    let output = ply.run_apart(script);
    let lines: Vec<&str> = output.out.lines().collect();
    let expected = [
        "head: /f: Operation not permitted",
        "refused",
        "0",
        "1 busy",
        "c1",
        "paused",
        "c1",
        "c1",
        "still",
        "2",
        "c1",
        "c1",
        "c1",
        "137",
        "c1",
    ];
    assert_eq!(&lines[..lines.len() - 1], expected, "{output:?}");
    let id = ply.run(&["ps", "-aq"]);
    assert_eq!(id.ok(), "");
}

#[test]
fn events_tell_what_has_happened_in_order() {
    let ply = Ply::with_busybox();
    let watcher = ply.spawn(&[
        "events",
        "--filter",
        "container=c1",
        "--format",
        "{{.Action}} {{index .Actor.Attributes \"exitCode\"}}",
    ]);
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a time");
    let since = format!("{}.{:09}", since.as_secs(), since.subsec_nanos());
    ply.run(&[
        "run",
        "-d",
        "--name",
        "c1",
        "-l",
        "a=b",
        "busybox",
        "sh",
        "-c",
        "sleep 1000; exit 3",
    ])
    .ok();
    ply.run(&["pause", "c1"]).ok();
    ply.run(&["unpause", "c1"]).ok();
    ply.run(&["exec", "c1", "sh", "-c", "exit 4"]);
    ply.run(&["rename", "c1", "c2"]).ok();
    ply.run(&["rename", "c2", "c1"]).ok();
    ply.run(&["stop", "-t", "0", "c1"]).ok();
    ply.run(&["rm", "c1"]).ok();
    ply.run(&["tag", "busybox", "other"]).ok();
    let until = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a time");
    let until = format!("{}.{:09}", until.as_secs(), until.subsec_nanos());
    let past = |options: &[&str]| {
        let range = ["events", "--since", &since, "--until", &until];
        ply.run(&[&range[..], options].concat()).ok().to_owned()
    };
    let actions = past(&["--filter", "type=container", "--format", "{{.Action}}"]);
    let expected = "create\nstart\npause\nunpause\nexec_create: sh -c exit 4\nexec_start: sh -c exit 4\nexec_die\n\
                    rename\nrename\nkill\nkill\ndie\nstop\ndestroy";
    assert_eq!(actions, expected);
    let line = past(&["--filter", "event=start"]);
    assert!(line.contains(" container start "), "{line}");
    assert!(line.ends_with("(a=b, image=busybox, name=c1)"), "{line}");
    let image = past(&[
        "--filter",
        "type=image",
        "--format",
        "{{.Action}} {{.Actor.Attributes.name}}",
    ]);
    assert_eq!(image, "tag other:latest");
    let json = past(&["--filter", "event=die", "--format", "json"]);
    let die: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(die["Actor"]["Attributes"]["exitCode"], "137");
    ply.run(&["events", "--filter", "nosuch=1"])
        .fails(1, "Invalid filter 'nosuch'");
    let pid = Pid::from_raw(watcher.id() as i32);
    kill(pid, Signal::SIGTERM).expect("it lives");
    let seen = watcher.wait_with_output().expect("an end").stdout;
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(seen.contains("exec_die 4\n"), "{seen}");
}
