//! `top` and `stats`: what a container's processes are and use.

use std::collections::HashSet;
use std::process::Command;

use super::Container;
use super::ContainerError;
use super::Status;
use crate::Engine;
use crate::cgroup;
use crate::cgroup::Usage;

/// What `ps` says of a container's processes.
#[derive(Debug, Clone)]
pub struct Top {
    /// The columns' headings.
    pub titles: Vec<String>,
    /// A row for each process; the last column may hold spaces.
    pub rows: Vec<Vec<String>>,
}

impl Engine {
    /// Lists a running container's processes as the host's `ps` shows them with these options (`-ef` if there are
    /// none).
    pub fn top_container(&self, name: &str, options: &[String]) -> Result<Top, ContainerError> {
        let container = self.container(name)?;
        match container.state.status {
            Status::Running | Status::Paused => {}
            Status::Restarting => return Err(ContainerError::Restarting(container.id)),
            _ => return Err(ContainerError::NotRunning(container.id)),
        }
        let pids: HashSet<i32> = cgroup::processes_of(container.id.as_str())
            .into_iter()
            .collect();
        let options: Vec<&str> = match options.is_empty() {
            true => vec!["-ef"],
            false => options.iter().map(String::as_str).collect(),
        };
        let invalid = |words: String| Err(ContainerError::Invalid(words));
        let output = match Command::new("ps").args(&options).output() {
            Ok(output) => output,
            Err(error) => return invalid(format!("ps: {error}")),
        };
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            let first = words.lines().next().unwrap_or_default();
            return invalid(format!("ps: {first}"));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let mut lines = text.lines();
        let titles: Vec<String> = lines
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let Some(at) = titles.iter().position(|title| title == "PID") else {
            return invalid("Couldn't find PID field in ps output".to_owned());
        };
        let rows = lines
            .map(|line| columns(line, titles.len()))
            .filter(|row| {
                let pid = row.get(at).and_then(|pid| pid.parse().ok());
                pid.is_some_and(|pid| pids.contains(&pid))
            })
            .collect();
        self.emit_of(&container, "top", &[]);
        Ok(Top { titles, rows })
    }

    /// Returns what a container uses; `None` if it does not run.
    pub fn usage(&self, container: &Container) -> Option<Usage> {
        let pid = container.state.pid?;
        Some(Usage::of(container.id.as_str(), pid))
    }
}

/// Splits a line into so many columns; the last one takes what is left.
fn columns(line: &str, count: usize) -> Vec<String> {
    let mut columns = Vec::with_capacity(count);
    let mut rest = line.trim();
    while columns.len() + 1 < count {
        let (column, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        columns.push(column.to_owned());
        rest = after.trim_start();
    }
    columns.push(rest.to_owned());
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_keeps_its_spaces() {
        let line = "root   12  1  0 10:00 ?  00:00:00 sh -c  sleep 5";
        let columns = columns(line, 8);
        assert_eq!(columns.len(), 8);
        assert_eq!(columns[1], "12");
        assert_eq!(columns[7], "sh -c  sleep 5");
    }
}
