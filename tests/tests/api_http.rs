//! The HTTP surface of `ply serve`: what no client of good will sends, who is let in, and how it is started.

use std::io::Read as _;
use std::io::Write as _;
use std::net::Shutdown;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tests::Ply;
use tests::Server;
use tests::eventually;
use tests::kill_9;
use tests::must;

/// Sends bytes and the end; returns what comes back.
fn exchange(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = server.connect();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("set");
    // A server that has refused reads no further.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no end"),
        _ => answer,
    }
}

/// Returns the statuses of the answers on a connection.
fn statuses(answer: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answer);
    text.match_indices("HTTP/1.1 ")
        .filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok())
        .collect()
}

#[test]
fn requests_follow_each_other_on_a_connection_whatever_becomes_of_them() {
    let ply = Ply::new();
    let server = Server::start(&ply);
    let answer = exchange(
        &server,
        b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\nPOST /containers/create HTTP/1.1\r\nContent-Type: application/json\r\n\
          Transfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n0\r\n\r\nGET /nosuch HTTP/1.1\r\n\r\n\
          POST /containers/x/start HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloHEAD /_ping HTTP/1.1\r\n\r\n",
    );
    assert_eq!(statuses(&answer), [200, 400, 404, 404, 200]);
}

#[test]
fn what_is_no_request_is_refused_and_the_server_goes_on() {
    let ply = Ply::new();
    let server = Server::start(&ply);
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(3 << 20));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
    let huge = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(3 << 20));
    for (bytes, status) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], 400),
        (b"hello\r\n\r\n", 400),
        (long.as_bytes(), 431),
        (many.as_bytes(), 431),
        (huge.as_bytes(), 431),
        (b"GET /%zz HTTP/1.1\r\n\r\n", 400),
        (b"POST /build HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /volumes/create HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /volumes/create HTTP/1.1\r\nContent-Length: 99\r\n\r\n{", 400),
        (b"POST /volumes/create HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 400),
    ] {
        let answer = exchange(&server, bytes);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]);
        assert_eq!(statuses(&answer), [status], "{shown:?}");
        assert!(String::from_utf8_lossy(&answer).contains("{\"message\":"), "{shown:?}");
    }
    let body = format!("{{\"Name\":\"{}\"}}", "x".repeat(9 << 20));
    assert!(
        server
            .ask("POST", "/volumes/create", &body)
            .starts_with("HTTP/1.1 413")
    );
    let deep = "[".repeat(200_000);
    assert!(
        server
            .ask("POST", "/volumes/create", &deep)
            .starts_with("HTTP/1.1 400")
    );
    assert!(server.ask("GET", "/_ping", "").starts_with("HTTP/1.1 200"));
}

/// Anything from noise to requests that are nearly right.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let method = prop_oneof![
        Just("GET"),
        Just("HEAD"),
        Just("POST"),
        Just("PUT"),
        Just("DELETE"),
        Just("OPTIONS"),
        Just("x"),
    ];
    let segment = prop_oneof![
        Just("containers".to_owned()),
        Just("images".to_owned()),
        Just("exec".to_owned()),
        Just("volumes".to_owned()),
        Just("networks".to_owned()),
        Just("json".to_owned()),
        Just("create".to_owned()),
        Just("attach".to_owned()),
        Just("archive".to_owned()),
        Just("logs".to_owned()),
        Just("start".to_owned()),
        Just("prune".to_owned()),
        Just("v1.41".to_owned()),
        Just("..".to_owned()),
        Just("%2e%2e%2f".to_owned()),
        "[a-zA-Z0-9%._:@-]{0,12}",
    ];
    let path =
        prop::collection::vec(segment, 0..5).prop_map(|parts| format!("/{}", parts.join("/")));
    let value = prop_oneof![
        Just("1".to_owned()),
        Just("%7B%22a%22%3A1%7D".to_owned()),
        Just("-1".to_owned()),
        Just("99999999999999999999".to_owned()),
        "[ -~]{0,8}",
    ];
    let name = prop_oneof![
        Just("filters"),
        Just("path"),
        Just("limit"),
        Just("t"),
        Just("fromImage"),
        Just("since"),
        Just("h"),
        Just("condition"),
        Just("tag"),
        Just("x"),
    ];
    let query = prop::collection::vec((name, value), 0..3).prop_map(|pairs| {
        let pairs: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{name}={}", value.replace([' ', '#'], "+")))
            .collect();
        pairs.join("&")
    });
    let body = prop_oneof![
        Just(b"{}".to_vec()),
        Just(b"null".to_vec()),
        Just(
            b"{\"HostConfig\":{\"Memory\":-5,\"Mounts\":[{}]},\"Image\":\"x\",\"Cmd\":\"x\"}"
                .to_vec()
        ),
        Just(b"{\"Name\":1}".to_vec()),
        prop::collection::vec(any::<u8>(), 0..64),
    ];
    let chunked = any::<bool>();
    let whole =
        (method, path, query, body, chunked).prop_map(|(method, path, query, body, chunked)| {
            let framing = match chunked {
                true => "Transfer-Encoding: chunked".to_owned(),
                false => format!("Content-Length: {}", body.len()),
            };
            let mut bytes =
                format!("{method} {path}?{query} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n")
                    .into_bytes();
            if chunked {
                bytes.extend(format!("{:x}\r\n", body.len()).bytes());
                bytes.extend(&body);
                bytes.extend(b"\r\n0\r\n\r\n");
            } else {
                bytes.extend(&body);
            }
            bytes
        });
    let damaged = (whole.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(mut bytes, at, byte)| {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        },
    );
    prop_oneof![
        4 => whole,
        3 => damaged,
        1 => prop::collection::vec(any::<u8>(), 0..512),
    ]
}

#[test]
fn no_request_ends_the_server() {
    let ply = Ply::new();
    let server = Server::start(&ply);
    let config = ProptestConfig {
        cases: std::env::var("PLY_FUZZ_CASES")
            .ok()
            .and_then(|cases| cases.parse().ok())
            .unwrap_or(400),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    TestRunner::new(config)
        .run(&requests(), |bytes| {
            // A stream of events has no end of its own, and a registry is not to be asked.
            let text = String::from_utf8_lossy(&bytes).into_owned();
            prop_assume!(!text.contains("fromImage") && !text.contains("fromSrc"));
            for status in statuses(&exchange(&server, &bytes)) {
                prop_assert!((100..600).contains(&status), "{text:?}");
            }
            let alive = server.ask("GET", "/_ping", "");
            prop_assert!(alive.starts_with("HTTP/1.1 200"), "after {text:?}");
            Ok(())
        })
        .expect("it goes on");
}

/// Makes an authority, a server's certificate and a client's; returns their directory.
fn certificates(ply: &Ply) -> String {
    let directory = ply.directory("certs");
    let script = r#"
        set -e
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca-key.pem -out ca.pem -days 2 -subj /CN=ca
        for name in server client; do
            openssl req -newkey rsa:2048 -nodes -keyout $name-key.pem -out $name.csr -subj /CN=$name
            printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' > ext
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile ext \
                -out $name.pem
        done"#;
    let made = Command::new("bash")
        .args(["-c", script])
        .current_dir(&directory)
        .output()
        .expect("bash runs");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    directory.to_string_lossy().into_owned()
}

#[test]
fn tcp_is_for_clients_with_a_certificate() {
    let ply = Ply::with_busybox();
    let plain = ply.run(&["serve", "-H", "tcp://127.0.0.1:0"]);
    plain.fails(1, "needs --tlsverify");
    let certs = certificates(&ply);
    let file = |name: &str| format!("{certs}/{name}.pem");
    let log = ply.path("serve.log");
    let mut command = ply.command(&[
        "serve",
        "-H",
        "tcp://127.0.0.1:0",
        "--tlsverify",
        "--tlscacert",
        &file("ca"),
        "--tlscert",
        &file("server"),
        "--tlskey",
        &file("server-key"),
    ]);
    command.stderr(std::fs::File::create(&log).expect("a file"));
    let mut server = tests::end_with_this_thread(&mut command)
        .spawn()
        .expect("ply runs");
    let mut address = String::new();
    eventually("it says where it listens", || {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix("API listen on "));
        address = line.unwrap_or_default().to_owned();
        !address.is_empty()
    });
    let docker = |arguments: &[&str], with: &[&str], input: &[u8]| {
        let mut child = Command::new("docker")
            .args(["-H", &format!("tcp://{address}")])
            .args(with)
            .args(arguments)
            .env("DOCKER_CONFIG", ply.path("docker"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker runs");
        let _ = child.stdin.take().expect("a pipe").write_all(input);
        tests::Output::from(child.wait_with_output().expect("docker ends"))
    };
    let (ca, cert, key) = (file("ca"), file("client"), file("client-key"));
    let known = [
        "--tlsverify",
        "--tlscacert",
        &ca,
        "--tlscert",
        &cert,
        "--tlskey",
        &key,
    ];
    let echoed = docker(
        &["run", "-i", "--rm", "busybox", "cat"],
        &known,
        b"through TLS",
    );
    assert_eq!(echoed.ok(), "through TLS");
    let large = docker(&["run", "--rm", "busybox", "seq", "200000"], &known, b"");
    assert_eq!(large.ok().lines().count(), 200_000);
    let unknown = docker(&["ps"], &["--tls", "--tlscacert", &ca], b"");
    assert_ne!(unknown.code, 0, "{unknown:?}");
    let mut plain = TcpStream::connect(&address).expect("it listens");
    plain
        .write_all(b"GET /info HTTP/1.1\r\n\r\n")
        .expect("written");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(
        !answer.starts_with(b"HTTP"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    server.kill().expect("killed");
    server.wait().expect("dead");
}

#[test]
fn systemd_may_open_the_socket_and_is_told_when_it_is_served() {
    let ply = Ply::new();
    let socket = ply.path("activated.sock");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    let notified = UnixDatagram::bind(ply.path("notify")).expect("a socket");
    notified
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("set");
    // As systemd does: the listening socket is descriptor 3, and LISTEN_PID is the process that takes it.
    let script = "exec env LISTEN_PID=$$ LISTEN_FDS=1 \"$@\" 3<&0 </dev/null";
    let mut command = Command::new("bash");
    command
        .args(["-c", script, "bash"])
        .arg(Ply::program())
        .args(["serve", "-H", "fd://"])
        .env("PLY_ROOT", ply.root())
        .env("PLY_RUN", ply.path("run"))
        .env("NOTIFY_SOCKET", ply.path("notify"))
        .stdin(std::os::fd::OwnedFd::from(_listener));
    let mut server = tests::end_with_this_thread(&mut command)
        .spawn()
        .expect("ply runs");
    let mut state = [0; 64];
    let length = notified.recv(&mut state).expect("told");
    assert_eq!(&state[..length], b"READY=1");
    let mut client = UnixStream::connect(&socket).expect("it listens");
    client
        .write_all(b"GET /_ping HTTP/1.1\r\nConnection: close\r\n\r\n")
        .expect("written");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("read");
    assert!(answer.ends_with("\r\n\r\nOK"), "{answer}");
    must("kill", &["-TERM", &server.id().to_string()]);
    assert!(server.wait().expect("ended").success());
    let length = notified.recv(&mut state).expect("told");
    assert_eq!(&state[..length], b"STOPPING=1");
    assert!(socket.exists(), "systemd's socket is left to it");
    let unit = ply.run(&["serve", "--unit"]);
    assert!(unit.ok().contains("Type=notify") && unit.out.contains("KillMode=process"));
}

#[test]
fn the_socket_is_its_group_s_and_two_servers_do_not_share_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let ply = Ply::new();
    let server = Server::start(&ply);
    let mode = std::fs::metadata(server.socket())
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    let second = ply.run(&["serve", "-H", &server.host()]);
    second.fails(1, "another server listens there");
    server.kill();
    // What a killed server has left is taken over.
    let server = Server::start(&ply);
    assert!(server.ask("GET", "/_ping", "").starts_with("HTTP/1.1 200"));
}

/// Reads the head of an answer; returns its first line.
fn read_head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    head.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn two_hundred_clients_hear_the_same_container() {
    let ply = Ply::with_busybox();
    let server = Server::start(&ply);
    let script = "while :; do echo tick; sleep 0.1; done";
    let run = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "ticks",
        "busybox",
    ];
    ply.run(&[&run[..], &["sh", "-c", script]].concat()).ok();
    let mut clients: Vec<UnixStream> = (0..200).map(|_| server.connect()).collect();
    for client in &mut clients {
        client
            .write_all(
                b"POST /containers/ticks/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\n\
                  Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n",
            )
            .expect("written");
    }
    for client in &mut clients {
        assert_eq!(read_head(client), "HTTP/1.1 101 UPGRADED");
    }
    for _ in 0..3 {
        for client in &mut clients {
            let mut frame = [0; 13];
            client.read_exact(&mut frame).expect("a frame");
            assert_eq!(&frame[..], b"\x01\0\0\0\0\0\0\x05tick\n");
        }
    }
    ply.run(&["rm", "-f", "ticks"]).ok();
    for client in &mut clients {
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect("the end");
    }
}

/// Returns a process's own memory in KiB.
fn memory(pid: i32) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.expect("a number")
}

#[test]
fn many_requests_take_no_memory() {
    let ply = Ply::with_busybox();
    let server = Server::start(&ply);
    for _ in 0..5 {
        ply.run(&["create", "--network", "none", "busybox"]).ok();
    }
    let ask = |count: usize| {
        let mut stream = server.connect();
        let request = b"GET /containers/json?all=1 HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut reader = std::io::BufReader::new(stream.try_clone().expect("a socket"));
        for _ in 0..count {
            stream.write_all(request).expect("written");
            let mut length = 0;
            loop {
                let mut line = String::new();
                std::io::BufRead::read_line(&mut reader, &mut line).expect("a line");
                if let Some(value) = line.strip_prefix("Content-Length: ") {
                    length = value.trim().parse().expect("a length");
                }
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            assert!(length > 1000);
        }
    };
    ask(2_000);
    let before = memory(server.pid());
    ask(20_000);
    let grown = memory(server.pid()) - before;
    const MOST: i64 = 4 << 10;
    assert!(grown < MOST, "{grown} KiB more after 20,000 requests");
}

#[test]
fn containers_are_made_as_clients_ask_in_their_own_ways() {
    let ply = Ply::with_busybox();
    let server = Server::start(&ply);
    ply.run(&["network", "create", "only"]).ok();
    let create = |name: &str, body: &str| {
        let path = format!("/v1.41/containers/create?name={name}");
        server.ask("POST", &path, body)
    };
    let networks = |name: &str| {
        let names = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
        ply.inspect(name, names).trim().to_owned()
    };
    // A network that is named stands in the default one's place; a name and an id are the same network.
    let id = ply.run(&["network", "inspect", "-f", "{{.Id}}", "only"]);
    let by_id = format!(
        r#"{{"Image":"busybox","HostConfig":{{"NetworkMode":"{}"}},"NetworkingConfig":{{"EndpointsConfig":{{"only":{{}}}}}}}}"#,
        id.ok()
    );
    for (name, body) in [
        (
            "named",
            r#"{"Image":"busybox","NetworkingConfig":{"EndpointsConfig":{"only":{"Aliases":["a"]}}}}"#,
        ),
        ("both", &by_id),
    ] {
        let made = create(name, body);
        assert!(made.starts_with("HTTP/1.1 201"), "{made}");
        assert_eq!(networks(name), "only");
    }
    let plain = r#"{"Image":"busybox","NetworkingConfig":{"EndpointsConfig":{"default":{}}}}"#;
    create("plain", plain);
    assert_eq!(networks("plain"), "bridge");
    // What is shown of a container can be asked for again.
    let host = ply.inspect("plain", "{{json .HostConfig}}");
    let again = create(
        "again",
        &format!(r#"{{"Image":"busybox","HostConfig":{host}}}"#),
    );
    assert!(again.starts_with("HTTP/1.1 201"), "{again}");
    let many = "{},".repeat(50);
    let body = format!(
        r#"{{"Image":"busybox","HostConfig":{{"PortBindings":{{"1-65535/tcp":[{}{{}}]}}}}}}"#,
        many
    );
    let refused = create("many", &body);
    assert!(refused.contains("too many ports"), "{refused}");
    // A client that is told 404 would pull the image.
    for missing in [
        r#""VolumesFrom":["nosuch"]"#,
        r#""NetworkMode":"container:nosuch""#,
        r#""PidMode":"container:nosuch""#,
        r#""IpcMode":"container:nosuch""#,
    ] {
        let body = format!(r#"{{"Image":"busybox","HostConfig":{{{missing}}}}}"#);
        let refused = create("missing", &body);
        assert!(
            refused.starts_with("HTTP/1.1 400") && refused.contains("No such container: nosuch"),
            "{refused}"
        );
    }
    // What images share is counted once.
    let usage = json(&server, "GET", "/system/df?type=image", "");
    assert_eq!(usage["Images"][0]["SharedSize"], 0, "{usage}");
    ply.remove_all();
}

#[test]
fn a_context_that_is_cut_off_is_not_built() {
    let ply = Ply::with_busybox();
    let server = Server::start(&ply);
    let mut tar = vec![0; 512];
    tar[..10].copy_from_slice(b"Dockerfile");
    tar[100..107].copy_from_slice(b"0000644");
    tar[124..135].copy_from_slice(b"00000000015");
    tar[156] = b'0';
    tar[257..263].copy_from_slice(b"ustar\0");
    tar[263..265].copy_from_slice(b"00");
    tar[148..156].copy_from_slice(b"        ");
    let sum: u32 = tar.iter().map(|byte| u32::from(*byte)).sum();
    tar[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut text = b"FROM busybox\n".to_vec();
    text.resize(512, 0);
    tar.extend(text);
    let head = |framing: &str| {
        format!(
            "POST /build?t=cut HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Registry-Config: bnVsbA==\r\n{framing}\r\n\r\n"
        )
    };
    // A client that ends its side is taken for one that has gone.
    let post = |bytes: &[u8]| {
        let mut stream = server.connect();
        stream.write_all(bytes).expect("written");
        let mut answer = Vec::new();
        // A server that refuses may close before it has read all.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    // The whole of it is fine, with no logins as Go writes them.
    let whole = [head("Content-Length: 1024").into_bytes(), tar.clone()].concat();
    let answer = post(&whole);
    assert!(
        answer.contains("Successfully tagged cut:latest"),
        "{answer}"
    );
    ply.run(&["rmi", "-f", "cut"]).ok();
    let chunk = format!("{:x}\r\n", tar.len()).into_bytes();
    let broken = [
        head("Transfer-Encoding: chunked").into_bytes(),
        chunk,
        tar,
        b"\r\nzz\r\n".to_vec(),
    ];
    let answer = post(&broken.concat());
    assert!(!answer.contains("Successfully"), "{answer}");
    ply.run(&["image", "inspect", "cut"]).fails(1, "cut");
}

/// Sends a request; returns the answer's body as JSON.
fn json(server: &Server, method: &str, path: &str, body: &str) -> serde_json::Value {
    let answer = server.ask(method, path, body);
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"))
}

#[test]
fn lists_tell_of_every_change_whoever_makes_it() {
    let ply = Ply::with_busybox();
    let server = Server::start(&ply);
    // Name, state and the networks' names; asked for twice, as a second answer may be the kept one.
    let list = || {
        let lists = [(); 2].map(|()| json(&server, "GET", "/containers/json?all=1", ""));
        assert_eq!(lists[0], lists[1]);
        let [list, _] = lists;
        let containers = list.as_array().expect("a list").iter().map(|it| {
            let networks = it["NetworkSettings"]["Networks"].as_object();
            let networks: Vec<&str> = networks.into_iter().flatten().map(|it| &**it.0).collect();
            let name = it["Names"][0].as_str().expect("a name");
            let [state, status] = ["State", "Status"].map(|it| it_str(&list, name, it));
            format!("{name} {state} {} {}", networks.join(","), &status[..2])
        });
        containers.collect::<Vec<String>>().join("; ")
    };
    fn it_str(list: &serde_json::Value, name: &str, field: &str) -> String {
        let mut all = list.as_array().into_iter().flatten();
        let found = all.find(|it| it["Names"][0] == name).expect("it is there");
        found[field].as_str().expect("text").to_owned()
    }
    assert_eq!(list(), "");
    ply.run(&["network", "create", "n1"]).ok();
    ply.run(&["create", "--name", "c1", "busybox", "sleep", "1000"])
        .ok();
    assert_eq!(list(), "/c1 created bridge Cr");
    ply.run(&["start", "c1"]).ok();
    assert_eq!(list(), "/c1 running bridge Up");
    ply.run(&["pause", "c1"]).ok();
    assert_eq!(list(), "/c1 paused bridge Up");
    server.ask("POST", "/containers/c1/unpause", "");
    assert_eq!(list(), "/c1 running bridge Up");
    ply.run(&["rename", "c1", "c2"]).ok();
    assert_eq!(list(), "/c2 running bridge Up");
    ply.run(&["network", "connect", "n1", "c2"]).ok();
    assert_eq!(list(), "/c2 running bridge,n1 Up");
    let all = ply.run(&["ps", "-q", "--no-trunc"]);
    let filter = "{\"network\":[\"n1\"],\"status\":[\"running\"]}";
    let path = format!("/containers/json?filters={}", filter.replace('"', "%22"));
    assert_eq!(json(&server, "GET", &path, "")[0]["Id"], all.ok());
    kill_9(ply.monitor_of("c2"));
    eventually("the death", || list() == "/c2 exited bridge,n1 Ex");
    server.ask("POST", "/containers/c2/start", "");
    assert_eq!(list(), "/c2 running bridge,n1 Up");
    server.ask("DELETE", "/containers/c2?force=1", "");
    assert_eq!(list(), "");
    ply.run(&["network", "rm", "n1"]).ok();
    let checked = [
        "run",
        "-d",
        "--name",
        "c3",
        "--network",
        "none",
        "--health-interval",
        "200ms",
        "--health-cmd",
        "test -e /well",
        "--health-retries",
        "1",
        "busybox",
        "sleep",
        "1000",
    ];
    ply.run(&checked).ok();
    let status = || {
        it_str(
            &json(&server, "GET", "/containers/json", ""),
            "/c3",
            "Status",
        )
    };
    eventually("illness", || status().ends_with("(unhealthy)"));
    ply.run(&["exec", "c3", "touch", "/well"]).ok();
    eventually("health", || status().ends_with("(healthy)"));
    ply.remove_all();
}

#[test]
fn a_further_command_is_told_of_with_its_process() {
    let ply = Ply::with_busybox();
    let server = Server::start(&ply);
    ply.run(&[
        "run",
        "-d",
        "--name",
        "c1",
        "--network",
        "none",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    let made = json(
        &server,
        "POST",
        "/containers/c1/exec",
        r#"{"Cmd":["sleep","777"]}"#,
    );
    let id = made["Id"].as_str().expect("an id");
    let inspect = || json(&server, "GET", &format!("/exec/{id}/json"), "");
    assert_eq!(inspect()["Pid"], 0);
    server.ask("POST", &format!("/exec/{id}/start"), r#"{"Detach":true}"#);
    let exec = inspect();
    assert_eq!(exec["Running"], true);
    let command = std::fs::read(format!("/proc/{}/cmdline", exec["Pid"])).expect("it runs");
    assert_eq!(command, b"sleep\x00777\x00");
    kill_9(i32::try_from(exec["Pid"].as_i64().expect("a pid")).expect("a pid"));
    eventually("the end", || inspect()["ExitCode"] == 137);
    ply.remove_all();
}
