//! Builds that cannot be: Docker's exit codes and words, the place in the Dockerfile, nothing left behind.
#![allow(missing_docs)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tests::Output;
use tests::Ply;

/// An engine with a context that has a file, a directory and links.
struct Builds {
    ply: Ply,
    context: PathBuf,
}

impl Builds {
    fn new() -> Builds {
        let ply = Ply::with_busybox();
        let context = ply.directory("ctx");
        fs::write(context.join("file"), "content\n").expect("written");
        fs::create_dir(context.join("dir")).expect("a directory");
        fs::write(context.join("dir/inside"), "inside\n").expect("written");
        fs::write(ply.path("outside"), "SECRET\n").expect("written");
        symlink("../outside", context.join("up")).expect("a link");
        symlink("/etc/passwd", context.join("absolute")).expect("a link");
        symlink("nowhere", context.join("dangling")).expect("a link");
        symlink("..", context.join("parent")).expect("a link");
        Builds { ply, context }
    }

    fn build(&self, dockerfile: &str, arguments: &[&str]) -> Output {
        fs::write(self.context.join("Dockerfile"), dockerfile).expect("written");
        self.ply.run(&[&["build"], arguments, &["ctx"]].concat())
    }

    /// Checks a build's exit code, a part of each of its streams, and that the error is a sentence.
    #[track_caller]
    fn check(&self, dockerfile: &str, arguments: &[&str], code: i32, out: &str, err: &str) {
        let output = self.build(dockerfile, arguments);
        assert_eq!(output.code, code, "{dockerfile:?}: {output:?}");
        assert!(
            output.out.contains(out),
            "{dockerfile:?}: {out:?} is not in {output:?}"
        );
        assert!(
            output.err.contains(err),
            "{dockerfile:?}: {err:?} is not in {output:?}"
        );
        for unwanted in [
            "os error",
            "panicked",
            "Some(",
            "Error { ",
            "Error response",
        ] {
            assert!(!output.err.contains(unwanted), "{dockerfile:?}: {output:?}");
        }
    }

    /// Checks that no build has left a container, an image or a file behind.
    fn nothing_is_left(&self, images_before: &str) {
        assert_eq!(self.ply.run(&["ps", "-aq"]).ok(), "");
        assert_eq!(self.images(), images_before);
        // The monitor keeps the bridge for a moment.
        tests::eventually("nothing is left", || self.ply.leftovers().is_empty());
        assert_eq!(self.ply.run(&["system", "check"]).ok(), "");
    }

    fn images(&self) -> String {
        self.ply
            .run(&["images", "-aq", "--no-trunc"])
            .ok()
            .to_owned()
    }
}

#[test]
fn what_docker_refuses_to_build_is_refused_in_its_words() {
    let builds = Builds::new();
    let before = builds.images();
    const FIRST: &str = "Sending build context";
    const STEP: &str = "Step 2/2 : ";
    for (dockerfile, code, out, err) in [
        ("", 1, FIRST, "the Dockerfile (Dockerfile) cannot be empty"),
        ("# only\n", 1, FIRST, "file with no instructions"),
        ("RUN x\n", 1, FIRST, "no build stage in current context"),
        (
            "FROM busybox\nFOO bar\n",
            1,
            FIRST,
            "dockerfile parse error line 2: unknown instruction: FOO",
        ),
        (
            "FROM busybox\nCOPY nothere /\n",
            1,
            "Step 2/2 : COPY nothere /",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat nothere: file does not exist",
        ),
        (
            "FROM busybox\nCOPY ../x /\n",
            1,
            STEP,
            "COPY failed: forbidden path outside the build context: ../x ()",
        ),
        (
            "FROM busybox\nADD ../x /\n",
            1,
            STEP,
            "ADD failed: forbidden path outside the build context: ../x ()",
        ),
        (
            "FROM busybox\nCOPY file Dockerfile /dest\n",
            1,
            STEP,
            "When using COPY with more than one source file, the destination must be a directory and end with a /",
        ),
        (
            "FROM busybox AS own\nCOPY --from=own /etc /e\n",
            1,
            STEP,
            "circular dependency detected on stage: own",
        ),
        (
            "FROM busybox\nCOPY nosuch* /\n",
            1,
            STEP,
            "COPY failed: no source files were specified",
        ),
        (
            "FROM busybox\nCOPY --nosuch=1 file /\n",
            1,
            FIRST,
            "dockerfile parse error line 2: Unknown flag: nosuch",
        ),
        (
            "FROM busybox\nRUN nosuchcmd\n",
            127,
            "/bin/sh: nosuchcmd: not found",
            "The command '/bin/sh -c nosuchcmd' returned a non-zero code: 127",
        ),
        (
            "FROM busybox\nRUN exit 3\n",
            3,
            " ---> Running in ",
            "The command '/bin/sh -c exit 3' returned a non-zero code: 3",
        ),
        (
            "FROM busybox\nRUN [\"nosuchcmd\"]\n",
            1,
            STEP,
            "exec: \"nosuchcmd\": executable file not found in $PATH",
        ),
        (
            "FROM busybox\nENV foo\n",
            1,
            FIRST,
            "failed to parse Dockerfile: ENV must have two arguments",
        ),
        (
            "FROM busybox\nLABEL\n",
            1,
            FIRST,
            "dockerfile parse error line 2: LABEL requires at least one argument",
        ),
        (
            "FROM Bad:::ref\n",
            1,
            "Step 1/1 : FROM Bad:::ref",
            "invalid reference format",
        ),
        (
            "FROM busybox\nWORKDIR\n",
            1,
            FIRST,
            "dockerfile parse error line 2: WORKDIR requires exactly one argument",
        ),
        (
            "FROM busybox\nWORKDIR /etc/passwd\n",
            1,
            STEP,
            "Cannot mkdir: /etc/passwd is not a directory",
        ),
        (
            "FROM busybox\nWORKDIR /etc/passwd/x\n",
            1,
            STEP,
            "not a directory",
        ),
        (
            "FROM busybox\nHEALTHCHECK FOO\n",
            1,
            FIRST,
            "dockerfile parse error line 2: Unknown type \"FOO\" in HEALTHCHECK (try CMD)",
        ),
        (
            "FROM busybox\nEXPOSE abc\n",
            1,
            STEP,
            "Invalid containerPort: abc",
        ),
        (
            "FROM busybox\nSTOPSIGNAL FOO\n",
            1,
            STEP,
            "Invalid signal: FOO",
        ),
        (
            "FROM busybox\nCOPY --chown=nosuch file /\n",
            1,
            STEP,
            "can't find uid for user nosuch: no such user: nosuch",
        ),
        (
            "FROM busybox\nUSER nosuch\nRUN true\n",
            1,
            "Step 3/3 : RUN true",
            "unable to find user nosuch: no matching entries in passwd file",
        ),
        (
            "FROM busybox AS a\nFROM busybox\nCOPY --from=a /nosuch /y\n",
            1,
            "Step 3/3",
            "COPY failed: stat nosuch: file does not exist",
        ),
        (
            "FROM busybox\nCOPY --from=1 /x /y\n",
            1,
            STEP,
            "invalid from flag value 1: index out of bounds",
        ),
        (
            "FROM busybox\nONBUILD ONBUILD RUN x\n",
            1,
            FIRST,
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        (
            "FROM 127.0.0.1:1/nosuch/image:1\n",
            1,
            "Step 1/1",
            "connection refused",
        ),
    ] {
        builds.check(dockerfile, &[], code, out, err);
    }
    builds.nothing_is_left(&before);
}

#[test]
fn an_image_without_a_command_does_not_run() {
    let builds = Builds::new();
    builds.check(
        "FROM scratch\nCOPY file /\n",
        &["-q", "-t", "err-nocmd"],
        0,
        "sha256:",
        "",
    );
    builds
        .ply
        .run(&["run", "--rm", "err-nocmd"])
        .fails(125, "ply: No command specified");
}

#[test]
fn what_docker_only_warns_of_is_built() {
    let builds = Builds::new();
    builds.check(
        "FROM busybox\n",
        &["--build-arg", "NOSUCH=1"],
        0,
        "[Warning] One or more build-args [NOSUCH] were not consumed",
        "",
    );
    let quiet = builds.build("FROM busybox\n", &["--build-arg", "NOSUCH=1", "-q"]);
    assert_eq!((quiet.ok().len(), &*quiet.err), ("sha256:".len() + 64, ""));
    // A command without words is the shell's matter, and the image's own if it has no shell.
    builds.check(
        "FROM busybox\nRUN\n",
        &[],
        2,
        "",
        "returned a non-zero code: 2",
    );
    builds.check("FROM busybox\nRUN []\n", &[], 0, "Successfully built", "");
    // What is no JSON is the shell's.
    let id = builds.build("FROM busybox\nCMD [\"a\", b]\n", &["-q"]);
    let command = builds.ply.inspect(id.ok(), "{{json .Config.Cmd}}");
    assert_eq!(command, r#"["/bin/sh","-c","[\"a\", b]"]"#);
}

#[test]
fn flags_that_cannot_be_are_refused_before_anything_is_done() {
    let builds = Builds::new();
    let before = builds.images();
    for (arguments, code, err) in [
        (
            &["-t", "Bad:::ref"][..],
            125,
            "invalid argument \"Bad:::ref\" for \"-t, --tag\" flag: invalid reference format: repository name (library/Bad) must be lowercase",
        ),
        (&["--nosuch"], 125, "unknown flag: --nosuch"),
        (
            &["--label", "=x"],
            125,
            "invalid argument \"=x\" for \"--label\" flag: invalid label '=x': empty name",
        ),
        (
            &["--ulimit", "nofile"],
            125,
            "invalid ulimit argument: nofile",
        ),
        (&["--shm-size", "much"], 125, "invalid size: 'much'"),
        (&["--add-host", "nohost"], 125, "bad format for add-host"),
        (
            &["--platform", "nosuch/os/x/y"],
            1,
            "\"nosuch/os/x/y\": unknown operating system or architecture",
        ),
        (
            &["--target", "nosuch"],
            1,
            "failed to reach build target nosuch in Dockerfile",
        ),
        (
            &["-f", "ctx/nosuch"],
            1,
            "open ctx/nosuch: no such file or directory",
        ),
        (&["-o", "type=nosuch"], 1, "unknown output type: nosuch"),
        (
            &["-o", "type=local"],
            1,
            "dest is required for local output",
        ),
        (&["--secret", "src=ctx/file"], 1, "secret missing ID"),
        (
            &["--secret", "id=a,src=/no/such"],
            1,
            "failed to stat /no/such: stat /no/such: no such file or directory",
        ),
        (&["--ssh", "x=ctx/file"], 1, "ctx/file is not the socket"),
        (&["--cache-from", "type=gha"], 1, "unknown cache type: gha"),
        (
            &["--cache-to", "type=local,dest=c,mode=most"],
            1,
            "invalid cache mode: most",
        ),
        (
            &["--build-context", "nothing"],
            1,
            "invalid context value: nothing, expected key=value",
        ),
        (
            &["--build-context", "x=/no/such"],
            1,
            "failed to get build context x: path \"/no/such\" not found",
        ),
    ] {
        builds.check("FROM busybox\n", arguments, code, "", err);
    }
    for (arguments, err) in [
        (&["build"][..], "\"ply build\" requires at least 1 argument"),
        (
            &["build", "nosuchdir"],
            "unable to prepare context: path \"nosuchdir\" not found",
        ),
        (
            &["build", "ctx/file"],
            "unable to prepare context: context must be a directory: ctx/file",
        ),
        (
            &["build", "ctx/dir"],
            "failed to read dockerfile: open Dockerfile: no such file or directory",
        ),
        (
            &["build", "-f", "-", "-"],
            "can't use stdin for both build context and dockerfile",
        ),
        (
            &["build", "-f", "ctx/Dockerfile", "-"],
            "ambiguous Dockerfile source",
        ),
        (&["build", "http://127.0.0.1:1/x.tar"], "connection refused"),
        (
            &["builder", "prune", "-f", "--filter", "x"],
            "invalid filter 'x'",
        ),
    ] {
        builds.ply.run(arguments).fails(1, err);
    }
    builds
        .ply
        .run_with(&["build", "-"], b"")
        .fails(1, "the Dockerfile (Dockerfile) cannot be empty");
    builds
        .ply
        .run_with(&["build", "-"], b"FROM busybox\nCOPY file /\n")
        .fails(1, "stat file: file does not exist");
    builds.nothing_is_left(&before);
}

#[test]
fn limits_and_networks_that_cannot_be_fail_the_step() {
    let builds = Builds::new();
    let before = builds.images();
    let run = "FROM busybox\nRUN true\n";
    builds.check(
        run,
        &["--network", "nosuchnet"],
        1,
        "Step 2/2 : RUN true",
        "network nosuchnet not found",
    );
    builds.check(
        run,
        &["-m", "1m"],
        1,
        "Step 2/2 : RUN true",
        "Minimum memory limit allowed is 6MB",
    );
    builds.nothing_is_left(&before);
}

#[test]
fn an_error_names_the_file_the_line_and_the_instruction() {
    let builds = Builds::new();
    let dockerfile = "FROM busybox\n\n# a comment\nRUN true && \\\n    false\n";
    let failed = builds.build(dockerfile, &[]);
    failed.fails(1, "--> Dockerfile:4: RUN true &&");
    fs::write(builds.ply.path("Other"), "FROM busybox\nCOPY nothere /\n").expect("written");
    builds
        .ply
        .run(&["build", "-f", "Other", "ctx"])
        .fails(1, "--> Other:2: COPY nothere /");
    // As much on a terminal, with what the command has said.
    let failed = builds.build(
        "FROM busybox\nRUN echo why; exit 9\n",
        &["--progress", "tty"],
    );
    assert_eq!((failed.code, &*failed.out), (9, ""), "{failed:?}");
    for words in [
        "ERROR [2/2]",
        "why\n",
        "Dockerfile:2\n",
        "returned a non-zero code: 9",
    ] {
        assert!(failed.err.contains(words), "{words:?}: {failed:?}");
    }
    // And in a quiet build, which has said nothing before.
    let failed = builds.build("FROM busybox\nRUN echo why; exit 9\n", &["-q"]);
    assert_eq!((failed.code, &*failed.out), (9, ""), "{failed:?}");
    assert!(failed.err.contains("why\n"), "{failed:?}");
}

#[test]
fn nothing_outside_the_context_is_read() {
    let builds = Builds::new();
    let before = builds.images();
    for source in [
        "up",
        "absolute",
        "parent/outside",
        "dir/../../outside",
        "/../outside",
    ] {
        let built = builds.build(&format!("FROM busybox\nCOPY {source} /got\n"), &["-q"]);
        assert_eq!(built.code, 1, "{source}: {built:?}");
    }
    // A wildcard finds the links; what they lead to is not followed out.
    let built = builds.build("FROM busybox\nCOPY u* /got/\nRUN cat /got/*\n", &["-q"]);
    assert!(!built.err.contains("SECRET"), "{built:?}");
    for (dockerfile, ignore) in [("up", false), ("absolute", false), ("Dockerfile", true)] {
        let _ = fs::remove_file(builds.context.join(".dockerignore"));
        fs::write(builds.context.join("Dockerfile"), "FROM busybox\n").expect("written");
        if ignore {
            symlink("../outside", builds.context.join(".dockerignore")).expect("a link");
        }
        let tar = tests::must(
            "tar",
            &[
                "-C",
                &builds.context.display().to_string(),
                "-cf",
                &builds.ply.path("tar").display().to_string(),
                ".",
            ],
        );
        assert_eq!(tar, "");
        let archive = fs::read(builds.ply.path("tar")).expect("a tar");
        let built = builds
            .ply
            .run_with(&["build", "-f", dockerfile, "-"], &archive);
        assert!(
            !built.err.contains("SECRET") && !built.err.contains("root:"),
            "{built:?}"
        );
        assert_eq!(built.code == 0, ignore, "{dockerfile}: {built:?}");
    }
    builds.ply.run(&["image", "prune", "-f"]).ok();
    builds.nothing_is_left(&before);
}

#[test]
fn hostile_dockerfiles_are_refused() {
    let builds = Builds::new();
    let before = builds.images();
    let deep = format!(
        "FROM busybox\nENV A={}x{}\n",
        "${B:-".repeat(20_000),
        "}".repeat(20_000)
    );
    let long = format!("FROM busybox\nENV A={}\n", "x".repeat(32 << 20));
    let binary = "FROM busybox\n\0\u{1b}[2J\n";
    for dockerfile in [
        &*deep,
        &long,
        binary,
        "FROM busybox\nRUN <<EOF\nnever ends\n",
    ] {
        let built = builds.build(dockerfile, &[]);
        assert_eq!(built.code, 1, "{:.60?}: {:.400}", dockerfile, built.err);
        assert!(!built.err.contains("panicked"), "{:.400}", built.err);
    }
    fs::write(
        builds.context.join("Dockerfile"),
        b"FROM busybox\nENV A=\xff\n",
    )
    .expect("written");
    // What is no text is replaced, as Docker does.
    builds.ply.run(&["build", "ctx"]).ok();
    builds.ply.run(&["image", "prune", "-f"]).ok();
    // A FIFO in the Dockerfile's place must not be waited for.
    fs::remove_file(builds.context.join("Dockerfile")).expect("removed");
    tests::must(
        "mkfifo",
        &[&builds.context.join("Dockerfile").display().to_string()],
    );
    assert_eq!(builds.ply.run(&["build", "ctx"]).code, 1);
    fs::remove_file(builds.context.join("Dockerfile")).expect("removed");
    fs::create_dir(builds.context.join("Dockerfile")).expect("a directory");
    assert_eq!(builds.ply.run(&["build", "ctx"]).code, 1);
    builds.nothing_is_left(&before);
}

#[test]
fn archives_that_are_damaged_or_lead_out_are_refused() {
    let builds = Builds::new();
    let before = builds.images();
    fs::write(builds.context.join("Dockerfile"), "FROM busybox\n").expect("written");
    let context = builds.context.display().to_string();
    let path = builds.ply.path("c.tgz").display().to_string();
    tests::must("tar", &["-C", &context, "-czf", &path, "."]);
    let whole = fs::read(&path).expect("a tar");
    let cut = builds
        .ply
        .run_with(&["build", "-"], &whole[..whole.len() / 2]);
    assert_eq!(cut.code, 1, "{cut:?}");
    assert!(!cut.err.contains("panicked"), "{cut:?}");
    // Names that lead out of the context are taken as below it, or refused; never followed.
    let path = builds.ply.path("out.tar").display().to_string();
    tests::must(
        "tar",
        &[
            "-C",
            &context,
            "-P",
            "--transform=s,^file$,../../escaped,",
            "-cf",
            &path,
            "Dockerfile",
            "file",
        ],
    );
    let archive = fs::read(&path).expect("a tar");
    builds.ply.run_with(&["build", "-"], &archive);
    assert!(!builds.ply.path("escaped").exists());
    builds.ply.run(&["image", "prune", "-f"]).ok();
    builds.nothing_is_left(&before);
}

#[test]
fn an_id_file_has_the_id_of_this_build_or_none() {
    let builds = Builds::new();
    let path = builds.ply.path("iid");
    let built = builds.build("FROM busybox\nENV a=b\n", &["-q", "--iidfile", "iid"]);
    assert_eq!(fs::read_to_string(&path).expect("an id"), built.ok());
    builds
        .build("FROM busybox\nRUN false\n", &["-q", "--iidfile", "iid"])
        .fails(1, "returned a non-zero code: 1");
    assert!(!path.exists());
}
