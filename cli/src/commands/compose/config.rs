//! `ply compose config`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use serde_json::Map;
use serde_json::Value;

use super::Access;
use crate::command_error::CommandError;
use crate::compose::container;
use crate::compose::interpolate;
use crate::compose::project::Options;
use crate::compose::project::Project;
use crate::compose::yaml;
use crate::output::out;
use crate::output::outln;
use crate::table;
use crate::terminal;

/// Check the files and show what they come to
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Show the variables that files are filled in with, and their values
    #[arg(long)]
    environment: bool,
    /// `yaml` or `json`
    #[arg(long, value_name = "FORMAT", value_parser = ["yaml", "json"])]
    format: Option<String>,
    /// Show the digests of services' configurations; `*` is all
    #[arg(long, value_name = "SERVICES")]
    hash: Option<String>,
    /// Show the images
    #[arg(long)]
    images: bool,
    /// Show the names of the networks
    #[arg(long)]
    networks: bool,
    /// Do not look whether references lead anywhere
    #[arg(long)]
    no_consistency: bool,
    /// Leave `env_file` as it stands
    #[arg(long)]
    no_env_resolution: bool,
    /// Leave variables as they stand
    #[arg(long)]
    no_interpolate: bool,
    /// Show what the files say, without what follows from it
    #[arg(long)]
    no_normalize: bool,
    /// Leave relative paths as they stand
    #[arg(long)]
    no_path_resolution: bool,
    /// Write it to a file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show the profiles
    #[arg(long)]
    profiles: bool,
    /// Only check
    #[arg(short, long)]
    quiet: bool,
    /// Show the names of the services
    #[arg(long)]
    services: bool,
    /// Show the variables that the files name
    #[arg(long)]
    variables: bool,
    /// Show the names of the volumes
    #[arg(long)]
    volumes: bool,
    /// Only these services
    #[arg(value_name = "SERVICE")]
    names: Vec<String>,
}

pub(super) fn run(args: Args, access: &Access<'_>) -> Result<ExitCode, CommandError> {
    let options = Options {
        no_interpolation: args.no_interpolate || args.variables,
        no_normalization: args.no_normalize,
        no_path_resolution: args.no_path_resolution,
        no_consistency: args.no_consistency,
        ..access.options.clone()
    };
    let mut place = access.place()?;
    if options.no_interpolation {
        let (_, tree) = place.tree(&options).map_err(CommandError::failed)?;
        return match args.variables {
            true => show_variables(&args, &tree),
            false => show(&args, &ordered(&tree)),
        };
    }
    let project = place.load(&options, &args.names);
    let mut project = project.map_err(CommandError::failed)?;
    let names = project
        .selected(&args.names)
        .map_err(CommandError::failed)?;
    if let Some(lines) = lines(&args, &project, &names) {
        lines.iter().for_each(|line| outln!("{line}"));
        return Ok(ExitCode::SUCCESS);
    }
    let shown = project.with_dependencies(&names);
    if !args.no_env_resolution {
        project
            .read_env_files(&shown)
            .map_err(CommandError::failed)?;
    }
    if let Some(wanted) = &args.hash {
        for name in &names {
            if wanted == "*" || wanted.split(',').any(|it| it == name) {
                outln!("{name} {}", container::config_hash(&project, name));
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(services) = project.tree["services"].as_object_mut() {
        services.retain(|name, _| shown.contains(name));
    }
    // What is to be a dollar once more is two of them.
    let mut tree = ordered(&project.tree);
    double_dollars(&mut tree);
    show(&args, &tree)
}

/// Returns the names that a flag asks for.
fn lines(args: &Args, project: &Project, names: &[String]) -> Option<Vec<String>> {
    let mut lines: Vec<String> = if args.environment {
        project.environment.lines()
    } else if args.services {
        names.to_vec()
    } else if args.volumes {
        project.volumes.keys().cloned().collect()
    } else if args.networks {
        project.networks.keys().cloned().collect()
    } else if args.images {
        let services = project.services.iter();
        services
            .map(|(name, service)| container::image_of(project, name, service))
            .collect()
    } else if args.profiles {
        let all = project.services.values().chain(project.disabled.values());
        all.flat_map(|service| service.profiles.clone()).collect()
    } else {
        return None;
    };
    if args.profiles || args.images {
        lines.sort();
        lines.dedup();
    }
    Some(lines)
}

/// Shows the variables that a tree names: as a table unless asked otherwise.
fn show_variables(args: &Args, tree: &Value) -> Result<ExitCode, CommandError> {
    let mut named = BTreeMap::new();
    interpolate::collect(tree, &mut named);
    if args.format.is_some() {
        // Go's library writes fields in YAML in small letters.
        let key = |name: &str| match args.format.as_deref() {
            Some("yaml") => name.to_lowercase(),
            _ => name.to_owned(),
        };
        let variables = named.into_iter().map(|(name, it)| {
            let fields = [
                (key("Name"), name.as_str().into()),
                (key("DefaultValue"), it.default.into()),
                (key("PresenceValue"), it.alternate.into()),
                (key("Required"), it.required.into()),
            ];
            (name, Value::Object(fields.into_iter().collect()))
        });
        return show(args, &Value::Object(variables.collect()));
    }
    let mut text = String::from("NAME\tREQUIRED\tDEFAULT VALUE\tALTERNATE VALUE\n");
    for (name, it) in named {
        let row = [&name, &it.required.to_string(), &it.default, &it.alternate];
        text.push_str(
            &row.map(|cell| terminal::escaped(cell).into_owned())
                .join("\t"),
        );
        text.push('\n');
    }
    out!("{}", table::align_wide(&text));
    Ok(ExitCode::SUCCESS)
}

fn show(args: &Args, tree: &Value) -> Result<ExitCode, CommandError> {
    if args.quiet {
        return Ok(ExitCode::SUCCESS);
    }
    let text = match args.format.as_deref() {
        Some("json") => serde_json::to_string_pretty(tree).map_err(CommandError::failed)? + "\n",
        _ => yaml::write(tree),
    };
    match &args.output {
        None => out!("{text}"),
        Some(file) => std::fs::write(file, text).map_err(|error| {
            let words = crate::words::of(&error);
            CommandError::failed(format_args!("open {}: {words}", file.display()))
        })?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns a tree in the order in which it is shown: the name, the services, the rest; below that by names.
fn ordered(tree: &Value) -> Value {
    let order = [
        "name", "services", "networks", "volumes", "secrets", "configs",
    ];
    let mut shown = Map::new();
    let fields = tree.as_object().cloned().unwrap_or_default();
    for key in order {
        if let Some(value) = fields.get(key) {
            shown.insert(key.to_owned(), container::sorted(value));
        }
    }
    let mut others: Vec<&String> = fields
        .keys()
        .filter(|key| !order.contains(&key.as_str()))
        .collect();
    others.sort();
    for key in others {
        shown.insert(key.clone(), container::sorted(&fields[key]));
    }
    Value::Object(shown)
}

fn double_dollars(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('$') => *text = text.replace('$', "$$"),
        Value::Array(items) => items.iter_mut().for_each(double_dollars),
        Value::Object(map) => map.values_mut().for_each(double_dollars),
        _ => {}
    }
}
