//! `--format`: Go's text templates over JSON values, with Docker's functions.
//!
//! A template is cut into tokens ([`token`]), parsed ([`parse`]) and worked out on a value ([`evaluate`]). What a
//! value is in Go's eyes, a map or a struct, decides what a missing name means; [`data`] tells them apart.

mod data;
mod evaluate;
mod functions;
mod listing;
mod number;
mod parse;
mod printf;
mod quote;
mod token;

#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize as _;
use serde_json::Value;

use self::data::Data;
use self::data::Objects;
use self::evaluate::Rules;
pub(crate) use self::listing::Listing;
pub(crate) use self::quote::quoted;

/// What is wrong with a template, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateError(String);

impl TemplateError {
    fn parse(source: &str, at: usize, message: impl Into<String>) -> TemplateError {
        let line = 1 + source[..at.min(source.len())].matches('\n').count();
        TemplateError(format!("template: :{line}: {}", message.into()))
    }

    fn execute(source: &str, at: usize, context: &str, message: &str) -> TemplateError {
        let before = &source[..at.min(source.len())];
        let line = 1 + before.matches('\n').count();
        let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1);
        TemplateError(format!(
            "template: :{line}:{column}: executing \"\" at <{context}>: {message}"
        ))
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "template parsing error: {}", self.0)
    }
}

impl std::error::Error for TemplateError {}

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    source: String,
    nodes: Vec<parse::Node>,
}

impl Template {
    /// Parses a template.
    pub(crate) fn parse(source: &str) -> Result<Template, TemplateError> {
        Ok(Template {
            source: source.to_owned(),
            nodes: parse::parse(source)?,
        })
    }

    fn evaluate(&self, data: &Data, rules: Rules<'_>) -> Result<String, TemplateError> {
        evaluate::evaluate(&self.source, &self.nodes, data, rules)
    }

    /// Writes the text for an object as `inspect` shows it: first by Docker's types, where a label that is not there is
    /// nothing, then as bare JSON, where any name may be asked for and one that is not there is an error.
    pub(crate) fn render(&self, value: &Value) -> Result<String, TemplateError> {
        let typed = Rules {
            type_name: "object",
            missing_fails: false,
            has_optional: true,
            keeps_headings: false,
        };
        let bare = Rules {
            missing_fails: true,
            has_optional: false,
            ..typed
        };
        self.evaluate(&Data::of(value, Objects::Typed), typed)
            .or_else(|_| self.evaluate(&Data::of(value, Objects::Maps), bare))
    }
}

/// What `inspect` finds, as it is shown: indented JSON, `json` on one line, or a template's text for each.
#[derive(Debug)]
pub(crate) enum Inspected {
    Indented(Vec<Value>),
    Line(Vec<Value>),
    Texts(Template, String),
}

impl Inspected {
    /// Returns nothing yet, to be shown in this format.
    pub(crate) fn new(format: Option<&str>) -> Result<Inspected, TemplateError> {
        Ok(match format {
            None | Some("") => Inspected::Indented(Vec::new()),
            Some("json") => Inspected::Line(Vec::new()),
            Some(source) => Inspected::Texts(Template::parse(source)?, String::new()),
        })
    }

    /// Adds what was found; one that the template cannot show is left out.
    pub(crate) fn add(&mut self, value: Value) -> Result<(), TemplateError> {
        match self {
            Inspected::Indented(found) | Inspected::Line(found) => found.push(value),
            Inspected::Texts(template, text) => {
                text.push_str(&template.render(&value)?);
                text.push('\n');
            }
        }
        Ok(())
    }

    /// Returns all of it.
    pub(crate) fn text(self) -> String {
        match self {
            Inspected::Indented(found) => format!("{}\n", indented(&found)),
            Inspected::Line(found) => format!("{}\n", Value::from(found)),
            // Docker writes an empty line where there is nothing to show.
            Inspected::Texts(_, text) if text.is_empty() => "\n".to_owned(),
            Inspected::Texts(_, text) => text,
        }
    }
}

/// Writes JSON with Docker's indent of four.
pub(crate) fn indented(values: &[Value]) -> String {
    let mut out = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, indent);
    // Values always serialize, and a Vec takes all.
    let _ = values.serialize(&mut serializer);
    String::from_utf8_lossy(&out).into_owned()
}
