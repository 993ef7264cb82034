//! Unions of plain directories, taking turns with kernel overlayfs, fuse-overlayfs and Podman's storage.
#![allow(missing_docs)]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use tests::Ply;
use tests::differences;
use tests::eventually;
use tests::must;
use tests::read_tree;

/// Directories to make unions of, below one that goes with the engine.
struct Directories {
    lower: Vec<PathBuf>,
    upper: PathBuf,
    work: PathBuf,
    mounted: PathBuf,
}

/// Who mounts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Union {
    Ply,
    Overlayfs,
    FuseOverlayfs,
}

impl Directories {
    /// Makes two lower layers, the first above the second.
    fn new(ply: &Ply) -> Directories {
        let [above, below] = ["above", "below"].map(|name| ply.directory(name));
        let script = "mkdir -p etc var/log deep/er/down; echo base > etc/base; echo log > var/log/one; seq 9000 > big; \
             echo y > etc/pair; ln etc/pair etc/twin; ln -s base etc/sym; mkfifo pipe; mknod null c 1 3; echo x > deep/er/down/x; \
             chown 33:50 var/log; chmod 4755 big; setfattr -n user.note -v hello etc/base";
        must(
            "sh",
            &["-ec", &format!("cd {} && {script}", below.display())],
        );
        let script =
            "mkdir -p etc var; echo above > etc/above; mknod gone c 0 0; echo other > var/file";
        must(
            "sh",
            &["-ec", &format!("cd {} && {script}", above.display())],
        );
        fs::write(below.join("gone"), "hidden").expect("written");
        Directories {
            lower: vec![above, below],
            upper: ply.directory("upper"),
            work: ply.directory("work"),
            mounted: ply.directory("mounted"),
        }
    }

    fn options(&self) -> String {
        let lower: Vec<_> = self
            .lower
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let (upper, work) = (self.upper.display(), self.work.display());
        format!(
            "lowerdir={},upperdir={upper},workdir={work}",
            lower.join(":")
        )
    }

    /// Does something with the mounted union.
    fn with<T>(&self, ply: &Ply, union: Union, act: impl FnOnce(&Path) -> T) -> T {
        let (options, at) = (self.options(), self.mounted.display().to_string());
        match union {
            Union::Ply => ply.run(&["mount", "-o", &options, &at]).ok().to_owned(),
            Union::Overlayfs => must("mount", &["-t", "overlay", "overlay", "-o", &options, &at]),
            Union::FuseOverlayfs => must("fuse-overlayfs", &["-o", &options, &at]),
        };
        let result = act(&self.mounted);
        must("umount", &[&at]);
        // Its server has let go of the directories.
        eventually("the upper can be used again", || {
            let upper = fs::File::open(&self.upper).expect("the upper");
            nix::fcntl::Flock::lock(upper, nix::fcntl::FlockArg::LockExclusiveNonblock).is_ok()
        });
        result
    }

    fn sh(&self, ply: &Ply, union: Union, script: &str) {
        self.with(ply, union, |root| {
            must(
                "sh",
                &["-ec", &format!("cd {} && {script}", root.display())],
            );
        });
    }
}

/// What changes an upper in every way; each takes a number, so that they can follow one another.
const CHANGES: &[&str] = &[
    "rm etc/sym; echo more >> etc/base; rm -r deep; mkdir deep; echo new > deep/new; chmod 600 big",
    "mv big small; rm -r var/log; mkdir var/log; touch var/log/two; ln etc/above etc/again; setfattr -n user.k -v v etc",
    "rm -r etc; mkdir -m 700 etc; echo fresh > etc/base; rm pipe; mkdir pipe; touch pipe/in",
    "rm -r deep; echo file > deep; mv small big; chown 5:6 var; rm null; ln -s nowhere null; touch gone",
    "rm -r pipe gone; mkdir -p deeper/and/deeper; mv var/file deeper/and; rm deep; mkdir deep",
];

#[test]
fn every_union_goes_on_where_another_stopped() {
    // The kernel does not know all marks that fuse-overlayfs leaves.
    for others in [
        &[Union::Ply, Union::Overlayfs][..],
        &[Union::Ply, Union::FuseOverlayfs],
    ] {
        for first in 0..others.len() {
            let ply = Ply::new();
            let directories = Directories::new(&ply);
            for (number, script) in CHANGES.iter().enumerate() {
                directories.sh(&ply, others[(first + number) % others.len()], script);
                let trees: Vec<_> = others
                    .iter()
                    .map(|union| directories.with(&ply, *union, read_tree))
                    .collect();
                let found = differences(&trees[0], &trees[1]);
                assert!(
                    found.is_empty(),
                    "{others:?}, {first}, step {number}: {found:?}"
                );
            }
        }
    }
}

#[test]
fn the_union_and_the_kernels_do_the_same() {
    let ply = Ply::new();
    let directories = Directories::new(&ply);
    for script in CHANGES {
        directories.sh(&ply, Union::Ply, script);
    }
    let ours = directories.with(&ply, Union::Overlayfs, read_tree);
    let other = Ply::new();
    let theirs = Directories::new(&other);
    for script in CHANGES {
        theirs.sh(&other, Union::Overlayfs, script);
    }
    let theirs = theirs.with(&other, Union::Ply, read_tree);
    let names = |tree: &tests::Tree| -> Vec<_> {
        tree.iter()
            .map(|(path, entry)| (path.clone(), entry.mode, entry.owner, entry.content.clone()))
            .collect()
    };
    assert_eq!(names(&ours), names(&theirs));
}

#[test]
fn writers_take_away_the_bits_that_the_kernel_says() {
    let change = "echo x >> a; echo y > b; truncate -s 2 c; fallocate -l 99 d";
    let mut script = String::from(
        "mkdir at; chmod 777 at; cd at; for f in a b c d; do echo hello > $f; done; chmod 2666 c d;",
    );
    for (mode, groups) in [
        (2666, "--clear-groups"),
        (2666, "--groups 0"),
        (6777, "--clear-groups"),
        (6777, "--groups 0"),
        (4666, "--clear-groups"),
        (2677, "--keep-groups"),
    ] {
        script += &format!(
            " chmod {mode} a b c d; setpriv --reuid nobody --regid nogroup {groups} sh -c '{change}'; stat -c %a a b c d >> modes;"
        );
    }
    let [ours, theirs] = [Union::Ply, Union::Overlayfs].map(|union| {
        let ply = Ply::new();
        let directories = Directories::new(&ply);
        directories.sh(&ply, union, &script);
        let modes = fs::read_to_string(directories.upper.join("at/modes"));
        modes.expect("the modes that were seen")
    });
    assert_eq!(ours, theirs);
    assert_eq!(ours.lines().count(), 24);
}

#[test]
fn marks_of_images_are_understood_in_lower_directories() {
    let ply = Ply::new();
    let mut directories = Directories::new(&ply);
    let top = ply.directory("top");
    let script =
        "touch .wh.big; mkdir -p etc var; touch etc/.wh.base etc/mine var/.wh..wh..opq var/only";
    must("sh", &["-ec", &format!("cd {} && {script}", top.display())]);
    directories.lower.insert(0, top);
    directories.with(&ply, Union::Ply, |root| {
        let mut etc: Vec<_> = fs::read_dir(root.join("etc"))
            .expect("etc")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        etc.sort();
        assert_eq!(etc, ["above", "mine", "pair", "sym", "twin"]);
        assert!(!root.join("big").exists());
        assert_eq!(fs::read_dir(root.join("var")).expect("var").count(), 1);
    });
}

#[test]
fn redirects_and_bare_metadata_of_the_kernel_are_understood() {
    let ply = Ply::new();
    let mut directories = Directories::new(&ply);
    let at = directories.mounted.display().to_string();
    let options = format!("{},redirect_dir=on,metacopy=on", directories.options());
    must("mount", &["-t", "overlay", "overlay", "-o", &options, &at]);
    let script = "mv deep elsewhere; mv elsewhere/er/down etc/moved; chmod 640 big; mv big var/large; chown 7 etc/base";
    must("sh", &["-ec", &format!("cd {at} && {script}")]);
    let theirs = read_tree(&directories.mounted);
    must("umount", &[&at]);
    let ours = directories.with(&ply, Union::Ply, read_tree);
    assert_eq!(differences(&theirs, &ours), Vec::<String>::new());
    // The same as a lower layer.
    directories.lower.insert(0, directories.upper.clone());
    directories.upper = ply.directory("upper2");
    directories.work = ply.directory("work2");
    let ours = directories.with(&ply, Union::Ply, read_tree);
    assert_eq!(differences(&theirs, &ours), Vec::<String>::new());
}

#[test]
fn in_a_user_namespace_marks_are_user_attributes() {
    let ply = Ply::new();
    let directories = Directories::new(&ply);
    let (options, at) = (directories.options(), directories.mounted.display());
    let script = format!(
        "{} mount -o {options} {at}; cd {at}; rm etc/base; rm -r deep; mkdir deep; cd /; umount {at}",
        Ply::program().display()
    );
    let environment = [
        format!("PLY_ROOT={}", ply.root().display()),
        format!("PLY_RUN={}", ply.path("run").display()),
    ];
    let [root, run] = &environment;
    must("unshare", &["-Urm", "env", root, run, "sh", "-ec", &script]);
    let whiteout = fs::symlink_metadata(directories.upper.join("etc/base")).expect("a whiteout");
    assert_eq!(
        (whiteout.mode() & libc::S_IFMT, whiteout.rdev()),
        (libc::S_IFCHR, 0)
    );
    let deep = directories.upper.join("deep").display().to_string();
    let mark = must(
        "getfattr",
        &["--only-values", "-n", "user.overlay.opaque", &deep],
    );
    assert_eq!(mark, "y");
}

#[test]
fn owners_are_mapped_and_squashed() {
    let ply = Ply::new();
    let directories = Directories::new(&ply);
    let at = directories.mounted.display().to_string();
    let with = |more: &str, act: &dyn Fn(&Path)| {
        let options = format!("{},{more}", directories.options());
        ply.run(&["mount", "-o", &options, &at]).ok();
        act(&directories.mounted);
        must("umount", &[&at]);
        eventually("the mount is gone", || {
            ply.run(&["mount"]).out.lines().count() == 1
        });
    };
    let owner = |path: &Path| {
        let stat = fs::symlink_metadata(path).expect("a file");
        (stat.uid(), stat.gid())
    };
    // Inside, outside, how many, as fuse-overlayfs has it.
    with(
        "uidmapping=0:0:1:1000:33:1,gidmapping=0:0:1:2000:50:1",
        &|root| {
            assert_eq!(owner(&root.join("var/log")), (1000, 2000));
            assert_eq!(owner(&root.join("big")), (0, 0));
            std::os::unix::fs::chown(root.join("big"), Some(1000), Some(2000)).expect("changed");
            let unmapped = std::os::unix::fs::chown(root.join("big"), Some(4), None);
            assert_eq!(
                unmapped.expect_err("refused").raw_os_error(),
                Some(libc::EINVAL)
            );
        },
    );
    assert_eq!(owner(&directories.upper.join("big")), (33, 50));
    with("squash_to_uid=77,squash_to_gid=78", &|root| {
        assert_eq!(owner(&root.join("var/log")), (77, 78));
        assert_eq!(owner(&root.join("etc/base")), (77, 78));
    });
}

#[test]
fn bad_options_name_the_culprit_and_leave_nothing() {
    let ply = Ply::new();
    let directories = Directories::new(&ply);
    let at = directories.mounted.display().to_string();
    let good = directories.options();
    let [lower, upper, work] = [&directories.lower[0], &directories.upper, &directories.work]
        .map(|path| path.display().to_string());
    let file = directories.lower[1].join("big").display().to_string();
    let cases = [
        (
            format!("{good},frobnicate"),
            "unknown mount option: frobnicate",
        ),
        (format!("{good},frob=1"), "unknown mount option: frob"),
        (
            format!("lowerdir=/nowhere,upperdir={upper},workdir={work}"),
            "/nowhere",
        ),
        (format!("lowerdir={file}"), "not a directory"),
        (
            format!("lowerdir={lower},upperdir={upper}"),
            "workdir is missing",
        ),
        (
            format!("lowerdir={lower},upperdir=/nowhere,workdir={work}"),
            "/nowhere",
        ),
        (
            format!("lowerdir={lower},upperdir={upper},workdir={upper}/w"),
            "/w",
        ),
        (
            format!("lowerdir={lower},upperdir={upper},workdir={upper}"),
            "separate",
        ),
        (
            format!("lowerdir={lower},upperdir={upper},workdir=/dev/shm"),
            "same filesystem",
        ),
        (format!("{good},uidmapping=0:0"), "uidmapping"),
        (format!("{good},metacopy=maybe"), "metacopy"),
        (
            format!("upperdir={upper},workdir={work}"),
            "lowerdir is missing",
        ),
    ];
    let helper = helper(&ply);
    for (options, words) in &cases {
        let output = ply.run(&["mount", "-o", options, &at]);
        output.fails(1, words);
        assert_eq!(output.err.lines().count(), 1, "{output:?}");
        let output = Command::new(&helper).args(["-o", options, &at]).output();
        let output = tests::Output::from(output.expect("the helper"));
        output.fails(1, words);
        assert_eq!(output.err.lines().count(), 1, "{output:?}");
    }
    assert_eq!(fs::read_dir(&directories.work).expect("work").count(), 0);
    let plain = ply.directory("plain");
    let mounted = Command::new("mount")
        .args(["-t", "ramfs", "none"])
        .arg(&plain)
        .status();
    assert!(mounted.expect("mount").success());
    let (upper, work) = (plain.join("upper"), plain.join("work"));
    fs::create_dir(&upper)
        .and_then(|()| fs::create_dir(&work))
        .expect("directories");
    let (upper, named) = (upper.display(), work.display());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={named}");
    let refused = ply.run(&["mount", "-o", &options, &at]);
    let left = fs::read_dir(&work).expect("work").count();
    let unmounted = Command::new("umount").arg(&plain).status();
    assert!(unmounted.expect("umount").success());
    refused.fails(1, "keeps no extended attributes");
    assert_eq!(left, 0);
    let missing = ply.run(&["mount", "-o", &good, "/nowhere"]);
    missing.fails(1, "cannot mount on /nowhere: no such file or directory");
    ply.run(&["mount", "-o", &good, &at]).ok();
    let other = ply.directory("other").display().to_string();
    ply.run(&["mount", "-o", &good, &other])
        .fails(1, "in use by another mount");
    ply.run(&["umount", &at]).ok();
}

/// Returns the program under its name as a helper of mount(8).
fn helper(ply: &Ply) -> PathBuf {
    let helper = ply.path("mount.fuse.layerfs");
    if !helper.exists() {
        std::os::unix::fs::symlink(Ply::program(), &helper).expect("a link");
    }
    helper
}

#[test]
fn a_mount_whose_server_is_killed_is_taken_away_and_nothing_is_lost() {
    let ply = Ply::new();
    let directories = Directories::new(&ply);
    let at = directories.mounted.display().to_string();
    let (options, program) = (directories.options(), Ply::program());
    let mut server = ply
        .command(&["mount", "--foreground", "-o", &options, &at])
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let outside = fs::metadata(ply.path("upper")).expect("the upper").dev();
    eventually("it is mounted", || {
        fs::metadata(&directories.mounted).is_ok_and(|there| there.dev() != outside)
    });
    fs::write(directories.mounted.join("etc/base"), "changed").expect("written");
    fs::remove_file(directories.mounted.join("big")).expect("removed");
    server.kill().expect("killed");
    server.wait().expect("ended");
    assert_eq!(ply.run(&["mount"]).ok().lines().count(), 1);
    assert_eq!(
        fs::read_dir(&directories.mounted)
            .expect("a directory")
            .count(),
        0
    );
    directories.with(&ply, Union::Ply, |root| {
        assert_eq!(fs::read(root.join("etc/base")).expect("read"), b"changed");
        assert!(!root.join("big").exists());
    });
}

/// Podman with a storage of its own.
struct Podman {
    directory: PathBuf,
}

impl Podman {
    fn new(directory: PathBuf) -> Podman {
        Podman { directory }
    }

    /// Says what makes its unions: a program, or the kernel.
    fn mounts_with(&self, program: Option<&Path>) {
        let root = self.directory.display();
        let program = program.map(|path| format!("mount_program = \"{}\"\n", path.display()));
        let config = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{root}/root\"\nrunroot = \"{root}/run\"\n\
             [storage.options.overlay]\nmountopt = \"nodev\"\n{}",
            program.unwrap_or_default()
        );
        fs::write(self.directory.join("storage.conf"), config).expect("written");
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new("podman")
            .args(["--runtime", "runc"])
            .args(arguments)
            .env(
                "CONTAINERS_STORAGE_CONF",
                self.directory.join("storage.conf"),
            )
            .output();
        let output = tests::Output::from(output.expect("podman is installed"));
        output.ok().to_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.run(&["rm", "-af"]);
        for mounted in ["root/overlay", "run/overlay-containers"] {
            let _ = Command::new("umount")
                .args(["-q", "-l"])
                .arg(self.directory.join(mounted))
                .status();
        }
    }
}

#[test]
fn podman_runs_and_builds_with_it_as_its_mount_program() {
    let ply = Ply::new();
    let podman = Podman::new(ply.directory("podman"));
    podman.mounts_with(Some(&helper(&ply)));
    // Without CAP_SYS_RESOURCE its own limits cannot be set.
    let limits = [
        "--ulimit",
        "nofile=1024:1024",
        "--ulimit",
        "nproc=1000:1000",
        "--network",
        "none",
    ];
    let run = |before: &[&str], after: &[&str]| podman.run(&[before, &limits, after].concat());
    let tar = tests::busybox_tar().display().to_string();
    podman.run(&["import", &tar, "busybox"]);
    let script =
        "grep ' / ' /proc/mounts; rm /bin/vi; mkdir -p /a/b; echo x > /a/b/c; mv /a /moved";
    let mounts = run(
        &["run"],
        &["--name", "first", "busybox", "sh", "-ec", script],
    );
    assert!(mounts.contains("fuse.layerfs"), "{mounts}");
    let changes = podman.run(&["diff", "first"]);
    assert!(
        changes.contains("D /bin/vi") && changes.contains("A /moved/b/c"),
        "{changes}"
    );
    podman.run(&["commit", "first", "second"]);
    let script = "cat /moved/b/c; test ! -e /bin/vi; test ! -e /a";
    assert_eq!(run(&["run", "--rm"], &["second", "sh", "-ec", script]), "x");
    let context = ply.directory("context");
    let dockerfile = "FROM localhost/second\nRUN rm -r /moved && mkdir /moved && echo one > /moved/one && ln /moved/one /two\n\
         COPY Dockerfile /etc/\nRUN rm /bin/wget && mv /moved /again && chmod 600 /again/one\n\
         CMD cat /again/one && cat /two && ls /again\n";
    fs::write(context.join("Dockerfile"), dockerfile).expect("written");
    run(&["build"], &["-t", "built", &context.display().to_string()]);
    assert_eq!(run(&["run", "--rm"], &["built"]), "one\none\none");
    // What it wrote is read by the kernel.
    podman.mounts_with(None);
    assert_eq!(run(&["run", "--rm"], &["built"]), "one\none\none");
}
