//! `build`: what runs, what is copied, what is kept, and what is left when it dies.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;

use tests::Output;
use tests::Ply;
use tests::eventually;

/// Makes a context of a Dockerfile and files.
fn context(ply: &Ply, name: &str, dockerfile: &str, files: &[(&str, &str)]) -> PathBuf {
    let directory = ply.directory(name);
    fs::write(directory.join("Dockerfile"), dockerfile).expect("a Dockerfile");
    for (path, content) in files {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, content).expect("a file");
    }
    directory
}

fn build(ply: &Ply, context: &Path, more: &[&str]) -> Output {
    let context = context.to_string_lossy();
    ply.run(&[&["build", "-t", "made"], more, &[&context]].concat())
}

/// Returns how many steps came from the cache.
fn cached(output: &Output) -> usize {
    output.ok().matches("Using cache").count()
}

/// Returns what a command says in a container of the image.
#[track_caller]
fn said(ply: &Ply, command: &str) -> String {
    let output = ply.run(&["run", "--rm", "made", "sh", "-c", command]);
    output.ok().to_owned()
}

fn id(ply: &Ply, name: &str) -> String {
    let output = ply.run(&["inspect", "-f", "{{.Id}}", name]);
    output.ok().to_owned()
}

#[test]
fn the_cache_is_exact() {
    let ply = Ply::with_busybox();
    let dockerfile = "FROM busybox\nCOPY dir /dir\nRUN cat /dir/a > /b\nCMD [\"sh\"]\n";
    let files = [("dir/a", "one"), ("dir/x/y", "deep")];
    let context = context(&ply, "context", dockerfile, &files);
    build(&ply, &context, &[]).ok();
    let first = id(&ply, "made");
    let again = build(&ply, &context, &[]);
    assert_eq!(cached(&again), 3, "{again:?}");
    assert_eq!(id(&ply, "made"), first, "the same image again");
    // A time is nothing.
    let file = fs::File::options()
        .write(true)
        .open(context.join("dir/a"))
        .expect("the file");
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .expect("a time");
    assert_eq!(cached(&build(&ply, &context, &[])), 3);
    // A mode is something.
    let path = context.join("dir/a");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    assert_eq!(cached(&build(&ply, &context, &[])), 0);
    assert_eq!(said(&ply, "stat -c %a /dir/a"), "600");
    // A byte is something, even if the length and the time of modification are what they were.
    let before = fs::metadata(&path).expect("the file");
    fs::write(&path, "two").expect("a byte");
    let file = fs::File::options().write(true).open(&path);
    let file = file.expect("the file");
    file.set_modified(before.modified().expect("a time"))
        .expect("a time");
    assert_eq!(cached(&build(&ply, &context, &[])), 0);
    assert_eq!(said(&ply, "cat /b"), "two");
    // Another name is something.
    fs::rename(context.join("dir/x/y"), context.join("dir/x/z")).expect("a name");
    assert_eq!(cached(&build(&ply, &context, &[])), 0);
    assert_eq!(cached(&build(&ply, &context, &["--no-cache"])), 0);
}

#[test]
fn arguments_that_matter_are_part_of_the_key() {
    let ply = Ply::with_busybox();
    let dockerfile = "FROM busybox\nRUN echo early > /early\nARG A=1\nRUN echo $A > /late\n";
    let context = context(&ply, "context", dockerfile, &[]);
    build(&ply, &context, &[]).ok();
    let other = build(&ply, &context, &["--build-arg", "A=2"]);
    assert_eq!(cached(&other), 2, "the first RUN and the ARG: {other:?}");
    assert_eq!(said(&ply, "cat /late"), "2");
    let history = ply.run(&["history", "--no-trunc", "made"]);
    assert!(history.ok().contains("|1 A=2 /bin/sh -c echo $A > /late"));
    let again = build(&ply, &context, &["--build-arg", "A=1"]);
    assert_eq!(cached(&again), 3);
    assert_eq!(said(&ply, "cat /late"), "1");
}

#[test]
fn results_outlive_their_image_until_they_are_swept_together() {
    let ply = Ply::with_busybox();
    let context = context(&ply, "context", "FROM busybox\nRUN echo x > /x\n", &[]);
    build(&ply, &context, &[]).ok();
    ply.run(&["rmi", "made"]).ok();
    ply.run(&["image", "prune", "-f"]).ok();
    assert_eq!(cached(&build(&ply, &context, &[])), 1);
    assert_eq!(said(&ply, "cat /x"), "x");
}

#[test]
fn stages_that_nobody_needs_are_not_built_and_independent_ones_are_built_side_by_side() {
    let ply = Ply::with_busybox();
    // Each waits for the other, through a cache mount that both have.
    let meet = |own: &str, other: &str| {
        format!(
            "RUN --mount=type=cache,target=/c touch /c/{own}; i=0; while [ ! -e /c/{other} ] && [ $i -lt 600 ]; do \
             i=$((i+1)); sleep 0.1; done; test -e /c/{other} && echo {own} > /{own}\n"
        )
    };
    let dockerfile = format!(
        "FROM busybox AS unused\nRUN false\nFROM busybox AS a\n{}FROM busybox AS b\n{}FROM busybox\nCOPY --from=a /a \
         /\nCOPY --from=b /b /\n",
        meet("a", "b"),
        meet("b", "a"),
    );
    let context = context(&ply, "context", &dockerfile, &[]);
    build(&ply, &context, &[]).ok();
    assert_eq!(said(&ply, "cat /a /b"), "a\nb");
    let unused = build(&ply, &context, &["--target", "unused"]);
    unused.fails(
        1,
        "The command '/bin/sh -c false' returned a non-zero code: 1",
    );
}

#[test]
fn a_failing_command_ends_the_build_with_its_code_and_leaves_nothing() {
    let ply = Ply::with_busybox();
    let dockerfile = "FROM busybox\nRUN echo before; exit 7\n";
    let context = context(&ply, "context", dockerfile, &[]);
    let failed = build(&ply, &context, &[]);
    failed.fails(
        7,
        "The command '/bin/sh -c echo before; exit 7' returned a non-zero code: 7",
    );
    assert!(failed.out.contains("before"));
    assert_eq!(ply.run(&["ps", "-aq"]).ok(), "");
    // The monitor keeps the bridge for a moment.
    eventually("nothing is left", || ply.leftovers().is_empty());
}

/// Returns the files below a directory that have some bytes in them.
fn files_with(directory: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files_with(&path, bytes)),
            Ok(kind) if kind.is_file() => {
                let content = fs::read(&path).unwrap_or_default();
                if content.windows(bytes.len()).any(|window| window == bytes) {
                    found.push(path);
                }
            }
            _ => {}
        }
    }
    found
}

#[test]
fn secrets_are_seen_by_the_command_and_land_nowhere() {
    let ply = Ply::with_busybox();
    let dockerfile = "FROM busybox\nRUN --mount=type=secret,id=key test -s /run/secrets/key && stat -c %a /run/secrets/key \
                      && wc -c < /run/secrets/key\nRUN --mount=type=secret,id=key,target=/etc/key,mode=0444 test -s \
                      /etc/key\nRUN --mount=type=secret,id=none test ! -e /run/secrets/none\n";
    let context = context(&ply, "context", dockerfile, &[]);
    let secret = "a-very-particular-secret-4711";
    fs::write(ply.path("key"), secret).expect("a secret");
    let source = format!("id=key,src={}", ply.path("key").display());
    let built = build(&ply, &context, &["--secret", &source]);
    assert!(built.ok().contains("400\n29\n"), "{built:?}");
    assert_eq!(said(&ply, "ls -d /run /etc/key 2>/dev/null; true"), "");
    assert_eq!(
        files_with(&ply.root(), secret.as_bytes()),
        Vec::<PathBuf>::new()
    );
    assert_eq!(
        files_with(&ply.path("run"), secret.as_bytes()),
        Vec::<PathBuf>::new()
    );
    let required = "FROM busybox\nRUN --mount=type=secret,id=none,required=true true\n";
    fs::write(context.join("Dockerfile"), required).expect("a Dockerfile");
    build(&ply, &context, &[]).fails(1, "secret none: not found");
}

#[test]
fn an_agent_s_socket_is_the_step_s_own_while_it_runs() {
    let ply = Ply::with_busybox();
    let dockerfile = "FROM busybox\nRUN --mount=type=ssh,mode=0640,uid=7 test -S $SSH_AUTH_SOCK && stat -c '%a %u' \
                      $SSH_AUTH_SOCK > /seen\nRUN --mount=type=ssh,id=other test -z \"$SSH_AUTH_SOCK\"\n";
    let context = context(&ply, "context", dockerfile, &[]);
    let socket = ply.path("agent");
    let _agent = UnixListener::bind(&socket).expect("a socket");
    let ssh = format!("default={}", socket.display());
    build(&ply, &context, &["--ssh", &ssh]).ok();
    assert_eq!(said(&ply, "cat /seen; ls /run 2>/dev/null; true"), "640 7");
    let required = "FROM busybox\nRUN --mount=type=ssh,id=other,required true\n";
    fs::write(context.join("Dockerfile"), required).expect("a Dockerfile");
    build(&ply, &context, &[]).fails(1, "ssh other: not found");
}

#[test]
fn cache_mounts_outlive_builds_and_are_in_no_layer() {
    let ply = Ply::with_busybox();
    let dockerfile = "FROM busybox\nARG N\nRUN --mount=type=cache,target=/deep/cache echo $N >> /deep/cache/log && cat /deep/cache/log\n";
    let context = context(&ply, "context", dockerfile, &[]);
    build(&ply, &context, &["--build-arg", "N=1"]).ok();
    let second = build(&ply, &context, &["--build-arg", "N=2"]);
    assert!(second.ok().contains("1\n2\n"), "{second:?}");
    assert_eq!(said(&ply, "ls -d /deep 2>/dev/null; true"), "");
}

#[test]
fn bind_mounts_show_contexts_without_what_is_ignored_and_keep_no_change() {
    let ply = Ply::with_busybox();
    let dockerfile = "FROM busybox AS other\nRUN mkdir /o && echo other > /o/f\nFROM busybox\n\
                      RUN --mount=type=bind,target=/src ls -A /src > /seen; ! touch /src/x 2>/dev/null\n\
                      RUN --mount=type=bind,from=other,source=/o,target=/o,rw echo more >> /o/f && cat /o/f >> /seen\n\
                      RUN --mount=type=bind,from=other,source=/o,target=/o cat /o/f >> /seen\n";
    let files = [
        ("a", "1"),
        ("ignored", "2"),
        (".dockerignore", "ignored\nDockerfile\n"),
    ];
    let context = context(&ply, "context", dockerfile, &files);
    build(&ply, &context, &[]).ok();
    assert_eq!(
        said(&ply, "cat /seen"),
        ".dockerignore\na\nother\nmore\nother"
    );
    assert_eq!(said(&ply, "ls -d /src /o 2>/dev/null; true"), "");
    assert!(!context.join("x").exists());
}

#[test]
fn nothing_leads_out_of_the_context_or_the_root() {
    let ply = Ply::with_busybox();
    let dockerfile = "FROM busybox\nRUN ln -s /../../../../inside /link && ln -s /nowhere /dangling\nCOPY dir /dir/\nCOPY \
                      dir/plain /link/a\nCOPY dir/plain /dangling\nADD evil.tar /unpacked/\n";
    let context = context(&ply, "context", dockerfile, &[("dir/plain", "p")]);
    let outside = ply.path("outside");
    fs::write(&outside, "secret of the host").expect("a file");
    symlink(&outside, context.join("dir/out")).expect("a link");
    symlink("../../outside", context.join("up")).expect("a link");
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, link: Option<&str>, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        // Written by hand: the library refuses such names.
        header.as_gnu_mut().expect("gnu").name[..name.len()].copy_from_slice(name.as_bytes());
        if let Some(link) = link {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_link_name_literal(link).expect("a link");
        }
        header.set_cksum();
        tar.append(&header, content).expect("an entry");
    };
    add("away", Some("/tmp/../.."), b"");
    add("away/stolen", None, b"x");
    let tar = tar.into_inner().expect("a tar");
    fs::write(context.join("evil.tar"), tar).expect("a tar");
    build(&ply, &context, &[]).ok();
    assert_eq!(
        said(&ply, "readlink /dir/out"),
        outside.display().to_string()
    );
    assert_eq!(
        said(&ply, "cat /inside/a /nowhere; echo; cat /stolen"),
        "pp\nx"
    );
    for (text, words) in [
        ("COPY up /x", "file not found in build context"),
        (
            "COPY ../outside /x",
            "forbidden path outside the build context: ../outside ()",
        ),
        ("COPY dir/out /x", "file not found in build context"),
    ] {
        fs::write(
            context.join("Dockerfile"),
            format!("FROM busybox\n{text}\n"),
        )
        .expect("written");
        build(&ply, &context, &[]).fails(1, words);
    }
    let dots = {
        let mut header = tar::Header::new_gnu();
        let name = b"../../up";
        header.as_gnu_mut().expect("gnu").name[..name.len()].copy_from_slice(name);
        header.set_size(0);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        let mut tar = tar::Builder::new(Vec::new());
        tar.append(&header, &b""[..]).expect("an entry");
        tar.into_inner().expect("a tar")
    };
    fs::write(context.join("evil.tar"), dots).expect("a tar");
    fs::write(
        context.join("Dockerfile"),
        "FROM busybox\nADD evil.tar /a/b/\n",
    )
    .expect("written");
    build(&ply, &context, &[]).fails(1, "invalid path in archive");
}

#[test]
fn files_go_where_docker_puts_them() {
    let ply = Ply::with_busybox();
    let dockerfile = "FROM busybox\nRUN mkdir /there && echo bob:x:1000:1000::/:/bin/sh >> /etc/passwd\nCOPY a /there\nCOPY a /new\nCOPY a b /many/\nCOPY d \
                      /d\nCOPY *.txt /txt/\nCOPY --parents p/./q/r /par/\nCOPY --exclude=*.txt . /ex/\nCOPY \
                      --chown=bob --chmod=u=rw,go= a /owned/deep/a\nCOPY <<END /doc\nx $HOME\nEND\nWORKDIR /w/x\nCOPY a \
                      ./\n";
    let files = [
        ("a", "a"),
        ("b", "b"),
        ("d/e/f", "f"),
        ("one.txt", "1"),
        ("two.txt", "2"),
        ("p/q/r", "r"),
    ];
    let context = context(&ply, "context", dockerfile, &files);
    build(&ply, &context, &[]).ok();
    let all = "cat /there/a /new /many/a /many/b /d/e/f /txt/one.txt /txt/two.txt /par/q/r /w/x/a; ls /ex; stat -c '%U \
               %a' /owned/deep/a; stat -c %U /owned; ls -d /par/p 2>/dev/null; cat /doc";
    assert_eq!(
        said(&ply, all),
        "aaabf12raDockerfile\na\nb\nd\np\nbob 600\nbob\nx "
    );
    for (text, words) in [
        ("COPY a b /x", "must be a directory and end with a /"),
        ("COPY none /x", "stat none: file does not exist"),
        ("COPY a /etc/passwd/x", "not a directory"),
        (
            "COPY --chown=nobody-here a /x",
            "can't find uid for user nobody-here",
        ),
    ] {
        fs::write(
            context.join("Dockerfile"),
            format!("FROM busybox\n{text}\n"),
        )
        .expect("written");
        build(&ply, &context, &[]).fails(1, words);
    }
}

#[test]
fn the_same_input_is_the_same_image_on_any_root() {
    let dockerfile = "FROM scratch\nCOPY dir /dir\nWORKDIR /work\nENV A=1\nCOPY <<END /here\ntext\nEND\nCMD [\"x\"]\n";
    let files = [("dir/b", "b"), ("dir/a", "a")];
    let mut ids = Vec::new();
    for _ in 0..2 {
        let ply = Ply::new();
        let context = context(&ply, "context", dockerfile, &files);
        let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1000000000"];
        build(&ply, &context, &epoch).ok();
        let created = ply.run(&["inspect", "-f", "{{.Created}}", "made"]);
        assert!(
            created.ok().starts_with("2001-09-09T01:46:40"),
            "{created:?}"
        );
        ids.push(id(&ply, "made"));
    }
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn results_go_where_they_are_asked_for() {
    let ply = Ply::with_busybox();
    let dockerfile = "FROM scratch\nCOPY a /dir/a\n";
    let context = context(&ply, "context", dockerfile, &[("a", "content")]);
    let to = |kind: &str, path: &Path| format!("type={kind},dest={}", path.display());
    let (local, tar, oci) = (ply.path("local"), ply.path("tar"), ply.path("oci"));
    build(&ply, &context, &["-o", &to("local", &local)]).ok();
    assert_eq!(
        fs::read_to_string(local.join("dir/a")).expect("the file"),
        "content"
    );
    build(&ply, &context, &["-o", &to("tar", &tar)]).ok();
    let listed = tests::must("tar", &["-tf", &tar.to_string_lossy()]);
    assert!(listed.contains("dir/a"), "{listed}");
    build(&ply, &context, &["-o", &to("oci", &oci)]).ok();
    assert_eq!(
        ply.run(&["images", "-q", "made"]).ok(),
        "",
        "no image was asked for"
    );
    ply.run(&["load", "-i", &oci.to_string_lossy()]).ok();
    assert!(!ply.run(&["images", "-q", "made"]).ok().is_empty());
}

#[test]
fn results_travel_by_a_directory_and_by_a_registry() {
    let dockerfile = "FROM busybox\nCOPY a /a\nRUN cat /a > /b\nENV X=1\n";
    let registry = tests::Registry::start();
    let name = registry.image("cache:1");
    let made = Ply::with_busybox();
    let directory = made.path("cache");
    let here = context(&made, "context", dockerfile, &[("a", "content")]);
    let to_local = format!("type=local,dest={},mode=max", directory.display());
    let to_registry = format!("type=registry,ref={name},mode=max");
    build(
        &made,
        &here,
        &["--cache-to", &to_local, "--cache-to", &to_registry],
    )
    .ok();
    let from_local = format!("type=local,src={}", directory.display());
    let from_registry = format!("type=registry,ref={name}");
    for from in [from_local, from_registry] {
        let other = Ply::with_busybox();
        let there = context(&other, "context", dockerfile, &[("a", "content")]);
        let built = build(&other, &there, &["--cache-from", &from]);
        assert_eq!(cached(&built), 2, "the layers' steps, {from}: {built:?}");
        assert_eq!(said(&other, "cat /b"), "content");
    }
}

/// Returns the containers in the engine's database, those of builds too, which no list shows.
fn rows(ply: &Ply) -> String {
    let script = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('select count(*) from containers').fetchone()[0])";
    let database = ply.root().join("state.db").display().to_string();
    tests::must("python3", &["-c", script, &database])
        .trim()
        .to_owned()
}

/// Returns the cgroups of the steps that a build's output names.
fn cgroups(output: &str) -> Vec<PathBuf> {
    let ids: Vec<&str> = output
        .lines()
        .filter_map(|line| line.strip_prefix(" ---> Running in "))
        .collect();
    let hierarchies = fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten();
    let parents = hierarchies.map(|hierarchy| hierarchy.path().join("ply"));
    let groups = parents
        .chain([PathBuf::from("/sys/fs/cgroup/ply")])
        .flat_map(|parent| fs::read_dir(parent).into_iter().flatten().flatten());
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        ids.iter().any(|id| name.starts_with(id))
    };
    groups.map(|group| group.path()).filter(is_ours).collect()
}

/// A context for builds that are ended early: stages side by side, many files, cache mounts.
fn long_build(ply: &Ply) -> PathBuf {
    let dockerfile = "FROM busybox\nCOPY many /many\nRUN ls /many | wc -l > /one\nRUN sleep 0.2; cp -r /many /copied; echo two > \
                      /two\nRUN --mount=type=cache,target=/c echo three > /three\nFROM busybox AS other\nRUN sleep 0.1; echo \
                      o > /o\nADD many.tar /unpacked\nFROM busybox\nCOPY --from=0 /copied /copied\nCOPY --from=0 /one /two \
                      /\nCOPY --from=other /o /o\nCOPY --from=other /unpacked /unpacked\n";
    let context = context(ply, "context", dockerfile, &[]);
    for number in 0..1000 {
        let path = context.join(format!("many/{number}"));
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, format!("{number}\n").repeat(number)).expect("a file");
    }
    let within = context.display().to_string();
    tests::must(
        "tar",
        &["-C", &within, "-cf", &format!("{within}/many.tar"), "many"],
    );
    context
}

/// What says whether its result is whole.
const WHOLE: &str = "cat /one /two /o; cat /copied/* | sha256sum; cat /unpacked/many/* | sha256sum";

/// Starts a build and, after a while, ends it or something of it by a signal; returns its end, and what it has said.
fn end_early(
    ply: &Ply,
    arguments: &[&str],
    after: u64,
    signal: nix::sys::signal::Signal,
    whole: bool,
) -> (std::process::ExitStatus, String) {
    let log = ply.path("log");
    let out = fs::File::create(&log).expect("a file");
    let mut command = ply.command(arguments);
    let mut child = tests::interruptible(&mut command)
        .stdout(out)
        .stderr(Stdio::null())
        .spawn()
        .expect("ply runs");
    std::thread::sleep(std::time::Duration::from_millis(after));
    let build = child.id() as i32;
    // The build itself, or something that it has started.
    let started = ply.processes();
    let victim = match whole || started.is_empty() {
        true => build,
        false => started[after as usize % started.len()],
    };
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(victim), signal);
    let status = child.wait().expect("it ends");
    (status, fs::read_to_string(log).expect("a log"))
}

#[track_caller]
fn nothing_is_left(ply: &Ply, log: &str) {
    eventually("the containers end", || {
        ply.run(&["ps", "-aq"]).ok();
        ply.leftovers().is_empty() && cgroups(log).is_empty()
    });
    assert_eq!(rows(ply), "0");
    assert_eq!(ply.run(&["system", "check"]).ok(), "");
}

#[test]
fn a_build_that_is_killed_leaves_nothing_and_the_next_one_is_right() {
    let ply = Ply::with_busybox();
    let context = long_build(&ply);
    build(&ply, &context, &["--no-cache"]).ok();
    let expected = said(&ply, WHOLE);
    let number = |name: &str, default: u64| {
        let stated = std::env::var(name).ok().and_then(|text| text.parse().ok());
        stated.unwrap_or(default)
    };
    let rounds = number("PLY_DEATH_ROUNDS", 25);
    let mut random = number("PLY_DEATH_SEED", 1);
    for round in 0..rounds {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let after = (random >> 33) % 1500;
        let path = context.to_string_lossy();
        // Some begin with what the killed ones have left in the cache.
        let cache = ["--no-cache", "--no-cache=false"][round as usize % 2];
        let arguments = ["build", cache, "-t", "made", &path];
        let kill = nix::sys::signal::Signal::SIGKILL;
        let (_, log) = end_early(&ply, &arguments, after, kill, round % 3 != 0);
        nothing_is_left(&ply, &log);
        if round % 5 == 4 {
            build(&ply, &context, &[]).ok();
            assert_eq!(said(&ply, WHOLE), expected, "after {round} rounds");
            ply.run(&["builder", "prune", "-af"]).ok();
        }
    }
    build(&ply, &context, &[]).ok();
    assert_eq!(said(&ply, WHOLE), expected);
}

#[test]
fn an_interrupted_build_ends_at_once() {
    let ply = Ply::with_busybox();
    let dockerfile = "FROM busybox AS a\nRUN trap '' INT TERM; sleep 1000; true\nFROM busybox AS b\nRUN sleep 1000\nFROM \
                      a\nCOPY --from=b / /b\n";
    let context = context(&ply, "context", dockerfile, &[]);
    let path = context.to_string_lossy();
    for progress in ["plain", "tty"] {
        let arguments = ["build", "--progress", progress, "-t", "made", &path];
        let interrupt = nix::sys::signal::Signal::SIGINT;
        let (status, log) = end_early(&ply, &arguments, 700, interrupt, true);
        use std::os::unix::process::ExitStatusExt as _;
        // A shell calls either 130.
        let is_130 = status.code() == Some(130) || status.signal() == Some(2);
        assert!(is_130, "{status:?}");
        nothing_is_left(&ply, &log);
    }
}

#[test]
fn the_cache_is_shown_and_pruned() {
    let ply = Ply::with_busybox();
    let dockerfile =
        "FROM busybox\nRUN --mount=type=cache,target=/c echo 12345 > /c/f; echo 1234567 > /x\n";
    let context = context(&ply, "context", dockerfile, &[]);
    build(&ply, &context, &[]).ok();
    let shown = |ply: &Ply| {
        let format = "{{.Type}} {{.TotalCount}} {{.Size}}";
        let shown = ply.run(&["system", "df", "--format", format]);
        shown.ok().lines().last().unwrap_or_default().to_owned()
    };
    assert!(shown(&ply).starts_with("Build Cache 2 "), "{}", shown(&ply));
    // What the image has stays, and serves.
    let pruned = ply.run(&["builder", "prune", "-f"]);
    assert!(
        pruned.ok().contains("Total reclaimed space: "),
        "{pruned:?}"
    );
    assert_eq!(cached(&build(&ply, &context, &[])), 1);
    ply.run(&["builder", "prune", "-af"]).ok();
    assert_eq!(shown(&ply), "Build Cache 0 0B");
    assert_eq!(cached(&build(&ply, &context, &[])), 0);
    ply.run(&["rmi", "made"]).ok();
    ply.run(&["builder", "prune", "-af", "--filter", "until=24h"])
        .ok();
    assert_eq!(cached(&build(&ply, &context, &[])), 1);
    ply.run(&["builder", "prune", "-af", "--keep-storage", "1g"])
        .ok();
    assert_eq!(cached(&build(&ply, &context, &[])), 1);
}
