//! Dockerfiles that `ply build` and Docker's classic builder both build from the same context: the images must have the
//! same configuration and the same tree.
//!
//! Where BuildKit does something else than the classic builder, `ply` does as BuildKit, and no case is here: set-user-ID
//! bits of copied files stay, `--chown` also counts for what is unpacked, `COPY link dir/` keeps the link's name, `WORKDIR`
//! is without a slash at its end. A second name for a file of a lower layer stays a hard link, which overlayfs breaks.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tests::Docker;
use tests::Ply;
use tests::saved;
use tests::saved::Saved;

/// What every file of the context was changed at last; it tells the times that are kept from those that are new.
const STAMP: u64 = 1_000_000_000;

/// Makes the context of all cases.
const CONTEXT: &str = r#"
mkdir -p dir/sub empty other
echo content > file
echo '#!/bin/sh' > script.sh
chmod 755 script.sh
echo secret > private
chmod 600 private
echo a > dir/a.txt
echo b > dir/b.txt
echo c > dir/c.md
echo deep > dir/sub/deep.txt
echo x > other/x.txt
chmod 750 dir/sub
echo 'sp ace' > 'sp ace'
echo hidden > .hidden
echo '[b]' > 'br[a]cket'
ln -s file link
ln -s dir dirlink
ln -s /etc/passwd outside
ln -s nowhere dangling
mkdir hard
echo one > hard/one
ln hard/one hard/two
mkdir links
ln -s ../file links/up
ln -s two links/one
echo two > links/two
mkdir tree
mkdir tree/t
echo packed > tree/t/packed
chmod 640 tree/t/packed
ln -s packed tree/t/symlink
ln tree/t/packed tree/t/hardlink
tar --numeric-owner --owner=12 --group=34 --mtime=@1000000000 -C tree -cf arch.tar t
gzip -nk arch.tar
bzip2 -k arch.tar
xz -k arch.tar
mv arch.tar.gz named-otherwise
echo 'no archive' > false.tar
mkdir tools
for program in setcap setfattr; do
    path=$(PATH=$PATH:/usr/sbin:/sbin command -v $program)
    cp "$path" $(ldd "$path" | grep -o '/[^ ]*') tools/
done
mv tools/ld-linux* tools/ld.so
find . -exec touch -h -d @1000000000 {} +
"#;

/// A Dockerfile after `FROM busybox`, unless it has a `FROM` itself.
struct Case {
    name: &'static str,
    dockerfile: &'static str,
    arguments: &'static [&'static str],
    ignore: &'static str,
}

const fn case(name: &'static str, dockerfile: &'static str) -> Case {
    Case {
        name,
        dockerfile,
        arguments: &[],
        ignore: "",
    }
}

const CASES: &[Case] = &[
    // The configuration.
    case("nothing", ""),
    case(
        "env",
        "ENV A=1 B=\"two words\" C=two\\ words D='$A' E=\"$A\"\nENV F old form  of it\nENV G=$A$B H=${A}x I=\\$A",
    ),
    case("env order", "ENV A=1\nENV A=2 B=$A\nENV B=$A"),
    case("env path", "ENV PATH=/opt/bin:$PATH"),
    case(
        "expansion",
        "ARG UNSET\nENV V=value EMPTY=\nENV A=${V:-d} B=${NO:-d} C=${V:+y} D=${NO:+y} E=${EMPTY:-d} F=\"${EMPTY:+y}\" G=\"a${NO}b\" H=$Vx I=${V}x J=$",
    ),
    case(
        "label",
        "LABEL one=1 \"two words\"=\"a b\" multi=\"a \\\n b\"\nLABEL old value here\nENV V=v\nLABEL v=$V ${V}x=y",
    ),
    case(
        "cmd",
        "CMD [\"echo\", \"a b\"]\nCMD echo shell form $HOME\n",
    ),
    case("cmd exec", "CMD echo first\nCMD [\"echo\", \"last\"]"),
    case("cmd malformed", "CMD [\"a\", b]"),
    case("cmd of empty json", "CMD []"),
    case(
        "entrypoint",
        "ENTRYPOINT [\"/bin/echo\", \"-n\"]\nCMD [\"x\"]",
    ),
    case("entrypoint shell", "CMD [\"x\"]\nENTRYPOINT exec top -b"),
    case(
        "entrypoint resets cmd",
        "FROM busybox\nCMD [\"x\"]\nENTRYPOINT [\"y\"]",
    ),
    case(
        "expose",
        "ENV P=90\nEXPOSE 80 53/udp 443/tcp $P\nEXPOSE 8000-8002",
    ),
    case(
        "volume",
        "ENV V=/v\nVOLUME /a /b\nVOLUME [\"/c d\", \"$V\"]",
    ),
    case(
        "user",
        "RUN chmod 1777 /tmp\nENV U=web\nUSER $U\nRUN id > /tmp/id",
    ),
    case(
        "user and group",
        "RUN chmod 1777 /tmp\nUSER 33:50\nRUN id -u > /tmp/id; id -g >> /tmp/id",
    ),
    case(
        "workdir",
        "WORKDIR /a\nWORKDIR b\nWORKDIR c/../d\nRUN pwd > here",
    ),
    case(
        "workdir of variable",
        "ENV D=/x/y\nWORKDIR $D/z\nRUN pwd > here",
    ),
    case(
        "workdir of user",
        "RUN chmod 1777 /tmp\nUSER web\nWORKDIR /made/here\nRUN pwd > /tmp/here",
    ),
    case(
        "workdir that is there",
        "RUN mkdir -m 700 /there\nWORKDIR /there",
    ),
    case("stopsignal", "ENV S=INT\nSTOPSIGNAL SIG$S"),
    case("stopsignal number", "STOPSIGNAL 9"),
    case(
        "healthcheck",
        "HEALTHCHECK --interval=1m30s --timeout=3s --start-period=500ms --retries=4 CMD [\"true\", \"a\"]",
    ),
    case("healthcheck shell", "HEALTHCHECK CMD exit 0 || exit 1"),
    case("healthcheck none", "HEALTHCHECK CMD true\nHEALTHCHECK NONE"),
    case(
        "shell",
        "SHELL [\"/bin/sh\", \"-ec\"]\nRUN echo $0 > /shell\nCMD echo x\nENTRYPOINT run",
    ),
    case("maintainer", "MAINTAINER somebody <some@body>"),
    case(
        "onbuild kept",
        "ONBUILD RUN echo x > /x\nONBUILD COPY file /f\nonbuild env A=b",
    ),
    Case {
        arguments: &["--label", "given=x", "--label", "one=over"],
        ..case("labels of the command line", "LABEL one=1")
    },
    case(
        "case of words",
        "from busybox as Base\nrun echo a > /a\nfrom BASE\ncopy --from=base /a /b\nEnv a=b",
    ),
    case(
        "comments",
        "# a comment\nRUN echo a \\\n# within\n  && echo b \\\n\n  > /ab # not one\nENV A=#b",
    ),
    case(
        "escape",
        "# escape=`\nFROM busybox\nRUN echo a `\n  b > /ab\nENV A=x\\y B=`$A C=\"a`\"b\"",
    ),
    case("crlf", "ENV A=b\r\nRUN echo a > /a\r\n"),
    // Arguments.
    case(
        "arg",
        "ARG A=default\nARG B\nRUN echo \"$A-$B\" > /ab\nENV C=$A",
    ),
    Case {
        arguments: &[
            "--build-arg",
            "A=given",
            "--build-arg",
            "B=b",
            "--build-arg",
            "UNKNOWN=1",
        ],
        ..case(
            "arg given",
            "ARG A=default\nARG B\nRUN echo \"$A-$B-$UNKNOWN\" > /ab\nENV C=$A D=$UNKNOWN",
        )
    },
    Case {
        arguments: &["--build-arg", "A=given"],
        ..case("env over arg", "ARG A\nENV A=env\nRUN echo $A > /a")
    },
    Case {
        arguments: &["--build-arg", "IMAGE=busybox", "--build-arg", "SCOPE=given"],
        ..case(
            "arg before from",
            "ARG IMAGE=nosuch\nARG TAG=latest\nARG SCOPE=global\nFROM $IMAGE:${TAG}\nRUN echo \"[$SCOPE]\" > /before\nARG SCOPE\nARG TAG=stage\nRUN echo \"[$SCOPE][$TAG]\" > /after",
        )
    },
    case("arg of arg", "ARG A=1\nARG B=${A}2\nRUN echo $B > /b"),
    case(
        "arg ends with its stage",
        "FROM busybox AS one\nARG A=1\nFROM busybox\nRUN echo \"[$A]\" > /a",
    ),
    Case {
        arguments: &["--build-arg", "HTTP_PROXY=http://proxy"],
        ..case("proxy", "RUN echo \"[$HTTP_PROXY]\" > /a")
    },
    // RUN.
    case(
        "run",
        "RUN echo a > /a && mkdir /d && chmod 1777 /d\nRUN [\"/bin/sh\", \"-c\", \"echo b > /b\"]",
    ),
    case(
        "deletions",
        "RUN mkdir -p /d/e && echo a > /d/e/a && echo b > /d/b\nRUN rm -r /d/e /home && rm /bin/vi",
    ),
    case(
        "directory made again",
        "RUN mkdir /d && echo a > /d/a\nRUN rm -r /d && mkdir /d && echo b > /d/b",
    ),
    case(
        "file for directory",
        "RUN mkdir /d && echo a > /d/a\nRUN rm -r /d && echo file > /d\nRUN rm /d && ln -s /etc /d",
    ),
    case(
        "links",
        "RUN echo a > /a && ln /a /b && ln -s a /c && ln -s /nowhere /d\nRUN chown -h 5:6 /c",
    ),
    case(
        "nodes",
        "RUN mkfifo /fifo && chown 1:2 /fifo && chmod 6755 /bin/busybox",
    ),
    case(
        "rename",
        "RUN mkdir -p /d/e && echo a > /d/e/a\nRUN mv /d /f && mv /etc/group /etc/groups",
    ),
    case(
        "metadata alone",
        "RUN chmod 700 /etc && chown 33:33 /home && chmod 600 /etc/passwd",
    ),
    case(
        "sparse",
        "RUN dd if=/dev/zero of=/sparse bs=1 count=1 seek=300000",
    ),
    case(
        "directory for file",
        "RUN echo a > /d && ln -s /etc /l\nRUN rm /d /l && mkdir /d /l && echo b > /d/b && echo l > /l/passwd",
    ),
    case(
        "directory made again with some of it",
        "RUN mkdir -p /d/e/f && touch /d/1 /d/2 /d/e/3 /d/e/f/4\nRUN rm -r /d && mkdir -p /d/e && echo 2 > /d/2 && echo new > /d/e/new\nRUN rm -r /d/e && mkdir /d/e",
    ),
    case(
        "moved and made again",
        "RUN mkdir -p /d/e && touch /d/e/1 /d/2\nRUN mv /d /x && mkdir /d && mv /x/e /d/f && touch /d/2",
    ),
    case(
        "made and gone",
        "RUN mkdir /d && touch /d/a && rm -r /d && touch /e\nRUN rm /e",
    ),
    case(
        "the same length and time",
        "RUN echo one > /f && touch -d @1000000000 /f\nRUN echo two > /f && touch -d @1000000000 /f",
    ),
    case(
        "copy in the place of what is gone",
        "RUN rm /bin/vi && rm -r /home\nCOPY file /bin/vi\nCOPY dir /home",
    ),
    case(
        "capabilities that are set",
        "COPY tools /tools\nCOPY file /f\nRUN /tools/ld.so --library-path /tools /tools/setcap cap_net_raw+p /f\nRUN mv /f /g && ln /g /h",
    ),
    case("no change", "RUN true\nRUN ls / > /dev/null"),
    case(
        "files the engine binds",
        "RUN echo x >> /etc/hosts; rm -f /etc/nosuch; ls -d /proc /sys /dev > /list",
    ),
    // COPY.
    case(
        "copy",
        "COPY file /f\nCOPY file /d/\nCOPY --from= --chown= file script.sh private /many/\nCOPY file /e/f/g",
    ),
    case(
        "copy directory",
        "COPY dir /d\nCOPY dir/ /e/\nCOPY dir /new/",
    ),
    case(
        "copy into what is there",
        "RUN mkdir -m 700 /d && echo old > /d/a.txt && echo mine > /d/mine\nCOPY dir /d\nCOPY dir/sub /d",
    ),
    case(
        "copy wildcards",
        "COPY dir/*.txt /t/\nCOPY f?le /g/\nCOPY dir/[ab].* /h/\nCOPY *.sh /i/",
    ),
    case(
        "copy relative",
        "WORKDIR /w\nCOPY file .\nCOPY dir sub\nCOPY file ./x/y\nCOPY file ../up",
    ),
    case(
        "copy json",
        "COPY [\"sp ace\", \"/sp ace\"]\nCOPY [\"file\", \"dir\", \"/both/\"]",
    ),
    case("copy hidden", "COPY .hidden /\nCOPY .hidden /h"),
    case(
        "copy variable",
        "ENV S=file D=/to\nCOPY $S ${D}/\nCOPY ${S} /x$S",
    ),
    case("copy brackets", "COPY br[[]a]cket /b/"),
    case(
        "copy chown",
        "COPY --chown=33 file /a\nCOPY --chown=web:extra dir /d\nCOPY --chown=1:2 file /new/dirs/b\nCOPY --chown=7:web file /c",
    ),
    case("copy links", "COPY links /l\nCOPY hard /h"),
    case("copy of a link", "COPY link /f"),
    case(
        "copy of a linked directory",
        "COPY dirlink /d\nCOPY dirlink/a.txt /a",
    ),
    case(
        "copy over a link",
        "RUN mkdir /real && ln -s /real /alias && ln -s real/file /flink\nCOPY file /alias/\nCOPY dir /alias\nCOPY file /flink",
    ),
    case("copy over a directory", "RUN mkdir /d\nCOPY file /d"),
    case(
        "copy user",
        "USER web\nCOPY file /home/f\nWORKDIR /home\nCOPY dir d",
    ),
    case("copy everything", "COPY . /all"),
    case("copy empty directory", "COPY empty /e\nCOPY empty /e/f/"),
    case("copy over volume", "VOLUME /v\nCOPY file /v/f"),
    Case {
        ignore: "# comment\n*.txt\n**/*.md\n/other\nscript.sh\n!dir/b.txt\n.hidden\n",
        ..case("dockerignore", "COPY . /all")
    },
    Case {
        ignore: "*\n!dir\ndir/sub\n!file\n",
        ..case("dockerignore with exceptions", "COPY . /all")
    },
    Case {
        ignore: "dir/*\n!dir/a.txt\nDockerfile\n.dockerignore\n",
        ..case("dockerignore of the files themselves", "COPY . /all")
    },
    // ADD.
    case(
        "add",
        "ADD file /f\nADD dir /d\nADD script.sh false.tar /g/",
    ),
    case(
        "add archives",
        "ADD arch.tar /tar\nADD named-otherwise /gz/\nADD arch.tar.bz2 /bz2/\nADD arch.tar.xz /xz",
    ),
    case(
        "add archives together",
        "RUN mkdir -m 700 -p /d/t && echo mine > /d/t/mine\nADD arch.tar /d\nADD arch.tar file /e/",
    ),
    case(
        "add chown",
        "ADD --chown=3:4 file /f\nADD --chown=web dir /d",
    ),
    case("copy of an archive", "COPY arch.tar /t"),
    // Stages.
    case(
        "stages",
        "FROM busybox AS build\nRUN echo built > /built && chmod 700 /built && mkdir -p /o/p && echo q > /o/p/q && chown -R 33:33 /o\nFROM scratch\nCOPY --from=build /built /bin/\nCOPY --from=0 /o /o\nCOPY --from=build /bin/busybox /bin/sh\nCMD [\"/bin/sh\"]",
    ),
    case(
        "stage upon stage",
        "FROM busybox AS one\nENV A=1\nRUN echo a > /a\nFROM one AS two\nENV B=$A\nFROM two\nRUN echo b > /b",
    ),
    case(
        "copy from an image",
        "FROM scratch\nCOPY --from=busybox /etc/passwd /etc/\nCOPY --from=busybox:latest /etc /etcetera",
    ),
    case(
        "copy from a stage by wildcard",
        "FROM busybox AS one\nRUN echo a > /a.txt && echo b > /b.txt\nFROM scratch\nCOPY --from=one /*.txt /d/",
    ),
    case(
        "copy links from a stage",
        "FROM busybox AS one\nRUN mkdir /d && echo a > /d/a && ln /d/a /d/b && ln -s a /d/c && ln -s /d/a /out\nFROM scratch\nCOPY --from=one /d /d\nCOPY --from=one /out /o",
    ),
    Case {
        arguments: &["--target", "middle"],
        ..case(
            "target",
            "FROM busybox AS first\nFROM busybox AS middle\nENV A=middle\nFROM busybox\nENV A=last\nRUN false",
        )
    },
    case("scratch", "FROM scratch\nCOPY file /\nENV A=b"),
    // Triggers: each is on top of the one before.
    case(
        "trigger base",
        "ONBUILD ARG A=1\nONBUILD RUN echo $A > /triggered\nONBUILD COPY file /from-trigger\nONBUILD ENV T=$A\nONBUILD WORKDIR /t\nENV B=base",
    ),
    case("trigger top", "FROM trigger-base\nRUN echo $T-$B > top"),
    case("trigger again", "FROM trigger-top\nRUN test -f /t/top"),
];

#[test]
fn images_are_those_of_docker_s_builder() {
    let context = tempfile::tempdir().expect("a directory");
    let context = context.path();
    script(context, CONTEXT);
    let (ply, docker) = (Ply::with_busybox(), Docker::with_busybox());
    let only = std::env::var("PLY_BUILD_CASE").unwrap_or_default();
    let mut wrong = String::new();
    for case in CASES.iter().filter(|case| case.name.contains(&only)) {
        if let Some(differences) = compare(&ply, &docker, context, case) {
            let _ = writeln!(
                wrong,
                "== {}\n{}\n{differences}",
                case.name, case.dockerfile
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn script(directory: &Path, script: &str) {
    let status = Command::new("bash")
        .args(["-euc", script])
        .current_dir(directory)
        .status()
        .expect("bash runs");
    assert!(status.success());
}

/// Builds a case with both; returns what differs.
fn compare(ply: &Ply, docker: &Docker, context: &Path, case: &Case) -> Option<String> {
    let has_from = case.dockerfile.to_ascii_lowercase().contains("from ");
    let dockerfile = match has_from {
        true => case.dockerfile.to_owned(),
        false => format!("FROM busybox\n{}", case.dockerfile),
    };
    std::fs::write(context.join("Dockerfile"), dockerfile).expect("written");
    std::fs::write(context.join(".dockerignore"), case.ignore).expect("written");
    script(context, "touch -d @1000000000 . Dockerfile .dockerignore");
    let name = case.name.replace(' ', "-");
    let context = context.to_string_lossy();
    let arguments = [
        &["build", "--network", "none", "-t", &name][..],
        case.arguments,
        &[&context],
    ]
    .concat();
    let archive = docker.directory().join("image.tar");
    let archive = archive.to_string_lossy();
    let save = ["save", "-o", &archive, &name];
    let theirs = docker.run(&arguments);
    if theirs.code != 0 {
        return Some(format!("docker: {theirs:?}"));
    }
    docker.run(&save).ok();
    let theirs = saved::read(Path::new(&*archive));
    let ours = ply.run(&arguments);
    if ours.code != 0 {
        return Some(format!("ply: {ours:?}"));
    }
    ply.run(&save).ok();
    let ours = saved::read(Path::new(&*archive));
    let differences = differences(&theirs, &ours);
    (!differences.is_empty()).then_some(differences)
}

/// The fields of a configuration that a Dockerfile decides.
const FIELDS: [&str; 13] = [
    "Env",
    "Cmd",
    "Entrypoint",
    "WorkingDir",
    "User",
    "Labels",
    "ExposedPorts",
    "Volumes",
    "OnBuild",
    "StopSignal",
    "Healthcheck",
    "Shell",
    "ArgsEscaped",
];

fn differences(theirs: &Saved, ours: &Saved) -> String {
    let mut out = String::new();
    for field in FIELDS {
        let value = |saved: &Saved| match &saved.config["config"][field] {
            Value::Array(list) if list.is_empty() => Value::Null,
            Value::Object(map) if map.is_empty() => Value::Null,
            Value::String(text) if text.is_empty() => Value::Null,
            Value::Bool(false) => Value::Null,
            value => value.clone(),
        };
        let (theirs, ours) = (value(theirs), value(ours));
        if theirs != ours {
            let _ = writeln!(out, "{field}: docker {theirs}, ply {ours}");
        }
    }
    let author = |saved: &Saved| saved.config["author"].as_str().unwrap_or("").to_owned();
    if author(theirs) != author(ours) {
        let _ = writeln!(
            out,
            "author: docker {}, ply {}",
            author(theirs),
            author(ours)
        );
    }
    let names = theirs.tree.keys().chain(ours.tree.keys());
    let names: std::collections::BTreeSet<_> = names.collect();
    for name in names {
        match (theirs.tree.get(name), ours.tree.get(name)) {
            (Some(theirs), Some(ours)) => {
                // New files have the times at which they were made.
                let keeps = [theirs.mtime, ours.mtime].contains(&STAMP);
                let mut same = ours.clone();
                if !keeps {
                    same.mtime = theirs.mtime;
                }
                if *theirs != same {
                    let _ = writeln!(out, "{name}:\n  docker {theirs:?}\n  ply    {ours:?}");
                }
            }
            (Some(_), None) => out.push_str(&format!("{name}: only in docker's\n")),
            (None, _) => out.push_str(&format!("{name}: only in ply's\n")),
        }
    }
    out
}
