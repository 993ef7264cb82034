//! What the command line of `build` gives to every `RUN`: limits, hosts, privileges; and flags that are given twice.

use std::fs;

use tests::Output;
use tests::Ply;

fn build(ply: &Ply, dockerfile: &str, more: &[&str]) -> Output {
    let context = ply.directory("context");
    fs::write(context.join("Dockerfile"), dockerfile).expect("a Dockerfile");
    let build = ["build", "-t", "made", "--network", "none"];
    ply.run(&[&build[..], more, &["context"]].concat())
}

#[track_caller]
fn said(ply: &Ply, command: &str) -> String {
    let run = ["run", "--rm", "--network", "none", "made", "sh", "-c"];
    ply.run(&[&run[..], &[command]].concat()).ok().to_owned()
}

#[test]
fn a_step_has_all_privileges_if_both_sides_say_so() {
    let ply = Ply::with_busybox();
    let dockerfile = "FROM busybox\nRUN --security=insecure mkdir /m && mount -t tmpfs t /m && grep CapEff /proc/self/status > \
                      /o && umount /m\nRUN grep CapEff /proc/self/status >> /o; ! mount -t tmpfs t /m 2>/dev/null\n\
                      RUN --security=sandbox grep CapEff /proc/self/status >> /o\n";
    build(&ply, dockerfile, &[]).fails(1, "security.insecure is not allowed");
    build(&ply, dockerfile, &["--allow", "network.host"])
        .fails(1, "security.insecure is not allowed");
    build(&ply, dockerfile, &["--allow", "security.insecure"]).ok();
    let seen = said(&ply, "cat /o");
    let sets: Vec<u64> = seen
        .lines()
        .map(|line| u64::from_str_radix(&line[8..], 16).expect("a set"))
        .collect();
    let docker = 0xa804_25fb;
    assert!(sets[0] & (1 << 21) != 0, "CAP_SYS_ADMIN: {seen}");
    assert_eq!(sets[1..], [docker, docker], "{seen}");
    // What was done with privileges does not serve as what was done without.
    let plain = dockerfile.replace("--security=insecure ", "");
    assert_ne!(build(&ply, &plain, &[]).code, 0);
    let host = "FROM busybox\nRUN --network=host true\n";
    build(&ply, host, &[]).fails(1, "network.host is not allowed");
    build(&ply, host, &["--allow", "network.host"]).ok();
}

#[test]
fn limits_are_those_of_every_step() {
    let ply = Ply::with_busybox();
    let dockerfile = "FROM busybox\nRUN ulimit -n > /o; ulimit -Hn >> /o; df -k /dev/shm | tail -1 | awk '{print $2}' >> /o\n\
                      RUN grep -E 'one|two|three' /etc/hosts > /hosts\n";
    let flags = [
        "--ulimit",
        "nofile=100:200",
        "--shm-size",
        "8m",
        "--add-host",
        "one:10.1.2.3",
        "--add-host=two=fd00::2",
        "--add-host",
        "three:[fd00::3]",
    ];
    build(&ply, dockerfile, &flags).ok();
    assert_eq!(said(&ply, "cat /o"), "100\n200\n8192");
    let hosts = said(&ply, "cat /hosts");
    let hosts: Vec<Vec<&str>> = hosts
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        hosts,
        [
            ["10.1.2.3", "one"],
            ["fd00::2", "two"],
            ["fd00::3", "three"]
        ]
    );
    assert_eq!(
        said(&ply, "grep -c one /etc/hosts; true"),
        "0",
        "the image has no such hosts"
    );
    // A command that wants more memory than it may have is killed; with more it is not.
    let hungry = "FROM busybox\nRUN head -c 60m /dev/zero | tail -c 60m > /o; test $(wc -c < /o) = 62914560\n";
    let failed = build(&ply, hungry, &["-m", "24m", "--memory-swap", "24m"]);
    failed.fails(1, "returned a non-zero code: 1");
    build(&ply, hungry, &["-m", "512m"]).ok();
    let cpus = "FROM busybox\nRUN grep Cpus_allowed_list /proc/self/status | cut -f2 > /o\n";
    build(
        &ply,
        cpus,
        &[
            "--cpuset-cpus",
            "0",
            "--cpu-shares",
            "512",
            "--cpu-period",
            "100000",
            "--cpu-quota",
            "50000",
        ],
    )
    .ok();
    assert_eq!(said(&ply, "cat /o"), "0");
    for (flags, code, words) in [
        (
            &["--cpuset-cpus", "0,4000"][..],
            1,
            "Requested CPUs are not available - requested 0,4000, available: 0",
        ),
        (
            &["--cpuset-cpus", "x"],
            1,
            "Invalid value x for cpuset cpus",
        ),
        (
            &["--cpuset-mems", "4000"],
            1,
            "Requested memory nodes are not available",
        ),
        (&["-m", "1m"], 1, "Minimum memory limit allowed is 6MB"),
        (&["--ulimit", "nosuch=1"], 125, "nosuch"),
        (&["--shm-size", "x"], 125, "--shm-size"),
        (&["--add-host", "x"], 125, "--add-host"),
        (&["--allow", "x"], 125, "--allow"),
    ] {
        build(&ply, "FROM busybox\nRUN echo limited > /l\n", flags).fails(code, words);
    }
}

#[test]
fn the_last_of_a_flag_that_has_one_value_counts() {
    let ply = Ply::with_busybox();
    let context = ply.directory("context");
    fs::write(
        context.join("Other"),
        "FROM busybox AS a\nRUN ls /sys/class/net > /a\nFROM a AS b\nRUN echo b > /b\nFROM b\nRUN \
        false\n",
    )
    .expect("a Dockerfile");
    let twice = [
        "-f",
        "context/None",
        "-f",
        "context/Other",
        "--target",
        "nosuch",
        "--target",
        "b",
        "--network",
        "host",
        "--network",
        "none",
        "--progress",
        "tty",
        "--progress",
        "plain",
        "--iidfile",
        "one",
        "--iidfile",
        "two",
        "--no-cache=false",
        "--no-cache",
        "--shm-size",
        "1m",
        "--shm-size",
        "2m",
        "-m",
        "1m",
        "-m",
        "64m",
        "--pull",
        "--pull=false",
        "--platform",
        "linux/arm64",
        "--platform",
        &format!(
            "linux/{}",
            if cfg!(target_arch = "aarch64") {
                "arm64"
            } else {
                "amd64"
            }
        ),
    ];
    build(&ply, "", &twice).ok();
    assert_eq!(said(&ply, "cat /a /b"), "lo\nb");
    assert!(!ply.path("one").exists() && ply.path("two").exists());
    // As much of a container.
    let run = [
        "run",
        "--rm",
        "--rm",
        "--name",
        "one",
        "--name",
        "two",
        "-w",
        "/nosuch",
        "-w",
        "/tmp",
        "--hostname",
        "one",
        "-h",
        "two",
        "--network",
        "none",
        "-u",
        "0",
        "-u",
        "33",
        "--entrypoint",
        "false",
        "--entrypoint",
        "sh",
        "-m",
        "1m",
        "-m",
        "64m",
        "--cpus",
        "99999",
        "--cpus",
        "1",
        "--restart",
        "always",
        "--restart",
        "no",
        "--pull",
        "always",
        "--pull",
        "never",
        "busybox",
        "-c",
        "pwd; hostname; id -u; ls /sys/class/net",
    ];
    assert_eq!(ply.run(&run).ok(), "/tmp\ntwo\n33\nlo");
    let create = [
        "create",
        "--name",
        "one",
        "--name",
        "two",
        "--stop-signal",
        "INT",
        "--stop-signal",
        "TERM",
        "busybox",
    ];
    ply.run(&create).ok();
    assert_eq!(ply.inspect("two", "{{.Config.StopSignal}}"), "TERM");
    assert_eq!(
        ply.run(&[
            "ps",
            "-a",
            "-n",
            "0",
            "-n",
            "1",
            "--format",
            "{{.ID}}",
            "--format",
            "{{.Names}}"
        ])
        .ok(),
        "two"
    );
}

#[test]
fn other_users_get_at_nothing_that_a_build_has_made() {
    use std::os::unix::fs::PermissionsExt as _;
    let ply = Ply::with_busybox();
    let context = ply.directory("context");
    tests::must(
        "tar",
        &[
            "-C",
            "/etc",
            "-cf",
            &context.join("a.tar").to_string_lossy(),
            "passwd",
        ],
    );
    let dockerfile = "FROM busybox\nRUN echo x > /x\nADD a.tar /a\nRUN echo y > /y\n";
    let outputs = [
        "--iidfile",
        "iid",
        "--metadata-file",
        "metadata",
        "-o",
        "type=image",
        "-o",
        "type=tar,dest=files.tar",
        "-o",
        "files",
        "--cache-to",
        "type=local,dest=cache",
    ];
    build(&ply, dockerfile, &outputs).ok();
    let mode = |path: &std::path::Path| {
        let metadata = fs::symlink_metadata(path).expect("it is there");
        metadata.permissions().mode() & 0o777
    };
    // What is below is shut in by these, whatever its modes.
    for name in [
        "blobs",
        "containers",
        "layers",
        "locks",
        "objects",
        "stacks",
        "tmp",
    ] {
        assert_eq!(mode(&ply.root().join(name)), 0o700, "{name}");
    }
    for name in [
        "images.lock",
        "state.db",
        "state.db-shm",
        "state.db-wal",
        "state.lock",
    ] {
        let path = ply.root().join(name);
        assert!(!path.exists() || mode(&path) == 0o600, "{name}");
    }
    // What is for the caller is as the umask says.
    for (name, expected) in [
        ("iid", 0o644),
        ("metadata", 0o644),
        ("files.tar", 0o644),
        ("files", 0o755),
        ("cache", 0o755),
        ("cache/index.json", 0o644),
    ] {
        assert_eq!(mode(&ply.path(name)), expected, "{name}");
    }
    // Those of an older store are shut when it is opened.
    let open = |name: &str, mode| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(ply.root().join(name), permissions).expect("it is ours");
    };
    open("layers", 0o755);
    open("state.db", 0o644);
    ply.run(&["images"]).ok();
    assert_eq!(mode(&ply.root().join("layers")), 0o700);
    assert_eq!(mode(&ply.root().join("state.db")), 0o600);
}

#[test]
fn flags_of_docker_s_clients_are_understood() {
    let ply = Ply::with_busybox();
    let dockerfile = "FROM busybox AS one\nRUN head -c 8 /dev/urandom | od -x > /one\n\
                      FROM busybox\nCOPY --from=one /one /one\nRUN head -c 8 /dev/urandom | od -x > /two\n";
    let both = || (said(&ply, "cat /one"), said(&ply, "cat /two"));
    let quiet = [
        "--provenance=false",
        "--sbom=false",
        "--builder=default",
        "--attest",
        "type=provenance,disabled=true",
        "--metadata-file",
        "metadata",
        "-o",
        "type=image,compression=gzip,oci-mediatypes=true",
    ];
    let built = build(&ply, dockerfile, &quiet);
    built.ok();
    assert!(!built.err.contains("WARNING"), "{built:?}");
    let metadata = fs::read_to_string(ply.path("metadata")).expect("written");
    let metadata: serde_json::Value = serde_json::from_str(&metadata).expect("JSON");
    assert_eq!(metadata["image.name"], "docker.io/library/made:latest");
    let id = ply.inspect("made", "{{.Id}}");
    assert_eq!(metadata["containerimage.config.digest"], id.as_str());
    let (one, two) = both();
    build(&ply, dockerfile, &["--no-cache-filter", "1"]).ok();
    let (same, other) = both();
    assert!(same == one && other != two);
    build(&ply, dockerfile, &["--no-cache-filter", "one"]).ok();
    assert_ne!(both().0, one);
    let asked = build(&ply, dockerfile, &["--provenance=mode=max"]);
    asked.ok();
    assert!(asked.err.contains("--provenance is ignored"), "{asked:?}");
    build(&ply, dockerfile, &["-o", "type=cacheonly"]).ok();
    build(&ply, dockerfile, &["-o", "type=image,compression=zstd"])
        .fails(1, "unsupported compression zstd");
}
