//! What becomes of a build's result: an image, its names, its files elsewhere.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;

use serde_json::Value;

use super::builder::Builder;
use super::error::BuildError;
use super::error::StepError;
use super::event::BuildEvent;
use super::files::Files;
use super::files::with_tree;
use super::options::BuildOutcome;
use super::options::CacheExport;
use super::options::Destination;
use super::options::Output;
use super::state::State;
use crate::archive;
use crate::archive::Unpack;
use crate::image::ArchiveFormat;
use crate::image::ImageId;
use crate::image::PushOptions;
use crate::progress::Progress;
use crate::progress::ProgressEvent;
use crate::reference::Reference;
use crate::tree::HostTree;
use crate::tree::Last;
use crate::tree::Tree;

/// Tells a push's events as a build's.
struct Pushing<'a>(&'a Builder<'a>);

impl Progress for Pushing<'_> {
    fn event(&self, event: ProgressEvent) {
        self.0.progress.event(BuildEvent::Pushing(event));
    }
}

/// Makes of the result what was asked for.
pub(super) fn write(builder: &Builder<'_>, state: State) -> Result<BuildOutcome, BuildError> {
    let failed = |error| BuildError::Output(Box::new(error));
    let mut tags = builder.options.tags.clone();
    for output in &builder.options.outputs {
        if let Output::Image { names, .. } = output {
            tags.extend(
                names
                    .iter()
                    .filter(|name| !builder.options.tags.contains(name))
                    .cloned(),
            );
        }
    }
    let is_image = |output: &Output| matches!(output, Output::Image { .. });
    let outputs = &builder.options.outputs;
    let makes_image = outputs.is_empty() || outputs.iter().any(is_image);
    let image = match makes_image {
        true => add(builder, &state, &tags).map_err(failed)?,
        false => state.image_id(),
    };
    for output in outputs {
        write_one(builder, &state, output, &tags).map_err(failed)?;
    }
    super::transport::export(builder, &state)
        .map_err(|error| BuildError::Cache(Box::new(error)))?;
    let tags = if makes_image { tags } else { Vec::new() };
    Ok(BuildOutcome { image, tags })
}

/// Adds the image under its names.
fn add(builder: &Builder<'_>, state: &State, tags: &[Reference]) -> Result<ImageId, StepError> {
    let engine = builder.engine;
    let id = match unchanged(builder, state) {
        Some(base) => base,
        None => {
            let raw = super::transport::with_inline_cache(builder, state);
            engine.add_image(&Value::Object(raw), None)?
        }
    };
    for tag in tags {
        engine.tag_image(&id, tag)?;
        builder.progress.event(BuildEvent::Tagged(tag.or_latest()));
    }
    Ok(id)
}

/// Returns the base if nothing was done to it: the result is that image.
fn unchanged(builder: &Builder<'_>, state: &State) -> Option<ImageId> {
    let is_inline = builder.options.cache_to.contains(&CacheExport::Inline);
    state.base.filter(|_| !is_inline)
}

fn write_one(
    builder: &Builder<'_>,
    state: &State,
    output: &Output,
    tags: &[Reference],
) -> Result<(), StepError> {
    let engine = builder.engine;
    let tell = |words: String| builder.progress.event(BuildEvent::Exporting(words));
    match output {
        Output::Image { names, push } => {
            if *push {
                let all = if names.is_empty() { tags } else { names };
                for name in all {
                    let options = PushOptions {
                        registry: builder.options.registry.clone(),
                    };
                    engine.push(name, &options, &Pushing(builder))?;
                }
            }
            Ok(())
        }
        Output::Cache => Ok(()),
        Output::Local(directory) => {
            tell(format!("exporting to {}", directory.display()));
            let files = builder.files(state)?;
            copy_out(&files, directory).map_err(StepError::io(directory))
        }
        Output::Tar(destination) => {
            tell("exporting to tar".to_owned());
            let files = builder.files(state)?;
            to(destination, |out| {
                pack_all(&files, out).map_err(StepError::io("tar"))
            })
        }
        Output::Oci(destination) => {
            tell("exporting to oci image format".to_owned());
            save(builder, state, tags, ArchiveFormat::OciArchive, destination)
        }
        Output::Docker(destination) => {
            tell("exporting to docker image format".to_owned());
            save(
                builder,
                state,
                tags,
                ArchiveFormat::DockerArchive,
                destination,
            )
        }
    }
}

fn pack_all(files: &Files, out: &mut dyn Write) -> io::Result<()> {
    with_tree!(files, tree => {
        let root = tree.resolve(b"", Last::Follow)?;
        archive::pack(tree, &root, b"", out)?.flush()
    })
}

/// Writes an archive of the image, which is among the engine's only meanwhile if it was not asked for.
fn save(
    builder: &Builder<'_>,
    state: &State,
    tags: &[Reference],
    format: ArchiveFormat,
    destination: &Destination,
) -> Result<(), StepError> {
    let engine = builder.engine;
    let raw = super::transport::with_inline_cache(builder, state);
    let id = ImageId(layerfs::Digest::of(
        Value::Object(raw.clone()).to_string().as_bytes(),
    ));
    let was_here = engine.image(&id.to_string()).is_ok();
    engine.add_image(&Value::Object(raw), None)?;
    let saved = to(destination, |out| {
        engine.save_as(&id, tags, format, out)?;
        Ok(())
    });
    if !was_here {
        engine.remove_image(&id.to_string(), false)?;
    }
    saved
}

/// Opens a destination for what is written. A file appears when it is whole.
fn to(
    destination: &Destination,
    write: impl FnOnce(&mut dyn Write) -> Result<(), StepError>,
) -> Result<(), StepError> {
    match destination {
        Destination::Stdout => {
            let mut out = io::BufWriter::with_capacity(1 << 20, io::stdout().lock());
            write(&mut out)?;
            out.flush().map_err(StepError::io("standard output"))
        }
        Destination::File(path) => {
            let mut partial = path.clone().into_os_string();
            partial.push(".part");
            let partial = std::path::PathBuf::from(partial);
            let failed = || StepError::io(&partial);
            let file = File::create(&partial).map_err(failed())?;
            let mut out = io::BufWriter::with_capacity(1 << 20, file);
            let written = write(&mut out).and_then(|()| out.flush().map_err(failed()));
            match written {
                Ok(()) => fs::rename(&partial, path).map_err(StepError::io(path)),
                Err(error) => {
                    let _ = fs::remove_file(&partial);
                    Err(error)
                }
            }
        }
    }
}

/// Copies all files into a directory of the host's, as the calling user's.
fn copy_out(files: &Files, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let root = File::open(directory)?;
    let into = HostTree::of_container(root.into(), None);
    let top = into.resolve(b"", Last::Follow)?;
    let owner = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let options = Unpack {
        owner: Some(owner),
        follow_in: None,
        ..Unpack::default()
    };
    let (reader, writer) = io::pipe()?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            with_tree!(files, tree => {
                let root = tree.resolve(b"", Last::Follow)?;
                archive::pack(tree, &root, b"", io::BufWriter::new(writer)).map(drop)
            })
        });
        let unpacked = archive::unpack(&into, &top, reader, &options);
        match packing.join() {
            Ok(packed) => packed?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        unpacked.map(drop).map_err(io::Error::other)
    })
}
