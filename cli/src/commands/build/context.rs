//! `PATH|URL|-` and `-f`: where the context and the Dockerfile come from.

use std::fs::File;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;

use runtime::build::ContextSource;
use runtime::build::DockerfileSource;

use crate::command_error::CommandError;
use crate::words;

/// How much of standard input tells what it is: a tar's first header.
const HEADER: usize = 512;
/// The largest Dockerfile that is read from outside the context.
const LARGEST_DOCKERFILE: u64 = 16 << 20;

/// Finds the context and the Dockerfile that are asked for.
pub(super) fn find(
    context: &str,
    file: Option<&str>,
) -> Result<(ContextSource, DockerfileSource), CommandError> {
    if context == "-" && file == Some("-") {
        return Err(CommandError::failed(
            "invalid argument: can't use stdin for both build context and dockerfile",
        ));
    }
    if context == "-" {
        return from_stdin(file);
    }
    let path = Path::new(context);
    let source = if path.is_dir() {
        ContextSource::Directory(path.to_owned())
    } else if let Some(source) = ContextSource::of_address(context) {
        source
    } else {
        let problem = match path.exists() {
            true => format!("context must be a directory: {context}"),
            false => format!("path {context:?} not found"),
        };
        return Err(CommandError::failed(format_args!(
            "unable to prepare context: {problem}"
        )));
    };
    let dockerfile = match file {
        None => DockerfileSource::default(),
        Some("-") => text("-", io::stdin(), None)?,
        Some(file) if matches!(source, ContextSource::Directory(_)) => beside(path, file)?,
        Some(file) => DockerfileSource::InContext(file.to_owned()),
    };
    Ok((source, dockerfile))
}

/// Finds the Dockerfile that is stated beside a directory: in it, or else elsewhere with an ignore file beside it.
fn beside(context: &Path, file: &str) -> Result<DockerfileSource, CommandError> {
    let failed = |error: io::Error| {
        let words = words::of(&error);
        CommandError::failed(format_args!(
            "failed to read dockerfile: open {file}: {words}"
        ))
    };
    let stated = Path::new(file);
    let real = stated.canonicalize().map_err(failed)?;
    let directory = stated.parent().filter(|parent| *parent != Path::new(""));
    let directory = directory.unwrap_or(Path::new(".")).canonicalize();
    let (directory, root) = (
        directory.map_err(failed)?,
        context.canonicalize().map_err(failed)?,
    );
    let name = stated.file_name().unwrap_or_default();
    let inside = directory.join(name);
    if real.starts_with(&root)
        && let Ok(relative) = inside.strip_prefix(&root)
        && let Some(relative) = relative.to_str()
    {
        return Ok(DockerfileSource::InContext(relative.to_owned()));
    }
    let mut ignore = stated.as_os_str().to_owned();
    ignore.push(".dockerignore");
    let ignore = match std::fs::read(&ignore) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    text(file, File::open(&real).map_err(failed)?, ignore)
}

fn text(
    name: &str,
    file: impl io::Read,
    ignore: Option<Vec<u8>>,
) -> Result<DockerfileSource, CommandError> {
    let mut bytes = Vec::new();
    file.take(LARGEST_DOCKERFILE)
        .read_to_end(&mut bytes)
        .map_err(|error| {
            let words = words::of(&error);
            CommandError::failed(format_args!(
                "failed to read dockerfile: read {name}: {words}"
            ))
        })?;
    let name = match name {
        "-" => "Dockerfile",
        name => name,
    };
    Ok(DockerfileSource::Text {
        name: name.to_owned(),
        bytes,
        ignore,
    })
}

/// Tells a tar, compressed or not, from a Dockerfile on standard input.
fn from_stdin(file: Option<&str>) -> Result<(ContextSource, DockerfileSource), CommandError> {
    let failed = |error: io::Error| {
        let words = words::of(&error);
        CommandError::failed(format_args!(
            "failed to peek context header from STDIN: {words}"
        ))
    };
    let mut header = Vec::with_capacity(HEADER);
    // Not through the buffer of `io::stdin`: what follows the header is read by somebody else.
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let stdin = File::from(stdin);
    (&stdin)
        .take(HEADER as u64)
        .read_to_end(&mut header)
        .map_err(failed)?;
    if !is_archive(&header) {
        if file.is_some() {
            return Err(CommandError::failed(
                "unable to prepare context: ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles",
            ));
        }
        let dockerfile = text("-", header.as_slice().chain(stdin), None)?;
        return Ok((ContextSource::Empty, dockerfile));
    }
    let dockerfile = file.map_or_else(DockerfileSource::default, |file| {
        DockerfileSource::InContext(file.to_owned())
    });
    let archive = rejoined(header, stdin).map_err(failed)?;
    Ok((ContextSource::Archive(archive), dockerfile))
}

/// Returns the whole of an input whose header was read: the file itself where that can be read again, else a pipe that is
/// filled as it is read.
fn rejoined(header: Vec<u8>, mut rest: File) -> io::Result<File> {
    use std::io::Seek as _;
    let back = i64::try_from(header.len()).unwrap_or(0);
    if rest.seek_relative(-back).is_ok() {
        return Ok(rest);
    }
    let (reader, mut writer) = io::pipe()?;
    std::thread::spawn(move || {
        // A reader that goes away has had enough.
        let _ = writer
            .write_all(&header)
            .and_then(|()| io::copy(&mut rest, &mut writer));
    });
    Ok(File::from(std::os::fd::OwnedFd::from(reader)))
}

/// Returns whether these are the first bytes of a tar or of something compressed.
fn is_archive(header: &[u8]) -> bool {
    const COMPRESSED: [&[u8]; 4] = [b"BZh", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    if COMPRESSED.iter().any(|magic| header.starts_with(magic)) {
        return true;
    }
    let header = tar::Header::from_byte_slice(match header.len() {
        HEADER => header,
        _ => return false,
    });
    // The sum of all bytes, those of the sum itself taken as spaces.
    let bytes = header.as_bytes();
    let sum: u32 = bytes
        .iter()
        .enumerate()
        .map(|(at, byte)| match at {
            148..156 => u32::from(b' '),
            _ => u32::from(*byte),
        })
        .sum();
    header.cksum().is_ok_and(|stated| stated == sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_is_told_from_a_dockerfile() {
        let mut header = tar::Header::new_gnu();
        header.set_path("Dockerfile").expect("a path");
        header.set_size(0);
        header.set_cksum();
        assert!(is_archive(header.as_bytes()));
        assert!(is_archive(b"\x1f\x8b\x08\0"));
        assert!(!is_archive(b"FROM busybox\n"));
        assert!(!is_archive(&[b'#'; 512]));
        assert!(!is_archive(b""));
    }
}
