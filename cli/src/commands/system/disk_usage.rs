//! `system df -v`: what each thing takes.

use std::process::ExitCode;

use runtime::Engine;
use runtime::container::ContainerFilter;
use runtime::image::ImageFilter;
use runtime::volume::VolumeFilter;

use crate::age::age;
use crate::command_error::CommandError;
use crate::docker_json;
use crate::human_size::human_size;
use crate::output::out;
use crate::output::outln;
use crate::table;

/// Prints Docker's four tables.
pub(super) fn show(engine: &Engine) -> Result<ExitCode, CommandError> {
    let containers = engine
        .containers(true, &ContainerFilter::default())
        .map_err(CommandError::failed)?;
    let images = engine
        .images(&ImageFilter::default())
        .map_err(CommandError::failed)?;
    let shared = docker_json::shared_sizes(engine, &images);
    let mut text =
        "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\tSHARED SIZE\tUNIQUE SIZE\tCONTAINERS\n"
            .to_owned();
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
            text += &format!(
                "{repository}\t{tag}\t{}\t{}\t{}\t{}\t{}\t{made}\n",
                image.id.short(),
                age(image.created_at()),
                human_size(image.size),
                human_size(shared),
                human_size(image.size.saturating_sub(shared)),
            );
        }
    }
    outln!("Images space usage:\n");
    out!("{}", table::align(&text));

    let mut text =
        "CONTAINER ID\tIMAGE\tCOMMAND\tLOCAL VOLUMES\tSIZE\tCREATED\tSTATUS\tNAMES\n".to_owned();
    for container in &containers {
        let fields = super::super::ps::fields(container, false);
        let field = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
        text += &format!(
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\n",
            field("ID"),
            field("Image"),
            field("Command"),
            field("LocalVolumes"),
            human_size(engine.container_size(container)),
            field("RunningFor"),
            docker_json::status_words(container),
            container.name,
        );
    }
    outln!("\nContainers space usage:\n");
    out!("{}", table::align(&text));

    let volumes = engine
        .volumes(&VolumeFilter::default())
        .map_err(CommandError::failed)?;
    let mut text = "VOLUME NAME\tLINKS\tSIZE\n".to_owned();
    for volume in &volumes {
        let size = human_size(engine.volume_size(volume));
        text += &format!("{}\t{}\t{size}\n", volume.name, volume.containers.len());
    }
    outln!("\nLocal Volumes space usage:\n");
    out!("{}", table::align(&text));

    let usage = engine.build_cache_usage().map_err(CommandError::failed)?;
    let cache = engine.build_cache().map_err(CommandError::failed)?;
    let mut text = "CACHE ID\tCACHE TYPE\tSIZE\tCREATED\tLAST USED\tUSAGE\tSHARED\n".to_owned();
    for entry in &cache {
        let kind = if entry.is_mount {
            "exec.cachemount"
        } else {
            "regular"
        };
        text += &format!(
            "{}\t{kind}\t{}\t{}\t{}\t{}\t{}\n",
            &entry.id.get(..12).unwrap_or(&entry.id),
            human_size(entry.size),
            age(Some(entry.created)),
            age(Some(entry.last_used)),
            entry.uses,
            entry.is_shared,
        );
    }
    outln!("\nBuild cache usage: {}\n", human_size(usage.size));
    out!("{}", table::align(&text));
    Ok(ExitCode::SUCCESS)
}
