//! `build` with what is elsewhere: files and archives by address, git repositories, contexts that come over the network or
//! the standard input.

use std::fs;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use nix::sys::signal::Signal;
use tests::Output;
use tests::Ply;
use tests::Web;
use tests::must;

const DATE: &str = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

fn build(ply: &Ply, dockerfile: &str, more: &[&str]) -> Output {
    let context = ply.directory("context");
    fs::write(context.join("Dockerfile"), dockerfile).expect("a Dockerfile");
    let context = context.to_string_lossy();
    ply.run(
        &[
            &["build", "-t", "made", "--network", "none"],
            more,
            &[&context],
        ]
        .concat(),
    )
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
        .env("HOME", directory)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .status()
        .expect("bash runs");
    assert!(status.success());
}

/// Returns a tar of a directory with two files, plain or compressed by `filter`.
fn archive(ply: &Ply, filter: &str) -> Vec<u8> {
    let directory = ply.directory("packed");
    fs::create_dir_all(directory.join("in")).expect("a directory");
    fs::write(directory.join("in/file"), "packed\n").expect("a file");
    let dockerfile = "FROM busybox\nCOPY in /in\nARG A=no\nRUN echo $A > /arg\n";
    fs::write(directory.join("Dockerfile"), dockerfile).expect("a file");
    let other = "FROM busybox\nCOPY in/file /other\n";
    fs::write(directory.join("in/Other"), other).expect("a file");
    let path = ply.path("archive");
    script(
        &directory,
        &format!("tar -c . | {filter} > {}", path.display()),
    );
    fs::read(path).expect("an archive")
}

#[test]
fn what_an_address_gives_is_added_as_it_came() {
    let (ply, web) = (Ply::with_busybox(), Web::start());
    web.put("/plain.txt", DATE, "plain\n");
    web.put("/arch.tar.gz", DATE, archive(&ply, "gzip"));
    web.put("/dateless", "", "x");
    web.put(
        "/dir/",
        "Content-Disposition: attachment; filename=\"stated.txt\"\r\n",
        "y",
    );
    web.put("/", "", "z");
    web.redirect("/moved", "/plain.txt");
    let url = |path: &str| web.url(path);
    let dockerfile = format!(
        "FROM busybox\nARG NAME=plain\nADD {base}$NAME.txt {base}moved {base}arch.tar.gz {base}dir/ /d/\n\
         ADD {base}plain.txt?query=/of/it /named\nADD --chmod=751 --chown=33:50 {base}plain.txt /owned\n\
         ADD {base}dateless /dateless\nADD {base} /root-of-it\nADD --unpack=true {base}arch.tar.gz /u/\n",
        base = url("/")
    );
    build(&ply, &dockerfile, &[]).ok();
    let seen = said(
        &ply,
        "cd /; stat -c '%a %u:%g %Y %n' d/* named owned dateless root-of-it; cat d/plain.txt d/moved d/stated.txt; echo; \
         cat u/in/file; tar tzf d/arch.tar.gz | grep -c in/file",
    );
    let date = 784_111_777;
    let expected = format!(
        "600 0:0 {date} d/arch.tar.gz\n600 0:0 {date} d/moved\n600 0:0 {date} d/plain.txt\n600 0:0 0 d/stated.txt\n\
         600 0:0 {date} named\n751 33:50 {date} owned\n600 0:0 0 dateless\n600 0:0 0 root-of-it\nplain\nplain\ny\npacked\n1"
    );
    assert_eq!(seen, expected);
    // What is the same again comes from the cache, whatever its time; another byte does not.
    let again = |ply: &Ply| {
        build(ply, &dockerfile, &[])
            .ok()
            .matches("Using cache")
            .count()
    };
    web.put("/dateless", DATE, "x");
    assert_eq!(again(&ply), 7);
    web.put("/dateless", "", "w");
    assert_eq!(again(&ply), 4);
    assert_eq!(said(&ply, "cat /dateless"), "w");
    let nameless = format!("FROM busybox\nADD {} /d/\n", url("/"));
    build(&ply, &nameless, &[]).fails(1, "cannot determine filename");
    assert!(web.asked().iter().any(|path| path == "/moved"));
}

#[test]
fn a_fetched_file_is_the_one_that_was_meant_or_none() {
    let (ply, web) = (Ply::with_busybox(), Web::start());
    web.put("/f", DATE, "right\n");
    let right = "d7a7044c55dee1c6f2a3ff60f98ffa6fabb26e39d8d9f4a3f1b7dab7e3a8a7b4";
    let digest = must(
        "bash",
        &["-c", "printf 'right\\n' | sha256sum | cut -d' ' -f1"],
    );
    let digest = digest.trim();
    assert_ne!(digest, right);
    let add = |checksum: &str, sources: &str| {
        format!("FROM busybox\nARG SUM={checksum}\nADD --checksum=$SUM {sources} /\n")
    };
    let url = web.url("/f");
    build(&ply, &add(&format!("sha256:{digest}"), &url), &[]).ok();
    assert_eq!(said(&ply, "cat /f"), "right");
    fs::write(ply.directory("context").join("here"), "x").expect("a file");
    let here = "checksum can't be specified for multiple or local sources";
    for (checksum, sources, words) in [
        (format!("sha256:{right}"), url.clone(), right),
        ("nonsense".to_owned(), url.clone(), "nonsense"),
        (format!("sha256:{digest}"), format!("{url} {url}"), here),
        (format!("sha256:{digest}"), "here".to_owned(), here),
    ] {
        build(&ply, &add(&checksum, &sources), &[]).fails(1, words);
    }
    for (url, words) in [
        (web.url("/none"), "404"),
        ("http://127.0.0.1:1/x".to_owned(), "127.0.0.1:1"),
    ] {
        let failed = build(&ply, &format!("FROM busybox\nADD {url} /\n"), &[]);
        failed.fails(1, words);
        assert!(failed.err.contains("--> Dockerfile:2: ADD"), "{failed:?}");
    }
    assert_eq!(ply.leftovers(), Vec::<String>::new());
}

#[test]
fn a_context_comes_by_address_or_by_standard_input() {
    let (ply, web) = (Ply::with_busybox(), Web::start());
    let compressions = ["cat", "gzip", "bzip2", "xz", "zstd -q"];
    for filter in compressions {
        let tar = archive(&ply, filter);
        let build = ["build", "-t", "made", "--network", "none", "--build-arg"];
        web.put("/context", "", tar.clone());
        ply.run(&[&build[..], &["A=web", &web.url("/context")]].concat())
            .ok();
        assert_eq!(said(&ply, "cat /arg /in/file"), "web\npacked", "{filter}");
        // From a pipe, and from a file.
        ply.run_with(&[&build[..], &["A=pipe", "-"]].concat(), &tar)
            .ok();
        assert_eq!(said(&ply, "cat /arg /in/file"), "pipe\npacked", "{filter}");
        let mut command = ply.command(&[&build[..], &["A=file", "-"]].concat());
        let file = fs::File::open(ply.path("archive")).expect("the archive");
        let output = command.stdin(file).output().expect("ply runs");
        Output::from(output).ok();
        assert_eq!(said(&ply, "cat /arg /in/file"), "file\npacked", "{filter}");
    }
    let other = ["build", "-t", "made", "-f", "in/Other"];
    ply.run(&[&other[..], &[&web.url("/context")]].concat())
        .ok();
    assert_eq!(said(&ply, "cat /other"), "packed");
    ply.run_with(&[&other[..], &["-"]].concat(), &archive(&ply, "gzip"))
        .ok();
    // Its ignore file counts.
    fs::write(ply.path("packed/.dockerignore"), "in/file\n").expect("a file");
    web.put("/context", "", archive(&ply, "gzip"));
    ply.run(&[&other[..], &[&web.url("/context")]].concat())
        .fails(1, "stat in/file: file does not exist");
    // A Dockerfile alone.
    web.put("/Dockerfile", "", "FROM busybox\nRUN echo alone > /alone\n");
    ply.run(&[
        "build",
        "-t",
        "made",
        "--network",
        "none",
        &web.url("/Dockerfile"),
    ])
    .ok();
    assert_eq!(said(&ply, "cat /alone"), "alone");
    ply.run(&["build", &web.url("/none")])
        .fails(1, "unable to prepare context");
    let cut = archive(&ply, "gzip");
    web.put("/cut", "", &cut[..cut.len() / 2]);
    ply.run(&["build", &web.url("/cut")]).fails(1, "");
}

#[test]
fn a_further_context_comes_by_address() {
    let (ply, web) = (Ply::with_busybox(), Web::start());
    web.put("/context", "", archive(&ply, "xz"));
    let named = format!("more={}", web.url("/context"));
    let dockerfile = "FROM busybox\nCOPY --from=more in/file /got\n";
    build(&ply, dockerfile, &["--build-context", &named]).ok();
    assert_eq!(said(&ply, "cat /got"), "packed");
}

/// `git daemon` over a directory of repositories; it ends with this.
struct GitDaemon {
    child: Child,
    port: u16,
}

impl GitDaemon {
    fn over(directory: &Path) -> GitDaemon {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let programs = PathBuf::from(must("git", &["--exec-path"]).trim());
        let mut command = Command::new(programs.join("git-daemon"));
        command
            .args(["--export-all", "--reuseaddr", "--listen=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", directory.display()))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            // Whoever runs the tests may not own what they make.
            .env("HOME", directory);
        let child = tests::end_with_this_thread(&mut command)
            .spawn()
            .expect("git is installed");
        tests::eventually("git daemon is up", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        GitDaemon { child, port }
    }

    fn url(&self, rest: &str) -> String {
        format!("git://127.0.0.1:{}/{rest}", self.port)
    }
}

impl Drop for GitDaemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a repository with a tag, a branch and directories, and one that has it as a submodule.
const REPOSITORIES: &str = r#"
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
git init -q -b main work
cd work
mkdir dir
echo one > dir/file
chmod 755 dir/file
echo 'FROM busybox
COPY file /file' > dir/Dockerfile
ln -s dir led
ln -s /etc out
git add .
git commit -qm one
git tag v1
echo two > dir/file
git commit -qam two
git checkout -q -b other
echo three > dir/file
git commit -qam three
git checkout -q main
cd ..
git clone -q --bare work repo.git
git -C repo.git update-server-info
"#;

#[test]
fn a_git_repository_is_added_as_it_is_at_a_commit() {
    let ply = Ply::with_busybox();
    let repositories = ply.directory("git");
    script(&repositories, REPOSITORIES);
    let daemon = GitDaemon::over(&repositories);
    let url = daemon.url("repo.git");
    let commit = |name: &str| {
        let path = repositories.join("repo.git").display().to_string();
        let id = must(
            "git",
            &["-c", "safe.directory=*", "-C", &path, "rev-parse", name],
        );
        id.trim().to_owned()
    };
    let dockerfile = format!(
        "FROM busybox\nADD {url} /head/\nADD {url}#v1 /tag\nADD {url}#other:dir /branch\nADD {url}#{id}:led /id\n\
         ADD --keep-git-dir=true --chown=33:50 {url} /kept\nADD --checksum={id} {url}#v1 /checked\n",
        id = commit("v1")
    );
    build(&ply, &dockerfile, &[]).ok();
    let seen = said(
        &ply,
        "cat /head/dir/file /tag/dir/file /branch/file /id/file /kept/dir/file /checked/dir/file; stat -c '%a %u:%g' \
         /head/dir/file /kept/dir/file; ls -A /head; ls -d /head/.git /kept/.git 2>/dev/null; true",
    );
    assert_eq!(
        seen,
        "two\none\nthree\none\ntwo\none\n755 0:0\n755 33:50\ndir\nled\nout\n/kept/.git"
    );
    let other = commit("other");
    for (source, words) in [
        (format!("--checksum={other} {url}#v1"), &*other),
        (format!("{url}#nosuch"), "nosuch"),
        (format!("{url}#v1:nosuch"), "nosuch"),
        (format!("{url}#v1:../.."), "invalid subdirectory"),
        (format!("{url}#v1:out/ssl"), "out/ssl"),
        (format!("{url}#--upload-pack=x"), "invalid repository"),
        // Nothing of the host's.
        (
            format!("git+file://{}", repositories.join("repo.git").display()),
            "file not found in build context",
        ),
    ] {
        build(&ply, &format!("FROM busybox\nADD {source} /x/\n"), &[]).fails(1, words);
    }
    assert_eq!(ply.leftovers(), Vec::<String>::new());
}

#[test]
fn a_repository_of_plain_files_is_fetched_too() {
    let (ply, web) = (Ply::with_busybox(), Web::start());
    let repositories = ply.directory("git");
    script(&repositories, REPOSITORIES);
    let listed = must(
        "find",
        &[
            &repositories.join("repo.git").display().to_string(),
            "-type",
            "f",
        ],
    );
    for path in listed.lines() {
        let below = path
            .strip_prefix(&*repositories.to_string_lossy())
            .expect("below");
        web.put(below, "", fs::read(path).expect("a file"));
    }
    let url = web.url("/repo.git");
    build(
        &ply,
        &format!("FROM busybox\nADD {url} /head/\nADD {url}#v1:dir /tag\n"),
        &[],
    )
    .ok();
    assert_eq!(said(&ply, "cat /head/dir/file /tag/file"), "two\none");
}

#[test]
fn a_context_is_a_directory_of_a_repository() {
    let ply = Ply::with_busybox();
    let repositories = ply.directory("git");
    script(&repositories, REPOSITORIES);
    let daemon = GitDaemon::over(&repositories);
    for (fragment, expected) in [
        ("#:dir", "two"),
        ("#v1:dir", "one"),
        ("#other:led", "three"),
    ] {
        let context = format!("{}{fragment}", daemon.url("repo.git"));
        ply.run(&["build", "-t", "made", "--network", "none", &context])
            .ok();
        assert_eq!(said(&ply, "cat /file"), expected, "{fragment}");
    }
    let named = format!("more={}#v1", daemon.url("repo.git"));
    build(
        &ply,
        "FROM busybox\nCOPY --from=more dir/file /f\n",
        &["--build-context", &named],
    )
    .ok();
    assert_eq!(said(&ply, "cat /f"), "one");
    ply.run(&["build", &daemon.url("repo.git")])
        .fails(1, "failed to read dockerfile");
    ply.run(&["build", &daemon.url("none.git")])
        .fails(1, "unable to prepare context");
}

#[test]
fn a_repository_s_modules_come_with_it_and_not_from_the_host() {
    let ply = Ply::with_busybox();
    let repositories = ply.directory("git");
    script(&repositories, REPOSITORIES);
    let daemon = GitDaemon::over(&repositories);
    let local = format!("file://{}", repositories.join("repo.git").display());
    for (name, url) in [("good", daemon.url("repo.git")), ("bad", local)] {
        let text = format!(
            "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b\n\
             git init -q -b main {name}-work; cd {name}-work; git -c protocol.file.allow=always submodule -q add {url} \
             module; git commit -qm module; cd ..; git clone -q --bare {name}-work {name}.git"
        );
        script(&repositories, &text);
    }
    build(
        &ply,
        &format!("FROM busybox\nADD {} /x/\n", daemon.url("good.git")),
        &[],
    )
    .ok();
    assert_eq!(said(&ply, "cat /x/module/dir/file"), "two");
    build(
        &ply,
        &format!("FROM busybox\nADD {} /x/\n", daemon.url("bad.git")),
        &[],
    )
    .fails(1, "'file' not allowed");
}

#[test]
fn a_build_that_is_killed_while_it_fetches_leaves_nothing() {
    let ply = Ply::with_busybox();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let context = ply.directory("context");
    for source in [
        format!("http://{address}/file"),
        format!("git://{address}/a"),
        format!("http://{address}/a.git"),
    ] {
        for signal in [Signal::SIGKILL, Signal::SIGINT] {
            let dockerfile = format!("FROM busybox\nADD {source} /x/\n");
            fs::write(context.join("Dockerfile"), dockerfile).expect("a Dockerfile");
            let mut command = ply.command(&["build", "context"]);
            let mut child = tests::interruptible(&mut command)
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("ply runs");
            // It is in the middle of it now.
            let asking = silent.accept().expect("a client");
            let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
            nix::sys::signal::kill(pid, signal).expect("killed");
            child.wait().expect("it ends");
            // A helper of git's that nobody tells of it waits for its server, at most a minute.
            drop(asking);
            tests::eventually("nothing is left", || {
                ply.run(&["ps"]).ok();
                ply.leftovers().is_empty()
            });
        }
    }
}
