//! Lists: tables with headings, JSON lines, or a template's line for each row.

use serde_json::Value;

use super::Template;
use super::TemplateError;
use super::data::Data;
use super::data::Objects;
use super::evaluate;
use super::evaluate::Rules;
use crate::table;
use crate::terminal;

/// A kind of list and how it is shown when nothing else is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listing<'a> {
    /// What a row is called in errors: `image`, `container`.
    pub(crate) row: &'a str,
    /// The template of the plain table, without `table `.
    pub(crate) table: &'a str,
    /// The heading of each field.
    pub(crate) headings: &'a [(&'a str, &'a str)],
}

impl Listing<'_> {
    /// Writes the rows: `format` is nothing, `table`, `table TEMPLATE`, `json` or `TEMPLATE`. A field whose name ends
    /// in `()` is one that templates call with a name: `{{.Label "key"}}`.
    pub(crate) fn write(
        &self,
        format: Option<&str>,
        rows: &[Value],
    ) -> Result<String, TemplateError> {
        let format = format.unwrap_or("table").trim_matches(' ');
        let (source, is_table) = match format.strip_prefix("table") {
            Some("") => (self.table, true),
            Some(source) => (source.trim_matches(' '), true),
            None if format == "json" => ("{{json .}}", false),
            None => (format, false),
        };
        let source = source.replace("\\t", "\t").replace("\\n", "\n");
        let template = Template::parse(&source)?;
        let rules = Rules {
            type_name: self.row,
            missing_fails: false,
            has_optional: false,
            keeps_headings: false,
        };
        let mut lines = String::new();
        for row in rows {
            let mut data = Data::of(row, Objects::Typed);
            if is_table || terminal::stdout_is_terminal() {
                data = data.map_text(&|text| terminal::escaped(text).into_owned());
            }
            lines.push_str(&template.evaluate(&data, rules)?);
            lines.push('\n');
        }
        if !is_table {
            return Ok(lines);
        }
        let headings = evaluate::headings(self.headings);
        let rules = Rules {
            keeps_headings: true,
            ..rules
        };
        let heading = template.evaluate(&headings, rules)?;
        Ok(table::align(&format!("{heading}\n{lines}")))
    }
}
