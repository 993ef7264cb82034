//! `ply import`

use std::fs::File;
use std::io;
use std::io::Read;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::image::ImportOptions;
use runtime::image::ImportSource;
use runtime::image::Platform;
use runtime::reference::Reference;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::output::outln;
use crate::words;

/// Make an image of the contents of a tarball
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Apply a Dockerfile instruction to the image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// A remark for the image's history
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    message: String,
    /// The platform the contents are for
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// The tarball
    #[arg(value_name = "FILE|URL|-")]
    source: String,
    /// A name for the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let parse_name = |name: &String| name.parse::<Reference>().map_err(CommandError::failed);
    let parse_platform = |text: &String| text.parse::<Platform>().map_err(CommandError::failed);
    let options = ImportOptions {
        reference: args.name.as_ref().map(parse_name).transpose()?,
        changes: args.change,
        message: args.message,
        platform: args.platform.as_ref().map(parse_platform).transpose()?,
    };
    let engine = context.engine()?;
    let is_url = args.source.starts_with("http://") || args.source.starts_with("https://");
    let imported = if is_url {
        engine.import(ImportSource::Url(args.source), &options)
    } else {
        let mut reader: Box<dyn Read + Send> = match args.source.as_str() {
            "-" => Box::new(io::stdin()),
            path => Box::new(File::open(path).map_err(|error| {
                CommandError::failed(format_args!("open {path}: {}", words::of(&error)))
            })?),
        };
        engine.import(ImportSource::Stream(&mut *reader, args.source), &options)
    };
    outln!("{}", imported.map_err(CommandError::failed)?);
    Ok(ExitCode::SUCCESS)
}
