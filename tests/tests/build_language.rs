//! What BuildKit's Dockerfiles say and the classic builder's do not: here-documents, mounts of `RUN`, later flags of `COPY`
//! and `ADD`, forms of variables. Each image says itself what has come of it.

use std::fs;

use tests::Ply;

/// Name, Dockerfile after `FROM busybox`, arguments of the build, what is run in the image, and what that must print.
type Case = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static str,
    &'static str,
);

const CASES: &[Case] = &[
    (
        "a here-document is the shell's script",
        "ARG A=arg\nRUN <<EOF\nset -e\necho one > /o\necho \"$A\" >> /o\nEOF\n",
        &[],
        "cat /o",
        "one\narg\n",
    ),
    (
        "a here-document has its own interpreter",
        "RUN <<EOF\n#!/bin/awk -f\nBEGIN { print \"from awk\" > \"/o\" }\nEOF\n",
        &[],
        "cat /o",
        "from awk\n",
    ),
    (
        "here-documents are input of commands",
        "RUN cat <<ONE > /o && cat <<-'TWO' >> /o\nfirst $HOME\nONE\n\tsecond $HOME\n\tTWO\n",
        &[],
        "cat /o",
        "first /root\nsecond $HOME\n",
    ),
    (
        "here-documents are files",
        "ARG WHO=world\nCOPY <<one <<\"two\" <<-three /d/\nhello $WHO \"quoted\" ${NO:-default}\none\nhello $WHO\ntwo\n\t\ttabs\n\t\three\n\tthree\n",
        &[],
        "cat /d/one /d/two /d/three",
        "hello world \"quoted\" default\nhello $WHO\ntabs\nhree\n",
    ),
    (
        "a here-document is a file of a name",
        "COPY --chmod=750 --chown=33:50 <<EOF /d/script\necho it runs\nEOF\nRUN stat -c '%a %u:%g' /d/script > /o\n",
        &[],
        "cat /o; sh /d/script",
        "750 33:50\nit runs\n",
    ),
    (
        "a trigger keeps its here-document",
        "FROM busybox AS base\nONBUILD RUN <<EOF\necho triggered > /o\nEOF\nFROM base\n",
        &[],
        "cat /o",
        "triggered\n",
    ),
    (
        "variables have the shell's forms",
        "ENV P=one/two/two.tar.gz\nENV A=${P#*/} B=${P##*/} C=${P%.*} D=${P%%.*} E=${P/two/2} F=${P//two/2}\n",
        &[],
        "echo $A $B $C $D $E $F",
        "two/two.tar.gz two.tar.gz one/two/two.tar one/two/two one/2/two.tar.gz one/2/2.tar.gz\n",
    ),
    (
        "platforms are arguments",
        "FROM --platform=$BUILDPLATFORM busybox\nARG TARGETOS\nARG TARGETPLATFORM\nARG BUILDARCH\nRUN echo ${TARGETPLATFORM%%/*} $TARGETOS ${BUILDARCH:+set} [$TARGETARCH] > /o\n",
        &[],
        "cat /o",
        "linux linux set []\n",
    ),
    (
        "a secret is a file for one step",
        "RUN --mount=type=secret,id=s cat /run/secrets/s > /o\nRUN --mount=type=secret,id=s,target=/x,mode=440,uid=33 stat -c '%a %u' /x >> /o; cat /x | wc -c >> /o\nRUN test ! -e /run/secrets/s && test ! -s /x\n",
        &["--secret", "id=s,src=secret"],
        "cat /o",
        "hidden\n440 33\n7\n",
    ),
    (
        "a tmpfs is empty afterwards",
        "RUN --mount=type=tmpfs,target=/t echo x > /t/x && cat /t/x > /o\nRUN test ! -s /t/x\n",
        &[],
        "cat /o",
        "x\n",
    ),
    (
        "a bind shows the context and other stages",
        "FROM busybox AS one\nRUN echo made > /made\nFROM busybox\nRUN --mount=type=bind,target=/c --mount=type=bind,from=one,source=/made,target=/m cat /c/file /m > /o\nRUN --mount=target=/c,rw echo lost > /c/lost && ls /c/lost >> /o\n",
        &[],
        "cat /o",
        "content\nmade\n/c/lost\n",
    ),
    (
        "a step has no network if it says so",
        "RUN --network=none ls /sys/class/net > /o\n",
        &[],
        "cat /o",
        "lo\n",
    ),
    (
        "modes are octal",
        "COPY --chmod=640 file /a\nCOPY --chmod=0700 dir /d\nADD --chmod=600 file /b\nRUN stat -c '%a %n' /a /b /d/a.txt > /o\n",
        &[],
        "cat /o",
        "640 /a\n600 /b\n700 /d/a.txt\n",
    ),
    (
        "parents are kept",
        "COPY --parents dir/sub/deep.txt dir/a.txt /p/\nRUN cd /p && find . -type f | sort > /o\n",
        &[],
        "cat /o",
        "./dir/a.txt\n./dir/sub/deep.txt\n",
    ),
    (
        "two stars are any number of parents",
        "COPY --parents dir/**/*.txt /p/\nCOPY --parents --exclude=dir/sub dir /q/\nRUN cd / && find p q -type f | sort > /o\n",
        &[],
        "cat /o",
        "p/dir/a.txt\np/dir/b.txt\np/dir/sub/deep.txt\nq/dir/a.txt\nq/dir/b.txt\nq/dir/c.md\n",
    ),
    (
        "some are left out",
        "COPY --exclude=*.md --exclude=sub dir /d/\nRUN cd /d && find . -type f | sort > /o\n",
        &[],
        "cat /o",
        "./a.txt\n./b.txt\n",
    ),
    (
        "links make no difference to what is there",
        "COPY --link file /l/file\nCOPY --link --from=busybox /etc/passwd /l/\nRUN ls /l > /o\n",
        &[],
        "cat /o",
        "file\npasswd\n",
    ),
    (
        "archives are unpacked only where it is said",
        "ADD --unpack=false arch.tar /kept/\nADD --unpack=true arch.tar /unpacked/\nRUN cd / && find kept unpacked -type f | sort > /o\n",
        &[],
        "cat /o",
        "kept/arch.tar\nunpacked/dir/a.txt\n",
    ),
    (
        "a later stage's name wins over an image's",
        "FROM busybox AS nosuch.example\nRUN echo stage > /s\nFROM nosuch.example\nCOPY --from=nosuch.example /s /o\n",
        &[],
        "cat /o",
        "stage\n",
    ),
    (
        "a named context takes a stage's place",
        "FROM busybox AS extra\nRUN false\nFROM busybox\nCOPY --from=extra more /o\n",
        &["--build-context", "extra=more"],
        "cat /o",
        "more\n",
    ),
    (
        "a named context is a source",
        "COPY --from=extra more /o\n",
        &["--build-context", "extra=more"],
        "cat /o",
        "more\n",
    ),
];

#[test]
fn dockerfiles_of_buildkit_say_what_they_say_there() {
    let ply = Ply::with_busybox();
    let context = ply.directory("context");
    fs::create_dir_all(context.join("dir/sub")).expect("a directory");
    for (name, text) in [
        ("file", "content\n"),
        ("dir/a.txt", "a\n"),
        ("dir/b.txt", "b\n"),
        ("dir/c.md", "c\n"),
        ("dir/sub/deep.txt", "deep\n"),
    ] {
        fs::write(context.join(name), text).expect("written");
    }
    let within = context.to_string_lossy().into_owned();
    let archive = format!("{within}/arch.tar");
    tests::must("tar", &["-C", &within, "-cf", &archive, "dir/a.txt"]);
    fs::write(ply.path("secret"), "hidden\n").expect("written");
    fs::write(ply.directory("more").join("more"), "more\n").expect("written");
    let mut wrong = Vec::new();
    for (name, dockerfile, arguments, command, expected) in CASES {
        let dockerfile = match dockerfile.contains("FROM ") {
            true => (*dockerfile).to_owned(),
            false => format!("FROM busybox\n{dockerfile}"),
        };
        fs::write(context.join("Dockerfile"), &dockerfile).expect("written");
        let build = ["build", "--network", "none", "-t", "image"];
        let built = ply.run(&[&build[..], arguments, &[&within]].concat());
        let said = match built.code {
            0 => ply.run(&[
                "run",
                "--rm",
                "--network",
                "none",
                "image",
                "sh",
                "-c",
                command,
            ]),
            _ => built,
        };
        if said.out != *expected {
            wrong.push(format!("== {name}\n{dockerfile}\n{said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_cache_outlives_the_build_and_is_in_no_layer() {
    let ply = Ply::with_busybox();
    let context = ply.directory("context");
    let within = context.to_string_lossy().into_owned();
    for round in ["1", "2", "3"] {
        let dockerfile = format!(
            "FROM busybox\nRUN --mount=type=cache,target=/c echo {round} >> /c/rounds && cp /c/rounds /o\n"
        );
        fs::write(context.join("Dockerfile"), dockerfile).expect("written");
        ply.run(&["build", "--network", "none", "-t", "image", &within])
            .ok();
    }
    let said = ply.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "image",
        "sh",
        "-c",
        "cat /o; test ! -e /c/rounds",
    ]);
    assert_eq!(said.ok(), "1\n2\n3");
}

#[test]
fn a_secret_is_in_no_layer_and_in_no_history() {
    let ply = Ply::with_busybox();
    let context = ply.directory("context");
    let within = context.to_string_lossy().into_owned();
    let dockerfile = "FROM busybox\nRUN --mount=type=secret,id=s,env=S test ${#S} = 14\nRUN true\n";
    fs::write(context.join("Dockerfile"), dockerfile).expect("written");
    fs::write(ply.path("secret"), "verysecretword").expect("written");
    ply.run(&[
        "build",
        "--network",
        "none",
        "--secret",
        "id=s,src=secret",
        "-t",
        "image",
        &within,
    ])
    .ok();
    let root = ply.root().to_string_lossy().into_owned();
    let found = std::process::Command::new("grep")
        .args(["-rl", "verysecretword", &root])
        .output()
        .expect("grep runs");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}
