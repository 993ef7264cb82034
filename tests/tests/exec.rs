//! `ply exec`: further commands in a running container.
#![allow(missing_docs)]

use std::fs;

use tests::Ply;
use tests::Terminal;
use tests::eventually;
use tests::kill_9;

/// Returns an engine with a container `c1` that runs, made with `options`.
fn running(options: &[&str]) -> Ply {
    let ply = Ply::with_busybox();
    let run: &[&str] = &["run", "-d", "--name", "c1"];
    ply.run(&[run, options, &["busybox", "sleep", "1000"]].concat())
        .ok();
    ply
}

fn sh(ply: &Ply, options: &[&str], script: &str) -> String {
    let output = ply.run(&[&["exec"], options, &["c1", "sh", "-c", script]].concat());
    output.ok().to_owned()
}

#[test]
fn streams_and_exit_codes_are_the_command_s() {
    let ply = running(&[]);
    let output = ply.run(&["exec", "c1", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((output.code, &output.out[..]), (7, "out\n"));
    assert_eq!(output.err, "err\n");
    let code = ply
        .run(&["exec", "c1", "sh", "-c", "kill -9 $$; sleep 9"])
        .code;
    assert_eq!(code, 137);
    let input = vec![b'x'; 3 << 20];
    let output = ply.run_with(&["exec", "-i", "c1", "wc", "-c"], &input);
    assert_eq!(output.ok(), "3145728");
    // Without -i the command has the container's null device, and ours is not read.
    let output = ply.run_with(
        &["exec", "c1", "sh", "-c", "cat; readlink /proc/$$/fd/0"],
        b"x",
    );
    assert_eq!(output.ok(), "/dev/null");
    let much = ply.run(&["exec", "c1", "sh", "-c", "yes | head -c 5000000"]);
    assert_eq!(much.ok().len(), 4_999_999);
    // What it leaves behind in the background does not hold us up.
    assert_eq!(sh(&ply, &[], "sleep 1000 & echo done"), "done");
}

#[test]
fn user_directory_and_environment_are_the_container_s_or_set() {
    let ply = running(&[
        "-u",
        "33",
        "-w",
        "/tmp",
        "-e",
        "A=1",
        "-e",
        "B=2",
        "--group-add",
        "7",
    ]);
    let script = "id -u; id -G; pwd; echo $A$B$C; hostname";
    let hostname = ply.inspect("c1", "{{.Config.Hostname}}");
    assert_eq!(
        sh(&ply, &[], script),
        format!("33\n33 7 50\n/tmp\n12\n{hostname}")
    );
    let set = &["-u", "0", "-w", "/etc", "-e", "B=3", "-e", "C=4"];
    assert_eq!(
        sh(&ply, set, script),
        format!("0\n0 7\n/etc\n134\n{hostname}")
    );
    fs::write(ply.path("env"), "C=5\n").expect("a file");
    let file = ply.path("env");
    let file = file.to_str().expect("a path");
    assert_eq!(sh(&ply, &["--env-file", file], "echo $C"), "5");
    assert_eq!(
        sh(&ply, &["-e", "HOME"], "test -n \"$HOME\" && echo set"),
        "set"
    );
}

#[test]
fn it_is_within_the_container_s_walls() {
    let ply = running(&["--cap-drop", "CHOWN", "--ulimit", "nofile=77:99"]);
    let both = |script: &str| {
        let pid = ply.inspect("c1", "{{.State.Pid}}");
        let first = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let status = sh(&ply, &[], "cat /proc/self/status");
        let field = |text: &str| {
            let line = text.lines().find(|line| line.starts_with(script));
            line.expect("a field").to_owned()
        };
        assert_eq!(field(&status), field(&first));
    };
    for field in ["CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp:"] {
        both(field);
    }
    assert_eq!(sh(&ply, &[], "ulimit -n; ulimit -Hn"), "77\n99");
    let namespaces = "for n in cgroup ipc mnt net pid uts; do readlink /proc/$P/ns/$n; done";
    let own = sh(&ply, &["-e", "P=self"], namespaces);
    assert_eq!(own, sh(&ply, &["--privileged", "-e", "P=1"], namespaces));
    let capabilities = sh(&ply, &["--privileged"], "grep CapEff /proc/self/status");
    assert_ne!(capabilities, sh(&ply, &[], "grep CapEff /proc/self/status"));
    let id = ply.inspect("c1", "{{.Id}}");
    let mut members: Vec<String> = Vec::new();
    let mut child = ply.spawn(&["exec", "c1", "sleep", "1001"]);
    eventually("the command is in the container's cgroups", || {
        members = Ply::cgroups_of(&id)
            .iter()
            .map(|path| fs::read_to_string(path.join("cgroup.procs")).expect("a cgroup"))
            .collect();
        !members.is_empty() && members.iter().all(|members| members.lines().count() == 2)
    });
    assert_eq!(
        sh(&ply, &[], "ls /proc/self/fd | wc -l"),
        // Three streams and the directory that is being listed.
        "4"
    );
    ply.run(&["rm", "-f", "c1"]).ok();
    assert_eq!(child.wait().expect("an end").code(), Some(137));
}

#[test]
fn a_terminal_is_the_command_s_own() {
    let ply = running(&["-e", "HOME=/"]);
    let mut terminal = Terminal::new(31, 97);
    let mut command = ply.command(&["exec", "-it", "c1", "sh"]);
    let mut child = terminal.spawn(&mut command);
    let screen = terminal.type_in("tty; stty size; echo $TERM mark-$((40+2))\n", "mark-42");
    for expected in ["/dev/pts/0", "31 97", "xterm mark-42"] {
        assert!(screen.contains(expected), "{screen}");
    }
    terminal.resize(20, 50, &child);
    eventually("the new size", || {
        let screen = terminal.type_in("stty size; echo mark-$((40+3))\n", "mark-43");
        screen.contains("20 50")
    });
    // The terminal is the controlling one: its keys are signals.
    terminal.type_in("sleep 1003\n", "sleep 1003");
    eventually("sleep runs", || sh(&ply, &[], "ps").contains("sleep 1003"));
    terminal.type_in("\u{3}echo ended-$?\n", "ended-130");
    terminal.type_in("exit 5\n", "exit");
    assert_eq!(child.wait().expect("an end").code(), Some(5));
    assert!(terminal.echoes(), "the terminal is as it was");
    ply.run(&["exec", "-it", "c1", "true"])
        .fails(1, "the input device is not a TTY");
    ply.run(&["run", "-dit", "--name", "c2", "busybox", "sh"])
        .ok();
    ply.run(&["attach", "c2"])
        .fails(1, "the input device is not a TTY");
    let mut command = ply.command(&["attach", "--detach-keys", "ctrl-a", "c2"]);
    let mut attached = terminal.spawn(&mut command);
    terminal.type_in("echo mark-$((40+5))\n", "mark-45");
    terminal.type_in("\u{1}", "");
    assert_eq!(attached.wait().expect("an end").code(), Some(0));
    assert_eq!(ply.inspect("c2", "{{.State.Status}}"), "running");
    ply.run(&["stop", "-t", "0", "c2"]).ok();
    ply.run(&["start", "-ai", "c2"])
        .fails(1, "the input device is not a TTY");
    ply.run(&["rm", "c2"]).ok();
    assert_eq!(ply.run(&["exec", "-t", "c1", "tty"]).ok(), "/dev/pts/0\r");
    // The keys to leave with leave the command running.
    let mut command = ply.command(&["exec", "-it", "c1", "sh"]);
    let mut child = terminal.spawn(&mut command);
    terminal.type_in("echo mark-$((40+4)); sleep 777\n", "mark-44");
    terminal.type_in("\u{10}\u{11}", "");
    assert_eq!(child.wait().expect("an end").code(), Some(0));
    assert!(sh(&ply, &[], "ps").contains("sleep 777"));
}

#[test]
fn a_command_goes_on_without_its_client_and_ends_with_the_container() {
    let ply = running(&[]);
    ply.run(&[
        "exec",
        "-d",
        "c1",
        "sh",
        "-c",
        "echo $$ > /pid; exec sleep 1001",
    ])
    .ok();
    eventually("it has begun", || {
        sh(&ply, &[], "cat /pid").parse::<u32>().is_ok()
    });
    let mut client = ply.spawn(&["exec", "c1", "sleep", "1002"]);
    let runs = |what: &str| sh(&ply, &[], "ps").contains(what);
    eventually("it runs", || runs("sleep 1002"));
    client.kill().expect("killed");
    client.wait().expect("an end");
    assert!(runs("sleep 1001") && runs("sleep 1002"));
    // An input ends with its client.
    let mut client = ply
        .command(&["exec", "-i", "c1", "sh", "-c", "cat; touch /ended"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("ply runs");
    eventually("it runs", || runs("cat; touch"));
    client.kill().expect("killed");
    client.wait().expect("an end");
    eventually("cat has ended", || sh(&ply, &[], "ls /").contains("ended"));
    ply.run(&["kill", "c1"]).ok();
    ply.run(&["exec", "c1", "true"]).fails(1, "is not running");
    ply.run(&["start", "c1"]).ok();
    assert!(!sh(&ply, &[], "ps").contains("sleep 1001"));
}

#[test]
fn a_killed_monitor_or_helper_takes_its_commands_along() {
    let ply = running(&[]);
    let is_helper = |pid: &i32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains("container-monitor") && *pid != ply.monitor_of("c1")
    };
    let helper = ply.processes().into_iter().find(is_helper);
    let mut client = ply.spawn(&["exec", "c1", "sleep", "1001"]);
    eventually("it runs", || sh(&ply, &[], "ps").contains("sleep 1001"));
    kill_9(helper.expect("a helper"));
    assert_eq!(client.wait().expect("an end").code(), Some(137));
    assert_eq!(ply.inspect("c1", "{{.State.Status}}"), "running");
    ply.run(&["exec", "c1", "true"])
        .fails(1, "order the command");
    ply.run(&["restart", "-t", "0", "c1"]).ok();
    let mut client = ply.spawn(&["exec", "c1", "sleep", "1001"]);
    eventually("it runs", || sh(&ply, &[], "ps").contains("sleep 1001"));
    let monitor = ply.monitor_of("c1");
    kill_9(monitor);
    assert_eq!(client.wait().expect("an end").code(), Some(137));
    // Its sockets close a little before its lock does.
    let process = format!("/proc/{monitor}");
    eventually("it is gone", || fs::metadata(&process).is_err());
    assert_eq!(ply.inspect("c1", "{{.State.Status}}"), "exited");
    eventually("nothing of it runs", || ply.processes().is_empty());
}

#[test]
fn what_cannot_be_executed_is_said_as_docker_says_it() {
    let ply = running(&[]);
    let refused = |arguments: &[&str], words: &str| {
        let output = ply.run(&[&["exec"], arguments].concat());
        assert_eq!((output.code, output.out.trim_end()), (126, words));
        assert_eq!(output.err, "");
    };
    const START: &str = "OCI runtime exec failed: exec failed: unable to start container process:";
    refused(
        &["c1", "nosuchcmd"],
        &format!("{START} exec: \"nosuchcmd\": executable file not found in $PATH: unknown"),
    );
    refused(
        &["c1", "/etc/passwd"],
        &format!("{START} exec: \"/etc/passwd\": permission denied: unknown"),
    );
    refused(
        &["-w", "/nosuch", "c1", "true"],
        &format!("{START} chdir to cwd (\"/nosuch\"): no such file or directory: unknown"),
    );
    refused(
        &["-u", "nosuchuser", "c1", "true"],
        "unable to find user nosuchuser: no matching entries in passwd file",
    );
    // A directory of the host's that the stage might still hold (CVE-2024-21626).
    for fd in 3..12 {
        let directory = format!("/proc/self/fd/{fd}");
        let output = ply.run(&["exec", "-w", &directory, "c1", "ls"]);
        assert_eq!(output.code, 126, "{}", output.out);
    }
    ply.run(&["exec", "nosuch", "true"])
        .fails(1, "No such container: nosuch");
    ply.run(&["exec", "c1"])
        .fails(1, "requires at least 2 arguments");
    // A heading, the container's command, and this one's shell and ps.
    assert_eq!(sh(&ply, &[], "ps > /ps; wc -l < /ps"), "4");
}

#[test]
fn commands_that_end_at_once_are_told_of_all_the_same() {
    let ply = running(&["--network", "none"]);
    for number in 0..100 {
        let code = number % 3;
        let said = ply.run(&[
            "exec",
            "c1",
            "sh",
            "-c",
            &format!("echo {number}; exit {code}"),
        ]);
        assert_eq!(
            (said.code, said.out),
            (code, format!("{number}\n")),
            "{}",
            said.err
        );
    }
    ply.remove_all();
}
