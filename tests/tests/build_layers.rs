//! What the layers of `build` keep, and what they do not let in: holes, attributes, capabilities, hostile archives.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use tests::Output;
use tests::Ply;
use tests::must;
use tests::saved;

fn context(ply: &Ply, dockerfile: &str) -> PathBuf {
    let context = ply.directory("context");
    fs::write(context.join("Dockerfile"), dockerfile).expect("a Dockerfile");
    context
}

fn build(ply: &Ply, more: &[&str]) -> Output {
    let build = ["build", "-t", "made", "--network", "none"];
    ply.run(&[&build[..], more, &["context"]].concat())
}

#[track_caller]
fn said(ply: &Ply, command: &str) -> String {
    let run = ["run", "--rm", "--network", "none", "made", "sh", "-c"];
    ply.run(&[&run[..], &[command]].concat()).ok().to_owned()
}

fn script(directory: &Path, text: &str) {
    let status = Command::new("bash")
        .args(["-euc", text])
        .current_dir(directory)
        .status()
        .expect("bash runs");
    assert!(status.success(), "{text}");
}

/// Returns the bytes on the disk of all below a directory.
fn on_disk(directory: &Path) -> u64 {
    let listed = must(
        "du",
        &["-s", "--block-size=1", &directory.display().to_string()],
    );
    let number = listed.split_whitespace().next().expect("a number");
    number.parse().expect("a number")
}

/// Runs a command of ply's that may open only so many files.
fn with_few_files(ply: &Ply, most: u32, arguments: &str) -> Output {
    let text = format!(
        "ulimit -n {most}; exec {} {arguments}",
        Ply::program().display()
    );
    let output = Command::new("bash")
        .args(["-c", &text])
        .env("PLY_ROOT", ply.root())
        .env("PLY_RUN", ply.path("run"))
        .current_dir(ply.path(""))
        .output();
    Output::from(output.expect("bash runs"))
}

#[test]
fn holes_stay_holes() {
    let ply = Ply::with_busybox();
    let dockerfile = "FROM busybox AS first\nRUN truncate -s 1G /run-made && echo end >> /run-made && echo start | dd \
                      of=/run-made conv=notrunc bs=1 2>/dev/null\nFROM first\nCOPY sparse /copied\nADD gnu.tar /gnu/\n\
                      ADD posix.tar /posix/\nADD old.tar.gz /old/\nCOPY --from=first /run-made /again\n";
    let context = context(&ply, dockerfile);
    script(
        &context,
        "truncate -s 128M sparse; echo end >> sparse; echo middle | dd of=sparse bs=1 seek=100000000 conv=notrunc status=none
         tar --sparse --format=gnu -cf gnu.tar sparse; tar --sparse --format=posix -cf posix.tar sparse
         tar --sparse --format=posix --sparse-version=0.1 -czf old.tar.gz sparse",
    );
    build(&ply, &[]).ok();
    let size = fs::metadata(context.join("sparse"))
        .expect("the file")
        .len();
    let sum = must(
        "sha256sum",
        &[&context.join("sparse").display().to_string()],
    );
    let sum = &sum[..64];
    let seen = said(
        &ply,
        "stat -c '%s %n' /run-made /again; head -c 6 /run-made; tail -c 4 /again; cd /; for file in copied */sparse; do stat -c \
         '%s %n' $file; sha256sum < $file; done",
    );
    let mut expected = format!(
        "{big} /run-made\n{big} /again\nstart\nend\n",
        big = (1u64 << 30) + 4
    );
    for name in ["copied", "gnu/sparse", "old/sparse", "posix/sparse"] {
        expected += &format!("{size} {name}\n{sum}  -\n");
    }
    assert_eq!(seen, expected.trim_end());
    let most = 12 << 20;
    assert!(on_disk(&ply.root()) < most, "{}", on_disk(&ply.root()));
    // Nor are they filled in when the files are copied up, or out.
    let append = "echo more >> /copied; echo more >> /run-made; truncate -s 2G /again";
    ply.run(&[
        "run",
        "--name",
        "c1",
        "--network",
        "none",
        "made",
        "sh",
        "-c",
        append,
    ])
    .ok();
    assert!(on_disk(&ply.root()) < most, "{}", on_disk(&ply.root()));
    build(&ply, &["-o", "out"]).ok();
    let out = ply.path("out/copied");
    assert_eq!(fs::metadata(&out).expect("the file").len(), size);
    assert!(fs::metadata(&out).expect("the file").blocks() * 512 < 1 << 20);
}

/// Makes `tools/`, programs of the host's with all that they need.
const TOOLS: &str = r#"
mkdir tools
for program in setcap getcap setfattr getfattr; do
    path=$(PATH=$PATH:/usr/sbin:/sbin command -v $program)
    cp "$path" $(ldd "$path" | grep -o '/[^ ]*') tools/
done
mv tools/ld-linux* tools/ld.so
"#;

#[test]
fn attributes_and_capabilities_come_along() {
    let ply = Ply::with_busybox();
    let tool = "/tools/ld.so --library-path /tools /tools/";
    let dockerfile = format!(
        "FROM busybox AS first\nCOPY tools /tools\nCOPY file /copied\nADD file /added\nADD tar /unpacked/\nRUN echo x > /made && \
         {tool}setfattr -n user.made -v run /made && {tool}setcap cap_net_raw+ep /made\nRUN chmod 700 /made && mv /copied \
         /moved\nFROM first\nCOPY --from=first /made /moved /unpacked/file /d/\nCOPY --chown=33:33 file /owned\n"
    );
    let context = context(&ply, &dockerfile);
    script(
        &context,
        &format!(
            "{TOOLS}\necho content > file; setfattr -n user.kind -v context file; PATH=$PATH:/usr/sbin:/sbin setcap \
             cap_chown+p file; mkdir d; setfattr -n user.dir -v d d; tar --xattrs --xattrs-include='*' -cf tar file d"
        ),
    );
    build(&ply, &[]).ok();
    let seen = said(
        &ply,
        &format!(
            "cd /; for file in added moved unpacked/file made d/made d/moved d/file owned unpacked/d; do echo $file; \
             {tool}getfattr --only-values -m user. -d $file; echo; {tool}getcap $file; done"
        ),
    );
    let with = |name: &str, xattr: &str, capability: &str| {
        format!("{name}\n{xattr}\n{name} {capability}\n")
    };
    let mut expected = String::new();
    for name in ["added", "moved", "unpacked/file"] {
        expected += &with(name, "context", "cap_chown=p");
    }
    for name in ["made", "d/made"] {
        expected += &with(name, "run", "cap_net_raw=ep");
    }
    for name in ["d/moved", "d/file"] {
        expected += &with(name, "context", "cap_chown=p");
    }
    expected += &with("owned", "context", "cap_chown=p");
    expected += "unpacked/d\nd";
    assert_eq!(seen, expected);
    // An attribute is something: the copies miss, what is before them hits.
    script(&context, "setfattr -n user.kind -v other file");
    let again = build(&ply, &[]);
    assert_eq!(again.ok().matches("Using cache").count(), 1, "{again:?}");
}

#[test]
fn a_layer_has_just_what_its_step_has_changed() {
    let ply = Ply::with_busybox();
    let dockerfile = "FROM busybox\nRUN mkdir -p /d/e /k && echo 1 > /d/1 && echo 2 > /d/e/2 && echo k > /k/k && ln /k/k /k/l\n\
                      RUN rm /bin/vi && rm -r /d && mkdir /d && echo new > /d/new\nRUN chmod 600 /k/k\n\
                      RUN mkdir /gone && rm -r /gone && touch /k/k\nCOPY one /d/\n";
    let context = context(&ply, dockerfile);
    fs::write(context.join("one"), "one").expect("a file");
    build(&ply, &[]).ok();
    let archive = ply.path("saved.tar");
    ply.run(&["save", "-o", &archive.to_string_lossy(), "made"])
        .ok();
    let saved = saved::read(&archive);
    let layers: Vec<Vec<&str>> = saved.layers[1..]
        .iter()
        .map(|names| names.iter().map(String::as_str).collect())
        .collect();
    assert_eq!(layers.len(), 5, "{layers:?}");
    assert_eq!(layers[0], ["d", "d/1", "d/e", "d/e/2", "k", "k/k", "k/l"]);
    // The old directory is hidden whole, or name by name.
    assert!(
        layers[1].contains(&"bin/.wh.vi") && layers[1].contains(&"d/new"),
        "{layers:?}"
    );
    assert!(!layers[1].contains(&"bin/sh"), "{layers:?}");
    assert!(layers[2].contains(&"k/k"), "{layers:?}");
    assert!(
        !layers[3].iter().any(|name| name.contains("gone")),
        "{layers:?}"
    );
    assert_eq!(layers[4], ["d", "d/one"]);
    let names: Vec<&String> = saved
        .tree
        .keys()
        .filter(|name| name.starts_with('d'))
        .collect();
    assert_eq!(names, ["d", "d/new", "d/one"]);
    assert_eq!(saved.tree["k/l"].same_as, "k/k");
    assert_eq!(
        (saved.tree["k/l"].mode, saved.tree["k/k"].mode),
        (0o600, 0o600)
    );
}

#[test]
fn more_directories_than_descriptors_go_in_and_out() {
    let ply = Ply::with_busybox();
    let dockerfile = "FROM busybox\nADD many.tar /\nVOLUME /many\n";
    let context = context(&ply, dockerfile);
    script(
        &context,
        "mkdir many; cd many; for a in $(seq 40); do for b in $(seq 10); do mkdir -p $a/$b; done; done; chmod 700 7/7; \
         touch -d @1000000000 7/7; cd ..; tar -cf many.tar many; rm -r many",
    );
    build(&ply, &[]).ok();
    let few = |arguments: &str| with_few_files(&ply, 200, arguments);
    few("build -q --network none -o out context").ok();
    few("create --name c1 made").ok();
    few("cp c1:/many copied").ok();
    for directory in ["out/many/7/7", "copied/7/7"] {
        let stat = fs::metadata(ply.path(directory)).expect("the directory");
        assert_eq!(
            (stat.mode() & 0o777, stat.mtime()),
            (0o700, 1_000_000_000),
            "{directory}"
        );
    }
    few("cp copied c1:/back").ok();
    ply.run(&["rm", "-fv", "c1"]).ok();
}

/// Puts the engine's root on a disk of its own.
fn small_disk(options: &str) -> Ply {
    let ply = Ply::new();
    let root = ply.directory("root").display().to_string();
    must("mount", &["-t", "tmpfs", "-o", options, "tmpfs", &root]);
    let tar = tests::busybox_tar();
    ply.run(&["import", &tar.to_string_lossy(), "busybox"]).ok();
    ply
}

/// Returns what is left but the disk itself.
fn left(ply: &Ply) -> Vec<String> {
    let left = ply.leftovers();
    left.into_iter()
        .filter(|line| !line.starts_with("tmpfs "))
        .collect()
}

#[test]
fn a_little_that_unpacks_to_much_is_refused() {
    let ply = small_disk("size=128m");
    // 256 MiB of zeros, which would lie in holes.
    let context = context(&ply, "FROM busybox\nADD bomb /\n");
    script(
        &context,
        "mkdir many; for number in $(seq 16); do truncate -s 16M many/$number; done; truncate -s 256M one
         tar -cf plain many; tar -c one | gzip -1 > one.gz; truncate -s 15T huge; tar --sparse -cf sparse huge
         tar --sparse --format=posix -cf posix huge; rm huge",
    );
    let before = on_disk(&ply.root());
    for make in [
        "gzip -1 < plain",
        "bzip2 -1 < plain",
        "xz -0 < plain",
        "zstd -q < plain",
        "cat one.gz",
        "cat sparse",
        "cat posix",
        // Much that is no file, and much after the end.
        "(head -c 1024 /dev/zero | cat <(tar -cf - Dockerfile | head -c 1024) - ; head -c 256M /dev/zero) | gzip -1",
    ] {
        script(&context, &format!("{make} > bomb"));
        let failed = build(&ply, &[]);
        failed.fails(1, "the archive holds more than there is room for");
        assert!(failed.err.starts_with("ADD failed: "), "{failed:?}");
        assert_eq!(left(&ply), Vec::<String>::new(), "{make}");
    }
    // As a context.
    script(&context, "gzip -1 < plain > bomb");
    let bomb = fs::read(context.join("bomb")).expect("a bomb");
    ply.run_with(&["build", "-"], &bomb)
        .fails(1, "more than there is room for");
    ply.run(&["image", "prune", "-f"]).ok();
    assert_eq!(left(&ply), Vec::<String>::new());
    let after = on_disk(&ply.root());
    assert!(after < before + (4 << 20), "{before} {after}");
    // What has room is unpacked.
    script(&context, "tar -cf bomb Dockerfile many/1");
    build(&ply, &[]).ok();
    let unmounted = ply.root().display().to_string();
    ply.remove_all();
    must("umount", &["-l", &unmounted]);
}

#[test]
fn more_entries_than_the_disk_has_room_for_are_refused() {
    let ply = small_disk("size=128m,nr_inodes=2000");
    let context = context(&ply, "FROM busybox\nADD many.tar.gz /\n");
    script(
        &context,
        "mkdir d; cd d; seq 5000 | xargs touch; cd ..; tar -czf many.tar.gz d",
    );
    build(&ply, &[]).fails(1, "the archive holds more than there is room for");
    assert_eq!(left(&ply), Vec::<String>::new());
    ply.remove_all();
    must("umount", &["-l", &ply.root().display().to_string()]);
}

#[test]
fn an_archive_deeper_than_descriptors_leaves_nothing_in_the_way() {
    let ply = Ply::with_busybox();
    let context = context(&ply, "FROM busybox\nADD deep /\nADD wrong /\n");
    script(
        &context,
        "name=$(printf 'a/%.0s' $(seq 1100))f; touch file; tar --format=posix --transform \"s,file,$name,\" -cf deep file
         (head -c 10240 deep | head -c 3072; head -c 512 /dev/urandom) > wrong; rm file",
    );
    let few = |arguments: &str| with_few_files(&ply, 1024, arguments);
    // The second is cut short.
    let failed = few("build -q --network none context");
    failed.fails(1, "ADD failed");
    few("images").ok();
    few("system check").ok();
    assert_eq!(ply.leftovers(), Vec::<String>::new());
    fs::write(context.join("Dockerfile"), "FROM busybox\nADD deep /\n").expect("written");
    // How deep an archive may be is what the process may open; that it is too deep is said, and that is all.
    let built = few("build -q --network none -t made context");
    assert!(
        built.code == 0 || built.err.contains("too many open files"),
        "{built:?}"
    );
    few("images").ok();
    few("system check").ok();
    assert_eq!(ply.leftovers(), Vec::<String>::new());
}

/// A tar written by hand: libraries refuse such names.
struct Archive(Vec<u8>);

impl Archive {
    fn add(mut self, kind: u8, name: &str, link: &str, content: &[u8]) -> Archive {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(0o666);
        for set in [
            tar::Header::set_uid,
            tar::Header::set_gid,
            tar::Header::set_mtime,
        ] {
            set(&mut header, 0);
        }
        header.set_size(content.len() as u64);
        let gnu = header.as_gnu_mut().expect("gnu");
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
        gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
        if let Some((major, minor)) = link.split_once(',').filter(|_| matches!(kind, b'3' | b'4')) {
            gnu.linkname.fill(0);
            header
                .set_device_major(major.parse().expect("a number"))
                .expect("set");
            header
                .set_device_minor(minor.parse().expect("a number"))
                .expect("set");
        }
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }
}

#[test]
fn hostile_archives_reach_nothing_outside_the_root() {
    let ply = Ply::with_busybox();
    let context = context(
        &ply,
        "FROM busybox\nRUN ln -s /../../.. /up\nADD hostile /a/b/\n",
    );
    let outside = ply.path("outside");
    fs::write(&outside, "SECRET").expect("a file");
    let target = outside.display().to_string();
    let many = vec![b'x'; 9 << 20];
    for (archive, words) in [
        (
            Archive(vec![]).add(b'0', "../../../x", "", b"x"),
            "invalid path in archive",
        ),
        (
            Archive(vec![]).add(b'1', "x", "../../../etc/passwd", b""),
            "invalid hard link in archive",
        ),
        (Archive(vec![]).add(b'1', "x", &target, b""), "no such file"),
        (
            Archive(vec![])
                .add(b'2', "l", &target, b"")
                .add(b'0', "l/x", "", b"x"),
            "",
        ),
        (
            Archive(vec![])
                .add(b'5', "d", "", b"")
                .add(b'0', "d", "", b""),
            "cannot overwrite directory",
        ),
        (
            Archive(vec![])
                .add(b'L', "name", "", &many)
                .add(b'0', "x", "", b""),
            "the header of an entry is too long",
        ),
        (
            Archive(vec![])
                .add(b'K', "name", "", &many)
                .add(b'0', "x", "", b""),
            "the header of an entry is too long",
        ),
        (
            Archive(vec![])
                .add(b'x', "name", "", &many)
                .add(b'0', "x", "", b""),
            "the header of an entry is too long",
        ),
        (
            Archive(vec![])
                .add(b'0', "x", "", b"y")
                .add(b'0', "cut", "", &many[..8000]),
            "",
        ),
    ] {
        let mut bytes = archive.0;
        if words.is_empty() {
            bytes.truncate(bytes.len() - 512);
        }
        fs::write(context.join("hostile"), bytes).expect("an archive");
        let failed = build(&ply, &[]);
        failed.fails(1, words);
        assert!(failed.err.contains("--> Dockerfile:3: ADD"), "{failed:?}");
        assert_eq!(fs::read_to_string(&outside).expect("the file"), "SECRET");
        assert_eq!(ply.leftovers(), Vec::<String>::new());
    }
    // Through links within the root, and names from its top, all stays in it.
    let disk = fs::read_dir("/sys/block")
        .expect("disks")
        .flatten()
        .find_map(|disk| fs::read_to_string(disk.path().join("dev")).ok());
    let disk = disk.expect("a disk").trim().replace(':', ",");
    let records = |name: &str, value: &str| {
        let text = format!(" {name}={value}\n");
        let length = text.len() + 2;
        format!("{length}{text}").into_bytes()
    };
    let archive = Archive(vec![])
        .add(b'2', "up", "/../../../..", b"")
        .add(b'0', "up/through", "", b"1")
        .add(b'0', "/absolute", "", b"2")
        .add(b'1', "hard", "absolute", b"")
        .add(b'4', "disk", &disk, b"")
        // A whiteout, as in Docker's overlayfs.
        .add(b'3', "none", "0,0", b"")
        .add(b'g', "global", "", &many)
        .add(
            b'x',
            "",
            "",
            &records("SCHILY.xattr.trusted.overlay.opaque", "y"),
        )
        .add(b'5', "opaque", "", b"")
        .add(b'6', "fifo", "", b"")
        .add(b'Z', "unknown", "", &many);
    fs::write(context.join("hostile"), archive.0).expect("an archive");
    build(&ply, &[]).ok();
    let seen = said(
        &ply,
        "cat /through /a/b/absolute /a/b/hard; stat -c '%F' /a/b/disk /a/b/fifo; dd if=/a/b/disk of=/dev/null count=1 2>&1 | grep \
         -o 'not permitted'; ls /a/b; ls -d /bin",
    );
    assert_eq!(
        seen,
        "122block special file\nfifo\nnot permitted\nabsolute\ndisk\nfifo\nhard\nopaque\nup\n/bin"
    );
}
