//! The language, by example.

use proptest::prelude::*;

use super::expand::heredoc;
use super::expand::word;
use super::expand::words;
use super::*;

fn parse(text: &str) -> Dockerfile {
    Dockerfile::parse("Dockerfile", text.as_bytes())
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> String {
    match Dockerfile::parse("Dockerfile", text.as_bytes()) {
        Ok(read) => panic!("{text}: {read:?}"),
        Err(error) => error.to_string(),
    }
}

/// Reads one instruction of a stage.
fn one(text: &str) -> InstructionKind {
    let mut read = parse(&format!("FROM x\n{text}"));
    let mut instructions = read.stages.remove(0).instructions;
    assert_eq!(instructions.len(), 1, "{text}: {instructions:?}");
    instructions.remove(0).kind
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn variable(name: &str) -> Option<String> {
    let value = match name {
        "a" => "value",
        "path" => "one/two/two.tar.gz",
        "spaced" => "x  y",
        "empty" => "",
        _ => return None,
    };
    Some(value.to_owned())
}

#[test]
fn variables_have_the_shell_s_forms() {
    for (text, expected) in [
        ("plain", "plain"),
        ("$a/${a}", "value/value"),
        ("$nosuch|${nosuch}|", "||"),
        ("${nosuch:-d} ${nosuch-d} ${empty:-d} ${empty-d}", "d d d "),
        (
            "${a:+y} ${a+y} ${empty:+y} ${empty+y} ${nosuch+y}",
            "y y  y ",
        ),
        ("${nosuch:-${a:-x}}", "value"),
        ("${a:?needed}", "value"),
        ("${path#*/} ${path##*/}", "two/two.tar.gz two.tar.gz"),
        ("${path%.*} ${path%%.*}", "one/two/two.tar one/two/two"),
        (
            "${path/two/2} ${path//two/2}",
            "one/2/two.tar.gz one/2/2.tar.gz",
        ),
        (r"\$a '$a' \${a}", "$a $a ${a}"),
        (r#""$a" "\$a" "a\b" 'it''s'"#, r#"value $a a\b its"#),
        ("$a_b $1x", " x"),
        ("a$", "a$"),
    ] {
        assert_eq!(
            word(text, '\\', &variable),
            Ok(expected.to_owned()),
            "{text}"
        );
    }
    assert_eq!(
        word("`$a \\$a", '`', &variable),
        Ok("$a \\value".to_owned())
    );
}

#[test]
fn words_come_from_what_is_not_quoted() {
    let split = |text| words(text, '\\', &variable).expect("words");
    assert_eq!(
        split("$spaced \"$spaced\" a"),
        owned(&["x", "y", "x  y", "a"])
    );
    assert!(split("$empty").is_empty());
}

#[test]
fn quotes_of_a_heredoc_are_characters() {
    let text = "\"$a\" '$a' \\$a ${a:-x}\n";
    let expected = "\"value\" 'value' $a value\n";
    assert_eq!(heredoc(text, &variable), Ok(expected.to_owned()));
}

#[test]
fn bad_words_say_what_is_wrong() {
    for (text, words) in [
        ("${a", "missing '}'"),
        ("${}", "bad substitution"),
        ("${a^}", "unsupported modifier (^)"),
        ("${nosuch:?set it}", "nosuch: set it"),
        ("${empty:?}", "is not allowed to be empty"),
        ("'a", "matching single-quote"),
        ("\"a", "matching double-quote"),
        ("${a/b}", "missing '/'"),
    ] {
        let error = word(text, '\\', &variable).expect_err(text).to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    let deep = format!("{}x{}", "${n:-".repeat(100_000), "}".repeat(100_000));
    assert!(word(&deep, '\\', &variable).is_err());
}

#[test]
fn directives_come_first() {
    let read =
        parse("# Syntax = docker/dockerfile:1\n#escape=`\n#check=skip=all\nFROM x\nRUN a `\n b\n");
    assert_eq!(
        read.directives.syntax.as_deref(),
        Some("docker/dockerfile:1")
    );
    assert_eq!(read.directives.escape, '`');
    assert_eq!(read.directives.check.as_deref(), Some("skip=all"));
    let InstructionKind::Run(run) = &read.stages[0].instructions[0].kind else {
        panic!("no RUN");
    };
    assert_eq!(run.command, RunCommand::Shell("a  b".into()));
    assert_eq!(
        parse("# a comment\n# escape=`\nFROM x\n").directives.escape,
        '\\'
    );
    assert_eq!(parse("\u{feff}FROM x").stages.len(), 1);
}

#[test]
fn lines_go_on_over_comments_and_empty_lines() {
    let read = parse("FROM x\nRUN a && \\  \n  # a comment\n\n  b && \\\n c\nCMD d\n");
    let instructions = &read.stages[0].instructions;
    assert_eq!(instructions[0].source.text, "RUN a &&   b &&  c");
    assert_eq!(
        (
            instructions[0].source.first_line,
            instructions[0].source.last_line
        ),
        (2, 6)
    );
    assert_eq!(instructions[1].source.first_line, 7);
    assert!(read.warnings[0].starts_with("Empty continuation line found in: RUN a"));
    let escaped = parse("FROM x\nRUN a\\\\\nCMD b");
    assert_eq!(escaped.stages[0].instructions.len(), 2);
    assert_eq!(
        parse("FROM x\nRUN a \\").stages[0].instructions[0]
            .source
            .text,
        "RUN a"
    );
}

#[test]
fn stages_have_names_and_numbers() {
    let read = parse("ARG V=1\nFROM --platform=$P a:$V AS One\nFROM scratch as two\nFROM one\n");
    assert_eq!(
        read.global_args[0].declarations[0].default.as_deref(),
        Some("1")
    );
    assert_eq!(read.stages[0].platform.as_deref(), Some("$P"));
    assert_eq!(read.stages[0].base, "a:$V");
    assert_eq!(read.stage("ONE", 3), Some(0));
    assert_eq!(read.stage("two", 1), None);
    assert_eq!(read.stage("1", 2), Some(1));
    assert_eq!(read.stage("2", 2), None);
    assert_eq!(read.steps(), 4);
}

#[test]
fn commands_have_two_forms() {
    let exec = CommandLine::Exec(owned(&["a", "b"]));
    assert_eq!(
        one("CMD [\"a\", \"b\"]"),
        InstructionKind::Cmd(exec.clone())
    );
    assert_eq!(
        one("entrypoint [ \"a\",\"b\" ]"),
        InstructionKind::Entrypoint(exec)
    );
    let shell = CommandLine::Shell("[\"a\", b]".into());
    assert_eq!(one("CMD [\"a\", b]"), InstructionKind::Cmd(shell));
    assert_eq!(
        one("SHELL [\"bash\", \"-c\"]"),
        InstructionKind::Shell(owned(&["bash", "-c"]))
    );
}

#[test]
fn names_and_values_have_two_forms() {
    let pair = |name: &str, value: &str| Pair {
        name: name.into(),
        value: value.into(),
    };
    assert_eq!(
        one("ENV a  b c"),
        InstructionKind::Env(vec![pair("a", "b c")])
    );
    assert_eq!(
        one("ENV a=b c=\"d e\" f=g\\ h"),
        InstructionKind::Env(vec![
            pair("a", "b"),
            pair("c", "\"d e\""),
            pair("f", "g\\ h")
        ])
    );
    assert_eq!(
        one("LABEL \"a b\"=c"),
        InstructionKind::Label(vec![pair("\"a b\"", "c")])
    );
    let arg = |name: &str, default: Option<&str>| ArgDeclaration {
        name: name.into(),
        default: default.map(str::to_owned),
    };
    assert_eq!(
        one("ARG a b=c d="),
        InstructionKind::Arg(vec![
            arg("a", None),
            arg("b", Some("c")),
            arg("d", Some(""))
        ])
    );
}

#[test]
fn copies_have_flags_sources_and_a_destination() {
    let InstructionKind::Copy(copy) = one(
        "COPY --from=build --chown=1:2 --chmod=755 --link --parents --exclude=*.o --exclude=x a \"b/ /c\"",
    ) else {
        panic!("no COPY");
    };
    assert_eq!(copy.from.as_deref(), Some("build"));
    assert!(copy.parents && copy.transfer.link);
    assert_eq!(copy.transfer.exclude, ["*.o", "x"]);
    assert_eq!(copy.transfer.sources, ["a", "\"b/"]);
    assert_eq!(copy.transfer.destination, "/c\"");
    let InstructionKind::Add(add) =
        one("ADD --checksum=sha256:0 --keep-git-dir=true [\"a b\", \"/c d/\"]")
    else {
        panic!("no ADD");
    };
    assert!(add.keep_git_dir);
    assert_eq!(add.transfer.sources, ["a b"]);
    assert_eq!(add.transfer.destination, "/c d/");
}

#[test]
fn here_documents_are_files_scripts_or_the_shell_s() {
    let read = parse(
        "FROM x\nCOPY <<a <<-'b' c /d/\n1 $v\na\n\t2\n\tb\nRUN <<EOF\necho\nEOF\nRUN cat <<X - | sh\nhi\nX\nRUN <<EOF\n#!/bin/a\nEOF\nCMD z\n",
    );
    let kinds: Vec<_> = read.stages[0]
        .instructions
        .iter()
        .map(|one| &one.kind)
        .collect();
    let InstructionKind::Copy(copy) = kinds[0] else {
        panic!("no COPY");
    };
    let heredoc = |name: &str, content: &str, expand| Heredoc {
        name: name.into(),
        content: content.into(),
        expand,
    };
    assert_eq!(
        copy.transfer.heredocs,
        [heredoc("a", "1 $v\n", true), heredoc("b", "2\n", false)]
    );
    assert_eq!(copy.transfer.sources, ["c"]);
    let command = |kind: &InstructionKind| match kind {
        InstructionKind::Run(run) => run.command.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(command(kinds[1]), RunCommand::Shell("echo\n".into()));
    assert_eq!(
        command(kinds[2]),
        RunCommand::Shell("cat <<X - | sh\nhi\nX".into())
    );
    assert_eq!(
        command(kinds[3]),
        RunCommand::Script(heredoc("EOF", "#!/bin/a\n", true))
    );
    assert_eq!(read.stages[0].instructions[1].source.last_line, 9);
    // Where the shell would begin none, there is none.
    assert_eq!(
        parse("FROM x\nRUN echo $((1<<3))\nRUN a <<< b\n").stages[0]
            .instructions
            .len(),
        2
    );
}

#[test]
fn triggers_are_kept_as_written_and_read_later() {
    let InstructionKind::Onbuild(text) = one("ONBUILD COPY <<a /b\nx\na\n") else {
        panic!("no ONBUILD");
    };
    assert_eq!(text, "COPY <<a /b\nx\na\n");
    let from = Source {
        first_line: 3,
        last_line: 3,
        text: "FROM x".into(),
    };
    let read = Dockerfile::parse_trigger("f", &from, &text).expect("a trigger");
    assert_eq!(read.source.first_line, 3);
    assert!(matches!(read.kind, InstructionKind::Copy(copy) if copy.transfer.heredocs.len() == 1));
    for bad in ["FROM y", "ONBUILD RUN x", "NOSUCH", "", "RUN a\nRUN b"] {
        assert!(Dockerfile::parse_trigger("f", &from, bad).is_err(), "{bad}");
    }
}

#[test]
fn health_checks_have_times_and_a_command() {
    let check = one("HEALTHCHECK --interval=1m30s --timeout=5s --retries=4 CMD curl x");
    let InstructionKind::Healthcheck(Health::Check(check)) = check else {
        panic!("no check");
    };
    assert_eq!(check.test, ["CMD-SHELL", "curl x"]);
    assert_eq!(
        (check.interval, check.timeout, check.retries),
        (90_000_000_000, 5_000_000_000, 4)
    );
    assert_eq!(
        one("HEALTHCHECK none"),
        InstructionKind::Healthcheck(Health::None)
    );
}

#[test]
fn mounts_are_read_when_their_variables_have_values() {
    let InstructionKind::Run(run) = one(
        "RUN --mount=type=cache,target=/c/$a,sharing=locked,mode=0700,uid=1 --mount=target=/b,from=x,rw --mount=type=secret,id=s,required --network=none make",
    ) else {
        panic!("no RUN");
    };
    let mounts: Vec<_> = run
        .mounts
        .iter()
        .map(|mount| mount.expand('\\', &variable).expect("a mount"))
        .collect();
    assert_eq!(mounts[0].target.as_deref(), Some("/c/value"));
    assert!(matches!(
        mounts[0].kind,
        RunMountKind::Cache {
            sharing: CacheSharing::Locked,
            mode: Some(0o700),
            uid: Some(1),
            read_only: false,
            ..
        }
    ));
    assert!(
        matches!(&mounts[1].kind, RunMountKind::Bind { from: Some(from), writable: true, .. } if from == "x")
    );
    assert!(
        matches!(&mounts[2].kind, RunMountKind::Secret { id: Some(id), required: true, .. } if id == "s")
    );
    assert_eq!(run.network, RunNetwork::None);
    assert_eq!(run.command, RunCommand::Shell("make".into()));
}

#[test]
fn mistakes_are_told_in_docker_s_words() {
    for (text, expected) in [
        ("", "the Dockerfile (Dockerfile) cannot be empty"),
        (
            "# only\n",
            "failed to parse Dockerfile: file with no instructions",
        ),
        (
            "FROM b\nFOO bar\n",
            "dockerfile parse error line 2: unknown instruction: FOO",
        ),
        (
            "FROM b\nCOPY --nosuch=1 f /\n",
            "dockerfile parse error line 2: Unknown flag: nosuch",
        ),
        (
            "FROM b\nENV foo\n",
            "failed to parse Dockerfile: ENV must have two arguments",
        ),
        (
            "FROM b\nLABEL\n",
            "dockerfile parse error line 2: LABEL requires at least one argument",
        ),
        (
            "FROM b\nWORKDIR\n",
            "dockerfile parse error line 2: WORKDIR requires exactly one argument",
        ),
        (
            "FROM b\nHEALTHCHECK FOO\n",
            "dockerfile parse error line 2: Unknown type \"FOO\" in HEALTHCHECK (try CMD)",
        ),
        (
            "FROM b\nENV a=b c\n",
            "can't find = in \"c\". Must be of the form: name=value",
        ),
        ("FROM b\nENV =b\n", "ENV names can not be blank"),
        ("FROM\n", "FROM requires either one or three arguments"),
        ("FROM a AS 1b\n", "invalid name for build stage: \"1b\""),
        (
            "RUN x\n",
            "dockerfile parse error line 1: no build stage in current context",
        ),
        ("ARG x\n", "no build stage in current context"),
        (
            "FROM b\nCOPY a\n",
            "COPY requires at least two arguments, but only one was provided",
        ),
        ("FROM b\nRUN <<EOF\nx\n", "unterminated heredoc"),
        (
            "FROM b\nCMD [\"a\", 1]\n",
            "arrays must be comprised of strings only",
        ),
        (
            "FROM b\nSHELL sh\n",
            "SHELL requires the arguments to be in JSON form",
        ),
        (
            "FROM b\nONBUILD FROM x\n",
            "FROM isn't allowed as an ONBUILD trigger",
        ),
        ("FROM b\nCMD --x y\n", "Unknown flag: x"),
        (" \n\n", "file with no instructions"),
        ("FROM b\nONBUILD onbuild RUN x\n", "Chaining ONBUILD via"),
        (
            "FROM b\nCOPY --link --link a b\n",
            "Duplicate flag specified: link",
        ),
        ("FROM b\nCOPY --from a b\n", "Missing a value on flag: from"),
        (
            "FROM b\nHEALTHCHECK --interval=x CMD a\n",
            "invalid duration \"x\" for flag interval",
        ),
        (
            "FROM b\nHEALTHCHECK --interval=1us CMD a\n",
            "cannot be less than 1ms",
        ),
        (
            "FROM b\nHEALTHCHECK --retries=-1 CMD a\n",
            "--retries must be at least 1 (not -1)",
        ),
        (
            "FROM b\nHEALTHCHECK CMD\n",
            "Missing command after HEALTHCHECK CMD",
        ),
        (
            "FROM b\nRUN --mount=type=x a\n",
            "unsupported mount type \"x\"",
        ),
        (
            "FROM b\nRUN --mount=type=tmpfs,target=/a,id=b c\n",
            "unexpected key 'id' for mount type 'tmpfs'",
        ),
        (
            "FROM b\nRUN --mount=type=cache a\n",
            "cache mount needs a target",
        ),
        (
            "FROM b\nRUN --network=x a\n",
            "invalid value \"x\" for flag network",
        ),
        (
            "# escape=x\nFROM b\n",
            "invalid escape token 'x' does not match ` or \\",
        ),
        (
            "#escape=`\n#escape=`\nFROM b\n",
            "only one escape parser directive can be used",
        ),
        (
            "FROM b\nCOPY a <<EOF\nEOF\n",
            "COPY cannot accept a heredoc as a destination",
        ),
        (
            "FROM b\nVOLUME [\"\"]\n",
            "VOLUME specified can not be an empty string",
        ),
    ] {
        let error = error(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    let comment = Dockerfile::parse("Dockerfile", b"# \xff\nFROM x");
    assert!(comment.is_ok(), "{comment:?}");
}

/// Texts that have been wrong, or were chosen to be costly.
fn corpus() -> Vec<String> {
    vec![
        "FROM x\nRUN <<".repeat(1000),
        format!("FROM x\nENV {}", "a=\"".repeat(100_000)),
        format!("FROM x\nRUN {}", "<<a ".repeat(10_000)),
        format!("FROM x\nCMD {}", "[".repeat(200_000)),
        format!("FROM x\nRUN {}", "\\\n".repeat(100_000)),
        format!("FROM x\nCOPY {} /", "${a:-".repeat(50_000)),
        format!("FROM x\n{}", "# comment \\\n".repeat(100_000)),
        "\\\n\\\n".repeat(100_000),
        "FROM x\nRUN a \\\n\\\n\\".to_owned(),
    ]
}

/// How many cases the fuzzing tests try: `PLY_FUZZ_CASES`.
fn cases() -> u32 {
    let cases = std::env::var("PLY_FUZZ_CASES");
    cases
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(2000)
}

/// Reads hostile text, and expands all that is in it.
fn survive(text: &str) {
    if let Ok(read) = Dockerfile::parse("Dockerfile", text.as_bytes()) {
        for stage in &read.stages {
            let _ = word(&stage.base, read.directives.escape, &variable);
            for instruction in &stage.instructions {
                let _ = words(&instruction.source.text, read.directives.escape, &variable);
                if let InstructionKind::Run(run) = &instruction.kind {
                    for mount in &run.mounts {
                        let _ = mount.expand(read.directives.escape, &variable);
                    }
                }
            }
        }
    }
}

#[test]
fn costly_texts_are_read_in_no_time() {
    let begin = std::time::Instant::now();
    corpus().iter().for_each(|text| survive(text));
    assert!(
        begin.elapsed() < std::time::Duration::from_secs(60),
        "{:?}",
        begin.elapsed()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn no_text_is_too_strange(
        lines in proptest::collection::vec(
            ("(FROM|RUN|COPY|ADD|ENV|ARG|LABEL|CMD|ONBUILD|HEALTHCHECK|VOLUME|# escape=|) ?", "[-=<>\"'`$\\\\{}\\[\\]/:%#?+*a-c0 ,\t]{0,24}(\\\\|`)?"),
            0..12,
        ),
    ) {
        let text: String = lines.iter().map(|(keyword, rest)| format!("{keyword}{rest}\n")).collect();
        survive(&text);
        survive(&format!("FROM x\n{text}"));
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in any::<Vec<u8>>()) {
        let _ = Dockerfile::parse("Dockerfile", &bytes);
    }
}
