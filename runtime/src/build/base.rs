//! `FROM`: what a stage begins with.

use super::builder::Builder;
use super::dockerfile::expand;
use super::error::StepError;
use super::event::BuildEvent;
use super::event::StepId;
use super::options::NamedContext;
use super::state::State;
use crate::image::Image;
use crate::image::ImageError;
use crate::image::Platform;
use crate::image::PullOptions;
use crate::progress::Progress;
use crate::progress::ProgressEvent;
use crate::reference::Reference;

/// Tells a pull's events as a step's.
struct Pulling<'a> {
    builder: &'a Builder<'a>,
    step: &'a StepId,
}

impl Progress for Pulling<'_> {
    fn event(&self, event: ProgressEvent) {
        self.builder.progress.event(BuildEvent::Pulling {
            step: self.step.clone(),
            event,
        });
    }
}

impl Builder<'_> {
    /// Returns what the stage begins with.
    pub(super) fn base(&self, index: usize, step: &StepId) -> Result<State, StepError> {
        let stage = &self.dockerfile.stages[index];
        let name = super::stages::base_name(self.dockerfile, &self.scope, stage)?;
        let platform = match &stage.platform {
            Some(platform) => {
                let lookup = |name: &str| self.scope.value(name);
                let escape = self.dockerfile.directives.escape;
                let text = expand::word(platform, escape, &lookup)
                    .map_err(|error| StepError::Word(error.to_string()))?;
                Some(text.parse::<Platform>()?)
            }
            None => self.options.platform.clone(),
        };
        if let Some(earlier) = super::stages::earlier(self.dockerfile, self.options, &name, index) {
            return Ok(State::of_stage(&*self.result(earlier)?));
        }
        if name == "scratch" {
            let platform = platform.unwrap_or_else(Platform::host);
            return Ok(State::scratch(&platform));
        }
        if let Some(NamedContext::Image(image)) = self.options.contexts.get(&name) {
            return Ok(State::of_image(&self.image(
                image,
                platform.as_ref(),
                step,
            )?));
        }
        if self.options.contexts.contains_key(&name) {
            let source = self.source(&name, index, step)?;
            let mut state = State::scratch(&platform.unwrap_or_else(Platform::host));
            let layers = self.layers_of(&source)?;
            let (now, comment) = (self.now(), format!("FROM {name}"));
            for layer in layers {
                state.commit(&now, &comment, Some(layer));
            }
            return Ok(state);
        }
        Ok(State::of_image(&self.image(
            &name,
            platform.as_ref(),
            step,
        )?))
    }

    /// Finds an image, pulling it if it is not here or a fresh one is wanted.
    pub(super) fn image(
        &self,
        name: &str,
        platform: Option<&Platform>,
        step: &StepId,
    ) -> Result<Image, StepError> {
        let here = match self.engine.image(name) {
            Err(ImageError::NoSuchImage(_)) => None,
            // A name that cannot be one is told as such below.
            Err(ImageError::Reference(_)) => None,
            image => Some(image?),
        };
        let fits = |image: &Image| platform.is_none_or(|platform| image.is_for(platform));
        let is_id = name.starts_with("sha256:")
            || here
                .as_ref()
                .is_some_and(|image| image.tags.is_empty() && image.id.0.hex().starts_with(name));
        let has_reference = name.parse::<Reference>().is_ok() && !is_id;
        match here {
            Some(image) if fits(&image) && !(self.options.pull && has_reference) => {
                return Ok(image);
            }
            Some(image) if is_id => {
                return match platform {
                    Some(platform) if !image.is_for(platform) => Err(StepError::Platform {
                        image: name.to_owned(),
                        platform: platform.clone(),
                    }),
                    _ => Ok(image),
                };
            }
            _ => {}
        }
        let reference: Reference = name.parse()?;
        let options = PullOptions {
            platform: platform.cloned(),
            registry: self.options.registry.clone(),
        };
        let pulling = Pulling {
            builder: self,
            step,
        };
        let pulled = self.engine.pull(&reference, &options, &pulling)?;
        Ok(self.engine.image_by_id(&pulled.image)?)
    }
}
