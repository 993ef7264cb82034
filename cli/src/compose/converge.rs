//! Making the containers of services what the files say: created, made anew, or gone.

use std::collections::BTreeMap;

use runtime::container::CreateOptions;

use super::composition::Composition;
use super::composition::Recreate;
use super::composition::Wish;
use super::composition::shown;
use super::container;
use super::hooks;
use super::hooks::Moment;
use super::labels;
use super::members::Member;
use super::model::Service;
use super::order;
use crate::command_error::CommandError;

/// How a service's containers are made, and what they are compared with.
struct Recipe<'a> {
    name: &'a str,
    options: CreateOptions,
    labels: BTreeMap<String, String>,
}

/// A container that `run` makes.
#[derive(Debug, Clone, Default)]
pub(crate) struct OneOff {
    pub(crate) name: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) auto_remove: bool,
    pub(crate) stdin_once: bool,
    /// Whether it answers to the service's name too.
    pub(crate) with_aliases: bool,
}

impl Composition<'_> {
    /// Makes the containers of the services what they are to be, without starting any.
    pub(crate) fn converge(&self, services: &[String], wish: &Wish) -> Result<(), CommandError> {
        self.repair()?;
        self.sort_out_orphans(wish)?;
        let members = self.members()?;
        order::in_order(&self.needs(services), |name| {
            let own = members
                .iter()
                .filter(|it| it.service == name && !it.is_one_off);
            self.converge_service(name, own.cloned().collect(), wish)
        })
    }

    fn converge_service(
        &self,
        name: &str,
        mut own: Vec<Member>,
        wish: &Wish,
    ) -> Result<(), CommandError> {
        let Some(service) = self.project.services.get(name) else {
            return Ok(());
        };
        if self.report.is_dry_run() && own.is_empty() {
            return self.pretend(name, wish.scale.get(name).copied(), service);
        }
        let recipe = self.recipe(name, service)?;
        let wanted = wish
            .scale
            .get(name)
            .copied()
            .unwrap_or_else(|| service.replicas());
        let wanted = usize::try_from(wanted).unwrap_or(0);
        let recreate = match wish.named.iter().any(|named| named == name) {
            true => wish.recreate,
            false => wish.recreate_dependencies,
        };
        let is_stale = |member: &Member| match recreate {
            Recreate::Never => false,
            Recreate::Force => true,
            Recreate::Diverged => recipe.has_diverged(member),
        };
        // Those that would be made anew go first, then the highest numbers.
        own.sort_by_key(|member| (!is_stale(member), std::cmp::Reverse(member.number)));
        let surplus = own.len().saturating_sub(wanted);
        let gone: Vec<Member> = own.drain(..surplus).collect();
        order::side_by_side(&gone, |member| {
            self.stop(member, wish.timeout)?;
            self.remove(member, false)
        })?;
        let highest = own.iter().map(|member| member.number).max().unwrap_or(0);
        let missing = u32::try_from(wanted - own.len()).unwrap_or(0);
        let numbers: Vec<u32> = (highest + 1..=highest + missing).collect();
        let (stale, kept): (Vec<&Member>, Vec<&Member>) =
            own.iter().partition(|member| is_stale(member));
        for member in kept {
            if member.container.state.status.is_alive() {
                self.report.done(&shown(member.name()), "Running");
            }
        }
        order::side_by_side(&stale, |member| self.replace(&recipe, member, wish))?;
        order::side_by_side(&numbers, |number| self.create(&recipe, *number))
    }

    /// Tells of what making the containers of a service would do: its image, and what it refers to, may not be there.
    fn pretend(
        &self,
        name: &str,
        wanted: Option<i64>,
        service: &Service,
    ) -> Result<(), CommandError> {
        let wanted = wanted.unwrap_or_else(|| service.replicas());
        for number in 1..=u32::try_from(wanted).unwrap_or(0) {
            self.pretend_one(name, number, "Creating", "Created");
        }
        Ok(())
    }

    fn pretend_one(&self, service: &str, number: u32, begun: &str, done: &str) {
        let name = container::name_of(self.project, service, number);
        let id = shown(&name);
        self.report.begin(&id, begun);
        self.report.done(&id, done);
        self.report.pretend(service, &name);
    }

    /// Returns how the containers of a service are made.
    fn recipe<'b>(&self, name: &'b str, service: &'b Service) -> Result<Recipe<'b>, CommandError> {
        let image = container::image_of(self.project, name, service);
        let found = self.engine.image(&image).map_err(CommandError::failed)?;
        let mut options = container::options(service, &image)?;
        self.join(&mut options, name, service)?;
        let labels = container::labels_of(self.project, name, service, &found.id.to_string());
        Ok(Recipe {
            name,
            options,
            labels,
        })
    }

    /// Makes a container beside those that serve.
    pub(crate) fn create_one_off(&self, name: &str, one: &OneOff) -> Result<Member, CommandError> {
        let Some(service) = self.project.services.get(name) else {
            return Err(CommandError::failed(format_args!(
                "no such service: {name}"
            )));
        };
        let recipe = self.recipe(name, service)?;
        let slug: [u8; 6] = rand::random();
        let slug: String = slug.iter().map(|byte| format!("{byte:02x}")).collect();
        let own = one.name.clone();
        let container = own.unwrap_or_else(|| format!("{}-{name}-run-{slug}", self.project.name));
        let mut options = recipe.options_of(container, 1);
        options
            .labels
            .insert(labels::ONE_OFF.to_owned(), "True".to_owned());
        options.labels.insert(labels::SLUG.to_owned(), slug);
        options.labels.remove(labels::NUMBER);
        options.labels.extend(one.labels.clone());
        options.auto_remove = one.auto_remove;
        options.stdin_once = one.stdin_once;
        options.attach = [one.stdin_once, true, true];
        if !one.with_aliases {
            options
                .networks
                .iter_mut()
                .for_each(|network| network.aliases.clear());
        }
        let id = self
            .engine
            .create_container(&options)
            .map_err(CommandError::failed)?;
        let made = self
            .engine
            .container(id.as_str())
            .map_err(CommandError::failed)?;
        Member::of(made).ok_or_else(|| CommandError::failed("the container has no labels"))
    }

    fn create(&self, recipe: &Recipe<'_>, number: u32) -> Result<(), CommandError> {
        if self.report.is_dry_run() {
            self.pretend_one(recipe.name, number, "Creating", "Created");
            return Ok(());
        }
        let name = container::name_of(self.project, recipe.name, number);
        let id = shown(&name);
        self.report.begin(&id, "Creating");
        let options = recipe.options_of(name, number);
        match self.engine.create_container(&options) {
            Ok(_) => {
                self.report.done(&id, "Created");
                Ok(())
            }
            Err(error) => Err(self.failed(&id, &error)),
        }
    }

    /// Makes a container's successor, then takes the container away, then gives the successor its name. Killed in
    /// between, [`Composition::repair`] ends it.
    fn replace(
        &self,
        recipe: &Recipe<'_>,
        member: &Member,
        wish: &Wish,
    ) -> Result<(), CommandError> {
        if self.report.is_dry_run() {
            self.pretend_one(recipe.name, member.number, "Recreate", "Recreated");
            return Ok(());
        }
        let name = container::name_of(self.project, recipe.name, member.number);
        let id = shown(&name);
        self.report.begin(&id, "Recreate");
        let temporary = format!("{}_{name}", member.container.id.short());
        let mut options = recipe.options_of(temporary, member.number);
        options
            .labels
            .insert(labels::REPLACE.to_owned(), member.id().to_owned());
        if !wish.renew_volumes {
            self.inherit_volumes(&mut options, member);
        }
        let made = self.engine.create_container(&options);
        let made = made.map_err(|error| self.failed(&id, &error))?;
        hooks::run(
            self.engine,
            self.project,
            member,
            Moment::Stopping,
            self.report,
        )
        .inspect_err(|_| self.report.failed(&id, "Error"))?;
        let replaced = self
            .engine
            .stop_container(member.id(), None, wish.timeout)
            .and_then(|()| {
                self.engine
                    .remove_container(member.id(), true, wish.renew_volumes)
            })
            .and_then(|()| self.engine.rename_container(made.as_str(), &name));
        replaced.map_err(|error| self.failed(&id, &error))?;
        self.report.done(&id, "Recreated");
        Ok(())
    }
}

impl Recipe<'_> {
    /// Returns the options of the container with a number.
    fn options_of(&self, name: String, number: u32) -> CreateOptions {
        let mut labels = self.labels.clone();
        labels.insert(labels::NUMBER.to_owned(), number.to_string());
        labels.insert(labels::ONE_OFF.to_owned(), "False".to_owned());
        CreateOptions {
            name: Some(name),
            labels,
            ..self.options.clone()
        }
    }

    /// Whether a container is of another configuration or image, or shares namespaces with one that is gone.
    fn has_diverged(&self, member: &Member) -> bool {
        let is_other =
            |label: &str| self.labels.get(label).map(String::as_str) != Some(member.label(label));
        let config = &member.container.config;
        let is_elsewhere =
            |wanted: &str, has: &str| wanted.starts_with("container:") && wanted != has;
        is_other(labels::CONFIG_HASH)
            || is_other(labels::IMAGE)
            || is_elsewhere(&self.options.pid_mode, &config.pid_mode)
            || is_elsewhere(&self.options.ipc_mode, &config.ipc_mode)
            || is_elsewhere(
                self.options.networks.first().map_or("", |it| &it.network),
                &config.network_mode,
            )
    }
}
