//! The build's context and its Dockerfile: found, opened, and what the ignore file leaves out.

use std::io::Read;
use std::io::Seek;
use std::path::Path;

use super::compression;
use super::dockerfile::Dockerfile;
use super::error::BuildError;
use super::error::StepError;
use super::fetch;
use super::fetch::Checkout;
use super::ignore::IgnoreFile;
use super::options::BuildOptions;
use super::options::ContextSource;
use super::options::DockerfileSource;
use super::source::Source;
use crate::Engine;

/// The largest Dockerfile that is read; the parser has its own bound.
const LARGEST_DOCKERFILE: u64 = 16 << 20;
const LARGEST_IGNORE: u64 = 16 << 20;

/// Opens the context and reads the Dockerfile.
pub(super) fn open(
    engine: &Engine,
    options: &BuildOptions,
) -> Result<(Source, Dockerfile), BuildError> {
    let failed = |error| BuildError::Context(Box::new(error));
    let mut text_of_context = None;
    let mut context = match &options.context {
        ContextSource::Empty => Source::empty(engine),
        ContextSource::Directory(path) => Source::directory(engine, path),
        ContextSource::Archive(file) => archive(engine, file),
        ContextSource::Git(address) => {
            fetch::checkout(engine, address, Checkout::tree(&options.cancel))
        }
        ContextSource::Url(url) => from_url(engine, url, options).map(|(source, text)| {
            text_of_context = text;
            source
        }),
    }
    .map_err(failed)?;
    let (name, bytes, own_ignore) = match (&options.dockerfile, text_of_context) {
        (_, Some(text)) => ("Dockerfile".to_owned(), text, None),
        (
            DockerfileSource::Text {
                name,
                bytes,
                ignore,
            },
            None,
        ) => (name.clone(), bytes.clone(), ignore.clone()),
        (DockerfileSource::InContext(name), None) => {
            let bytes = dockerfile(&context, name)?;
            let ignore = format!("{name}.dockerignore");
            let ignore = read(&context, &ignore, LARGEST_IGNORE).map_err(failed)?;
            (name.clone(), bytes, ignore)
        }
    };
    let ignore = match own_ignore {
        Some(ignore) => Some(ignore),
        None => read(&context, ".dockerignore", LARGEST_IGNORE).map_err(failed)?,
    };
    context.ignore = ignore
        .map(|bytes| left_out(&bytes))
        .transpose()
        .map_err(failed)?;
    let dockerfile = Dockerfile::parse(&name, &bytes).map_err(BuildError::Dockerfile)?;
    Ok((context, dockerfile))
}

/// Opens a directory as a further context.
pub(super) fn directory(engine: &Engine, path: &Path) -> Result<Source, StepError> {
    let mut source = Source::directory(engine, path)?;
    let ignore = read(&source, ".dockerignore", LARGEST_IGNORE)?;
    source.ignore = ignore.map(|bytes| left_out(&bytes)).transpose()?;
    Ok(source)
}

fn archive(engine: &Engine, file: &std::fs::File) -> Result<Source, StepError> {
    let mut file = super::source::rewound(file)?;
    // Where it can be: a pipe is read on from where it is.
    let _ = file.rewind();
    Source::archive(engine, file)
}

/// Fetches a context: a tar, or a Dockerfile alone.
fn from_url(
    engine: &Engine,
    url: &str,
    options: &BuildOptions,
) -> Result<(Source, Option<Vec<u8>>), StepError> {
    let tmp = engine.store().tmp_dir()?;
    let path = tmp.path().join("context");
    let mut body = fetch::open(url, &options.registry)?;
    let mut file = std::fs::File::create(&path).map_err(StepError::io(&path))?;
    std::io::copy(&mut body, &mut file).map_err(StepError::io(&path))?;
    let open = || std::fs::File::open(&path).map_err(StepError::io(&path));
    if compression::is_archive(open()?) {
        return Ok((Source::archive(engine, open()?)?, None));
    }
    let mut text = Vec::new();
    open()?
        .take(LARGEST_DOCKERFILE)
        .read_to_end(&mut text)
        .map_err(StepError::io(&path))?;
    Ok((Source::empty(engine)?, Some(text)))
}

fn read(source: &Source, path: &str, limit: u64) -> Result<Option<Vec<u8>>, StepError> {
    source
        .files
        .read(path.as_bytes(), limit)
        .map_err(StepError::io(path))
}

fn dockerfile(context: &Source, name: &str) -> Result<Vec<u8>, BuildError> {
    let missing = |source| BuildError::NoDockerfile {
        name: name.to_owned(),
        source,
    };
    let found = context
        .files
        .read(name.as_bytes(), LARGEST_DOCKERFILE)
        .map_err(missing)?;
    if let Some(bytes) = found {
        return Ok(bytes);
    }
    // As Docker: a name all in lower case is as good, if none was asked for.
    let lower = match name {
        "Dockerfile" => context
            .files
            .read(b"dockerfile", LARGEST_DOCKERFILE)
            .map_err(missing)?,
        _ => None,
    };
    lower.ok_or_else(|| missing(std::io::Error::from_raw_os_error(libc::ENOENT)))
}

/// Reads an ignore file.
fn left_out(bytes: &[u8]) -> Result<IgnoreFile, StepError> {
    IgnoreFile::parse(bytes).map_err(|error| StepError::Word(error.to_string()))
}

/// Reads `--exclude`'s patterns, if there are any.
pub(super) fn excluding(patterns: &[String]) -> Result<Option<IgnoreFile>, StepError> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let read = IgnoreFile::new(patterns.iter().map(String::as_str));
    read.map(Some)
        .map_err(|error| StepError::Word(error.to_string()))
}
