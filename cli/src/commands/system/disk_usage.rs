//! `system df -v`: what each thing takes.

use std::process::ExitCode;

use runtime::Engine;
use runtime::container::Container;
use runtime::container::ContainerFilter;
use runtime::image::ImageFilter;
use runtime::volume::VolumeFilter;
use serde_json::Value;
use serde_json::json;

use super::super::ps;
use crate::age;
use crate::command_error::CommandError;
use crate::docker_json;
use crate::format::Listing;
use crate::format::Template;
use crate::human_size::human_size;
use crate::output::out;
use crate::output::outln;

const IMAGES: Listing<'_> = Listing {
    row: "image",
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
    headings: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ],
};

const CONTAINERS: Listing<'_> = Listing {
    row: "container",
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
    headings: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ],
};

const VOLUMES: Listing<'_> = Listing {
    row: "volume",
    table: "{{.Name}}\t{{.Links}}\t{{.Size}}",
    headings: &[
        ("Name", "VOLUME NAME"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
    ],
};

const CACHE: Listing<'_> = Listing {
    row: "build cache",
    table: "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
    headings: &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
        ("Shared", "SHARED"),
    ],
};

/// Prints Docker's four tables, or what a template makes of what is in them.
pub(super) fn show(engine: &Engine, format: Option<&str>) -> Result<ExitCode, CommandError> {
    let containers = engine
        .containers(true, &ContainerFilter::default())
        .map_err(CommandError::failed)?;
    let images = images(engine, &containers)?;
    let volumes = volumes(engine)?;
    let cache = cache(engine)?;
    let containers: Vec<Value> = containers
        .iter()
        .map(|container| {
            let mut row = ps::fields(container, false);
            row["Image"] = ps::image(&engine.image_name_of(container), false).into();
            row["Size"] = human_size(engine.container_size(container)).into();
            row
        })
        .collect();
    if let Some(format) = format.filter(|format| !matches!(*format, "" | "table")) {
        let all = json!({
            "Images": images,
            "Containers": containers,
            "Volumes": volumes,
            "BuildCache": cache,
        });
        match format {
            "json" => outln!("{all}"),
            format => {
                let template = Template::parse(format).map_err(CommandError::failed)?;
                outln!("{}", template.render(&all).map_err(CommandError::failed)?);
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let usage = engine.build_cache_usage().map_err(CommandError::failed)?;
    let table = |listing: Listing<'_>, rows: &[Value]| {
        listing.write(None, rows).map_err(CommandError::failed)
    };
    out!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache usage: {}\n\n{}",
        table(IMAGES, &images)?,
        table(CONTAINERS, &containers)?,
        table(VOLUMES, &volumes)?,
        human_size(usage.size),
        table(CACHE, &cache)?,
    );
    Ok(ExitCode::SUCCESS)
}

fn images(engine: &Engine, containers: &[Container]) -> Result<Vec<Value>, CommandError> {
    let images = engine
        .images(&ImageFilter::default())
        .map_err(CommandError::failed)?;
    let shared = docker_json::shared_sizes(engine, &images);
    let mut rows = Vec::new();
    for (image, shared) in images.iter().zip(shared) {
        let id = image.id.to_string();
        let made = containers.iter().filter(|it| it.config.image_id == id);
        let made = made.count();
        let names: Vec<(String, String)> = match image.tags.is_empty() {
            true => vec![("<none>".to_owned(), "<none>".to_owned())],
            false => image
                .tags
                .iter()
                .map(|tag| {
                    let name = tag.familiar();
                    let (repository, tag) = name.rsplit_once(':').unwrap_or((&name, "<none>"));
                    (repository.to_owned(), tag.to_owned())
                })
                .collect(),
        };
        for (repository, tag) in names {
            rows.push(json!({
                "Repository": repository,
                "Tag": tag,
                "ID": image.id.short(),
                "CreatedSince": age::age(image.created_at()),
                "CreatedAt": image.created_at().map(age::written_out),
                "Size": human_size(image.size),
                "VirtualSize": human_size(image.size),
                "SharedSize": human_size(shared),
                "UniqueSize": human_size(image.size.saturating_sub(shared)),
                "Containers": made.to_string(),
            }));
        }
    }
    Ok(rows)
}

fn volumes(engine: &Engine) -> Result<Vec<Value>, CommandError> {
    let volumes = engine
        .volumes(&VolumeFilter::default())
        .map_err(CommandError::failed)?;
    let row = |volume| {
        let mut row = super::super::volume::fields(volume);
        row["Links"] = volume.containers.len().to_string().into();
        row["Size"] = human_size(engine.volume_size(volume)).into();
        row
    };
    Ok(volumes.iter().map(row).collect())
}

fn cache(engine: &Engine) -> Result<Vec<Value>, CommandError> {
    let cache = engine.build_cache().map_err(CommandError::failed)?;
    let rows = cache.iter().map(|entry| {
        json!({
            "ID": entry.id.get(..12).unwrap_or(&entry.id),
            "CacheType": if entry.is_mount { "exec.cachemount" } else { "regular" },
            "Description": entry.description,
            "Size": human_size(entry.size),
            "CreatedAt": entry.created.to_string(),
            "CreatedSince": age::age(Some(entry.created)),
            "LastUsedAt": entry.last_used.to_string(),
            "LastUsedSince": age::age(Some(entry.last_used)),
            "UsageCount": entry.uses.to_string(),
            "InUse": "false",
            "Shared": entry.is_shared.to_string(),
        })
    });
    Ok(rows.collect())
}
