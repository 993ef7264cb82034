//! The engine's API: how many times a second `GET /containers/json` is answered with 100 containers that run, by
//! `ply serve` and by Docker's engine in turns, and what memory `ply serve` has before and after 100,000 requests.
//!
//! `cargo run --release -p benches --bin api`, as root, beside a built `ply`. It wants Debian's `docker.io` and
//! `busybox-static`.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tests::Ply;
use tests::Server;

const CONTAINERS: usize = 100;
const CLIENTS: usize = 4;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
const MANY: u64 = 100_000;
const LIST: &str = "/v1.41/containers/json?all=1";

/// A client that keeps its connection.
struct Client(BufReader<UnixStream>);

impl Client {
    fn get(&mut self, path: &str) -> Vec<u8> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let stream = self.0.get_mut();
        stream.write_all(request.as_bytes()).expect("written");
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a status");
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        let (mut length, mut is_chunked) = (0, false);
        loop {
            line.clear();
            self.0.read_line(&mut line).expect("a header");
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length: ") {
                length = value.parse().expect("a length");
            }
            is_chunked |= header == "transfer-encoding: chunked";
        }
        let mut body = Vec::new();
        while is_chunked {
            line.clear();
            self.0.read_line(&mut line).expect("a chunk's size");
            let size = u64::from_str_radix(line.trim_end(), 16).expect("a size");
            let mut chunk = (&mut self.0).take(size + 2);
            chunk.read_to_end(&mut body).expect("a chunk");
            body.truncate(body.len() - 2);
            is_chunked = size > 0;
        }
        let mut rest = (&mut self.0).take(length);
        rest.read_to_end(&mut body).expect("a body");
        body
    }
}

/// Asks so many times, or for so long, from several clients at once; returns the requests a second.
fn rate(server: &Server, most: u64, duration: Duration) -> f64 {
    let asked = AtomicU64::new(0);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Client(BufReader::new(server.connect()));
                while begin.elapsed() < duration && asked.fetch_add(1, Ordering::Relaxed) < most {
                    assert!(client.get(LIST).len() > CONTAINERS * 100);
                }
            });
        }
    });
    let asked = asked.load(Ordering::Relaxed).min(most);
    asked as f64 / begin.elapsed().as_secs_f64()
}

/// Returns a process's own memory in KiB.
fn memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.expect("a number")
}

fn main() {
    let ply = Ply::with_busybox();
    let ours = Server::start(&ply);
    let theirs = Server::of_docker();
    for server in [&ours, &theirs] {
        for number in 0..CONTAINERS {
            let name = format!("c{number}");
            let command = [
                "run",
                "-d",
                "--name",
                &name,
                "--network",
                "none",
                "busybox",
                "sleep",
                "100000",
            ];
            server.docker(&command).ok();
        }
    }
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (rates, server) in rates.iter_mut().zip([&ours, &theirs]) {
            rates.push(rate(server, u64::MAX, ROUND));
        }
    }
    let medians = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!("| with | requests a second | ratio |\n| --- | ---: | ---: |");
    for (name, median) in ["ply", "docker"].into_iter().zip(medians) {
        println!("| {name} | {median:.0} | {:.2} |", median / medians[0]);
    }
    let before = memory(ours.pid());
    rate(&ours, MANY, Duration::MAX);
    let after = memory(ours.pid());
    ply.remove_all();
    println!("\n`ply serve` has {before} KiB of its own, and {after} KiB after {MANY} requests.");
}
