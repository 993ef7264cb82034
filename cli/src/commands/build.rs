//! `ply build`

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use runtime::build::Allow;
use runtime::build::BuildEvent;
use runtime::build::BuildOptions;
use runtime::build::BuildProgress;
use runtime::build::CacheExport;
use runtime::build::CacheStore;
use runtime::build::ContextSource;
use runtime::build::Destination;
use runtime::build::DockerfileSource;
use runtime::build::Output;
use runtime::build::SecretSource;
use runtime::reference::Reference;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::output::outln;

/// Build an image from a Dockerfile
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// A name for the image
    #[arg(short, long, value_name = "NAME")]
    tag: Vec<String>,
    /// The Dockerfile, in the context
    #[arg(short, long, value_name = "FILE", default_value = "Dockerfile")]
    file: String,
    /// Set a build-time variable
    #[arg(long, value_name = "NAME=VALUE")]
    build_arg: Vec<String>,
    /// The stage to build
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Do not use the cache
    #[arg(long)]
    no_cache: bool,
    /// Show a secret to steps that ask for it
    #[arg(long, value_name = "id=ID,src=FILE")]
    secret: Vec<String>,
    /// Show an agent to steps that ask for it
    #[arg(long, value_name = "ID=SOCKET")]
    ssh: Vec<String>,
    /// What is made of the result
    #[arg(short, long, value_name = "type=TYPE,dest=PATH")]
    output: Vec<String>,
    /// Where cached results come from
    #[arg(long, value_name = "type=TYPE,...")]
    cache_from: Vec<String>,
    /// Where cached results go
    #[arg(long, value_name = "type=TYPE,...")]
    cache_to: Vec<String>,
    /// Allow a step more than its walls
    #[arg(long, value_name = "ENTITLEMENT")]
    allow: Vec<String>,
    /// The context
    #[arg(value_name = "PATH")]
    context: PathBuf,
}

/// Prints what steps do.
struct Plain;

impl BuildProgress for Plain {
    fn event(&self, event: BuildEvent) {
        match event {
            BuildEvent::Began { step, text } => {
                outln!("Step {}/{} : {text}", step.number, step.total);
            }
            BuildEvent::Cached { .. } => outln!(" ---> Using cache"),
            BuildEvent::Output { bytes, .. } => {
                let _ = std::io::stdout().write_all(&bytes);
            }
            BuildEvent::Ended { image, .. } => outln!(" ---> {}", image.short()),
            BuildEvent::Warning(words) => outln!("[Warning] {words}"),
            _ => {}
        }
    }
}

fn fields(text: &str) -> BTreeMap<&str, &str> {
    text.split(',')
        .filter_map(|field| field.split_once('='))
        .collect()
}

fn pairs(texts: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    texts.iter().map(pair).collect()
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let reference = |text: &str| text.parse::<Reference>().map_err(CommandError::failed);
    let store = |text: &str| {
        let fields = fields(text);
        let path = fields.get("dest").or(fields.get("src"));
        match (fields.get("ref"), path) {
            (Some(name), _) => reference(name).map(CacheStore::Registry),
            (None, Some(path)) => Ok(CacheStore::Local(PathBuf::from(path))),
            _ => Err(CommandError::failed(format!("invalid cache: {text}"))),
        }
    };
    let mut options = BuildOptions {
        context: ContextSource::Directory(args.context),
        dockerfile: DockerfileSource::InContext(args.file),
        args: pairs(&args.build_arg),
        target: args.target,
        no_cache: args.no_cache,
        allow: Allow {
            insecure: args.allow.iter().any(|it| it == "security.insecure"),
            host_network: args.allow.iter().any(|it| it == "network.host"),
        },
        agents: pairs(&args.ssh)
            .into_iter()
            .map(|(id, socket)| (id, PathBuf::from(socket)))
            .collect(),
        ..BuildOptions::default()
    };
    for tag in &args.tag {
        options.tags.push(reference(tag)?);
    }
    for secret in &args.secret {
        let fields = fields(secret);
        let id = fields.get("id").copied().unwrap_or_default();
        let source = match fields.get("env") {
            Some(name) => SecretSource::Env((*name).to_owned()),
            None => SecretSource::File(fields.get("src").copied().unwrap_or(id).into()),
        };
        options.secrets.insert(id.to_owned(), source);
    }
    for output in &args.output {
        let fields = fields(output);
        let path = fields.get("dest").copied().unwrap_or("-");
        let destination = match path {
            "-" => Destination::Stdout,
            path => Destination::File(path.into()),
        };
        options.outputs.push(match fields.get("type").copied() {
            Some("local") => Output::Local(path.into()),
            Some("tar") => Output::Tar(destination),
            Some("oci") => Output::Oci(destination),
            Some("docker") => Output::Docker(destination),
            _ => Output::Image {
                names: Vec::new(),
                push: fields.get("push") == Some(&"true"),
            },
        });
    }
    for text in &args.cache_from {
        options.cache_from.push(store(text)?);
    }
    for text in &args.cache_to {
        options
            .cache_to
            .push(match text.starts_with("type=inline") {
                true => CacheExport::Inline,
                false => CacheExport::Store {
                    to: store(text)?,
                    all: text.contains("mode=max"),
                },
            });
    }
    let engine = context.engine()?;
    match engine.build(&options, &Plain) {
        Ok(outcome) => {
            outln!("Successfully built {}", outcome.image.short());
            for tag in &outcome.tags {
                outln!("Successfully tagged {}", tag.familiar());
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(CommandError::with_code(error.exit_code(), error)),
    }
}
