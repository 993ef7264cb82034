//! Whatever is killed at whatever moment, the truth is told afterwards and nothing is left behind.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::process::Child;
use std::time::Duration;
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tests::Ply;
use tests::eventually;

/// How many kills there are unless `PLY_DEATH_ROUNDS` says otherwise.
const ROUNDS: u32 = 200;

/// How long a command may take that nobody kills.
const PATIENCE: Duration = Duration::from_secs(30);

/// The containers that commands are about.
const NAMES: [&str; 4] = ["c0", "c1", "c2", "c3"];

/// Numbers that look random and are the same for the same seed (xorshift64*).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        (mixed >> 33) as usize % bound
    }

    fn of<T: Copy>(&mut self, things: &[T]) -> T {
        things[self.below(things.len())]
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn kill_9(pid: i32) {
    // It may have ended by itself.
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

fn command(chance: &mut Chance) -> Vec<&'static str> {
    let name = chance.of(&NAMES);
    let policy = chance.of(&["no", "always", "on-failure:5", "unless-stopped"]);
    let script = "trap 'exit 3' TERM; sleep 1000 & wait";
    let run = |options: &[&'static str]| {
        let options = [
            &["run"],
            options,
            &["--name", name, "busybox", "sh", "-c", script],
        ];
        options.concat()
    };
    match chance.below(14) {
        0..=3 => run(&["-d", "--restart", policy]),
        4 => run(&["-d", "--rm", "-m", "64m"]),
        5 => vec!["start", name],
        6 => vec!["stop", "-t", "1", name],
        7 => vec!["restart", "-t", "1", name],
        8 => vec!["pause", name],
        9 => vec!["unpause", name],
        10 => vec!["exec", name, "sh", "-c", "echo x > /file; sleep 0.01"],
        11 => vec!["rm", "-f", name],
        12 => vec!["kill", name],
        _ => vec!["commit", name, "made"],
    }
}

/// The processes that may be killed: monitors, helpers and what runs in containers.
fn victims(ply: &Ply) -> Vec<i32> {
    let mut pids = ply.processes();
    let children: Vec<i32> = pids
        .iter()
        .flat_map(|pid| {
            let path = format!("/proc/{pid}/task/{pid}/children");
            let text = fs::read_to_string(path).unwrap_or_default();
            let pids: Vec<i32> = text
                .split_whitespace()
                .filter_map(|it| it.parse().ok())
                .collect();
            pids
        })
        .collect();
    pids.extend(children);
    pids
}

fn wait_for(mut child: Child, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("a child").is_none() {
        assert!(Instant::now() < deadline, "{what} does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Returns what is not as `ps` says; settles by itself where something is on its way.
fn lies(ply: &Ply) -> Vec<String> {
    let format = "{{.ID}} {{.State}} {{.Names}}";
    let listed = ply.run(&["ps", "-a", "--no-trunc", "--format", format]);
    let states: BTreeMap<&str, &str> = listed
        .ok()
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect();
    let mut lies = Vec::new();
    let mut alive = 0;
    for (id, state) in &states {
        let groups = Ply::cgroups_of(id);
        let (state, name) = state.split_once(' ').expect("two words");
        match state {
            "running" | "paused" => {
                alive += 1;
                let pid = ply.run(&["inspect", "-f", "{{.State.Pid}}", id]).out;
                let group = fs::read_to_string(format!("/proc/{}/cgroup", pid.trim()));
                if !group.is_ok_and(|group| group.contains(id)) {
                    lies.push(format!(
                        "{name} is {state}, but process {} is not its",
                        pid.trim()
                    ));
                }
            }
            "restarting" => alive += 1,
            _ if !groups.is_empty() => lies.push(format!("{name} is {state} and has {groups:?}")),
            _ => {}
        }
    }
    // A monitor and its helper each; what waits for its restart has no helper.
    let processes = ply.processes().len();
    if processes > alive * 2 || processes < alive {
        lies.push(format!(
            "{processes} processes for {alive} containers: {states:?}"
        ));
    }
    lies
}

#[test]
fn the_truth_is_told_after_any_death() {
    let ply = Ply::with_busybox();
    let seed = number("PLY_DEATH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let rounds = number("PLY_DEATH_ROUNDS").map_or(ROUNDS, |rounds| rounds as u32);
    println!("PLY_DEATH_SEED={seed}");
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut history = Vec::new();
    for round in 0..rounds {
        let arguments = command(&mut chance);
        let what = arguments.join(" ");
        let child = ply
            .command(&arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("ply runs");
        let own = child.id() as i32;
        std::thread::sleep(Duration::from_micros(chance.below(30_000) as u64));
        let victim = match chance.below(3) {
            0 => own,
            _ => {
                let victims = victims(&ply);
                if victims.is_empty() {
                    own
                } else {
                    chance.of(&victims)
                }
            }
        };
        kill_9(victim);
        let whose = if victim == own {
            "the command"
        } else {
            "another"
        };
        history.push(format!("{round}: {what}, killed {whose}"));
        // What is frozen is waited for by a command that others have frozen it under.
        if arguments[0] == "exec" && victim != own {
            ply.run(&["unpause", arguments[1]]);
        }
        wait_for(child, &what);
        let mut seen = lies(&ply);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !seen.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            seen = lies(&ply);
        }
        let last = &history[history.len().saturating_sub(8)..];
        assert!(
            seen.is_empty(),
            "{seen:#?}\nPLY_DEATH_SEED={seed} {last:#?}"
        );
    }
    // All of it still works.
    for name in NAMES {
        ply.run(&["rm", "-f", name]);
        ply.run(&["run", "-d", "--name", name, "busybox", "sleep", "1000"])
            .ok();
        ply.run(&["exec", name, "true"]).ok();
        ply.run(&["stop", "-t", "0", name]).ok();
        ply.run(&["start", name]).ok();
        assert_eq!(ply.inspect(name, "{{.State.Status}}"), "running");
    }
    assert_eq!(ply.run(&["system", "check"]).ok(), "");
}

#[test]
fn a_hundred_containers_start_together_and_cost_little() {
    let ply = Ply::with_busybox();
    let names: Vec<String> = (0..100).map(|number| format!("many{number}")).collect();
    let begun = Instant::now();
    let children: Vec<Child> = names
        .iter()
        .map(|name| ply.spawn(&["run", "-d", "--name", name, "busybox", "sleep", "1000"]))
        .collect();
    for mut child in children {
        assert!(child.wait().expect("an end").success());
    }
    println!("100 containers in {:?}", begun.elapsed());
    let listed = Instant::now();
    assert_eq!(ply.run(&["ps", "-q"]).ok().lines().count(), 100);
    println!("ps in {:?}", listed.elapsed());
    let processes = ply.processes();
    assert_eq!(processes.len(), 200, "a monitor and a helper each");
    let field = |pid: &i32, name: &str| -> u64 {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it lives");
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines
            .filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok())
            .sum()
    };
    let private: u64 = processes
        .iter()
        .map(|pid| field(pid, "Private_Clean:") + field(pid, "Private_Dirty:"))
        .sum();
    println!("{} KiB each", private / 100);
    assert!(private / 100 < 8 << 10, "{} KiB each", private / 100);
    let ticks = || -> u64 {
        let each = processes.iter().map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
            let fields: Vec<&str> = stat
                .rsplit(')')
                .next()
                .expect("fields")
                .split_whitespace()
                .collect();
            fields[11].parse::<u64>().expect("ticks") + fields[12].parse::<u64>().expect("ticks")
        });
        each.sum()
    };
    let before = ticks();
    std::thread::sleep(Duration::from_secs(2));
    let used = ticks() - before;
    assert!(used <= 2, "{used} ticks of two idle seconds");
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    ply.run(&[&["rm", "-f"], &all[..]].concat()).ok();
    eventually("all are gone", || ply.processes().is_empty());
}

/// What a removal leaves that is killed at its end: no row any more, and files whatever was taken away first.
#[test]
fn files_of_nobody_are_taken_away() {
    let ply = Ply::new();
    ply.run(&["ps"]).ok();
    let directory = ply.path("run/containers").join("5".repeat(64));
    for files in [&["lock"][..], &["alive"], &["lock", "alive"], &[]] {
        fs::create_dir_all(directory.join("root")).expect("made");
        for file in files {
            fs::write(directory.join(file), "").expect("written");
        }
        ply.run(&["ps"]).ok();
        assert!(!directory.exists(), "{files:?}");
    }
}
