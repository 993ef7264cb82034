//! Bad input: Docker's exit codes and the substance of its words, one line, nothing left behind.
#![allow(missing_docs)]

use std::fs;
use std::io::Write as _;

use tests::Ply;

/// Checks each command's exit code and words.
fn check(ply: &Ply, cases: &[(&str, i32, &str)]) {
    for (command, code, words) in cases {
        let arguments: Vec<&str> = command.split_whitespace().collect();
        let output = ply.run(&arguments);
        assert_eq!(output.code, *code, "ply {command}: {output:?}");
        assert!(
            output.err.contains(words),
            "ply {command}: {words:?} is not in {output:?}"
        );
        for unwanted in ["os error", "panicked", "Some(", "Error { "] {
            assert!(!output.err.contains(unwanted), "ply {command}: {output:?}");
        }
    }
}

#[test]
fn volumes_and_mounts_are_refused_in_docker_s_way() {
    let ply = Ply::with_busybox();
    ply.run(&["create", "--name", "c1", "-v", "used:/data", "busybox"])
        .ok();
    check(
        &ply,
        &[
            ("volume rm nosuchvol", 1, "get nosuchvol: no such volume"),
            ("volume rm used", 1, "remove used: volume is in use - ["),
            ("volume rm", 1, "requires at least 1 argument"),
            (
                "volume inspect nosuchvol",
                1,
                "get nosuchvol: no such volume",
            ),
            (
                "volume create bad/name",
                1,
                "create bad/name: \"bad/name\" includes invalid characters for a local volume name, only \
                 \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed",
            ),
            ("volume create a", 1, "create a: volume name is too short"),
            (
                "volume create -d nosuch v2",
                1,
                "create v2: error looking up volume plugin nosuch: plugin \"nosuch\" not found",
            ),
            (
                "volume create -o foo=bar v2",
                1,
                "create v2: invalid option: \"foo\"",
            ),
            (
                "volume create -o type=tmpfs v2",
                1,
                "create v2: missing required option: \"device\"",
            ),
            ("volume create v2 extra", 1, "extra"),
            ("volume ls --filter nosuch=1", 1, "Invalid filter 'nosuch'"),
            (
                "volume ls --filter dangling=foo",
                1,
                "Invalid filter 'dangling=[foo]'",
            ),
            (
                "volume prune -f --filter nosuch=1",
                1,
                "Invalid filter 'nosuch'",
            ),
            (
                "run --rm --volumes-from nosuch busybox true",
                125,
                "No such container: nosuch",
            ),
            (
                "run --rm --volumes-from c1:zz busybox true",
                125,
                "invalid mode: zz",
            ),
            (
                "run --rm -v v1:/data:ro,rw busybox true",
                125,
                "invalid mode: ro,rw",
            ),
            (
                "run --rm -v v1:/data:nosuch busybox true",
                125,
                "invalid mode: nosuch",
            ),
            (
                "run --rm -v v1:data busybox true",
                125,
                "'data' mount path must be absolute",
            ),
            (
                "run --rm -v v1:/ busybox true",
                125,
                "destination can't be '/'",
            ),
            (
                "run --rm -v :/x busybox true",
                125,
                "empty section between colons",
            ),
            (
                "run --rm -v v1:/data:shared busybox true",
                125,
                "field BindOptions must not be specified",
            ),
            (
                "run --rm -v /tmp:/data:nocopy busybox true",
                125,
                "field VolumeOptions must not be specified",
            ),
            (
                "run --rm -v /tmp:/b --tmpfs /b busybox true",
                125,
                "Duplicate mount point: /b",
            ),
            (
                "run --rm --mount type=bind,src=/tmp,dst=/b -v /etc:/b busybox true",
                125,
                "Duplicate mount point: /b",
            ),
            (
                "run --rm --volume-driver nosuch -v v9:/b busybox true",
                125,
                "create v9: error looking up volume plugin nosuch",
            ),
            (
                "run --rm --mount type=volume busybox true",
                125,
                "invalid argument \"type=volume\" for \"--mount\" flag: target is required",
            ),
            (
                "run --rm --mount type=bind,src=/tmp,dst=/x,volume-nocopy busybox true",
                125,
                "cannot mix 'volume-*' options with mount type 'bind'",
            ),
            (
                "run --rm --mount type=bind,src=/tmp,dst=/x,bind-recursive=foo busybox true",
                125,
                "invalid value for bind-recursive: foo (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")",
            ),
            (
                "run --rm --mount type=nosuch,dst=/x busybox true",
                125,
                "invalid mount config for type \"nosuch\": mount type unknown",
            ),
            (
                "run --rm --mount src=v8,dst=/x,volume-subpath=sub busybox true",
                125,
                "no such file or directory",
            ),
            (
                "run --rm --network host --network-alias x busybox true",
                125,
                "network-scoped alias is supported only for containers in user defined networks",
            ),
            (
                "run --rm --tmpfs rel busybox true",
                125,
                "'rel' mount path must be absolute",
            ),
            (
                "run --rm --tmpfs /x:foo busybox true",
                125,
                "invalid tmpfs option [\"foo\"]",
            ),
            (
                "run --rm --tmpfs /x:size=zz busybox true",
                125,
                "mount /x: invalid argument",
            ),
        ],
    );
    assert_eq!(ply.run(&["ps", "-aq"]).ok().lines().count(), 1);
    assert_eq!(ply.run(&["volume", "ls", "-q"]).ok(), "used\nv8");
}

#[test]
fn what_docker_refuses_is_refused_in_its_way() {
    let ply = Ply::with_busybox();
    ply.run(&["run", "-d", "--name", "err-run", "busybox", "sleep", "1000"])
        .ok();
    ply.run(&["run", "--name", "err-stop", "busybox", "true"])
        .ok();
    let before = ply.run(&["ps", "-aq"]).ok().to_owned();
    check(
        &ply,
        &[
            (
                "run --rm 127.0.0.1:1/nosuch/image:1 true",
                125,
                "Unable to find image '127.0.0.1:1/nosuch/image:1' locally\nply: Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
            ),
            ("rmi nosuchimage", 1, "No such image: nosuchimage:latest"),
            (
                "history nosuchimage",
                1,
                "No such image: nosuchimage:latest",
            ),
            (
                "run --rm BusyBox:Latest true",
                125,
                "invalid reference format: repository name (library/BusyBox) must be lowercase",
            ),
            (
                "run --rm --platform linux/s390x --pull never busybox true",
                125,
                "No such image: busybox:latest",
            ),
            (
                "run --rm --platform nosuch/os/x/y busybox true",
                125,
                "\"nosuch/os/x/y\": unknown operating system or architecture",
            ),
            ("pull busybox:a:b", 1, "invalid reference format"),
            (
                "run -d --name err-run busybox true",
                125,
                "Conflict. The container name \"/err-run\" is already in use by container",
            ),
            ("rm err-run", 1, "You cannot remove a running container"),
            ("rm nosuch", 1, "No such container: nosuch"),
            (
                "rmi busybox",
                1,
                "conflict: unable to remove repository reference \"busybox\" (must force) - container",
            ),
            (
                "start nosuch",
                1,
                "No such container: nosuch\nError: failed to start containers: nosuch",
            ),
            (
                "kill err-stop",
                1,
                "Cannot kill container: err-stop: Container",
            ),
            ("kill -s NOSUCH err-run", 1, "Invalid signal: NOSUCH"),
            (
                "run --rm busybox nosuchcmd",
                127,
                "exec: \"nosuchcmd\": executable file not found in $PATH",
            ),
            (
                "run --rm busybox /etc/passwd",
                126,
                "exec: \"/etc/passwd\": permission denied",
            ),
            (
                "run --rm -w /etc/passwd busybox true",
                125,
                "Cannot mkdir: /etc/passwd is not a directory",
            ),
            (
                "run --rm -w relative busybox true",
                125,
                "needs to be an absolute path",
            ),
            (
                "run -d -a stdout busybox true",
                1,
                "conflicting options: cannot specify both --attach and --detach",
            ),
            (
                "run --rm --network nosuchnet busybox true",
                125,
                "network nosuchnet not found",
            ),
            (
                "run --rm -v a:/b:ro:z:q busybox true",
                125,
                "invalid volume specification: 'a:/b:ro:z:q'",
            ),
            (
                "run --rm -v bad/name:/b busybox true",
                125,
                "\"bad/name\" includes invalid characters for a local volume name",
            ),
            (
                "run --rm -v /tmp:/b -v /etc:/b busybox true",
                125,
                "Duplicate mount point: /b",
            ),
            (
                "cp err-run:/no/such out",
                1,
                "Could not find the file /no/such in container err-run",
            ),
            ("cp nosuch:/etc/passwd out", 1, "No such container: nosuch"),
            (
                "cp err-run:/etc/passwd err-stop:/tmp",
                1,
                "copying between containers is not supported",
            ),
            ("cp a b", 1, "must specify at least one container source"),
            ("inspect nosuch", 1, "Error: No such object: nosuch"),
            (
                "inspect -f {{.Nope}} err-run",
                1,
                "template parsing error: template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\"",
            ),
            ("inspect -f {{.Name err-run", 1, "template parsing error"),
            ("logs --tail abc err-run", 0, ""),
            (
                "rename err-stop err-run",
                1,
                "Error when allocating new name: Conflict. The container name \"/err-run\" is already in use",
            ),
            (
                "run --rm -m 1m busybox true",
                125,
                "Minimum memory limit allowed is 6MB",
            ),
            (
                "run --rm -m lots busybox true",
                125,
                "invalid argument \"lots\" for \"-m, --memory\" flag",
            ),
            (
                "run --rm --env-file /no/such busybox true",
                125,
                "open /no/such: no such file or directory",
            ),
            ("run --nosuch busybox", 125, "unknown flag: --nosuch"),
            ("run -Z busybox", 125, "unknown shorthand flag: 'Z' in -Z"),
            ("run", 1, "\"ply run\" requires at least 1 argument"),
            ("rm", 1, "\"ply rm\" requires at least 1 argument"),
            ("nosuch", 1, "'nosuch' is not a ply command"),
            ("ps --filter nosuch=1", 1, "Invalid filter 'nosuch'"),
            (
                "run --rm --security-opt nosuch busybox true",
                125,
                "invalid --security-opt: \"nosuch\"",
            ),
            (
                "run --rm --ulimit nofile=3:2 busybox true",
                125,
                "ulimit soft limit must be less than or equal to hard limit",
            ),
            (
                "run --rm --ulimit nosuch=3 busybox true",
                125,
                "invalid ulimit type: nosuch",
            ),
            (
                "run --name a/b busybox true",
                125,
                "Invalid container name (a/b)",
            ),
            (
                "run --pull never nosuch",
                125,
                "No such image: nosuch:latest",
            ),
            (
                "save -o /no/such/dir/x busybox",
                1,
                "invalid output path: directory \"/no/such/dir\" does not exist",
            ),
            (
                "load -i /no/such",
                1,
                "open /no/such: no such file or directory",
            ),
            ("import /no/such x", 1, "no such file or directory"),
            ("tag nosuch x", 1, "No such image: nosuch:latest"),
            (
                "push nosuch.invalid/x",
                1,
                "An image does not exist locally with the tag: nosuch.invalid/x",
            ),
        ],
    );
    assert_eq!(ply.run(&["inspect", "nosuch"]).out, "[]\n");
    assert_eq!(
        ply.run(&["ps", "-aq"]).ok(),
        before,
        "no container was left behind"
    );
    assert!(!ply.path("out").exists());
}

#[test]
fn an_image_without_a_command_is_told_of() {
    let ply = Ply::new();
    ply.run(&["import", &tests::busybox_tar().to_string_lossy(), "nocmd"])
        .ok();
    ply.run(&["run", "--rm", "nocmd"])
        .fails(125, "No command specified");
}

/// Returns a tar with one entry for each name and kind.
fn tar(entries: &[(&[u8], tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, kind, target) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target);
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(0);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
    }
    out.resize(out.len() + 1024, 0);
    out
}

#[test]
fn hostile_names_stay_inside() {
    use tar::EntryType;
    let ply = Ply::new();
    let mounted = ply.directory("mounted");
    let at = mounted.to_string_lossy().into_owned();
    let victim = ply.path("victim");
    fs::write(&victim, "untouched").expect("written");
    for (number, bytes) in [
        tar(&[(b"../../victim", EntryType::Regular, b"")]),
        tar(&[(b"a/../../victim", EntryType::Regular, b"")]),
        tar(&[(b"link", EntryType::Link, b"../../../etc/passwd")]),
        tar(&[(b"a", EntryType::Link, b"b"), (b"b", EntryType::Link, b"a")]),
    ]
    .iter()
    .enumerate()
    {
        let output = ply.run_with(&["import", "-", &format!("hostile{number}")], bytes);
        // Refused with a clear line, or harmless.
        if output.code == 0 {
            ply.run(&["mount", &format!("hostile{number}"), &at]).ok();
            for entry in fs::read_dir(&mounted).expect("a directory") {
                assert_ne!(entry.expect("an entry").file_name(), "..");
            }
            ply.run(&["umount", &at]).ok();
        } else {
            assert_eq!(output.err.lines().count(), 1, "{output:?}");
        }
    }
    // Absolute names mean the root of the tree; a link on the way is replaced by nothing outside.
    let bytes = tar(&[
        (b"/abs", EntryType::Regular, b""),
        (b"etc", EntryType::Symlink, b"/etc"),
        (b"new\nline", EntryType::Regular, b""),
        (b"bad\xffutf", EntryType::Regular, b""),
    ]);
    ply.run_with(&["import", "-", "names"], &bytes).ok();
    ply.run(&["mount", "names", &at]).ok();
    let mut names: Vec<_> = fs::read_dir(&mounted)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names.len(), 4, "{names:?}");
    ply.run(&["umount", &at]).ok();
    assert_eq!(fs::read_to_string(&victim).expect("read"), "untouched");
}

#[test]
fn broken_archives_are_refused_and_leave_nothing() {
    let ply = Ply::new();
    let whole = fs::read(tests::busybox_tar()).expect("read");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&whole).expect("written");
    let gzip = encoder.finish().expect("written");
    let mut corrupt = gzip.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle..middle + 64].fill(0xa5);
    for (what, bytes) in [
        ("a gzip cut short", &gzip[..gzip.len() / 2]),
        ("a corrupt gzip", &corrupt[..]),
        ("a tar cut short", &whole[..whole.len() / 2 + 100]),
        ("noise", &[0x5a; 4096][..]),
    ] {
        let output = ply.run_with(&["import", "-", "x"], bytes);
        assert_eq!(output.code, 1, "{what}: {output:?}");
        assert_eq!(output.err.lines().count(), 1, "{what}: {output:?}");
        ply.run_with(&["load"], bytes).fails(1, "");
    }
    assert_eq!(ply.run(&["images", "-aq"]).ok(), "");
    for directory in ["layers", "objects", "tmp"] {
        let left = fs::read_dir(ply.root().join(directory))
            .expect("a directory")
            .count();
        assert_eq!(left, 0, "{directory}");
    }
}

/// Runs a command and returns its exit code and the most memory it had, in KiB.
fn memory_of(ply: &Ply, arguments: &[&str], input: &std::path::Path) -> (i32, u64) {
    let mut command = std::process::Command::new("/usr/bin/time");
    let output = command
        .args(["-f", "%M"])
        .arg(Ply::program())
        .args(arguments)
        .env("PLY_ROOT", ply.root())
        .env("PLY_RUN", ply.path("run"))
        .stdin(fs::File::open(input).expect("a file"))
        .output()
        .expect("time is installed");
    let err = String::from_utf8_lossy(&output.stderr);
    let last = err
        .lines()
        .next_back()
        .and_then(|line| line.trim().parse().ok());
    (
        output.status.code().unwrap_or(-1),
        last.unwrap_or_else(|| panic!("{err}")),
    )
}

/// Writes a compressed tar with one entry of a kind, which holds so many zeros.
fn zeros(path: &std::path::Path, kind: tar::EntryType, length: u64) {
    let file = fs::File::create(path).expect("a file");
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros").expect("a name");
    header.set_entry_type(kind);
    header.set_size(length);
    header.set_mode(0o644);
    header.set_cksum();
    encoder.write_all(header.as_bytes()).expect("written");
    let mut zeros = std::io::Read::take(std::io::repeat(0), length + 1024);
    std::io::copy(&mut zeros, &mut encoder).expect("written");
    encoder.finish().expect("written");
}

#[test]
fn a_bomb_of_zeros_takes_little_memory() {
    let ply = Ply::new();
    let path = ply.path("bomb.tar.gz");
    zeros(&path, tar::EntryType::Regular, 1 << 30);
    let (code, kilobytes) = memory_of(&ply, &["import", "-", "bomb"], &path);
    assert_eq!(code, 0);
    assert!(kilobytes < 100 << 10, "{kilobytes} KiB");
    ply.run(&["rmi", "bomb"]).ok();
    for kind in [tar::EntryType::GNULongName, tar::EntryType::XHeader] {
        zeros(&path, kind, 256 << 20);
        for arguments in [&["load"][..], &["import", "-"]] {
            let (code, kilobytes) = memory_of(&ply, arguments, &path);
            assert_eq!(code, 1, "{kind:?} {arguments:?}");
            assert!(
                kilobytes < 100 << 10,
                "{kind:?} {arguments:?}: {kilobytes} KiB"
            );
        }
    }
}

#[test]
fn a_million_entries_are_taken_within_bounds() {
    let ply = Ply::new();
    let path = ply.path("many.tar.gz");
    let file = fs::File::create(&path).expect("a file");
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    for number in 0..1_000_000 {
        header
            .set_path(format!("d{:03}/f{number:07}", number % 1000))
            .expect("a name");
        header.set_cksum();
        encoder.write_all(header.as_bytes()).expect("written");
    }
    encoder.write_all(&[0; 1024]).expect("written");
    encoder.finish().expect("written");
    let (code, kilobytes) = memory_of(&ply, &["import", "-", "many"], &path);
    assert_eq!(code, 0);
    println!("a million entries: {kilobytes} KiB");
    assert!(kilobytes < 200 << 10, "{kilobytes} KiB");
    let mounted = ply.directory("mounted");
    ply.run(&["mount", "many", &mounted.to_string_lossy()]).ok();
    assert_eq!(
        fs::read_dir(mounted.join("d007"))
            .expect("a directory")
            .count(),
        1000
    );
    assert!(mounted.join("d999/f0999999").is_file());
    ply.run(&["umount", &mounted.to_string_lossy()]).ok();
    ply.run(&["rmi", "many"]).ok();
}
