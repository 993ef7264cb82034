//! From lines to stages and instructions.

use crate::container::Healthcheck;
use crate::container::nanoseconds;

use super::Add;
use super::ArgDeclaration;
use super::CommandLine;
use super::Copy;
use super::Directives;
use super::Dockerfile;
use super::DockerfileError;
use super::GlobalArgs;
use super::Health;
use super::Heredoc;
use super::Instruction;
use super::InstructionKind;
use super::Mistake;
use super::MountFlag;
use super::Pair;
use super::Run;
use super::RunCommand;
use super::RunNetwork;
use super::RunSecurity;
use super::Source;
use super::Stage;
use super::Transfer;
use super::flags::Flags;
use super::lexer;
use super::lexer::Line;
use super::words;

/// Reads a Dockerfile.
pub(super) fn dockerfile(name: &str, bytes: &[u8]) -> Result<Dockerfile, DockerfileError> {
    let error = |(at, mistake)| DockerfileError {
        file: name.to_owned(),
        at: Box::new(at),
        mistake,
    };
    let lines = lexer::lines(bytes).map_err(error)?;
    let mut dockerfile = Dockerfile {
        name: name.to_owned(),
        directives: lines.directives,
        global_args: Vec::new(),
        stages: Vec::new(),
        warnings: lines.warnings,
    };
    for line in &lines.lines {
        add(&mut dockerfile, line).map_err(|mistake| error((line.source.clone(), mistake)))?;
    }
    match dockerfile.stages.is_empty() {
        true => Err(error((last_source(&lines.lines), Mistake::NoStage))),
        false => Ok(dockerfile),
    }
}

fn last_source(lines: &[Line]) -> Source {
    lines
        .last()
        .map(|line| line.source.clone())
        .unwrap_or_default()
}

/// Reads a trigger of a base image.
pub(super) fn trigger(
    name: &str,
    from: &Source,
    trigger: &str,
) -> Result<Instruction, DockerfileError> {
    let error = |mistake| DockerfileError {
        file: name.to_owned(),
        at: Box::new(from.clone()),
        mistake,
    };
    let lines = lexer::trigger_lines(trigger, Directives::default());
    let lines = lines.map_err(|(_, mistake)| error(mistake))?.lines;
    let [line] = &lines[..] else {
        let second = lines.get(1).map(|line| line.keyword.clone());
        return Err(error(Mistake::InvalidTrigger(second.unwrap_or_default())));
    };
    check_trigger(&line.keyword).map_err(error)?;
    let kind = instruction(line, '\\').map_err(error)?;
    Ok(Instruction {
        source: Source {
            text: line.source.text.clone(),
            ..from.clone()
        },
        kind,
    })
}

/// Adds a line to what there is.
fn add(dockerfile: &mut Dockerfile, line: &Line) -> Result<(), Mistake> {
    let escape = dockerfile.directives.escape;
    let keyword = line.keyword.to_ascii_uppercase();
    if keyword == "FROM" {
        dockerfile.stages.push(from(line, escape)?);
        return Ok(());
    }
    let kind = instruction(line, escape)?;
    if keyword == "MAINTAINER" {
        let warning = "Maintainer instruction is deprecated in favor of using label";
        dockerfile.warnings.push(warning.to_owned());
    }
    let source = line.source.clone();
    match (dockerfile.stages.last_mut(), kind) {
        (Some(stage), kind) => stage.instructions.push(Instruction { source, kind }),
        (None, InstructionKind::Arg(declarations)) => dockerfile.global_args.push(GlobalArgs {
            source,
            declarations,
        }),
        (None, _) => return Err(Mistake::NoStage),
    }
    Ok(())
}

/// Reads `FROM [--platform=...] base [AS name]`.
fn from(line: &Line, escape: char) -> Result<Stage, Mistake> {
    let (mut flags, rest) = Flags::take(&line.rest, escape);
    let platform = flags.value("platform")?;
    flags.finish()?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (base, name) = match words[..] {
        [base] => (base, None),
        [base, word, name] if word.eq_ignore_ascii_case("AS") => (base, Some(stage_name(name)?)),
        _ => return Err(Mistake::FromArguments),
    };
    Ok(Stage {
        source: line.source.clone(),
        platform,
        base: base.to_owned(),
        name,
        instructions: Vec::new(),
    })
}

fn stage_name(name: &str) -> Result<String, Mistake> {
    let lower = name.to_lowercase();
    let belongs = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || "-_.".contains(character)
    };
    let begins = lower.starts_with(|first: char| first.is_ascii_lowercase());
    match begins && lower.chars().all(belongs) {
        true => Ok(lower),
        false => Err(Mistake::InvalidStageName(name.to_owned())),
    }
}

/// Reads any instruction but `FROM`.
fn instruction(line: &Line, escape: char) -> Result<InstructionKind, Mistake> {
    let keyword = line.keyword.to_ascii_uppercase();
    let (mut flags, rest) = Flags::take(&line.rest, escape);
    let kind = match keyword.as_str() {
        "ADD" => InstructionKind::Add(Add {
            checksum: flags.value("checksum")?,
            keep_git_dir: flags.boolean("keep-git-dir")?.unwrap_or_default(),
            unpack: flags.boolean("unpack")?,
            transfer: transfer("ADD", &mut flags, rest, line)?,
        }),
        "ARG" => InstructionKind::Arg(declarations(rest, escape)?),
        "CMD" => InstructionKind::Cmd(command(rest)?),
        "COPY" => InstructionKind::Copy(Copy {
            from: flags.value("from")?,
            parents: flags.boolean("parents")?.unwrap_or_default(),
            transfer: transfer("COPY", &mut flags, rest, line)?,
        }),
        "ENTRYPOINT" => InstructionKind::Entrypoint(command(rest)?),
        "ENV" => InstructionKind::Env(pairs("ENV", rest, escape)?),
        "EXPOSE" => {
            let mut ports = list("EXPOSE", rest)?;
            ports.sort();
            InstructionKind::Expose(ports)
        }
        "HEALTHCHECK" => InstructionKind::Healthcheck(health(&mut flags, rest)?),
        "LABEL" => InstructionKind::Label(pairs("LABEL", rest, escape)?),
        "MAINTAINER" => InstructionKind::Maintainer(one("MAINTAINER", rest)?),
        "ONBUILD" => InstructionKind::Onbuild(onbuild(rest, line)?),
        "RUN" => InstructionKind::Run(run(&mut flags, rest, line)?),
        "SHELL" => InstructionKind::Shell(shell(rest)?),
        "STOPSIGNAL" => InstructionKind::Stopsignal(one("STOPSIGNAL", rest)?),
        "USER" => InstructionKind::User(one("USER", rest)?),
        "VOLUME" => InstructionKind::Volume(volumes(rest)?),
        "WORKDIR" => InstructionKind::Workdir(one("WORKDIR", rest)?),
        _ => return Err(Mistake::UnknownInstruction(keyword)),
    };
    flags.finish()?;
    Ok(kind)
}

/// Reads the one argument, which may hold spaces.
fn one(name: &'static str, rest: &str) -> Result<String, Mistake> {
    match rest {
        "" => Err(Mistake::NotOneArgument(name)),
        rest => Ok(rest.to_owned()),
    }
}

/// Reads words, in either form.
fn list(name: &'static str, rest: &str) -> Result<Vec<String>, Mistake> {
    let list = match words::json_strings(rest) {
        Some(strings) => strings.map_err(|_| Mistake::NotStrings)?,
        None => rest.split_whitespace().map(str::to_owned).collect(),
    };
    match list.is_empty() {
        true => Err(Mistake::NoArgument(name)),
        false => Ok(list),
    }
}

fn volumes(rest: &str) -> Result<Vec<String>, Mistake> {
    let volumes = list("VOLUME", rest)?;
    match volumes.iter().any(|volume| volume.trim().is_empty()) {
        true => Err(Mistake::EmptyVolume),
        false => Ok(volumes),
    }
}

fn command(rest: &str) -> Result<CommandLine, Mistake> {
    match words::json_strings(rest) {
        Some(Ok(strings)) => Ok(CommandLine::Exec(strings)),
        Some(Err(_)) => Err(Mistake::NotStrings),
        None => Ok(CommandLine::Shell(rest.to_owned())),
    }
}

fn shell(rest: &str) -> Result<Vec<String>, Mistake> {
    match command(rest)? {
        CommandLine::Exec(words) if !words.is_empty() => Ok(words),
        CommandLine::Shell(line) if !line.is_empty() => Err(Mistake::NotJson("SHELL")),
        _ => Err(Mistake::NoArgument("SHELL")),
    }
}

/// Reads `name` and `name=default`.
fn declarations(rest: &str, escape: char) -> Result<Vec<ArgDeclaration>, Mistake> {
    let declaration = |word: String| {
        let (name, default) = match word.split_once('=') {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (word.as_str(), None),
        };
        match name {
            "" => Err(Mistake::BlankName("ARG")),
            name => Ok(ArgDeclaration {
                name: name.to_owned(),
                default,
            }),
        }
    };
    let words = words::split(rest, escape);
    match words.is_empty() {
        true => Err(Mistake::NoArgument("ARG")),
        false => words.into_iter().map(declaration).collect(),
    }
}

/// Reads `name=value ...`, or `name` and a value that is the rest of the line.
fn pairs(keyword: &'static str, rest: &str, escape: char) -> Result<Vec<Pair>, Mistake> {
    let words = words::split(rest, escape);
    let Some(first) = words.first() else {
        return Err(Mistake::NoArgument(keyword));
    };
    if !first.contains('=') {
        let (name, value) = rest
            .split_once(char::is_whitespace)
            .ok_or(Mistake::NoValue(keyword))?;
        return Ok(vec![Pair {
            name: name.to_owned(),
            value: value.trim_start().to_owned(),
        }]);
    }
    let pair = |word: &String| match word.split_once('=') {
        None => Err(Mistake::NoEqualSign(word.clone())),
        Some(("", _)) => Err(Mistake::BlankName(keyword)),
        Some((name, value)) => Ok(Pair {
            name: name.to_owned(),
            value: value.to_owned(),
        }),
    };
    words.iter().map(pair).collect()
}

/// Reads what `ADD` and `COPY` have in common.
fn transfer(
    keyword: &'static str,
    flags: &mut Flags,
    rest: &str,
    line: &Line,
) -> Result<Transfer, Mistake> {
    let is_json = words::json_strings(rest).is_some();
    if is_json && !line.heredocs.is_empty() {
        return Err(Mistake::HeredocOfExec(keyword));
    }
    let mut words = match words::json_strings(rest) {
        Some(strings) => strings.map_err(|_| Mistake::NotStrings)?,
        None => rest.split_whitespace().map(str::to_owned).collect(),
    };
    let is_heredoc = |word: &String| !line.heredocs.is_empty() && lexer::start(word).is_some();
    let destination = match words.pop() {
        None => return Err(Mistake::NoDestination(keyword)),
        Some(_) if words.is_empty() => return Err(Mistake::NoDestination(keyword)),
        Some(word) if is_heredoc(&word) => return Err(Mistake::HeredocDestination(keyword)),
        Some(word) => word,
    };
    words.retain(|word| !is_heredoc(word));
    Ok(Transfer {
        chown: flags.value("chown")?,
        chmod: flags.value("chmod")?,
        link: flags.boolean("link")?.unwrap_or_default(),
        exclude: flags.values("exclude")?,
        sources: words,
        heredocs: line.heredocs.clone(),
        destination,
    })
}

fn run(flags: &mut Flags, rest: &str, line: &Line) -> Result<Run, Mistake> {
    let mounts = flags.values("mount")?;
    let network = match flags.value("network")?.as_deref() {
        None | Some("default") => RunNetwork::Default,
        Some("none") => RunNetwork::None,
        Some("host") => RunNetwork::Host,
        Some(other) => return Err(invalid_flag("network", other)),
    };
    let security = match flags.value("security")?.as_deref() {
        None | Some("sandbox") => RunSecurity::Sandbox,
        Some("insecure") => RunSecurity::Insecure,
        Some(other) => return Err(invalid_flag("security", other)),
    };
    Ok(Run {
        mounts: mounts
            .into_iter()
            .map(MountFlag::new)
            .collect::<Result<_, _>>()?,
        network,
        security,
        command: run_command(rest, &line.heredocs)?,
    })
}

fn invalid_flag(flag: &'static str, value: &str) -> Mistake {
    Mistake::InvalidFlagValue {
        flag,
        value: value.to_owned(),
    }
}

/// Reads a `RUN`'s command; here-documents are the shell's, unless one is all there is.
fn run_command(rest: &str, heredocs: &[Heredoc]) -> Result<RunCommand, Mistake> {
    let line = match command(rest)? {
        CommandLine::Exec(words) => return Ok(RunCommand::Exec(words)),
        CommandLine::Shell(line) => line,
    };
    if let [heredoc] = heredocs
        && lexer::start(&line).is_some()
    {
        return Ok(match heredoc.content.starts_with("#!") {
            true => RunCommand::Script(heredoc.clone()),
            false => RunCommand::Shell(heredoc.content.clone()),
        });
    }
    let mut text = line;
    for heredoc in heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    Ok(RunCommand::Shell(text))
}

/// Reads a trigger, which is kept as it was written.
fn onbuild(rest: &str, line: &Line) -> Result<String, Mistake> {
    let keyword = rest.split_whitespace().next();
    check_trigger(keyword.ok_or(Mistake::NoArgument("ONBUILD"))?)?;
    Ok(match line.raw_heredocs.is_empty() {
        true => rest.to_owned(),
        false => format!("{rest}\n{}", line.raw_heredocs),
    })
}

fn check_trigger(keyword: &str) -> Result<(), Mistake> {
    match keyword.to_ascii_uppercase().as_str() {
        "ONBUILD" => Err(Mistake::ChainedOnbuild),
        keyword @ ("FROM" | "MAINTAINER") => Err(Mistake::InvalidTrigger(keyword.to_owned())),
        _ => Ok(()),
    }
}

/// Reads `NONE`, or flags and `CMD` with a command.
fn health(flags: &mut Flags, rest: &str) -> Result<Health, Mistake> {
    let (kind, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let rest = rest.trim();
    match kind.to_ascii_uppercase().as_str() {
        "" => Err(Mistake::NoArgument("HEALTHCHECK")),
        "NONE" if rest.is_empty() && flags.is_empty() => Ok(Health::None),
        "NONE" => Err(Mistake::HealthcheckNone),
        "CMD" => Ok(Health::Check(Healthcheck {
            interval: duration(flags, "interval")?,
            timeout: duration(flags, "timeout")?,
            start_period: duration(flags, "start-period")?,
            start_interval: duration(flags, "start-interval")?,
            retries: retries(flags)?,
            test: match command(rest)? {
                CommandLine::Exec(words) if !words.is_empty() => {
                    [vec!["CMD".to_owned()], words].concat()
                }
                CommandLine::Shell(line) if !line.is_empty() => vec!["CMD-SHELL".to_owned(), line],
                _ => return Err(Mistake::HealthcheckCommand),
            },
        })),
        _ => Err(Mistake::HealthcheckType(kind.to_owned())),
    }
}

/// Reads a length of time, in nanoseconds; zero is the default's.
fn duration(flags: &mut Flags, flag: &'static str) -> Result<u64, Mistake> {
    const LEAST: u64 = 1_000_000;
    let Some(value) = flags.value(flag)? else {
        return Ok(0);
    };
    let negative = value.starts_with('-');
    let digits = value.trim_start_matches(['-', '+']);
    match nanoseconds(digits) {
        None => Err(Mistake::InvalidDuration { flag, value }),
        Some(0) => Ok(0),
        Some(time) if negative || time < LEAST => Err(Mistake::ShortInterval(flag)),
        Some(time) => Ok(time),
    }
}

fn retries(flags: &mut Flags) -> Result<u64, Mistake> {
    let Some(value) = flags.value("retries")? else {
        return Ok(0);
    };
    let number: i64 = value
        .parse()
        .map_err(|_| Mistake::InvalidRetries(value.clone()))?;
    u64::try_from(number).map_err(|_| Mistake::NegativeRetries(number))
}
