//! Relative paths of a file, made absolute.

use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;

/// Makes every path of a file begin at `directory`. References to git repositories, images and services stay.
pub(crate) fn make_absolute(tree: &mut Value, directory: &Path) {
    let at = |value: Option<&mut Value>| {
        if let Some(Value::String(text)) = value {
            *text = absolute(text, directory);
        }
    };
    for service in entries(tree.get_mut("services")) {
        if let Some(Value::Array(files)) = service.get_mut("env_file") {
            files.iter_mut().for_each(|file| at(file.get_mut("path")));
        }
        if let Some(Value::Array(files)) = service.get_mut("label_file") {
            files.iter_mut().for_each(|file| at(Some(file)));
        }
        if let Some(Value::Array(mounts)) = service.get_mut("volumes") {
            let binds = mounts.iter_mut().filter(|mount| mount["type"] == "bind");
            binds.for_each(|mount| at(mount.get_mut("source")));
        }
        if let Some(build) = service.get_mut("build") {
            context(build.get_mut("context"), directory);
            for other in entries(build.get_mut("additional_contexts")) {
                context(Some(other), directory);
            }
            entries(build.get_mut("ssh")).for_each(|agent| at(Some(agent)));
        }
    }
    for kind in ["secrets", "configs"] {
        for source in entries(tree.get_mut(kind)) {
            at(source.get_mut("file"));
        }
    }
    for volume in entries(tree.get_mut("volumes")) {
        if let Some(options) = volume.get_mut("driver_opts")
            && options["o"]
                .as_str()
                .is_some_and(|o| o.split(',').any(|o| o == "bind"))
        {
            at(options.get_mut("device"));
        }
    }
}

fn entries(map: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    let map = map.and_then(Value::as_object_mut);
    map.into_iter().flat_map(|map| map.values_mut())
}

fn context(value: Option<&mut Value>, directory: &Path) {
    if let Some(Value::String(text)) = value
        && !is_remote(text)
    {
        *text = absolute(text, directory);
    }
}

/// Whether a build's context is no directory of this machine.
pub(crate) fn is_remote(context: &str) -> bool {
    let prefixes = ["git@", "github.com/", "service:", "target:"];
    context.contains("://") || prefixes.iter().any(|prefix| context.starts_with(prefix))
}

/// Returns a path from `directory` on, without `.` and `..`; what has variables in it stays as it is.
pub(crate) fn absolute(text: &str, directory: &Path) -> String {
    if text.is_empty() || text.starts_with('$') {
        return text.to_owned();
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let path = match (text.strip_prefix('~'), home) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
            home.join(rest.trim_start_matches('/'))
        }
        _ => directory.join(text),
    };
    clean(&path).display().to_string()
}

/// Returns a path without `.` and `..`, by its words alone.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if clean.parent().is_some() => {
                clean.pop();
            }
            Component::ParentDir => {}
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_at_the_projects_directory() {
        for (text, wanted) in [
            ("./a", "/p/a"),
            ("../b/./c", "/b/c"),
            ("/x/../y", "/y"),
            (".", "/p"),
            ("$HOME/x", "$HOME/x"),
        ] {
            assert_eq!(absolute(text, Path::new("/p")), wanted);
        }
        assert!(is_remote("https://example.org/x.git"));
        assert!(!is_remote("./git"));
    }
}
