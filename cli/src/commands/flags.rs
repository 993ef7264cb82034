//! Flags as Docker's command line takes them, beyond what clap's derive says.

use clap::Arg;
use clap::ArgAction;
use clap::Command;

/// Lets a flag without a value have one (`--rm=false`, `-it=false`), the last of several count where there can be but
/// one, and a value begin with a dash, in this command and all below it.
pub(crate) fn as_docker(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let id = arg.get_id().clone();
        match arg.get_action() {
            _ if arg.is_positional() => arg,
            ArgAction::SetTrue => switch(arg).overrides_with(id),
            ArgAction::Set => valued(arg).overrides_with(id),
            ArgAction::Append => valued(arg),
            _ => arg,
        }
    });
    command.mut_subcommands(as_docker)
}

/// Returns a flag that may have a value.
fn switch(arg: Arg) -> Arg {
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .value_name("BOOL")
        .default_value("false")
        .default_missing_value("true")
        .value_parser(parse_bool)
}

/// Returns an option whose value may be anything.
fn valued(arg: Arg) -> Arg {
    match arg.get_num_args() {
        None => arg.allow_hyphen_values(true),
        Some(range) if range == 1.into() => arg.allow_hyphen_values(true),
        Some(_) => arg,
    }
}

/// Reads a truth as Go does.
fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing {text:?}: invalid syntax"
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use clap::FromArgMatches as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Known {
        #[arg(short, long)]
        interactive: bool,
        #[arg(short, long)]
        tty: bool,
        #[arg(long)]
        name: Option<String>,
        #[arg(short, long)]
        env: Vec<String>,
        #[arg(required = true, trailing_var_arg = true)]
        words: Vec<String>,
    }

    fn parse(line: &str) -> Result<Known, clap::Error> {
        let words = std::iter::once("x").chain(line.split_whitespace());
        let matches = as_docker(Known::command()).try_get_matches_from(words)?;
        Known::from_arg_matches(&matches)
    }

    #[test]
    fn switches_may_have_values() {
        for (line, interactive, tty) in [
            ("-it a", true, true),
            ("-it=false a", true, false),
            ("-i=false --tty=true a", false, true),
            ("--tty --tty=false a", false, false),
            ("--interactive=1 a", true, false),
            ("a -it", false, false),
        ] {
            let known = parse(line).expect("a command line");
            assert_eq!((known.interactive, known.tty), (interactive, tty), "{line}");
            assert_eq!(known.words[0], "a", "{line}");
        }
        assert!(parse("--tty=x a").is_err());
    }

    #[test]
    fn the_last_value_counts_and_may_begin_with_a_dash() {
        let known = parse("--name a --name -1 -e A -e -B c --name d").expect("a command line");
        assert_eq!(known.name.as_deref(), Some("-1"));
        assert_eq!(known.env, ["A", "-B"]);
        assert_eq!(known.words, ["c", "--name", "d"]);
    }
}
