//! ply's union beside kernel overlayfs and fuse-overlayfs, on the same layers, in turns, as one table with ratios.
//!
//! `cargo run --release -p benches --bin filesystems [-- [--rounds N] [read] [write] [depth] [build]]`, as root. It wants
//! Debian's `fuse-overlayfs`, `mmdebstrap` and a C compiler. Everything it makes lies in a directory of its own that
//! goes when it ends.

mod contender;
mod fixture;
mod table;
mod workload;

use self::contender::Contender;
use self::contender::Mounted;
use self::fixture::Fixture;
use self::table::Table;

/// How often each thing is measured, unless `--rounds` says otherwise; one more warms up.
const ROUNDS: usize = 5;

/// The numbers of layers that lookups are measured at.
const DEPTHS: [usize; 5] = [1, 8, 32, 128, 500];

fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments
        .peek()
        .is_some_and(|first| first == contender::SERVE)
    {
        return contender::serve(&arguments.skip(1).collect::<Vec<_>>());
    }
    let mut rounds = ROUNDS;
    let mut wanted = Vec::new();
    while let Some(word) = arguments.next() {
        match word.as_str() {
            "--rounds" => {
                let count = arguments.next().and_then(|count| count.parse().ok());
                rounds = count.expect("--rounds takes a number");
            }
            "read" | "write" | "depth" | "build" => wanted.push(word),
            other => panic!("{other}: not one of read, write, depth, build"),
        }
    }
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|word| word == name);
    let dir = tempfile::tempdir().expect("a directory");
    if is_wanted("read") || is_wanted("write") || is_wanted("build") {
        let fixture = Fixture::distribution(dir.path());
        for (name, workloads) in [
            ("read", workload::READ),
            ("write", workload::WRITE),
            ("build", workload::BUILD),
        ] {
            if is_wanted(name) {
                let mut table = Table::new();
                for round in 0..=rounds {
                    for contender in Contender::ALL {
                        let mounted = Mounted::new(&fixture, contender, dir.path());
                        for workload in workloads {
                            let measured = (workload.run)(&mounted, &fixture);
                            if round > 0 {
                                table.add(workload.name, contender, measured);
                            }
                        }
                    }
                }
                table.print();
            }
        }
    }
    if is_wanted("depth") {
        let mut table = Table::new();
        for depth in DEPTHS {
            let fixture = Fixture::deep(dir.path(), depth);
            for round in 0..=rounds {
                for contender in Contender::ALL {
                    let mounted = Mounted::new(&fixture, contender, dir.path());
                    for (name, names) in [("there", "file"), ("missing", "none")] {
                        let measured = workload::look_up(&mounted, &fixture, names);
                        if round > 0 {
                            let name = format!("first lookup, {name}, {depth} layers");
                            table.add(&name, contender, measured);
                        }
                    }
                }
            }
        }
        table.print();
    }
}
