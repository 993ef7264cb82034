//! Docker's own command line on `ply serve`, and the same stories on Docker's own daemon: what is asserted is Docker's.

use std::io::Read as _;
use std::io::Write as _;
use std::net::Shutdown;

use tests::Output;
use tests::Ply;
use tests::Registry;
use tests::Server;
use tests::Terminal;
use tests::eventually;

/// A story that is told to both engines. Both have `busybox`; names are free.
fn on_both(story: fn(&Server)) {
    let ply = Ply::with_busybox();
    let server = Server::start(&ply);
    story(&server);
    drop(server);
    let dockerd = Server::of_docker();
    story(&dockerd);
}

#[track_caller]
fn fails(output: &Output, code: i32, words: &str) {
    output.fails(code, words);
}

/// `run`, `exec`, `logs`, the lifecycle and its errors, files both ways.
fn life_of_containers(server: &Server) {
    let docker = |arguments: &[&str]| server.docker(arguments);
    let run = ["run", "--rm", "--network", "none"];
    let run = |arguments: &[&str]| docker(&[&run, arguments].concat());

    let said = run(&["busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!(
        (said.code, said.out.as_str(), said.err.as_str()),
        (3, "out\n", "err\n")
    );
    let echoed = server.docker_with(
        &["run", "-i", "--rm", "--network", "none", "busybox", "cat"],
        b"from the client\n",
    );
    assert_eq!(echoed.ok(), "from the client");
    let missing = run(&["busybox", "nosuchcommand"]);
    fails(
        &missing,
        127,
        "\"nosuchcommand\": executable file not found in $PATH",
    );

    let script = "trap 'exit 0' TERM; echo one; echo two >&2; while :; do sleep 0.05; done";
    docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "life",
        "busybox",
        "sh",
        "-c",
        script,
    ])
    .ok();
    eventually("both lines are in the log", || {
        let logs = docker(&["logs", "life"]);
        logs.out == "one\n" && logs.err == "two\n"
    });
    assert_eq!(docker(&["logs", "--tail", "1", "life"]).code, 0);
    assert_eq!(
        docker(&["ps", "--format", "{{.Names}} {{.State}}"]).ok(),
        "life running"
    );
    let taken = docker(&["create", "--name", "life", "busybox"]);
    fails(
        &taken,
        1,
        "Conflict. The container name \"/life\" is already in use",
    );

    assert_eq!(docker(&["exec", "life", "echo", "inside"]).ok(), "inside");
    assert_eq!(docker(&["exec", "life", "sh", "-c", "exit 7"]).code, 7);
    let passed = server.docker_with(&["exec", "-i", "life", "cat"], b"through");
    assert_eq!(passed.ok(), "through");
    let missing = docker(&["exec", "life", "nosuchcommand"]);
    assert!([126, 127].contains(&missing.code), "{missing:?}");
    assert!(
        missing.out.contains("executable file not found in $PATH"),
        "{missing:?}"
    );
    fails(
        &docker(&["exec", "nosuch", "true"]),
        1,
        "No such container: nosuch",
    );

    let files = tempfile::tempdir().expect("a directory");
    let path = |name: &str| files.path().join(name).to_string_lossy().into_owned();
    std::fs::write(files.path().join("sent"), "content").expect("written");
    docker(&["cp", &path("sent"), "life:/tmp/there"]).ok();
    assert_eq!(
        docker(&["exec", "life", "cat", "/tmp/there"]).ok(),
        "content"
    );
    docker(&["cp", "life:/tmp", &path("back")]).ok();
    assert_eq!(
        std::fs::read_to_string(files.path().join("back/there")).expect("a file"),
        "content"
    );
    fails(
        &docker(&["cp", "life:/no/such", &path("x")]),
        1,
        "Could not find the file /no/such in container life",
    );
    assert!(docker(&["diff", "life"]).ok().contains("A /tmp/there"));

    docker(&["pause", "life"]).ok();
    fails(
        &docker(&["exec", "life", "true"]),
        1,
        "is paused, unpause the container",
    );
    fails(&docker(&["pause", "life"]), 1, "is already paused");
    docker(&["unpause", "life"]).ok();
    docker(&["rename", "life", "lives"]).ok();
    fails(&docker(&["rm", "lives"]), 1, "cannot remove");
    docker(&["stop", "lives"]).ok();
    assert_eq!(
        docker(&["inspect", "-f", "{{.State.ExitCode}}", "lives"]).ok(),
        "0"
    );
    assert_eq!(docker(&["wait", "lives"]).ok(), "0");
    fails(&docker(&["kill", "lives"]), 1, "is not running");
    docker(&["start", "lives"]).ok();
    docker(&["kill", "-s", "KILL", "lives"]).ok();
    eventually("it has ended", || docker(&["ps", "-q"]).ok().is_empty());
    assert_eq!(docker(&["wait", "lives"]).ok(), "137");
    docker(&["rm", "lives"]).ok();
    fails(&docker(&["inspect", "lives"]), 1, "No such object: lives");
}

#[test]
fn docker_s_client_leads_containers_through_their_life() {
    on_both(life_of_containers);
}

/// Names, archives and histories of images.
fn images_and_volumes(server: &Server) {
    let docker = |arguments: &[&str]| server.docker(arguments);
    docker(&["tag", "busybox", "other:1"]).ok();
    let listed = docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let mut names: Vec<&str> = listed.ok().lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["busybox:latest", "other:1"]);
    assert!(
        docker(&["rmi", "other:1"])
            .ok()
            .contains("Untagged: other:1")
    );
    fails(&docker(&["rmi", "other:1"]), 1, "No such image: other:1");
    let container = docker(&["create", "--network", "none", "busybox", "true"]);
    let container = container.ok().to_owned();
    docker(&["commit", "-c", "ENV A=b", "-m", "why", &container, "made"]).ok();
    let env = docker(&["image", "inspect", "-f", "{{json .Config.Env}}", "made"]);
    assert!(env.ok().contains("\"A=b\""), "{env:?}");
    assert!(docker(&["history", "made"]).ok().contains("why"));
    docker(&["rm", &container]).ok();

    let files = tempfile::tempdir().expect("a directory");
    let archive = files.path().join("made.tar").to_string_lossy().into_owned();
    docker(&["save", "-o", &archive, "made"]).ok();
    docker(&["rmi", "made"]).ok();
    assert_eq!(
        docker(&["load", "-i", &archive]).ok(),
        "Loaded image: made:latest"
    );

    assert_eq!(docker(&["volume", "create", "kept"]).ok(), "kept");
    let with_volume = [
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        "kept:/data",
        "made",
    ];
    docker(&[&with_volume[..], &["sh", "-c", "echo x > /data/f"]].concat()).ok();
    let read = docker(&[&with_volume[..], &["cat", "/data/f"]].concat());
    assert_eq!(read.ok(), "x");
    fails(
        &docker(&["volume", "rm", "nosuch"]),
        1,
        "nosuch: no such volume",
    );
    docker(&["volume", "rm", "kept"]).ok();
    docker(&["rmi", "made"]).ok();
}

#[test]
fn docker_s_client_handles_images_and_volumes() {
    on_both(images_and_volumes);
}

/// Networks, names on them, published ports, and what is refused.
fn networks_and_ports(server: &Server) {
    let docker = |arguments: &[&str]| server.docker(arguments);
    let port = tests::free_port();
    let id = docker(&[
        "network",
        "create",
        "--subnet",
        "10.213.7.0/24",
        "--label",
        "a=b",
        "told",
    ]);
    assert_eq!(id.ok().len(), 64, "{id:?}");
    let format = "{{.Name}} {{.Driver}} {{.Scope}}";
    let list = |filter: &str| docker(&["network", "ls", "--filter", filter, "--format", format]);
    assert_eq!(list("name=told").ok(), "told bridge local");
    assert_eq!(list("label=a=b").ok(), "told bridge local");
    let serve = "mkdir /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www";
    let publish = format!("127.0.0.1:{port}:80");
    let run = ["run", "-d", "--network", "told", "--name"];
    let served = ["busybox", "sh", "-c", serve];
    let web = ["web", "--network-alias", "www", "-p", &publish];
    docker(&[&run[..], &web, &served].concat()).ok();
    let fetch = |name: &str| {
        let url = format!("http://{name}/");
        let wget = ["busybox", "timeout", "20", "wget", "-q", "-O", "-", &url];
        docker(&[&["run", "--rm", "--network", "told"], &wget[..]].concat())
    };
    eventually("it serves", || fetch("10.213.7.2").out == "served\n");
    for name in ["web", "www"] {
        assert_eq!(fetch(name).ok(), "served", "{name}");
    }
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("the port leads in");
    stream
        .write_all(b"GET / HTTP/1.0\r\n\r\n")
        .expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    assert!(answer.ends_with("served\n"), "{answer}");
    let shown = format!("127.0.0.1:{port}");
    assert_eq!(docker(&["port", "web", "80"]).ok(), shown);
    assert_eq!(
        docker(&["ps", "--format", "{{.Ports}}"]).ok(),
        format!("{shown}->80/tcp")
    );
    let address = "{{(index .NetworkSettings.Networks \"told\").IPAddress}}";
    assert_eq!(
        docker(&["inspect", "-f", address, "web"]).ok(),
        "10.213.7.2"
    );
    let users = "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}";
    assert_eq!(
        docker(&["network", "inspect", "-f", users, "told"]).ok(),
        "web 10.213.7.2/24"
    );

    docker(&["network", "create", "--subnet", "10.213.8.0/24", "other"]).ok();
    docker(&["network", "connect", "--ip", "10.213.8.77", "other", "web"]).ok();
    let networks = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
    let networks = || {
        let names = docker(&["inspect", "-f", networks, "web"]);
        names.ok().trim().to_owned()
    };
    assert_eq!(networks(), "other told");
    let addresses = docker(&["exec", "web", "ip", "-4", "addr"]);
    assert!(addresses.ok().contains("10.213.8.77/24"), "{addresses:?}");
    fails(
        &docker(&["network", "connect", "other", "web"]),
        1,
        "endpoint with name web already exists in network other",
    );
    docker(&["network", "disconnect", "other", "web"]).ok();
    assert_eq!(networks(), "told");

    for (arguments, code, words) in [
        (
            &["network", "create", "told"][..],
            1,
            "network with name told already exists",
        ),
        (&["network", "rm", "told"], 1, "has active endpoints"),
        (
            &["network", "rm", "none"],
            1,
            "none is a pre-defined network and cannot be removed",
        ),
        (
            &["network", "create", "none"],
            1,
            "operation is not permitted on predefined none network",
        ),
        (&["network", "inspect", "nosuch"], 1, "nosuch not found"),
        (
            &["network", "connect", "nosuch", "web"],
            1,
            "network nosuch not found",
        ),
        (
            &["network", "create", "--subnet", "10.213.7.128/25", "more"],
            1,
            "Pool overlaps with other one on this address space",
        ),
        (
            &["run", "--rm", "--network", "nosuch", "busybox", "true"],
            125,
            "network nosuch not found",
        ),
        (
            &[
                "run",
                "--rm",
                "-p",
                &publish,
                "--network",
                "told",
                "busybox",
                "true",
            ],
            125,
            "port is already allocated",
        ),
    ] {
        fails(&docker(arguments), code, words);
    }
    docker(&["rm", "-f", "web"]).ok();
    let pruned = docker(&["network", "prune", "-f"]);
    let mut pruned: Vec<&str> = pruned.ok().lines().collect();
    pruned.sort_unstable();
    assert_eq!(pruned, ["Deleted Networks:", "other", "told"]);
    assert_eq!(
        docker(&["ps", "-aq"]).ok(),
        "",
        "a failed run leaves nothing"
    );
}

#[test]
fn docker_s_client_makes_networks_and_publishes_ports() {
    on_both(networks_and_ports);
}

const DOCKERFILE: &str = "\
FROM busybox AS base
ARG WHO=nobody
COPY --chown=7:8 *.txt /files/
RUN echo \"for $WHO\" > /made && echo said
FROM base
LABEL of=file
WORKDIR /files
CMD [\"cat\", \"/made\", \"a.txt\"]
";

/// Builds in the classic way: steps, the cache, failures with their codes, a Dockerfile from elsewhere.
fn builds(server: &Server) {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).expect("written");
    };
    write("Dockerfile", DOCKERFILE);
    write("a.txt", "content\n");
    write("b.txt", "left out\n");
    write(".dockerignore", "b.*\n");
    let path = directory.path().to_string_lossy().into_owned();
    let docker = |arguments: &[&str]| server.docker(arguments);
    let build = |arguments: &[&str]| docker(&[&["build"], arguments, &[&path]].concat());
    let arguments = ["-t", "built:1", "--build-arg", "WHO=me", "--label", "x=y"];
    let built = build(&arguments);
    let said = built.ok();
    for words in [
        "Step 1/9 : FROM busybox AS base\n",
        " ---> Running in ",
        "\nsaid\n",
        "Step 9/9 : LABEL x=y\n",
        "\nSuccessfully built ",
        "\nSuccessfully tagged built:1",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let run = ["run", "--rm", "--network", "none", "built:1"];
    assert_eq!(docker(&run).ok(), "for me\ncontent");
    let listed = docker(&[&run[..], &["ls", "-ln", "/files"]].concat());
    assert!(
        listed.ok().contains(" 7 ") && !listed.out.contains("b.txt"),
        "{listed:?}"
    );
    let labels = docker(&[
        "image",
        "inspect",
        "-f",
        "{{json .Config.Labels}}",
        "built:1",
    ]);
    assert_eq!(labels.ok(), r#"{"of":"file","x":"y"}"#);
    let again = build(&arguments);
    assert!(!again.ok().contains("Running in") && again.out.contains(" ---> Using cache"));
    let quiet = build(&[&["-q"], &arguments[..]].concat());
    let id = docker(&["image", "inspect", "-f", "{{.Id}}", "built:1"]);
    assert_eq!(quiet.ok(), id.ok());
    let base = build(&["-q", "--target", "base"]);
    let command = docker(&["image", "inspect", "-f", "{{json .Config.Cmd}}", base.ok()]);
    assert_eq!(command.ok(), r#"["sh"]"#);

    write("Failing", "FROM busybox\nRUN echo before; exit 3\n");
    let failing = directory.path().join("Failing");
    let failing = failing.to_string_lossy();
    let failed = build(&["-f", &failing]);
    fails(
        &failed,
        3,
        "The command '/bin/sh -c echo before; exit 3' returned a non-zero code: 3",
    );
    assert!(failed.out.contains("\nbefore\n"), "{failed:?}");
    let failed = build(&["-q", "-f", &failing]);
    assert!(
        failed.code == 3 && format!("{failed:?}").contains("before"),
        "{failed:?}"
    );
    let from_stdin = |text: &str| server.docker_with(&["build", "-"], text.as_bytes());
    fails(&from_stdin("NOSUCH x\n"), 1, "unknown instruction: NOSUCH");
    let copying = from_stdin("FROM busybox\nCOPY missing /\n");
    fails(&copying, 1, "COPY failed");
    let alone = from_stdin("FROM busybox\nENV A=b\n");
    assert!(alone.ok().contains("Step 2/2 : ENV A=b"), "{alone:?}");
    assert!(docker(&["builder", "prune", "-f"]).ok().contains("Total"));
    docker(&["rmi", "-f", "built:1"]).ok();
}

#[test]
fn docker_s_client_builds_images() {
    on_both(builds);
}

#[test]
fn a_build_ends_when_its_client_goes_and_leaves_nothing() {
    let ply = Ply::with_busybox();
    let server = Server::start(&ply);
    let directory = tempfile::tempdir().expect("a directory");
    let text = "FROM busybox\nRUN echo begun; sleep 1000.25\n";
    std::fs::write(directory.path().join("Dockerfile"), text).expect("written");
    let path = directory.path().to_string_lossy().into_owned();
    let mut client = server
        .client("docker", &["build", &path])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("docker runs");
    let mut said = String::new();
    let mut stdout = std::io::BufReader::new(client.stdout.take().expect("a pipe"));
    while !said.contains("begun") {
        let read = std::io::BufRead::read_line(&mut stdout, &mut said);
        assert!(read.expect("read") > 0, "{said}");
    }
    eventually("the step runs", || tests::is_running("sleep 1000.25"));
    client.kill().expect("killed");
    client.wait().expect("ended");
    eventually("the step has ended", || !tests::is_running("sleep 1000.25"));
    eventually("nothing of it is mounted", || {
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
        !mounts.contains(&ply.root().display().to_string())
    });
}

/// What has no commands in the client: the bare protocol.
fn bare_protocol(server: &Server) {
    let bad = server.ask("GET", "/v1.11/info", "");
    assert!(bad.starts_with("HTTP/1.1 400"), "{bad}");
    assert!(bad.contains("client version 1.11 is too old. Minimum supported API version is 1."));
    let bad = server.ask("GET", "/v1.99/info", "");
    assert!(bad.contains("client version 1.99 is too new. Maximum supported API version is 1."));
    assert!(
        server
            .ask("GET", "/nosuch", "")
            .contains("{\"message\":\"page not found\"}")
    );
    let bad = server.ask("POST", "/v1.41/containers/create", "{");
    assert!(bad.contains("{\"message\":"), "{bad}");
    let missing = server.ask("GET", "/v1.41/containers/nosuch/json", "");
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");
    assert!(missing.contains("{\"message\":\"No such container: nosuch\"}"));
    let swarm = server.ask("GET", "/v1.41/nodes", "");
    assert!(swarm.starts_with("HTTP/1.1 503") && swarm.contains("not a swarm manager"));

    // A half of the connection ends, and the other goes on.
    let script = "cat; echo after; echo error >&2";
    server
        .docker(&[
            "create",
            "-i",
            "--network",
            "none",
            "--name",
            "half",
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .ok();
    let mut attached = server.connect();
    attached
        .write_all(
            b"POST /v1.41/containers/half/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: x\r\n\
              Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n",
        )
        .expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        attached.read_exact(&mut byte).expect("a head");
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{head}");
    assert!(
        head.contains("Content-Type: application/vnd.docker.raw-stream\r\n"),
        "{head}"
    );
    server.docker(&["start", "half"]).ok();
    attached.write_all(b"typed\n").expect("written");
    attached.shutdown(Shutdown::Write).expect("ended");
    let mut frames = Vec::new();
    attached.read_to_end(&mut frames).expect("read");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut rest = &frames[..];
    while let Some((head, after)) = rest.split_at_checked(8) {
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        match head[0] {
            1 => out.extend_from_slice(&after[..length]),
            2 => err.extend_from_slice(&after[..length]),
            other => panic!("a frame of kind {other}"),
        }
        rest = &after[length..];
    }
    assert_eq!(String::from_utf8_lossy(&out), "typed\nafter\n");
    assert_eq!(String::from_utf8_lossy(&err), "error\n");
    server.docker(&["rm", "-f", "half"]).ok();
}

#[test]
fn the_protocol_is_docker_s_to_the_byte() {
    on_both(bare_protocol);
}

#[test]
fn a_terminal_goes_through_the_server() {
    let ply = Ply::with_busybox();
    let server = Server::start(&ply);
    let mut terminal = Terminal::new(31, 97);
    let mut command = server.client("docker", &["run", "-it", "--rm", "busybox", "sh"]);
    let mut child = terminal.spawn(&mut command);
    terminal.type_in("stty size\n", "31 97");
    terminal.type_in("echo $((6*7))\n", "42");
    terminal.type_in("exit 5\n", "");
    assert_eq!(child.wait().expect("ended").code(), Some(5));
}

#[test]
fn ply_and_docker_s_client_work_on_the_same_containers() {
    let ply = Ply::with_busybox();
    let server = Server::start(&ply);
    ply.run(&["run", "-d", "--name", "by-ply", "busybox", "sleep", "1000"])
        .ok();
    server
        .docker(&[
            "run",
            "-d",
            "--name",
            "by-docker",
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    let names = "by-docker\nby-ply";
    assert_eq!(server.docker(&["ps", "--format", "{{.Names}}"]).ok(), names);
    assert_eq!(ply.run(&["ps", "--format", "{{.Names}}"]).ok(), names);
    assert_eq!(server.docker(&["exec", "by-ply", "echo", "x"]).ok(), "x");
    assert_eq!(ply.run(&["exec", "by-docker", "echo", "x"]).ok(), "x");
    // What waits for its start in the server may be started by somebody else.
    server
        .docker(&[
            "create",
            "--name",
            "late",
            "busybox",
            "sh",
            "-c",
            "sleep 0.5; echo late",
        ])
        .ok();
    let mut attached = server.connect();
    attached
        .write_all(
            b"POST /containers/late/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\n\
              Connection: Upgrade\r\n\r\n",
        )
        .expect("written");
    let mut head = [0; 12];
    attached.read_exact(&mut head).expect("a head");
    assert_eq!(&head, b"HTTP/1.1 101");
    ply.run(&["start", "late"]).ok();
    let mut said = String::new();
    attached.read_to_string(&mut said).expect("read");
    assert!(said.ends_with("late\n"), "{said:?}");
    let mut waiter = server.connect();
    waiter
        .write_all(b"POST /containers/by-ply/wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("written");
    let mut head = [0; 12];
    waiter.read_exact(&mut head).expect("a head");
    assert_eq!(&head, b"HTTP/1.1 200");
    ply.run(&["rm", "-f", "by-ply"]).ok();
    let mut said = String::new();
    waiter.read_to_string(&mut said).expect("read");
    assert!(said.contains("\"StatusCode\":137"), "{said:?}");
    server.docker(&["rm", "-f", "by-docker", "late"]).ok();
}

#[test]
fn a_killed_server_touches_no_container_and_the_next_picks_them_up() {
    let ply = Ply::with_busybox();
    let server = Server::start(&ply);
    let script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done";
    server
        .docker(&["run", "-d", "--name", "on", "busybox", "sh", "-c", script])
        .ok();
    let pid = ply.inspect("on", "{{.State.Pid}}");
    server.kill();
    let count = || ply.run(&["logs", "on"]).out.lines().count();
    let before = count();
    eventually("it goes on without a server", || count() > before + 2);
    let mut server = Server::start(&ply);
    assert_eq!(
        server
            .docker(&["inspect", "-f", "{{.State.Pid}}", "on"])
            .ok(),
        pid
    );
    assert_eq!(server.docker(&["exec", "on", "echo", "x"]).ok(), "x");
    server.stop();
    assert!(
        !server.socket().exists(),
        "a server that stops takes its socket away"
    );
    assert_eq!(ply.inspect("on", "{{.State.Status}}"), "running");
}

#[test]
fn the_ends_of_containers_leave_no_dead_processes_in_the_server() {
    let ply = Ply::with_busybox();
    let server = Server::start(&ply);
    for _ in 0..5 {
        server.docker(&["run", "--rm", "busybox", "true"]).ok();
    }
    let children = || {
        server.docker(&["ps"]).ok();
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("tasks");
        let children = tasks.map(|task| {
            let path = task.expect("a task").path().join("children");
            std::fs::read_to_string(path).unwrap_or_default()
        });
        children.collect::<String>()
    };
    eventually("no child is left", || children().is_empty());
}

#[test]
fn images_come_from_and_go_to_a_registry_through_the_server() {
    let ply = Ply::with_busybox();
    let server = Server::start(&ply);
    let registry = Registry::start();
    let name = registry.image("library/box:1");
    server.docker(&["tag", "busybox", &name]).ok();
    let pushed = server.docker(&["push", &name]);
    assert!(pushed.ok().contains("digest: sha256:"), "{pushed:?}");
    server.docker(&["rmi", &name, "busybox"]).ok();
    let pulled = server.docker(&["pull", &name]);
    assert!(
        pulled.ok().contains("Status: Downloaded newer image"),
        "{pulled:?}"
    );
    let ran = server.docker(&["run", "--rm", &name, "echo", "pulled"]);
    assert_eq!(ran.ok(), "pulled");
    let absent = registry.image("library/nosuch:1");
    fails(&server.docker(&["pull", &absent]), 1, "not found");
}

#[test]
fn logs_events_and_stats_are_streamed() {
    let ply = Ply::with_busybox();
    let server = Server::start(&ply);
    let mut events = server
        .client(
            "docker",
            &[
                "events",
                // From the beginning: the client may be slow to ask.
                "--since",
                "1",
                "--format",
                "{{.Action}}",
                "--filter",
                "type=container",
            ],
        )
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("docker");
    let script = "for i in 1 2 3; do echo $i; sleep 0.1; done";
    server
        .docker(&["create", "--name", "said", "busybox", "sh", "-c", script])
        .ok();
    server.docker(&["start", "said"]).ok();
    let followed = server.docker(&["logs", "-f", "said"]);
    assert_eq!(followed.ok(), "1\n2\n3");
    let stamped = server.docker(&["logs", "-t", "--tail", "1", "said"]);
    let (time, text) = stamped.ok().split_once(' ').expect("a time");
    assert!(time.ends_with('Z') && time.len() == 30, "{time}");
    assert_eq!(text, "3");
    server.docker(&["rm", "said"]).ok();
    let wanted = "create\nstart\ndie\ndestroy\n";
    let mut seen = String::new();
    let mut out = events.stdout.take().expect("a pipe");
    while seen.len() < wanted.len() {
        let mut buffer = [0; 256];
        let count = out.read(&mut buffer).expect("read");
        assert!(count > 0, "the stream ended: {seen}");
        seen += &String::from_utf8_lossy(&buffer[..count]);
    }
    assert_eq!(seen, wanted);
    events.kill().expect("killed");
    events.wait().expect("dead");
    server
        .docker(&["run", "-d", "--name", "idle", "busybox", "sleep", "1000"])
        .ok();
    let stats = server.docker(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}"]);
    assert_eq!(stats.ok(), "idle 1");
    assert!(server.docker(&["top", "idle"]).ok().contains("sleep 1000"));
}
