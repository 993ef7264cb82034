//! Networks: bridges, names, ports, isolation, and what is left of them; another host is a network namespace.
#![allow(missing_docs)]

use std::fs;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::time::Duration;

use tests::Ply;
use tests::end_with_this_thread;
use tests::eventually;
use tests::free_port;
use tests::kill_9;
use tests::must;

/// Another host: a network namespace that a pair of devices joins to this one.
struct Host {
    name: String,
    /// This host's address on the way to it, and its own.
    ours: String,
    theirs: String,
    server: Option<Child>,
    /// This host's device on the way to it.
    device: String,
}

impl Host {
    fn new(number: u8) -> Host {
        let process = std::process::id();
        let device = format!("plyt{process}{number}");
        let host = Host {
            name: format!("plyt{process}-{number}"),
            device: device.clone(),
            ours: format!("198.18.{number}.1"),
            theirs: format!("198.18.{number}.2"),
            server: None,
        };
        must("ip", &["netns", "add", &host.name]);
        must(
            "ip",
            &[
                "link", "add", &device, "type", "veth", "peer", "name", "eth0", "netns", &host.name,
            ],
        );
        let ours = format!("{}/24", host.ours);
        must("ip", &["address", "add", &ours, "dev", &device]);
        must("ip", &["link", "set", &device, "up"]);
        let theirs = format!("{}/24", host.theirs);
        host.must(&["ip", "address", "add", &theirs, "dev", "eth0"]);
        host.must(&["ip", "link", "set", "eth0", "up"]);
        host.must(&["ip", "link", "set", "lo", "up"]);
        host
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(arguments);
        command
    }

    fn must(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("ip runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Serves a page.
    fn serve(&mut self, ply: &Ply) {
        let pages = ply.directory("pages");
        fs::write(pages.join("index.html"), "from outside\n").expect("written");
        let address = format!("{}:80", self.theirs);
        let mut command = self.command(&[
            "/bin/busybox",
            "httpd",
            "-f",
            "-p",
            &address,
            "-h",
            &pages.to_string_lossy(),
        ]);
        let child = end_with_this_thread(&mut command).spawn();
        self.server = Some(child.expect("a server"));
        eventually("the other host serves", || {
            self.fetch(&format!("http://{address}/")).is_some()
        });
    }

    fn fetch(&self, url: &str) -> Option<String> {
        let output = self
            .command(&["timeout", "5", "/bin/busybox", "wget", "-q", "-O", "-", url])
            .output()
            .expect("wget runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(text)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.name])
            .status();
    }
}

/// Starts a container that serves a page at port 80.
fn serve(ply: &Ply, name: &str, options: &[&str]) {
    let script = format!("mkdir /www; echo {name} > /www/index.html; exec httpd -f -p 80 -h /www");
    let begin = ["run", "-d", "--name", name];
    let end = ["busybox", "sh", "-c", &script];
    ply.run(&[&begin, options, &end].concat()).ok();
    eventually("it serves", || {
        let own = ["exec", name, "wget", "-q", "-O", "-", "http://127.0.0.1/"];
        ply.run(&own).code == 0
    });
}

/// Returns what a container gets from a URL.
fn fetch(ply: &Ply, name: &str, url: &str) -> Option<String> {
    let output = ply.run(&["exec", name, "timeout", "5", "wget", "-q", "-O", "-", url]);
    (output.code == 0).then(|| output.out.trim().to_owned())
}

fn sleeper(ply: &Ply, name: &str, options: &[&str]) {
    let begin = ["run", "-d", "--name", name];
    ply.run(&[&begin, options, &["busybox", "sleep", "1000"]].concat())
        .ok();
}

fn address(ply: &Ply, name: &str, network: &str) -> String {
    let template = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    ply.inspect(name, &template)
}

/// Returns the page at a port of a loopback address.
fn page(host: &str, port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((host, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.rsplit("\r\n\r\n")
        .next()
        .map(|body| body.trim().to_owned())
}

#[test]
fn a_container_reaches_other_hosts_and_its_neighbours_by_default() {
    let ply = Ply::with_busybox();
    let mut outside = Host::new(1);
    outside.serve(&ply);
    serve(&ply, "one", &[]);
    sleeper(&ply, "two", &[]);
    let url = format!("http://{}/", outside.theirs);
    assert_eq!(fetch(&ply, "two", &url).as_deref(), Some("from outside"));
    let one = ply.inspect("one", "{{.NetworkSettings.IPAddress}}");
    assert_eq!(address(&ply, "one", "bridge"), one);
    let found = fetch(&ply, "two", &format!("http://{one}/"));
    assert_eq!(found.as_deref(), Some("one"));
    // By address only: names are for networks that people make.
    assert_eq!(fetch(&ply, "two", "http://one/"), None);
    let hosts = ply.run(&["exec", "one", "cat", "/etc/hosts"]);
    assert!(hosts.ok().contains(&one), "{hosts:?}");
    let route = ply.run(&["exec", "one", "ip", "route"]);
    let gateway = ply.inspect("one", "{{.NetworkSettings.Gateway}}");
    assert!(
        route
            .ok()
            .contains(&format!("default via {gateway} dev eth0")),
        "{route:?}"
    );
}

#[test]
fn names_aliases_and_short_ids_lead_to_containers_of_a_network() {
    let ply = Ply::with_busybox();
    ply.run(&["network", "create", "net"]).ok();
    serve(&ply, "web", &["--network", "net", "--network-alias", "www"]);
    sleeper(&ply, "client", &["--network", "net"]);
    let id = ply.inspect("web", "{{.Id}}");
    for name in ["web", "www", "WEB", &id[..12]] {
        let found = fetch(&ply, "client", &format!("http://{name}/"));
        assert_eq!(found.as_deref(), Some("web"), "{name}");
    }
    assert_eq!(fetch(&ply, "client", "http://nosuch/"), None);
    let resolv = ply.run(&["exec", "client", "cat", "/etc/resolv.conf"]);
    assert!(resolv.ok().contains("nameserver 127.0.0.11"), "{resolv:?}");
    // Right at once after a rename, a disconnection and a connection.
    ply.run(&["rename", "web", "site"]).ok();
    assert_eq!(
        fetch(&ply, "client", "http://site/").as_deref(),
        Some("web")
    );
    assert_eq!(fetch(&ply, "client", "http://web/"), None);
    ply.run(&["network", "disconnect", "net", "site"]).ok();
    assert_eq!(fetch(&ply, "client", "http://site/"), None);
    ply.run(&["network", "connect", "--alias", "again", "net", "site"])
        .ok();
    assert_eq!(
        fetch(&ply, "client", "http://again/").as_deref(),
        Some("web")
    );
    // A server of names of the container's own has port 53 for itself.
    let own = "nc -l -p 53 -e true & sleep 0.2; netstat -ltn | grep -c ':53 '";
    assert_eq!(
        ply.run(&["exec", "client", "sh", "-c", own]).out.trim(),
        "1"
    );
}

#[test]
fn several_containers_of_one_alias_share_the_work() {
    let ply = Ply::with_busybox();
    ply.run(&["network", "create", "net"]).ok();
    for name in ["aa", "bb"] {
        sleeper(&ply, name, &["--network", "net", "--network-alias", "pool"]);
    }
    let asked = ply.run(&["exec", "aa", "nslookup", "-type=a", "pool"]);
    for name in ["aa", "bb"] {
        let address = address(&ply, name, "net");
        assert!(
            asked.out.contains(&address),
            "{address} is not in {asked:?}"
        );
        let back = ply.run(&["exec", "aa", "nslookup", &address]);
        assert!(back.out.contains(&format!("name = {name}.net")), "{back:?}");
    }
}

#[test]
fn networks_are_apart_and_an_internal_one_leads_nowhere() {
    let ply = Ply::with_busybox();
    let mut outside = Host::new(2);
    outside.serve(&ply);
    ply.run(&["network", "create", "one"]).ok();
    ply.run(&["network", "create", "--internal", "inner"]).ok();
    serve(&ply, "web", &["--network", "one"]);
    serve(&ply, "inside", &["--network", "inner"]);
    sleeper(&ply, "other", &[]);
    sleeper(&ply, "hermit", &["--network", "inner"]);
    sleeper(&ply, "alone", &["--network", "none"]);
    let web = format!("http://{}/", address(&ply, "web", "one"));
    let inside = format!("http://{}/", address(&ply, "inside", "inner"));
    let outer = format!("http://{}/", outside.theirs);
    assert_eq!(
        fetch(&ply, "hermit", "http://inside/").as_deref(),
        Some("inside")
    );
    for (from, url) in [
        ("other", &web),
        ("other", &inside),
        ("web", &inside),
        ("hermit", &outer),
        ("hermit", &web),
        ("alone", &outer),
    ] {
        assert_eq!(fetch(&ply, from, url), None, "{from} {url}");
    }
    // Nor does a neighbour of the host's get in by a route of its own.
    outside.must(&["ip", "route", "add", "default", "via", &outside.ours]);
    assert_eq!(outside.fetch(&web), None);
}

#[test]
fn published_ports_are_reached_from_everywhere_and_given_back() {
    let ply = Ply::with_busybox();
    let outside = Host::new(3);
    let port = free_port();
    serve(
        &ply,
        "web",
        &["-p", &format!("{port}:80"), "-p", "127.0.0.1::81"],
    );
    sleeper(&ply, "client", &[]);
    for host in ["127.0.0.1", "::1", outside.ours.as_str()] {
        assert_eq!(page(host, port).as_deref(), Some("web"), "{host}");
    }
    let url = format!("http://{}:{port}/", outside.ours);
    assert_eq!(
        outside
            .fetch(&url)
            .map(|text| text.trim().to_owned())
            .as_deref(),
        Some("web")
    );
    // From a neighbour, and from the container itself, through the host's address.
    assert_eq!(fetch(&ply, "client", &url).as_deref(), Some("web"));
    assert_eq!(fetch(&ply, "web", &url).as_deref(), Some("web"));
    assert_eq!(
        ply.run(&["port", "web", "80"]).ok(),
        format!("0.0.0.0:{port}\n[::]:{port}")
    );
    assert!(
        ply.run(&["port", "web"])
            .ok()
            .contains("81/tcp -> 127.0.0.1:")
    );
    ply.run(&["port", "web", "99"])
        .fails(1, "no public port '99/tcp' published for web");
    assert!(
        ply.run(&["ps"])
            .ok()
            .contains(&format!("0.0.0.0:{port}->80/tcp"))
    );
    ply.run(&["stop", "-t", "0", "web"]).ok();
    TcpListener::bind(("0.0.0.0", port)).expect("the port is free again");
    ply.run(&["start", "web"]).ok();
    eventually("it serves again", || {
        page("127.0.0.1", port).as_deref() == Some("web")
    });
}

/// Sends every datagram back; busybox has no such program.
/// Echoes datagrams, on one address or on all; or sends a text to some addresses from one socket and prints the answers.
const ECHO: &str = r#"
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
int main(int count, char **words) {
    char buffer[512];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(7)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    /* Always from the same port. */
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(7007)};
    struct timeval patience = {.tv_sec = 2};
    if (count > 2 && bind(fd, (struct sockaddr *)&own, sizeof own)) return 1;
    if (count > 2) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    for (int i = 2; i < count; i++) {
        inet_aton(words[i], &at.sin_addr);
        sendto(fd, words[1], strlen(words[1]), 0, (struct sockaddr *)&at, sizeof at);
        socklen_t length = sizeof at;
        ssize_t got = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&at, &length);
        if (got < 0) return 2;
        printf("%s: %.*s\n", inet_ntoa(at.sin_addr), (int)got, buffer);
    }
    if (count > 2) return 0;
    if (count > 1) inet_aton(words[1], &at.sin_addr);
    if (bind(fd, (struct sockaddr *)&at, sizeof at)) return 1;
    for (;;) {
        struct sockaddr_in from;
        socklen_t length = sizeof from;
        ssize_t got = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &length);
        if (got >= 0) sendto(fd, buffer, got, 0, (struct sockaddr *)&from, length);
    }
}
"#;

#[test]
fn datagrams_are_published_too() {
    let ply = Ply::with_busybox();
    let outside = Host::new(5);
    let (source, program) = (ply.path("echo.c"), ply.path("echo"));
    fs::write(&source, ECHO).expect("written");
    let [source, program] = [source, program].map(|path| path.to_string_lossy().into_owned());
    must("gcc", &["-static", "-o", &program, &source]);
    let port = free_port();
    let publish = format!("{port}:7/udp");
    let volume = format!("{program}:/echo:ro");
    let run = [
        "run", "-d", "--name", "echo", "-p", &publish, "-v", &volume, "busybox", "/echo",
    ];
    ply.run(&run).ok();
    for host in ["127.0.0.1", &outside.ours] {
        let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).expect("a socket");
        let soon = Some(Duration::from_millis(200));
        socket.set_read_timeout(soon).expect("a timeout");
        socket.connect((host, port)).expect("connected");
        let mut buffer = [0; 16];
        eventually("it echoes", || {
            let _ = socket.send(b"hello");
            let got = socket.recv(&mut buffer);
            got.is_ok_and(|length| &buffer[..length] == b"hello")
        });
    }
}

#[test]
fn ports_of_sctp_are_led_by_rules() {
    let ply = Ply::with_busybox();
    // Nobody can reserve one: the number is by chance nobody's.
    let port = free_port();
    let publish = format!("{port}:5000/sctp");
    let led = || {
        let listed = Command::new("nft")
            .args(["list", "map", "inet", "ply", "ports4"])
            .output();
        let listed = listed.expect("nft runs").stdout;
        String::from_utf8_lossy(&listed).contains(&format!("sctp . {port} : "))
    };
    sleeper(&ply, "one", &["-p", &publish]);
    assert!(led());
    assert_eq!(
        ply.run(&["port", "one"]).ok(),
        format!("5000/sctp -> 0.0.0.0:{port}\n5000/sctp -> [::]:{port}")
    );
    let taken = ply.run(&["run", "--name", "two", "-p", &publish, "busybox", "true"]);
    taken.fails(
        125,
        &format!("Bind for 0.0.0.0:{port} failed: port is already allocated"),
    );
    ply.run(&["rm", "-f", "one"]).ok();
    eventually("it leads nowhere", || !led());
    ply.run(&["start", "-a", "two"]).ok();
}

#[test]
fn a_taken_port_is_told_of_before_anything_starts() {
    let ply = Ply::with_busybox();
    let port = free_port();
    let publish = format!("{port}:80");
    serve(&ply, "web", &["-p", &publish]);
    let words = format!("Bind for 0.0.0.0:{port} failed: port is already allocated");
    let taken = [
        "run", "-d", "--name", "late", "-p", &publish, "busybox", "sleep", "5",
    ];
    ply.run(&taken).fails(125, &words);
    ply.run(&["rm", "late"]).ok();
    // A program of the host's has it.
    let socket = TcpListener::bind(("0.0.0.0", 0)).expect("a socket");
    let port = socket.local_addr().expect("an address").port();
    let publish = format!("{port}:80");
    let taken = ["run", "--rm", "-p", &publish, "busybox", "true"];
    let output = ply.run(&taken);
    assert_eq!(output.code, 125, "{output:?}");
    assert!(output.err.contains("address already in use"), "{output:?}");
    assert_eq!(ply.run(&["ps", "-aq"]).ok().lines().count(), 1);
}

#[test]
fn addresses_are_chosen_given_and_refused() {
    let ply = Ply::with_busybox();
    let subnet = "10.213.77.0/29";
    ply.run(&[
        "network",
        "create",
        "--subnet",
        subnet,
        "--gateway",
        "10.213.77.6",
        "net",
    ])
    .ok();
    sleeper(&ply, "fixed", &["--network", "net", "--ip", "10.213.77.3"]);
    assert_eq!(address(&ply, "fixed", "net"), "10.213.77.3");
    let again = [
        "run",
        "--rm",
        "--network",
        "net",
        "--ip",
        "10.213.77.3",
        "busybox",
        "true",
    ];
    ply.run(&again).fails(125, "Address already in use");
    let foreign = [
        "run",
        "--rm",
        "--network",
        "net",
        "--ip",
        "10.9.9.9",
        "busybox",
        "true",
    ];
    assert_eq!(ply.run(&foreign).code, 125);
    // Six addresses, of which the gateway has one and the container another.
    for name in ["c1", "c2", "c3", "c4"] {
        sleeper(&ply, name, &["--network", "net"]);
    }
    let full = ply.run(&["run", "--rm", "--network", "net", "busybox", "true"]);
    assert_eq!(full.code, 125, "{full:?}");
    assert!(full.err.contains("no available"), "{full:?}");
    ply.run(&["rm", "-f", "c1"]).ok();
    ply.run(&["run", "--rm", "--network", "net", "busybox", "true"])
        .ok();
    ply.run(&["network", "create", "--subnet", "10.213.77.0/24", "over"])
        .fails(1, "Pool overlaps with other one on this address space");
    ply.run(&["network", "rm", "net"])
        .fails(1, "has active endpoints");
}

#[test]
fn containers_have_addresses_of_ipv6() {
    let ply = Ply::with_busybox();
    ply.run(&[
        "network",
        "create",
        "--ipv6",
        "--subnet",
        "fd00:213:77::/64",
        "six",
    ])
    .ok();
    serve(&ply, "web", &["--network", "six"]);
    sleeper(&ply, "client", &["--network", "six"]);
    let template = "{{.NetworkSettings.Networks.six.GlobalIPv6Address}}";
    let address = ply.inspect("web", template);
    assert!(address.starts_with("fd00:213:77::"), "{address}");
    let asked = ply.run(&["exec", "client", "nslookup", "-type=aaaa", "web"]);
    assert!(asked.out.contains(&address), "{asked:?}");
    let ping = ply.run(&[
        "exec", "client", "ping", "-6", "-c", "1", "-W", "5", &address,
    ]);
    assert_eq!(ping.code, 0, "{ping:?}");
}

#[test]
fn namespaces_are_shared_and_linked() {
    let ply = Ply::with_busybox();
    serve(&ply, "web", &[]);
    sleeper(&ply, "beside", &["--network", "container:web"]);
    assert_eq!(
        fetch(&ply, "beside", "http://127.0.0.1/").as_deref(),
        Some("web")
    );
    sleeper(&ply, "linked", &["--link", "web:db"]);
    assert_eq!(fetch(&ply, "linked", "http://db/").as_deref(), Some("web"));
    let host = ply.run(&[
        "run",
        "--rm",
        "--network",
        "host",
        "busybox",
        "ls",
        "/sys/class/net",
    ]);
    for device in fs::read_dir("/sys/class/net").expect("devices").flatten() {
        let name = device.file_name().to_string_lossy().into_owned();
        // Others make and remove theirs meanwhile.
        if name == "lo" || name == "eth0" {
            assert!(
                host.out.lines().any(|line| line == name),
                "{name}: {host:?}"
            );
        }
    }
}

#[test]
fn networks_are_listed_inspected_and_pruned() {
    let ply = Ply::with_busybox();
    ply.run(&["network", "create", "--label", "a=b", "used"])
        .ok();
    ply.run(&["network", "create", "unused"]).ok();
    sleeper(&ply, "cc", &["--network", "used"]);
    let list = ply.run(&[
        "network",
        "ls",
        "--format",
        "{{.Name}} {{.Driver}} {{.Scope}}",
    ]);
    assert_eq!(
        list.ok(),
        "bridge bridge local\nhost host local\nnone null local\nunused bridge local\nused bridge local"
    );
    let filtered = ply.run(&["network", "ls", "-q", "--filter", "label=a"]);
    assert_eq!(filtered.ok().lines().count(), 1);
    let inspect = [
        "network",
        "inspect",
        "-f",
        "{{range .Containers}}{{.Name}}{{end}} {{.Labels.a}}",
        "used",
    ];
    assert_eq!(ply.run(&inspect).ok(), "cc b");
    let pruned = ply.run(&["network", "prune", "-f"]);
    assert_eq!(pruned.ok(), "Deleted Networks:\nunused\n");
    ply.run(&["rm", "-f", "cc"]).ok();
    assert_eq!(ply.run(&["network", "rm", "used"]).ok(), "used");
}

#[test]
fn what_docker_refuses_of_networks_is_refused_in_its_way() {
    let ply = Ply::with_busybox();
    ply.run(&["network", "create", "err-net"]).ok();
    sleeper(&ply, "err-run", &["--network", "none"]);
    for (command, code, words) in [
        (
            "run --rm -p 99999:80 busybox true",
            125,
            "invalid hostPort: 99999",
        ),
        (
            "run --rm -p x busybox true",
            125,
            "invalid containerPort: x",
        ),
        (
            "run --rm --network container:err-run -p 80:80 busybox true",
            125,
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            "run --rm --network nosuchnet busybox true",
            125,
            "network nosuchnet not found",
        ),
        (
            "network create err-net",
            1,
            "network with name err-net already exists",
        ),
        ("network create --subnet x net2", 1, "x"),
        ("network create -d nosuch net2", 1, "nosuch"),
        (
            "network rm bridge",
            1,
            "bridge is a pre-defined network and cannot be removed",
        ),
        ("network rm nosuch", 1, "network nosuch not found"),
        ("network inspect nosuch", 1, "network nosuch not found"),
        (
            "network connect err-net nosuch",
            1,
            "No such container: nosuch",
        ),
        (
            "network connect nosuch err-run",
            1,
            "network nosuch not found",
        ),
        (
            "network disconnect err-net err-run",
            1,
            "is not connected to",
        ),
        (
            "run --rm --ip 10.1.1.1 busybox true",
            125,
            "user specified IP address is supported",
        ),
        ("run --rm --link nosuch busybox true", 125, "nosuch"),
        (
            "port err-run 80",
            1,
            "no public port '80/tcp' published for err-run",
        ),
    ] {
        let arguments: Vec<&str> = command.split_whitespace().collect();
        let output = ply.run(&arguments);
        assert_eq!(output.code, code, "ply {command}: {output:?}");
        assert!(
            output.err.contains(words),
            "ply {command}: {words:?} is not in {output:?}"
        );
        assert!(
            !output.err.contains("os error"),
            "ply {command}: {output:?}"
        );
    }
    assert_eq!(ply.run(&["ps", "-aq"]).ok().lines().count(), 1);
}

#[test]
fn what_a_killed_monitor_leaves_is_taken_away_by_the_next_command() {
    let ply = Ply::with_busybox();
    let port = free_port();
    let publish = format!("{port}:80");
    for round in 0..3 {
        ply.run(&["network", "create", "net"]).ok();
        serve(&ply, "web", &["--network", "net", "-p", &publish]);
        let first = ply.monitor_of("web");
        kill_9(first);
        eventually("the container ends", || {
            ply.inspect("web", "{{.State.Status}}") == "exited"
        });
        // The same port, name and address are to be had.
        ply.run(&["start", "web"]).ok();
        eventually("it serves", || {
            page("127.0.0.1", port).as_deref() == Some("web")
        });
        kill_9(ply.monitor_of("web"));
        ply.run(&["rm", "-f", "web"]).ok();
        ply.run(&["network", "rm", "net"]).ok();
        eventually(&format!("nothing is left in round {round}"), || {
            ply.run(&["ps"]).ok();
            ply.networks_on_host().is_empty()
        });
    }
}

#[test]
fn a_run_killed_at_any_moment_leaves_no_network_behind() {
    let ply = Ply::with_busybox();
    let port = free_port().to_string();
    let publish = format!("{port}:80");
    for moment in 0..20_u64 {
        let arguments = ["run", "--rm", "-p", &publish, "busybox", "sleep", "0.05"];
        let mut child = ply.spawn(&arguments);
        std::thread::sleep(Duration::from_millis(moment * 5));
        let _ = child.kill();
        let _ = child.wait();
    }
    eventually("nothing is left", || {
        ply.run(&["ps", "-aq"]).ok().is_empty() && ply.networks_on_host().is_empty()
    });
    ply.run(&["run", "--rm", "-p", &publish, "busybox", "true"])
        .ok();
}

#[test]
fn a_step_of_a_build_reaches_other_hosts() {
    let ply = Ply::with_busybox();
    let mut outside = Host::new(4);
    outside.serve(&ply);
    let context = ply.directory("context");
    let dockerfile = format!(
        "FROM busybox\nRUN wget -q -O /page http://{}/\n",
        outside.theirs
    );
    fs::write(context.join("Dockerfile"), dockerfile).expect("written");
    let context = context.to_string_lossy().into_owned();
    ply.run(&["build", "-q", "-t", "fetched", &context]).ok();
    let page = ply.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "fetched",
        "cat",
        "/page",
    ]);
    assert_eq!(page.ok(), "from outside");
    let none = ply.run(&["build", "-q", "--no-cache", "--network", "none", &context]);
    assert_ne!(none.code, 0);
}

#[test]
fn containers_have_addresses_of_their_own_on_a_device_of_the_host() {
    let ply = Ply::with_busybox();
    let mut outside = Host::new(6);
    outside.serve(&ply);
    let create = |driver: &str, name: &str, subnet: &str, options: &[&str]| {
        let parent = format!("parent={}", outside.device);
        let begin = [
            "network", "create", "-d", driver, "-o", &parent, "--subnet", subnet,
        ];
        ply.run(&[&begin, options, &[name]].concat())
    };
    let options = [
        "--gateway",
        &outside.theirs,
        "--ip-range",
        "198.18.6.128/25",
    ];
    create("macvlan", "mac", "198.18.6.0/24", &options).ok();
    // Nothing leads from the host to such a container: its ports are its own.
    serve(&ply, "web", &["--network", "mac", "-p", "80:80"]);
    sleeper(&ply, "client", &["--network", "mac"]);
    assert_eq!(ply.run(&["port", "web"]).ok(), "");
    assert_eq!(fetch(&ply, "client", "http://web/").as_deref(), Some("web"));
    let url = format!("http://{}/", outside.theirs);
    assert_eq!(fetch(&ply, "client", &url).as_deref(), Some("from outside"));
    let web = address(&ply, "web", "mac");
    assert!(web.starts_with("198.18.6.1"), "{web}");
    let page = outside.fetch(&format!("http://{web}/"));
    assert_eq!(page.as_deref(), Some("web\n"));
    let shown = ply.run(&["exec", "client", "ip", "address", "show", "dev", "eth0"]);
    assert!(!shown.ok().contains("inet6"), "{shown:?}");
    // One that publishes ports on a bridge too, and goes between the two.
    ply.run(&["network", "create", "front"]).ok();
    ply.run(&["network", "connect", "front", "client"]).ok();
    ply.run(&["network", "disconnect", "mac", "client"]).ok();
    assert_eq!(fetch(&ply, "client", &url).as_deref(), Some("from outside"));
    ply.run(&["rm", "-f", "web", "client"]).ok();

    for (driver, option, words) in [
        (
            "macvlan",
            "macvlan_mode=x",
            "requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default",
        ),
        (
            "ipvlan",
            "ipvlan_mode=x",
            "requested ipvlan mode 'x' is not valid, 'l2' mode is the ipvlan driver default",
        ),
        (
            "ipvlan",
            "ipvlan_flag=x",
            "requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan driver default",
        ),
    ] {
        create(driver, "bad", "198.18.60.0/24", &["-o", option]).fails(1, words);
    }
    let parent = [
        "network",
        "create",
        "-d",
        "macvlan",
        "-o",
        "parent=plynosuch",
        "lost",
    ];
    ply.run(&parent).ok();
    ply.run(&["run", "--rm", "--network", "lost", "busybox", "true"])
        .fails(125, "no device plynosuch");

    for (name, mode) in [("l2", "ipvlan_mode=l2"), ("l3", "ipvlan_mode=l3")] {
        let subnet = format!("198.18.6{}.0/24", &name[1..]);
        create("ipvlan", name, &subnet, &["-o", mode]).ok();
        let run = ["run", "--rm", "--network", name, "busybox", "ip", "route"];
        let routes = ply.run(&run);
        if routes.code != 0 {
            routes.fails(125, "the kernel has no ipvlan devices");
            continue;
        }
        let way_out = match name {
            "l2" => format!("default via 198.18.6{}.1 dev eth0", &name[1..]),
            _ => "default dev eth0 scope link".to_owned(),
        };
        assert!(routes.ok().contains(&way_out), "{routes:?}");
        serve(&ply, "web", &["--network", name]);
        sleeper(&ply, "client", &["--network", name]);
        assert_eq!(fetch(&ply, "client", "http://web/").as_deref(), Some("web"));
        ply.run(&["rm", "-f", "web", "client"]).ok();
    }
    assert!(ply.run(&["ps", "-aq"]).ok().is_empty());
}

/// A machine of its own with an engine, so that no one else is cut off by its firewall; and another host beside it.
struct Machine {
    ply: Ply,
    host: Host,
    far: Host,
    /// The program that echoes datagrams, and asks for them.
    echo: String,
    echoing: Vec<Child>,
}

impl Machine {
    /// The machine's address on the way to the other host; its addresses, on each of which it echoes datagrams.
    const OURS: &str = "198.18.78.1";
    const THEIRS: [&str; 3] = ["198.18.78.2", "198.18.78.3", "fd00:78::2"];

    fn new(number: u8) -> Machine {
        let ply = Ply::with_busybox();
        let (host, far) = (Host::new(number), Host::new(number + 1));
        let device = format!("{}x", host.device);
        let add = ["link", "add", &device, "netns", &host.name, "type", "veth"];
        let peer = ["peer", "name", "eth1", "netns", &far.name];
        must("ip", &[&add[..], &peer].concat());
        let with_prefix = |address: &str| match address.contains(':') {
            true => format!("{address}/64"),
            false => format!("{address}/24"),
        };
        let give = |host: &Host, device: &str, address: &str| {
            let address = with_prefix(address);
            let mut give = vec!["ip", "address", "add", &address, "dev", device];
            if address.contains(':') {
                give.push("nodad");
            }
            host.must(&give);
        };
        give(&host, &device, Machine::OURS);
        give(&host, &device, "fd00:78::1");
        host.must(&["ip", "link", "set", &device, "up"]);
        for address in Machine::THEIRS {
            give(&far, "eth1", address);
        }
        far.must(&["ip", "link", "set", "eth1", "up"]);
        let (source, echo) = (ply.path("echo.c"), ply.path("echo"));
        fs::write(&source, ECHO).expect("written");
        let [source, echo] = [source, echo].map(|path| path.to_string_lossy().into_owned());
        must("gcc", &["-static", "-o", &echo, &source]);
        let echoing = Machine::THEIRS[..2].iter().map(|address| {
            let mut command = far.command(&[&echo, address]);
            let child = end_with_this_thread(&mut command).spawn();
            child.expect("it echoes")
        });
        let echoing = echoing.collect();
        Machine {
            ply,
            host,
            far,
            echo,
            echoing,
        }
    }

    fn run(&self, arguments: &[&str]) -> tests::Output {
        let root = format!("PLY_ROOT={}", self.ply.root().display());
        let run = format!("PLY_RUN={}", self.ply.path("run").display());
        let program = Ply::program().to_string_lossy().into_owned();
        // Not by `ip netns exec`, which hides the cgroups.
        let namespace = format!("--net=/run/netns/{}", self.host.name);
        let begin = [&namespace, "env", &root, &run, "PLY_LOG=warn", &program];
        let mut command = Command::new("nsenter");
        let output = command.args([&begin, arguments].concat()).output();
        tests::Output::from(output.expect("nsenter runs"))
    }

    /// Has the machine's firewall be as dockerd leaves it.
    fn forbid_forwarding(&self) {
        for family in ["ip", "ip6"] {
            self.host.must(&[
                "nft",
                &format!(
                    "add table {family} filter;
                     add chain {family} filter FORWARD {{ type filter hook forward priority 0; policy drop; }};"
                ),
            ]);
        }
    }

    /// Has it be as firewalld's, which rejects what it does not know of, coming in and passed on, but for what was led
    /// elsewhere.
    fn reject_what_is_unknown(&self) {
        self.host.must(&[
            "nft",
            "add table inet firewalld;
             add chain inet firewalld in { type filter hook input priority 10; policy accept; };
             add rule inet firewalld in ct state established,related accept;
             add rule inet firewalld in ct status dnat accept;
             add rule inet firewalld in iifname lo accept;
             add rule inet firewalld in reject with icmpx admin-prohibited;
             add chain inet firewalld forward { type filter hook forward priority 10; policy accept; };
             add rule inet firewalld forward ct state established,related accept;
             add rule inet firewalld forward ct status dnat accept;
             add rule inet firewalld forward reject with icmpx admin-prohibited;",
        ]);
    }

    /// Returns what a container gets from a URL.
    fn fetch(&self, name: &str, url: &str) -> Option<String> {
        let output = self.run(&["exec", name, "timeout", "5", "wget", "-q", "-O", "-", url]);
        (output.code == 0).then(|| output.out.trim().to_owned())
    }

    fn pings(&self, name: &str) -> bool {
        let ping = [
            "exec",
            name,
            "ping",
            "-c",
            "1",
            "-W",
            "1",
            Machine::THEIRS[0],
        ];
        self.run(&ping).code == 0
    }

    fn elements(&self, map: &str) -> String {
        let listed = self
            .host
            .command(&["nft", "list", "map", "inet", "ply", map]);
        let listed = { listed }.output().expect("nft runs").stdout;
        String::from_utf8_lossy(&listed).into_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for child in &mut self.echoing {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn ports_are_published_beside_a_firewall_that_passes_nothing_on() {
    let machine = Machine::new(7);
    machine.forbid_forwarding();
    let (host, far) = (&machine.host, &machine.far);
    let before = host.must(&["nft", "list", "table", "ip", "filter"]);
    let run = |arguments: &[&str]| machine.run(arguments);
    let script = "mkdir /www; echo web > /www/index.html; exec httpd -f -p 80 -h /www";
    let web = run(&[
        "run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sh", "-c", script,
    ]);
    web.ok();
    assert!(
        web.err.contains("table \"filter\" drops what is passed on"),
        "{web:?}"
    );
    run(&["run", "-d", "--name", "client", "busybox", "sleep", "1000"]).ok();
    let url = "http://198.18.78.1:8080/";
    eventually("it is reached from outside", || {
        far.fetch(url).as_deref() == Some("web\n")
    });
    assert_eq!(host.fetch(url).as_deref(), Some("web\n"));
    assert_eq!(
        host.fetch("http://127.0.0.1:8080/").as_deref(),
        Some("web\n")
    );
    for name in ["client", "web"] {
        let own = ["exec", name, "timeout", "5", "wget", "-q", "-O", "-", url];
        assert_eq!(run(&own).ok(), "web", "{name}");
    }
    assert_eq!(host.must(&["nft", "list", "table", "ip", "filter"]), before);
    run(&["rm", "-f", "web", "client"]).ok();

    host.must(&["nft", "delete table ip filter; delete table ip6 filter"]);
    machine.reject_what_is_unknown();
    let web = run(&[
        "run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sh", "-c", script,
    ]);
    web.ok();
    eventually("it is reached from outside", || {
        far.fetch(url).as_deref() == Some("web\n")
    });
    assert_eq!(host.fetch(url).as_deref(), Some("web\n"));
    run(&["rm", "-f", "web"]).ok();
}

#[test]
fn containers_have_a_way_out_beside_a_firewall_that_passes_nothing_on() {
    let mut machine = Machine::new(9);
    let outside = Machine::THEIRS.map(|address| match address.contains(':') {
        true => format!("http://[{address}]/"),
        false => format!("http://{address}/"),
    });
    machine.far.theirs = "[::]".to_owned();
    machine.far.serve(&machine.ply);
    let volume = format!("{}:/echo:ro", machine.echo);
    let network = [
        "network",
        "create",
        "--ipv6",
        "--subnet",
        "fd00:79::/64",
        "six",
    ];
    machine.run(&network).ok();
    machine
        .run(&["network", "create", "--internal", "inner"])
        .ok();
    let sleep = |name: &str, network: &str| {
        let begin = ["run", "-d", "--name", name, "--network", network];
        let end = ["-v", &volume, "busybox", "sleep", "1000"];
        machine.run(&[&begin[..], &end].concat()).ok();
    };
    // One socket of a container's talks to two others.
    let asks = |name: &str| {
        let others = &Machine::THEIRS[..2];
        let asked = machine.run(&[&["exec", name, "/echo", "hello"], others].concat());
        let lines: Vec<String> = others.iter().map(|it| format!("{it}: hello")).collect();
        asked.code == 0 && asked.out.trim() == lines.join("\n")
    };
    // One is there before the firewall, one after it.
    sleep("one", "bridge");
    assert!(machine.pings("one") && asks("one"));
    machine.forbid_forwarding();
    sleep("two", "six");
    sleep("hermit", "inner");
    let reaches = |name: &str, url: &str| {
        let found = machine.fetch(name, url);
        assert!(found.is_none() || found.as_deref() == Some("from outside"));
        found.is_some()
    };
    eventually("the first has noticed", || reaches("one", &outside[0]));
    assert!(reaches("two", &outside[0]) && reaches("two", &outside[2]));
    assert!(!reaches("hermit", &outside[0]));
    assert!(asks("one") && asks("two"));
    // What is refused there is refused here; networks stay apart; nobody comes through a monitor unasked.
    let refused = machine.run(&["exec", "one", "wget", "-O", "-", "http://198.18.78.2:81/"]);
    refused.fails(1, "Connection reset by peer");
    let two = machine.run(&[
        "inspect",
        "-f",
        "{{.NetworkSettings.Networks.six.IPAddress}}",
        "two",
    ]);
    let ping = ["exec", "one", "ping", "-c", "1", "-W", "1", two.ok()];
    assert_ne!(machine.run(&ping).code, 0);
    let listed = machine.elements("outlets4");
    let door = listed.split("tcp : ").nth(1).expect("an element");
    let door = door
        .split([',', '}', ' ', '\n'])
        .take(3)
        .collect::<String>();
    let door = door.replacen(".", ":", 4).replacen(":", ".", 3);
    assert_eq!(
        machine.fetch("one", &format!("http://{door}/")),
        None,
        "{listed}"
    );
    assert!(!machine.pings("one"), "only TCP and UDP are passed on");

    // What another engine keeps on this host is not elsewhere; a bridge that is the host's way out is.
    let host = |words: &str| machine.host.must(&words.split(' ').collect::<Vec<_>>());
    host("ip link add other type bridge");
    host("ip address add 198.18.79.1/24 dev other");
    host("ip link set other up");
    host(&format!(
        "ip link add veth0 type veth peer name eth2 netns {}",
        machine.far.name
    ));
    host("ip link set veth0 master other up");
    let far = |words: &str| machine.far.must(&words.split(' ').collect::<Vec<_>>());
    far("ip address add 198.18.79.2/24 dev eth2");
    far("ip link set eth2 up");
    let inside = "http://198.18.79.2/";
    eventually("the host reaches it", || {
        machine.host.fetch(inside).is_some()
    });
    assert!(!reaches("one", inside));
    host("ip route add default via 198.18.79.2");
    assert!(reaches("one", inside));
    host("ip route del default");

    // Whoever names the bridge has decided.
    let rules = |words: &str| machine.host.must(&["nft", words]);
    let device = |name: &str| {
        let id = machine.run(&[
            "inspect",
            "-f",
            "{{range .NetworkSettings.Networks}}{{.NetworkID}}{{end}}",
            name,
        ]);
        format!("ply-{}", &id.ok()[..11])
    };
    let (one, two) = (device("one"), device("two"));
    rules(&format!(
        "add rule ip filter FORWARD iifname {one} ip daddr 198.18.78.2 accept;
         add rule ip filter FORWARD oifname {one} accept"
    ));
    eventually("it is left to those rules", || machine.pings("one"));
    assert!(reaches("one", &outside[0]) && !reaches("one", &outside[1]));
    assert!(reaches("two", &outside[1]));
    // Nothing is led where nothing comes in.
    rules("add chain ip filter INPUT { type filter hook input priority 0; policy drop; }");
    eventually("nothing is led", || {
        !machine.elements("outlets4").contains("elements")
    });
    rules(&format!("add rule ip filter INPUT iifname {two} accept"));
    rules("add rule ip filter INPUT ct state established,related accept");
    eventually("it may come in", || reaches("two", &outside[1]));

    // It is as it was when the firewall is.
    rules("delete table ip filter; delete table ip6 filter");
    eventually("the map is empty", || {
        !machine.elements("outlets4").contains("elements")
    });
    assert!(machine.pings("one") && reaches("one", &outside[0]) && asks("one"));
    machine.reject_what_is_unknown();
    eventually("the way out is found again", || {
        reaches("one", &outside[0]) && reaches("two", &outside[2])
    });
    assert!(asks("one") && asks("two"));

    // What a killed monitor leaves is taken away by the next command, the rest with the last container.
    let own = machine.run(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "one"]);
    let own = format!("{} . tcp", own.ok());
    assert!(machine.elements("outlets4").contains(&own));
    kill_9(machine.ply.monitor_of("one"));
    machine.run(&["ps"]).ok();
    assert!(!machine.elements("outlets4").contains(&own));
    machine.run(&["rm", "-f", "one", "two", "hermit"]).ok();
    eventually("the table is gone", || {
        !machine
            .host
            .must(&["nft", "list", "tables"])
            .contains("ply")
    });
}

#[test]
fn a_connect_or_disconnect_killed_at_any_moment_is_repaired() {
    let ply = Ply::with_busybox();
    for network in ["one", "two"] {
        ply.run(&["network", "create", network]).ok();
    }
    serve(&ply, "web", &["--network", "two"]);
    sleeper(&ply, "client", &["--network", "one"]);
    let is_connected = || {
        let networks = ply.inspect("client", "{{json .NetworkSettings.Networks}}");
        networks.contains("\"two\":")
    };
    let devices = || {
        let shown = ply.run(&["exec", "client", "ls", "/sys/class/net"]);
        shown
            .ok()
            .lines()
            .filter(|name| name.starts_with("eth"))
            .count()
    };
    for round in 0..32_u64 {
        let verb = if round % 2 == 0 {
            "connect"
        } else {
            "disconnect"
        };
        let mut child = ply.spawn(&["network", verb, "two", "client"]);
        std::thread::sleep(Duration::from_micros(round * 600));
        let _ = child.kill();
        let _ = child.wait();
        // What is told is what is there, and can be changed again.
        eventually(&format!("round {round}: what is told is there"), || {
            devices() == if is_connected() { 2 } else { 1 }
        });
        let wanted = round % 2 == 0;
        if is_connected() != wanted {
            ply.run(&["network", verb, "two", "client"]).ok();
        }
        assert_eq!(
            (is_connected(), devices()),
            (wanted, 1 + usize::from(wanted))
        );
        let page = fetch(&ply, "client", "http://web/");
        assert_eq!(page.as_deref(), wanted.then_some("web"), "round {round}");
    }
    ply.run(&["rm", "-f", "client", "web"]).ok();
    for network in ["one", "two"] {
        ply.run(&["network", "rm", network]).ok();
    }
}
