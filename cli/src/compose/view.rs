//! What containers say, side by side, each line behind the name of who said it.

use std::collections::BTreeMap;
use std::io;
use std::io::IsTerminal as _;
use std::sync::Mutex;

use jiff::Timestamp;
use runtime::Engine;
use runtime::container::LogOptions;

use super::members::Member;
use crate::command_error::CommandError;
use crate::output;

const COLOURS: [&str; 10] = ["36", "33", "32", "35", "34", "96", "93", "92", "95", "94"];

/// How lines are shown.
#[derive(Debug)]
pub(crate) struct View {
    /// Whether names stand before lines.
    pub(crate) prefix: bool,
    /// Whether names have colours.
    pub(crate) colour: bool,
    /// Whether times do.
    pub(crate) timestamps: bool,
    names: Mutex<Vec<String>>,
}

impl View {
    /// Returns a view; colours only for a terminal.
    pub(crate) fn new(prefix: bool, colour: bool, timestamps: bool) -> View {
        View {
            prefix,
            colour: colour && io::stdout().is_terminal(),
            timestamps,
            names: Mutex::default(),
        }
    }

    /// Makes room for a name.
    pub(crate) fn add(&self, name: &str) {
        let mut names = self.lock();
        if !names.iter().any(|other| other == name) {
            names.push(name.to_owned());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.names
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Shows a line of somebody's.
    fn show(&self, name: &str, time: Timestamp, is_error: bool, line: &str) {
        let names = self.lock();
        let mut text = String::new();
        if self.prefix {
            let width = names.iter().map(|it| it.chars().count()).max().unwrap_or(0) + 1;
            let number = names.iter().position(|it| it == name).unwrap_or(0);
            let prefix = format!("{name:width$} | ");
            text.push_str(&match self.colour {
                true => format!("\x1b[{}m{prefix}\x1b[0m", COLOURS[number % COLOURS.len()]),
                false => prefix,
            });
        }
        if self.timestamps {
            text.push_str(&format!("{time:.9} "));
        }
        text.push_str(line.trim_end_matches('\n'));
        text.push('\n');
        // Held while the line is written, so that lines do not mix.
        output::pass(is_error && !self.prefix, text.as_bytes());
        drop(names);
    }

    /// Tells of a container's end, or of another turn of its life.
    pub(crate) fn tell(&self, name: &str, words: &str) {
        let names = self.lock();
        output::pass(false, format!("{name} {words}\n").as_bytes());
        drop(names);
    }

    /// Shows a container's log, to its end; returns when the last of it was said.
    pub(crate) fn show_log(
        &self,
        engine: &Engine,
        member: &Member,
        options: &LogOptions,
    ) -> Result<Option<Timestamp>, CommandError> {
        let name = member.short_name();
        let mut last = None;
        let mut logs = engine
            .logs(member.id(), options)
            .map_err(CommandError::failed)?;
        // A long line comes in pieces, and the two streams take turns.
        let mut pieces: BTreeMap<bool, String> = BTreeMap::new();
        while let Some(entry) = logs.next_entry().map_err(CommandError::failed)? {
            last = Some(entry.time);
            let piece = pieces.entry(entry.is_error).or_default();
            piece.push_str(&entry.text);
            if piece.ends_with('\n') || piece.len() > 1 << 20 {
                self.show(&name, entry.time, entry.is_error, piece);
                piece.clear();
            }
        }
        for (is_error, piece) in pieces.into_iter().filter(|(_, piece)| !piece.is_empty()) {
            self.show(&name, Timestamp::now(), is_error, &piece);
        }
        Ok(last)
    }
}
