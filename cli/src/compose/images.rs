//! The images of services: here already, pulled, or built.

use std::collections::BTreeMap;

use runtime::image::ImageError;
use runtime::image::Platform;
use runtime::image::PullOptions;
use runtime::progress::Silent;
use runtime::reference::Reference;

use super::composition::Composition;
use super::container;
use super::model::Service;
use super::order;
use crate::command_error::CommandError;
use crate::hello_world;

impl Composition<'_> {
    /// Makes sure that the images of the services are here. `policy` is over what the files say.
    pub(crate) fn ensure_images(
        &self,
        services: &[String],
        policy: Option<&str>,
    ) -> Result<(), CommandError> {
        let mut wanted: BTreeMap<String, (&str, &Service)> = BTreeMap::new();
        for name in services {
            let Some((name, service)) = self.project.services.get_key_value(name) else {
                continue;
            };
            let image = container::image_of(self.project, name, service);
            let policy = policy
                .or(service.pull_policy.as_deref())
                .unwrap_or("missing");
            let is_here = self.is_here(&image, service)?;
            let is_built = service.build.is_some();
            match policy {
                "always" | "refresh" if !is_built || service.image.is_some() => {}
                "never" | "build" if !is_built && !is_here => {
                    return Err(CommandError::failed(ImageError::NoSuchImage(image)));
                }
                _ if is_here || is_built || matches!(policy, "never" | "build") => continue,
                _ => {}
            }
            wanted.entry(image).or_insert((name, service));
        }
        let wanted: Vec<_> = wanted.into_iter().collect();
        order::side_by_side(&wanted, |(image, (name, service))| {
            self.pull(image, name, service)
        })
    }

    /// Whether an image is here for the platform that a service asks for.
    pub(crate) fn is_here(&self, image: &str, service: &Service) -> Result<bool, CommandError> {
        let platform = platform(service)?;
        match self.engine.image(image) {
            Ok(found) => Ok(platform.is_none_or(|platform| found.is_for(&platform))),
            Err(ImageError::NoSuchImage(_)) => Ok(false),
            Err(error) => Err(CommandError::failed(error)),
        }
    }

    /// Pulls a service's image.
    pub(crate) fn pull(
        &self,
        image: &str,
        name: &str,
        service: &Service,
    ) -> Result<(), CommandError> {
        let reference: Reference = image.parse().map_err(CommandError::failed)?;
        let reference = reference.or_latest();
        self.report.begin(name, "Pulling");
        if self.report.is_dry_run() {
            self.report.done(name, "Pulled");
            return Ok(());
        }
        if hello_world::is_meant(&reference) {
            hello_world::load(self.engine).map_err(|error| self.failed(name, &error))?;
        } else {
            let options = PullOptions {
                platform: platform(service)?,
                ..PullOptions::default()
            };
            let pulled = self.engine.pull(&reference, &options, &Silent);
            pulled.map_err(|error| self.failed(name, &error))?;
        }
        self.report.done(name, "Pulled");
        Ok(())
    }
}

fn platform(service: &Service) -> Result<Option<Platform>, CommandError> {
    let parsed = service.platform.as_deref().map(str::parse::<Platform>);
    parsed.transpose().map_err(CommandError::failed)
}
