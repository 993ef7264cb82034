//! Volumes: what outlives containers and is shared by them.
#![allow(missing_docs)]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use tests::Ply;
use tests::eventually;

/// Makes an engine with the image `seeded`, which has files in /data, and `declared`, whose /data is a volume.
fn seeded() -> Ply {
    let ply = Ply::with_busybox();
    let script = "mkdir -p /data/dir && chown 7:8 /data && chmod 750 /data && echo content > /data/file &&
        chown 5:6 /data/file && chmod 4711 /data/file && ln /data/file /data/dir/hard && ln -s /etc/passwd /data/link &&
        for i in $(seq 300); do echo $i > /data/dir/$i; done";
    ply.run(&["run", "--name", "seed", "busybox", "sh", "-c", script])
        .ok();
    ply.run(&["commit", "seed", "seeded"]).ok();
    ply.run(&["commit", "--change", "VOLUME /data", "seed", "declared"])
        .ok();
    ply.run(&["rm", "seed"]).ok();
    ply
}

fn data(ply: &Ply, volume: &str) -> PathBuf {
    ply.root().join("volumes").join(volume).join("_data")
}

fn volumes(ply: &Ply) -> Vec<String> {
    let listed = ply.run(&["volume", "ls", "-q"]);
    listed.ok().lines().map(str::to_owned).collect()
}

fn sh(ply: &Ply, options: &[&str], image: &str, script: &str) -> String {
    let command = [&["run", "--rm"], options, &[image, "sh", "-c", script]].concat();
    ply.run(&command).ok().to_owned()
}

#[test]
fn an_empty_volume_takes_over_what_the_image_has_there() {
    let ply = seeded();
    let script = "stat -c '%a %u:%g' /data /data/file; stat -c %h /data/dir/hard; cat /data/dir/hard; \
                  readlink /data/link; ls /data/dir | wc -l";
    let expected = "750 7:8\n4711 5:6\n2\ncontent\n/etc/passwd\n301";
    for options in [
        &["-v", "v1:/data"][..],
        &["--mount", "src=v2,dst=/data"],
        &["-v", "/data"],
    ] {
        assert_eq!(sh(&ply, options, "seeded", script), expected, "{options:?}");
    }
    assert_eq!(sh(&ply, &[], "declared", script), expected);
    let file = fs::metadata(data(&ply, "v1").join("file")).expect("it is there");
    assert_eq!((file.uid(), file.gid(), file.nlink()), (5, 6, 2));
    // What is there already stays, and what was removed is not brought back.
    sh(
        &ply,
        &["-v", "v1:/data"],
        "seeded",
        "echo mine > /data/file; rm -r /data/dir",
    );
    assert_eq!(
        sh(
            &ply,
            &["-v", "v1:/data"],
            "seeded",
            "ls /data; cat /data/file"
        ),
        "file\nlink\nmine"
    );
    assert_eq!(
        sh(&ply, &["-v", "v3:/data:nocopy"], "seeded", "ls /data"),
        ""
    );
    assert_eq!(
        sh(
            &ply,
            &["-v", "v4:/new/place"],
            "seeded",
            "stat -c '%a %u' /new/place"
        ),
        "755 0"
    );
    // A container that has only been made has filled it too.
    ply.run(&["create", "--name", "c1", "-v", "v5:/data", "seeded"])
        .ok();
    assert!(data(&ply, "v5").join("dir/300").is_file());
    // Nothing of the way in is left.
    let names = fs::read_dir(ply.root().join("volumes/v5")).expect("a directory");
    assert_eq!(names.count(), 1);
    ply.run(&["run", "--rm", "-v", "v6:/data/file", "seeded", "true"])
        .fails(125, "source /data/file is not directory");
    ply.run(&["run", "--rm", "-v", "/data/file", "seeded", "true"])
        .fails(
            125,
            "cannot mount volume over existing file, file exists /data/file",
        );
}

#[test]
fn volumes_outlive_containers_unless_nobody_has_named_them() {
    let ply = seeded();
    let run = |name: &str, more: &[&str]| {
        let command = [
            &["run", "-d", "--name", name],
            more,
            &["declared", "sleep", "1000"],
        ]
        .concat();
        ply.run(&command).ok().to_owned()
    };
    let id = run("c1", &["-v", "named:/named"]);
    assert_eq!(volumes(&ply).len(), 2);
    ply.run(&["volume", "rm", "named"])
        .fails(1, &format!("remove named: volume is in use - [{id}]"));
    ply.run(&["volume", "rm", "-f", "named"])
        .fails(1, "volume is in use");
    ply.run(&["rm", "-f", "-v", "c1"]).ok();
    assert_eq!(volumes(&ply), ["named"]);
    run("c2", &["-v", "named:/named"]);
    ply.run(&["rm", "-f", "c2"]).ok();
    assert_eq!(volumes(&ply).len(), 2);
    assert_eq!(
        ply.run(&["volume", "prune", "-f"]).ok().lines().next(),
        Some("Deleted Volumes:")
    );
    assert_eq!(volumes(&ply), ["named"]);
    // With --rm they go at the end, whoever sees to it.
    sh(&ply, &["-v", "/anon"], "declared", "true");
    assert_eq!(volumes(&ply), ["named"]);
    ply.run(&[
        "run", "-d", "--rm", "--name", "c3", "declared", "sleep", "1000",
    ])
    .ok();
    assert_eq!(volumes(&ply).len(), 2);
    Command::new("kill")
        .args(["-9", &ply.monitor_of("c3").to_string()])
        .status()
        .expect("kill runs");
    eventually("the volume is gone with its container", || {
        ply.run(&["ps", "-aq"]).ok();
        volumes(&ply) == ["named"]
    });
    // One that another container has stays until that one is removed with its own.
    let of = |name: &str| ply.inspect(name, "{{range .Mounts}}{{.Name}}{{end}}");
    run("c4", &[]);
    let name = of("c4");
    ply.run(&[
        "run",
        "-d",
        "--name",
        "c5",
        "--volumes-from",
        "c4",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    assert_eq!(of("c5"), name);
    ply.run(&["rm", "-f", "-v", "c4"]).ok();
    assert_eq!(volumes(&ply).len(), 2);
    ply.run(&["rm", "-f", "-v", "c5"]).ok();
    assert_eq!(volumes(&ply), ["named"]);
    ply.run(&["volume", "rm", "named", "nosuch"])
        .fails(1, "get nosuch: no such volume");
    ply.run(&["volume", "rm", "-f", "nosuch"]).ok();
    assert_eq!(volumes(&ply), Vec::<String>::new());
}

#[test]
fn containers_share_volumes_and_what_others_have() {
    let ply = seeded();
    ply.run(&[
        "run",
        "-d",
        "--name",
        "c1",
        "-v",
        "shared:/shared",
        "declared",
        "sleep",
        "1000",
    ])
    .ok();
    sh(
        &ply,
        &["-v", "shared:/elsewhere"],
        "busybox",
        "echo hello > /elsewhere/word",
    );
    assert_eq!(
        ply.run(&["exec", "c1", "cat", "/shared/word"]).ok(),
        "hello"
    );
    let from = |mode: &str, script: &str| sh(&ply, &["--volumes-from", mode], "busybox", script);
    assert_eq!(
        from("c1", "cat /shared/word; cat /data/file; echo x > /data/new"),
        "hello\ncontent"
    );
    assert_eq!(
        from(
            "c1:ro",
            "cat /data/new; echo y 2>/dev/null > /data/new || echo refused"
        ),
        "x\nrefused"
    );
    ply.run(&["run", "--rm", "--volumes-from", "nosuch", "busybox", "true"])
        .fails(125, "No such container: nosuch");
    // A place of one's own goes before what the other has.
    let own = ["--volumes-from", "c1", "-v", "own:/shared"];
    assert_eq!(sh(&ply, &own, "busybox", "ls /shared; cat /data/new"), "x");
    let names = |filter: &str| {
        let filter = format!("volume={filter}");
        ply.run(&[
            "ps",
            "--filter",
            &filter,
            "--format",
            "{{.Names}} {{.LocalVolumes}}",
        ])
        .ok()
        .to_owned()
    };
    assert_eq!(
        (names("shared"), names("/data")),
        ("c1 2".into(), "c1 2".into())
    );
    assert_eq!(names("own"), "");
}

#[test]
fn volumes_are_made_listed_and_inspected_as_docker_does() {
    let ply = Ply::new();
    let create = ["volume", "create", "--label", "a=b", "--label", "c", "v1"];
    assert_eq!(ply.run(&create).ok(), "v1");
    assert_eq!(ply.run(&["volume", "create", "v1"]).ok(), "v1");
    let anonymous = ply.run(&["volume", "create"]).ok().to_owned();
    assert_eq!(anonymous.len(), 64);
    ply.run(&[
        "volume",
        "create",
        "-o",
        "type=tmpfs",
        "-o",
        "device=tmpfs",
        "-o",
        "o=size=1m",
        "v2",
    ])
    .ok();
    let table = ply.run(&["volume", "ls", "--filter", "name=v"]);
    assert_eq!(
        table.ok(),
        "DRIVER    VOLUME NAME\nlocal     v1\nlocal     v2"
    );
    let ls = |filters: &[&str]| {
        let filters: Vec<&str> = filters.iter().flat_map(|it| ["--filter", it]).collect();
        let command = [&["volume", "ls", "-q"], filters.as_slice()].concat();
        ply.run(&command).ok().to_owned()
    };
    assert_eq!(ls(&["label=a"]), "v1");
    assert_eq!(ls(&["label=a=b", "label=c"]), "v1");
    assert_eq!(ls(&["label=a=x"]), "");
    assert_eq!(ls(&["name=v2", "dangling=true", "driver=local"]), "v2");
    assert_eq!(ls(&["dangling=false"]), "");
    assert_eq!(ls(&["driver=other"]), "");
    let format = "{{.Name}}|{{.Driver}}|{{.Label \"a\"}}|{{.Links}}";
    let listed = ply.run(&["volume", "ls", "--filter", "name=v1", "--format", format]);
    assert_eq!(listed.ok(), "v1|local|b|N/A");
    let shown = ply.run(&["volume", "inspect", "v1", "v2"]);
    let shown: serde_json::Value = serde_json::from_str(shown.ok()).expect("JSON");
    assert_eq!(shown[0]["Labels"], serde_json::json!({"a": "b", "c": ""}));
    assert_eq!(shown[0]["Options"], serde_json::Value::Null);
    assert_eq!(
        shown[0]["Mountpoint"],
        data(&ply, "v1").display().to_string()
    );
    assert_eq!(shown[1]["Options"]["o"], "size=1m");
    assert_eq!(
        ply.run(&["inspect", "-f", "{{.Scope}}", "v1"]).ok(),
        "local"
    );
    assert_eq!(
        ply.run(&["inspect", "--type", "volume", "-f", "{{.Name}}", "v2"])
            .ok(),
        "v2"
    );
    let events = ply.run(&[
        "events",
        "--since",
        "1",
        "--until",
        &now(),
        "--filter",
        "type=volume",
    ]);
    assert!(
        events.ok().contains("volume create v1 (driver=local)"),
        "{events:?}"
    );
    let pruned = ply.run(&["volume", "prune", "-af", "--filter", "label!=a"]);
    assert_eq!(pruned.ok().lines().count(), 5, "{pruned:?}");
    assert_eq!(volumes(&ply), ["v1"]);
}

fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    (now.expect("a time").as_secs() + 1).to_string()
}

#[test]
fn many_that_begin_at_once_find_a_whole_volume() {
    let ply = seeded();
    let script = "ls /data/dir | wc -l; cat /data/dir/300";
    let children: Vec<_> = (0..8)
        .map(|_| {
            ply.spawn(&[
                "run", "--rm", "-v", "v1:/data", "seeded", "sh", "-c", script,
            ])
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "301\n300\n",
            "{output:?}"
        );
    }
    let children: Vec<_> = (0..8)
        .map(|_| ply.spawn(&["volume", "create", "v2"]))
        .collect();
    for mut child in children {
        assert!(child.wait().expect("it ends").success());
    }
    // Made and removed at once, by many: each ends, and nothing of it is left that is not listed.
    let children: Vec<_> = (0..24)
        .map(|turn| match turn % 3 {
            0 => ply.spawn(&["volume", "rm", "-f", "v3"]),
            1 => ply.spawn(&["volume", "create", "v3"]),
            _ => ply.spawn(&[
                "run",
                "--rm",
                "-v",
                "v3:/data",
                "seeded",
                "cat",
                "/data/file",
            ]),
        })
        .collect();
    for (turn, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().expect("it ends");
        if turn % 3 == 2 {
            assert_eq!(
                String::from_utf8_lossy(&output.stdout),
                "content\n",
                "{output:?}"
            );
        }
    }
    let listed = volumes(&ply);
    let mut there: Vec<String> = fs::read_dir(ply.root().join("volumes"))
        .expect("a directory")
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    there.sort();
    assert_eq!(there, listed);
}

#[test]
fn a_volume_whose_maker_was_killed_is_made_whole_by_the_next_one() {
    let ply = seeded();
    for round in 0..6 {
        let name = format!("v{round}0");
        let volume = format!("{name}:/data");
        let mut child = ply.spawn(&["create", "-v", &volume, "seeded"]);
        let directory = ply.root().join("volumes").join(&name);
        // Killed in the middle of the copy, if it is not faster than we are.
        eventually("it begins or ends", || {
            let begun = match round % 2 {
                0 => directory.join("new/dir").exists(),
                _ => directory.exists(),
            };
            begun || child.try_wait().expect("a child").is_some()
        });
        child.kill().expect("killed");
        child.wait().expect("it ends");
        let script = "ls /data/dir | wc -l; stat -c %a /data";
        assert_eq!(sh(&ply, &["-v", &volume], "seeded", script), "301\n750");
        let names = fs::read_dir(&directory).expect("a directory").count();
        assert_eq!(names, 1);
    }
    // What was whole but not moved yet is moved by the next one, over nothing that is there.
    ply.run(&["volume", "create", "half"]).ok();
    let half = ply.root().join("volumes/half");
    fs::create_dir_all(half.join("ready/dir")).expect("made");
    fs::write(half.join("ready/file"), "theirs").expect("made");
    fs::write(half.join("_data/file"), "ours").expect("made");
    let shown = sh(
        &ply,
        &["-v", "half:/data"],
        "seeded",
        "cat /data/file; ls /data",
    );
    assert_eq!(shown, "oursdir\nfile");
    assert!(!half.join("ready").exists());
}

#[test]
fn what_removals_that_were_killed_have_left_is_swept() {
    let ply = Ply::with_busybox();
    ply.run(&["volume", "create", "v1"]).ok();
    let directory = ply.root().join("volumes");
    fs::create_dir_all(directory.join("stray/_data/x")).expect("made");
    fs::create_dir_all(directory.join(".removing-0/_data/x")).expect("made");
    assert_eq!(volumes(&ply), ["v1"]);
    assert!(!directory.join("stray").exists() && !directory.join(".removing-0").exists());
    // A row whose directory was never made gets one.
    fs::remove_dir_all(directory.join("v1")).expect("removed");
    assert_eq!(
        sh(&ply, &["-v", "v1:/v"], "busybox", "echo x > /v/f; cat /v/f"),
        "x"
    );
    // A container that cannot be made leaves neither itself nor volumes of its own.
    ply.run(&["create", "-v", "/etc/passwd", "busybox"])
        .fails(1, "over existing file");
    assert_eq!(volumes(&ply), ["v1"]);
    assert_eq!(ply.run(&["ps", "-aq"]).ok(), "");
}

/// Makes a directory on a shared mount of its own.
fn shared_directory(ply: &Ply, name: &str) -> PathBuf {
    let path = ply.directory(name);
    let mount = |arguments: &[&str]| {
        let status = Command::new("mount").args(arguments).arg(&path).status();
        assert!(status.expect("mount runs").success());
    };
    mount(&["--bind", &path.to_string_lossy()]);
    mount(&["--make-shared"]);
    path
}

fn mount_tmpfs(path: &Path) {
    fs::create_dir_all(path).expect("a directory");
    let status = Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(path)
        .status();
    assert!(status.expect("mount runs").success());
    fs::write(path.join("late"), "seen").expect("written");
}

#[test]
fn mounts_propagate_as_they_are_told() {
    let ply = Ply::with_busybox();
    let directory = shared_directory(&ply, "shared");
    fs::create_dir_all(directory.join("sub")).expect("a directory");
    let source = directory.display();
    for (name, mode) in [("private", ""), ("slave", ":rslave"), ("both", ":shared")] {
        let volume = format!("{source}:/m{mode}");
        ply.run(&[
            "run",
            "-d",
            "--privileged",
            "--name",
            name,
            "-v",
            &volume,
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    }
    mount_tmpfs(&directory.join("sub"));
    let seen = |name: &str| ply.run(&["exec", name, "cat", "/m/sub/late"]).out;
    assert_eq!(
        (
            seen("private").as_str(),
            seen("slave").as_str(),
            seen("both").as_str()
        ),
        ("", "seen", "seen")
    );
    // The host sees what the container mounts only if it is shared.
    let script = "mkdir -p /m/$0 && mount -t tmpfs none /m/$0 && echo inner > /m/$0/file";
    for (name, there) in [("slave", false), ("both", true)] {
        ply.run(&["exec", name, "sh", "-c", script, name]).ok();
        assert_eq!(directory.join(name).join("file").exists(), there, "{name}");
    }
    assert_eq!(
        ply.inspect("slave", "{{range .Mounts}}{{.Propagation}}{{end}}"),
        "rslave"
    );
    // It is still so after a restart by the policy.
    let volume = format!("{source}:/m:rshared");
    let script = "test -e /first || { touch /first; exit 1; }; mkdir -p /m/again && \
                  mount -t tmpfs none /m/again && touch /m/again/file; sleep 1000";
    ply.run(&[
        "run",
        "-d",
        "--privileged",
        "--restart",
        "on-failure:2",
        "-v",
        &volume,
        "busybox",
        "sh",
        "-c",
        script,
    ])
    .ok();
    eventually("the second run's mount is seen", || {
        directory.join("again/file").exists()
    });
    let plain = ply.directory("plain");
    let status = Command::new("sh")
        .args(["-c", "mount --bind $0 $0 && mount --make-private $0"])
        .arg(&plain)
        .status();
    assert!(status.expect("sh runs").success());
    for (mode, words) in [
        ("shared", "but it is not a shared mount"),
        ("rslave", "but it is not a shared or slave mount"),
    ] {
        let volume = format!("{}:/m:{mode}", plain.display());
        ply.run(&["run", "--rm", "-v", &volume, "busybox", "true"])
            .fails(125, words);
    }
    ply.remove_all();
}

#[test]
fn what_is_mounted_below_a_source_comes_along_as_it_is_told() {
    let ply = Ply::with_busybox();
    let directory = ply.directory("source");
    mount_tmpfs(&directory.join("sub"));
    let show = |more: &str| {
        let mount = format!("type=bind,src={},dst=/m{more}", directory.display());
        sh(
            &ply,
            &["--mount", &mount],
            "busybox",
            "ls /m/sub; touch /m/sub/x 2>/dev/null || echo refused",
        )
    };
    assert_eq!(show(""), "late");
    fs::remove_file(directory.join("sub/x")).expect("it was made");
    assert_eq!(show(",bind-nonrecursive"), "");
    assert_eq!(show(",readonly"), "late\nrefused");
    assert_eq!(show(",readonly,bind-recursive=writable"), "late");
    // What lies below the mount, where the last but one has written.
    assert_eq!(show(",readonly,bind-recursive=disabled"), "x\nrefused");
}

#[test]
fn driver_options_show_something_else_than_a_directory_of_ours() {
    let ply = seeded();
    let source = ply.directory("source");
    let device = format!("device={}", source.display());
    ply.run(&[
        "volume",
        "create",
        "-o",
        "type=none",
        "-o",
        &device,
        "-o",
        "o=bind",
        "bound",
    ])
    .ok();
    sh(&ply, &["-v", "bound:/data"], "seeded", "echo x > /data/new");
    assert!(source.join("new").is_file() && source.join("dir/300").is_file());
    assert!(
        fs::read_dir(data(&ply, "bound"))
            .expect("a directory")
            .next()
            .is_none()
    );
    ply.run(&[
        "volume",
        "create",
        "-o",
        "type=tmpfs",
        "-o",
        "device=tmpfs",
        "-o",
        "o=size=8m,mode=1700,noexec",
        "memory",
    ])
    .ok();
    let mounted = sh(
        &ply,
        &["-v", "memory:/data"],
        "seeded",
        "cat /data/file; grep ' /data ' /proc/mounts",
    );
    assert!(mounted.starts_with("content\n"), "{mounted}");
    assert!(
        mounted.contains("noexec") && mounted.contains("size=8192k"),
        "{mounted}"
    );
    ply.run(&[
        "volume",
        "create",
        "-o",
        "type=none",
        "-o",
        "device=/no/such",
        "-o",
        "o=bind",
        "gone",
    ])
    .ok();
    ply.run(&["run", "--rm", "-v", "gone:/data", "busybox", "true"])
        .fails(125, "failed to mount local volume: mount /no/such:");
    let options = "type=volume,src=made,dst=/data,volume-label=x=y,volume-opt=type=tmpfs,volume-opt=device=tmpfs";
    sh(
        &ply,
        &["--mount", options],
        "busybox",
        "mount | grep -q '/data type tmpfs'",
    );
    assert_eq!(
        ply.run(&[
            "volume",
            "inspect",
            "-f",
            "{{.Labels}} {{.Options}}",
            "made"
        ])
        .ok(),
        "map[x:y] map[device:tmpfs type:tmpfs]"
    );
    // The host sees nothing of it.
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains(&ply.root().display().to_string()));
}

#[test]
fn a_part_of_a_volume_is_shown_and_no_link_leads_out_of_it() {
    let ply = Ply::with_busybox();
    sh(
        &ply,
        &["-v", "v1:/v"],
        "busybox",
        "mkdir -p /v/a/b; echo x > /v/a/b/f; ln -s ../../../../../../etc /v/out; ln -s /a /v/in",
    );
    let part = |subpath: &str| {
        let mount = format!("src=v1,dst=/part,volume-subpath={subpath}");
        ply.run(&["run", "--rm", "--mount", &mount, "busybox", "ls", "/part"])
    };
    assert_eq!(part("a/b").ok(), "f");
    assert_eq!(part("./a/b/../../a").ok(), "b");
    for out in ["/a", "../a", "a/../../a"] {
        part(out).fails(125, "subpath must be a relative path within the volume");
    }
    assert_eq!(part("in/b").ok(), "f");
    assert_eq!(part("a/b/f").ok(), "/part");
    part("out").fails(125, "cannot access path");
    part("nosuch").fails(125, "no such file or directory");
}

#[test]
fn a_hostile_image_s_links_lead_a_volume_nowhere_else() {
    let ply = Ply::with_busybox();
    let outside = ply.directory("outside");
    fs::write(outside.join("file"), "theirs").expect("written");
    let script = format!(
        "ln -s {} /data; ln -s ../../../../../../../../..{} /up",
        outside.display(),
        outside.display()
    );
    ply.run(&["run", "--name", "seed", "busybox", "sh", "-c", &script])
        .ok();
    ply.run(&["commit", "seed", "hostile"]).ok();
    for target in ["/data", "/up"] {
        let volume = format!("v1:{target}");
        let script = format!("touch {target}/new; ls {target}");
        assert_eq!(sh(&ply, &["-v", &volume], "hostile", &script), "new");
        ply.run(&["create", "--name", "c1", "-v", &volume, "hostile"])
            .ok();
        ply.run(&["cp", "-", &format!("c1:{target}")]);
        ply.run(&["rm", "c1"]).ok();
    }
    assert_eq!(fs::read_dir(&outside).expect("a directory").count(), 1);
    assert!(data(&ply, "v1").join("new").is_file());
}

#[test]
fn cp_sees_volumes_whether_the_container_runs_or_not() {
    let ply = seeded();
    let bound = ply.directory("bound");
    fs::write(bound.join("b"), "bound").expect("written");
    let bind = format!("{}:/mnt/deep/b:ro", bound.display());
    ply.run(&[
        "create",
        "--name",
        "c1",
        "-v",
        "v1:/data",
        "-v",
        &bind,
        "--mount",
        "src=v2,dst=/data/dir/inner",
        "seeded",
        "sleep",
        "1000",
    ])
    .ok();
    let (word, out) = (ply.path("word"), ply.path("out"));
    fs::write(&word, "word").expect("written");
    let word = word.to_string_lossy().into_owned();
    let check = |more: &str| {
        let from = |path: &str| {
            let _ = fs::remove_file(&out);
            ply.run(&["cp", &format!("c1:{path}"), &out.to_string_lossy()])
                .ok();
            fs::read_to_string(&out).expect("a file")
        };
        assert_eq!(from("/data/dir/../file"), "content\n");
        assert_eq!(from("/mnt/deep/b/b"), "bound");
        ply.run(&["cp", &word, &format!("c1:/data/{more}")]).ok();
        ply.run(&["cp", &word, &format!("c1:/data/dir/inner/{more}")])
            .ok();
        assert_eq!(
            fs::read_to_string(data(&ply, "v1").join(more)).expect("in the volume"),
            "word"
        );
        assert_eq!(
            fs::read_to_string(data(&ply, "v2").join(more)).expect("in the volume"),
            "word"
        );
        let refused = ply.run(&["cp", &word, "c1:/mnt/deep/b/new"]);
        assert_ne!(refused.code, 0);
        assert!(!bound.join("new").exists());
    };
    check("stopped");
    ply.run(&["start", "c1"]).ok();
    check("running");
    // Changes of volumes are none of the container's.
    let diff = ply.run(&["diff", "c1"]).ok().to_owned();
    assert!(
        !diff.contains("running") && !diff.contains("stopped"),
        "{diff}"
    );
    let exported = ply.path("exported.tar");
    ply.run(&["export", "-o", &exported.to_string_lossy(), "c1"])
        .ok();
    let listed = Command::new("tar")
        .arg("-tf")
        .arg(&exported)
        .output()
        .expect("tar runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(
        listed.contains("data/file") && !listed.contains("running"),
        "{listed}"
    );
}

#[test]
fn a_container_with_users_of_its_own_finds_its_own_owners_in_volumes() {
    let ply = seeded();
    let options = ["--userns", "auto", "-v", "v1:/data"];
    let script = "stat -c '%u:%g' /data/file; echo x > /data/root; mkdir /data/own; chown 9:9 /data/own; stat -c %u:%g /data/root /data/own";
    assert_eq!(sh(&ply, &options, "seeded", script), "5:6\n0:0\n9:9");
    let own = fs::metadata(data(&ply, "v1").join("own")).expect("it is there");
    assert_eq!((own.uid(), own.gid()), (9, 9));
    // Another one, with other users, and one without.
    let script = "stat -c '%u:%g' /data/file /data/root /data/own";
    assert_eq!(sh(&ply, &options, "seeded", script), "5:6\n0:0\n9:9");
    assert_eq!(sh(&ply, &options[2..], "seeded", script), "5:6\n0:0\n9:9");
}

#[test]
fn inspect_and_usage_show_volumes() {
    let ply = seeded();
    let run = [
        "run",
        "-d",
        "--name",
        "c1",
        "-v",
        "v1:/data",
        "-v",
        "/anon",
        "--mount",
        "src=v2,dst=/c,ro,volume-nocopy",
        "--mount",
        "type=tmpfs,dst=/t",
        "--tmpfs",
        "/t2",
        "declared",
        "sleep",
        "1000",
    ];
    ply.run(&run).ok();
    let format = "{{range .Mounts}}{{.Type}} {{.Destination}} {{.Mode}} {{.RW}}\n{{end}}";
    assert_eq!(
        ply.inspect("c1", format),
        "volume /anon  true\nvolume /c z false\nvolume /data z true\ntmpfs /t  true\n"
    );
    let format = "{{json .HostConfig.Binds}} {{json .Config.Volumes}} {{json .HostConfig.Tmpfs}}";
    assert_eq!(
        ply.inspect("c1", format),
        "[\"v1:/data\"] {\"/anon\":{},\"/data\":{}} {\"/t2\":\"\"}"
    );
    let events = ply.run(&[
        "events",
        "--since",
        "1",
        "--until",
        &now(),
        "--filter",
        "type=volume",
    ]);
    let mounted = format!(
        "volume mount v1 (container={}",
        ply.inspect("c1", "{{.Id}}")
    );
    assert!(events.ok().contains(&mounted), "{events:?}");
    let row = |ply: &Ply| {
        let df = ply.run(&[
            "system",
            "df",
            "--format",
            "{{.Type}} {{.TotalCount}} {{.Active}}",
        ]);
        df.ok().lines().nth(2).expect("a row").to_owned()
    };
    assert_eq!(row(&ply), "Local Volumes 3 3");
    ply.run(&["rm", "-f", "c1"]).ok();
    assert_eq!(row(&ply), "Local Volumes 3 0");
    let pruned = ply.run(&["system", "prune", "-f", "--volumes"]);
    assert!(pruned.ok().contains("Deleted Volumes:"), "{pruned:?}");
    assert_eq!(volumes(&ply), ["v1", "v2"]);
}
