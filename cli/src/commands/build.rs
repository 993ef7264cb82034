//! `ply build`

mod context;
pub(crate) mod fields;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgAction;
use clap::Args as ClapArgs;
use runtime::build::Allow;
use runtime::build::BuildOptions;
use runtime::build::CacheExport;
use runtime::build::CacheStore;
use runtime::build::NamedContext;
use runtime::build::Output;
use runtime::image::Platform;
use runtime::reference::Reference;
use runtime::sandbox::Limit;

use super::container_options::parse_bytes;
use super::container_options::parse_ulimit;
use super::limits::Limits;
use crate::build_progress::Shown;
use crate::build_progress::Style;
use crate::command_error::CommandError;
use crate::context::Context;
use crate::output::outln;

/// Build an image from a Dockerfile
#[derive(Debug, ClapArgs)]
#[command(next_display_order = None)]
pub(crate) struct Args {
    /// Add a line to the /etc/hosts of every RUN (`host:ip`)
    #[arg(long, value_name = "HOST:IP", value_parser = fields::extra_host)]
    add_host: Vec<String>,
    /// For Docker's sake: nothing is told of a build but its image (`type=provenance,disabled=true`)
    #[arg(long, value_name = "WHAT", hide = true)]
    attest: Vec<String>,
    /// For Docker's sake: there is one builder (`default`)
    #[arg(long, value_name = "NAME", hide = true)]
    builder: Option<String>,
    /// Allow a RUN what it asks for (`network.host`, `security.insecure`)
    #[arg(long, value_name = "WHAT")]
    allow: Vec<Entitlement>,
    /// Set a build-time variable; without a value, to ours
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// A further context (`name=directory`, `name=docker-image://image`, `name=https://...`)
    #[arg(long, value_name = "NAME=SOURCE")]
    build_context: Vec<String>,
    /// Where results may come from beside the cache here (an image, `type=local,src=DIR`)
    #[arg(long, value_name = "CACHE")]
    cache_from: Vec<String>,
    /// Where results are also kept (`type=registry,ref=NAME`, `type=local,dest=DIR`, `type=inline`)
    #[arg(long, value_name = "CACHE")]
    cache_to: Vec<String>,
    /// For Docker's sake: nothing is sent that could be compressed
    #[arg(long, value_name = "BOOL", hide = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = ArgAction::Set)]
    compress: Option<bool>,
    /// The Dockerfile (`PATH/Dockerfile`)
    #[arg(short, long, value_name = "FILE|-")]
    file: Option<String>,
    /// For Docker's sake: no container outlives its step
    #[arg(long, value_name = "BOOL", hide = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = ArgAction::Set)]
    force_rm: Option<bool>,
    /// Write the image's id to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Set a label
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = fields::label)]
    label: Vec<(String, String)>,
    #[command(flatten)]
    limits: Limits,
    /// Make an image, as without any --output
    #[arg(long)]
    load: bool,
    /// Write what the image is known by to this file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Take no result of these stages from the cache
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// The network of every RUN that states none: `default`, `none` or `host`
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Option<String>,
    /// Take no result from the cache
    #[arg(long, value_name = "BOOL", default_value_t = false, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = ArgAction::Set)]
    no_cache: bool,
    /// What to make (`type=local|tar|oci|docker|image`, `dest=...`, or a directory)
    #[arg(short, long, value_name = "OUTPUT")]
    output: Vec<String>,
    /// Choose this platform of base images
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env = true
    )]
    platform: Option<String>,
    /// How to show what happens
    #[arg(
        long,
        value_name = "HOW",
        default_value = "auto",
        env = "BUILDKIT_PROGRESS",
        hide_env = true
    )]
    progress: Style,
    /// For Docker's sake: no provenance is recorded (`false`)
    #[arg(long, value_name = "WHAT", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    provenance: Option<String>,
    /// Fetch base images even if they are here
    #[arg(long, value_name = "BOOL", default_value_t = false, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = ArgAction::Set)]
    pull: bool,
    /// Push the image under its names
    #[arg(long)]
    push: bool,
    /// Print only the image's id
    #[arg(short, long, value_name = "BOOL", default_value_t = false, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = ArgAction::Set)]
    quiet: bool,
    /// For Docker's sake: no container outlives its step
    #[arg(long, value_name = "BOOL", hide = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = ArgAction::Set)]
    rm: Option<bool>,
    /// For Docker's sake: no bill of materials is recorded (`false`)
    #[arg(long, value_name = "WHAT", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sbom: Option<String>,
    /// Show a secret to the steps that ask for it (`id=NAME[,src=FILE|,env=VARIABLE]`)
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,
    /// Size of the /dev/shm of every RUN
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    shm_size: Option<u64>,
    /// Show an agent's socket to the steps that ask for it (`default`, `ID=SOCKET`)
    #[arg(long, value_name = "ID[=SOCKET]")]
    ssh: Vec<String>,
    /// A name for the image
    #[arg(short, long, value_name = "NAME[:TAG]", value_parser = fields::tag)]
    tag: Vec<Reference>,
    /// The stage to build
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Limits of each process (`nofile=1024:2048`)
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = parse_ulimit)]
    ulimit: Vec<Limit>,
    /// The context: a directory, an address, or `-` for a Dockerfile or a tar on standard input
    #[arg(value_name = "PATH|URL|-")]
    path: String,
}

/// What a step may ask for beyond its walls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Entitlement {
    /// The host's network
    #[value(name = "network.host")]
    NetworkHost,
    /// All privileges
    #[value(name = "security.insecure")]
    SecurityInsecure,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let (quiet, style) = (args.quiet, args.progress);
    let (iidfile, metadata_file) = (args.iidfile.clone(), args.metadata_file.clone());
    for path in iidfile.iter().chain(&metadata_file) {
        // No id is better than that of an earlier build.
        let _ = std::fs::remove_file(path);
    }
    tell_what_is_not_recorded(&args);
    let options = options(args)?;
    let engine = context.engine()?;
    let shown = Shown::new(style, quiet, &options);
    let outcome = engine
        .build(&options, &shown)
        .map_err(|error| shown.failed(&error))?;
    shown.built(&outcome, &options);
    let write = |path: &PathBuf, text: String| {
        std::fs::write(path, text).map_err(|error| {
            let words = crate::words::of(&error);
            CommandError::failed(format_args!("open {}: {words}", path.display()))
        })
    };
    if let Some(path) = &iidfile {
        write(path, outcome.image.to_string())?;
    }
    if let Some(path) = &metadata_file {
        let names: Vec<String> = outcome.tags.iter().map(Reference::to_string).collect();
        let metadata = serde_json::json!({
            "containerimage.config.digest": outcome.image.to_string(),
            "containerimage.digest": outcome.image.to_string(),
            "image.name": names.join(","),
        });
        write(path, format!("{metadata:#}\n"))?;
    }
    if quiet {
        outln!("{}", outcome.image);
    }
    Ok(ExitCode::SUCCESS)
}

/// Warns of what was asked for to be recorded of the build beside its image, and is not.
fn tell_what_is_not_recorded(args: &Args) {
    let is_on = |value: &Option<String>| {
        let value = value.as_deref().unwrap_or("false");
        !matches!(value, "false" | "0" | "disabled=true")
    };
    let attests = |what: &String| !what.contains("disabled=true");
    for (flag, is_asked_for) in [
        ("provenance", is_on(&args.provenance)),
        ("sbom", is_on(&args.sbom)),
        ("attest", args.attest.iter().any(attests)),
    ] {
        if is_asked_for {
            eprintln!("WARNING: --{flag} is ignored: nothing is recorded beside the image");
        }
    }
}

fn options(args: Args) -> Result<BuildOptions, CommandError> {
    let builder = args.builder.as_deref().unwrap_or_default();
    if !matches!(builder, "" | "default") {
        return Err(CommandError::failed(format_args!(
            "no builder {builder:?} found"
        )));
    }
    let (context, dockerfile) = context::find(&args.path, args.file.as_deref())?;
    let network = args.network.filter(|network| network != "default");
    let allow = Allow {
        insecure: args.allow.contains(&Entitlement::SecurityInsecure),
        host_network: args.allow.contains(&Entitlement::NetworkHost),
    };
    let outputs = outputs(&args.output, args.load, args.push)?;
    let is_nameless =
        |output: &Output| matches!(output, Output::Image { names, push: true } if names.is_empty());
    if args.tag.is_empty() && outputs.iter().any(is_nameless) {
        return Err(CommandError::failed(
            "tag is needed when pushing to registry",
        ));
    }
    Ok(BuildOptions {
        context,
        dockerfile,
        contexts: each(&args.build_context, fields::named_context)?
            .into_iter()
            .collect::<std::collections::BTreeMap<String, NamedContext>>(),
        outputs,
        tags: args.tag,
        target: args.target.filter(|target| !target.is_empty()),
        args: args
            .build_arg
            .iter()
            .filter_map(|arg| build_arg(arg))
            .collect(),
        labels: args.label.into_iter().collect(),
        no_cache: args.no_cache,
        no_cache_stages: args.no_cache_filter,
        pull: args.pull,
        platform: args.platform.as_deref().map(platform).transpose()?,
        network,
        secrets: each(&args.secret, fields::secret)?.into_iter().collect(),
        agents: each(&args.ssh, fields::agent)?.into_iter().collect(),
        allow,
        extra_hosts: args.add_host,
        shm_size: args.shm_size,
        ulimits: args.ulimit,
        resources: args.limits.resources(),
        cache_from: each::<CacheStore>(&args.cache_from, fields::cache_from)?,
        cache_to: each::<CacheExport>(&args.cache_to, fields::cache_to)?,
        ..BuildOptions::default()
    })
}

/// Reads every value of a flag.
fn each<T>(
    values: &[String],
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, CommandError> {
    values
        .iter()
        .map(|value| read(value).map_err(CommandError::failed))
        .collect()
}

fn outputs(stated: &[String], load: bool, push: bool) -> Result<Vec<Output>, CommandError> {
    let mut outputs = each(stated, fields::output)?;
    let is_image = |output: &Output| matches!(output, Output::Image { .. });
    if (push || load) && !outputs.iter().any(is_image) {
        outputs.push(Output::Image {
            names: Vec::new(),
            push,
        });
    }
    if push {
        for output in &mut outputs {
            if let Output::Image { push, .. } = output {
                *push = true;
            }
        }
    }
    Ok(outputs)
}

/// Reads `--build-arg`; a name alone has our value, if we have one.
fn build_arg(text: &str) -> Option<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => Some((text.to_owned(), std::env::var(text).ok()?)),
    }
}

fn platform(text: &str) -> Result<Platform, CommandError> {
    match text.contains(',') {
        true => Err(CommandError::failed(
            "several platforms are several images: build them one by one",
        )),
        false => text.parse().map_err(CommandError::failed),
    }
}
