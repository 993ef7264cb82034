//! Images on real input: from a real registry and back, compared with skopeo and umoci.
#![allow(missing_docs)]

use std::fs;
use std::path::Path;

use tests::Ply;
use tests::Registry;
use tests::differences;
use tests::must;
use tests::read_tree;

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Makes an OCI layout in which `image:tag` is built up by changing an unpacked root once for each script.
fn build(directory: &Path, scripts: &[&str]) -> String {
    let layout = directory.join("layout");
    let image = format!("{}:tag", text(&layout));
    must("umoci", &["init", "--layout", &text(&layout)]);
    must("umoci", &["new", "--image", &image]);
    for (number, script) in scripts.iter().enumerate() {
        let bundle = text(&directory.join(format!("bundle{number}")));
        must("umoci", &["unpack", "--image", &image, &bundle]);
        must("sh", &["-ec", &format!("cd {bundle}/rootfs && {script}")]);
        must("umoci", &["repack", "--image", &image, &bundle]);
    }
    format!("oci:{image}")
}

/// Every kind of file, name and attribute that layers carry, changed and hidden by the layers above.
const TRICKY: &[&str] = &[
    "mkdir -p a/deep/er b c/d opaque/old; echo one > a/one; echo two > a/deep/er/two; ln a/one a/deep/one; \
     ln -s ../one a/deep/link; ln -s /nowhere dangling; mkfifo b/fifo; mknod b/char c 1 3; mknod b/block b 8 0; \
     dd if=/dev/urandom of=big bs=1M count=3 status=none; truncate -s 5M sparse; printf x | dd of=sparse bs=1 seek=3000000 conv=notrunc status=none; \
     chmod 4755 a/one; chmod 1777 b; chmod 2711 c; chown 12345:54321 big; chown -h 7:8 dangling; \
     setfattr -n user.note -v hello a/deep; setfattr -n user.binary -v 0x00ff00 big; \
     setcap cap_net_raw+ep big 2>/dev/null || setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 big; \
     touch -d 2001-02-03T04:05:06.123456789 a/deep/er/two; touch -d 1969-12-31T23:59:58 c/d; \
     : > \"$(printf 'new\\nline')\"; : > \"$(printf 'bad\\377utf')\"; : > \"$(printf '%0200d' 7)\"; \
     mkdir -p $(printf 'long%.0s/' $(seq 60)); : > opaque/old/hidden; : > gone; : > replaced; mkdir turned; : > turned/inside",
    "rm gone; rm -r a/deep/er; rm replaced; mkdir replaced; echo new > replaced/file; rm -r opaque; mkdir opaque; \
     echo fresh > opaque/new; rm -r turned; echo file > turned; chmod 700 c; echo more >> a/one; mv b moved",
    "rm -r replaced; ln -s a replaced; echo again > gone; setfattr -x user.note a/deep; chown 1:1 moved",
];

#[test]
fn a_pulled_image_is_the_tree_that_umoci_unpacks() {
    let (ply, registry) = (Ply::new(), Registry::start());
    let directory = ply.directory("umoci");
    let source = build(&directory, TRICKY);
    registry.push(&source, "tricky:1");
    let name = registry.image("tricky:1");
    assert!(
        ply.run(&["pull", &name])
            .ok()
            .contains("Status: Downloaded newer image")
    );

    // The manifest's digest and the layers are what skopeo says.
    let seen: serde_json::Value = serde_json::from_str(&must(
        "skopeo",
        &["inspect", "--tls-verify=false", &format!("docker://{name}")],
    ))
    .expect("JSON");
    let digest = ply.run(&["images", "--digests", "--format", "{{.Digest}}"]);
    assert_eq!(digest.ok(), seen["Digest"].as_str().expect("a digest"));
    let layers = ply.inspect(&name, "{{len .RootFS.Layers}}");
    assert_eq!(
        layers,
        seen["Layers"].as_array().expect("layers").len().to_string()
    );

    let (bundle, mounted) = (directory.join("whole"), ply.directory("mounted"));
    must(
        "umoci",
        &[
            "unpack",
            "--image",
            source.trim_start_matches("oci:"),
            &text(&bundle),
        ],
    );
    ply.run(&["mount", &name, &text(&mounted)]).ok();
    let found = differences(&read_tree(&bundle.join("rootfs")), &read_tree(&mounted));
    ply.run(&["umount", &text(&mounted)]).ok();
    assert!(found.is_empty(), "{found:#?}");

    // The same tree for a container's processes.
    assert!(ply.run(&["system", "check"]).ok().is_empty());
    ply.run(&["rmi", &name]).ok();
    assert_eq!(ply.run(&["images", "-q"]).ok(), "");
    for kind in ["layers", "objects", "stacks"] {
        assert!(
            fs::read_dir(ply.root().join(kind))
                .expect("a directory")
                .next()
                .is_none(),
            "{kind}"
        );
    }
}

#[test]
fn debian_is_pulled_run_saved_and_loaded_elsewhere() {
    let (ply, registry) = (Ply::new(), Registry::start());
    let tar = text(&tests::debian_tar());
    ply.run(&[
        "import",
        "-c",
        "CMD [\"bash\"]",
        &tar,
        &registry.image("debian:12"),
    ])
    .ok();
    let name = registry.image("debian:12");
    ply.run(&["push", &name]).ok();
    let config = must(
        "skopeo",
        &[
            "inspect",
            "--config",
            "--tls-verify=false",
            &format!("docker://{name}"),
        ],
    );
    assert!(config.contains("\"bash\""), "{config}");

    let other = Ply::new();
    other.run(&["pull", "-q", &name]).ok();
    assert!(
        other
            .run(&["pull", &name])
            .ok()
            .contains("Image is up to date")
    );
    let said = other.run(&[
        "run",
        "--rm",
        &name,
        "bash",
        "-c",
        "cat /etc/debian_version; dpkg -l | grep -c ^ii; id",
    ]);
    assert!(said.ok().starts_with("12."), "{said:?}");
    // Nothing in a package's files was lost on the way: dpkg knows their digests.
    let verified = other.run(&["run", "--rm", &name, "dpkg", "--verify"]);
    assert_eq!((verified.code, verified.out.as_str()), (0, ""));

    // Saved by one, taken by skopeo and by another engine.
    let saved = ply.path("saved.tar");
    other.run(&["save", "-o", &text(&saved), &name]).ok();
    let copied = ply.path("copied");
    must(
        "skopeo",
        &[
            "copy",
            "--quiet",
            "--insecure-policy",
            &format!("docker-archive:{}", text(&saved)),
            &format!("oci:{}:x", text(&copied)),
        ],
    );
    let bundle = ply.path("bundle");
    must(
        "umoci",
        &[
            "unpack",
            "--image",
            &format!("{}:x", text(&copied)),
            &text(&bundle),
        ],
    );
    let third = Ply::new();
    assert!(
        third
            .run(&["load", "-i", &text(&saved)])
            .ok()
            .contains("Loaded image: ")
    );
    assert_eq!(
        third.run(&["images", "-q", "--no-trunc"]).ok(),
        ply.run(&["images", "-q", "--no-trunc"]).ok()
    );
    let mounted = third.directory("mounted");
    third.run(&["mount", &name, &text(&mounted)]).ok();
    let found = differences(&read_tree(&bundle.join("rootfs")), &read_tree(&mounted));
    third.run(&["umount", &text(&mounted)]).ok();
    assert!(found.is_empty(), "{found:#?}");
    let piped = third.path("piped.tar");
    must(
        "sh",
        &["-c", &format!("cat {} > {}", text(&saved), text(&piped))],
    );
    let again = ply.command(&["save", &name]).output().expect("ply runs");
    assert!(
        ply.run_with(&["load", "-q"], &again.stdout)
            .ok()
            .contains("Loaded image")
    );
}

#[test]
fn the_issue_s_story_works_as_written() {
    let (ply, registry) = (Ply::new(), Registry::start());
    let name = registry.image("debian:12");
    ply.run(&[
        "import",
        "-c",
        "CMD [\"bash\"]",
        &text(&tests::debian_tar()),
        &name,
    ])
    .ok();
    ply.run(&["push", &name]).ok();
    ply.run(&["rmi", &name]).ok();
    ply.run(&["pull", &name]).ok();
    let script = "echo hi > /etc/motd; rm /etc/hostname; mv /usr/share/doc /usr/share/doc2";
    let output = ply.run(&["run", "--name", "c1", &name, "sh", "-c", script]);
    assert_eq!((output.code, output.err.as_str()), (0, ""));
    let here = ply.directory("here");
    ply.run(&["cp", "c1:/etc/motd", &text(&here)]).ok();
    assert_eq!(fs::read_to_string(here.join("motd")).expect("read"), "hi\n");
    fs::write(here.join("file"), "x").expect("written");
    ply.run(&["cp", &text(&here.join("file")), "c1:/tmp/"]).ok();
    let diff = ply.run(&["diff", "c1"]);
    let diff: Vec<&str> = diff.ok().lines().collect();
    for line in [
        "C /etc",
        "C /etc/motd",
        "D /etc/hostname",
        "A /tmp/file",
        "D /usr/share/doc",
        "A /usr/share/doc2",
        "A /usr/share/doc2/bash",
    ] {
        assert!(diff.contains(&line), "{line} is not in {diff:?}");
    }
    ply.run(&["rmi", &name]).fails(1, "container");
    ply.run(&["rm", "c1"]).ok();
    ply.run(&["rmi", &name]).ok();
}

#[test]
fn several_processes_pull_one_image_at_once() {
    let (ply, registry) = (Ply::new(), Registry::start());
    let directory = ply.directory("umoci");
    registry.push(&build(&directory, TRICKY), "x:1");
    let name = registry.image("x:1");
    let children: Vec<_> = (0..6).map(|_| ply.spawn(&["pull", &name])).collect();
    for child in children {
        let output: tests::Output = child.wait_with_output().expect("an end").into();
        output.ok();
    }
    assert_eq!(ply.run(&["images", "-q"]).ok().lines().count(), 1);
    assert!(ply.run(&["system", "check"]).ok().is_empty());
}

#[test]
fn a_pull_that_is_killed_leaves_nothing_that_is_not_whole() {
    let (ply, registry) = (Ply::new(), Registry::start());
    let name = registry.image("debian:12");
    let maker = Ply::new();
    maker
        .run(&["import", &text(&tests::debian_tar()), &name])
        .ok();
    maker.run(&["push", &name]).ok();
    for milliseconds in [5, 20, 50, 100, 200, 300, 400] {
        let mut child = ply.spawn(&["pull", &name]);
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        let _ = child.kill();
        let _ = child.wait();
        assert!(ply.run(&["system", "check"]).ok().is_empty());
    }
    ply.run(&["pull", &name]).ok();
    assert_eq!(
        ply.run(&["run", "--rm", &name, "dpkg", "--verify"]).ok(),
        ""
    );
    let leftovers = fs::read_dir(ply.root().join("tmp"))
        .expect("a directory")
        .count();
    assert_eq!(leftovers, 0);
}

#[test]
fn lists_and_inspections_have_docker_s_shape() {
    let ply = Ply::with_busybox();
    ply.run(&["tag", "busybox", "other/name:v1"]).ok();
    let table = ply.run(&["images"]);
    let heading = table.ok().lines().next().expect("a heading").to_owned();
    let columns: Vec<&str> = heading
        .split("  ")
        .map(str::trim)
        .filter(|column| !column.is_empty())
        .collect();
    assert_eq!(
        columns,
        ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]
    );
    assert_eq!(
        ply.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"])
            .ok(),
        "busybox:latest\nother/name:v1"
    );
    let json = ply.run(&["images", "--format", "json", "busybox"]);
    let json: serde_json::Value = serde_json::from_str(json.ok()).expect("JSON");
    assert_eq!(json["Tag"], "latest");
    assert_eq!(
        ply.inspect("busybox", "{{json .Config.Cmd}} {{.Os}}"),
        "[\"sh\"] linux"
    );
    assert!(ply.run(&["history", "busybox"]).ok().starts_with("IMAGE "));
    ply.run(&["rmi", "busybox", "other/name:v1"]).ok();
}

#[test]
fn a_check_names_what_is_damaged() {
    let ply = Ply::with_busybox();
    ply.run(&["create", "--name", "user", "busybox"]).ok();
    assert!(ply.run(&["system", "check"]).ok().is_empty());
    let first = |directory: &str| {
        let mut files: Vec<_> = fs::read_dir(ply.root().join(directory))
            .expect("a directory")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        files.sort();
        files[0].clone()
    };
    // A byte of an object, of a config, of a layer's pack; each alone.
    let object = first("objects");
    let blob = first("blobs/sha256");
    let layer = first("layers");
    let pack = fs::read_dir(&layer)
        .expect("a layer")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.ends_with("pack"))
        .expect("a pack");
    for (path, named) in [(&object, &object), (&blob, &blob), (&pack, &layer)] {
        let whole = fs::read(path).expect("read");
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        fs::write(path, &damaged).expect("written");
        let output = ply.run(&["system", "check"]);
        let name = named
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        assert_eq!(output.code, 1, "{output:?}");
        assert!(output.out.contains(&name), "{name} is not in {output:?}");
        fs::write(path, &whole).expect("written");
        assert!(ply.run(&["system", "check"]).ok().is_empty());
    }
    let away = ply.path("away");
    fs::rename(&layer, &away).expect("moved");
    let output = ply.run(&["system", "check"]);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.out.contains("image sha256:"), "{output:?}");
    assert!(output.out.contains("container "), "{output:?}");
    fs::rename(&away, &layer).expect("moved");
}
