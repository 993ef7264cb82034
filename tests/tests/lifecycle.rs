//! A container's life by commands, and the truth after a kill.
#![allow(missing_docs)]

use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tests::Ply;
use tests::eventually;

fn kill_9(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

#[test]
fn a_container_is_made_started_stopped_and_removed() {
    let ply = Ply::with_busybox();
    let id = ply
        .run(&[
            "create",
            "--name",
            "c1",
            "busybox",
            "sh",
            "-c",
            "echo $((1+1)); sleep 1000",
        ])
        .ok()
        .to_owned();
    assert_eq!(id.len(), 64);
    assert_eq!(ply.inspect("c1", "{{.State.Status}}"), "created");
    assert_eq!(ply.run(&["ps", "-q"]).ok(), "");
    assert_eq!(ply.run(&["start", "c1"]).ok(), "c1");
    assert_eq!(
        ply.inspect(&id[..6], "{{.Name}} {{.State.Running}}"),
        "/c1 true"
    );
    eventually("it has said something", || {
        ply.run(&["logs", "c1"]).ok() == "2"
    });
    let listed = ply.run(&[
        "ps",
        "--format",
        "{{.ID}} {{.Image}} {{.Names}} {{.State}} {{.Command}}",
    ]);
    let expected = format!("{} busybox c1 running \"sh -c 'echo $((1+1)…\"", &id[..12]);
    assert_eq!(listed.ok(), expected);
    ply.run(&["rm", "c1"])
        .fails(1, "You cannot remove a running container");
    ply.run(&["rmi", "busybox"])
        .fails(1, "is using its referenced image");
    assert_eq!(ply.run(&["stop", "-t", "0", "c1"]).ok(), "c1");
    assert_eq!(
        ply.inspect("c1", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 137"
    );
    assert_eq!(ply.run(&["wait", "c1"]).ok(), "137");
    ply.run(&["kill", "c1"])
        .fails(1, "Cannot kill container: c1: Container");
    assert_eq!(ply.run(&["start", "c1"]).ok(), "c1");
    assert_eq!(ply.run(&["restart", "-t", "0", "c1"]).ok(), "c1");
    assert_eq!(ply.run(&["kill", "c1"]).ok(), "c1");
    assert_eq!(ply.run(&["rename", "c1", "c2"]).ok(), "");
    assert_eq!(ply.run(&["rm", "c2"]).ok(), "c2");
    ply.run(&["inspect", "c2"])
        .fails(1, "Error: No such object: c2");
}

#[test]
fn what_a_container_wrote_is_there_when_it_starts_again() {
    let ply = Ply::with_busybox();
    let script = "cat /mine 2>/dev/null; echo again >> /mine; rm -r /home; mv /bin/wc /bin/count";
    ply.run(&["create", "--name", "cc", "busybox", "sh", "-c", script])
        .ok();
    assert_eq!(ply.run(&["start", "-a", "cc"]).ok(), "");
    assert_eq!(ply.run(&["start", "-a", "cc"]).out, "again\n");
    let diff = ply.run(&["diff", "cc"]);
    assert_eq!(
        diff.ok(),
        "C /bin\nA /bin/count\nD /bin/wc\nD /home\nA /mine"
    );
}

#[test]
fn logs_are_kept_followed_and_cut() {
    let ply = Ply::with_busybox();
    let script = "for i in 1 2 3; do echo line $i; done; echo oops >&2; sleep 0.3; echo last";
    ply.run(&["run", "-d", "--name", "cc", "busybox", "sh", "-c", script])
        .ok();
    let followed = ply.run(&["logs", "-f", "cc"]);
    assert_eq!(followed.ok(), "line 1\nline 2\nline 3\nlast");
    assert_eq!(followed.err, "oops\n");
    assert_eq!(ply.run(&["logs", "--tail", "1", "cc"]).ok(), "last");
    assert_eq!(ply.run(&["logs", "--tail", "abc", "cc"]).code, 0);
    let stamped = ply.run(&["logs", "-t", "--tail", "1", "cc"]);
    assert!(stamped.ok().ends_with("Z last"), "{stamped:?}");
    assert_eq!(
        ply.run(&["logs", "--since", "1h", "--until", "1s", "cc"])
            .out
            .matches("last")
            .count(),
        0
    );
}

#[test]
fn another_client_can_attach_and_leave() {
    let ply = Ply::with_busybox();
    ply.run(&[
        "run",
        "-d",
        "-i",
        "--name",
        "cc",
        "busybox",
        "sh",
        "-c",
        "read x; echo got $x; exit 4",
    ])
    .ok();
    let output = ply.run_with(&["attach", "cc"], b"something\n");
    assert_eq!((output.code, output.out.as_str()), (4, "got something\n"));
    ply.run(&["attach", "cc"])
        .fails(1, "You cannot attach to a stopped container");
}

#[test]
fn filters_and_formats_of_ps() {
    let ply = Ply::with_busybox();
    ply.run(&[
        "run", "--name", "done", "-l", "k=v", "busybox", "sh", "-c", "exit 7",
    ]);
    ply.run(&["create", "--name", "made", "busybox"]).ok();
    let names = |arguments: &[&str]| {
        ply.run(&[&["ps", "-a", "--format", "{{.Names}}"], arguments].concat())
            .ok()
            .to_owned()
    };
    assert_eq!(names(&[]), "made\ndone");
    assert_eq!(names(&["-f", "status=exited"]), "done");
    assert_eq!(names(&["-f", "exited=7"]), "done");
    assert_eq!(names(&["-f", "label=k=v"]), "done");
    assert_eq!(names(&["-f", "name=mad"]), "made");
    assert_eq!(names(&["-n", "1"]), "made");
    assert_eq!(
        names(&["-f", "ancestor=busybox", "-f", "since=done"]),
        "made"
    );
    ply.run(&["ps", "--filter", "nosuch=1"])
        .fails(1, "Invalid filter 'nosuch'");
    let table = ply.run(&["ps", "-a"]);
    let heading = table.ok().lines().next().expect("a heading").to_owned();
    let columns: Vec<&str> = heading
        .split("  ")
        .map(str::trim)
        .filter(|column| !column.is_empty())
        .collect();
    assert_eq!(
        columns,
        [
            "CONTAINER ID",
            "IMAGE",
            "COMMAND",
            "CREATED",
            "STATUS",
            "PORTS",
            "NAMES"
        ]
    );
    let json: serde_json::Value =
        serde_json::from_str(ply.run(&["ps", "-a", "-n1", "--format", "json"]).ok()).expect("JSON");
    assert_eq!(json["Names"], "made");
    assert_eq!(
        ply.run(&["container", "prune", "-f"]).ok().lines().count(),
        5,
        "two, between a heading and what it was worth"
    );
}

#[test]
fn a_killed_monitor_takes_its_container_along_and_the_next_command_tells() {
    let ply = Ply::with_busybox();
    let id = ply
        .run(&["run", "-d", "--name", "cc", "busybox", "sleep", "1000"])
        .ok()
        .to_owned();
    let pid: i32 = ply
        .inspect("cc", "{{.State.Pid}}")
        .parse()
        .expect("a number");
    kill_9(ply.monitor_of("cc"));
    eventually("the container's process is gone", || {
        kill(Pid::from_raw(pid), None).is_err()
    });
    assert_eq!(
        ply.inspect("cc", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 137"
    );
    assert!(Ply::cgroups_of(&id).is_empty());
    assert_eq!(ply.run(&["start", "cc"]).ok(), "cc");
    assert_eq!(ply.inspect("cc", "{{.State.Running}}"), "true");
    // With --rm there is nothing left to tell of.
    ply.run(&[
        "run", "-d", "--rm", "--name", "gone", "busybox", "sleep", "1000",
    ])
    .ok();
    kill_9(ply.monitor_of("gone"));
    eventually("it is gone", || {
        !ply.run(&["ps", "-a"]).ok().contains("gone")
    });
}

#[test]
fn a_killed_init_and_a_killed_client_are_told_of() {
    let ply = Ply::with_busybox();
    ply.run(&["run", "-d", "--name", "cc", "busybox", "sleep", "1000"])
        .ok();
    kill_9(
        ply.inspect("cc", "{{.State.Pid}}")
            .parse()
            .expect("a number"),
    );
    eventually("it has exited", || {
        ply.inspect("cc", "{{.State.Status}} {{.State.ExitCode}}") == "exited 137"
    });
    let mut client = ply.spawn(&["run", "--name", "dd", "busybox", "sleep", "1000"]);
    eventually("it runs", || {
        let pid = ply.run(&["inspect", "-f", "{{.State.Pid}}", "dd"]);
        pid.out.trim().parse().is_ok_and(|pid: i32| pid > 0)
    });
    client.kill().expect("killed");
    client.wait().expect("an end");
    assert_eq!(
        ply.inspect("dd", "{{.State.Running}}"),
        "true",
        "a container outlives its client"
    );
}

#[test]
fn kills_at_any_moment_leave_the_truth_and_nothing_else() {
    let ply = Ply::with_busybox();
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for round in 0..60 {
        let name = format!("c{round}");
        let mut arguments = vec!["run", "--name", &name];
        if round % 3 == 0 {
            arguments.push("--rm");
        }
        arguments.extend(["busybox", "sh", "-c", "echo x > /x; sleep 0.01"]);
        let mut client = ply.spawn(&arguments);
        std::thread::sleep(Duration::from_micros(next(30_000)));
        // One of the client, the monitor, the container's processes: whoever is there by now.
        let processes = ply.processes();
        match processes.len() as u64 {
            0 => {}
            count => kill_9(processes[next(count) as usize]),
        }
        let _ = client.wait();
    }
    eventually("nothing runs", || ply.run(&["ps", "-q"]).ok().is_empty());
    let states = ply.run(&["ps", "-a", "--format", "{{.State}}"]);
    for state in states.ok().lines() {
        assert!(matches!(state, "exited" | "created"), "{state}");
    }
    let ids = ply.run(&["ps", "-aq", "--no-trunc"]).ok().to_owned();
    for id in ids.lines() {
        assert!(Ply::cgroups_of(id).is_empty(), "{id}");
    }
    // What is left can be started, and removed.
    if let Some(id) = ids.lines().next() {
        ply.run(&["start", "-a", id]);
        assert_eq!(
            ply.inspect(id, "{{.State.Status}} {{.State.ExitCode}}"),
            "exited 0"
        );
    }
    assert!(ply.run(&["system", "check"]).ok().is_empty());
}

#[test]
fn a_hundred_containers_at_once() {
    let ply = Ply::with_busybox();
    let children: Vec<_> = (0..100)
        .map(|number| {
            ply.spawn(&[
                "run",
                "-d",
                "--name",
                &format!("c{number}"),
                "--network",
                "none",
                "busybox",
                "sleep",
                "1000",
            ])
        })
        .collect();
    for child in children {
        let output: tests::Output = child.wait_with_output().expect("an end").into();
        output.ok();
    }
    assert_eq!(ply.run(&["ps", "-q"]).ok().lines().count(), 100);
}
