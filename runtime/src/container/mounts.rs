//! What a container has mounted: `--mount`, `--volume` and `--tmpfs`, read as Docker reads them.

use std::path::Path;
use std::path::PathBuf;

use super::ContainerError;
use super::CreateOptions;
use super::names;
use crate::sandbox::Mount;
use crate::sandbox::MountSource;

/// Reads `--mount`'s argument: `type=bind,source=/a,target=/b,readonly`.
pub fn parse_mount(text: &str) -> Result<Mount, String> {
    let (mut kind, mut source, mut target) = ("volume", None, None);
    let mut read_only = false;
    let mut tmpfs = Vec::new();
    for field in text.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        let bool_value = || match value {
            "" | "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(format!("invalid value for {key}: {value}")),
        };
        match key.to_ascii_lowercase().as_str() {
            "type" => kind = value,
            "source" | "src" => source = Some(value),
            "target" | "dst" | "destination" => target = Some(value),
            "readonly" | "ro" => read_only = bool_value()?,
            "bind-propagation" if matches!(value, "private" | "rprivate") => {}
            "bind-propagation" => return Err(format!("invalid propagation mode: {value}")),
            "consistency" => {}
            "tmpfs-size" => {
                let digits = value.trim_end_matches(|it: char| it.is_ascii_alphabetic());
                let unit = &value[digits.len()..];
                let units = [
                    "", "b", "k", "kb", "kib", "m", "mb", "mib", "g", "gb", "gib",
                ];
                let is_size = digits.parse::<u64>().is_ok()
                    && units.contains(&unit.to_ascii_lowercase().as_str());
                if !is_size {
                    return Err(format!("invalid value for {key}: {value}"));
                }
                let unit = unit.get(..1).unwrap_or("").to_ascii_lowercase();
                tmpfs.push(format!("size={digits}{}", unit.trim_start_matches('b')));
            }
            "tmpfs-mode" => {
                if u32::from_str_radix(value, 8).is_err() {
                    return Err(format!("invalid value for {key}: {value}"));
                }
                tmpfs.push(format!("mode={value}"));
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    let target = target.filter(|target| !target.is_empty());
    let target = target.ok_or_else(|| "target is required".to_owned())?;
    let source = match (kind, source) {
        ("bind", Some(source)) if source.starts_with('/') => {
            MountSource::Bind(PathBuf::from(source))
        }
        ("bind", Some(source)) if !source.is_empty() => {
            return Err(format!(
                "invalid mount path: '{source}' mount path must be absolute"
            ));
        }
        ("bind", _) => {
            return Err(
                "invalid mount config for type \"bind\": field Source must not be empty".into(),
            );
        }
        ("tmpfs", None) => MountSource::Tmpfs(tmpfs.join(",")),
        ("tmpfs", Some(_)) => {
            return Err(
                "invalid mount config for type \"tmpfs\": field Source must not be specified"
                    .into(),
            );
        }
        ("volume", _) => {
            return Err(
                "named volumes are not supported yet; use type=bind with an absolute path".into(),
            );
        }
        (kind, _) => return Err(format!("invalid mount type: {kind}")),
    };
    Ok(Mount {
        source,
        target: clean_target(target, text).map_err(|error| error.to_string())?,
        read_only,
    })
}

pub(super) fn mounts(options: &CreateOptions) -> Result<Vec<Mount>, ContainerError> {
    let mut mounts = options.mounts.clone();
    for mount in &mounts {
        if let MountSource::Bind(source) = &mount.source
            && !source.exists()
        {
            return Err(ContainerError::Invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                source.display()
            )));
        }
    }
    for volume in &options.volumes {
        mounts.push(parse_volume(volume)?);
    }
    for tmpfs in &options.tmpfs {
        let (target, parameters) = tmpfs.split_once(':').unwrap_or((tmpfs, ""));
        mounts.push(Mount {
            source: MountSource::Tmpfs(parameters.to_owned()),
            target: clean_target(target, tmpfs)?,
            read_only: false,
        });
    }
    match crate::sandbox::duplicate(&mounts) {
        Some(target) => Err(ContainerError::Invalid(format!(
            "Duplicate mount point: {}",
            target.display()
        ))),
        None => Ok(mounts),
    }
}

/// Reads `source:target[:mode]`. A source that is not there is made when the container starts.
fn parse_volume(volume: &str) -> Result<Mount, ContainerError> {
    let invalid = || ContainerError::Invalid(format!("invalid volume specification: '{volume}'"));
    let fields: Vec<&str> = volume.split(':').collect();
    let (source, target, mode) = match fields.as_slice() {
        [source, target] => (*source, *target, ""),
        [source, target, mode] => (*source, *target, *mode),
        _ => return Err(invalid()),
    };
    if source.is_empty() || target.is_empty() {
        return Err(invalid());
    }
    let mut read_only = false;
    for option in mode.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" | "z" | "Z" | "rprivate" | "private" => {}
            _ => {
                return Err(ContainerError::Invalid(format!("invalid mode: {mode}")));
            }
        }
    }
    if !source.starts_with('/') {
        let is_name = source.len() >= 2 && names::is_valid(source);
        return Err(ContainerError::Invalid(match is_name {
            true => format!(
                "create {source}: named volumes are not supported yet; use an absolute path"
            ),
            false => format!(
                "create {source}: {source:?} includes invalid characters for a local volume name, only \
                 \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute \
                 path"
            ),
        }));
    }
    Ok(Mount {
        source: MountSource::Bind(PathBuf::from(source)),
        target: clean_target(target, volume)?,
        read_only,
    })
}

/// Returns the target without `.`, `..` and double slashes.
fn clean_target(target: &str, whole: &str) -> Result<PathBuf, ContainerError> {
    let invalid = |why: &str| {
        Err(ContainerError::Invalid(format!(
            "invalid volume specification: '{whole}': {why}"
        )))
    };
    if !target.starts_with('/') {
        return invalid("invalid mount config for type \"bind\": mount path must be absolute");
    }
    let mut clean = PathBuf::from("/");
    for component in Path::new(target).components() {
        match component {
            std::path::Component::Normal(name) => clean.push(name),
            std::path::Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    match clean.parent() {
        Some(_) => Ok(clean),
        None => invalid("destination can't be '/'"),
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    fn volume(text: &str) -> Result<(PathBuf, bool), String> {
        parse_volume(text)
            .map(|mount| (mount.target, mount.read_only))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn volumes_are_read_as_docker_reads_them() {
        assert_eq!(volume("/a:/b"), Ok(("/b".into(), false)));
        assert_eq!(volume("/a:/b/../c/:ro"), Ok(("/c".into(), true)));
        let error = |text| volume(text).expect_err("not a volume");
        assert_eq!(
            error("a:/b:ro:z:q"),
            "invalid volume specification: 'a:/b:ro:z:q'"
        );
        assert!(error("bad/name:/b").starts_with("create bad/name: \"bad/name\" includes invalid"));
        assert!(error("/a:b").contains("must be absolute"));
        assert!(error("/a:/").contains("can't be '/'"));
        assert!(error("/a:/b:rx").contains("invalid mode: rx"));
    }

    #[test]
    fn two_mounts_on_one_place_are_refused() {
        let options = CreateOptions {
            volumes: vec!["/tmp:/b".into(), "/etc:/b/".into()],
            ..CreateOptions::default()
        };
        let error = mounts(&options).expect_err("a duplicate");
        assert_eq!(error.to_string(), "Duplicate mount point: /b");
    }

    #[test]
    fn mounts_are_read_key_by_key() {
        let mount = parse_mount("type=bind,src=/a,dst=/b/../c,ro").expect("a mount");
        assert_eq!(mount.source, MountSource::Bind("/a".into()));
        assert_eq!((mount.target, mount.read_only), ("/c".into(), true));
        let mount = parse_mount("type=tmpfs,target=/t,tmpfs-size=64MB,tmpfs-mode=1770");
        let mount = mount.expect("a mount");
        assert_eq!(
            mount.source,
            MountSource::Tmpfs("size=64m,mode=1770".into())
        );
        for (text, words) in [
            ("type=bind,foo=bar", "unexpected key 'foo' in 'foo=bar'"),
            ("type=bind,src=/a", "target is required"),
            ("type=bind,dst=/b", "field Source must not be empty"),
            ("type=bind,src=a,dst=/b", "mount path must be absolute"),
            (
                "type=tmpfs,src=/a,dst=/b",
                "field Source must not be specified",
            ),
            ("type=nosuch,dst=/b", "invalid mount type: nosuch"),
            (
                "type=tmpfs,dst=/b,tmpfs-size=x",
                "invalid value for tmpfs-size: x",
            ),
            ("type=bind,src=/a,dst=b", "must be absolute"),
        ] {
            let error = parse_mount(text).expect_err("not a mount");
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
