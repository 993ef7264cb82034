//! Images that `build` pushes, and caches in registries: Docker and Podman pull and run what was built, other engines go on
//! from its results.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use tests::Docker;
use tests::Output;
use tests::Ply;
use tests::Registry;

const DOCKERFILE: &str = "FROM busybox AS tool\nRUN echo tool > /tool && ln /tool /twin\nFROM busybox\nENV A=built\nWORKDIR \
    /work\nCOPY dir /dir\nRUN rm /bin/vi && rm -r /home && mkdir /home && echo $A > /home/new && chown 33:50 /home/new && \
    chmod 4711 /home/new && ln /home/new /home/hard && ln -s new /home/soft && mkfifo /home/fifo && rm -r /dir/gone && \
    echo file > /dir/gone && truncate -s 3M /home/sparse && echo end >> /home/sparse\nCOPY --from=tool /tool /twin /t/\nRUN rm \
    /t/twin && mkdir /t/twin && touch /t/twin/x && mv /dir/moved /dir/there\nUSER web\nCMD [\"sh\", \"-c\", \"echo $A $PWD $(id \
    -u)\"]\n";

fn context(ply: &Ply) -> PathBuf {
    let context = ply.directory("context");
    for directory in ["dir/gone", "dir/moved/deep"] {
        fs::create_dir_all(context.join(directory)).expect("a directory");
    }
    for file in ["dir/a", "dir/gone/b", "dir/moved/deep/c"] {
        fs::write(context.join(file), file).expect("a file");
    }
    fs::write(context.join("Dockerfile"), DOCKERFILE).expect("a Dockerfile");
    context
}

fn build(ply: &Ply, context: &Path, more: &[&str]) -> Output {
    let context = context.to_string_lossy();
    ply.run(&[&["build", "--network", "none"], more, &[&context]].concat())
}

fn cached(output: &Output) -> usize {
    output.ok().matches("Using cache").count()
}

/// What an image says of all its files, run as root.
const LOOK: &str = "cd /; find bin dir home t work etc/passwd | sort | while read f; do if \
                    test -d $f -a ! -h $f; then stat -c '%n %F %a %u:%g' $f; continue; fi; stat -c '%n %F %a %u:%g %s' $f; test \
                    -f $f && sha256sum < $f; test -h $f && readlink $f; done; \
                    stat -c %h home/new; true";

#[test]
fn docker_and_podman_pull_and_run_what_was_pushed() {
    let (ply, registry, docker) = (
        Ply::with_busybox(),
        Registry::start(),
        Docker::with_busybox(),
    );
    let context = context(&ply);
    let (pushed, output) = (registry.image("pushed:1"), registry.image("output:1"));
    build(&ply, &context, &["--push", "-t", &pushed]).ok();
    let to = format!("type=registry,name={output}");
    let again = build(&ply, &context, &["--output", &to]);
    assert_eq!(cached(&again), 9, "{again:?}");
    let look = |image: &'static str| {
        [
            "--rm",
            "--network",
            "none",
            "--user",
            "0",
            image,
            "sh",
            "-c",
            LOOK,
        ]
    };
    ply.run(&["tag", &pushed, "made"]).ok();
    let ours = ply
        .run(&[&["run"], &look("made")[..]].concat())
        .ok()
        .to_owned();
    for expected in [
        "home/new regular file 4711 33:50 6",
        "dir/gone regular file 644 0:0 5",
        "home/fifo fifo",
        "t/twin directory",
        "home/sparse regular file 644 0:0 3145732",
    ] {
        assert!(ours.contains(expected), "{expected}: {ours}");
    }
    assert!(!ours.contains("bin/vi "), "{ours}");
    let storage = ply.directory("podman");
    let podman = |arguments: &[&str]| -> Output {
        let at = |name: &str| storage.join(name).display().to_string();
        let output = Command::new("podman")
            .args([
                "--root",
                &at("root"),
                "--runroot",
                &at("run"),
                "--storage-driver",
                "overlay",
            ])
            .args(["--runtime", "runc"])
            .args(arguments)
            .output();
        output.expect("podman is installed").into()
    };
    for image in [&pushed, &output] {
        docker.run(&["pull", "-q", image]).ok();
        docker.run(&["tag", image, "made"]).ok();
        let theirs = docker.run(&[&["run"], &look("made")[..]].concat());
        assert_eq!(theirs.ok(), ours, "docker, {image}");
        let said = docker.run(&["run", "--rm", "--network", "none", "made"]);
        assert_eq!(said.ok(), "built /work 33");
        podman(&["pull", "-q", "--tls-verify=false", image]).ok();
        podman(&["tag", image, "made"]).ok();
        let limits = [
            "run",
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1000:1000",
        ];
        let theirs = podman(&[&limits, &look("made")[..]].concat());
        assert_eq!(theirs.ok(), ours, "podman, {image}");
    }
    // An engine of its own builds on what is there.
    let other = Ply::new();
    let onward = other.directory("onward");
    fs::write(
        onward.join("Dockerfile"),
        format!("FROM {pushed}\nUSER 0\nRUN rm /home/hard\n"),
    )
    .expect("written");
    build(&other, &onward, &["-t", "on"]).ok();
    let said = other.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "on",
        "stat",
        "-c",
        "%h",
        "/home/new",
    ]);
    assert_eq!(said.ok(), "1");
    podman(&["rmi", "-af"]);
    for mounted in ["root/overlay", "run/overlay-containers"] {
        let path = storage.join(mounted).display().to_string();
        let _ = Command::new("umount").args(["-q", "-l", &path]).status();
    }
}

#[test]
fn a_pushed_image_carries_its_results() {
    let registry = Registry::start();
    let name = registry.image("inline:1");
    let made = Ply::with_busybox();
    let here = context(&made);
    build(
        &made,
        &here,
        &["--push", "-t", &name, "--cache-to", "type=inline"],
    )
    .ok();
    let other = Ply::with_busybox();
    let there = context(&other);
    let built = build(&other, &there, &["-t", "made", "--cache-from", &name]);
    // The steps that make layers, but for the other stage's, which is not in the image.
    assert_eq!(cached(&built), 5, "{built:?}");
    let id = |ply: &Ply, name: &str| {
        ply.run(&["inspect", "-f", "{{.RootFS.Layers}}", name])
            .ok()
            .to_owned()
    };
    assert_eq!(id(&made, &name), id(&other, "made"));
    // What changed misses, and what is after it.
    fs::write(there.join("dir/a"), "changed").expect("a file");
    let third = Ply::with_busybox();
    let built = build(
        &third,
        &there,
        &["--cache-from", &format!("type=registry,ref={name}")],
    );
    assert_eq!(cached(&built), 1, "{built:?}");
    // Docker takes the image for what it is.
    let docker = Docker::with_busybox();
    docker.run(&["pull", "-q", &name]).ok();
}

#[test]
fn a_cache_has_all_results_or_those_of_the_last_stage() {
    let registry = Registry::start();
    let made = Ply::with_busybox();
    let here = context(&made);
    for (mode, expected) in [("min", 5), ("max", 6)] {
        let in_registry = registry.image(&format!("cache:{mode}"));
        let directory = made.path(mode).display().to_string();
        let to = [
            format!("type=registry,ref={in_registry},mode={mode}"),
            format!("type=local,dest={directory},mode={mode}"),
        ];
        build(&made, &here, &["--cache-to", &to[0], "--cache-to", &to[1]]).ok();
        for from in [
            format!("type=registry,ref={in_registry}"),
            format!("type=local,src={directory}"),
        ] {
            let other = Ply::with_busybox();
            let there = context(&other);
            let built = build(&other, &there, &["--cache-from", &from]);
            assert_eq!(cached(&built), expected, "{from}: {built:?}");
        }
    }
    // One that is not there, or is damaged, is only worth a warning.
    let other = Ply::with_busybox();
    let there = context(&other);
    let none = registry.image("none:1");
    let built = build(&other, &there, &["--cache-from", &none]);
    assert_eq!(cached(&built), 0, "{built:?}");
    assert!(
        built.out.contains("failed to import cache from"),
        "{built:?}"
    );
    let blobs = made.path("max/blobs/sha256");
    for blob in fs::read_dir(&blobs).expect("blobs").flatten() {
        let mut bytes = fs::read(blob.path()).expect("a blob");
        if !bytes.starts_with(b"{") {
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            fs::write(blob.path(), bytes).expect("damaged");
        }
    }
    let damaged = Ply::with_busybox();
    let there = context(&damaged);
    let from = format!("type=local,src={}", made.path("max").display());
    let built = build(&damaged, &there, &["-t", "made", "--cache-from", &from]);
    assert!(
        built.out.contains("failed to fetch a cached layer"),
        "{built:?}"
    );
    let said = damaged.run(&["run", "--rm", "--network", "none", "made"]);
    assert_eq!(said.ok(), "built /work 33");
    assert_eq!(damaged.run(&["system", "check"]).ok(), "");
}

#[test]
fn what_cannot_be_pushed_is_an_error_of_the_build() {
    let ply = Ply::with_busybox();
    let context = context(&ply);
    let failed = build(&ply, &context, &["--push", "-t", "127.0.0.1:1/a/b:1"]);
    failed.fails(1, "127.0.0.1:1");
    let to = "type=registry,ref=127.0.0.1:1/a/b:1";
    build(&ply, &context, &["-t", "made", "--cache-to", to]).fails(1, "127.0.0.1:1");
    build(&ply, &context, &["--push"]).fails(1, "tag is needed when pushing to registry");
}
