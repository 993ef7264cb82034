//! `ply cp`

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::copy::CopyError;
use runtime::copy::CopyOptions;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::human_size::precise_size;
use crate::output;
use crate::terminal;

/// Copy files between a container and the host
///
/// `-` as source is a tar on standard input, as destination one on standard output.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Keep owners on the host too; in a container they always are
    #[arg(short, long)]
    pub(super) archive: bool,
    /// Copy what a link leads to instead of the link
    #[arg(short = 'L', long)]
    pub(super) follow_link: bool,
    /// Say nothing
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Where from
    #[arg(value_name = "[CONTAINER:]SOURCE")]
    pub(super) source: String,
    /// Where to
    #[arg(value_name = "[CONTAINER:]TARGET")]
    pub(super) target: String,
}

/// Splits `container:path`; a path that begins with `.` or `/` is the host's.
pub(super) fn split(argument: &str) -> (Option<&str>, &str) {
    match argument.split_once(':') {
        Some((container, path)) if !container.is_empty() && !argument.starts_with(['/', '.']) => {
            (Some(container), path)
        }
        _ => (None, argument),
    }
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let options = CopyOptions {
        archive: args.archive,
        follow_link: args.follow_link,
        replaces: false,
    };
    let (source, target) = (split(&args.source), split(&args.target));
    if source.1.is_empty() {
        return Err(CommandError::failed("source can not be empty"));
    }
    if target.1.is_empty() {
        return Err(CommandError::failed("destination can not be empty"));
    }
    let copied = match (source, target) {
        ((Some(_), _), (Some(_), _)) => {
            return Err(CommandError::failed(
                "copying between containers is not supported",
            ));
        }
        ((None, _), (None, _)) => {
            return Err(CommandError::failed(
                "must specify at least one container source",
            ));
        }
        ((Some(container), path), (None, "-")) => {
            if terminal::stdout_is_terminal() {
                return Err(CommandError::failed(
                    "refusing to write a tar to a terminal",
                ));
            }
            context
                .engine()?
                .archive_from_container(
                    container,
                    path.as_bytes(),
                    &options,
                    &mut io::stdout().lock(),
                )
                .map_err(|error| match error {
                    CopyError::Pack { source, .. }
                        if source.kind() == io::ErrorKind::BrokenPipe =>
                    {
                        CommandError::with_code(output::BROKEN_PIPE, "")
                    }
                    error => CommandError::failed(error),
                })?;
            return Ok(ExitCode::SUCCESS);
        }
        ((Some(container), path), (None, to)) => context.engine()?.copy_from_container(
            container,
            path.as_bytes(),
            Path::new(to),
            &options,
        ),
        ((None, "-"), (Some(container), path)) => {
            let mut stdin = io::stdin().lock();
            let mut tar = runtime::image::decompressed(&mut stdin).map_err(CommandError::failed)?;
            let engine = context.engine()?;
            engine.extract_to_container(container, path.as_bytes(), &options, &mut tar)
        }
        ((None, from), (Some(container), path)) => context.engine()?.copy_to_container(
            Path::new(from),
            container,
            path.as_bytes(),
            &options,
        ),
    };
    let bytes = copied.map_err(CommandError::failed)?;
    if !args.quiet && terminal::stderr_is_terminal() {
        eprintln!(
            "Successfully copied {} to {}",
            precise_size(bytes),
            args.target
        );
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn only_what_begins_like_a_name_is_a_container() {
        assert_eq!(split("c1:/etc"), (Some("c1"), "/etc"));
        assert_eq!(split("./a:b"), (None, "./a:b"));
        assert_eq!(split("/a:b"), (None, "/a:b"));
        assert_eq!(split("file"), (None, "file"));
        assert_eq!(split("c1:"), (Some("c1"), ""));
        assert_eq!(split("-"), (None, "-"));
    }
}
