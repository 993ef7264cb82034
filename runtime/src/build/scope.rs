//! The arguments before the first `FROM`, and those that have a value without being declared.

use std::collections::BTreeMap;

use super::dockerfile::Dockerfile;
use super::dockerfile::PROXY_ARGS;
use super::dockerfile::expand;
use super::error::BuildError;
use super::error::StepError;
use super::options::BuildOptions;
use crate::image::Platform;

/// The argument, and variable of the environment, that no time in the image is after.
pub(super) const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What is in scope for `FROM` lines, and for `ARG`s without a default of their own.
#[derive(Debug, Clone)]
pub(super) struct GlobalScope {
    values: BTreeMap<String, String>,
    /// The names that were declared.
    declared: Vec<String>,
}

impl GlobalScope {
    pub(super) fn new(
        dockerfile: &Dockerfile,
        options: &BuildOptions,
    ) -> Result<GlobalScope, BuildError> {
        let mut scope = GlobalScope {
            values: platform_args(options),
            declared: Vec::new(),
        };
        for name in super::dockerfile::PLATFORM_ARGS {
            if let Some(value) = options.args.get(name) {
                scope.values.insert(name.to_owned(), value.clone());
            }
        }
        let escape = dockerfile.directives.escape;
        for args in &dockerfile.global_args {
            for declaration in &args.declarations {
                let lookup = |name: &str| scope.values.get(name).cloned();
                let word = |text: &str| expand::word(text, escape, &lookup);
                let default = declaration.default.as_deref().map(word).transpose();
                let named = word(&declaration.name);
                let (name, default) = match (named, default) {
                    (Ok(name), Ok(default)) => (name, default),
                    (Err(error), _) | (_, Err(error)) => {
                        return Err(BuildError::Step {
                            file: dockerfile.name.clone(),
                            line: args.source.first_line,
                            instruction: args.source.text.clone(),
                            cause: Box::new(StepError::Word(error.to_string())),
                        });
                    }
                };
                if let Some(value) = options.args.get(&name).cloned().or(default) {
                    scope.values.insert(name.clone(), value);
                }
                scope.declared.push(name);
            }
        }
        Ok(scope)
    }

    pub(super) fn value(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }

    /// Returns the names that were declared before the first `FROM`.
    pub(super) fn declared(&self) -> &[String] {
        &self.declared
    }

    pub(super) fn source_date_epoch(&self, options: &BuildOptions) -> Option<i64> {
        let given = options.args.get(SOURCE_DATE_EPOCH).cloned();
        let from_env = || std::env::var(SOURCE_DATE_EPOCH).ok();
        given.or_else(from_env)?.trim().parse().ok()
    }
}

/// Returns the proxies that were given: they need no `ARG`, and are in no key and no history.
pub(super) fn proxies(options: &BuildOptions) -> impl Iterator<Item = (&str, &str)> {
    PROXY_ARGS.into_iter().filter_map(|name| {
        let (name, value) = options.args.get_key_value(name)?;
        Some((name.as_str(), value.as_str()))
    })
}

fn platform_args(options: &BuildOptions) -> BTreeMap<String, String> {
    let host = Platform::host();
    let target = options.platform.as_ref().unwrap_or(&host);
    let mut values = BTreeMap::new();
    for (prefix, platform) in [("BUILD", &host), ("TARGET", target)] {
        for (name, value) in [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", platform.variant.clone().unwrap_or_default()),
        ] {
            values.insert(format!("{prefix}{name}"), value);
        }
    }
    values
}
