//! The parser of Dockerfiles against damaged ones: a file with one of everything, with pieces changed, cut out, doubled or
//! put in. Whatever comes is read or refused with words, and what is read can be expanded.
//!
//! `PLY_FUZZ_CASES=1000000 cargo test --release -p runtime --test hostile_dockerfiles` goes on for long.

use proptest::prelude::*;
use runtime::build::dockerfile::Dockerfile;
use runtime::build::dockerfile::InstructionKind;
use runtime::build::dockerfile::expand;
use runtime::build::ignore::IgnoreFile;

const SEED: &str = r#"# syntax=docker/dockerfile:1
# escape=\
ARG BASE=busybox
FROM --platform=$BUILDPLATFORM ${BASE:-x}:latest AS one
ARG A=1 B="two words" C
ENV K=v Q="a $A ${B:+y} ${C:-${A#1}} ${K%%v} ${K/v/w} ${K//v/w}" OLD='x'
ENV OLD form of it
RUN --mount=type=cache,target=/c,sharing=locked --mount=type=secret,id=s,required --network=none echo a \
  # comment

  && echo b
RUN <<EOF cat <<-"TWO" > /x
one
EOF
	two
	TWO
COPY --chown=1:2 --chmod=644 --from=one --exclude=*.md --link --parents a b* c /d/
COPY <<EOF /dest/
$A
EOF
ADD --checksum=sha256:00 --keep-git-dir=true --unpack https://host/x.tar /x
LABEL a=b "c d"='e f'
EXPOSE 80/tcp $P
VOLUME ["/a", "/b c"]
USER ${U:-web}
WORKDIR /w/$A
STOPSIGNAL SIG$S
HEALTHCHECK --interval=1m30s --retries=3 CMD ["true"]
ONBUILD RUN <<EOF
x
EOF
SHELL ["/bin/sh", "-c"]
CMD ["a", "b"]
ENTRYPOINT exec x
MAINTAINER me
"#;

/// A damage to do to text; positions are parts of 65536 of the length.
#[derive(Debug, Clone)]
enum Damage {
    Change(u16, char),
    Remove(u16, u16),
    Double(u16, u16),
    Insert(u16, &'static str, u8),
}

/// What means something somewhere.
const TOKENS: [&str; 28] = [
    "\\\n",
    "\n",
    "\"",
    "'",
    "$",
    "${",
    "}",
    "${a:-",
    "${a/",
    "${a##*",
    "<<EOF",
    "<<-'E'",
    "\nEOF\n",
    "[\"",
    "\"]",
    "[",
    "--",
    "--mount=",
    "--from",
    " AS ",
    "\nFROM ",
    "\nRUN ",
    "\nCOPY ",
    "\nONBUILD ",
    "#",
    "`",
    "=",
    "\u{feff}",
];

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<u16>(), any::<char>()).prop_map(|(at, character)| Damage::Change(at, character)),
        (any::<u16>(), 1u16..80).prop_map(|(at, length)| Damage::Remove(at, length)),
        (any::<u16>(), 1u16..200).prop_map(|(at, length)| Damage::Double(at, length)),
        (any::<u16>(), prop::sample::select(&TOKENS[..]), 1u8..90)
            .prop_map(|(at, token, times)| Damage::Insert(at, token, times)),
    ]
}

fn apply(text: &mut Vec<char>, damage: &Damage) {
    let place = |at: u16| usize::from(at) * text.len() / 65536;
    match damage {
        _ if text.is_empty() => {}
        Damage::Change(at, character) => {
            let at = place(*at);
            text[at] = *character;
        }
        Damage::Remove(at, length) => {
            let at = place(*at);
            let end = text.len().min(at + usize::from(*length));
            text.drain(at..end);
        }
        Damage::Double(at, length) => {
            let at = place(*at);
            let end = text.len().min(at + usize::from(*length));
            let copy = text[at..end].to_vec();
            text.splice(at..at, copy);
        }
        Damage::Insert(at, token, times) => {
            let at = place(*at);
            text.splice(at..at, token.repeat(usize::from(*times)).chars());
        }
    }
}

/// Reads a file and does with it what a build does.
fn survive(bytes: &[u8]) {
    let read = match Dockerfile::parse("Dockerfile", bytes) {
        Ok(read) => read,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let escape = read.directives.escape;
    let lookup = |name: &str| name.len().is_multiple_of(2).then(|| format!("{name}/a b"));
    let word = |text: &str| drop(expand::word(text, escape, &lookup));
    for stage in &read.stages {
        word(&stage.base);
        for instruction in &stage.instructions {
            assert!(instruction.source.first_line <= instruction.source.last_line);
            match &instruction.kind {
                InstructionKind::Env(pairs) | InstructionKind::Label(pairs) => {
                    pairs.iter().for_each(|pair| word(&pair.value));
                }
                InstructionKind::Expose(ports) => {
                    for port in ports {
                        let _ = expand::words(port, escape, &lookup);
                    }
                }
                InstructionKind::Run(run) => {
                    for mount in &run.mounts {
                        let _ = mount.expand(escape, &lookup);
                    }
                }
                InstructionKind::Copy(copy) => {
                    copy.transfer.sources.iter().for_each(|source| word(source));
                    for heredoc in &copy.transfer.heredocs {
                        let _ = expand::heredoc(&heredoc.content, &lookup);
                    }
                    let _ = IgnoreFile::new(copy.transfer.exclude.iter().map(String::as_str));
                }
                InstructionKind::Onbuild(trigger) => {
                    let _ = Dockerfile::parse_trigger("Dockerfile", &stage.source, trigger);
                }
                _ => {}
            }
        }
    }
}

fn cases() -> u32 {
    let wanted = std::env::var("PLY_FUZZ_CASES").ok();
    wanted.and_then(|cases| cases.parse().ok()).unwrap_or(1000)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn a_damaged_dockerfile_is_read_or_refused(damages in prop::collection::vec(damage(), 1..12)) {
        let mut text: Vec<char> = SEED.chars().collect();
        damages.iter().for_each(|damage| apply(&mut text, damage));
        let text: String = text.into_iter().collect();
        survive(text.as_bytes());
    }
}

#[test]
fn the_undamaged_one_is_read() {
    let read = Dockerfile::parse("Dockerfile", SEED.as_bytes()).expect("a Dockerfile");
    assert_eq!(read.stages[0].instructions.len(), 20);
    survive(SEED.as_bytes());
}
