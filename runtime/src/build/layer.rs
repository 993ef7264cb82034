//! Making a layer: a tar that goes straight into the store while it is written.

use std::io;
use std::io::BufWriter;
use std::io::PipeWriter;
use std::io::Write as _;
use std::path::Path;

use layerfs::DiffId;
use layerfs::ingest::Expect;

use super::error::StepError;
use crate::Engine;

/// What the packer writes to.
pub(super) type Out = BufWriter<PipeWriter>;

/// Has a tar written and taken in at once; returns the layer it makes.
pub(super) fn ingest(
    engine: &Engine,
    pack: impl FnOnce(Out) -> io::Result<Out> + Send,
) -> Result<DiffId, StepError> {
    const BUFFER: usize = 1 << 20;
    let (reader, writer) = io::pipe().map_err(StepError::io("pipe"))?;
    // A small pipe only costs switches.
    let _ = rustix::pipe::fcntl_setpipe_size(&writer, BUFFER);
    let (packed, taken_in) = std::thread::scope(|scope| {
        let packer = scope.spawn(move || {
            let out = pack(BufWriter::with_capacity(BUFFER, writer))?;
            out.into_inner()
                .map(drop)
                .map_err(io::IntoInnerError::into_error)
        });
        let taken_in = engine.store().ingest(reader, Expect::default());
        let packed = packer.join();
        (packed, taken_in)
    });
    // A tar that was not packed whole is no layer, even if it reads like one; nothing names it then.
    match packed {
        Ok(packed) => packed.map_err(StepError::io(Path::new("layer")))?,
        Err(panic) => std::panic::resume_unwind(panic),
    }
    Ok(taken_in?.diff_id)
}

/// Flushes what a packer has written.
pub(super) fn flushed(mut out: Out) -> io::Result<Out> {
    out.flush()?;
    Ok(out)
}
