//! `commit`, `system` and `info`.
#![allow(missing_docs)]

use tests::Ply;
use tests::eventually;

/// What a tree holds, for comparing: kind, mode, owner, size, links and content of every path.
const SNAPSHOT: &str = "cd /; find . -path ./proc -prune -o -path ./sys -prune -o -path ./dev -prune -o \
    -path ./etc/hosts -prune -o -path ./etc/resolv.conf -prune -o -path ./etc/hostname -prune -o -print | sort | \
    while read -r f; do stat -c '%n %F %a %u:%g' \"$f\"; test -f \"$f\" && stat -c %h \"$f\" && md5sum < \"$f\"; readlink \"$f\"; done; true";

#[test]
fn an_image_of_a_container_has_its_changes_and_its_config() {
    let ply = Ply::with_busybox();
    let change = "mkdir -p /new/deep; echo one > /new/file; ln /new/file /new/deep/link; ln -s file /new/symlink; \
        chmod 4711 /new/file; chown 12:34 /new/deep; mkfifo /new/fifo; mknod /new/node c 1 3; \
        rm -r /etc/group; rm -rf /var; mkdir /var; echo kept > /var/only; mv /etc/passwd /etc/passwd2; \
        chmod 700 /tmp; truncate -s 10M /new/sparse";
    let options = [
        "--name", "c1", "-e", "A=1", "-l", "who=me", "-w", "/new", "-u", "0:0",
    ];
    ply.run(&[&["run"], &options[..], &["busybox", "sh", "-c", change]].concat())
        .ok();
    let id = ply.run(&[
        "commit",
        "-a",
        "A. Uthor",
        "-m",
        "a remark",
        "-c",
        "CMD [\"cat\", \"/new/file\"]",
        "c1",
        "made:1",
    ]);
    let id = id.ok().to_owned();
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(ply.run(&["run", "--rm", "made:1"]).ok(), "one");
    let shown = "{{.Author}}|{{.Comment}}|{{json .Config.Cmd}}|{{json .Config.Env}}|{{.Config.WorkingDir}}|{{.Config.Labels.who}}|{{len .RootFS.Layers}}";
    let expected = "A. Uthor|a remark|[\"cat\",\"/new/file\"]|[\"A=1\"]|/new|me|2";
    assert_eq!(ply.inspect("made:1", shown), expected);
    // What the new image shows is what the container showed.
    ply.run(&[
        "run",
        "--name",
        "c2",
        "busybox",
        "sh",
        "-c",
        &format!("{change}; {SNAPSHOT}"),
    ])
    .ok();
    let before = ply.run(&["logs", "c2"]).ok().to_owned();
    let after = ply
        .run(&["run", "--rm", "-w", "/", "made:1", "sh", "-c", SNAPSHOT])
        .ok()
        .to_owned();
    assert_eq!(before, after);
    let history = ply.run(&[
        "history",
        "--no-trunc",
        "--format",
        "{{.Comment}}",
        "made:1",
    ]);
    assert_eq!(history.ok().lines().next(), Some("a remark"));
    // A container that has changed nothing adds no layer.
    ply.run(&["create", "--name", "c3", "busybox"]).ok();
    ply.run(&["commit", "c3", "same"]).ok();
    assert_eq!(ply.inspect("same", "{{len .RootFS.Layers}}"), "1");
    ply.run(&["commit", "c3", "Bad"])
        .fails(1, "must be lowercase");
    ply.run(&["commit", "-c", "RUN x", "c3"])
        .fails(1, "run is not a valid change command");
    ply.run(&["commit", "nosuch"])
        .fails(1, "No such container: nosuch");
}

#[test]
fn a_running_container_is_frozen_while_it_is_committed() {
    let ply = Ply::with_busybox();
    let script = "while :; do n=$((n + 1)); echo $n > /a; echo $n > /b; done";
    ply.run(&["run", "-d", "--name", "c1", "busybox", "sh", "-c", script])
        .ok();
    eventually("it writes", || {
        ply.run(&["exec", "c1", "cat", "/b"]).code == 0
    });
    for number in 0..5 {
        let name = format!("moment:{number}");
        ply.run(&["commit", "c1", &name]).ok();
        let output = ply.run(&["run", "--rm", &name, "cat", "/a", "/b"]);
        let numbers: Vec<i64> = output
            .ok()
            .lines()
            .map(|it| it.parse().unwrap_or(0))
            .collect();
        // One of them may have been emptied for the next number at that moment.
        let is_moment = match numbers.as_slice() {
            [a, b] => (0..=1).contains(&(a - b)),
            _ => numbers.len() <= 1,
        };
        assert!(is_moment, "{numbers:?}");
    }
    assert_eq!(ply.inspect("c1", "{{.State.Status}}"), "running");
    ply.run(&["pause", "c1"]).ok();
    ply.run(&["commit", "c1", "paused"]).ok();
    assert_eq!(ply.inspect("c1", "{{.State.Status}}"), "paused");
}

#[test]
fn what_is_used_is_told_and_what_is_not_is_pruned() {
    let ply = Ply::with_busybox();
    ply.run(&["run", "-d", "--name", "c1", "busybox", "sleep", "1003"])
        .ok();
    ply.run(&[
        "run",
        "--name",
        "c2",
        "busybox",
        "sh",
        "-c",
        "head -c 50000 /dev/urandom > /file",
    ])
    .ok();
    ply.run(&["commit", "c2", "other"]).ok();
    let df = ply.run(&[
        "system",
        "df",
        "--format",
        "{{.Type}} {{.TotalCount}} {{.Active}} {{.Reclaimable}}",
    ]);
    let rows: Vec<&str> = df.ok().lines().collect();
    assert!(rows[0].starts_with("Images 2 1 50kB "), "{rows:?}");
    assert!(rows[1].starts_with("Containers 2 1 "), "{rows:?}");
    assert!(
        ply.run(&["system", "df"])
            .ok()
            .starts_with("TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE")
    );
    let size = ply.run(&["ps", "-a", "--filter", "name=c2", "--format", "{{.Size}}"]);
    assert!(size.ok().starts_with("50kB (virtual "), "{size:?}");
    assert!(
        ply.run(&["ps", "-s"])
            .ok()
            .lines()
            .next()
            .expect("a heading")
            .ends_with("SIZE")
    );
    let info = ply.run(&[
        "info",
        "--format",
        "{{.Containers}} {{.ContainersRunning}} {{.ContainersStopped}} {{.Images}} {{.Driver}}",
    ]);
    assert_eq!(info.ok(), "2 1 1 2 layerfs");
    assert!(
        ply.run(&["info"])
            .ok()
            .contains("\nServer:\n Containers: 2\n  Running: 1\n")
    );
    let pruned = ply.run(&["system", "prune", "-f", "-a"]);
    assert!(pruned.ok().contains("Deleted Containers:\n"), "{pruned:?}");
    assert!(
        pruned.ok().contains("untagged: other:latest\n"),
        "{pruned:?}"
    );
    assert!(
        pruned.ok().contains("Total reclaimed space: 100kB"),
        "{pruned:?}"
    );
    assert_eq!(ply.run(&["ps", "-aq"]).ok().lines().count(), 1);
    assert_eq!(ply.run(&["images", "-q"]).ok().lines().count(), 1);
}

#[test]
fn containers_are_listed_and_pruned_by_what_they_are() {
    let ply = Ply::with_busybox();
    let create = |name: &str, options: &[&str]| {
        let create = ["create", "--name", name];
        ply.run(&[&create[..], options, &["busybox"]].concat()).ok();
    };
    create("aa", &["-l", "keep=no", "-v", "/tmp:/there"]);
    create("bb", &["--network", "host"]);
    create("cc", &["-l", "keep=yes"]);
    let names = |filter: &str| {
        let output = ply.run(&["ps", "-a", "--filter", filter, "--format", "{{.Names}}"]);
        output.ok().replace('\n', " ")
    };
    assert_eq!(names("network=host"), "bb");
    assert_eq!(names("network=bridge"), "cc aa");
    assert_eq!(names("volume=/there"), "aa");
    assert_eq!(names("volume=/tmp"), "aa");
    let prune = |filter: &str| ply.run(&["container", "prune", "-f", "--filter", filter]);
    assert_eq!(prune("until=1h").ok(), "Total reclaimed space: 0B");
    assert!(
        prune("label=keep=no")
            .ok()
            .starts_with("Deleted Containers:\n")
    );
    assert_eq!(names("status=created"), "cc bb");
    prune("nosuch=1").fails(1, "Invalid filter 'nosuch'");
    assert!(prune("until=0s").ok().contains("Total reclaimed space: "));
    assert_eq!(names("status=created"), "");
}

#[test]
fn after_a_reboot_what_should_run_does() {
    let ply = Ply::with_busybox();
    let run = |name: &str, policy: &str| {
        let options = ["run", "-d", "--name", name, "--restart", policy];
        ply.run(&[&options[..], &["busybox", "sleep", "1003"]].concat())
            .ok();
    };
    for (name, policy) in [
        ("aa", "always"),
        ("ab", "always"),
        ("ua", "unless-stopped"),
        ("ub", "unless-stopped"),
        ("fa", "on-failure"),
        ("na", "no"),
    ] {
        run(name, policy);
    }
    ply.run(&["stop", "-t", "0", "ab", "ub"]).ok();
    ply.run(&["create", "--name", "ca", "--restart", "always", "busybox"])
        .ok();
    // The machine goes down: everything dies at once, and the run directory is empty afterwards.
    for pid in ply.processes() {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
    eventually("all are dead", || ply.processes().is_empty());
    std::fs::remove_dir_all(ply.path("run")).expect("removed");
    let booted = ply.run(&["system", "boot"]);
    let mut names: Vec<&str> = booted.ok().lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["aa", "ab", "fa", "ua"]);
    let running = ply.run(&["ps", "--format", "{{.Names}}"]);
    let mut running: Vec<&str> = running.ok().lines().collect();
    running.sort_unstable();
    assert_eq!(running, names);
    // Done twice it does nothing more.
    let pids = || {
        names
            .iter()
            .map(|name| ply.inspect(name, "{{.State.Pid}}"))
            .collect::<Vec<_>>()
    };
    let before = pids();
    ply.run(&["system", "boot"]).ok();
    assert_eq!(pids(), before);
    let unit = ply.run(&["system", "boot", "--unit"]);
    assert!(
        unit.ok().contains("system boot\n") && unit.ok().contains("WantedBy=multi-user.target"),
        "{unit:?}"
    );
}

#[test]
fn a_directory_of_which_only_the_mode_or_the_owner_was_changed_is_a_change() {
    let ply = Ply::with_busybox();
    let run = ["run", "--network", "none", "--name"];
    for (name, script) in [
        ("mode", "chmod 700 /etc"),
        ("owner", "chown 5:6 /etc"),
        ("same", "touch /etc/x; rm /etc/x; chmod 755 /etc"),
    ] {
        ply.run(&[&run[..], &[name, "busybox", "sh", "-c", script]].concat())
            .ok();
    }
    assert_eq!(ply.run(&["diff", "mode"]).ok(), "C /etc");
    assert_eq!(ply.run(&["diff", "owner"]).ok(), "C /etc");
    assert_eq!(ply.run(&["diff", "same"]).ok(), "");
    ply.run(&["commit", "mode", "closed"]).ok();
    ply.run(&["commit", "owner", "owned"]).ok();
    let stat = |image: &str| {
        let run = ["run", "--rm", "--network", "none", image];
        let stat = ["stat", "-c", "%a %u:%g", "/etc"];
        ply.run(&[&run[..], &stat].concat()).ok().to_owned()
    };
    assert_eq!(stat("closed"), "700 0:0");
    assert_eq!(stat("owned"), "755 5:6");
    let script = "chmod 710 /etc; echo done; sleep 1000";
    ply.run(&["run", "-d", "--name", "r1", "busybox", "sh", "-c", script])
        .ok();
    tests::eventually("done", || ply.run(&["logs", "r1"]).ok() == "done");
    assert_eq!(ply.run(&["diff", "r1"]).ok(), "C /etc");
    ply.remove_all();
}
